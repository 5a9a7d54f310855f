//! What the source says of a batch: each dirty path is looked at before rsync hears of it.
//!
//! rsync follows a symbolic link that stands where a listed name has a parent: it then sends files from outside the
//! source, or keeps a directory at the receiver for ever. So every parent is opened from the root's descriptor
//! without following anything, and a path whose parent is missing, a link or a file is replaced by that parent. After
//! the run the parents are looked at again ([`Resolved::changed_parents`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};

use crate::change::Extent;
use crate::dirty::DirtyPath;
use crate::filter::{Filter, Kind};
use crate::links::LinkIndex;
use crate::path::{Identity, LONGEST_LISTED, RelPath, SourceRoot, look};

pub mod mirrored;

/// A file of at least this many bytes travels in a slot of its own: at 100 MB/s it would hold the others back for
/// about a third of a second.
pub const LARGE_FILE: u64 = 32 << 20;

/// A batch, sorted by what is to be done. Each path of the batch, or an ancestor in its place, is in one list.
#[derive(Debug, Default)]
pub struct Resolved {
    /// To be sent whatever the times say.
    pub written: Vec<DirtyPath>,
    /// To be sent if size or time differ.
    pub plain: Vec<DirtyPath>,
    /// The symbolic links of `plain`.
    pub links: Vec<RelPath>,
    /// Bytes in the regular files of `plain`: what it would cost to send them without need.
    pub plain_bytes: u64,
    /// Bytes in all regular files that are to be sent.
    pub bytes: u64,
    /// Regular files of at least [`LARGE_FILE`] bytes.
    pub large: Vec<DirtyPath>,
    /// Directories to be compared with all their content.
    pub trees: Vec<DirtyPath>,
    /// Missing; the parent of each is a real directory, or the root.
    pub gone: Vec<DirtyPath>,
    /// Below a mount point, where nothing is to be sent or deleted.
    pub beyond: Vec<DirtyPath>,
    /// Not mirrored: neither to be sent nor to be deleted.
    pub excluded: Vec<DirtyPath>,
    /// Not mirrored, where something of another kind would be under their name: directories that would be mirrored if
    /// they were none, or the other way round. What is of the other kind at the receiver is gone.
    pub hidden: Vec<DirtyPath>,
    /// Longer than rsync can take.
    pub too_long: Vec<DirtyPath>,
    /// Sent files with other names that are not known yet: they need another look.
    pub partly_known: Vec<DirtyPath>,
    /// What a directory may have stood for, and is none now: at the receiver it is one until that is sent.
    pub no_directories: Vec<RelPath>,
    /// The listed names of files with several, with `whole_groups`.
    pub grouped: BTreeSet<RelPath>,
    /// Could not be looked at.
    pub failed: Vec<(DirtyPath, io::Error)>,
    /// The directories the listed names stand in, as they were.
    parents: BTreeMap<RelPath, Identity>,
}

impl Resolved {
    /// The parents that are not what they were when the batch was resolved: they and their content are dirty again.
    #[must_use]
    pub fn changed_parents(&self, root: &SourceRoot) -> Vec<RelPath> {
        let is_same = |dir: &RelPath, was: &Identity| {
            root.open_dir(dir, OFlags::PATH)
                .and_then(|fd| Ok(rustix::fs::fstat(&fd)?))
                .is_ok_and(|stat| Identity::of(&stat) == *was)
        };
        let changed = self.parents.iter().filter(|(dir, was)| !is_same(dir, was));
        changed.map(|(dir, _)| dir.clone()).collect()
    }
}

/// Those of some names, in order, that are there. Blocks on the file system.
#[must_use]
pub fn present(root: &SourceRoot, names: &[RelPath]) -> Vec<RelPath> {
    let mut open: Option<(RelPath, OwnedFd)> = None;
    let mut is_there = |path: &RelPath| {
        let Some(parent) = path.parent() else {
            return true;
        };
        if open.as_ref().is_none_or(|(dir, _)| *dir != parent) {
            open = root
                .open_dir(&parent, OFlags::PATH)
                .ok()
                .map(|fd| (parent, fd));
        }
        open.as_ref()
            .is_some_and(|(_, fd)| look(fd.as_fd(), path.name()).is_ok())
    };
    names
        .iter()
        .filter(|path| is_there(path))
        .cloned()
        .collect()
}

