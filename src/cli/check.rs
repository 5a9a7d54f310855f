//! `sersync check`: everything that is wrong with a configuration file, or what it would do.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::exit;
use crate::config::Config;

/// Checks `file`: problems go to standard error, one line each; if it can be run, what it mirrors goes to standard
/// output, one line for each target. Exit status 0 or 78.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    // A reader that has gone away (`sersync check FILE | head -1`) changes nothing about the answer.
    let mut stdout = io::stdout().lock();
    let mut stderr = io::stderr().lock();
    let checked = Config::load(file).and_then(|loaded| {
        for warning in &loaded.warnings {
            let _ = writeln!(stderr, "{warning}");
        }
        loaded.into_runnable()
    });
    match checked {
        Ok((config, _)) => {
            for mirror in &config.mirrors {
                for remote in &mirror.remotes {
                    let _ = writeln!(stdout, "{} -> {}", mirror.display_source(), remote.target);
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr, "{error}");
            ExitCode::from(exit::CONFIG)
        }
    }
}
