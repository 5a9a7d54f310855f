//! The bench of every test: waiting with a deadline, and a [`Mirror`] with all that belongs to one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::confxml::{Confxml, Remote};
use crate::rsync_daemon::{Module, RsyncDaemon};
use crate::sersync::{Sersync, read_log};
use crate::tree::Tree;

/// How long trees may take to become equal where nothing is in the way. Real figures are some milliseconds; the
/// bound is for machines that do other things as well.
pub const SOON: Duration = Duration::from_secs(15);

/// How long the retries of a lane or of a path may take after the cause is mended.
pub const AFTER_BACK_OFF: Duration = Duration::from_secs(100);

/// The name of the module of a [`Mirror`].
pub const MODULE: &str = "replica";

/// The file every source has from the start, which no test touches: an empty source deletes nothing.
pub const KEEP: &str = "always here";

/// Lets time pass between two looks at a condition (`poll`) or two steps of a load (`interval`).
///
/// Nothing may be asserted because a pause is over: that is what [`wait_until`] and [`stays`] are for.
#[expect(
    clippy::disallowed_methods,
    reason = "a test thread has nothing to cancel, and its pauses end in a deadline"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until `condition` holds and says how long that took; fails after `within`.
#[track_caller]
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if condition() {
            return start.elapsed();
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        poll(asked.elapsed());
    }
}

/// Asserts that `condition` holds now and goes on to hold for `time`.
#[track_caller]
pub fn stays(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        let asked = Instant::now();
        assert!(condition(), "no longer after {:?}: {what}", start.elapsed());
        poll(asked.elapsed());
    }
}

/// Pauses for a few milliseconds, and for longer where a look is expensive: the tests share the machine with
/// what they test.
fn poll(cost: Duration) {
    pause(Duration::from_millis(5).max(cost * 2)); // poll
}

/// Waits until two trees are equal and says how long that took; fails with the differences after `within`.
#[track_caller]
pub fn wait_in_sync(source: &Path, replica: &Path, within: Duration) -> Duration {
    wait_for_no_differences(within, || differences(source, replica))
}

/// The same, where names that are one file at the source must be one file at the replica.
#[track_caller]
pub fn wait_in_sync_with_links(source: &Path, replica: &Path, within: Duration) -> Duration {
    wait_for_no_differences(within, || {
        let mut found = differences(source, replica)?;
        if found.is_empty() {
            let (here, there) = (
                Tree::read(source)?.hard_links(),
                Tree::read(replica)?.hard_links(),
            );
            let only = |side, group| format!("{group:?} are linked at the {side} only");
            found.extend(here.difference(&there).map(|group| only("source", group)));
            found.extend(there.difference(&here).map(|group| only("replica", group)));
        }
        Ok(found)
    })
}

#[track_caller]
fn wait_for_no_differences(
    within: Duration,
    mut look: impl FnMut() -> io::Result<Vec<String>>,
) -> Duration {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        let found = look().expect("both trees can be read");
        if found.is_empty() {
            return start.elapsed();
        }
        if start.elapsed() >= within {
            let shown: Vec<String> = found
                .iter()
                .take(20)
                .map(|what| format!("  {what}\n"))
                .collect();
            panic!(
                "not equal within {within:?}; {} differences:\n{}",
                found.len(),
                shown.concat()
            );
        }
        poll(asked.elapsed());
    }
}

/// In what a replica differs from its source, in sentences.
pub fn differences(source: &Path, replica: &Path) -> io::Result<Vec<String>> {
    Tree::read(source)?.differences(&Tree::read(replica)?)
}

/// A source, a replica behind a private rsync daemon, and a sersync between them.
///
/// All of it lives in one temporary directory: `source`, `replica`, `outside` (a place beside the source, for what
/// is moved in or out), `state`, the configuration, and the log, which goes on over restarts.
#[derive(Debug)]
pub struct Mirror {
    // Fields are dropped in this order: the process first, the trees last.
    sersync: Option<Sersync>,
    pub daemon: RsyncDaemon,
    pub config: Confxml,
    temp: TempDir,
}

impl Mirror {
    /// All of it, with the rsync daemon running and sersync not yet started.
    pub fn prepare() -> io::Result<Self> {
        Self::prepare_with(|module| module)
    }

    /// The same with a module that is not the usual one.
    pub fn prepare_with(change: impl FnOnce(Module) -> Module) -> io::Result<Self> {
        let temp = TempDir::with_prefix("sersync-it-")?;
        let at = |name| temp.path().join(name);
        for name in ["source", "replica", "outside", "state"] {
            fs::create_dir(at(name))?;
        }
        fs::write(at("source").join(KEEP), "kept\n")?;
        let daemon = RsyncDaemon::start_new(&[change(Module::new(MODULE, &at("replica")))])?;
        let remotes = vec![Remote::module(MODULE)];
        let config = Confxml::new(at("confxml.xml"), &at("source"), remotes, daemon.port());
        Ok(Self {
            sersync: None,
            daemon,
            config,
            temp,
        })
    }

