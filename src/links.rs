//! The names of files that have several: a write through one name changes what all of them should hold.
//!
//! The kernel reports only the name that was used, so the others must be known. Looking at every file during the first
//! walk would cost a `stat` for each, for trees that mostly have no hard links. So the index starts empty, and a
//! changed file with more names than are known pays for a walk over the tree, which takes in all such files at once:
//! two walks a batch at the most, and none again for names that turned out to be outside the tree.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Dir, FileType, OFlags, Stat};

use crate::path::{Identity, RelPath, SourceRoot, look};

/// Names kept at the most: some 200 MB. Past it all are forgotten, and found again as they are needed.
const MOST_NAMES: usize = 1_000_000;

/// Shared by the lanes of one mirror.
#[derive(Debug, Default)]
pub struct LinkIndex {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<u64, BTreeSet<RelPath>>,
    /// The file each name stood for when it was last seen; kept when it no longer does, for the lanes that have yet to
    /// hear of it.
    inodes: HashMap<RelPath, u64>,
    /// Files with names that a walk did not find.
    partly_outside: HashMap<u64, Searched>,
    /// Files that a walk is to take in even if they have only one name left.
    wanted: BTreeSet<u64>,
    /// Those that a walk has looked for.
    searched: BTreeSet<u64>,
}

/// What a walk found of a file's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Searched {
    /// How many it has.
    all: usize,
    /// How many of them were found.
    found: usize,
    /// Whether a second walk found no more. The first may have missed a name that was on its way.
    twice: bool,
}

impl Searched {
    fn once(all: usize, found: usize) -> Self {
        Self {
            all,
            found,
            twice: false,
        }
    }

    fn twice(all: usize, found: usize) -> Self {
        Self {
            all,
            found,
            twice: true,
        }
    }
}

/// The other names of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OtherNames {
    /// Those that are known.
    pub names: Vec<RelPath>,
    /// Whether that is all there is below the root; otherwise ask again with a later batch.
    pub complete: bool,
}

impl LinkIndex {
    /// The other names of the file at `path`, as far as they are below the root. Blocks on the file system.
    ///
    /// `walked` is one batch's memory that the tree was walked for this: once a batch at the most.
    #[must_use]
    pub fn other_names(
        &self,
        root: &SourceRoot,
        path: &RelPath,
        stat: &Stat,
        walked: &mut bool,
    ) -> OtherNames {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.add(stat.st_ino, path.clone());
        let identity = Identity::of(stat);
        let all = usize::try_from(stat.st_nlink).unwrap_or(usize::MAX);
        let mut names = known.verified(root, identity);
        let mut complete = names.len() >= all
            || known.partly_outside.get(&stat.st_ino) == Some(&Searched::twice(all, names.len()));
        if !complete {
            if !std::mem::replace(walked, true) {
                known.walk(root);
            }
            names = known.verified(root, identity);
            complete = names.len() >= all;
        }
        if !complete {
            let once = Searched::once(all, names.len());
            complete = known.partly_outside.get(&stat.st_ino) == Some(&once);
            let now = if complete {
                Searched::twice(all, names.len())
            } else {
                once
            };
            known.partly_outside.insert(stat.st_ino, now);
        }
        names.retain(|name| name != path);
        OtherNames { names, complete }
    }

    /// The names of the file that `path` stood for before it was removed or given to another (`inode` now): what was
    /// written through it shows under these. `None` until a [`search`](Self::search) has looked for them.
    #[must_use]
    pub fn left_behind(&self, path: &RelPath, inode: Option<u64>) -> Option<Vec<RelPath>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let former = known.inodes.get(path).copied();
        let Some(former) = former.filter(|former| Some(*former) != inode) else {
            return Some(Vec::new());
        };
        let names = known.others(former, path);
        if names.is_empty() && !known.searched.contains(&former) {
            known.wanted.insert(former);
            return None;
        }
        Some(names)
    }

    /// Looks for all names that were asked for and not known. Blocks on the file system.
    pub fn search(&self, root: &SourceRoot) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.walk(root);
    }

    /// Somebody saw that the file at `path` has several names.
    pub fn note(&self, path: &RelPath, inode: u64) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(inode, path.clone());
    }

    /// A tree came into the source: names that were outside may be in it.
    pub fn on_tree_changed(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.partly_outside.clear();
        known.searched.clear();
    }
}

impl Known {
    fn add(&mut self, inode: u64, path: RelPath) {
        if self.inodes.len() >= MOST_NAMES {
            self.inodes.clear();
            self.names.clear();
            self.searched.clear();
        }
        if let Some(former) = self.inodes.insert(path.clone(), inode)
            && former != inode
        {
            self.remove(former, &path);
        }
        self.names.entry(inode).or_default().insert(path);
    }

    fn others(&self, inode: u64, path: &RelPath) -> Vec<RelPath> {
        let names = self.names.get(&inode).into_iter().flatten();
        names.filter(|name| *name != path).cloned().collect()
    }

    fn remove(&mut self, inode: u64, path: &RelPath) {
        if let Some(names) = self.names.get_mut(&inode) {
            names.remove(path);
            if names.is_empty() {
                self.names.remove(&inode);
            }
        }
    }

    /// The known names that still stand for this file; the others are dropped.
    fn verified(&mut self, root: &SourceRoot, identity: Identity) -> Vec<RelPath> {
        let names = self
            .names
            .get(&identity.inode)
            .into_iter()
            .flatten()
            .cloned();
        let (still, gone): (Vec<_>, Vec<_>) =
            names.partition(|name| still_names(root, name, identity));
        for name in gone {
            self.remove(identity.inode, &name);
        }
        still
    }

    /// Takes in every file with several names, and the wanted ones even if they have only one left.
    fn walk(&mut self, root: &SourceRoot) {
        self.names.clear();
        let mut pending = vec![RelPath::root()];
        while let Some(dir) = pending.pop() {
            // What cannot be read now is found when it changes again; a walk is an aid, not a promise.
            let Ok(fd) = root.open_dir(&dir, OFlags::RDONLY) else {
                continue;
            };
            let Ok(entries) = Dir::read_from(&fd) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_bytes();
                match entry.file_type() {
                    FileType::Directory if name != b"." && name != b".." => {
                        pending.push(dir.join(name));
                    }
                    FileType::RegularFile | FileType::Unknown => {
                        if let Ok(stat) = look(fd.as_fd(), name)
                            && (stat.st_nlink > 1 || self.wanted.contains(&stat.st_ino))
                            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                        {
                            self.add(stat.st_ino, dir.join(name));
                        }
                    }
                    _ => {}
                }
            }
        }
        self.searched.append(&mut self.wanted);
    }
}

fn still_names(root: &SourceRoot, path: &RelPath, identity: Identity) -> bool {
    let Some(parent) = path.parent() else {
        return false;
    };
    root.open_dir(&parent, OFlags::PATH)
        .and_then(|fd| look(fd.as_fd(), path.name()))
        .is_ok_and(|stat| Identity::of(&stat) == identity)
}
