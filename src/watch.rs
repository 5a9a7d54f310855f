//! From what the kernel tells to [`WatchEvent`]s: the words of the watchers, and which back ends there are.
//!
//! A back end promises: once it has said `Scanned`, every change below the root is reported, by itself, by a subtree
//! above it, or by `Overflowed`. It watches a directory first and reads it then, so that nothing falls between.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::change::WatchEvent;
use crate::config::Switches;
use crate::filter::Filter;
use crate::path::SourceRoot;

pub mod file_system;
pub mod inotify;
mod open_files;
mod tree;
mod uncovered;

/// What is to be watched, and what counts.
#[derive(Debug, Clone)]
pub struct WatchConfig {
    /// Absolute path of the source root.
    pub source: PathBuf,
    /// Which events count.
    pub switches: Switches,
    /// `-x`: directories of other file systems are not entered.
    pub one_file_system: bool,
    /// What is neither watched nor reported.
    pub filter: Option<Arc<Filter>>,
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
    /// A number in it is a question; the watcher's thread sees its hanging up as the end.
    line: std::os::fd::OwnedFd,
    gauges: Arc<Gauges>,
    next_filters: NextFilters,
}

/// Filters that are to take the place of one another.
type NextFilters = Arc<Mutex<Vec<Arc<Filter>>>>;

/// A question whose answer nobody waits for: that it is read is the answer.
pub const PULSE: u64 = 0;
/// No question: it has the watcher's thread look for what was left for it.
const LOOK: u64 = u64::MAX;

impl Watching {
    /// Asks the watcher to tell, by [`WatchEvent::Reached`] with this number, when everything has been told that had
    /// happened by now. No answer comes as long as the kernel has dropped events and the tree is not walked again.
    ///
    /// # Errors
    /// Too many such questions wait for their answers.
    pub fn ask(&self, number: u64) -> io::Result<()> {
        // A pipe takes eight bytes as one.
        rustix::io::write(&self.line, &number.to_ne_bytes())?;
        Ok(())
    }

    /// Has another filter hold from now on. Of what only the one before excluded, the watcher tells by itself.
    pub fn refilter(&self, filter: Arc<Filter>) {
        self.next_filters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(filter);
        // If too many questions wait, the thread looks as soon as it reads them.
        let _ = self.ask(LOOK);
    }

    /// What it says of itself.
    #[must_use]
    pub fn gauges(&self) -> &Arc<Gauges> {
        &self.gauges
    }
}

/// What can be read off a running watcher at any time.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Watched directories.
    pub watches: AtomicU64,
    /// Directories that are not watched or could not be read.
    pub uncovered: AtomicU64,
    /// Directories that were walked, each as often as it was, and large parts of large ones.
    pub walked: AtomicU64,
    /// Changes when its thread moves on: while it walks, and whenever it is asked something.
    pub beats: AtomicU64,
}
