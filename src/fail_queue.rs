//! The paths of a lane that failed by themselves: each with its cause, tried again at growing intervals. Pure.
//!
//! A path leaves only by being synced, or by being taken up in the failure of a directory above it. While it is tried
//! again it stays listed, so that nothing is ever in neither place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::change::Extent;
use crate::dirty::DirtyPath;
use crate::path::RelPath;
use crate::rsync::outcome::public;

/// The first try after a failure; doubled up to the retry period of the configuration.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Past this many, everything that failed is taken together as the source root.
const MOST: usize = 10_000;

/// Why a path failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// rsync's exit code.
    pub exit: i32,
    /// Its words.
    pub message: String,
}

impl Failure {
    /// The same in words that everybody may hear: no file is named.
    #[must_use]
    pub fn public(&self) -> String {
        public::words(self.exit, &self.message)
    }
}

/// A path that failed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Good for as long as the path stays in the queue.
    pub id: u64,
    /// How far below the path.
    pub extent: Extent,
    /// See [`crate::change::Change::removed`].
    pub removed: bool,
    /// Tries so far.
    pub attempts: u32,
    /// The last failure.
    pub failure: Failure,
    /// When it failed first.
    pub first: Instant,
    /// When it failed last.
    pub last: Instant,
    /// When it is tried again; `None` while it is.
    pub next_try: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub struct FailQueue {
    paths: BTreeMap<RelPath, Failed>,
    next_id: u64,
    longest_wait: Duration,
    /// The paths whose entries came, changed or went since [`take_touched`](Self::take_touched).
    touched: BTreeSet<RelPath>,
}

impl FailQueue {
    /// An empty queue whose waits grow up to `longest_wait`.
    #[must_use]
    pub fn new(longest_wait: Duration) -> Self {
        Self {
            paths: BTreeMap::new(),
            next_id: 1,
            longest_wait: longest_wait.max(FIRST_RETRY),
            touched: BTreeSet::new(),
        }
    }

