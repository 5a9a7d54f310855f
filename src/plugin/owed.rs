//! Which paths have changed and are not yet at every remote. Pure: time is an argument.
//!
//! A path is ready when every lane has synced it in a job that was begun after it first changed. If it changed again
//! meanwhile it stays, and is ready once more when every lane has that change too: so the last word about a path is
//! always told after all remotes have it, and a path that never rests is told all the same.
//!
//! A path that is gone and stays at the remotes, since a switch does not let its removal through, is not told as deleted;
//! nor is anything told of it that no remote got before it went.
//!
//! A remote that is away keeps its paths here. Past a bound further paths are dropped, the oldest stay.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::change::{Change, Extent};
use crate::config::Removals;
use crate::dirty::DirtyPath;
use crate::path::RelPath;

/// A path that is at every remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Relative to the source.
    pub path: RelPath,
    /// Whether all below it came with it.
    pub extent: Extent,
    /// Whether it is told as deleted if it is gone; else the remotes have it still, and it is told as it came to them.
    pub may_be_gone: bool,
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Noted {
    /// It waits for the lanes.
    Waits,
    /// There is no lane to wait for.
    Ready(Ready),
    /// There is no room.
    Dropped,
}

/// See the module.
#[derive(Debug)]
pub struct Owed {
    lanes: Vec<u32>,
    removals: Removals,
    waiting: BTreeMap<RelPath, Waiting>,
    limit: usize,
}

#[derive(Debug)]
struct Waiting {
    extent: Extent,
    /// See [`Change::removed`].
    removed: bool,
    /// The first change that is not told.
    first: Instant,
    last: Instant,
    /// For each lane, when the last job was begun that brought a change which is not told, or found that it never will.
    brought: Vec<Option<Instant>>,
    /// Whether any remote got a change which is not told.
    got: bool,
}

impl Owed {
    /// Nothing owed by these lanes, which carry out these removals, and never more than `limit` paths.
    #[must_use]
    pub fn new(lanes: Vec<u32>, removals: Removals, limit: usize) -> Self {
        Self {
            lanes,
            removals,
            waiting: BTreeMap::new(),
            limit,
        }
    }

    /// Whether every lane has everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The lanes that the first path waits for.
    #[must_use]
    pub fn late(&self) -> Vec<u32> {
        let Some((_, waiting)) = self.waiting.first_key_value() else {
            return Vec::new();
        };
        let lanes = self.lanes.iter().zip(&waiting.brought);
        let late = lanes.filter(|(_, brought)| brought.is_none());
        late.map(|(lane, _)| *lane).collect()
    }

    /// A path changed at `now`.
    pub fn on_change(&mut self, change: &Change, now: Instant) -> Noted {
        if change.kept {
            // The lanes keep it, too.
            if let Some(waiting) = self.waiting.get_mut(&change.path) {
                waiting.removed = false;
            }
            return Noted::Waits;
        }
        if self.lanes.is_empty() {
            return Noted::Ready(Ready {
                path: change.path.clone(),
                extent: change.extent,
                may_be_gone: self.removals == Removals::All || change.removed,
            });
        }
        if let Some(waiting) = self.waiting.get_mut(&change.path) {
            waiting.last = now;
            waiting.removed = change.removed;
            waiting.extent = waiting.extent.max(change.extent);
        } else if self.waiting.len() < self.limit {
            let waiting = Waiting {
                extent: change.extent,
                removed: change.removed,
                first: now,
                last: now,
                brought: vec![None; self.lanes.len()],
                got: false,
            };
            self.waiting.insert(change.path.clone(), waiting);
        } else {
            return Noted::Dropped;
        }
        Noted::Waits
    }

