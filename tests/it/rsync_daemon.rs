//! A private `rsync --daemon` on loopback: started, stopped, frozen and reconfigured as a test likes.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, geteuid, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::harness::{SOON, wait_until};
use crate::sersync::descendants;

/// One module of a daemon.
#[derive(Debug, Clone)]
pub struct Module {
    name: String,
    path: PathBuf,
    secret: Option<(String, String)>,
    lines: Vec<String>,
}

impl Module {
    /// A writable module without a password.
    pub fn new(name: &str, path: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_path_buf(),
            secret: None,
            lines: Vec::new(),
        }
    }

    /// Lets only `user` in, with `password`.
    pub fn secret(mut self, user: &str, password: &str) -> Self {
        self.secret = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Adds a line of rsyncd.conf, such as `refuse options = delete`.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

/// A daemon with its configuration, port and log. Dropped, it is killed with all its children.
#[derive(Debug)]
pub struct RsyncDaemon {
    address: Ipv4Addr,
    port: u16,
    child: Option<Child>,
    directory: TempDir,
}

impl RsyncDaemon {
    /// A daemon at 127.0.0.1 that is not running yet; its port is free and stays the same for its life.
    pub fn prepare(modules: &[Module]) -> io::Result<Self> {
        Self::prepare_at(Ipv4Addr::LOCALHOST, free_port(), modules)
    }

    /// The same at a given address and port. Every address of 127.0.0.0/8 is this machine.
    pub fn prepare_at(address: Ipv4Addr, port: u16, modules: &[Module]) -> io::Result<Self> {
        let directory = TempDir::with_prefix("rsyncd-")?;
        let daemon = Self {
            address,
            port,
            child: None,
            directory,
        };
        daemon.set_modules(modules)?;
        Ok(daemon)
    }

    /// A running daemon at 127.0.0.1.
    pub fn start_new(modules: &[Module]) -> io::Result<Self> {
        let mut daemon = Self::prepare(modules)?;
        daemon.start()?;
        Ok(daemon)
    }

    /// The port, also while it is not running.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the modules. A running daemon reads its configuration again for each connection.
    pub fn set_modules(&self, modules: &[Module]) -> io::Result<()> {
        // Without chroot the daemon changes absolute links and those with `..`, and only root has chroot.
        let chroot = if geteuid().is_root() {
            "yes\nuid = 0\ngid = 0"
        } else {
            "no"
        };
        let mut text = format!(
            "port = {}\naddress = {}\nlog file = {}\nmunge symlinks = no\nreverse lookup = no\nuse chroot = {chroot}\n",
            self.port,
            self.address,
            self.log_file().display(),
        );
        for module in modules {
            let (name, path) = (&module.name, module.path.display());
            write!(text, "[{name}]\npath = {path}\nread only = no\n")
                .expect("a String takes everything");
            if let Some((user, password)) = &module.secret {
                let secrets = self.directory.path().join(format!("{name}.secrets"));
                write_private(&secrets, &format!("{user}:{password}\n"))?;
                writeln!(
                    text,
                    "auth users = {user}\nsecrets file = {}",
                    secrets.display()
                )
                .expect("a String takes everything");
            }
            for line in &module.lines {
                writeln!(text, "{line}").expect("a String takes everything");
            }
        }
        // A connection reads the file while it is replaced: let it find the old or the new one.
        let new = self.directory.path().join("new.conf");
        fs::write(&new, text)?;
        fs::rename(new, self.configuration_file())
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "the rsync daemon runs already");
        let mut configuration = std::ffi::OsString::from("--config=");
        configuration.push(self.configuration_file());
        let mut child = Command::new("rsync")
            .args(["--daemon", "--no-detach"])
            .arg(configuration)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()?;
        let listening = || listens(self.address, self.port);
        wait_until(SOON, "the rsync daemon listens", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the rsync daemon ended with {status}: {}", self.log());
            }
            listening()
        });
        self.child = Some(child);
        Ok(())
    }

    /// Ends it and every connection it serves. The port stays reserved for [`RsyncDaemon::start`].
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// The same like a crash.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; its children have not. A frozen one has to go on to its end.
            for signal in [signal, Signal::CONT] {
                let _ = kill_process_group(Pid::from_child(&child), signal);
            }
            child.wait().expect("the rsync daemon is a child of ours");
        }
    }

    /// Stops it and all its connections in their tracks: no answer, no end.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the rsync daemon runs");
        kill_process_group(Pid::from_child(child), signal).expect("the rsync daemon takes signals");
    }

    /// Stops the connections it has now, but not itself, and says which processes those are.
    pub fn freeze_connections(&self) -> Vec<Pid> {
        let child = self.child.as_ref().expect("the rsync daemon runs");
        let connections = descendants(Pid::from_child(child));
        for process in &connections {
            // It may end meanwhile.
            let _ = kill_process(*process, Signal::STOP);
        }
        connections
    }

    /// How many connections it has had: the number of rsync runs, standbys included.
    pub fn connections(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains("connect from"))
            .count()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("rsyncd.log")
    }

    fn configuration_file(&self) -> PathBuf {
        self.directory.path().join("rsyncd.conf")
    }
}

impl Drop for RsyncDaemon {
    fn drop(&mut self) {
        self.end(Signal::KILL);
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("--- the end of the rsync daemon's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Writes a file that only its owner may read, as rsync demands of secrets and password files.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// A port that nobody listens on, below the range from which the kernel takes ports for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different places.
    let first = (std::process::id() % 120) as u16 * 100;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// Whether somebody listens at an address. Asking the kernel leaves no line in the daemon's log.
pub fn listens(address: Ipv4Addr, port: u16) -> bool {
    let local = format!("{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()));
    fs::read_to_string("/proc/net/tcp").is_ok_and(|table| {
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some(&local) && fields.nth(1) == Some("0A")
        })
    })
}
