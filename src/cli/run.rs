//! `sersync run` and `sersync mirror`: a validated configuration, a log, a runtime, the daemon.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tracing::{error, warn};

use super::{HowArgs, RunArgs, YesNo, exit, instance_file};
use crate::config::{Config, Loaded};
use crate::{daemon, journal};

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
    let (config, warnings) = match Config::load(&file).and_then(Loaded::into_runnable) {
        Ok(runnable) => runnable,
        Err(error) => return refuse(exit::CONFIG, &error.to_string()),
    };
    journal::start(config.debug);
    for warning in &warnings {
        warn!("{warning}");
    }
    serve(config, Some(&file), &args.how)
}

/// Mirrors a directory without a configuration file.
#[must_use]
pub fn mirror(source: &Path, targets: &[OsString], how: &HowArgs) -> ExitCode {
    let source = match std::path::absolute(source) {
        Ok(source) => source,
        Err(error) => {
            return refuse(
                exit::FAILED,
                &format!("failed to find out where you are: {error}"),
            );
        }
    };
    match Config::for_mirror(&source, targets) {
        Ok(config) => {
            journal::start(config.debug);
            serve(config, None, how)
        }
        Err(error) => refuse(exit::USAGE, &error.to_string()),
    }
}

fn refuse(code: u8, message: &str) -> ExitCode {
    journal::start(false);
    error!("{message}");
    ExitCode::from(code)
}

fn serve(config: Config, file: Option<&Path>, how: &HowArgs) -> ExitCode {
    if how.bus != "none" {
        warn!(
            "this version is not on D-Bus yet: --bus {} does nothing",
            how.bus
        );
    }
    let options = daemon::Options {
        config_file: file.map(PathBuf::from),
        children: how.processes.into(),
        initial_push: how.initial == YesNo::Yes,
    };
    // One thread is plenty for moving lists about; what blocks on the disk has threads of its own, which end when idle.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(5))
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(daemon::run(config, options)),
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

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
