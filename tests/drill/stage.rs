//! What a drill plays on: one source, two sides with a replica and a sersync each, the daemon, the proxy and the bus.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::canaries;
use crate::confxml::{Confxml, Remote};
use crate::harness::{KEEP, differences, pause};
use crate::proxy::Proxy;
use crate::room::{Room, mount};
use crate::rsync_daemon::{Module, RsyncDaemon};
use crate::sersync::{Sersync, read_log};

/// How long a sersync may take to end after a SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(25);
/// How long anything may take that only has to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(20);

/// Which of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Its sersync is killed, stopped and started again.
    Mortal = 0,
    /// Its sersync lives from the beginning to the end.
    Lasting = 1,
}

impl Which {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Mortal, Self::Lasting];

    fn name(self) -> &'static str {
        match self {
            Self::Mortal => "mortal",
            Self::Lasting => "lasting",
        }
    }
}

/// See the module.
pub struct Stage {
    // Fields are dropped in this order: the processes first, the trees last.
    sides: [Side; 2],
    /// The daemon behind the proxy.
    pub daemon: RsyncDaemon,
    /// What both sides connect to.
    pub proxy: Proxy,
    /// What may be done here.
    pub room: Room,
    bus: Option<Bus>,
    temp: TempDir,
}

/// One replica and its sersync.
pub struct Side {
    which: Which,
    /// Its replica is in here, on a small file system of its own if there is a room.
    pub disk: PathBuf,
    /// What is to become equal to the source.
    pub replica: PathBuf,
    /// Where its sersync keeps what must outlive it.
    pub state: PathBuf,
    /// What its sersync reads.
    pub config: Confxml,
    log: PathBuf,
    bus: Option<String>,
    sersync: Option<Sersync>,
}

impl Stage {
    /// All of it, with the canaries in the source and no sersync running.
    pub fn set(room: Room) -> io::Result<Self> {
        let temp = TempDir::with_prefix("drill-")?;
        let at = |name: &str| temp.path().join(name);
        for name in ["source", "outside"] {
            fs::create_dir(at(name))?;
        }
        fs::write(at("source").join(KEEP), "kept\n")?;
        canaries::place(&at("source"))?;
        let bus = Bus::start(temp.path())?;
        if bus.is_none() {
            println!("drill: no dbus-daemon: pauses are LEFT OUT");
        }
        let address = bus.as_ref().map(|bus| bus.address.clone());
        let [mortal, lasting] =
            Which::BOTH.map(|which| Side::prepare(which, temp.path(), &room, address.clone()));
        let mut sides = [mortal?, lasting?];
        let daemon = RsyncDaemon::start_new(&sides.each_ref().map(Side::module))?;
        let proxy = Proxy::start(daemon.port())?;
        for side in &mut sides {
            side.config.port = proxy.port();
        }
        Ok(Self {
            sides,
            daemon,
            proxy,
            room,
            bus,
            temp,
        })
    }

    /// The tree that is mirrored.
    pub fn source(&self) -> PathBuf {
        self.temp.path().join("source")
    }

    /// A place beside the source.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Whether there is a bus.
    pub fn has_bus(&self) -> bool {
        self.bus.is_some()
    }

    /// One side.
    pub fn side(&mut self, which: Which) -> &mut Side {
        &mut self.sides[which as usize]
    }

    /// Both.
    pub fn sides(&mut self) -> &mut [Side; 2] {
        &mut self.sides
    }

    /// Has the daemon serve both modules, or all but one.
    pub fn serve_without(&self, left_out: Option<Which>) -> io::Result<()> {
        let served = self
            .sides
            .iter()
            .filter(|side| Some(side.which) != left_out);
        self.daemon
            .set_modules(&served.map(Side::module).collect::<Vec<_>>())
    }

    /// In what the replicas differ from the source, in sentences.
    pub fn differences(&self) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        for side in &self.sides {
            let found = differences(&self.source(), &side.replica)?;
            all.extend(
                found
                    .into_iter()
                    .map(|what| format!("{}: {what}", side.which.name())),
            );
        }
        Ok(all)
    }
}

