//! What of some directories is mirrored, by our own walk: no rule of rsync's says of every name what a filter says of
//! it, so with a filter rsync is given the names instead of walking itself.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, OFlags};

use crate::filter::{Filter, Kind};
use crate::path::{Identity, LONGEST_LISTED, RelPath, SourceRoot, look};

/// See the module.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// Every entry to be sent, the directories themselves included.
    pub entries: Vec<RelPath>,
    /// Those to be sent only as long as they are no directories.
    pub delicate: Vec<RelPath>,
    /// Directories to be sent only as long as they are.
    pub directories: Vec<RelPath>,
    /// The topmost entries that are excluded.
    pub excluded: Vec<(RelPath, Kind)>,
    /// Entries that are excluded since they are no directories.
    pub hidden: Vec<RelPath>,
    /// Longer than rsync can take.
    pub too_long: Vec<RelPath>,
    /// Gone, or no directories any more, when they were to be read.
    pub vanished: Vec<RelPath>,
    /// Could not be read.
    pub failed: Vec<(RelPath, io::Error)>,
    /// The directories that were read, in order, as they were.
    read: Vec<(RelPath, Identity)>,
}

impl Mirrored {
    /// Walks some directories, none of which is excluded. Blocks on the file system. With `one_file_system` a mount
    /// point is an entry like any, but nothing below it.
    #[must_use]
    pub fn below(
        root: &SourceRoot,
        directories: &[RelPath],
        filter: &Filter,
        one_file_system: bool,
    ) -> Self {
        let mut found = Self::default();
        let mut pending = directories.to_vec();
        while let Some(dir) = pending.pop() {
            match found.read(root, &dir, filter, one_file_system, &mut pending) {
                Ok(()) => found.push_directory(dir, filter),
                Err(error) if super::is_not_a_directory(&error) => found.vanished.push(dir),
                Err(error) => {
                    // Its own attributes can be sent all the same.
                    found.push_directory(dir.clone(), filter);
                    found.failed.push((dir, error));
                }
            }
        }
        found.read.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    fn push_directory(&mut self, dir: RelPath, filter: &Filter) {
        if filter.excludes(&dir, Kind::Other) {
            self.directories.push(dir);
        } else {
            self.entries.push(dir);
        }
    }

    fn read(
        &mut self,
        root: &SourceRoot,
        dir: &RelPath,
        filter: &Filter,
        one_file_system: bool,
        pending: &mut Vec<RelPath>,
    ) -> io::Result<()> {
        let fd = root.open_dir(dir, OFlags::RDONLY)?;
        let identity = Identity::of(&rustix::fs::fstat(&fd)?);
        self.read.push((dir.clone(), identity));
        if one_file_system && identity.device != root.identity().device {
            return Ok(());
        }
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Some(is_directory) = is_directory(&fd, name, entry.file_type()) else {
                continue;
            };
            let path = dir.join(name);
            let kind = Kind::directory_if(is_directory);
            if filter.excludes(&path, kind) {
                if is_directory || filter.excludes(&path, Kind::Directory) {
                    self.excluded.push((path, kind));
                } else {
                    self.hidden.push(path);
                }
            } else if path.as_bytes().len() > LONGEST_LISTED {
                self.too_long.push(path);
            } else if is_directory {
                pending.push(path);
            } else if filter.excludes(&path, Kind::Directory) {
                self.delicate.push(path);
            } else {
                self.entries.push(path);
            }
        }
        Ok(())
    }

    /// Whether this is a directory that was read.
    #[must_use]
    pub fn holds(&self, dir: &RelPath) -> bool {
        self.read
            .binary_search_by(|(read, _)| read.cmp(dir))
            .is_ok()
    }

    /// The directories that are not what they were when they were read.
    #[must_use]
    pub fn changed(&self, root: &SourceRoot) -> Vec<RelPath> {
        let is_same = |dir: &RelPath, was: &Identity| {
            root.open_dir(dir, OFlags::PATH)
                .and_then(|fd| Ok(rustix::fs::fstat(&fd)?))
                .is_ok_and(|stat| Identity::of(&stat) == *was)
        };
        let changed = self.read.iter().filter(|(dir, was)| !is_same(dir, was));
        changed.map(|(dir, _)| dir.clone()).collect()
    }
}

/// Those of some names, in order, under which the source has something that is mirrored. Blocks on the file system.
#[must_use]
pub fn uncovered(root: &SourceRoot, names: &[RelPath], filter: Option<&Filter>) -> Vec<RelPath> {
    let mut there = super::present(root, names);
    if let Some(filter) = filter {
        let is_directory = |path: &RelPath| root.open_dir(path, OFlags::PATH).is_ok();
        there.retain(|path| !filter.excludes(path, Kind::directory_if(is_directory(path))));
    }
    there
}

/// `None` if it is gone by now.
fn is_directory(dir: &OwnedFd, name: &[u8], kind: FileType) -> Option<bool> {
    let kind = match kind {
        FileType::Unknown => FileType::from_raw_mode(look(dir.as_fd(), name).ok()?.st_mode),
        kind => kind,
    };
    Some(kind == FileType::Directory)
}
