//! A test bed: one tool, its source, its receiver, all in one temporary directory, brought to rest before it is measured.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::compare::{Awaited, Expected, first_difference};
use super::confxml::Remote;
use super::pace;
use super::receiver::Receiver;
use super::sshd::Sshd;
use super::tool::{Kind, Tool};

/// A result that did not come within [`LIMIT`].
pub const NEVER: f64 = f64::INFINITY;

/// How long any result is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the first push may take.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Rest after the start, and after each load before its runs and CPU time are read: late runs count as well.
pub const REST: Duration = Duration::from_secs(2);

/// Between two looks at a whole tree.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

const LOOPBACK: &str = "127.0.0.1";

/// Another loopback address, where no rsync daemon listens.
const ELSEWHERE: &str = "127.0.0.2";

/// A remote that never takes anything.
#[derive(Clone, Copy)]
pub enum Dead {
    /// Its host is up, its port is closed.
    Refuses,
    /// It takes connections and says nothing, as a stuck host behind a live firewall does.
    Silent,
}

/// The fields are dropped in this order: the tool, the daemon, the directory, what else listens.
pub struct Bed {
    pub tool: Tool,
    pub receiver: Receiver,
    replicas: Vec<PathBuf>,
    directory: TempDir,
    _silent: Option<TcpListener>,
    _sshd: Option<Sshd>,
}

impl Bed {
    /// Starts `kind` with one remote on a source made by `fill`; returns when the replica is equal and changes are seen.
    pub fn start(kind: Kind, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        Self::start_with(kind, &["replica"], None, fill)
    }

    /// The same with a remote for each of `modules`, and perhaps a dead one, for which nothing waits.
    pub fn start_with(
        kind: Kind,
        modules: &[&str],
        dead: Option<Dead>,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("sersync-bench-")
            .tempdir()?;
        let source = directory.path().join("source");
        fs::create_dir(&source)?;
        fill(&source)?;
        // An empty source may be an unmounted one: sersync waits for an entry before it deletes anything.
        fs::write(source.join("constant"), "always here\n")?;
        let receiver = Receiver::start_in(directory.path(), modules)?;
        let mut remotes: Vec<Remote<'_>> = modules
            .iter()
            .map(|module| Remote {
                ip: LOOPBACK,
                module,
            })
            .collect();
        remotes.extend(dead.map(|_| Remote {
            ip: ELSEWHERE,
            module: "dead",
        }));
        let silent = match dead {
            Some(Dead::Silent) => Some(TcpListener::bind((ELSEWHERE, receiver.port()))?),
            Some(Dead::Refuses) | None => None,
        };
        let mut bed = Self {
            tool: Tool::start(kind, directory.path(), &source, &remotes, &receiver)?,
            replicas: modules
                .iter()
                .map(|module| receiver.module(module))
                .collect(),
            receiver,
            directory,
            _silent: silent,
            _sshd: None,
        };
        bed.come_to_rest()?;
        Ok(bed)
    }

    /// Starts sersync with one remote over ssh.
    pub fn start_over_ssh() -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("sersync-bench-")
            .tempdir()?;
        let source = directory.path().join("source");
        fs::create_dir(&source)?;
        fs::write(source.join("constant"), "always here\n")?;
        let receiver = Receiver::start_in(directory.path(), &["replica"])?;
        let replica = receiver.module("replica");
        let sshd = Sshd::start_in(directory.path())?;
        let mut bed = Self {
            tool: Tool::start_over_ssh(directory.path(), &source, &replica, &sshd)?,
            replicas: vec![replica],
            receiver,
            directory,
            _silent: None,
            _sshd: Some(sshd),
        };
        bed.come_to_rest()?;
        Ok(bed)
    }

    /// The watched tree.
    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    /// Where the (first) remote keeps its copy.
    pub fn replica(&self) -> &Path {
        &self.replicas[0]
    }

    /// Number of rsync runs so far: connections in the daemon's log. One that is held ready counts when it connects.
    pub fn runs(&self) -> io::Result<u64> {
        let log = fs::read(self.receiver.log())?;
        Ok(String::from_utf8_lossy(&log)
            .matches("] connect from ")
            .count() as u64)
    }

    /// Waits until `paths` have arrived at every remote and the whole trees are equal; gives the seconds since `since`.
    pub fn seconds_to_equal(
        &mut self,
        since: Instant,
        paths: &[PathBuf],
        expected: Expected,
    ) -> io::Result<f64> {
        let source = self.source();
        let mut awaited: Vec<Awaited<'_>> = self
            .replicas
            .iter()
            .map(|replica| Awaited::new(&source, replica, paths, expected))
            .collect();
        // One after the other: those that have arrived earlier cost one look.
        let arrived = pace::wait_until(since, LIMIT, || {
            awaited.iter_mut().all(Awaited::have_arrived)
        })?;
        self.tool.check_alive()?;
        let Some(arrived) = arrived else {
            return Ok(NEVER);
        };
        if self.is_equal() {
            return Ok(arrived.as_secs_f64());
        }
        // Something else than what was looked at is still on its way.
        let equal = pace::wait_until(since, LIMIT, || self.is_equal())?;
        Ok(equal.map_or(NEVER, |time| time.as_secs_f64()))
    }

    fn is_equal(&self) -> bool {
        let source = self.source();
        self.replicas
            .iter()
            .all(|replica| matches!(first_difference(&source, replica), Ok(None)))
    }

    /// Waits for the first push, makes sure that changes are seen, and lets everything become quiet.
    fn come_to_rest(&mut self) -> io::Result<()> {
        self.wait(Self::is_equal)?;
        match self.tool.kind() {
            Kind::Plain => {}
            Kind::LsyncdNoDelay | Kind::Lsyncd => {
                self.wait(|bed| bed.tool.has_logged(" finished."))?;
            }
            Kind::Sersync => {
                let probe = self.source().join("probe");
                fs::write(&probe, "is anybody watching?\n")?;
                self.wait(Self::is_equal)?;
                fs::remove_file(&probe)?;
                self.wait(Self::is_equal)?;
            }
        }
        pace::pause(REST)
    }

    fn wait(&mut self, mut is_true: impl FnMut(&Self) -> bool) -> io::Result<()> {
        let start = Instant::now();
        while !is_true(self) {
            self.tool.check_alive()?;
            if start.elapsed() > START_LIMIT {
                return Err(io::Error::other(format!(
                    "{} is not ready after {START_LIMIT:?}",
                    self.tool.kind()
                )));
            }
            pace::pause(LOOK_INTERVAL)?;
        }
        Ok(())
    }
}
