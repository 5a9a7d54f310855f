//! A private message bus, and the program's own commands on it.

use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::sersync::Sersync;

/// Everybody may do everything: what may be done by whom is tested elsewhere.
const POLICY: &str = r#"<policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy>"#;

/// A bus daemon of the test's own; it ends when this is dropped.
#[derive(Debug)]
pub struct Bus {
    dir: TempDir,
    daemon: Child,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Bus {
    /// A bus that listens.
    pub fn start() -> io::Result<Self> {
        let dir = TempDir::with_prefix("sersync-bus-")?;
        let config = dir.path().join("bus.conf");
        let listen = format!("unix:path={}", dir.path().join("bus").display());
        std::fs::write(
            &config,
            format!(
                "<busconfig><listen>{listen}</listen><auth>EXTERNAL</auth>{POLICY}</busconfig>"
            ),
        )?;
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It complains that it may not raise its own limits.
            .stderr(Stdio::null())
            .spawn()?;
        // It prints the address when it listens.
        let mut address = String::new();
        if let Some(output) = daemon.stdout.take() {
            BufReader::new(output).read_line(&mut address)?;
        }
        assert!(address.starts_with("unix:"), "dbus-daemon said `{address}`");
        Ok(Self { dir, daemon })
    }

    /// For `--bus`.
    pub fn address(&self) -> String {
        let socket: PathBuf = self.dir.path().join("bus");
        format!("unix:path={}", socket.display())
    }

    /// Runs `sersync ARGUMENTS --bus …` to its end.
    pub fn ask(&self, arguments: &[&str]) -> io::Result<Said> {
        let output = Sersync::command()
            .args(arguments)
            .args(["--bus", &self.address()])
            .stdin(Stdio::null())
            .output()?;
        let said = Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        println!("sersync {arguments:?}: {said:?}");
        Ok(said)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