/// Those of some paths that are real directories, below real directories. Blocks on the file system.
#[must_use]
pub fn directories(root: &SourceRoot, paths: &[RelPath]) -> Vec<RelPath> {
    let is_directory = |path: &&RelPath| root.open_dir(path, OFlags::PATH).is_ok();
    paths.iter().filter(is_directory).cloned().collect()
}

/// How a batch is sorted.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Large files are set apart instead of sent.
    pub split_large: bool,
    /// `-H`: the files of a group of hard links are not set apart from each other.
    pub whole_groups: bool,
    /// `-x`: a mount point is sent, but nothing below it.
    pub one_file_system: bool,
    /// What is not mirrored.
    pub filter: Option<Arc<Filter>>,
    /// What rsync excludes by itself. Being given a list, it does not ask in which directories the names are.
    pub hides: Option<Arc<Filter>>,
}

/// Looks at every path of a batch. Blocks on the file system. Other names of files with hard links join the batch.
#[must_use]
pub fn resolve(
    root: &SourceRoot,
    batch: Vec<DirtyPath>,
    links: &LinkIndex,
    rules: Rules,
) -> Resolved {
    let mut resolver = Resolver {
        root,
        links,
        rules,
        open: None,
        walked_for_links: false,
        searched_for_links: false,
        expanded: HashSet::new(),
        followed: BTreeSet::new(),
        unknown: Vec::new(),
        seen: BTreeSet::new(),
        other_names: Vec::new(),
        resolved: Resolved::default(),
    };
    for dirty in batch {
        resolver.resolve(dirty);
    }
    // The other names are resolved like any; they have no further names that are not in the batch by now.
    loop {
        while let Some(dirty) = resolver.other_names.pop() {
            resolver.resolve(dirty);
        }
        if resolver.unknown.is_empty() {
            return resolver.resolved;
        }
        resolver.search();
    }
}

struct Resolver<'a> {
    root: &'a SourceRoot,
    links: &'a LinkIndex,
    rules: Rules,
    /// The directory opened last: a batch comes in order, so the next name is mostly in it too.
    open: Option<(RelPath, OwnedFd)>,
    walked_for_links: bool,
    searched_for_links: bool,
    /// The files of which the other names have joined the batch.
    expanded: HashSet<(Identity, bool)>,
    /// Names that have been asked for what they were before.
    followed: BTreeSet<RelPath>,
    /// Those of which nobody knows what they were, with what is there now.
    unknown: Vec<(DirtyPath, Option<u64>)>,
    /// Everything that is in one of the lists.
    seen: BTreeSet<RelPath>,
    other_names: Vec<DirtyPath>,
    resolved: Resolved,
}

