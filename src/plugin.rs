//! Plugins: who is told of a path once it is at every remote.
//!
//! ```text
//!  mirror ─Change─► Witness ─► Owed ─ready─► Inbox ─► Worker ─► command, socket, http, refreshCDN
//!  lanes ─synced──────┘     (one per mirror) (one per place to be told, each with its worker)
//! ```
//!
//! What a lane sends because something changed is told; a comparison of everything that somebody asked for, the first
//! push among them, tells nothing, as in the original. A deleted path is told as well, if its deletion is carried out: of
//! what a switch lets stay at the remotes nobody hears. A path that changed several times before anybody could be told
//! is told once.
//!
//! Nothing here holds mirroring up: lanes and mirrors only note paths in bounded tables, workers have tasks of their
//! own. Both bounds drop what comes in past them, count it and say so once. What is noted is not kept over a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::change::{Change, Extent};
use crate::config::{PluginConfig, Removals};
use crate::control::Board;
use crate::dirty::DirtyPath;
use crate::filter::Filter;
use crate::message_id as id;

mod command;
mod delivery;
mod event;
mod http;
mod outcome;
pub mod owed;
pub mod queue;
mod refresh_cdn;
mod request;
mod socket;
mod worker;

use delivery::Delivery;
use owed::{Noted, Owed, Ready};
use queue::Queue;
use worker::Worker;

/// Paths of a mirror that some remote has and another not yet: some 10 MB.
const MOST_OWED: usize = 50_000;

/// The plugins of an instance that are started. Cheap to clone; without any, nothing is done.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    inboxes: Arc<[Arc<Inbox>]>,
    filters: Filters,
}

/// What is not mirrored of each source, and not told either.
type Filters = Arc<Mutex<HashMap<Arc<Path>, Arc<Filter>>>>;

/// What one worker is to tell.
#[derive(Debug)]
struct Inbox {
    name: String,
    /// See [`Delivery::watch`].
    watch: Option<PathBuf>,
    queue: Mutex<Queue>,
    arrived: Notify,
    /// That paths are dropped was said, and not undone by an empty queue since.
    overflowed: AtomicBool,
    board: Board,
    filters: Filters,
}

impl Plugins {
    /// Starts a worker in `tasks` for each place that is to be told; `stop` ends them.
    #[must_use]
    pub fn start(
        configs: &[PluginConfig],
        board: &Board,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Self {
        let filters = Filters::default();
        let deliveries = configs.iter().flat_map(Delivery::all_of);
        let inboxes = deliveries.map(|delivery| {
            let inbox = Arc::new(Inbox {
                name: delivery.to_string(),
                watch: delivery.watch().map(Path::to_path_buf),
                queue: Mutex::new(Queue::default()),
                arrived: Notify::new(),
                overflowed: AtomicBool::new(false),
                board: board.clone(),
                filters: Arc::clone(&filters),
            });
            let worker = Worker::new(delivery, Arc::clone(&inbox));
            tasks.spawn(worker.run(stop.clone()));
            inbox
        });
        Self {
            inboxes: inboxes.collect(),
            filters,
        }
    }

    /// What is not mirrored of a source is not told from now on.
    pub fn refilter(&self, source: &Path, filter: Option<&Arc<Filter>>) {
        let mut filters = lock(&self.filters);
        match filter {
            Some(filter) => filters.insert(source.into(), Arc::clone(filter)),
            None => filters.remove(source),
        };
    }

    fn tell(&self, source: &Arc<Path>, ready: &[Ready]) {
        if ready.is_empty() {
            return;
        }
        for inbox in self.inboxes.iter() {
            inbox.put(source, ready);
        }
    }
}

impl Inbox {
    fn put(&self, source: &Arc<Path>, ready: &[Ready]) {
        let mut queue = lock(&self.queue);
        let dropped = ready
            .iter()
            // What need not be told takes up no room.
            .filter(|ready| {
                concerns(self.watch.as_deref(), source, ready) && !queue.push(source, ready)
            })
            .count();
        drop(queue);
        self.arrived.notify_one();
        if dropped > 0 {
            self.on_dropped(dropped);
        }
    }

