//! Which rsync this is: 3.1.0 is the first with `--delete-missing-args` and time stamps that fit the quick check.

use std::fmt;
use std::io;
use std::path::Path;

use tokio::process::Command;

/// The oldest rsync that the runs work with.
pub const OLDEST: Version = Version {
    major: 3,
    minor: 1,
    patch: 0,
};

/// A version of rsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Asks the program for its version.
///
/// # Errors
/// It cannot be started, or does not answer as rsync does.
pub async fn of(program: &Path) -> io::Result<Version> {
    let output = Command::new(program)
        .arg("--version")
        .env("LC_ALL", "C")
        .output()
        .await?;
    parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not tell its version as rsync does",
        )
    })
}

/// `rsync  version 3.2.7  protocol version 31`, in some builds with a `v` or a suffix such as `3.2.7pre1`.
fn parse(text: &str) -> Option<Version> {
    let (_, rest) = text.lines().next()?.split_once("rsync  version ")?;
    let mut numbers = rest
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    Some(Version {
        major: numbers.next()?,
        minor: numbers.next()?,
        patch: numbers.next().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let version = |text: &str| parse(&format!("rsync  version {text}  protocol version 31"));
        assert!(version("3.0.9").is_some_and(|version| version < OLDEST));
        assert!(version("v3.10.1").is_some_and(|version| version > OLDEST));
        assert_eq!(version("3.1.0pre1"), Some(OLDEST));
        assert_eq!(
            version("3.2.7+ds1").map(|version| version.to_string()),
            Some("3.2.7".into())
        );
        assert_eq!(parse("openrsync: protocol version 29"), None);
    }
}
