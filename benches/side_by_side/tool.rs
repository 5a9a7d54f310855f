//! The three tools, and how each is told to mirror a tree to the private rsync daemon.

use std::fmt;
use std::fs;
use std::io::{self, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use super::confxml::{Remote, confxml};
use super::cpu::Meter;
use super::plain;
use super::processes;
use super::receiver::{Receiver, USER};
use super::service::Service;
use super::sshd::Sshd;

/// A tool with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// One `rsync -a --delete` per change.
    Plain,
    /// lsyncd with `delay = 0`: as fast as it can be told to be.
    LsyncdNoDelay,
    /// lsyncd with its default delay of 15 s.
    Lsyncd,
    /// What is built here.
    Sersync,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [
        Self::Plain,
        Self::LsyncdNoDelay,
        Self::Lsyncd,
        Self::Sersync,
    ];

    /// Whether it watches the tree by itself.
    pub fn is_daemon(self) -> bool {
        self != Self::Plain
    }

    /// Whether it can be run on this machine.
    pub fn is_installed(self) -> bool {
        match self {
            Self::Plain | Self::Sersync => true,
            Self::LsyncdNoDelay | Self::Lsyncd => version_of("lsyncd", "--version").is_some(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Plain => "plain rsync",
            Self::LsyncdNoDelay => "lsyncd delay=0",
            Self::Lsyncd => "lsyncd",
            Self::Sersync => "sersync",
        })
    }
}

/// The first line a program prints about its version; `None` when it is not installed.
pub fn version_of(program: &str, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

/// A tool at work.
pub struct Tool {
    kind: Kind,
    service: Service,
    meter: Meter,
    log: PathBuf,
    changes: Option<PipeWriter>,
}

impl Tool {
    /// Starts `kind` on `source`; its own files go to `directory`. Only sersync takes more than one remote.
    pub fn start(
        kind: Kind,
        directory: &Path,
        source: &Path,
        remotes: &[Remote<'_>],
        receiver: &Receiver,
    ) -> io::Result<Self> {
        let meter = Meter::new();
        let log = directory.join("tool.log");
        let mut changes = None;
        let mut command = match kind {
            Kind::Plain => {
                let (reader, writer) = io::pipe()?;
                changes = Some(writer);
                let mut command = meter.command(std::env::current_exe()?)?;
                command
                    .args([plain::LOOP, "-a", "--delete"])
                    .arg(format!(
                        "--password-file={}",
                        receiver.password_file().display()
                    ))
                    .arg(format!("{}/", source.display()))
                    .arg(url(receiver, remotes[0].module))
                    .stdin(reader);
                command
            }
            Kind::LsyncdNoDelay | Kind::Lsyncd => {
                let settings = directory.join("lsyncd.lua");
                fs::write(
                    &settings,
                    lsyncd_settings(kind, source, remotes[0].module, receiver),
                )?;
                let mut command = meter.command("lsyncd")?;
                command.arg("-nodaemon").arg(settings).stdin(Stdio::null());
                command
            }
            Kind::Sersync => sersync(&meter, directory, &confxml(source, remotes, receiver))?,
        };
        let service = Service::start(&mut command, &log)?;
        Ok(Self {
            kind,
            service,
            meter,
            log,
            changes,
        })
    }

    /// Starts sersync on `source` with its replica in the directory `replica`, which an sshd leads to.
    pub fn start_over_ssh(
        directory: &Path,
        source: &Path,
        replica: &Path,
        sshd: &Sshd,
    ) -> io::Result<Self> {
        let xml = format!(
            r#"<head><sersync><localpath watch="{}"><remote ip="127.0.0.1" name="{}"/></localpath><rsync>
            <commonParams params="-a"/><userDefinedPort start="true" port="{}"/>
            <ssh start="true" identity="{}" knownHosts="{}"/></rsync></sersync></head>"#,
            source.display(),
            replica.display(),
            sshd.port(),
            sshd.identity().display(),
            sshd.known_hosts().display(),
        );
        let meter = Meter::new();
        let log = directory.join("tool.log");
        let service = Service::start(&mut sersync(&meter, directory, &xml)?, &log)?;
        Ok(Self {
            kind: Kind::Sersync,
            service,
            meter,
            log,
            changes: None,
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Tells the plain script that something has changed; the others see it by themselves.
    pub fn on_changed(&mut self) -> io::Result<()> {
        self.changes
            .as_mut()
            .map_or(Ok(()), |pipe| pipe.write_all(b"."))
    }

    /// Fails when the tool has ended by itself.
    pub fn check_alive(&mut self) -> io::Result<()> {
        if !self.service.has_ended() {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        Err(io::Error::other(format!(
            "{} has ended by itself: {last}",
            self.kind
        )))
    }

    /// Whether its log says so.
    pub fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    /// CPU time used so far, its children's included.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        self.meter.used(self.service.pid())
    }

    /// Resident memory in KiB, its children's included.
    pub fn resident_kibibytes(&self) -> io::Result<u64> {
        processes::resident_kibibytes(self.service.pid())
    }

    /// Wake-ups so far, its children's included.
    pub fn wake_ups(&self) -> io::Result<u64> {
        processes::wake_ups(self.service.pid())
    }
}

fn sersync(meter: &Meter, directory: &Path, xml: &str) -> io::Result<Command> {
    let configuration = directory.join("confxml.xml");
    fs::write(&configuration, xml)?;
    let mut command = meter.command(env!("CARGO_BIN_EXE_sersync"))?;
    command
        .arg("run")
        .arg("--config")
        .arg(configuration)
        .args(["--bus", "none", "--state-dir"])
        .arg(directory.join("state"))
        .stdin(Stdio::null());
    Ok(command)
}

fn url(receiver: &Receiver, module: &str) -> String {
    format!("rsync://{USER}@127.0.0.1:{}/{module}/", receiver.port())
}

fn lsyncd_settings(kind: Kind, source: &Path, module: &str, receiver: &Receiver) -> String {
    let delay = if kind == Kind::LsyncdNoDelay {
        "delay = 0,"
    } else {
        ""
    };
    format!(
        r#"settings {{ nodaemon = true }}
sync {{
    default.rsync,
    source = "{}/",
    target = "{}",
    {delay}
    rsync = {{ archive = true, password_file = "{}" }},
}}
"#,
        source.display(),
        url(receiver, module),
        receiver.password_file().display()
    )
}
