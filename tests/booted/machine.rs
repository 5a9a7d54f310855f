//! A systemd that runs as PID 1 over a throw-away copy of the running machine.
//!
//! ```text
//!  this process ─ unshare ─ a shell with mounts of its own ─ systemd-nspawn ─ systemd, PID 1: "the leader"
//!                            tmpfs: what changes              │                └─ dbus, journald, rsync, sersync@…
//!                            overlay: / below that            └─ own network: only a loopback
//!  commands: nsenter into every namespace of the leader      files: /proc/LEADER/root/…
//! ```
//!
//! Everything the machine changes is in memory and gone with it. Its mounts are seen by nobody else. It dies with this
//! process, however that ends: `unshare` is killed then, with it the shell, which is process 1 of an outer namespace, and
//! with that whatever is in there. (nspawn alone would leave its systemd behind.)

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{self, Host};
use crate::said::Said;
use crate::wait::{wait_for, wait_until};

/// Three seconds are usual.
const BOOT: Duration = Duration::from_secs(90);
/// systemd's own patience with units that do not stop is 90 s.
const POWER_OFF: Duration = Duration::from_secs(100);
/// A command that takes longer than this many seconds hangs.
const COMMAND_SECONDS: &str = "150";

/// Mounts the file system, and runs systemd-nspawn as often as there is a reboot. `$1` is the mount point.
///
/// What this machine has enabled is not enabled there: its services are none of our business and cost time. Images for
/// containers come with a policy that no package may start or stop a service; a usual Debian has none. The bus is
/// dbus-daemon's until a case says otherwise. `/srv` is a plain tmpfs, because the trees of the tests are better off
/// without overlayfs.
const BOOT_SCRIPT: &str = r#"
set -eu
mount -t tmpfs -o mode=755 sersync-booted "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work sersync-booted root
find root/etc/systemd/system -maxdepth 1 -name '*.wants' -exec rm -r {} +
rm -rf root/etc/systemd/system/dbus.service root/etc/rc?.d root/run root/srv root/usr/sbin/policy-rc.d
mkdir -p root/run root/srv /run/systemd/nspawn
mount -t tmpfs sersync-booted /run/systemd/nspawn

trap 'kill -TERM $nspawn' TERM
status=133 # is a reboot
while [ $status = 133 ]; do
    setpriv --pdeathsig KILL systemd-nspawn --directory="$PWD/root" --machine=sersync-booted --register=no --keep-unit \
        --link-journal=no --resolv-conf=off --timezone=off --private-network --tmpfs=/srv:mode=755 --boot &
    nspawn=$!
    while status=0; wait $nspawn || status=$?; kill -0 $nspawn 2>/dev/null; do :; done
done
exit $status
"#;

/// Makes the inotify limits writable there, and no other switch of the kernel.
const INOTIFY_SCRIPT: &str = "
set -eu
mkdir /run/proc
mount -t proc proc /run/proc
mount --bind /run/proc/sys/fs/inotify /proc/sys/fs/inotify
umount -l /run/proc
rmdir /run/proc
";

/// A booted machine. Dropped, it is powered off and everything of it is gone.
#[derive(Debug)]
pub struct Machine {
    unshare: Child,
    leader: AtomicU32,
    // Dropped last: it puts the host's limits back.
    _host: Host,
}

