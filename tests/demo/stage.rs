//! What the demonstration plays on: a source, a receiver, the two daemons, and the lines that tell what happens.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::compare::{Awaited, Expected, first_difference};
use super::confxml::{Remote, confxml};
use super::pace;
use super::receiver::Receiver;
use super::screen;
use super::service::Service;

/// After this a change counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

const MODULE: &str = "nfsbackup";

/// The temporary directory and what runs in it. Dropped in this order: sersync, the receiver, the directory.
pub struct Stage {
    sersync: Option<Service>,
    receiver: Receiver,
    directory: TempDir,
    program: PathBuf,
}

impl Stage {
    /// Makes the directories, starts the rsync daemon, and writes the configuration.
    pub fn set(program: PathBuf) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sersync-demo-").tempdir()?;
        fs::create_dir(directory.path().join("data"))?;
        let receiver = Receiver::start_in(directory.path(), &[MODULE])?;
        let stage = Self {
            sersync: None,
            receiver,
            directory,
            program,
        };
        let remote = Remote {
            ip: "127.0.0.1",
            module: MODULE,
        };
        fs::write(
            stage.configuration(),
            confxml(&stage.source(), &[remote], &stage.receiver),
        )?;
        Ok(stage)
    }

    /// The watched tree.
    pub fn source(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where sersync's messages go.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("sersync.log")
    }

    fn replica(&self) -> PathBuf {
        self.receiver.module(MODULE)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("confxml.xml")
    }

    /// Says what there is to see.
    pub fn introduce(&self) {
        println!("\n  sersync demo, in {}\n", self.directory.path().display());
        println!("    data/         the source, watched");
        println!(
            "    {MODULE}/    the receiver's copy, behind an rsync daemon on 127.0.0.1:{}",
            self.receiver.port()
        );
        println!("    confxml.xml   the configuration: data/ goes to {MODULE}, with a password\n");
        screen::print_row("what happens at the source", "at the receiver after");
        screen::print_rule();
    }

    /// Starts sersync and shows the time until both trees are equal.
    pub fn start_sersync(&mut self, line: &str) -> io::Result<()> {
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .arg("--config")
            .arg(self.configuration())
            .args(["--bus", "none", "--state-dir"])
            .arg(self.directory.path().join("state"))
            .stdin(std::process::Stdio::null());
        self.sersync = Some(Service::start(&mut command, &self.log())?);
        let (source, replica) = (self.source(), self.replica());
        let files = files_below(&source, "")?;
        let mut awaited = Awaited::new(&source, &replica, &files, Expected::Alike);
        let sersync = &mut self.sersync;
        let time = pace::wait_until(start, PATIENCE, || {
            sersync.as_mut().is_none_or(Service::has_ended)
                || awaited.have_arrived() && matches!(first_difference(&source, &replica), Ok(None))
        })?;
        if self.sersync.as_mut().is_none_or(Service::has_ended) {
            return Err(io::Error::other("sersync has ended by itself"));
        }
        tell(line, time)
    }

    /// Ends sersync as systemd would.
    pub fn stop_sersync(&mut self) -> io::Result<()> {
        let Some(mut sersync) = self.sersync.take() else {
            return Ok(());
        };
        let status = sersync.stop()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "after SIGTERM sersync ended with {status}"
            )))
        }
    }

    /// Takes the receiver away.
    pub fn stop_receiver(&mut self) {
        self.receiver.stop();
    }

    /// Brings the receiver back.
    pub fn start_receiver(&mut self) -> io::Result<()> {
        self.receiver.start()
    }

    /// Waits for `paths` at the receiver, and shows the time since now.
    pub fn show(
        &self,
        line: &str,
        paths: &[impl AsRef<Path>],
        expected: Expected,
    ) -> io::Result<()> {
        let now = Instant::now();
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let (source, replica) = (self.source(), self.replica());
        let mut awaited = Awaited::new(&source, &replica, &paths, expected);
        let time = pace::wait_until(now, PATIENCE, || awaited.have_arrived())?;
        tell(line, time)
    }

    /// Waits until `new`, a file or a directory, is there with all its content and `old` is not.
    pub fn show_rename(&self, line: &str, old: &str, new: &str) -> io::Result<()> {
        let now = Instant::now();
        let (source, replica) = (self.source(), self.replica());
        let old = [PathBuf::from(old)];
        let new = files_below(&source, new)?;
        let mut gone = Awaited::new(&source, &replica, &old, Expected::Gone);
        let mut here = Awaited::new(&source, &replica, &new, Expected::Alike);
        let time = pace::wait_until(now, PATIENCE, || here.have_arrived() && gone.have_arrived())?;
        tell(line, time)
    }

    /// Shows both trees and lets `diff` compare them.
    pub fn prove(&self) -> io::Result<()> {
        let (source, replica) = (self.source(), self.replica());
        println!();
        screen::print_trees(&source, &replica)?;
        println!("\n  $ diff --recursive --no-dereference data {MODULE}");
        let diff = Command::new("diff")
            .args(["--recursive", "--no-dereference", "data", MODULE])
            .current_dir(self.directory.path())
            .status()?;
        if !diff.success() {
            return Err(io::Error::other("the trees differ"));
        }
        println!("  (no difference)");
        Ok(())
    }

    /// Stops both daemons and removes the directory.
    pub fn clear(mut self) -> io::Result<()> {
        self.stop_sersync()?;
        self.receiver.stop();
        let directory = self.directory.path().to_owned();
        self.directory.close()?;
        println!(
            "\n  ended: sersync exited with 0, the rsync daemon is stopped, {} is removed\n",
            directory.display()
        );
        Ok(())
    }

    /// Leaves both daemons running, and says how to play with them and how to stop them.
    pub fn keep_running(mut self) {
        let (source, replica, log) = (self.source(), self.replica(), self.log());
        let configuration = self.configuration();
        let daemons = [self.sersync.take(), self.receiver.daemon.take()];
        let pids: Vec<String> = daemons
            .into_iter()
            .flatten()
            .map(|daemon| {
                let pid = daemon.pid().to_string();
                // Dropping it would end it.
                mem::forget(daemon);
                pid
            })
            .collect();
        let directory = self.directory.keep();
        println!("\n  still running, to play with:");
        println!("    change files in   {}", source.display());
        println!(
            "    see them arrive   watch -n 0.2 ls -lR {}",
            replica.display()
        );
        println!("    what it says      tail -f {}", log.display());
        println!("    configuration     {}", configuration.display());
        println!(
            "    stop it           kill {} && rm -rf {}\n",
            pids.join(" "),
            directory.display()
        );
    }
}

/// `path` itself when it is a file, otherwise all files below it; relative to `source`.
fn files_below(source: &Path, path: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![PathBuf::from(path)];
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(source.join(&path))?.is_dir() {
            for entry in fs::read_dir(source.join(&path))? {
                waiting.push(path.join(entry?.file_name()));
            }
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn tell(line: &str, time: Option<Duration>) -> io::Result<()> {
    match time {
        Some(time) => {
            screen::print_row(line, &screen::milliseconds(time));
            pace::pause(super::BREATH)
        }
        None => Err(io::Error::other(format!(
            "`{line}` is not equal at the receiver after {} s",
            PATIENCE.as_secs()
        ))),
    }
}
