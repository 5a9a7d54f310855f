//! A room of its own: user, mount and process namespaces in which the drill may mount, lower limits and kill.
//!
//! The program enters it in three steps, each the same program again: outside, which maps all users and waits for the
//! end; mapped, which has a user namespace; inside, which has the others as well and does the work. When the outer one
//! is interrupted it ends everything inside at once; mounts and processes go with their namespaces. The one thing that
//! is not of the room, the length of the kernel's event queue, is put back by the outer one whatever happened.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::harness::pause;

/// Says to the next program in which step it is.
const STEP: &str = "SERSYNC_DRILL_STEP";
/// Where the kernel's limits are.
const LIMITS: &str = "/proc/sys/fs/inotify";
const LIMIT_NAMES: [&str; 3] = [
    "max_queued_events",
    "max_user_instances",
    "max_user_watches",
];
/// The watches that this user namespace may have at most.
const WATCHES_HERE: &str = "/proc/sys/user/max_inotify_watches";

/// What can be done where the drill runs.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Where the kernel's real limits can be written, if this is a room of our own.
    limits: Option<PathBuf>,
}

/// Which step this is.
pub enum Entered {
    /// The last: do the work.
    Inside(Room),
    /// The work is done.
    Over(ExitCode),
}

impl Room {
    /// Enters it, or goes without one and says so.
    pub fn enter() -> io::Result<Entered> {
        match env::var(STEP).as_deref() {
            Ok("mapped") => Err(go_inside()),
            Ok("inside") => Ok(Entered::Inside(Self::furnish()?)),
            _ => {
                if let Some(code) = outside()? {
                    return Ok(Entered::Over(code));
                }
                println!("drill: no namespaces here: faults of mounts and limits are LEFT OUT");
                Ok(Entered::Inside(Self::default()))
            }
        }
    }

    /// Whether there is one.
    pub fn is_own(&self) -> bool {
        self.limits.is_some()
    }

    /// Lets sersync see limits that it may raise without effect, and keeps a way to the real ones.
    fn furnish() -> io::Result<Self> {
        let real = env::temp_dir().join("limits");
        fs::create_dir(&real)?;
        mount(&["--bind", LIMITS], &real)?;
        mount(&["-t", "tmpfs", "tmpfs"], Path::new(LIMITS))?;
        for name in LIMIT_NAMES {
            // Not copied: a file of /proc says that it is empty.
            fs::write(Path::new(LIMITS).join(name), fs::read(real.join(name))?)?;
        }
        Ok(Self { limits: Some(real) })
    }

    /// Has event queues that are made meanwhile hold `events` and no more.
    pub fn with_queues_of<T>(
        &self,
        events: u32,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(limits) = &self.limits else {
            return work();
        };
        let file = limits.join(LIMIT_NAMES[0]);
        let before = fs::read(&file)?;
        fs::write(&file, events.to_string())?;
        let result = work();
        fs::write(&file, before)?;
        result
    }
}

/// Allows so many watches in this room, and nowhere else.
pub fn allow_watches(watches: u32) -> io::Result<()> {
    fs::write(WATCHES_HERE, watches.to_string())
}

/// Calls `mount` with `arguments` and a place.
pub fn mount(arguments: &[impl AsRef<OsStr>], at: &Path) -> io::Result<()> {
    succeed(Command::new("mount").args(arguments).arg(at))
}

/// Takes away what is mounted at a place; `umount` may have to wait for who works there.
pub fn unmount(at: &Path) -> io::Result<()> {
    succeed(Command::new("umount").arg("--lazy").arg(at))
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}

/// The same program in the next step.
fn again(program: &str, arguments: &[&str], step: &str) -> io::Result<Command> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--")
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(STEP, step);
    Ok(command)
}

/// `None` where there can be no room.
fn outside() -> io::Result<Option<ExitCode>> {
    if !rustix::process::geteuid().is_root() || !may_have_a_room()? {
        return Ok(None);
    }
    let temp = TempDir::with_prefix("sersync-drill-")?;
    let queue = Path::new(LIMITS).join(LIMIT_NAMES[0]);
    let before = fs::read(&queue)?;
    let status = in_a_room(&temp);
    if fs::read(&queue)? != before {
        fs::write(&queue, before)?;
    }
    let code = status?.code().unwrap_or(1);
    Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

/// Tries all that is needed with a program that does nothing.
fn may_have_a_room() -> io::Result<bool> {
    let flags = ["--user", "--map-root-user", "--mount", "--pid", "--fork"];
    let tried = Command::new("unshare")
        .args(flags)
        .args(["--mount-proc", "--propagation", "private", "--", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        tried => Ok(tried?.success()),
    }
}

fn in_a_room(temp: &TempDir) -> io::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut command = again("unshare", &["--user"], "mapped")?;
        command.env("TMPDIR", temp.path()).stdin(Stdio::piped());
        let mut child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().unwrap_or_default();
        map_all_users(pid)?;
        // The end of its input says that it may go on.
        drop(child.stdin.take());
        let killed = tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => child.start_kill(),
            _ = terminate.recv() => child.start_kill(),
        };
        killed?;
        child.wait().await
    })
}

/// Every user of the machine is the same in the room, so that files may belong to anybody.
fn map_all_users(pid: u32) -> io::Result<()> {
    let own = fs::read_link("/proc/self/ns/user")?;
    let start = Instant::now();
    while fs::read_link(format!("/proc/{pid}/ns/user"))? == own {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(io::Error::other("unshare does not come to work"));
        }
        pause(Duration::from_millis(2)); // poll
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 0 4294967295\n")?;
    }
    Ok(())
}

/// Becomes the last step; comes back only if that fails.
fn go_inside() -> io::Error {
    let mut nothing = Vec::new();
    if let Err(error) = io::stdin().read_to_end(&mut nothing) {
        return error;
    }
    let flags = [
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    match again("unshare", &flags, "inside") {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}
