//! `sersync completions`: what a shell needs to complete our command lines.

use std::any::TypeId;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::builder::ValueHint;
use clap::{Arg, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::{Cli, complain, exit};

/// The shells that there are completions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletionShell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl From<CompletionShell> for Shell {
    fn from(shell: CompletionShell) -> Self {
        match shell {
            CompletionShell::Bash => Self::Bash,
            CompletionShell::Zsh => Self::Zsh,
            CompletionShell::Fish => Self::Fish,
        }
    }
}

/// Prints the completions for `shell`.
#[must_use]
pub fn run(shell: CompletionShell) -> ExitCode {
    let mut command =
        Cli::command().mut_subcommands(|subcommand| subcommand.mut_args(without_files));
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(Shell::from(shell), &mut command, "sersync", &mut script);
    if shell == CompletionShell::Fish {
        script.extend(fish_positionals(&command).into_bytes());
    }
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("failed to write the completions: {error}"));
            ExitCode::from(exit::FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// A shell offers files where it knows nothing better: not for a name, a number or a bus.
fn without_files(arg: Arg) -> Arg {
    let is_a_flag = !arg.get_action().takes_values();
    let may_be_a_file = arg.get_value_parser().type_id() == TypeId::of::<OsString>();
    match arg.get_value_hint() {
        ValueHint::Unknown if !is_a_flag && !may_be_a_file => arg.value_hint(ValueHint::Other),
        _ => arg,
    }
}

/// The generator for fish leaves out what is no option.
fn fish_positionals(command: &Command) -> String {
    let mut script = String::new();
    for subcommand in command.get_subcommands() {
        let mut positionals = subcommand.get_positionals();
        if positionals.all(|arg| arg.get_value_hint() == ValueHint::Other) {
            let values: Vec<String> = subcommand
                .get_positionals()
                .flat_map(Arg::get_possible_values)
                .map(|value| value.get_name().to_owned())
                .collect();
            let _ = writeln!(
                script,
                "complete -c sersync -n \"__fish_sersync_using_subcommand {}\" -f -a \"{}\"",
                subcommand.get_name(),
                values.join(" ")
            );
        }
    }
    script
}
