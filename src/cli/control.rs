//! The commands that talk to a running instance: what can be said, and who does it.
//!
//! Answers go to standard output, as text or as JSON; what went wrong goes to standard error in a sentence, and into the
//! exit code: 0, 1 failed, 64 usage, 69 not running, 77 not allowed, 78 configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use failure::Failure;
use output::Output;

use crate::dbus::BusAddress;

mod act;
mod choose;
mod compare;
mod failed;
mod failure;
pub(super) mod json;
mod output;
mod status;
pub(super) mod text;

/// What a running instance can be asked.
#[derive(Debug, Subcommand)]
pub enum ControlCommand {
    /// Show what running instances do
    Status(StatusArgs),
    /// Gather changes, but send and delete nothing
    Pause(OneArgs),
    /// Go on after a pause, or accept what a guard holds
    Resume(ResumeArgs),
    /// Compare everything and mend it
    Resync(CompareArgs),
    /// Wait until everything that has changed is at every remote
    Flush(FlushArgs),
    /// List the paths that failed, and why
    Failed(ListArgs),
    /// Try the paths that failed again now
    Retry(OneArgs),
    /// Compare everything by checksum, change nothing, and list the differences
    Verify(CompareArgs),
    /// Read the configuration again
    Reload(Whom),
    /// Show or set how much is logged
    LogLevel(LogLevelArgs),
}

/// Who is asked, and how the answer looks.
#[derive(Debug, Clone, Args)]
pub struct Whom {
    /// The instance; left out, the only one that is running
    #[arg(value_parser = super::instance_name)]
    pub instance: Option<String>,
    /// The bus it is on: system, session, or an address
    #[arg(long, default_value = "system")]
    pub bus: BusAddress,
    /// Answer in JSON, an object on a line
    #[arg(long)]
    pub json: bool,
}

/// Which remote.
#[derive(Debug, Args)]
pub struct OneRemote {
    /// Only this remote: its number or its target
    #[arg(long, value_name = "REMOTE")]
    pub remote: Option<String>,
}

/// Arguments of what can be done to one remote.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// Which.
    #[command(flatten)]
    pub one: OneRemote,
}

/// Arguments of `sersync resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Who and which.
    #[command(flatten)]
    pub of: OneArgs,
    /// Take the source, what is mounted below it, and a local target for right as they are now
    #[arg(long, conflicts_with = "accept_deletions")]
    pub accept_source: bool,
    /// Make the deletions, once, that `maxDelete` holds; what is paused stays so
    #[arg(long)]
    pub accept_deletions: bool,
}

/// Arguments of what lists something.
pub type ListArgs = OneArgs;

/// Arguments of `sersync status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// Which.
    #[command(flatten)]
    pub one: OneRemote,
    /// Show it again whenever it changes
    #[arg(long, short)]
    pub watch: bool,
}

/// Arguments of `sersync resync` and `sersync verify`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// Which.
    #[command(flatten)]
    pub one: OneRemote,
    /// Only this path in a source, and what is below it
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// Do not wait for the end
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `sersync flush`.
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
    /// Wait no longer than this
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// Arguments of `sersync log-level`.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// emerg, alert, crit, err, warning, notice, info or debug; left out, the level is shown
    pub level: Option<String>,
    /// Who.
    #[command(flatten)]
    pub whom: Whom,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "give a number of seconds above 0".into())
}

/// Carries out `command`.
#[must_use]
pub fn run(command: &ControlCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(command)),
        Err(error) => Err(Failure::Failed(format!("failed to start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            super::complain(&failure.message());
            ExitCode::from(failure.code())
        }
    }
}

async fn carry_out(command: &ControlCommand) -> Result<(), Failure> {
    let out = &mut Output::new();
    match command {
        ControlCommand::Status(args) => status::run(args, out).await,
        ControlCommand::Pause(args) => act::pause(args, out).await,
        ControlCommand::Resume(args) => act::resume(args, out).await,
        ControlCommand::Resync(args) => compare::resync(args, out).await,
        ControlCommand::Flush(args) => act::flush(args, out).await,
        ControlCommand::Failed(args) => failed::run(args, out).await,
        ControlCommand::Retry(args) => act::retry(args, out).await,
        ControlCommand::Verify(args) => compare::verify(args, out).await,
        ControlCommand::Reload(whom) => act::reload(whom, out).await,
        ControlCommand::LogLevel(args) => act::log_level(args, out).await,
    }
}
