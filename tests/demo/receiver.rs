//! A private rsync daemon on the loopback interface: the far side of the demonstration and of the bench.
//!
//! It is as close to a real backup host as one machine allows: modules that ask for a password, a secrets file, a log.
//! Everything it needs is below one directory, which belongs to the caller.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use super::pace;
use super::service::Service;

/// The name the sender logs in by, as in the tutorials of the old sersync.
pub const USER: &str = "rsync_backup";

const PASSWORD: &str = "only-for-this-machine";

/// Ports below the kernel's range for outgoing connections. Inside that range a client that keeps trying while the
/// daemon is down would one day be given this very port as its own, and be connected to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const START_LIMIT: Duration = Duration::from_secs(10);

/// One daemon with its modules; it is ended when this is dropped.
pub struct Receiver {
    directory: PathBuf,
    port: u16,
    /// The running daemon; `None` while it is stopped.
    pub daemon: Option<Service>,
}

impl Receiver {
    /// Writes the daemon's files into `directory`, makes a directory for each module, and starts it.
    pub fn start_in(directory: &Path, modules: &[&str]) -> io::Result<Self> {
        let mut receiver = Self {
            directory: directory.to_owned(),
            port: free_port()?,
            daemon: None,
        };
        write_private(&receiver.password_file(), &format!("{PASSWORD}\n"))?;
        write_private(&receiver.file("secrets"), &format!("{USER}:{PASSWORD}\n"))?;
        for module in modules {
            fs::create_dir_all(receiver.module(module))?;
        }
        fs::write(receiver.file("rsyncd.conf"), receiver.settings(modules))?;
        receiver.start()?;
        Ok(receiver)
    }

    /// Starts the daemon, again on the same port, and returns once it listens.
    pub fn start(&mut self) -> io::Result<()> {
        let mut command = Command::new("rsync");
        command
            .args(["--daemon", "--no-detach"])
            .arg(format!("--config={}", self.file("rsyncd.conf").display()))
            .stdin(Stdio::null());
        self.daemon = Some(Service::start(&mut command, &self.log())?);
        let port = self.port;
        pace::wait_until(Instant::now(), START_LIMIT, || is_listening(port))?
            .map(drop)
            .ok_or_else(|| {
                io::Error::other(format!(
                    "the rsync daemon does not listen on port {port}; see {}",
                    self.log().display()
                ))
            })
    }

    /// Ends the daemon and every connection it serves, as a crash of its host would.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// The port it listens on at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that holds the password, readable by its owner only.
    pub fn password_file(&self) -> PathBuf {
        self.file("rsync.password")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.file("rsyncd.log")
    }

    /// The directory a module stands for.
    pub fn module(&self, name: &str) -> PathBuf {
        self.file(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn settings(&self, modules: &[&str]) -> String {
        let mut text = format!(
            "port = {}\naddress = 127.0.0.1\nuse chroot = no\nreverse lookup = no\nmunge symlinks = no\nlog file = {}\n",
            self.port,
            self.log().display()
        );
        // A daemon started by root would otherwise write as nobody.
        if geteuid().is_root() {
            text.push_str("uid = 0\ngid = 0\n");
        }
        for module in modules {
            let _ = write!(
                text,
                "\n[{module}]\npath = {}\nread only = no\nauth users = {USER}\nsecrets file = {}\n",
                self.module(module).display(),
                self.file("secrets").display()
            );
        }
        text
    }
}

fn write_private(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// A port nobody listens on. Another process may take it before the daemon does; then the start fails and says so.
fn free_port() -> io::Result<u16> {
    let first = fastrand::u16(PORTS);
    (first..PORTS.end)
        .chain(PORTS.start..first)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or_else(|| io::Error::other("no free TCP port on 127.0.0.1"))
}

/// Reads the kernel's socket table. A trial connection would stand in the daemon's log, where runs are counted.
fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    // The table shows an address as the number its bytes make on this machine.
    let address = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let local = format!("{address:08X}:{port:04X}");
    fs::read_to_string("/proc/net/tcp").is_ok_and(|table| {
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some(local.as_str()) && fields.nth(1) == Some(LISTEN)
        })
    })
}
