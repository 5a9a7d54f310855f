//! The old face: called as `sersync2`, the program takes the options of the original and does what they meant.
//!
//! It says in a line or two what it does, on standard output, and then is `sersync run`: here, or with `-d` in a
//! transient service of systemd. Only `-d` needs a bus.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod arguments;
mod service;

use arguments::{Arguments, Asked, parse};

use super::{HowArgs, RunArgs, YesNo, complain, exit};
use crate::config::{ConfigError, PluginKind};
use crate::daemon;

/// There is one as soon as systemd is what runs the machine; see sd_booted(3).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

const HELP: &str = "\
usage: sersync2 [-r] [-d] [-n N] [-o FILE] [-m PLUGIN]

  -r         push everything before following the changes
  -d         run as a service of systemd, sersync2-NAME.service, NAME being that of the file
  -n N       at most N rsync processes at once (10)
  -o FILE    the configuration (confxml.xml in the current directory)
  -m PLUGIN  only this plugin and no rsync: command, socket, http or refreshCDN
  -h         this text

This is the command line of sersync2, kept for scripts that use it. `sersync --help` shows all that there is now.";

/// Whether the program was called by its old name, and not by the service that `-d` makes: that has the name, so that
/// `killall sersync2` and `ps | grep sersync2` find it, and a command in front, which the original would pass over.
#[must_use]
pub fn is_called(program: &OsStr, first_word: Option<&OsStr>) -> bool {
    let name = Path::new(program).file_name();
    let is_of_the_service =
        first_word.is_some_and(|word| service::COMMANDS.iter().any(|command| word == *command));
    name.is_some_and(|name| name == "sersync2") && !is_of_the_service
}

/// Does what the words after the program's name say. `program` is how it was called.
#[must_use]
pub fn run(program: &OsStr, words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match parse(words) {
        Ok(Asked::Run(arguments)) => arguments,
        Ok(Asked::Help) => {
            say_plainly(HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Version) => {
            say_plainly(concat!("sersync2 ", env!("CARGO_PKG_VERSION")));
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            complain(&format!("sersync2: {message}\n\n{HELP}"));
            return ExitCode::from(exit::USAGE);
        }
    };
    for word in &arguments.ignored {
        complain(&format!("sersync2: `{}` is passed over", word.display()));
    }
    let config = match std::path::absolute(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            complain(&format!(
                "sersync2: failed to find out where you are: {error}"
            ));
            return ExitCode::from(exit::FAILED);
        }
    };
    say_what_is_done(&arguments, &config);
    if !arguments.daemon {
        return in_the_foreground(&arguments, config);
    }
    if !Path::new(SYSTEMD_RUNS).exists() {
        complain(
            "sersync2: -d has no systemd here that could run a service, so this stays in the foreground; \
             leave out -d and let your service manager run it, or write `nohup sersync2 … &`",
        );
        return in_the_foreground(&arguments, config);
    }
    match check(&config, arguments.plugin) {
        Ok(()) => service::start(program, &arguments, &config),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(exit::CONFIG)
        }
    }
}

fn in_the_foreground(arguments: &Arguments, config: PathBuf) -> ExitCode {
    super::run::run(&RunArgs {
        instance: None,
        config: Some(config),
        only_plugin: arguments.plugin,
        name: None,
        how: HowArgs {
            initial: if arguments.first_push {
                YesNo::Yes
            } else {
                YesNo::No
            },
            processes: arguments.processes,
            confine: YesNo::Yes,
            bus: None,
            state_dir: None,
            accept_source: false,
        },
    })
}

/// What a service would refuse is better said here than in its journal.
fn check(config: &Path, plugin: Option<PluginKind>) -> Result<(), ConfigError> {
    let (_, warnings) = daemon::load(config, plugin)?;
    for warning in warnings {
        complain(&warning.to_string());
    }
    Ok(())
}

fn say_what_is_done(arguments: &Arguments, config: &Path) {
    if let Some(kind) = arguments.plugin {
        let (config, plugin) = (config.display(), kind.name());
        return say(&format!(
            "{config}, only its plugin `{plugin}`: it is told of every change, and nothing is sent"
        ));
    }
    let Arguments {
        first_push,
        processes,
        ..
    } = arguments;
    say(&format!(
        "{}, at most {processes} rsync processes at once",
        config.display()
    ));
    say(if *first_push {
        "everything is pushed first, then the changes are followed"
    } else {
        "without -r nothing is pushed first: what differs now, or changes while it does not run, stays so until it changes again"
    });
}

fn say(sentence: &str) {
    say_plainly(&format!("sersync2: {sentence}"));
}

/// Nobody is left to be told if standard output is closed.
fn say_plainly(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called_by(program: &str, first_word: Option<&str>) -> bool {
        is_called(OsStr::new(program), first_word.map(OsStr::new))
    }

    #[test]
    fn it_is_known_by_the_last_part_of_its_name() {
        for name in ["sersync2", "./sersync2", "/usr/local/bin/sersync2"] {
            assert!(is_called_by(name, None), "{name}");
        }
        for name in ["sersync", "/opt/sersync2/sersync", "sersync2.old", ""] {
            assert!(!is_called_by(name, None), "{name}");
        }
    }

    #[test]
    fn what_its_service_runs_is_no_call_of_old() {
        for word in ["run", "reload"] {
            assert!(!is_called_by("/usr/bin/sersync2", Some(word)), "{word}");
        }
        for word in ["-rdo", "-d", "start", "run.xml", ""] {
            assert!(is_called_by("/usr/bin/sersync2", Some(word)), "{word}");
        }
    }
}
