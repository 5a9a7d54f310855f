//! The process under test: started, signalled, ended, and asked through /proc and its log, never from inside.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::harness::wait_until;

/// How long a SIGTERM may take: the children's grace period and a slow machine.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How long an error may take to be logged.
const SAID_WITHIN: Duration = Duration::from_secs(20);

/// A running `sersync`. Dropped, it is killed with all its children; its log is shown if the test failed.
#[derive(Debug)]
pub struct Sersync {
    child: Child,
    log_file: PathBuf,
}

impl Sersync {
    /// `sersync run --config CONFIG` with its state in `state`, its log appended to `log_file`, and `more` arguments.
    pub fn run(config: &Path, state: &Path, log_file: &Path, more: &[&str]) -> io::Result<Self> {
        let mut command = Self::command();
        command
            .args(["run", "--config"])
            .arg(config)
            .arg("--state-dir")
            .arg(state)
            .args(more);
        if !more.contains(&"--bus") {
            command.args(["--bus", "none"]);
        }
        Self::spawn(command, log_file)
    }

    /// The binary, away from the bus, journal and service manager of the machine it is tested on.
    pub fn command() -> Command {
        Self::command_called(env!("CARGO_BIN_EXE_sersync"))
    }

    /// The same under another name.
    pub fn command_called(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in [
            "JOURNAL_STREAM",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "STATE_DIRECTORY",
            "RUNTIME_DIRECTORY",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Starts a command in a process group of its own, with its output appended to `log_file`.
    pub fn spawn(mut command: Command, log_file: &Path) -> io::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_file)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(Self {
            child: command.spawn()?,
            log_file: log_file.to_path_buf(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal; its children get none.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("sersync takes signals");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("sersync is a child of ours")
            .is_none()
    }

    /// Waits for an end of its own.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(within, "sersync ends", || {
            status = self.child.try_wait().expect("sersync is a child of ours");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Ends it as a service manager does, and asserts that it ends well.
    #[track_caller]
    pub fn stop(mut self) {
        self.wait_until_it_catches(Signal::TERM);
        self.signal(Signal::TERM);
        let status = self.wait(STOP_WITHIN);
        assert_eq!(
            status.code(),
            Some(0),
            "SIGTERM must end sersync with 0, not {status}"
        );
    }

    /// A process that has just begun is ended by any signal.
    #[track_caller]
    pub fn wait_until_it_catches(&mut self, signal: Signal) {
        wait_until(SAID_WITHIN, "it takes the signal", || {
            self.catches(signal) || !self.is_running()
        });
    }

    /// Whether the signal has another effect by now than with any process that has just begun.
    fn catches(&self, signal: Signal) -> bool {
        let status = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & 1 << (signal.as_raw() - 1) != 0)
    }

    /// Ends it like a crash.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("sersync is a child of ours");
    }

    /// Everything it has logged, also in earlier runs with the same log file.
    pub fn log(&self) -> String {
        read_log(&self.log_file)
    }

    /// Waits until a warning or an error that holds all `words` has been logged, and gives the line.
    ///
    /// Upper and lower case are the same; a word `a|b` stands for either.
    #[track_caller]
    pub fn wait_for_problem(&self, words: &[&str]) -> String {
        let mut line = None;
        wait_until(
            SAID_WITHIN,
            &format!("a warning or error with {words:?} is logged"),
            || {
                line = self
                    .log()
                    .lines()
                    .find(|line| is_problem(line) && has_words(line, words))
                    .map(ToOwned::to_owned);
                line.is_some()
            },
        );
        let line = line.expect("it has been found");
        println!("said: {line}");
        line
    }

    /// The rsync processes below it.
    pub fn rsync_children(&self) -> Vec<Pid> {
        descendants(self.pid())
            .into_iter()
            .filter(|&child| command_of(child) == "rsync")
            .collect()
    }

    /// The most that one of these has read, in bytes: from files, and from whoever talks to it.
    pub fn most_read_by_a_child(&self) -> u64 {
        let io = |child: Pid| format!("/proc/{}/io", child.as_raw_nonzero());
        let read = |child| figure(Path::new(&io(child)), "rchar");
        self.rsync_children()
            .into_iter()
            .map(read)
            .max()
            .unwrap_or(0)
    }

    /// A figure of `/proc/PID/status`, such as `VmRSS` in KiB.
    pub fn status_figure(&self, name: &str) -> u64 {
        figure(
            &PathBuf::from(format!("/proc/{}/status", self.pid().as_raw_nonzero())),
            name,
        )
    }

    /// How often each of its threads has gone to sleep and been woken.
    pub fn wake_ups(&self) -> io::Result<BTreeMap<OsString, u64>> {
        fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero()))?
            .map(|task| {
                let task = task?;
                let times = figure(&task.path().join("status"), "voluntary_ctxt_switches");
                Ok((task.file_name(), times))
            })
            .collect()
    }
}

impl Drop for Sersync {
    fn drop(&mut self) {
        let children = descendants(self.pid());
        if self.is_running() {
            self.signal(Signal::KILL);
            // Reaps it. Nothing is left to be said if that fails.
            let _ = self.child.wait();
        }
        // Children may be in process groups of their own; those that ended meanwhile take no signal.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- the log of sersync\n{}", self.log());
        }
    }
}

/// What sersync has logged in `file`.
pub fn read_log(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// Whether a line has the prefix of a warning or worse.
fn is_problem(line: &str) -> bool {
    ["<0>", "<1>", "<2>", "<3>", "<4>"]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

/// Whether a line has every word, or one of the alternatives of a word.
pub fn has_words(line: &str, words: &[&str]) -> bool {
    // The program's own name holds the name of the one it starts.
    let line = line.to_lowercase().replace("sersync", "");
    words.iter().all(|word| {
        word.split('|')
            .any(|word| line.contains(&word.to_lowercase()))
    })
}

/// All processes whose parent, or parent's parent, is `pid`.
pub fn descendants(pid: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read(entry.path().join("stat")) else {
            continue;
        };
        // PID (COMMAND) STATE PARENT: the command may hold anything, so count from its end.
        let after = stat
            .iter()
            .rposition(|&byte| byte == b')')
            .map_or(0, |at| at + 1);
        let fields = String::from_utf8_lossy(&stat[after..]).into_owned();
        let parent: Option<i32> = fields
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        parents.extend(Pid::from_raw(child).zip(parent.and_then(Pid::from_raw)));
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|entry| entry.1 == parent)
                .map(|entry| entry.0),
        );
        next += 1;
    }
    found.split_off(1)
}

/// The name of a process; empty when it is gone.
fn command_of(pid: Pid) -> String {
    let name =
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    name.trim_end().to_owned()
}

/// A figure of a status file; 0 when the task is gone.
fn figure(status: &Path, name: &str) -> u64 {
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