impl Side {
    fn prepare(which: Which, temp: &Path, room: &Room, bus: Option<String>) -> io::Result<Self> {
        let name = which.name();
        let at = |kind: &str| temp.join(format!("{name}-{kind}"));
        let (disk, state) = (at("disk"), at("state"));
        fs::create_dir(&disk)?;
        fs::create_dir(&state)?;
        if room.is_own() {
            mount(&["-t", "tmpfs", "-o", "size=96m", "tmpfs"], &disk)?;
        }
        let replica = disk.join("replica");
        fs::create_dir(&replica)?;
        // The name of the file is the name of the instance on the bus.
        let file = temp.join(format!("{name}.xml"));
        let config = Confxml::new(file, &temp.join("source"), vec![Remote::module(name)], 0);
        // The end of a drill that failed is in here; the room and its temporary directory are gone by then.
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("drill-{name}.log"));
        let _ = fs::remove_file(&log);
        Ok(Self {
            which,
            disk,
            replica,
            state,
            config,
            log,
            bus,
            sersync: None,
        })
    }

    fn module(&self) -> Module {
        Module::new(self.which.name(), &self.replica)
    }

    /// Where its sersync's log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its sersync, which runs.
    pub fn sersync(&mut self) -> &mut Sersync {
        self.sersync.as_mut().expect("sersync runs")
    }

    /// Writes the configuration and starts its sersync.
    pub fn start(&mut self) -> io::Result<()> {
        self.config.write()?;
        let arguments: Vec<&str> = match &self.bus {
            Some(address) => vec!["--bus", address],
            None => Vec::new(),
        };
        self.sersync = Some(Sersync::run(
            &self.config.file,
            &self.state,
            &self.log,
            &arguments,
        )?);
        Ok(())
    }

    /// Ends it like a crash. Its children go with it, as they do under a service manager.
    pub fn kill(&mut self) {
        let sersync = self.sersync.take().expect("sersync runs");
        let children = sersync.rsync_children();
        sersync.kill();
        for child in children {
            signal(child, Signal::KILL);
        }
    }

    /// Ends it as a service manager does; says how long that took.
    pub fn stop(&mut self) -> io::Result<Duration> {
        let mut sersync = self.sersync.take().expect("sersync runs");
        sersync.wait_until_it_catches(Signal::TERM);
        let start = Instant::now();
        sersync.signal(Signal::TERM);
        while sersync.is_running() {
            if start.elapsed() > END_WITHIN {
                return Err(io::Error::other("a SIGTERM did not end sersync"));
            }
            pause(Duration::from_millis(5)); // poll
        }
        let status = sersync.wait(BEGIN_WITHIN);
        match status.code() {
            Some(0) => Ok(start.elapsed()),
            _ => Err(io::Error::other(format!(
                "SIGTERM ended sersync with {status}"
            ))),
        }
    }

    /// Waits until it has an event queue.
    pub fn wait_for_its_queue(&mut self) -> io::Result<()> {
        let fds = PathBuf::from(format!(
            "/proc/{}/fd",
            self.sersync().pid().as_raw_nonzero()
        ));
        let start = Instant::now();
        while start.elapsed() < BEGIN_WITHIN {
            let mut links = fs::read_dir(&fds)?
                .flatten()
                .map(|fd| fs::read_link(fd.path()));
            if links.any(|link| link.is_ok_and(|to| to.as_os_str() == "anon_inode:inotify")) {
                return Ok(());
            }
            pause(Duration::from_millis(1)); // poll
        }
        Err(io::Error::other("sersync does not watch anything"))
    }

    /// Waits until it has said once more that it watches the source. What it has said is the log up to `said`.
    pub fn wait_for_its_watches(&self, said: usize) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < BEGIN_WITHIN {
            let log = read_log(&self.log);
            if log.get(said..).is_some_and(|new| new.contains("watching ")) {
                return Ok(());
            }
            pause(Duration::from_millis(5)); // poll
        }
        Err(io::Error::other(
            "sersync does not come to watch the source",
        ))
    }

    /// Asks it over the bus, which it may just have joined; `false` if it said no.
    pub fn ask(&self, command: &str) -> io::Result<bool> {
        let output = self.run_command(command)?;
        Ok(output.is_some_and(|output| output.status.success()))
    }

    /// What it says of itself, and what its children are.
    pub fn status(&self) -> String {
        let output = self.run_command("status");
        let said = match output {
            Ok(Some(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(None) => String::new(),
            Err(error) => error.to_string(),
        };
        let children = self.sersync.iter().flat_map(Sersync::rsync_children);
        let children: Vec<String> = children.map(describe).collect();
        format!("{said}\nchildren:\n{}", children.join("\n"))
    }

    fn run_command(&self, command: &str) -> io::Result<Option<Output>> {
        let Some(address) = &self.bus else {
            return Ok(None);
        };
        let output = Sersync::command()
            .args([command, self.which.name(), "--bus", address])
            .stdin(Stdio::null())
            .output()?;
        Ok(Some(output))
    }
}

/// A process: its arguments, its state, and where in the kernel it waits.
fn describe(pid: Pid) -> String {
    let dir = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let read = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let status = String::from_utf8_lossy(&read("stat")).into_owned();
    let waits = String::from_utf8_lossy(&read("wchan")).into_owned();
    format!("{arguments}\n  {status}  {waits}")
}

/// Sends a signal to what may have ended meanwhile; says whether it has not.
pub fn signal(to: Pid, signal: Signal) -> bool {
    kill_process(to, signal).is_ok()
}

/// A private bus where everybody may do everything.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    /// `None` where there is no such program.
    fn start(below: &Path) -> io::Result<Option<Self>> {
        let address = format!("unix:path={}", below.join("bus").display());
        let file = below.join("bus.conf");
        fs::write(
            &file,
            format!(
                "<busconfig><listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
                 <allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\" eavesdrop=\"true\"/>\
                 <allow eavesdrop=\"true\"/></policy></busconfig>"
            ),
        )?;
        let mut config = std::ffi::OsString::from("--config-file=");
        config.push(&file);
        let spawned = Command::new("dbus-daemon")
            .arg(config)
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .env("HOME", env::temp_dir())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let daemon = match spawned {
            Ok(daemon) => daemon,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bus = Self { daemon, address };
        let start = Instant::now();
        while !below.join("bus").exists() {
            if start.elapsed() > BEGIN_WITHIN {
                return Err(io::Error::other("dbus-daemon does not listen"));
            }
            pause(Duration::from_millis(5)); // poll
        }
        Ok(Some(bus))
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
