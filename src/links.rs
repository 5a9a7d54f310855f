//! The names of files that have several: a write through one name changes what all of them should hold.
//!
//! The kernel reports only the name that was used, so the others must be known. Looking at every file during the first
//! walk would cost a `stat` for each, for trees that mostly have no hard links. So the index starts empty, and a
//! changed file with more names than are known pays for a walk over the tree, which takes in all such files at once:
//! two walks a batch at the most, and none again for names that turned out to be outside the tree.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Dir, FileType, OFlags, Stat};

use crate::change::{Change, Extent};
use crate::path::{Identity, RelPath, SourceRoot, look};

/// Names kept at the most: some 200 MB. Past it all are forgotten, and found again as they are needed.
const MOST_NAMES: usize = 1_000_000;
/// How many files are remembered that a name stood for before: what was done through it to an earlier one was long ago, or
/// is found by the next full push.
const MOST_FORMERS: usize = 16;

/// Shared by the lanes of one mirror.
#[derive(Debug, Default)]
pub struct LinkIndex {
    known: Mutex<Known>,
    /// Held for the length of a walk, during which the index can be asked.
    walking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<u64, BTreeSet<RelPath>>,
    /// The file each name stood for when it was last seen; kept when it no longer does, for the lanes that have yet to
    /// hear of it.
    inodes: HashMap<RelPath, u64>,
    /// Those it stood for before, latest last.
    formers: HashMap<RelPath, Vec<u64>>,
    /// Files with names that a walk did not find.
    partly_outside: HashMap<u64, Searched>,
    /// Files that a walk is to take in even if they have only one name left.
    wanted: BTreeSet<u64>,
    /// Those that a walk has looked for.
    searched: BTreeSet<u64>,
    /// How many trees have come in: what a walk did not find may be in one that came meanwhile.
    trees: u64,
    /// What a name stood for was forgotten before all lanes had heard of it.
    has_forgotten: bool,
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
        let identity = Identity::of(stat);
        let all = usize::try_from(stat.st_nlink).unwrap_or(usize::MAX);
        let trees = {
            let mut known = self.known();
            known.add(stat.st_ino, path.clone());
            known.trees
        };
        let mut names = self.verified(root, identity);
        let twice = Searched::twice(all, names.len());
        let mut complete =
            names.len() >= all || self.known().partly_outside.get(&stat.st_ino) == Some(&twice);
        if !complete {
            if !std::mem::replace(walked, true) {
                self.known().wanted.insert(stat.st_ino);
                self.search(root);
            }
            names = self.verified(root, identity);
            complete = names.len() >= all;
        }
        let mut known = self.known();
        if !complete && known.trees == trees {
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

    /// The names of the files that `path` stood for before it was removed or given to another (`inode` now): what was
    /// done through it shows under these. `None` until a [`search`](Self::search) has looked for them. Blocks on the
    /// file system.
    #[must_use]
    pub fn left_behind(
        &self,
        root: &SourceRoot,
        path: &RelPath,
        inode: Option<u64>,
    ) -> Option<Vec<RelPath>> {
        let mut left = Vec::new();
        let mut is_searched = true;
        let formers = self.known().stood_for(path);
        for former in formers {
            if Some(former) == inode {
                continue;
            }
            // A directory that was renamed took the names below it along, unseen: those that are known may be none.
            let names = self.still(former, |name| stands_for(root, name, former));
            let mut known = self.known();
            if names.is_empty() && !known.searched.contains(&former) {
                known.wanted.insert(former);
                is_searched = false;
            } else if names.is_empty() {
                known.forget_former(path, former);
            }
            left.extend(names.into_iter().filter(|name| name != path));
        }
        is_searched.then_some(left)
    }

    /// Looks for all names that were asked for and not known. Blocks on the file system.
    pub fn search(&self, root: &SourceRoot) {
        // Of two lanes that walk at once, the second finds what the first has found and more.
        let _walking = self.walking.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut wanted, trees) = {
            let known = self.known();
            (known.wanted.clone(), known.trees)
        };
        let found = walk(root, &wanted);
        let mut known = self.known();
        let is_new = |(_, path): &&(u64, RelPath)| !known.inodes.contains_key(path);
        let new = found.iter().filter(is_new).count();
        known.make_room(new);
        for (inode, path) in found {
            known.take_in(inode, path);
        }
        known.wanted.retain(|inode| !wanted.contains(inode));
        if known.trees == trees {
            known.searched.append(&mut wanted);
        }
    }

