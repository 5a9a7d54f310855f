//! What a watcher says: our words, not a library's.

use std::time::Instant;

use crate::path::RelPath;

/// "This path may differ now". Never "do this operation": whoever acts on it looks at the source first.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is seen, or not, by itself"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What may differ.
    pub path: RelPath,
    /// How much of it.
    pub extent: Extent,
    /// Whether content was seen to be written or put in place. rsync compares times in whole seconds, so only this
    /// tells it of a second write of the same size within the second of the first: such paths are sent with
    /// `--ignore-times`.
    pub written: bool,
    /// The inode of a file that had several names when somebody looked: what is done through this name shows under the
    /// others, even if this one is gone before anybody acts on it, and wherever they are.
    pub linked: Option<u64>,
    /// Where some removals are to be carried out and others not: whether this is one that is, and the entry has not
    /// come back since.
    pub removed: bool,
    /// It is gone by a means whose switch is off, and stays at the receivers: no news for those who are told of what they
    /// have.
    pub kept: bool,
    /// Nothing but this: it is a directory that is watched now, and was made after that time. What came and went in it in
    /// between, nobody tells.
    pub made: Option<Instant>,
    /// Nobody saw it change: it is compared now and then, which is no news by itself.
    pub unseen: bool,
}

impl Change {
    /// The entry itself may differ: its kind, its attributes, whether it is there.
    #[must_use]
    pub fn entry(path: RelPath) -> Self {
        Self {
            path,
            extent: Extent::Entry,
            written: false,
            linked: None,
            removed: false,
            kept: false,
            made: None,
            unseen: false,
        }
    }

    /// A directory that was made after a time is watched from now on.
    #[must_use]
    pub fn made(path: RelPath, after: Instant) -> Self {
        Self {
            made: Some(after),
            ..Self::entry(path)
        }
    }

    /// The entry's content was written, or another file was put in its place.
    #[must_use]
    pub fn written(path: RelPath) -> Self {
        Self {
            path,
            extent: Extent::Entry,
            written: true,
            linked: None,
            removed: false,
            kept: false,
            made: None,
            unseen: false,
        }
    }

    /// A directory was put in place with all it holds, of which size and time may be those of what was there.
    #[must_use]
    pub fn moved_in(path: RelPath) -> Self {
        Self {
            written: true,
            ..Self::subtree(path)
        }
    }

    /// What had this name and was no directory has left it; what has it by the time that somebody looks may be one.
    #[must_use]
    pub fn left(path: RelPath) -> Self {
        Self {
            extent: Extent::Name,
            ..Self::entry(path)
        }
    }

    /// Whether it tells of what was no directory. A directory is never written by itself, and leaves its name with all it
    /// holds.
    #[must_use]
    pub fn is_of_no_directory(&self) -> bool {
        match self.extent {
            Extent::Entry => self.written,
            Extent::Name => true,
            Extent::Subtree => false,
        }
    }

    /// The entry and everything that is or was below it may differ.
    #[must_use]
    pub fn subtree(path: RelPath) -> Self {
        Self {
            path,
            extent: Extent::Subtree,
            written: false,
            linked: None,
            removed: false,
            kept: false,
            made: None,
            unseen: false,
        }
    }
}

/// How far below a path a change may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The entry alone.
    Entry,
    /// The entry, and if it is a directory by now, also everything below it: something else has had its name. While that
    /// came and went, a run may have found nothing to do for the directory before, which still stands at the receiver.
    Name,
    /// The entry and everything below it, also what is only at the receiver.
    Subtree,
}

/// What a watcher reports besides changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Paths that may differ now.
    Changes(Vec<Change>),
    /// Every directory of the source is watched now; so many.
    Scanned {
        /// Number of watched directories.
        directories: u64,
    },
    /// The kernel dropped events: anything may differ. The watcher walks the tree again by itself.
    Overflowed,
    /// So many directories are not watched or could not be read. They are tried again and compared every so often.
    Uncovered {
        /// Their number; 0 when all is well again.
        directories: u64,
        /// Why, as far as the first of them goes.
        cause: Blindness,
    },
    /// Every event that the kernel had when [`crate::watch::Watching::ask`] was called has been told.
    Reached(u64),
    /// The root's name was removed, moved away, unmounted or taken by another directory, or may have been.
    RootGone {
        /// It is watched no more, even if the same directory is there again by now.
        is_certain: bool,
    },
}

/// Why a directory is not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blindness {
    /// The kernel allows this user no more watches.
    NoWatches,
    /// It may not be read.
    Denied,
    /// Something that may pass.
    Failed(String),
}
