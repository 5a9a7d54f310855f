//! Each kind of fault: what it needs for itself, how it begins, and how it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};

use fastrand::Rng;
use rustix::process::Signal;

use crate::canaries;
use crate::proxy::Mode;
use crate::room::{allow_watches, mount, unmount};
use crate::sersync::read_log;
use crate::stage::{Side, Stage, Which, signal};

/// How long an event queue is that is to overflow.
const SHORT_QUEUE: u32 = 200;
/// How many watches are allowed where there are to be too few.
const FEW_WATCHES: u32 = 8;
/// As many as anybody wants.
const MANY_WATCHES: u32 = 10_000_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGTERM to the rsync daemon and all its connections; started again.
    DaemonStopped,
    /// The same with SIGKILL.
    DaemonKilled,
    /// SIGSTOP, and later SIGCONT, to the rsync daemon and all its connections.
    DaemonHung,
    /// The module is not in its configuration for a while.
    ModuleGone,
    /// All connections end at once.
    ConnectionsCut,
    /// The daemon's ends of the connections are closed, ours hear nothing of it.
    ConnectionsHalfOpen,
    /// Nothing passes for a while.
    ConnectionsSilent,
    /// Little passes for a while.
    ConnectionsSlow,
    /// Nobody listens.
    PortClosed,
    /// The receiver's disk is full.
    DiskFull,
    /// The receiver's file system is read-only.
    DiskReadOnly,
    /// One directory of the receiver is read-only.
    DirectoryReadOnly,
    /// SIGKILL to sersync and its children; started again.
    Killed,
    /// The same, and its saved state ends in the middle of a line.
    KilledWithTornState,
    /// SIGTERM to sersync; started again.
    Stopped,
    /// SIGSTOP, and later SIGCONT, to sersync.
    Hung,
    /// SIGKILL to one of its children.
    ChildKilled,
    /// SIGSTOP, and later SIGCONT, to one of its children.
    ChildHung,
    /// sersync hangs while the kernel's queue is short, so that it overflows.
    QueueOverflown,
    /// The kernel allows no more watches for a while.
    OutOfWatches,
    /// SIGHUP with another configuration.
    Reloaded,
    /// SIGHUP with a configuration that is not in order.
    ReloadedInVain,
    /// `sersync pause`, and later `sersync resume`.
    Paused,
    /// The source directory has another name for a while.
    SourceAway,
    /// An empty file system is mounted over the source for a while.
    SourceCovered,
}

/// What only one fault at a time can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Daemon,
    Connections,
    Disk(Which),
    Process(Which),
    Watches,
    Source,
}

