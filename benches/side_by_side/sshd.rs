//! A private sshd on the loopback interface, for the receiver over ssh.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::pace;
use super::service::Service;

/// It insists on being started by its whole path.
const PROGRAM: &str = "/usr/sbin/sshd";
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running sshd with keys of its own; it is ended when this is dropped.
pub struct Sshd {
    port: u16,
    directory: PathBuf,
    _service: Service,
}

impl Sshd {
    /// Whether it can be run on this machine.
    pub fn is_installed() -> bool {
        Path::new(PROGRAM).exists()
    }

    /// Starts it with its files in `directory`.
    pub fn start_in(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("sshd");
        fs::create_dir(&directory)?;
        fs::create_dir_all("/run/sshd")?;
        let at = |name: &str| directory.join(name);
        for name in ["host", "key"] {
            make_key(&at(name))?;
        }
        fs::copy(at("key.pub"), at("authorized_keys"))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let host_key = fs::read_to_string(at("host.pub"))?;
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;
        // A home directory without files: what a shell reads at its start is not what is measured.
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {keys}\nStrictModes no\n\
             UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nSetEnv HOME=/nonexistent\n",
            host = at("host").display(),
            keys = at("authorized_keys").display(),
        );
        fs::write(at("sshd_config"), configuration)?;
        let mut command = Command::new(PROGRAM);
        command.args(["-D", "-e", "-f"]).arg(at("sshd_config"));
        command.stdin(Stdio::null());
        let service = Service::start(&mut command, &at("log"))?;
        let is_up = || {
            let log = fs::read_to_string(at("log"));
            log.is_ok_and(|log| log.contains("Server listening"))
        };
        pace::wait_until(Instant::now(), START_LIMIT, is_up)?
            .ok_or_else(|| io::Error::other("sshd does not start"))?;
        Ok(Self {
            port,
            directory,
            _service: service,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key to log in with.
    pub fn identity(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// The file of its host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.directory.join("known_hosts")
    }
}

fn make_key(file: &Path) -> io::Result<()> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file);
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("ssh-keygen ended with {status}")))
    }
}
