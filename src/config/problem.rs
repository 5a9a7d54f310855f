//! What is wrong in a configuration: one [`Problem`] each, all of them together in a [`ConfigError`].
//!
//! The reader and the checks put their findings into [`Problems`] by byte offset and go on, so that one run of
//! `sersync check` shows everything; lines and columns are counted once at the end.

use std::fmt;
use std::path::{Path, PathBuf};

use super::escape::Escaped;

/// Whether the configuration can be used in spite of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but something in it has no effect or is a risk.
    Warning,
    /// It can, and something in it is done otherwise than the original did it.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A place in a file as an editor shows it: both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line of the file.
    pub line: usize,
    /// Character of the line.
    pub column: usize,
}

/// One thing that is wrong or risky: where, what, and what to write instead.
///
/// Displayed as `FILE:LINE:COLUMN: error: TEXT`, with as much of the place as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file; `None` for a command line.
    pub file: Option<PathBuf>,
    /// Where in the file; `None` if the problem is the file itself.
    pub position: Option<Position>,
    /// Error, warning or note.
    pub severity: Severity,
    /// One line, without a full stop.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", Escaped::path(file))?;
            if let Some(Position { line, column }) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity, self.text)
    }
}

/// A configuration that cannot be used. Displayed as one problem a line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Every problem, warnings included, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for problem in &self.problems {
            write!(f, "{separator}{problem}")?;
            separator = "\n";
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A byte offset in the text of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(pub(super) usize);

/// What a finding means for the use of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Note,
}

/// Collects findings while a configuration is read.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    file: Option<&'t Path>,
    text: &'t str,
    found: Vec<(At, Kind, String)>,
    switched_off: bool,
}

impl<'t> Problems<'t> {
    /// For the file `file` with the content `text`.
    pub(super) fn in_file(file: &'t Path, text: &'t str) -> Self {
        Self {
            file: Some(file),
            text,
            found: Vec::new(),
            switched_off: false,
        }
    }

    /// For a command line, where offsets mean nothing.
    pub(super) fn in_command_line() -> Problems<'static> {
        Problems {
            file: None,
            text: "",
            found: Vec::new(),
            switched_off: false,
        }
    }

    pub(super) fn error(&mut self, at: At, text: impl Into<String>) {
        let kind = if self.switched_off {
            Kind::Warning
        } else {
            Kind::Error
        };
        self.found.push((at, kind, text.into()));
    }

    pub(super) fn warning(&mut self, at: At, text: impl Into<String>) {
        self.found.push((at, Kind::Warning, text.into()));
    }

    /// As it should be, but not as the original did it.
    pub(super) fn note(&mut self, at: At, text: impl Into<String>) {
        self.found.push((at, Kind::Note, text.into()));
    }

    /// Runs `check` over an element that is `on` or off. What is off cannot stop anybody: its errors become warnings.
    pub(super) fn check_if_on<T>(&mut self, on: bool, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.switched_off;
        self.switched_off |= !on;
        let result = check(self);
        self.switched_off = before;
        result
    }

    pub(super) fn is_switched_off(&self) -> bool {
        self.switched_off
    }

    /// Where a place in the text is, as an editor shows it.
    pub(super) fn position(&self, at: At) -> Position {
        Cursor::new(self.text).advance_to(at)
    }

    /// Takes the findings apart, each list in the order of the file.
    pub(super) fn finish(self) -> Findings {
        let Self {
            file,
            text,
            mut found,
            ..
        } = self;
        found.sort_by_key(|(at, ..)| *at);
        let mut findings = Findings::default();
        let mut cursor = Cursor::new(text);
        for (at, kind, text) in found {
            let problem = Problem {
                file: file.map(Path::to_path_buf),
                position: file.map(|_| cursor.advance_to(at)),
                severity: match kind {
                    Kind::Warning => Severity::Warning,
                    Kind::Note => Severity::Note,
                    Kind::Error => Severity::Error,
                },
                text,
            };
            match kind {
                Kind::Note => findings.notes.push(problem),
                Kind::Error | Kind::Warning => {
                    findings.has_errors |= kind == Kind::Error;
                    findings.problems.push(problem);
                }
            }
        }
        findings
    }
}

/// What [`Problems`] held.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Errors and warnings.
    pub(super) problems: Vec<Problem>,
    /// Whether an error is among them.
    pub(super) has_errors: bool,
    /// What the original did otherwise.
    pub(super) notes: Vec<Problem>,
}

/// Counts lines and columns in one pass over the text.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    rest: std::str::CharIndices<'t>,
    end: usize,
    next: Position,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: text.char_indices(),
            end: text.len(),
            next: Position { line: 1, column: 1 },
        }
    }

    /// The position of `at`, which must not lie before that of an earlier call.
    pub(super) fn advance_to(&mut self, at: At) -> Position {
        let target = at.0.min(self.end);
        while self.rest.offset() < target {
            match self.rest.next() {
                Some((_, '\n')) => {
                    self.next.line += 1;
                    self.next.column = 1;
                }
                Some(_) => self.next.column += 1,
                None => break,
            }
        }
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_not_bytes() {
        let text = "ab\n图片x\n";
        let mut cursor = Cursor::new(text);
        assert_eq!(cursor.advance_to(At(0)), Position { line: 1, column: 1 });
        assert_eq!(cursor.advance_to(At(9)), Position { line: 2, column: 3 });
        assert_eq!(cursor.advance_to(At(999)), Position { line: 3, column: 1 });
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_warnings_alone_are_no_error() {
        let mut problems = Problems::in_file(Path::new("f.xml"), "a\nb\nc");
        problems.warning(At(4), "third");
        problems.check_if_on(false, |problems| problems.error(At(2), "second"));
        let findings = problems.finish();
        assert!(!findings.has_errors);
        let shown: Vec<_> = findings.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            shown,
            ["f.xml:2:1: warning: second", "f.xml:3:1: warning: third"]
        );
    }

    #[test]
    fn a_problem_of_a_command_line_has_no_place() {
        let mut problems = Problems::in_command_line();
        problems.error(At(0), "no target");
        let findings = problems.finish();
        assert_eq!(findings.problems[0].to_string(), "error: no target");
    }
}
