//! How a run ended, in plain values.

use std::fmt;
use std::io;
use std::ops::AddAssign;
use std::time::Duration;

/// How a child ended.
#[derive(Debug)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It never ran.
    NotStarted(io::Error),
    /// It waited for somebody to write into a pipe that had been a file when its list was made, and was ended.
    Stuck,
    /// It did nothing any more, and was ended.
    Hung,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "rsync exited with {code}"),
            Self::Signal(signal) => write!(f, "rsync was ended by signal {signal}"),
            Self::NotStarted(error) => write!(f, "rsync could not be started: {error}"),
            Self::Stuck => f.write_str("rsync was stuck in a pipe that had been a file"),
            Self::Hung => f.write_str("rsync hung and was ended"),
        }
    }
}

impl Exit {
    /// The exit code, or -1 where there is none.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(_) | Self::NotStarted(_) | Self::Stuck | Self::Hung => -1,
        }
    }
}

/// What rsync counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of the source that were in the transfer.
    pub listed: u64,
    /// Regular files whose content was transferred.
    pub files_sent: u64,
    /// What these files weigh.
    pub transferred_size: u64,
    /// Bytes written to the connection.
    pub bytes_sent: u64,
    /// Entries made at the receiver, whatever they are.
    pub made: u64,
    /// Those of them that are regular files.
    pub files_made: u64,
    /// Entries removed at the receiver.
    pub deleted: u64,
}

impl AddAssign for Stats {
    /// Of two runs of the same list; `listed` is no sum then.
    fn add_assign(&mut self, other: Self) {
        self.files_sent += other.files_sent;
        self.transferred_size += other.transferred_size;
        self.bytes_sent += other.bytes_sent;
        self.made += other.made;
        self.files_made += other.files_made;
        self.deleted += other.deleted;
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// Its messages.
    pub stderr: Vec<u8>,
    /// Whether it said more than is kept.
    pub stderr_cut: bool,
    /// Whether it removed nothing, for an error elsewhere in the list.
    pub deletions_skipped: bool,
    /// Its counters; zero where it did not get so far.
    pub stats: Stats,
    /// From the list to the end.
    pub took: Duration,
}

impl Stats {
    /// What `--stats` printed, at the end of standard output.
    #[must_use]
    pub fn read(stdout: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stdout);
        let line = |label: &str| text.lines().rev().find_map(|line| line.strip_prefix(label));
        let first = |line: &str| {
            let digits = line.trim().split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let number = |label: &str| line(label).and_then(first);
        let made = "Number of created files:";
        Self {
            listed: number("Number of files:").unwrap_or(0),
            made: number(made).unwrap_or(0),
            files_made: line(made)
                .and_then(|line| line.split_once("(reg:"))
                .and_then(|(_, kinds)| first(kinds))
                .unwrap_or(0),
            files_sent: number("Number of regular files transferred:").unwrap_or(0),
            transferred_size: number("Total transferred file size:").unwrap_or(0),
            bytes_sent: number("Total bytes sent:").unwrap_or(0),
            deleted: number("Number of deleted files:").unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_the_end_of_the_output() {
        let out = b"Number of files: 20 (reg: 12, dir: 8)\nNumber of created files: 5 (reg: 1, dir: 3, link: 1)\nNumber of deleted files: 3 (reg: 2, dir: 1)\nNumber of regular files transferred: 12\nTotal transferred file size: 2048 bytes\nTotal bytes sent: 3456\n";
        assert_eq!(
            Stats::read(out),
            Stats {
                listed: 20,
                files_sent: 12,
                transferred_size: 2048,
                bytes_sent: 3456,
                made: 5,
                files_made: 1,
                deleted: 3
            }
        );
        assert_eq!(Stats::read(b""), Stats::default());
    }
}