    /// A job of `lane` that was begun at `started` has found a path gone, and all below it; its remote keeps them. What they
    /// were before, that remote never gets, if it has not got it already. What is ready by that goes to `ready`.
    pub fn on_kept(
        &mut self,
        lane: u32,
        started: Instant,
        kept: &DirtyPath,
        ready: &mut Vec<Ready>,
    ) {
        let Some(lane) = self.lanes.iter().position(|other| *other == lane) else {
            return;
        };
        let range = self.waiting.range_mut(kept.path.clone()..);
        let covered = range.take_while(|(path, _)| path.is_within(&kept.path));
        let over = covered.filter(|(path, waiting)| {
            // The lane may not know yet that this itself is to be removed.
            let is_to_go = waiting.removed && **path == kept.path;
            waiting.last <= started && !is_to_go
        });
        let mut done = Vec::new();
        for (path, waiting) in over {
            if !waiting.on_brought(lane, started) {
                continue;
            }
            if waiting.got {
                ready.push(Ready {
                    path: path.clone(),
                    extent: waiting.extent,
                    may_be_gone: self.removals == Removals::All || waiting.removed,
                });
            }
            // It is gone: nothing further is to come.
            done.push(path.clone());
        }
        for path in done {
            self.waiting.remove(&path);
        }
    }

    /// A job of `lane` that was begun at `started` has synced a path, and with a subtree all below it. What is ready by
    /// that goes to `ready`.
    pub fn on_synced(
        &mut self,
        lane: u32,
        started: Instant,
        synced: &DirtyPath,
        ready: &mut Vec<Ready>,
    ) {
        let Some(lane) = self.lanes.iter().position(|other| *other == lane) else {
            return;
        };
        let range = self.waiting.range_mut(synced.path.clone()..);
        let covered = range.take_while(|(path, _)| covers(synced, path));
        let mut done = Vec::new();
        for (path, waiting) in covered {
            waiting.got |= started >= waiting.first;
            if !waiting.on_brought(lane, started) {
                continue;
            }
            ready.push(Ready {
                path: path.clone(),
                extent: waiting.extent,
                may_be_gone: self.removals == Removals::All || synced.removed || waiting.removed,
            });
            if !waiting.go_on() {
                done.push(path.clone());
            }
        }
        for path in done {
            self.waiting.remove(&path);
        }
    }
}

/// Whether what is said of one path holds for another.
fn covers(dirty: &DirtyPath, path: &RelPath) -> bool {
    match dirty.extent {
        Extent::Entry | Extent::Name => *path == dirty.path,
        Extent::Subtree => path.is_within(&dirty.path),
    }
}

impl Waiting {
    /// Whether all lanes have brought it now.
    fn on_brought(&mut self, lane: usize, started: Instant) -> bool {
        if started >= self.first {
            self.brought[lane] = self.brought[lane].max(Some(started));
        }
        self.brought.iter().all(Option::is_some)
    }

