//! A daemon started as a child: its log goes to a file, it is asked to end, and it never outlives its owner by accident.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

use super::pace;

/// How long a daemon may take to end when asked, before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A running daemon; it is ended when this is dropped.
pub struct Service {
    child: Option<Child>,
}

impl Service {
    /// Starts `command`, whatever it prints appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C at the terminal is for the owner, which then ends its services in order.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let program = command.get_program().display();
                io::Error::other(format!("cannot start `{program}`: {error}"))
            })?;
        Ok(Self { child: Some(child) })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Asks it to end with SIGTERM and waits; then kills what is left of its process group.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        let Some(mut child) = self.child.take() else {
            return Err(io::Error::other("already stopped"));
        };
        if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
            // A signal fails only when there is nobody left to take it, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
            pace::has_ended_within(GRACE, || !matches!(child.try_wait(), Ok(None)));
            let _ = kill_process_group(pid, Signal::KILL);
            let status = child.wait();
            pace::has_ended_within(GRACE, || test_kill_process_group(pid).is_err());
            return status;
        }
        child.wait()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() {
            // The owner is going away, by success or by an error of its own; there is nobody left to tell.
            let _ = self.stop();
        }
    }
}