impl Resolver<'_> {
    fn resolve(&mut self, dirty: DirtyPath) {
        if dirty.path.as_bytes().len() > LONGEST_LISTED {
            if self.is_hidden(&dirty.path) || self.is_excluded_anyway(&dirty.path) {
                return self.resolved.excluded.push(dirty);
            }
            self.resolved.too_long.push(dirty);
            return;
        }
        let Some(parent) = dirty.path.parent() else {
            match rustix::fs::fstat(self.root) {
                Ok(stat) => self.sort(dirty, &stat),
                Err(error) => self.resolved.failed.push((dirty, error.into())),
            }
            return;
        };
        let looked = self.look_below(&parent, dirty.path.name());
        if self.rules.one_file_system && self.is_beyond(&parent) {
            return self.resolved.beyond.push(dirty);
        }
        let is_below_real_directories = match &looked {
            Ok(_) => true,
            Err(error) => !is_not_a_directory(error),
        };
        if is_below_real_directories && self.is_hidden(&dirty.path) {
            return self.resolved.excluded.push(dirty);
        }
        self.follow_former(&dirty, looked.as_ref().ok().and_then(Option::as_ref));
        match looked {
            Ok(Some(stat)) => self.sort(dirty, &stat),
            Ok(None) => self.gone(dirty),
            Err(error) if is_not_a_directory(&error) => self.replace_by_parent(dirty, &error),
            Err(error) => self.resolved.failed.push((dirty, error)),
        }
    }

    /// What was done through a name that is another file's now, or nobody's, shows under that file's other names.
    fn follow_former(&mut self, dirty: &DirtyPath, stat: Option<&Stat>) {
        if !dirty.written && !dirty.linked {
            return;
        }
        // Each name asks once, so this comes to an end.
        if !self.followed.insert(dirty.path.clone()) {
            return;
        }
        let inode = stat.map(|stat| stat.st_ino);
        match self.links.left_behind(self.root, &dirty.path, inode) {
            Some(names) => self.left_behind(dirty, names),
            None => self.unknown.push((dirty.clone(), inode)),
        }
    }

    fn left_behind(&mut self, dirty: &DirtyPath, names: Vec<RelPath>) {
        for path in names {
            if !self.seen.contains(&path) && !self.followed.contains(&path) {
                self.other_names.push(DirtyPath {
                    path,
                    ..dirty.clone()
                });
            }
        }
    }

    /// One walk answers for all that is unknown; it is not worth a second one.
    fn search(&mut self) {
        if !std::mem::replace(&mut self.searched_for_links, true) {
            self.links.search(self.root);
        }
        for (dirty, inode) in std::mem::take(&mut self.unknown) {
            match self.links.left_behind(self.root, &dirty.path, inode) {
                Some(names) => self.left_behind(&dirty, names),
                None => self.resolved.partly_known.push(dirty),
            }
        }
    }

    /// The entry `name` of a real directory; `None` if it is missing there.
    fn look_below(&mut self, parent: &RelPath, name: &[u8]) -> io::Result<Option<Stat>> {
        let at_hand = self.open.as_ref().is_some_and(|(dir, _)| dir == parent);
        if !at_hand {
            self.open = None;
            let fd = self.root.open_dir(parent, OFlags::PATH)?;
            let identity = Identity::of(&rustix::fs::fstat(&fd)?);
            self.resolved.parents.insert(parent.clone(), identity);
            self.open = Some((parent.clone(), fd));
        }
        let Some((_, fd)) = &self.open else {
            return Ok(None);
        };
        match look(fd.as_fd(), name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_beyond(&self, dir: &RelPath) -> bool {
        let identity = self.resolved.parents.get(dir);
        identity.is_some_and(|identity| self.is_foreign(identity.device))
    }

    fn is_foreign(&self, device: u64) -> bool {
        device != self.root.identity().device
    }

    /// The topmost ancestor that is no directory says all there is to say of what was below it.
    fn replace_by_parent(&mut self, dirty: DirtyPath, error: &io::Error) {
        let ancestors: Vec<RelPath> = dirty.path.ancestors_below_root().collect();
        for dir in ancestors {
            let Some(above) = dir.parent() else { continue };
            let stat = match self.look_below(&above, dir.name()) {
                Ok(stat) => stat,
                // It changed under our eyes; whoever did that raised an event. Look again with the next batch.
                Err(error) => return self.resolved.failed.push((dirty, error)),
            };
            let since = dirty.since;
            let replaced = DirtyPath {
                since,
                ..DirtyPath::now(dir, Extent::Subtree)
            };
            match stat {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    if self.is_excluded(&replaced.path, Kind::Directory) {
                        return self.resolved.excluded.push(dirty);
                    }
                }
                Some(stat) => return self.sort(replaced, &stat),
                None => return self.gone(replaced),
            }
        }
        let error = io::Error::new(error.kind(), error.to_string());
        self.resolved.failed.push((dirty, error));
    }

    fn is_hidden(&self, path: &RelPath) -> bool {
        let filters = [&self.rules.filter, &self.rules.hides];
        let mut filters = filters.into_iter().flatten();
        filters.any(|filter| filter.hides(path))
    }

    /// Whether nothing of this name is mirrored.
    fn is_excluded_anyway(&self, path: &RelPath) -> bool {
        let filter = self.rules.filter.as_ref();
        filter.is_some_and(|filter| filter.excludes_any(path))
    }

    fn is_excluded(&self, path: &RelPath, kind: Kind) -> bool {
        let filter = self.rules.filter.as_ref();
        filter.is_some_and(|filter| filter.excludes(path, kind))
    }

    fn gone(&mut self, dirty: DirtyPath) {
        if self.is_excluded_anyway(&dirty.path) {
            return self.resolved.excluded.push(dirty);
        }
        if self.seen.insert(dirty.path.clone()) {
            self.resolved.gone.push(dirty);
        }
    }

    fn sort(&mut self, dirty: DirtyPath, stat: &Stat) {
        if !self.seen.insert(dirty.path.clone()) {
            return;
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.is_excluded(&dirty.path, Kind::directory_if(kind == FileType::Directory)) {
            let list = if self.is_excluded_anyway(&dirty.path) {
                &mut self.resolved.excluded
            } else {
                &mut self.resolved.hidden
            };
            return list.push(dirty);
        }
        if kind != FileType::Directory && dirty.extent > Extent::Entry {
            self.resolved.no_directories.push(dirty.path.clone());
        }
        match kind {
            FileType::Directory if self.rules.one_file_system && self.is_foreign(stat.st_dev) => {
                // rsync takes a listed directory's own file system for the one to stay on.
                self.resolved.beyond.push(dirty.clone());
                let extent = Extent::Entry;
                self.resolved.plain.push(DirtyPath { extent, ..dirty });
            }
            FileType::Directory if dirty.extent > Extent::Entry => {
                // One that is looked at again brings no names that were not there.
                if dirty.tries == 0 {
                    self.links.on_tree_changed();
                }
                let extent = Extent::Subtree;
                self.resolved.trees.push(DirtyPath { extent, ..dirty });
            }
            FileType::RegularFile => self.sort_file(dirty, stat),
            FileType::Symlink => {
                self.resolved.links.push(dirty.path.clone());
                self.resolved.plain.push(dirty);
            }
            _ => self.resolved.plain.push(dirty),
        }
    }

    fn sort_file(&mut self, dirty: DirtyPath, stat: &Stat) {
        // Each of many names would give all the others.
        if stat.st_nlink > 1 && self.expanded.insert((Identity::of(stat), dirty.written)) {
            let walked = &mut self.walked_for_links;
            let others = self.links.other_names(self.root, &dirty.path, stat, walked);
            if !others.complete {
                self.resolved.partly_known.push(dirty.clone());
            }
            for path in others.names {
                let DirtyPath { written, since, .. } = dirty;
                let other = DirtyPath {
                    written,
                    linked: true,
                    since,
                    ..DirtyPath::now(path, Extent::Entry)
                };
                if !self.seen.contains(&other.path) {
                    self.other_names.push(other);
                }
            }
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let grouped = self.rules.whole_groups && stat.st_nlink > 1;
        if grouped {
            self.resolved.grouped.insert(dirty.path.clone());
        }
        if self.rules.split_large && size >= LARGE_FILE && !grouped {
            self.resolved.large.push(dirty);
            return;
        }
        self.resolved.bytes += size;
        if dirty.written {
            self.resolved.written.push(dirty);
        } else {
            self.resolved.plain_bytes += size;
            self.resolved.plain.push(dirty);
        }
    }
}

fn is_not_a_directory(error: &io::Error) -> bool {
    let codes = [
        rustix::io::Errno::NOENT,
        rustix::io::Errno::NOTDIR,
        rustix::io::Errno::LOOP,
    ];
    codes
        .iter()
        .any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_whose_name_something_else_had_is_compared_with_its_content() -> io::Result<()> {
        let temp = tempfile::TempDir::new()?;
        for name in ["after a file", "as it was"] {
            fs::create_dir(temp.path().join(name))?;
        }
        fs::write(temp.path().join("file"), "")?;
        let root = SourceRoot::open(temp.path())?;
        let path = |name: &str| RelPath::new(name.as_bytes()).expect("a valid path");
        let batch = [
            ("after a file", Extent::Name),
            ("as it was", Extent::Entry),
            ("file", Extent::Name),
            ("gone", Extent::Name),
        ];
        let batch = batch.map(|(name, extent)| DirtyPath::now(path(name), extent));
        let resolved = resolve(&root, batch.into(), &LinkIndex::default(), Rules::default());
        let said = |list: &[DirtyPath]| {
            let said = list
                .iter()
                .map(|dirty| (dirty.path.to_string(), dirty.extent));
            said.collect::<Vec<_>>()
        };
        assert_eq!(
            said(&resolved.trees),
            [("after a file".into(), Extent::Subtree)]
        );
        let sent = [
            ("as it was".into(), Extent::Entry),
            ("file".into(), Extent::Name),
        ];
        assert_eq!(said(&resolved.plain), sent);
        assert_eq!(said(&resolved.gone), [("gone".into(), Extent::Name)]);
        assert_eq!(resolved.no_directories, [path("file")]);
        Ok(())
    }
}