    /// Somebody saw what changed: which of it belongs to files with several names is remembered, and marked. Returns whether
    /// so much was to be remembered that something was forgotten: then anything may differ.
    #[must_use]
    pub fn note(&self, changes: &mut [Change]) -> bool {
        let mut known = self.known();
        for change in changes {
            match change.linked {
                Some(inode) => known.add(inode, change.path.clone()),
                // That it is gone is no change of the file it was.
                None if change.extent == Extent::Entry => {
                    change.linked = known.inodes.get(&change.path).copied();
                }
                None => {}
            }
        }
        std::mem::take(&mut known.has_forgotten)
    }

    /// A tree came into the source: names that were outside may be in it.
    pub fn on_tree_changed(&self) {
        let mut known = self.known();
        known.partly_outside.clear();
        known.searched.clear();
        known.trees += 1;
    }

    fn verified(&self, root: &SourceRoot, identity: Identity) -> Vec<RelPath> {
        self.still(identity.inode, |name| {
            stat_below(root, name).is_some_and(|stat| Identity::of(&stat) == identity)
        })
    }

    /// The known names that still stand for this file; the others are dropped. A file system that hangs while they are
    /// looked at keeps nobody from the index.
    fn still(&self, inode: u64, stands: impl Fn(&RelPath) -> bool) -> Vec<RelPath> {
        let names: Vec<RelPath> = {
            let known = self.known();
            known
                .names
                .get(&inode)
                .into_iter()
                .flatten()
                .cloned()
                .collect()
        };
        let (still, gone): (Vec<_>, Vec<_>) = names.into_iter().partition(stands);
        let mut known = self.known();
        for name in gone {
            known.remove(inode, &name);
        }
        still
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, inode: u64, path: RelPath) {
        let is_known = self
            .names
            .get(&inode)
            .is_some_and(|names| names.contains(&path));
        if !is_known {
            // It may be another file that has got the number of one that was looked for.
            self.partly_outside.remove(&inode);
            self.searched.remove(&inode);
        }
        self.make_room(1);
        self.take_in(inode, path);
    }

    /// Forgets everything if so many more names would be too many.
    fn make_room(&mut self, more: usize) {
        if self.inodes.len() + more > MOST_NAMES {
            self.has_forgotten |= !self.formers.is_empty();
            self.inodes.clear();
            self.formers.clear();
            self.names.clear();
            self.searched.clear();
        }
    }

    fn take_in(&mut self, inode: u64, path: RelPath) {
        if let Some(former) = self.inodes.insert(path.clone(), inode)
            && former != inode
        {
            self.remove(former, &path);
            let formers = self.formers.entry(path.clone()).or_default();
            formers.retain(|known| *known != former && *known != inode);
            if formers.len() >= MOST_FORMERS {
                formers.remove(0);
            }
            formers.push(former);
        }
        self.names.entry(inode).or_default().insert(path);
    }

    /// The files that a name stands for as far as is known, or has stood for.
    fn stood_for(&self, path: &RelPath) -> Vec<u64> {
        let formers = self.formers.get(path).into_iter().flatten();
        formers.chain(self.inodes.get(path)).copied().collect()
    }

    /// The name stood for a file that nothing stands for any more.
    fn forget_former(&mut self, path: &RelPath, former: u64) {
        if let Some(formers) = self.formers.get_mut(path) {
            formers.retain(|known| *known != former);
            if formers.is_empty() {
                self.formers.remove(path);
            }
        }
        if self.inodes.get(path) == Some(&former) {
            self.inodes.remove(path);
        }
    }

    fn remove(&mut self, inode: u64, path: &RelPath) {
        if let Some(names) = self.names.get_mut(&inode) {
            names.remove(path);
            if names.is_empty() {
                self.names.remove(&inode);
            }
        }
    }
}

/// The files with several names, as far as there is room for them, and all names of the wanted ones, even if they have
/// only one left.
fn walk(root: &SourceRoot, wanted: &BTreeSet<u64>) -> Vec<(u64, RelPath)> {
    let mut found = Vec::new();
    let mut pending = vec![RelPath::root()];
    while let Some(dir) = pending.pop() {
        // What cannot be read is not known to rsync either.
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
                        && (stat.st_nlink > 1 && found.len() < MOST_NAMES / 2
                            || wanted.contains(&stat.st_ino))
                        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    {
                        found.push((stat.st_ino, dir.join(name)));
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn stands_for(root: &SourceRoot, path: &RelPath, inode: u64) -> bool {
    stat_below(root, path).is_some_and(|stat| stat.st_ino == inode)
}

fn stat_below(root: &SourceRoot, path: &RelPath) -> Option<Stat> {
    let parent = root.open_dir(&path.parent()?, OFlags::PATH).ok()?;
    look(parent.as_fd(), path.name()).ok()
}

#[cfg(test)]
mod tests;