    /// After it was told: `false` if that was all there is to tell, else it waits for what has changed since.
    fn go_on(&mut self) -> bool {
        let last = self.last;
        for brought in &mut self.brought {
            *brought = brought.filter(|started| *started >= last);
        }
        self.first = last;
        self.got = self.brought.iter().any(Option::is_some);
        self.brought.iter().any(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn synced(owed: &mut Owed, lane: u32, started: Instant, dirty: &DirtyPath) -> Vec<String> {
        let mut ready = Vec::new();
        owed.on_synced(lane, started, dirty, &mut ready);
        let paths = ready.iter().map(|ready| ready.path.to_string());
        paths.collect()
    }

    fn entry(text: &str) -> DirtyPath {
        DirtyPath::now(path(text), Extent::Entry)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_path_is_ready_when_the_last_remote_has_it() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![7, 9], Removals::All, 10);
        assert_eq!(
            owed.on_change(&Change::entry(path("a")), start),
            Noted::Waits
        );
        assert!(synced(&mut owed, 7, after(start, 1), &entry("a")).is_empty());
        assert!(synced(&mut owed, 7, after(start, 2), &entry("a")).is_empty());
        assert_eq!(owed.late(), [9]);
        assert_eq!(synced(&mut owed, 9, after(start, 3), &entry("a")), ["a"]);
        assert!(owed.is_empty());
        assert!(synced(&mut owed, 9, after(start, 4), &entry("a")).is_empty());
    }

    #[test]
    fn a_job_that_was_begun_before_the_change_does_not_count() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::All, 10);
        owed.on_change(&Change::entry(path("a")), after(start, 1));
        assert!(synced(&mut owed, 1, start, &entry("a")).is_empty());
        assert_eq!(synced(&mut owed, 1, after(start, 2), &entry("a")), ["a"]);
    }

    #[test]
    fn a_path_that_changed_meanwhile_is_told_again_when_all_have_that() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1, 2], Removals::All, 10);
        owed.on_change(&Change::entry(path("a")), start);
        assert!(synced(&mut owed, 1, after(start, 1), &entry("a")).is_empty());
        owed.on_change(&Change::entry(path("a")), after(start, 2));
        assert_eq!(synced(&mut owed, 2, after(start, 3), &entry("a")), ["a"]);
        assert!(!owed.is_empty(), "remote 1 lacks the second change");
        assert_eq!(synced(&mut owed, 1, after(start, 4), &entry("a")), ["a"]);
        assert!(owed.is_empty());
    }

    #[test]
    fn a_path_that_never_rests_is_told_all_the_same() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::All, 10);
        let mut told = 0;
        for second in 0..100 {
            owed.on_change(&Change::written(path("log")), after(start, 2 * second));
            let begun = after(start, 2 * second + 1);
            owed.on_change(&Change::written(path("log")), after(start, 2 * second + 1));
            told += synced(&mut owed, 1, begun, &entry("log")).len();
        }
        assert!(told > 90, "{told}");
    }

    #[test]
    fn a_tree_covers_what_is_below_it_and_an_entry_only_itself() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::All, 10);
        for name in ["d", "d/x", "d/y/z", "d.x", "e"] {
            owed.on_change(&Change::entry(path(name)), start);
        }
        assert_eq!(synced(&mut owed, 1, start, &entry("d")), ["d"]);
        let tree = DirtyPath::now(path("d"), Extent::Subtree);
        assert_eq!(synced(&mut owed, 1, start, &tree), ["d/x", "d/y/z"]);
        let all = DirtyPath::now(RelPath::root(), Extent::Subtree);
        assert_eq!(synced(&mut owed, 1, start, &all), ["d.x", "e"]);
    }

    #[test]
    fn a_remote_that_is_away_keeps_no_more_than_the_bound() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::All, 2);
        for name in ["a", "b", "a"] {
            assert_eq!(
                owed.on_change(&Change::entry(path(name)), start),
                Noted::Waits
            );
        }
        assert_eq!(
            owed.on_change(&Change::entry(path("c")), start),
            Noted::Dropped
        );
    }

    #[test]
    fn without_a_remote_everything_is_ready_at_once() {
        let noted = Owed::new(Vec::new(), Removals::All, 0)
            .on_change(&Change::entry(path("a")), Instant::now());
        assert!(matches!(noted, Noted::Ready(_)));
    }

    #[test]
    fn what_is_gone_before_a_remote_got_it_and_is_kept_there_is_not_told() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::Seen, 10);
        let kept = Change {
            kept: true,
            ..Change::left(path("a"))
        };
        assert_eq!(owed.on_change(&kept, start), Noted::Waits);
        assert!(owed.is_empty(), "nothing is to be told");
        owed.on_change(&Change::written(path("a")), after(start, 1));
        owed.on_change(&kept, after(start, 2));
        // A job that may have looked before the file was written says nothing of it.
        let mut ready = Vec::new();
        owed.on_kept(1, start, &entry("a"), &mut ready);
        assert!(!owed.is_empty());
        owed.on_kept(1, after(start, 3), &entry("a"), &mut ready);
        assert!(owed.is_empty());
        assert_eq!(ready, []);
    }

    #[test]
    fn what_one_remote_got_is_told_when_the_others_got_it_or_never_will() {
        let start = Instant::now();
        let later = after(start, 1);
        for has_other in [true, false] {
            let mut owed = Owed::new(vec![1, 2], Removals::Seen, 10);
            owed.on_change(&Change::written(path("a")), start);
            assert_eq!(synced(&mut owed, 1, start, &entry("a")), [""; 0]);
            let mut ready = Vec::new();
            owed.on_kept(1, later, &entry("a"), &mut ready);
            assert_eq!(ready, [], "the other may be bringing it");
            if has_other {
                owed.on_synced(2, start, &entry("a"), &mut ready);
            } else {
                owed.on_kept(2, later, &entry("a"), &mut ready);
            }
            assert_eq!(ready.len(), 1);
            assert!(owed.is_empty());
        }
    }

    #[test]
    fn what_was_in_a_directory_that_is_gone_is_not_waited_for() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::None, 10);
        owed.on_change(&Change::entry(path("d")), start);
        owed.on_change(&Change::written(path("d/x")), start);
        owed.on_kept(1, after(start, 1), &entry("d"), &mut Vec::new());
        assert!(owed.is_empty());
    }

    #[test]
    fn what_is_gone_is_told_as_deleted_where_that_is_carried_out() {
        let start = Instant::now();
        for (removals, removed, may_be_gone) in [
            (Removals::All, false, true),
            (Removals::Seen, true, true),
            (Removals::Seen, false, false),
            (Removals::None, false, false),
        ] {
            let change = Change {
                removed,
                ..Change::left(path("a"))
            };
            let mut owed = Owed::new(vec![1], removals, 10);
            owed.on_change(&change, start);
            let mut ready = Vec::new();
            let synced = DirtyPath {
                removed,
                ..entry("a")
            };
            owed.on_synced(1, start, &synced, &mut ready);
            let told = Owed::new(Vec::new(), removals, 0).on_change(&change, start);
            let all = ready.into_iter().map(Noted::Ready).chain([told]);
            let all: Vec<bool> = all
                .map(|noted| matches!(noted, Noted::Ready(ready) if ready.may_be_gone))
                .collect();
            assert_eq!(all, [may_be_gone; 2], "{removals:?} {removed}");
        }
    }

    #[test]
    fn of_a_directory_that_is_kept_a_removal_in_it_is_not_waited_for() {
        let start = Instant::now();
        let mut owed = Owed::new(vec![1], Removals::Seen, 10);
        for name in ["d", "d/x"] {
            let removed = Change {
                removed: true,
                ..Change::subtree(path(name))
            };
            owed.on_change(&removed, start);
        }
        let tree = DirtyPath::now(path("d"), Extent::Subtree);
        owed.on_kept(1, start, &tree, &mut Vec::new());
        let removed = DirtyPath {
            removed: true,
            ..tree
        };
        assert_eq!(
            synced(&mut owed, 1, after(start, 1), &removed),
            ["d"],
            "the lane heard of its own removal later"
        );
    }

    proptest! {
        /// Changes and jobs in any order; in the end every lane takes everything.
        #[test]
        fn whatever_changed_is_told_after_every_lane_has_it(
            steps in prop::collection::vec((0..3_u8, 0..2_u32, 0..4_u8), 0..60)
        ) {
            let start = Instant::now();
            let mut owed = Owed::new(vec![0, 1], Removals::All, 100);
            let mut last_change = BTreeMap::new();
            let mut last_told = BTreeMap::new();
            let mut now = 0;
            let mut note = |told: Vec<String>, now: u64| for name in told { last_told.insert(name, now); };
            for (what, lane, name) in steps {
                now += 1;
                let name = format!("p{name}");
                if what == 0 {
                    owed.on_change(&Change::entry(path(&name)), after(start, now));
                    last_change.insert(name, now);
                } else {
                    note(synced(&mut owed, lane, after(start, now), &entry(&name)), now);
                }
            }
            for lane in [0, 1] {
                now += 1;
                let all = DirtyPath::now(RelPath::root(), Extent::Subtree);
                note(synced(&mut owed, lane, after(start, now), &all), now);
            }
            prop_assert!(owed.is_empty());
            for (name, changed) in last_change {
                prop_assert!(last_told.get(&name).is_some_and(|told| *told > changed), "{name}");
            }
        }
    }
}
