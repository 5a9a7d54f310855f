//! Where what is deleted or replaced at a remote is kept: rsync's `--backup-dir`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::quote;
use super::target::Target;
use super::values::{absolute_path, refuse_control_characters};
use crate::path::RelPath;

/// A directory at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backup {
    /// In the target itself, an entry of its root. Runs leave it alone: what the source has under that name is not mirrored.
    Inside(RelPath),
    /// Beside it, absolute; not with an rsync daemon, which shows nothing but its module.
    Beside(PathBuf),
}

impl Backup {
    /// The error is the rest of a sentence that begins with the name of the attribute.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        refuse_control_characters(text)?;
        if text.starts_with('/') {
            return Ok(Self::Beside(absolute_path(Path::new(text))?));
        }
        match RelPath::new(text.trim_end_matches('/').as_bytes()) {
            // Below another directory it would go with that.
            Some(name) if name.depth() == 1 => Ok(Self::Inside(name)),
            _ => Err(format!(
                "must be a single name, such as `.replaced`, or an absolute path, not {}",
                quote(text)
            )),
        }
    }

    /// As rsync takes it: a relative one counts from the target, but for the `rrsync` of a receiver over ssh from the
    /// directory that it is allowed.
    #[must_use]
    pub fn as_option(&self, target: &Target) -> OsString {
        let mut option = OsString::from("--backup-dir=");
        match (self, target) {
            (Self::Inside(name), Target::Ssh { path, .. }) => {
                option.push(path.join(name.as_path()));
            }
            (Self::Inside(name), _) => option.push(name.as_path()),
            (Self::Beside(path), _) => option.push(path),
        }
        option
    }

    /// What runs must leave alone in the target.
    #[must_use]
    pub fn inside(&self) -> Option<&RelPath> {
        match self {
            Self::Inside(path) => Some(path),
            Self::Beside(_) => None,
        }
    }

    /// The directory, if it is outside of the target.
    #[must_use]
    pub fn beside(&self) -> Option<&Path> {
        match self {
            Self::Inside(_) => None,
            Self::Beside(path) => Some(path),
        }
    }

    /// The directory as if it were a target like `target`, to find out what lies in what; `Err` says why it cannot be
    /// there.
    pub(super) fn place(&self, target: &Target) -> Result<Option<Target>, &'static str> {
        let Self::Beside(dir) = self else {
            return Ok(None);
        };
        let path = dir.clone();
        match target {
            Target::Daemon { .. } => {
                Err("must not begin with `/` for an rsync daemon: it is a directory in the module")
            }
            Target::Local { .. } => Ok(Some(Target::Local { path })),
            Target::Ssh {
                host,
                port,
                user,
                options,
                ..
            } => Ok(Some(Target::Ssh {
                host: host.clone(),
                path,
                port: *port,
                user: user.clone(),
                options: options.clone(),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(text: &str) -> Option<String> {
        match Backup::parse(text) {
            Ok(Backup::Inside(path)) => Some(path.to_string()),
            _ => None,
        }
    }

    #[test]
    fn a_relative_directory_is_in_the_target_and_an_absolute_one_beside_it() {
        assert_eq!(inside(".replaced"), Some(".replaced".to_owned()));
        assert_eq!(inside("old/"), Some("old".to_owned()));
        let beside = Backup::parse("/old/x/");
        assert_eq!(beside, Ok(Backup::Beside("/old/x".into())));
    }

    #[test]
    fn a_directory_that_escapes_or_is_the_target_itself_is_refused() {
        for text in ["", ".", "..", "../x", "a/../b", "./a", "a/b", "a\nb"] {
            assert!(Backup::parse(text).is_err(), "{text:?}");
        }
    }
}