/// How a fault ends.
pub type End = Box<dyn FnOnce(&mut Stage) -> io::Result<()>>;

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::DaemonStopped,
        Self::DaemonKilled,
        Self::DaemonHung,
        Self::ModuleGone,
        Self::ConnectionsCut,
        Self::ConnectionsHalfOpen,
        Self::ConnectionsSilent,
        Self::ConnectionsSlow,
        Self::PortClosed,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::DirectoryReadOnly,
        Self::Killed,
        Self::KilledWithTornState,
        Self::Stopped,
        Self::Hung,
        Self::ChildKilled,
        Self::ChildHung,
        Self::QueueOverflown,
        Self::OutOfWatches,
        Self::Reloaded,
        Self::ReloadedInVain,
        Self::Paused,
        Self::SourceAway,
        Self::SourceCovered,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::DaemonStopped => "rsync daemon stopped",
            Self::DaemonKilled => "rsync daemon killed (-9)",
            Self::DaemonHung => "rsync daemon hung (SIGSTOP)",
            Self::ModuleGone => "module gone",
            Self::ConnectionsCut => "connections cut",
            Self::ConnectionsHalfOpen => "connections half open",
            Self::ConnectionsSilent => "connections silent",
            Self::ConnectionsSlow => "connections slow",
            Self::PortClosed => "nobody listens",
            Self::DiskFull => "receiver's disk full",
            Self::DiskReadOnly => "receiver read-only",
            Self::DirectoryReadOnly => "a directory of the receiver read-only",
            Self::Killed => "sersync killed (-9)",
            Self::KilledWithTornState => "sersync killed, saved state torn",
            Self::Stopped => "sersync stopped (SIGTERM)",
            Self::Hung => "sersync hung (SIGSTOP)",
            Self::ChildKilled => "rsync child killed (-9)",
            Self::ChildHung => "rsync child hung (SIGSTOP)",
            Self::QueueOverflown => "kernel's event queue overflown",
            Self::OutOfWatches => "out of watches",
            Self::Reloaded => "configuration reloaded",
            Self::ReloadedInVain => "broken configuration reloaded",
            Self::Paused => "paused and resumed",
            Self::SourceAway => "source moved away and back",
            Self::SourceCovered => "source mounted over",
        }
    }

    /// Whether it can be had here.
    pub fn is_possible(self, stage: &Stage) -> bool {
        match self {
            Self::DiskFull
            | Self::DiskReadOnly
            | Self::DirectoryReadOnly
            | Self::QueueOverflown
            | Self::OutOfWatches
            | Self::SourceCovered => stage.room.is_own(),
            Self::Paused => stage.has_bus(),
            _ => true,
        }
    }

    /// Whether only the mortal one gets it.
    fn ends_sersync(self) -> bool {
        matches!(
            self,
            Self::Killed | Self::KilledWithTornState | Self::Stopped | Self::QueueOverflown
        )
    }

    /// The side it happens to.
    pub fn side(self, rng: &mut Rng) -> Which {
        if self.ends_sersync() || rng.bool() {
            Which::Mortal
        } else {
            Which::Lasting
        }
    }

    /// Whether the source must rest meanwhile: what is written to a source that is covered is not in the source.
    pub fn wants_rest(self) -> bool {
        self == Self::SourceCovered
    }

    /// Whether the process is not to live on as it is: with a short queue it compares everything all the time.
    pub fn wants_a_restart(self) -> bool {
        self == Self::QueueOverflown
    }

    /// What it needs for itself.
    pub fn needs(self, which: Which) -> Vec<Part> {
        match self {
            Self::DaemonStopped | Self::DaemonKilled | Self::DaemonHung | Self::ModuleGone => {
                vec![Part::Daemon]
            }
            Self::ConnectionsCut
            | Self::ConnectionsHalfOpen
            | Self::ConnectionsSilent
            | Self::ConnectionsSlow
            | Self::PortClosed => vec![Part::Connections],
            Self::DiskFull | Self::DiskReadOnly | Self::DirectoryReadOnly => {
                vec![Part::Disk(which)]
            }
            Self::OutOfWatches => vec![Part::Watches],
            // A process that starts without its source, or with another one, is a matter of its own.
            Self::SourceAway | Self::SourceCovered => vec![
                Part::Source,
                Part::Process(Which::Mortal),
                Part::Process(Which::Lasting),
            ],
            _ => vec![Part::Process(which)],
        }
    }

    /// Begins it; says how it ends, or nothing if it could not be had just now.
    pub fn begin(self, which: Which, stage: &mut Stage, rng: &mut Rng) -> io::Result<Option<End>> {
        Ok(Some(match self {
            Self::DaemonStopped => {
                stage.daemon.stop();
                Box::new(|stage| stage.daemon.start())
            }
            Self::DaemonKilled => {
                stage.daemon.kill();
                Box::new(|stage| stage.daemon.start())
            }
            Self::DaemonHung => {
                stage.daemon.freeze();
                Box::new(|stage| {
                    stage.daemon.thaw();
                    Ok(())
                })
            }
            Self::ModuleGone => {
                stage.serve_without(Some(which))?;
                // Those that are connected would not notice.
                stage.proxy.cut();
                Box::new(|stage| stage.serve_without(None))
            }
            Self::ConnectionsCut => {
                if stage.proxy.cut() == 0 {
                    return Ok(None);
                }
                nothing()
            }
            Self::ConnectionsHalfOpen => {
                if stage.proxy.half_open() == 0 {
                    return Ok(None);
                }
                Box::new(|stage| {
                    stage.proxy.cut();
                    Ok(())
                })
            }
            Self::ConnectionsSilent => mode(stage, Mode::Silent),
            Self::ConnectionsSlow => mode(stage, Mode::Slow),
            Self::PortClosed => {
                let end = mode(stage, Mode::Closed);
                stage.proxy.cut();
                end
            }
            Self::DiskFull | Self::DiskReadOnly | Self::DirectoryReadOnly => {
                return self.begin_at_disk(stage.side(which), which, rng);
            }
            Self::Killed | Self::KilledWithTornState | Self::Stopped | Self::QueueOverflown => {
                self.begin_with_restart(which, stage, rng)?
            }
            Self::Hung => {
                signal(stage.side(which).sersync().pid(), Signal::STOP);
                goes_on(which)
            }
            Self::ChildKilled | Self::ChildHung => {
                return Ok(self.begin_at_child(stage.side(which), rng));
            }
            Self::OutOfWatches => {
                allow_watches(FEW_WATCHES)?;
                Box::new(|_| allow_watches(MANY_WATCHES))
            }
            Self::Reloaded | Self::ReloadedInVain => {
                self.begin_reload(stage.side(which))?;
                nothing()
            }
            Self::Paused => {
                if !stage.side(which).ask("pause")? {
                    return Ok(None);
                }
                Box::new(move |stage| {
                    if stage.side(which).ask("resume")? {
                        return Ok(());
                    }
                    Err(io::Error::other("a paused sersync does not resume"))
                })
            }
            Self::SourceAway => {
                fs::rename(stage.source(), stage.beside("source away"))?;
                Box::new(|stage| fs::rename(stage.beside("source away"), stage.source()))
            }
            Self::SourceCovered => {
                mount(&["-t", "tmpfs", "tmpfs"], &stage.source())?;
                Box::new(|stage| unmount(&stage.source()))
            }
        }))
    }

    fn begin_at_disk(
        self,
        side: &mut Side,
        which: Which,
        rng: &mut Rng,
    ) -> io::Result<Option<End>> {
        Ok(Some(match self {
            Self::DiskFull => {
                let mut ballast = File::create(side.disk.join("ballast"))?;
                let block = vec![0; 1 << 20];
                while ballast.write_all(&block).is_ok() {}
                while ballast.write_all(&block[..4096]).is_ok() {}
                Box::new(move |stage| fs::remove_file(stage.side(which).disk.join("ballast")))
            }
            Self::DiskReadOnly => {
                // Whoever writes there just now keeps it from becoming so.
                if mount(&["-o", "remount,ro"], &side.disk).is_err() {
                    return Ok(None);
                }
                Box::new(move |stage| mount(&["-o", "remount,rw"], &stage.side(which).disk))
            }
            _ => {
                let at = rng.usize(..canaries::DIRECTORIES.len() - 1);
                let directory = side.replica.join(canaries::DIRECTORIES[at]);
                let name = directory.as_os_str();
                mount(&[OsStr::new("--bind"), name], &directory)?;
                mount(&["-o", "remount,bind,ro"], &directory)?;
                Box::new(move |_| unmount(&directory))
            }
        }))
    }

    fn begin_with_restart(self, which: Which, stage: &mut Stage, rng: &mut Rng) -> io::Result<End> {
        let side = stage.side(which);
        match self {
            Self::Killed | Self::KilledWithTornState => side.kill(),
            _ => {
                side.stop()?;
            }
        }
        match self {
            Self::KilledWithTornState => tear(side, rng)?,
            Self::QueueOverflown => {
                let room = stage.room.clone();
                let said = read_log(stage.side(which).log()).len();
                room.with_queues_of(SHORT_QUEUE, || {
                    let side = stage.side(which);
                    side.start()?;
                    side.wait_for_its_queue()
                })?;
                stage.side(which).wait_for_its_watches(said)?;
                signal(stage.side(which).sersync().pid(), Signal::STOP);
                return Ok(goes_on(which));
            }
            _ => {}
        }
        Ok(Box::new(move |stage| stage.side(which).start()))
    }

    fn begin_at_child(self, side: &mut Side, rng: &mut Rng) -> Option<End> {
        let child = rng.choice(side.sersync().rsync_children())?;
        let (first, then) = match self {
            Self::ChildKilled => (Signal::KILL, None),
            _ => (Signal::STOP, Some(Signal::CONT)),
        };
        signal(child, first).then(|| -> End {
            Box::new(move |_| {
                if let Some(then) = then {
                    signal(child, then);
                }
                Ok(())
            })
        })
    }

    fn begin_reload(self, side: &mut Side) -> io::Result<()> {
        if self == Self::Reloaded {
            let is_plain = side.config.params == "-a";
            let others = if is_plain { "-az" } else { "-a" };
            others.clone_into(&mut side.config.params);
            side.config.write()?;
        } else {
            fs::write(
                &side.config.file,
                "<head version=\"2.5\">\n  <sersinc/>\n</head>\n",
            )?;
        }
        side.sersync().wait_until_it_catches(Signal::HUP);
        signal(side.sersync().pid(), Signal::HUP);
        Ok(())
    }
}

fn nothing() -> End {
    Box::new(|_| Ok(()))
}

fn mode(stage: &Stage, mode: Mode) -> End {
    stage.proxy.set(mode);
    Box::new(|stage| {
        stage.proxy.set(Mode::Open);
        Ok(())
    })
}

fn goes_on(which: Which) -> End {
    Box::new(move |stage| {
        signal(stage.side(which).sersync().pid(), Signal::CONT);
        Ok(())
    })
}

/// Cuts off the end of what was saved, as a machine that lost its power may.
fn tear(side: &Side, rng: &mut Rng) -> io::Result<()> {
    let mut unread = vec![side.state.clone()];
    while let Some(directory) = unread.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                unread.push(entry.path());
                continue;
            }
            // Without what it knows of the remote a mirror waits for a person before it deletes most of a replica.
            if entry.path().extension().is_some_and(|kind| kind == "known") {
                continue;
            }
            let file = File::options().write(true).open(entry.path())?;
            let length = file.metadata()?.len();
            file.set_len(length.saturating_sub(rng.u64(1..60)))?;
        }
    }
    Ok(())
}
