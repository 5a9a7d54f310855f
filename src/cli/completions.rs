//! `sersync completions`: what a shell needs to complete our command lines.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, ValueEnum};
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
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(
        Shell::from(shell),
        &mut Cli::command(),
        "sersync",
        &mut script,
    );
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("failed to write the completions: {error}"));
            ExitCode::from(exit::FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}
