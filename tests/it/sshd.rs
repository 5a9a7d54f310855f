//! A private sshd on loopback, with keys of its own: who may log in, how often somebody did, and what is in the way.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::harness::{SOON, wait_until};
use crate::rsync_daemon::{free_port, listens};

/// It insists on being started by its whole path.
const PROGRAM: &str = "/usr/sbin/sshd";

/// A running sshd for the user of the tests. Dropped, it is killed with all its connections.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    child: Child,
    directory: TempDir,
}

impl Sshd {
    /// `None`, which is said, where there is no sshd.
    pub fn start() -> io::Result<Option<Self>> {
        Self::start_with("")
    }

    /// The same with more lines of sshd_config.
    pub fn start_with(lines: &str) -> io::Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() {
            eprintln!(
                "NOT TESTED: {PROGRAM} is missing (on Debian: apt-get install openssh-server)"
            );
            return Ok(None);
        }
        if geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let directory = TempDir::with_prefix("sshd-")?;
        let at = |name: &str| directory.path().join(name);
        for name in ["host key", "key", "another key"] {
            make_key(&at(name))?;
        }
        let port = free_port();
        // A home directory without files: what a shell reads at its start costs more than all else.
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey \"{host}\"\nAuthorizedKeysFile \"{keys}\"\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nLogLevel VERBOSE\nSetEnv HOME=/nonexistent\nBanner \"{banner}\"\n{lines}\n",
            host = at("host key").display(),
            keys = at("authorized_keys").display(),
            banner = at("banner").display(),
        );
        fs::write(at("sshd_config"), configuration)?;
        fs::write(at("banner"), "Authorised use only\n")?;
        let child = Command::new(PROGRAM)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("log"))?)
            .process_group(0)
            .spawn()?;
        let mut sshd = Self {
            port,
            child,
            directory,
        };
        sshd.let_in("key")?;
        sshd.make_known("host key")?;
        wait_until(SOON, "sshd listens", || {
            if let Ok(Some(status)) = sshd.child.try_wait() {
                panic!("sshd ended with {status}: {}", sshd.log());
            }
            listens(Ipv4Addr::LOCALHOST, port)
        });
        Ok(Some(sshd))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that a client shows.
    pub fn identity(&self) -> PathBuf {
        self.at("key")
    }

    /// The client's file of host keys.
    pub fn known_hosts(&self) -> PathBuf {
        self.at("known hosts")
    }

    /// Lets the key `name` in and no other: `key` is that of [`Sshd::identity`].
    pub fn let_in(&self, name: &str) -> io::Result<()> {
        fs::copy(self.at(&format!("{name}.pub")), self.at("authorized_keys")).map(drop)
    }

    /// Lets the right key in, for one command alone.
    pub fn let_in_for(&self, command: &str) -> io::Result<()> {
        let key = fs::read_to_string(self.at("key.pub"))?;
        let line = format!("command=\"{command}\",restrict {key}");
        fs::write(self.at("authorized_keys"), line)
    }

    /// Has the client take the key `name` for the host's: `host key` is the right one.
    pub fn make_known(&self, name: &str) -> io::Result<()> {
        let key = fs::read_to_string(self.at(&format!("{name}.pub")))?;
        fs::write(
            self.known_hosts(),
            format!("[127.0.0.1]:{} {key}", self.port),
        )
    }

    /// Has the client know the host's key by this name and no other, see `HostKeyAlias` in ssh_config(5).
    pub fn make_known_as(&self, alias: &str) -> io::Result<()> {
        let key = fs::read_to_string(self.at("host key.pub"))?;
        fs::write(self.known_hosts(), format!("{alias} {key}"))
    }

    /// How often somebody has logged in.
    pub fn log_ins(&self) -> usize {
        let accepted = |line: &&str| line.starts_with("Accepted publickey for ");
        self.log().lines().filter(accepted).count()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.at("log")).unwrap_or_default()).into_owned()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Connections are processes in sessions of their own; they end when their clients do.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of sshd\n{}", self.log());
        }
    }
}

fn make_key(file: &Path) -> io::Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .stdin(Stdio::null())
        .status()?;
    assert!(status.success(), "ssh-keygen ended with {status}");
    Ok(())
}

/// The ssh processes in the background that have their socket below `directory`.
pub fn connections(directory: &Path) -> Vec<Pid> {
    let directory = directory.to_str().expect("the tests' own paths are text");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.starts_with("ssh -f -N ") && arguments.contains(directory) {
            let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
            found.extend(pid.and_then(Pid::from_raw));
        }
    }
    found
}

/// Sends a signal to the one such process.
#[track_caller]
pub fn signal_connection(directory: &Path, signal: Signal) {
    let found = connections(directory);
    assert_eq!(found.len(), 1, "one connection is open");
    kill_process(found[0], signal).expect("ssh takes signals");
}