    /// Past the bound; the first time since the queue was empty is said.
    fn on_dropped(&self, dropped: usize) {
        count_dropped(&self.board, dropped);
        if !self.overflowed.swap(true, Ordering::Relaxed) {
            let name = &self.name;
            warn!(
                MESSAGE_ID = id::PLUGIN_FAILED,
                SERSYNC_PLUGIN = name,
                "{name} is too slow or away: it is not told of further paths until it has caught up"
            );
        }
    }
}

/// Whether something of it may have to be told where only what is in `watch` is told.
fn concerns(watch: Option<&Path>, source: &Path, ready: &Ready) -> bool {
    watch.is_none_or(|watch| {
        let path = source.join(ready.path.as_path());
        path.starts_with(watch) || (ready.extent == Extent::Subtree && watch.starts_with(&path))
    })
}

/// Notes for one mirror what changed and what its lanes report, and has the plugins told.
#[derive(Debug)]
pub struct Witness {
    plugins: Plugins,
    source: Arc<Path>,
    board: Board,
    owed: Mutex<Owed>,
    overflowed: AtomicBool,
}

impl Witness {
    /// For the mirror of `source` to the remotes with these numbers; without a remote, every change is told at once. Of
    /// removals, those are told that `removals` lets through.
    /// `None` if there is no plugin.
    #[must_use]
    pub fn new(
        plugins: &Plugins,
        source: &Path,
        remotes: &[u32],
        removals: Removals,
        board: &Board,
    ) -> Option<Arc<Self>> {
        if plugins.inboxes.is_empty() {
            return None;
        }
        Some(Arc::new(Self {
            plugins: plugins.clone(),
            source: source.into(),
            board: board.clone(),
            owed: Mutex::new(Owed::new(remotes.to_vec(), removals, MOST_OWED)),
            overflowed: AtomicBool::new(false),
        }))
    }

    /// These changed, before any lane hears of it.
    pub fn on_changes(&self, changes: &[Change]) {
        let now = Instant::now();
        let (mut ready, mut dropped) = (Vec::new(), 0);
        let mut owed = lock(&self.owed);
        for change in changes
            .iter()
            .filter(|change| change.made.is_none() && !change.unseen)
        {
            match owed.on_change(change, now) {
                Noted::Waits => {}
                Noted::Ready(path) => ready.push(path),
                Noted::Dropped => dropped += 1,
            }
        }
        let late = owed.late();
        drop(owed);
        self.plugins.tell(&self.source, &ready);
        if dropped > 0 {
            count_dropped(&self.board, dropped);
            if !self.overflowed.swap(true, Ordering::Relaxed) {
                let source = self.source.display();
                let late: Vec<String> = late.iter().map(ToString::to_string).collect();
                warn!(
                    MESSAGE_ID = id::PLUGIN_FAILED,
                    SERSYNC_MIRROR = %source,
                    "{MOST_OWED} paths of {source} wait for remote {} before plugins are told of them: \
                     they are not told of further ones until it has caught up",
                    late.join(", ")
                );
            }
        }
    }

    /// A job of the lane `remote` that was begun at `started` has brought some to its remote, and found others gone that
    /// are kept there.
    pub fn on_ended(
        &self,
        remote: u32,
        started: Instant,
        synced: &[DirtyPath],
        kept: &[DirtyPath],
    ) {
        let mut owed = lock(&self.owed);
        let mut ready = Vec::new();
        for dirty in kept {
            owed.on_kept(remote, started, dirty, &mut ready);
        }
        for dirty in synced {
            owed.on_synced(remote, started, dirty, &mut ready);
        }
        if owed.is_empty() {
            self.overflowed.store(false, Ordering::Relaxed);
        }
        drop(owed);
        self.plugins.tell(&self.source, &ready);
    }
}

fn count_dropped(board: &Board, dropped: usize) {
    board.update(|snapshot| snapshot.plugin_dropped += dropped as u64);
}

/// Nothing that is done under these locks leaves a table half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;

    #[test]
    fn what_is_elsewhere_takes_up_no_room() {
        let is_told = |path: &str, extent| {
            let ready = Ready {
                path: RelPath::new(path.as_bytes()).expect("a valid path"),
                extent,
                may_be_gone: true,
            };
            concerns(Some(Path::new("/data/small")), Path::new("/data"), &ready)
        };
        assert!(is_told("small/file", Extent::Entry));
        assert!(is_told("small", Extent::Entry));
        assert!(!is_told("smaller", Extent::Entry));
        assert!(!is_told("big/file", Extent::Subtree));
        assert!(is_told("", Extent::Subtree), "it is below");
        assert!(!is_told("", Extent::Entry));
    }
}