    /// Number of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The paths with their failures, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Failed)> {
        self.paths.iter()
    }

    /// Whether this path failed as [`Extent::Name`].
    #[must_use]
    pub fn holds_name(&self, path: &RelPath) -> bool {
        let failed = self.paths.get(path);
        failed.is_some_and(|failed| failed.extent == Extent::Name)
    }

    /// A path failed at `now`. Returns the entry, for the log.
    pub fn on_failed(&mut self, dirty: &DirtyPath, failure: Failure, now: Instant) -> &Failed {
        if self.paths.len() >= MOST && !self.paths.contains_key(&dirty.path) {
            return self.take_together(dirty, failure, now);
        }
        self.touched.insert(dirty.path.clone());
        let next_id = &mut self.next_id;
        let failed = self.paths.entry(dirty.path.clone()).or_insert_with(|| {
            *next_id += 1;
            Failed {
                id: *next_id - 1,
                extent: dirty.extent,
                removed: dirty.removed,
                attempts: 0,
                failure: failure.clone(),
                first: now,
                last: now,
                next_try: None,
            }
        });
        failed.extent = failed.extent.max(dirty.extent);
        failed.removed = dirty.removed;
        failed.attempts = failed.attempts.saturating_add(1);
        failed.last = now;
        failed.failure = failure;
        let doublings = (failed.attempts - 1).min(20);
        failed.next_try = Some(now + (FIRST_RETRY * (1 << doublings)).min(self.longest_wait));
        failed
    }

    /// A path got through, with everything below it if it was a subtree. The job began at `began`: it says nothing of what
    /// failed since then. Returns what has left the queue by that.
    pub fn on_synced(
        &mut self,
        path: &RelPath,
        extent: Extent,
        began: Instant,
        compared: bool,
    ) -> Vec<(RelPath, Failed)> {
        let mut left = Vec::new();
        // Sending a directory itself says nothing of a failure below it.
        if self
            .paths
            .get(path)
            .is_some_and(|failed| failed.extent <= extent && failed.last <= began)
        {
            left.extend(self.remove(path));
        }
        if extent == Extent::Subtree {
            let below: Vec<RelPath> = self
                .paths
                .range(path..)
                .take_while(|(other, _)| other.is_within(path))
                // Where some removals are to be carried out and others are not, a comparison carries out none.
                .filter(|(_, failed)| !(compared && failed.removed))
                .filter(|(_, failed)| failed.last <= began)
                .map(|(other, _)| other.clone())
                .collect();
            left.extend(below.iter().filter_map(|other| self.remove(other)));
        }
        if compared && extent == Extent::Subtree {
            // What was being tried may have become a part of what was compared.
            let below = self.paths.range_mut(path..);
            let below = below.take_while(|(other, _)| other.is_within(path));
            for (_, failed) in below.filter(|(_, failed)| failed.removed) {
                failed.next_try.get_or_insert(began);
            }
        }
        left
    }

    /// Whether this path is in the queue.
    #[must_use]
    pub fn holds(&self, path: &RelPath) -> bool {
        self.paths.contains_key(path)
    }

    /// What is known of these paths, for [`put_back`](Self::put_back).
    pub fn entries_of<'a>(
        &self,
        paths: impl Iterator<Item = &'a RelPath>,
    ) -> Vec<(RelPath, Failed)> {
        let known = paths.filter_map(|path| self.paths.get_key_value(path));
        known
            .map(|(path, failed)| (path.clone(), failed.clone()))
            .collect()
    }

    /// These have not got through after all.
    pub fn put_back(&mut self, entries: Vec<(RelPath, Failed)>) {
        self.paths.extend(entries);
    }

    /// A directory is made equal entry by entry from `now` on: what is below it stands for it. What was being tried with it
    /// is tried by itself.
    pub fn on_split(&mut self, path: &RelPath, now: Instant) {
        if self.holds(path) {
            self.remove(path);
        }
        let below = self.paths.range_mut(path.clone()..);
        for (_, failed) in below.take_while(|(other, _)| other.is_within(path)) {
            failed.next_try.get_or_insert(now + FIRST_RETRY);
        }
    }

    fn remove(&mut self, path: &RelPath) -> Option<(RelPath, Failed)> {
        self.touched.insert(path.clone());
        self.paths.remove_entry(path)
    }

    /// A path that failed before this start, since then; it is tried soon.
    pub fn restore(&mut self, dirty: DirtyPath, attempts: u32, failure: Failure, now: Instant) {
        let failed = Failed {
            id: self.next_id,
            extent: dirty.extent,
            removed: dirty.removed,
            attempts,
            failure,
            first: dirty.since,
            last: now,
            next_try: Some(now + FIRST_RETRY),
        };
        self.next_id += 1;
        self.paths.insert(dirty.path, failed);
    }

    /// The paths whose entries came, changed or went since the last call, each with its entry if it has one: for
    /// keeping them elsewhere.
    pub fn take_touched(&mut self) -> Vec<(RelPath, Option<&Failed>)> {
        let touched = std::mem::take(&mut self.touched).into_iter();
        touched
            .map(|path| {
                let failed = self.paths.get(&path);
                (path, failed)
            })
            .collect()
    }

    /// The paths due at `now`, to be made dirty. They stay in the queue until they are synced or fail again.
    pub fn take_due(&mut self, now: Instant) -> Vec<DirtyPath> {
        let due = self
            .paths
            .iter_mut()
            .filter(|(_, f)| f.next_try.is_some_and(|at| at <= now));
        due.map(|(path, failed)| {
            failed.next_try = None;
            DirtyPath {
                path: path.clone(),
                extent: failed.extent,
                // Whether the file at the receiver is whole is not known.
                written: failed.extent != Extent::Subtree,
                // Being sent as written, its other names are looked for anyway.
                linked: false,
                since: failed.first,
                // A tree goes alone, so that the others it failed with do not fail again for it.
                tries: 1,
                removed: failed.removed,
            }
        })
        .collect()
    }

    /// When the next path is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.paths
            .values()
            .filter_map(|failed| failed.next_try)
            .min()
    }

    /// Makes every path due at `now`, for an administrator who has mended the cause. Returns how many.
    pub fn retry_all(&mut self, now: Instant) -> usize {
        for failed in self.paths.values_mut() {
            failed.next_try = Some(now);
        }
        self.paths.len()
    }

    fn take_together(&mut self, dirty: &DirtyPath, failure: Failure, now: Instant) -> &Failed {
        let paths = std::mem::take(&mut self.paths);
        // No comparison finds a removal out again.
        let (removals, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            paths.into_iter().partition(|(_, failed)| failed.removed);
        self.touched.extend(others.into_keys());
        if removals.len() <= MOST / 2 {
            self.paths = removals;
        } else {
            self.touched.extend(removals.into_keys());
        }
        if dirty.removed && self.paths.len() <= MOST / 2 {
            self.on_failed(dirty, failure.clone(), now);
        }
        let everything = DirtyPath::now(RelPath::root(), Extent::Subtree);
        self.on_failed(&everything, failure, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(3600);

    fn dirty(name: &str, extent: Extent) -> DirtyPath {
        let path = RelPath::new(name.as_bytes()).expect("a valid path");
        DirtyPath::now(path, extent)
    }

    fn failure() -> Failure {
        Failure {
            exit: 23,
            message: "Permission denied (13)".into(),
        }
    }

    #[test]
    fn waits_double_up_to_the_retry_period_and_the_path_stays_listed() {
        let mut queue = FailQueue::new(PERIOD);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..14 {
            queue.on_failed(&dirty("a", Extent::Entry), failure(), now);
            let due = queue.next_due().expect("waiting");
            waits.push((due - now).as_secs());
            now = due;
            assert_eq!(queue.take_due(now).len(), 1);
            assert!(queue.take_due(now).is_empty(), "it is being tried");
            assert_eq!(queue.len(), 1);
        }
        assert_eq!(waits[..4], [2, 4, 8, 16]);
        assert_eq!(waits[13], 3600);
        queue.on_synced(&dirty("a", Extent::Entry).path, Extent::Entry, now, false);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_synced_tree_takes_the_failures_below_it_along() {
        let mut queue = FailQueue::new(PERIOD);
        for name in ["d/a", "d/b/c", "d.x", "e"] {
            queue.on_failed(&dirty(name, Extent::Entry), failure(), Instant::now());
        }
        queue.on_synced(
            &dirty("d", Extent::Subtree).path,
            Extent::Subtree,
            Instant::now(),
            true,
        );
        let left: Vec<String> = queue.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(left, ["d.x", "e"]);
    }

    #[test]
    fn a_job_says_nothing_of_what_failed_since_it_began() {
        let mut queue = FailQueue::new(PERIOD);
        let began = Instant::now();
        let later = began + Duration::from_millis(1);
        queue.on_failed(&dirty("d/a", Extent::Entry), failure(), later);
        for (name, extent) in [("d", Extent::Subtree), ("d/a", Extent::Entry)] {
            queue.on_synced(&dirty(name, extent).path, extent, began, false);
            assert_eq!(queue.len(), 1);
        }
        queue.on_synced(
            &dirty("d", Extent::Subtree).path,
            Extent::Subtree,
            later,
            true,
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn a_comparison_leaves_what_was_seen_to_be_removed() {
        let mut queue = FailQueue::new(PERIOD);
        for (name, removed) in [("a", true), ("b", false), ("d/a", true)] {
            let dirty = DirtyPath {
                removed,
                ..dirty(name, Extent::Entry)
            };
            queue.on_failed(&dirty, failure(), Instant::now());
        }
        for tree in [RelPath::root(), dirty("d", Extent::Subtree).path] {
            queue.on_synced(&tree, Extent::Subtree, Instant::now(), true);
            let left: Vec<String> = queue.iter().map(|(path, _)| path.to_string()).collect();
            assert_eq!(left, ["a", "d/a"]);
        }
        for name in ["a", "d/a"] {
            let path = dirty(name, Extent::Entry).path;
            queue.on_synced(&path, Extent::Entry, Instant::now(), false);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_removed_with_its_directory_is_owed_no_longer() {
        let mut queue = FailQueue::new(PERIOD);
        for (name, extent) in [("d", Extent::Subtree), ("d/x", Extent::Entry)] {
            let dirty = DirtyPath {
                removed: true,
                ..dirty(name, extent)
            };
            queue.on_failed(&dirty, failure(), Instant::now());
        }
        let directory = dirty("d", Extent::Subtree).path;
        queue.on_synced(&directory, Extent::Subtree, Instant::now(), false);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_removal_that_was_being_tried_is_tried_again_after_a_comparison() {
        let (mut queue, now) = (FailQueue::new(PERIOD), Instant::now());
        let dirty = DirtyPath {
            removed: true,
            ..dirty("d/x", Extent::Entry)
        };
        queue.on_failed(&dirty, failure(), now);
        let due = queue.next_due().expect("waiting");
        assert_eq!(queue.take_due(due).len(), 1);
        queue.on_synced(&RelPath::root(), Extent::Subtree, due, true);
        assert!(queue.next_due().is_some());
    }

    #[test]
    fn a_directory_sent_by_itself_leaves_the_failure_of_its_content() {
        let mut queue = FailQueue::new(PERIOD);
        let locked = dirty("locked", Extent::Subtree);
        queue.on_failed(&locked, failure(), Instant::now());
        queue.on_synced(&locked.path, Extent::Entry, Instant::now(), false);
        assert_eq!(queue.len(), 1);
        queue.on_synced(&locked.path, Extent::Subtree, Instant::now(), true);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_was_tried_with_a_tree_that_is_taken_apart_is_tried_by_itself() {
        let now = Instant::now();
        let mut queue = FailQueue::new(PERIOD);
        queue.on_failed(&dirty("d/a", Extent::Subtree), failure(), now);
        let due = queue.next_due().expect("waiting");
        assert_eq!(queue.take_due(due).len(), 1);
        // Its tree swallowed it, and goes out entry by entry: no directory, it is an entry there.
        queue.on_split(&dirty("d", Extent::Subtree).path, due);
        queue.on_synced(&dirty("d/a", Extent::Entry).path, Extent::Entry, due, false);
        assert_eq!(queue.len(), 1);
        assert!(queue.next_due().is_some());
    }

    #[test]
    fn too_many_failures_become_one_of_the_whole_tree() {
        let mut queue = FailQueue::new(PERIOD);
        for at in 0..=MOST {
            queue.on_failed(
                &dirty(&format!("f{at}"), Extent::Entry),
                failure(),
                Instant::now(),
            );
        }
        assert_eq!(queue.len(), 1);
        assert!(
            queue
                .iter()
                .all(|(path, failed)| path.is_root() && failed.extent == Extent::Subtree)
        );
    }

    #[test]
    fn among_too_many_failures_a_removal_keeps_its_place() {
        let mut queue = FailQueue::new(PERIOD);
        for at in 0..=MOST {
            let removed = at % 100 == 0;
            let dirty = DirtyPath {
                removed,
                ..dirty(&format!("f{at}"), Extent::Entry)
            };
            queue.on_failed(&dirty, failure(), Instant::now());
        }
        let removals = queue.iter().filter(|(_, failed)| failed.removed).count();
        assert_eq!((removals, queue.len()), (101, 102));
    }

    proptest! {
        #[test]
        fn every_failed_path_is_tried_again_until_it_is_synced(
            steps in proptest::collection::vec((0..8_u8, 0..3_u8, 0..5_000_u64), 1..100)
        ) {
            let mut queue = FailQueue::new(PERIOD);
            let mut now = Instant::now();
            let mut owed = BTreeSet::new();
            for (which, what, millis) in steps {
                now += Duration::from_millis(millis);
                let one = dirty(&format!("p{which}"), Extent::Entry);
                match what {
                    0 => { queue.on_failed(&one, failure(), now); owed.insert(one.path); }
                    1 => { queue.on_synced(&one.path, Extent::Entry, now, false); owed.remove(&one.path); }
                    _ => for taken in queue.take_due(now) {
                        prop_assert!(owed.contains(&taken.path));
                        queue.on_failed(&taken, failure(), now);
                    },
                }
                prop_assert_eq!(queue.len(), owed.len());
                prop_assert_eq!(queue.next_due().is_some(), !owed.is_empty());
            }
        }
    }
}
