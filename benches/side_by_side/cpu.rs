//! The CPU time of a tool and everything it starts: from a control group of its own where one can be made.
//!
//! A control group counts every descendant exactly, also those that nobody waits for. Version 2 and the cpuacct
//! controller of version 1 are known; without the right to make a group, `/proc` is summed instead.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::processes;

/// First argument of the role that enters a control group and becomes another program.
pub const ENTER: &str = "--enter-group";

/// Counts the CPU time of one tool.
pub enum Meter {
    /// A control group of version 2: `cpu.stat`.
    GroupV2(PathBuf),
    /// A group of the cpuacct controller of version 1: `cpuacct.usage`.
    GroupV1(PathBuf),
    /// `/proc/PID/stat` of the process and its descendants.
    Processes,
}

impl Meter {
    /// Makes a control group if possible.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sersync-bench-{}-{number}", process::id());
        if let Some(directory) = make_group("/sys/fs/cgroup", "0::", &name, "cpu.stat") {
            Self::GroupV2(directory)
        } else if let Some(directory) =
            make_group("/sys/fs/cgroup/cpuacct", "cpuacct", &name, "cpuacct.usage")
        {
            Self::GroupV1(directory)
        } else {
            Self::Processes
        }
    }

    /// Where the figures come from, for the reader of the table.
    pub fn description(&self) -> &'static str {
        match self {
            Self::GroupV2(_) => "a control group (v2) per tool",
            Self::GroupV1(_) => "a control group (v1, cpuacct) per tool",
            Self::Processes => "/proc, the process and all its children",
        }
    }

    /// A command that runs `program` inside the group from its first instruction.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        let (Self::GroupV2(directory) | Self::GroupV1(directory)) = self else {
            return Ok(Command::new(program));
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ENTER).arg(directory).arg(program);
        Ok(command)
    }

    /// CPU time used so far by the process `pid`, which was started by a command of this meter, and its descendants.
    pub fn used(&self, pid: u32) -> io::Result<Duration> {
        match self {
            Self::GroupV2(directory) => {
                let stat = fs::read_to_string(directory.join("cpu.stat"))?;
                let line = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "));
                number(line.unwrap_or_default()).map(Duration::from_micros)
            }
            Self::GroupV1(directory) => {
                let usage = fs::read_to_string(directory.join("cpuacct.usage"))?;
                number(&usage).map(Duration::from_nanos)
            }
            Self::Processes => processes::cpu_time(pid),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Self::GroupV2(directory) | Self::GroupV1(directory) = self {
            // It cannot be removed while something is in it; an empty group that stays harms nobody.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The role [`ENTER`]: enters the group `arguments[0]`, then becomes the program `arguments[1]` with the rest.
pub fn enter_and_exec(arguments: &[OsString]) -> io::Result<()> {
    let [directory, program, rest @ ..] = arguments else {
        return Err(io::Error::other("a group and a program are needed"));
    };
    fs::write(
        Path::new(directory).join("cgroup.procs"),
        process::id().to_string(),
    )?;
    Err(Command::new(program).args(rest).exec())
}

/// Makes the group `name` below the one this process is in; `None` where it cannot be made or does not count.
fn make_group(mount: &str, controller: &str, name: &str, account: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| {
        let (hierarchy, path) = line.rsplit_once(':')?;
        let is_wanted = format!("{hierarchy}:") == controller
            || hierarchy.split([':', ',']).any(|word| word == controller);
        is_wanted.then_some(path)
    })?;
    let directory = Path::new(mount)
        .join(own.trim_start_matches('/'))
        .join(name);
    fs::create_dir(&directory).ok()?;
    // On a mixed system the first mount point is a plain tmpfs, where a directory can be made but counts nothing.
    if directory.join(account).is_file() {
        Some(directory)
    } else {
        let _ = fs::remove_dir(&directory);
        None
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|error| {
        io::Error::other(format!(
            "the control group's account is not a number: {error}"
        ))
    })
}