    /// A running mirror with `-a` and attribute changes followed, equal from the start; its first push is over.
    #[track_caller]
    pub fn start() -> io::Result<Self> {
        let mut mirror = Self::prepare()?;
        mirror.run()?;
        mirror.in_sync();
        mirror.is_known();
        Ok(mirror)
    }

    /// Writes the configuration and starts sersync.
    pub fn run(&mut self) -> io::Result<()> {
        self.run_with(&[])
    }

    /// The same with more arguments.
    pub fn run_with(&mut self, arguments: &[&str]) -> io::Result<()> {
        assert!(self.sersync.is_none(), "sersync runs already");
        self.config.write()?;
        self.sersync = Some(Sersync::run(
            &self.config.file,
            &self.at("state"),
            &self.log_file(),
            arguments,
        )?);
        Ok(())
    }

    /// Writes the configuration and starts sersync by a command of the test's own.
    pub fn run_by(&mut self, command: Command) -> io::Result<()> {
        self.config.write()?;
        self.sersync = Some(Sersync::spawn(command, &self.log_file())?);
        Ok(())
    }

    /// A place in the temporary directory.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A path in the source.
    pub fn source(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at("source").join(path)
    }

    /// A path in the replica.
    pub fn replica(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at("replica").join(path)
    }

    /// A path beside the source, on the same file system.
    pub fn outside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at("outside").join(path)
    }

    /// The running process.
    pub fn sersync(&mut self) -> &mut Sersync {
        self.sersync.as_mut().expect("sersync runs")
    }

    /// Everything sersync has logged, over all its runs.
    pub fn log(&self) -> String {
        read_log(&self.log_file())
    }

    /// Where sersync's log goes.
    pub fn log_file(&self) -> PathBuf {
        self.at("sersync.log")
    }

    /// Has the running process read the configuration again.
    #[track_caller]
    pub fn reload(&mut self) -> io::Result<()> {
        let reloads = |log: &str| log.matches("new configuration is in force").count();
        let before = reloads(&self.log());
        self.config.write()?;
        self.sersync().signal(Signal::HUP);
        wait_until(SOON, "it is read", || reloads(&self.log()) > before);
        Ok(())
    }

    /// Waits until source and replica are equal, and asserts that sersync is alive.
    #[track_caller]
    pub fn in_sync(&mut self) -> Duration {
        self.in_sync_within(SOON)
    }

    /// The same with another deadline.
    #[track_caller]
    pub fn in_sync_within(&mut self, within: Duration) -> Duration {
        let took = wait_in_sync(&self.at("source"), &self.at("replica"), within);
        assert!(self.sersync().is_running(), "sersync has ended by itself");
        took
    }

    /// Waits until the first push is over, so that a later one is no first contact.
    #[track_caller]
    pub fn is_known(&self) {
        let state = self.at("state");
        wait_until(SOON, "what the remote is equal to is kept", || {
            let mut kept = fs::read_dir(&state).into_iter().flatten().flatten();
            kept.any(|file| {
                file.path().extension().is_some_and(|kind| kind == "known")
                    && fs::read_to_string(file.path())
                        .is_ok_and(|text| text.contains("\"compared\":true"))
            })
        });
    }

    /// Ends sersync with SIGTERM, which must give 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.sersync.take().expect("sersync runs").stop();
    }

    /// Waits for an end that nobody asked for.
    #[track_caller]
    pub fn ends_by_itself(&mut self) -> ExitStatus {
        self.sersync.take().expect("sersync runs").wait(SOON)
    }

    /// Ends sersync with SIGKILL.
    pub fn kill(&mut self) {
        self.sersync.take().expect("sersync runs").kill();
    }

    /// The end of most tests: becomes equal, ends well, and is still equal then, as soon as the receivers of what was
    /// under way have ended too.
    #[track_caller]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the last words of tests that return a result"
    )]
    pub fn finish(mut self) -> io::Result<()> {
        self.in_sync();
        self.stop();
        wait_in_sync(&self.at("source"), &self.at("replica"), SOON);
        Ok(())
    }
}

/// Makes a tree of `directories` directories with `files` files of `bytes` bytes each.
pub fn grow(root: &Path, directories: usize, files: usize, bytes: usize) -> io::Result<()> {
    for directory in 0..directories {
        let directory = root.join(format!("d{directory:05}"));
        fs::create_dir_all(&directory)?;
        for file in 0..files {
            // Contents differ, so that a file under a wrong name is seen.
            let path = directory.join(format!("f{file:04}"));
            let text = path.display().to_string().into_bytes();
            fs::write(
                &path,
                text.into_iter().cycle().take(bytes).collect::<Vec<u8>>(),
            )?;
        }
    }
    Ok(())
}
