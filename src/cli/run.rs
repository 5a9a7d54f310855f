//! `sersync run` and `sersync mirror`: a validated configuration, a log, a runtime, the daemon.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tracing::{error, warn};

use super::{HowArgs, MirrorArgs, RunArgs, YesNo, exit, instance_file, instance_name};
use crate::config::{Config, PluginKind};
use crate::journal::Journal;
use crate::{daemon, journal, message_id};

/// The word for no bus at all.
const NO_BUS: &str = "none";
/// Work on a disk that goes on at the end is waited for so long.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Mirrors what a configuration file says.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    let file = match (&args.config, &args.instance) {
        (Some(file), _) => file.clone(),
        (None, Some(instance)) => match instance_file(instance) {
            Ok(file) => file,
            Err(message) => return refuse(exit::USAGE, &message),
        },
        (None, None) => return refuse(exit::USAGE, "give an instance or --config FILE"),
    };
    let (config, warnings) = match daemon::load(&file, args.only_plugin) {
        Ok(runnable) => runnable,
        Err(error) => {
            let _journal = journal::start(false);
            error!(MESSAGE_ID = message_id::CONFIGURATION_REJECTED, "{error}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    let journal = journal::start(config.debug);
    for warning in &warnings {
        warn!("{warning}");
    }
    let named = args.instance.as_ref().or(args.name.as_ref());
    let instance = named.cloned().unwrap_or_else(|| name_of(&file));
    let bus = if args.instance.is_some() {
        "system"
    } else {
        NO_BUS
    };
    let how = How {
        instance,
        file: Some(file),
        bus,
        plugins_only: args.only_plugin,
        args: &args.how,
    };
    serve(config, how, &journal)
}

/// Mirrors a directory without a configuration file.
#[must_use]
pub fn mirror(args: &MirrorArgs) -> ExitCode {
    let source = match std::path::absolute(&args.source) {
        Ok(source) => source,
        Err(error) => {
            let message = format!("failed to find out where you are: {error}");
            return refuse(exit::FAILED, &message);
        }
    };
    match Config::for_mirror(&source, &args.targets, args.password_file.as_deref()) {
        Ok(config) => {
            let journal = journal::start(config.debug);
            let named = args.instance.clone();
            let how = How {
                instance: named.unwrap_or_else(|| name_of(&source)),
                file: None,
                bus: NO_BUS,
                plugins_only: None,
                args: &args.how,
            };
            serve(config, how, &journal)
        }
        Err(error) => refuse(exit::USAGE, &error.to_string()),
    }
}

fn refuse(code: u8, message: &str) -> ExitCode {
    let _journal = journal::start(false);
    error!("{message}");
    ExitCode::from(code)
}

/// An instance needs a name on the bus: that of its file or directory if it will do.
pub(super) fn name_of(path: &Path) -> String {
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    instance_name(stem).unwrap_or_else(|_| "default".into())
}

struct How<'a> {
    instance: String,
    file: Option<PathBuf>,
    /// The bus, unless the arguments name another.
    bus: &'static str,
    plugins_only: Option<PluginKind>,
    args: &'a HowArgs,
}

fn serve(config: Config, how: How<'_>, journal: &Journal) -> ExitCode {
    let bus = match how.args.bus.as_deref().unwrap_or(how.bus) {
        NO_BUS => None,
        word => match word.parse() {
            Ok(bus) => Some(bus),
            Err(error) => {
                error!("{}", chain(&error));
                return ExitCode::from(exit::USAGE);
            }
        },
    };
    let options = daemon::Options {
        instance: how.instance,
        config_file: how
            .file
            .map(|file| std::path::absolute(&file).unwrap_or(file)),
        children: how.args.processes.into(),
        initial_push: how.args.initial == YesNo::Yes,
        confine: how.args.confine == YesNo::Yes,
        state_dir: how.args.state_dir.clone().or_else(state_dir_of_the_unit),
        accept_source: how.args.accept_source,
        plugins_only: how.plugins_only,
        bus,
        log: journal.control(),
    };
    // One thread is plenty for moving lists about; what blocks on the disk has threads of its own, which end when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(daemon::run(config, options));
            // A file system that does not answer keeps no process.
            runtime.shutdown_timeout(LEFT_BEHIND);
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", chain(&error));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// systemd makes the directories of `StateDirectory=`; the first is ours.
fn state_dir_of_the_unit() -> Option<PathBuf> {
    let dirs = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&dirs).find(|dir| dir.is_absolute())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
