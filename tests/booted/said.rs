//! What a command has said.

use std::fmt;
use std::process::Command;

/// The end of a command and its output, which is shown whole when something is not as it should be.
#[derive(Debug, Clone)]
pub struct Said {
    /// The command as it was given.
    pub command: String,
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Runs `command` to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let shown = shown(command);
        match command.output() {
            Ok(output) => Self {
                command: shown,
                code: output.status.code().unwrap_or(-1),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => panic!("{shown}: {error}"),
        }
    }

    /// What it printed; fails unless it ended with 0.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// Fails if it ended with 0.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert_ne!(self.code, 0, "must not succeed: {self}");
        self
    }

    /// Whether one of its outputs has this in it.
    pub fn says(&self, words: &str) -> bool {
        self.stdout.contains(words) || self.stderr.contains(words)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stdout, stderr) = (self.stdout.trim_end(), self.stderr.trim_end());
        write!(f, "`{}` ended with {}", self.command, self.code)?;
        for (name, text) in [("output", stdout), ("errors", stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- its {name}\n{text}")?;
            }
        }
        Ok(())
    }
}

/// The command without the way into the machine.
fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let inside = words
        .iter()
        .position(|word| word.starts_with("--kill-after"))
        .map_or(0, |at| at + 2);
    words[inside..].join(" ")
}
