//! From what the kernel tells to [`WatchEvent`]s: the words of the watchers, and which back ends there are.
//!
//! A back end promises: once it has said `Scanned`, every change below the root is reported, by itself, by a subtree
//! above it, or by `Overflowed`. It watches a directory first and reads it then, so that nothing falls between.

use std::io;
use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::change::WatchEvent;
use crate::config::Switches;
use crate::path::SourceRoot;

pub mod inotify;
mod open_files;
mod tree;

/// What is to be watched, and what counts.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// Absolute path of the source root.
    pub source: PathBuf,
    /// Which events count.
    pub switches: Switches,
    /// `-x`: directories of other file systems are not entered.
    pub one_file_system: bool,
}

/// A way to learn of changes.
pub trait Watcher {
    /// Starts to watch the tree below `root`. Events go to `events`; a full channel holds the watcher back, and the
    /// kernel's queue then takes what comes meanwhile. The watcher ends when the returned value is dropped.
    ///
    /// # Errors
    /// The kernel gives no means to watch, for example since too many are in use.
    fn start(
        &self,
        root: SourceRoot,
        config: WatchConfig,
        events: mpsc::Sender<WatchEvent>,
    ) -> io::Result<Watching>;
}

/// A running watcher; it ends when this is dropped.
#[derive(Debug)]
pub struct Watching {
    /// The watcher's thread sees its other end hang up.
    _hang_up: std::os::fd::OwnedFd,
}
