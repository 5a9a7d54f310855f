//! The `sersync` program: arguments in, exit code out.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use sersync::cli::{self, Cli, Command};

fn main() -> ExitCode {
    let mut words = std::env::args_os().peekable();
    let program = words.next().unwrap_or_default();
    if cli::sersync2::is_called(&program, words.peek().map(OsString::as_os_str)) {
        return cli::sersync2::run(&program, words);
    }
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_answer = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nobody is left to be told if standard error is closed.
            let _ = error.print();
            return if is_answer {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(cli::exit::USAGE)
            };
        }
    };
    match arguments.command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check {
            config,
            mounts,
            path,
            plan,
        } => match (cli::config_file(&config), path) {
            (Ok(file), Some(path)) => cli::check::path(&file, &path),
            (Ok(file), None) if plan.plan => cli::check::plan::run(&file, &plan),
            (Ok(file), None) if mounts => cli::check::mounts(&file),
            (Ok(file), None) => cli::check::run(&file),
            (Err(message), _) => {
                cli::complain(&message);
                ExitCode::from(cli::exit::USAGE)
            }
        },
        Command::Mirror(args) => cli::run::mirror(&args),
        Command::Control(command) => cli::control::run(&command),
        Command::Completions { shell } => cli::completions::run(shell),
    }
}
