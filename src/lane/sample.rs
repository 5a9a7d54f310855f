//! Some files of a tree, to learn by them whether a receiver keeps the fractions of a second in times.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType, OFlags};

use crate::path::{RelPath, SourceRoot, look};

/// Enough that a file or two that really differ do not matter.
const FILES: usize = 32;
/// That so many were put in place within the second of those before them is another matter.
const ENOUGH: u64 = 4;
/// At the most this many entries are looked at: some milliseconds.
const ENTRIES: usize = 2000;
/// A file changed later may be on its way.
const AT_REST: Duration = Duration::from_secs(5);

/// Regular files of a source whose times have fractions, none of them below these directories, which have just changed.
/// Blocks on the file system.
pub fn files(root: &SourceRoot, changed: &[RelPath]) -> Vec<RelPath> {
    let latest = SystemTime::now()
        .checked_sub(AT_REST)
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |at| at.as_secs().cast_signed());
    let mut pending = VecDeque::from([RelPath::root()]);
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some(dir) = pending.pop_front() {
        let Ok(fd) = root.open_dir(&dir, OFlags::RDONLY) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&fd) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            looked_at += 1;
            if found.len() == FILES || looked_at > ENTRIES {
                return found;
            }
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Ok(stat) = look(fd.as_fd(), name) else {
                continue;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below = dir.join(name);
                    if !changed.contains(&below) {
                        pending.push_back(below);
                    }
                }
                FileType::RegularFile if stat.st_mtime_nsec != 0 && stat.st_mtime < latest => {
                    found.push(dir.join(name));
                }
                _ => {}
            }
        }
    }
    found
}

/// A receiver that cuts fractions off has no file that is equal by them. That some are not says nothing: they may be
/// others of the same second. `None` if there is too little to tell by.
pub fn verdict(equal_by_seconds: u64, equal_by_fractions: u64) -> Option<bool> {
    match (equal_by_fractions, equal_by_seconds) {
        (1.., _) => Some(true),
        (0, ENOUGH..) => Some(false),
        (0, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_cuts_fractions_off_is_told_by_the_files_that_are_equal_but_for_them() {
        assert_eq!(verdict(0, 0), None, "an empty replica says nothing");
        assert_eq!(verdict(30, 0), Some(false));
        assert_eq!(verdict(3, 0), None, "they may be others");
        assert_eq!(verdict(30, 1), Some(true), "it keeps those of one");
        assert_eq!(
            verdict(30, 29),
            Some(true),
            "one was written twice in a second"
        );
    }
}
