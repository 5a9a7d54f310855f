//! The command line: what there is to say, and the exit codes of it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod check;
pub mod completions;
pub mod control;
pub mod run;
pub mod sersync2;

use completions::CompletionShell;
use control::ControlCommand;

use crate::config::PluginKind;

/// Exit codes, as in sysexits.h.
pub mod exit {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Nothing is there to be asked: no instance runs, or no bus.
    pub const UNAVAILABLE: u8 = 69;
    /// Whoever asks may not.
    pub const NOT_ALLOWED: u8 = 77;
    /// The configuration is wrong: a restart does not help.
    pub const CONFIG: u8 = 78;
    /// Ctrl-C ended the waiting: what was asked for goes on.
    pub const INTERRUPTED: u8 = 130;
}

/// Mirrors directory trees to rsync remotes as they change.
#[derive(Debug, Parser)]
#[command(name = "sersync", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror what a configuration says, in the foreground
    Run(RunArgs),
    /// Show every problem of a configuration with its line and column
    Check {
        /// An instance name, which stands for /etc/sersync/NAME.xml, or a file
        #[arg(value_name = "INSTANCE|FILE")]
        config: OsString,
        /// Print a drop-in for the unit that waits for the file systems of the sources and local targets
        #[arg(long)]
        mounts: bool,
        /// Say whether this path is mirrored, and by which rule it is not; a `/` behind it says that it is a directory
        #[arg(long, value_name = "PATH", conflicts_with = "mounts")]
        path: Option<PathBuf>,
        /// What the first push would do.
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Mirror a directory without a configuration
    Mirror(MirrorArgs),
    /// What a running instance can be asked.
    #[command(flatten)]
    Control(ControlCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: CompletionShell,
    },
}

/// Arguments of `sersync run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Read /etc/sersync/INSTANCE.xml
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    pub instance: Option<String>,
    /// Read this file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Send nothing, only tell this plugin of every change (`-m` of the original)
    #[arg(long, value_name = "PLUGIN", hide = true, value_parser = PluginKind::from_name)]
    pub only_plugin: Option<PluginKind>,
    /// The name on the bus; without it, that of the file
    #[arg(long = "instance", value_name = "NAME", requires = "config", value_parser = instance_name)]
    pub name: Option<String>,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Arguments of `sersync mirror`.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// The directory
    pub source: PathBuf,
    /// An absolute path, `HOST::MODULE`, `rsync://HOST/MODULE`, `HOST:/PATH` or `ssh://HOST/PATH` (over ssh); with USER@,
    /// :PORT and /PATH where they are needed
    #[arg(required = true)]
    pub targets: Vec<OsString>,
    /// Give an rsync daemon the password in this file
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The name on the bus; without it, that of the directory
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    pub instance: Option<String>,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Arguments of `sersync check --plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Show what the first push would delete and send, as rsync says without doing it
    #[arg(long, conflicts_with_all = ["mounts", "path"])]
    pub plan: bool,
    /// With --plan: show every path, not only the first
    #[arg(long, requires = "plan")]
    pub all: bool,
    /// With --plan: answer in JSON, an object on a line for each target
    #[arg(long, requires = "plan")]
    pub json: bool,
}

/// Arguments of whatever mirrors.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Push everything before following the changes
    #[arg(long, value_enum, default_value = "yes")]
    pub initial: YesNo,
    /// At most so many rsync processes at once
    #[arg(short = 'n', long = "processes", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub processes: u16,
    /// Let rsync touch nothing but the source and what it needs, where the kernel has Landlock
    #[arg(long, value_enum, default_value = "yes", overrides_with = "confine")]
    pub confine: YesNo,
    /// The bus to be controlled on: system, session, none, or an address; without it, an instance is on the system
    /// bus, and what runs without one on none
    #[arg(long)]
    pub bus: Option<String>,
    /// Where the paths that failed are kept between starts, and what each remote was last equal to; without it,
    /// $STATE_DIRECTORY
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Take the sources, what is mounted below them, and local targets for right as they are at the start
    #[arg(long)]
    pub accept_source: bool,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// What an instance may be called: its name becomes part of a file name, a unit name and a bus name.
///
/// # Errors
/// What is wrong with it.
pub fn instance_name(name: &str) -> Result<String, String> {
    /// With what comes before it, it must be a bus name, which is at most 255 bytes long.
    const LONGEST: usize = 200;
    let mut bytes = name.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if starts_well
        && name.len() <= LONGEST
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    {
        return Ok(name.into());
    }
    Err(format!(
        "`{name}` is no instance name: use a letter or `_` first, then letters, digits, `_` and `-`, at most 200"
    ))
}

/// The file an instance name stands for.
///
/// # Errors
/// What is wrong with the name.
pub fn instance_file(name: &str) -> Result<PathBuf, String> {
    instance_name(name).map(|name| PathBuf::from(format!("/etc/sersync/{name}.xml")))
}

/// The file that `check` is to read: a name without `/` and `.` is an instance.
///
/// # Errors
/// What is wrong with the instance name.
pub fn config_file(given: &OsString) -> Result<PathBuf, String> {
    match given.to_str() {
        Some(name) if !name.contains(['/', '.']) => instance_file(name),
        _ => Ok(PathBuf::from(given)),
    }
}

/// Says on standard error what went wrong. Nobody is left to be told if that is closed.
pub fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