impl Machine {
    /// Boots it and waits until systemd has come to rest.
    pub fn boot() -> io::Result<Self> {
        let host = Host::claim()?;
        let console = File::create(host::console())?;
        let unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(["unshare", "--mount", "--propagation=private"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", BOOT_SCRIPT, "sersync-booted"])
            .arg(host::mount_point()?)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            // An interrupt at the terminal is for the tests; they end the machine.
            .process_group(0)
            .spawn()?;
        let mut machine = Self {
            unshare,
            leader: AtomicU32::new(0),
            _host: host,
        };
        machine.wait_for_boot();
        Ok(machine)
    }

    /// Restarts it as an administrator does, and waits as [`boot`](Self::boot) does.
    pub fn reboot(&self) {
        let before = self.leader.load(Ordering::Relaxed);
        self.run(["systemctl", "--no-block", "reboot"]);
        wait_until(POWER_OFF, "the old systemd ends", || {
            !Path::new(&format!("/proc/{before}/root/run")).exists()
        });
        self.wait_for_rest();
    }

    fn wait_for_boot(&mut self) {
        let start = std::time::Instant::now();
        while self.find_leader().is_none() {
            if let Ok(Some(status)) = self.unshare.try_wait() {
                panic!("the machine ended with {status}:\n{}", console());
            }
            assert!(
                start.elapsed() < BOOT,
                "no systemd within {BOOT:?}:\n{}",
                console()
            );
            crate::wait::pause();
        }
        self.wait_for_rest();
    }

    fn wait_for_rest(&self) {
        wait_for(BOOT, "systemd comes to rest", || {
            let leader = self.find_leader().ok_or("there is no systemd")?;
            self.leader.store(leader, Ordering::Relaxed);
            let said = self.run(["systemctl", "is-system-running"]);
            match said.stdout.trim() {
                // What does not work in a container is nothing to us: each test asks for what it needs.
                "running" | "degraded" => Ok(()),
                _ => Err(format!("{said}\n{}", console())),
            }
        });
        self.script(INOTIFY_SCRIPT);
    }

    /// PID 1 of the machine, by its number out here.
    fn find_leader(&self) -> Option<u32> {
        children(self.unshare.id())
            .into_iter()
            .flat_map(children)
            .flat_map(children)
            .find(|child| {
                fs::read_to_string(format!("/proc/{child}/comm"))
                    .is_ok_and(|comm| comm.trim_end() == "systemd")
            })
    }

    /// The command that runs another one there, as root or whom `nsenter` finds in front.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.leader.load(Ordering::Relaxed).to_string())
            .args(["--all", "timeout", "--kill-after=5", COMMAND_SECONDS])
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("SYSTEMD_COLORS", "0")
            .env("SYSTEMD_PAGER", "")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command there and says how it ended.
    #[track_caller]
    pub fn run<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, command: I) -> Said {
        let mut entered = self.enter();
        entered.args(command);
        Said::of(&mut entered)
    }

    /// Runs a command there that must succeed, and gives what it printed.
    #[track_caller]
    pub fn ok<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(&self, command: I) -> String {
        self.run(command).succeeded()
    }

    /// Runs a script there as `bash -euo pipefail` does; it must succeed.
    #[track_caller]
    pub fn script(&self, script: &str) -> String {
        self.ok(["bash", "-euo", "pipefail", "-c", script])
    }

    /// Starts a command there whose output goes to a pipe; it is killed when dropped.
    pub fn spawn<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(
        &self,
        command: I,
    ) -> io::Result<Running> {
        let child = self
            .enter()
            .args(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Running(child))
    }

    /// A path of the machine, as this process can open it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let path = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!(
            "/proc/{}/root",
            self.leader.load(Ordering::Relaxed)
        ))
        .join(path)
    }

    /// Writes a file there, with the directories above it.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        let directory = path.parent().expect("a file is in a directory");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, text))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The text of a file there.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// What the console has shown.
fn console() -> String {
    let console = fs::read(host::console()).unwrap_or_default();
    format!(
        "--- console\n{}\n--- end",
        String::from_utf8_lossy(&console)
    )
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// No directory of the host's user, so that only what the machine has installed is found.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Drop for Machine {
    fn drop(&mut self) {
        // The shell hands this on to nspawn, and that to systemd as a request to power off.
        for shell in children(self.unshare.id()) {
            if let Some(shell) = Pid::from_raw(shell.cast_signed()) {
                let _ = kill_process(shell, Signal::TERM);
            }
        }
        let start = std::time::Instant::now();
        while matches!(self.unshare.try_wait(), Ok(None)) {
            if start.elapsed() > POWER_OFF {
                eprintln!("booted: the machine does not power off\n{}", console());
                let _ = self.unshare.kill();
                let _ = self.unshare.wait();
                break;
            }
            crate::wait::pause();
        }
    }
}

/// A command that runs in the machine.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("it is a pipe, taken once")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` hands a TERM on to the command; a KILL would leave it alone in the machine.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
