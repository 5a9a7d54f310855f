//! The dirty set: the coalesced changes of one lane that no run has taken yet. Pure: time is an argument.
//!
//! - A path stands in it once, however often it changes; a subtree subsumes what lies below it.
//! - Memory is bounded: past a limit, paths collapse to the deepest directories that suffice.
//! - A path that changes again and again is due at once the first time, then at growing intervals, and always once
//!   more when it has come to rest.
//!
//! Three things are not subsumed: an entry that was [`written`](Change::written) keeps its own place below a dirty
//! subtree, since a recursive run compares times in seconds and could take two writes for one; so does a name of a file
//! with [several](Change::linked), since the others may be elsewhere; and one whose removal is to be carried out where
//! others are not ([`removed`](Change::removed)).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::change::{Change, Extent};
use crate::path::RelPath;

/// The second sending of a path waits this long after the first; each further one twice as long.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);
/// A path that has not changed for this long is sent, whatever its interval has grown to.
const REST: Duration = Duration::from_secs(1);
/// The intervals of a changing path grow to this, or to `RUN_SHARE` times the length of a run if that is longer.
const SHORTEST_BOUND: Duration = Duration::from_secs(1);
/// No interval is longer, so that even a file that takes minutes to compare is not stale for hours.
const LONGEST_BOUND: Duration = Duration::from_secs(60);
/// Sending a path that never rests takes at most one part in so many of a lane's time.
const RUN_SHARE: u32 = 20;
/// A path not sent for this long counts as quiet again: its next change goes at once.
const MEMORY: Duration = Duration::from_secs(3);
/// A tree that must be compared again waits this long, doubled with each try up to the fourth: a source that changes all
/// the time is not compared all the time, and one that comes to rest is equal soon.
pub const TREE_RETRY: Duration = Duration::from_millis(25);
/// How many recently sent paths are remembered. Past it a path merely counts as quiet.
const REMEMBERED: usize = 65_536;

/// Which slot of a lane an entry goes to, once somebody has looked at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Nothing known: small files, directories, links and whatever is gone.
    Path,
    /// A file so large that small ones must not wait for it.
    Large,
    /// A directory to be compared with all its content.
    Tree,
}

/// An entry as it leaves the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyPath {
    /// What may differ.
    pub path: RelPath,
    /// How far below it.
    pub extent: Extent,
    /// See [`Change::written`].
    pub written: bool,
    /// See [`Change::linked`].
    pub linked: bool,
    /// When it first differed.
    pub since: Instant,
    /// How often it had changed by the time it was sent, without a change that says so.
    pub tries: u8,
    /// See [`Change::removed`].
    pub removed: bool,
}

impl DirtyPath {
    /// A path that differs, or may, since now.
    #[must_use]
    pub fn now(path: RelPath, extent: Extent) -> Self {
        Self {
            path,
            extent,
            written: false,
            linked: false,
            since: Instant::now(),
            tries: 0,
            removed: false,
        }
    }
}

#[derive(Debug)]
struct Entry {
    extent: Extent,
    written: bool,
    linked: bool,
    removed: bool,
    route: Route,
    since: Instant,
    tries: u8,
    /// Not to be taken before; `None` is at once.
    due: Option<Instant>,
}

/// What is remembered of a path after it was taken.
#[derive(Debug)]
struct Sent {
    at: Instant,
    interval: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct DirtySet {
    entries: BTreeMap<RelPath, Entry>,
    /// How many of them are subtrees: with none, which is usual, no ancestor needs to be looked up.
    subtrees: usize,
    /// The entries with a due time, earliest first.
    waiting: BTreeSet<(Instant, RelPath)>,
    sent: HashMap<RelPath, Sent>,
    /// Order in which `sent` is to be forgotten; may name a path again that was sent again.
    sent_order: VecDeque<(Instant, RelPath)>,
    longest_interval: Duration,
    limit: usize,
    /// How many entries first differed when; few times, since changes come in drains.
    ages: BTreeMap<Instant, usize>,
    /// How many entries have been routed elsewhere than to small paths: mostly none, which saves looking for them.
    routed: usize,
}

impl DirtySet {
    /// An empty set that collapses past `limit` entries.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            subtrees: 0,
            waiting: BTreeSet::new(),
            sent: HashMap::new(),
            sent_order: VecDeque::new(),
            longest_interval: SHORTEST_BOUND,
            limit: limit.max(1),
            ages: BTreeMap::new(),
            routed: 0,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is dirty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the oldest entry first differed.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.ages.first_key_value().map(|(since, _)| *since)
    }

