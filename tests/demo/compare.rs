//! Whether a replica is equal to its source: path by path while changes arrive, and as a whole at the end.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is awaited at the receiver for a list of paths.
#[derive(Clone, Copy)]
pub enum Expected {
    /// The entry is as at the source.
    Alike,
    /// The entry is gone.
    Gone,
}

/// Changed paths that have not all reached the replica yet.
///
/// They are looked at in order, and what has arrived is never looked at again: watching thousands of files costs the
/// machine about one `stat` each, not one per poll.
pub struct Awaited<'a> {
    source: &'a Path,
    replica: &'a Path,
    paths: &'a [PathBuf],
    expected: Expected,
    arrived: usize,
}

impl<'a> Awaited<'a> {
    /// Awaits `paths`, relative to both trees.
    pub fn new(
        source: &'a Path,
        replica: &'a Path,
        paths: &'a [PathBuf],
        expected: Expected,
    ) -> Self {
        Self {
            source,
            replica,
            paths,
            expected,
            arrived: 0,
        }
    }

    /// Whether all have arrived, as far as names, sizes and times tell.
    pub fn have_arrived(&mut self) -> bool {
        while let Some(path) = self.paths.get(self.arrived) {
            let replica = self.replica.join(path);
            let is_here = match self.expected {
                Expected::Alike => are_alike(&self.source.join(path), &replica),
                Expected::Gone => fs::symlink_metadata(&replica)
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
            };
            if !is_here {
                return false;
            }
            self.arrived += 1;
        }
        true
    }
}

/// Whether two entries are of one kind, mode, size and modification time (directories: kind and mode).
///
/// Times count in whole seconds, as rsync compares them unless told otherwise: after a file was written while it was
/// being sent, only the fraction may differ, and a plain rsync never mends that.
pub fn are_alike(source: &Path, replica: &Path) -> bool {
    let (Ok(source), Ok(replica)) = (fs::symlink_metadata(source), fs::symlink_metadata(replica))
    else {
        return false;
    };
    source.mode() == replica.mode()
        && (source.is_dir() || source.len() == replica.len() && source.mtime() == replica.mtime())
}

/// Compares two whole trees, contents and link targets included; gives the first path that differs.
pub fn first_difference(source: &Path, replica: &Path) -> io::Result<Option<PathBuf>> {
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let names = sorted_names(&source.join(&directory))?;
        if names != sorted_names(&replica.join(&directory)).unwrap_or_default() {
            return Ok(Some(directory));
        }
        for name in names {
            let path = directory.join(name);
            let (here, there) = (source.join(&path), replica.join(&path));
            if !are_alike(&here, &there) {
                return Ok(Some(path));
            }
            let kind = fs::symlink_metadata(&here)?.file_type();
            // What the mirror replaces or removes at this very moment is a difference, not an error.
            let is_equal = if kind.is_dir() {
                directories.push(path.clone());
                true
            } else if kind.is_symlink() {
                fs::read_link(&there).is_ok_and(|target| fs::read_link(&here).ok() == Some(target))
            } else if kind.is_file() {
                fs::read(&there).is_ok_and(|content| fs::read(&here).ok() == Some(content))
            } else {
                true
            };
            if !is_equal {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

fn sorted_names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}