    /// Whether the whole source is dirty.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.entries
            .get(&RelPath::root())
            .is_some_and(|entry| entry.extent == Extent::Subtree)
    }

    /// Whether an entry says that `path` and everything below it may differ.
    #[must_use]
    pub fn holds_subtree(&self, path: &RelPath) -> bool {
        let entry = self.entries.get(path);
        entry.is_some_and(|entry| entry.extent == Extent::Subtree)
            || self.subtree_above(path).is_some()
    }

    /// The entries that were seen to be removed, which no comparison finds out again.
    pub fn removals(&self) -> impl Iterator<Item = DirtyPath> + '_ {
        let removed = self.entries.iter().filter(|(_, entry)| entry.removed);
        removed.map(|(path, entry)| DirtyPath {
            path: path.clone(),
            extent: entry.extent,
            written: entry.written,
            linked: entry.linked,
            since: entry.since,
            tries: entry.tries,
            removed: true,
        })
    }

    /// A change came in at `now`.
    pub fn insert(&mut self, change: Change, now: Instant) {
        let due = self.due(&change, now);
        let dirty = DirtyPath {
            path: change.path,
            extent: change.extent,
            written: change.written,
            linked: change.linked.is_some(),
            since: now,
            tries: 0,
            removed: change.removed,
        };
        if let Some(entry) = self.entries.get_mut(&dirty.path) {
            // The last word counts. What is put back is older than what has come since.
            entry.removed = change.removed;
        }
        self.merge(dirty, Route::Path, due);
    }

    /// A taken entry needs another look: it changed while it was sent. Like a change, so that one that never rests is
    /// not tried all the time.
    pub fn retry(&mut self, mut dirty: DirtyPath, now: Instant) {
        dirty.tries = dirty.tries.saturating_add(1);
        let extent = dirty.extent;
        let change = Change {
            extent,
            written: dirty.written,
            removed: dirty.removed,
            ..Change::entry(dirty.path.clone())
        };
        let due = match extent {
            Extent::Entry | Extent::Name => self.due(&change, now),
            Extent::Subtree => Some(now + TREE_RETRY * 2_u32.pow(u32::from(dirty.tries.min(4)))),
        };
        self.merge(dirty, Route::Path, due);
    }

    /// A taken entry did not get through and is dirty as before, at once.
    pub fn put_back(&mut self, dirty: DirtyPath, route: Route) {
        self.merge(dirty, route, None);
    }

    /// Takes up to `most` entries of a route that are due at `now` and not `busy`.
    pub fn take(
        &mut self,
        route: Route,
        most: usize,
        now: Instant,
        busy: impl Fn(&RelPath) -> bool,
    ) -> Vec<DirtyPath> {
        if route != Route::Path && self.routed == 0 {
            return Vec::new();
        }
        self.release_due(now);
        let ready = |(path, entry): &(&RelPath, &Entry)| {
            entry.route == route && entry.due.is_none() && !busy(path)
        };
        let paths: Vec<RelPath> = self
            .entries
            .iter()
            .filter(ready)
            .map(|(path, _)| path.clone())
            .take(most)
            .collect();
        self.forget(now);
        let mut taken = Vec::with_capacity(paths.len());
        for path in paths {
            let Some(entry) = self.remove(&path) else {
                continue;
            };
            self.remember(&path, now);
            let Entry {
                extent,
                written,
                linked,
                removed,
                since,
                tries,
                ..
            } = entry;
            taken.push(DirtyPath {
                path,
                extent,
                written,
                linked,
                since,
                tries,
                removed,
            });
        }
        taken
    }

    /// Whatever the set says of this very path is somebody else's to make good.
    pub fn withdraw(&mut self, path: &RelPath) {
        self.remove(path);
    }

    /// How many entries are due at once; those that wait for their interval are not counted.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.entries.len() - self.waiting.len()
    }

    /// When the first waiting entry becomes due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Makes everything due at once, for an administrator who wants the replica equal now.
    pub fn lift_intervals(&mut self) {
        self.waiting.clear();
        for entry in self.entries.values_mut() {
            entry.due = None;
        }
    }

    /// A run of this lane took so long: paths that never rest are sent the more rarely for it.
    pub fn note_run(&mut self, length: Duration) {
        self.longest_interval = (length * RUN_SHARE).clamp(SHORTEST_BOUND, LONGEST_BOUND);
    }

    /// When a change that comes in now is to be sent.
    fn due(&self, change: &Change, now: Instant) -> Option<Instant> {
        if change.extent == Extent::Subtree {
            return None;
        }
        let sent = self.sent.get(&change.path)?;
        let by_interval = sent.at + sent.interval.min(self.longest_interval);
        Some(by_interval.min(now + REST)).filter(|due| *due > now)
    }

    fn merge(&mut self, dirty: DirtyPath, route: Route, due: Option<Instant>) {
        let DirtyPath {
            path,
            extent,
            mut written,
            mut linked,
            mut since,
            mut tries,
            mut removed,
        } = dirty;
        if !written
            && !linked
            && !removed
            && let Some(above) = self.subtree_above(&path)
        {
            return self.make_older(&above, since);
        }
        let (mut extent, mut route, mut due) = (extent, route, due);
        if let Some(old) = self.remove(&path) {
            // A change of the entry alone says nothing of its content any more when it is gone: a file written and
            // then removed is still sent as written if another takes its place, which costs nothing.
            extent = extent.max(old.extent);
            written |= old.written;
            linked |= old.linked;
            removed = old.removed;
            since = since.min(old.since);
            // A change that has come since says why it was not yet as it was sent.
            tries = tries.min(old.tries);
            due = match (old.due, due) {
                // Rest is counted from the last change, the interval from the last sending: `due` knows both.
                (Some(_), Some(new)) => Some(new),
                _ => None,
            };
            if old.route != route {
                route = Route::Path;
            }
        }
        if extent == Extent::Subtree {
            since = since.min(self.subsume(&path).unwrap_or(since));
            self.subtrees += 1;
        }
        if let Some(due) = due {
            self.waiting.insert((due, path.clone()));
        }
        self.count_age(since, true);
        self.routed += usize::from(route != Route::Path);
        self.entries.insert(
            path,
            Entry {
                extent,
                written,
                linked,
                removed,
                route,
                since,
                tries,
                due,
            },
        );
        if self.entries.len() > self.limit {
            self.collapse();
        }
    }

    fn remove(&mut self, path: &RelPath) -> Option<Entry> {
        let entry = self.entries.remove(path)?;
        if entry.extent == Extent::Subtree {
            self.subtrees -= 1;
        }
        if let Some(due) = entry.due {
            self.waiting.remove(&(due, path.clone()));
        }
        self.count_age(entry.since, false);
        self.routed -= usize::from(entry.route != Route::Path);
        Some(entry)
    }

    /// The dirty subtree that says of `path` all there is to say.
    fn subtree_above(&self, path: &RelPath) -> Option<RelPath> {
        if self.subtrees == 0 || path.is_root() {
            return None;
        }
        let is_subtree = |dir: &RelPath| {
            self.entries
                .get(dir)
                .is_some_and(|entry| entry.extent == Extent::Subtree)
        };
        std::iter::once(RelPath::root())
            .chain(path.ancestors_below_root())
            .find(is_subtree)
    }

    /// An entry stands for something that differed before it did.
    fn make_older(&mut self, path: &RelPath, since: Instant) {
        if let Some(entry) = self.entries.get_mut(path)
            && since < entry.since
        {
            let old = std::mem::replace(&mut entry.since, since);
            self.count_age(old, false);
            self.count_age(since, true);
        }
    }

    fn count_age(&mut self, since: Instant, is_more: bool) {
        let count = self.ages.entry(since).or_default();
        *count = if is_more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            self.ages.remove(&since);
        }
    }

    /// Drops what a dirty subtree at `path` says anyway; returns since when the oldest of it differed.
    fn subsume(&mut self, path: &RelPath) -> Option<Instant> {
        let below: Vec<RelPath> = self
            .entries
            .range(path..)
            .skip_while(|(other, _)| *other == path)
            .take_while(|(other, _)| other.is_within(path))
            .filter(|(_, entry)| !entry.written && !entry.linked && !entry.removed)
            .map(|(other, _)| other.clone())
            .collect();
        below
            .into_iter()
            .filter_map(|other| self.remove(&other).map(|entry| entry.since))
            .min()
    }

    /// Halves the set: everything deeper than some depth becomes its ancestor of that depth, the deepest that will do.
    fn collapse(&mut self) {
        let old = std::mem::take(&mut self.entries);
        self.subtrees = 0;
        self.waiting.clear();
        self.ages.clear();
        self.routed = 0;
        // No comparison finds a removal out again, and what was sent a moment ago and written again must be sent as
        // written. Both keep their places, unless that alone fills the set.
        let (mut keep, mut fold): (Vec<_>, Vec<_>) =
            old.into_iter().partition(|(_, entry)| entry.removed);
        let room = self.limit / 2;
        if keep.len() > room {
            fold.append(&mut keep);
        }
        let (mut resent, rest): (Vec<_>, Vec<_>) = fold
            .into_iter()
            .partition(|(path, entry)| entry.written && self.sent.contains_key(path));
        fold = rest;
        if keep.len() + resent.len() <= room {
            keep.append(&mut resent);
        } else {
            fold.append(&mut resent);
        }
        let deepest = fold.iter().map(|(path, _)| path.depth()).max().unwrap_or(0);
        let fits = |depth: usize| {
            let distinct: BTreeSet<_> =
                fold.iter().map(|(path, _)| path.truncated(depth)).collect();
            distinct.len() * 4 <= self.limit
        };
        // The deeper, the more of them there are: halving finds the deepest that fits.
        let (mut depth, mut too_deep) = (0, deepest);
        while too_deep - depth > 1 {
            let middle = usize::midpoint(depth, too_deep);
            if fits(middle) {
                depth = middle;
            } else {
                too_deep = middle;
            }
        }
        for (path, entry) in keep {
            let Entry {
                extent,
                linked,
                written,
                removed,
                since,
                tries,
                ..
            } = entry;
            let dirty = DirtyPath {
                path,
                extent,
                written,
                linked,
                since,
                tries,
                removed,
            };
            self.merge(dirty, entry.route, None);
        }
        for (path, entry) in fold {
            let (path, extent) = if entry.linked {
                // Its other names may be anywhere.
                (RelPath::root(), Extent::Subtree)
            } else if path.depth() > depth {
                (path.truncated(depth), Extent::Subtree)
            } else {
                (path, entry.extent)
            };
            let since = entry.since;
            let dirty = DirtyPath {
                path,
                extent,
                written: false,
                linked: false,
                since,
                tries: 0,
                removed: false,
            };
            self.merge(dirty, Route::Path, None);
        }
    }

    fn release_due(&mut self, now: Instant) {
        while self.waiting.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, path)) = self.waiting.pop_first()
                && let Some(entry) = self.entries.get_mut(&path)
            {
                entry.due = None;
            }
        }
    }

    fn remember(&mut self, path: &RelPath, now: Instant) {
        let longest = self.longest_interval;
        if let Some(sent) = self.sent.get_mut(path) {
            *sent = Sent {
                at: now,
                interval: (sent.interval * 2).min(longest),
            };
        } else if self.sent.len() < REMEMBERED {
            self.sent.insert(
                path.clone(),
                Sent {
                    at: now,
                    interval: FIRST_INTERVAL,
                },
            );
        } else {
            return;
        }
        self.sent_order.push_back((now, path.clone()));
    }

    fn forget(&mut self, now: Instant) {
        let memory = MEMORY.max(self.longest_interval * 2);
        while self
            .sent_order
            .front()
            .is_some_and(|(at, _)| *at + memory < now)
        {
            let Some((at, path)) = self.sent_order.pop_front() else {
                return;
            };
            if self.sent.get(&path).is_some_and(|sent| sent.at == at) {
                self.sent.remove(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
