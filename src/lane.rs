//! The sending side of one mirror to one remote.
//!
//! [`LaneState`] here is pure: changes, reports and the time go in, jobs come out. [`task`] carries them out, and
//! [`transfer`] is one job from its batch to its report.
//!
//! A lane has three slots ([`Route`]): small paths, large files, and trees. Each runs one job at a time, so per remote
//! at most three runs overlap; what a path job sent or deleted below a long job is dirty again when that one ends,
//! since the long one may have undone it. Where one may have led the other through a link, everything is compared
//! (`detour`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::{Change, Extent};
use crate::dirty::{DirtyPath, DirtySet, Route};
use crate::fail_queue::{FailQueue, Failed, Failure};
use crate::path::RelPath;
use crate::rsync::args::Forms;
use crate::saved::{Line, Saved, SavedFailure};

mod allowance;
pub mod attempt;
mod budget;
pub mod clock;
pub mod context;
mod detour;
mod doubt;
mod down;
pub mod guard;
mod job;
mod news;
pub mod places;
mod planning;
pub mod preview;
mod push;
mod removal;
mod reports;
mod sample;
mod slot;
mod standing;
pub mod task;
pub mod transfer;
pub mod verify;
pub mod volumes;

pub use job::{Condition, End, Hold, Job, News, Plan, Report, Settled, Split, Unswept};
pub use slot::Batch;

use allowance::Allowance;
use clock::Clock;
use detour::Detours;
use doubt::Doubt;
use down::Down;
use push::Push;
use slot::Slot;

/// Dirty paths kept one by one for each lane: some 10 MB. More than that is compared faster by directory.
const MOST_DIRTY: usize = 50_000;
/// Paths of tree jobs that are remembered after their end, some 500 KB: mostly far more than end while a watcher reads
/// what has happened.
const MOST_ENDED: usize = 4_096;
/// The message of a removal that is kept for the next start without having failed.
const REMOVAL_OWED: &str = "its removal was owed when the service ended or read its file again";
/// In place of an exit code: a path that is left as it is, for a file system that is not mounted there.
pub const VOLUME_MISSING: i32 = -2;

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "conditions that come and go by themselves, each with an event of its own"
)]
pub struct LaneState {
    dirty: DirtySet,
    failed: FailQueue,
    forms: Forms,
    path: Slot,
    large: Slot,
    tree: Slot,
    push: Push,
    down: Option<Down>,
    doubt: Doubt,
    detours: Detours,
    held: Option<(Hold, Instant)>,
    /// What is held was accepted since.
    is_accepted: bool,
    allowance: Allowance,
    source_present: bool,
    /// Groups of which at least one path fails, to be tried apart.
    suspects: VecDeque<Vec<DirtyPath>>,
    suspects_turn: bool,
    /// Long jobs that ended while the path job of now was running.
    ended_meanwhile: Vec<Batch>,
    /// The last tree jobs, and when they ended.
    ended_trees: VecDeque<(Instant, Batch)>,
    /// When the last of those ended of which nothing else is known any more.
    forgotten_tree: Option<Instant>,
    unswept: BTreeSet<Unswept>,
    full_disk: u32,
    gather_until: Option<Instant>,
    in_a_row: u32,
    /// Two runs at once could write one file in place.
    exclusive: bool,
    /// Until then, the module is asked for no more than one connection.
    crowded_until: Option<Instant>,
    paused: bool,
    /// A scan does not begin before.
    scan_after: Option<Instant>,
    last_error: String,
}

impl LaneState {
    /// A lane with nothing to do yet.
    #[must_use]
    pub fn new(forms: Forms, retry_period: Duration, exclusive: bool) -> Self {
        Self {
            dirty: DirtySet::new(MOST_DIRTY),
            failed: FailQueue::new(retry_period),
            forms,
            path: Slot::new(),
            large: Slot::new(),
            tree: Slot::new(),
            push: Push::default(),
            down: None,
            doubt: Doubt::none(),
            detours: Detours::default(),
            held: None,
            is_accepted: false,
            allowance: Allowance::new(None),
            source_present: true,
            suspects: VecDeque::new(),
            suspects_turn: false,
            ended_meanwhile: Vec::new(),
            ended_trees: VecDeque::new(),
            forgotten_tree: None,
            unswept: BTreeSet::new(),
            full_disk: 0,
            gather_until: None,
            in_a_row: 0,
            exclusive,
            crowded_until: None,
            paused: false,
            scan_after: None,
            last_error: String::new(),
        }
    }

    /// At most so many entries are removed at the receiver before a person is asked; `None` for any number.
    #[must_use]
    pub fn with_max_delete(mut self, limit: Option<u64>) -> Self {
        self.allowance = Allowance::new(limit);
        self
    }

    /// A person accepts the deletions that are withheld: how many entries they would remove.
    pub fn accept_deletions(&mut self, now: Instant) -> u64 {
        let (count, withheld) = self.allowance.accept(now);
        for dirty in withheld {
            self.dirty.put_back(dirty, Route::Path);
        }
        count
    }

    /// Paths that are not known to be equal.
    #[must_use]
    pub fn pending(&self) -> usize {
        let suspects: usize = self.suspects.iter().map(Vec::len).sum();
        let running: usize = self.slots().map(Slot::len).iter().sum();
        let detour = usize::from(self.detours.met().is_some());
        self.dirty.len() + suspects + running + self.allowance.len() + detour
    }

    /// The paths that failed by themselves.
    #[must_use]
    pub fn failed(&self) -> &FailQueue {
        &self.failed
    }

    /// The paths that had failed before this start.
    pub fn restore(&mut self, saved: &Saved, clock: Clock, now: Instant) {
        for (path, one) in saved {
            let dirty = DirtyPath {
                since: clock.steady(one.first),
                removed: one.removed,
                ..DirtyPath::now(path.clone(), one.extent)
            };
            self.failed
                .restore(dirty, one.attempts, one.failure.clone(), now);
        }
    }

    /// The lane ends. The next start compares everything, but what was seen to be removed by a means whose switch is on
    /// looks like what must stay then: as far as it is still owed, it is kept with what failed.
    pub fn keep_removals(&mut self, now: Instant) {
        let suspects = self.suspects.iter().flatten();
        let suspects = suspects.filter(|dirty| dirty.removed).cloned();
        let withheld = self.allowance.removals();
        // Of jobs that could not be brought to their end.
        let running = self
            .slots()
            .into_iter()
            .filter_map(|slot| slot.running.as_ref());
        let running = running.flat_map(Batch::iter);
        let running = running.filter(|dirty| dirty.removed).cloned();
        let owed: Vec<DirtyPath> = self
            .dirty
            .removals()
            .chain(suspects)
            .chain(withheld)
            .chain(running)
            .collect();
        for dirty in owed {
            let failure = Failure {
                exit: -1,
                message: REMOVAL_OWED.into(),
            };
            self.failed.on_failed(&dirty, failure, now);
        }
    }

    /// What became otherwise in the fail queue since the last call, for its saved form.
    pub fn take_lines(&mut self, clock: Clock) -> Vec<Line> {
        let touched = self.failed.take_touched().into_iter();
        let line = |(path, failed): (RelPath, Option<&Failed>)| match failed {
            None => Line::Synced(path),
            Some(failed) => Line::Failed(
                path,
                SavedFailure {
                    extent: failed.extent,
                    removed: failed.removed,
                    attempts: failed.attempts,
                    failure: failed.failure.clone(),
                    first: clock.civil(failed.first),
                },
            ),
        };
        touched.map(line).collect()
    }

    /// A change came in.
    pub fn on_change(&mut self, mut change: Change, now: Instant) {
        if let Some(after) = change.made {
            return self.on_made(&change.path, after, now);
        }
        self.push.disturb();
        self.detours.on_change(&change, now);
        // What failed as a name is done with only when it got through as such.
        if self.failed.holds_name(&change.path) {
            change.extent = change.extent.max(Extent::Name);
        }
        self.dirty.insert(change, now);
        // An entry may have come into an empty source.
        if let Some((Hold::SourceEmpty, recheck)) = &mut self.held {
            *recheck = now;
        }
    }

    /// A tree job lists a new directory as soon as it is there: what it sent of it may be gone since, which nobody saw
    /// who did not watch it yet. So the directory is compared when no such job runs any more.
    fn on_made(&mut self, dir: &RelPath, after: Instant, now: Instant) {
        let running = self.tree.running.as_ref();
        let mut ended = self.ended_trees.iter().filter(|(at, _)| *at >= after);
        if running.is_some_and(|batch| batch.overlaps(dir)) {
            self.tree.made.insert(Change::subtree(dir.clone()), now);
        } else if self.forgotten_tree.is_some_and(|at| at >= after)
            || ended.any(|(_, batch)| batch.overlaps(dir))
        {
            self.dirty.insert(Change::subtree(dir.clone()), now);
        }
    }

    /// The schedule asks for a full push in which these patterns hold. Whatever compares everything by then is one.
    pub fn on_schedule(&mut self, excludes: Arc<[String]>, now: Instant) {
        if !self.owes_everything() {
            self.push.ask(excludes, now);
        }
    }

    /// A person says that the source is right as it is: what was held or left out is compared.
    pub fn on_accepted(&mut self, now: Instant) {
        if let Some((_, recheck)) = &mut self.held {
            *recheck = now;
            self.is_accepted = true;
        }
        self.on_change(Change::subtree(RelPath::root()), now);
        self.retry_failed(now);
    }

    /// Something may have changed of which the kernel tells nothing. Where comparing takes long it is done more rarely.
    pub fn on_scan(&mut self, now: Instant) {
        if !self.owes_everything() && self.scan_after.is_none_or(|after| after <= now) {
            self.on_change(Change::subtree(RelPath::root()), now);
        }
    }

    /// From now on nothing is begun, or goes on.
    pub fn on_pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Somebody waits until all is equal: nothing is put off any more.
    pub fn hurry(&mut self, now: Instant) {
        self.dirty.lift_intervals();
        self.gather_until = None;
        self.detours.hurry();
        self.probe_now(now);
    }

    /// An administrator has mended something: everything that failed is tried again. Returns the number of paths.
    pub fn retry_failed(&mut self, now: Instant) -> usize {
        self.probe_now(now);
        self.allowance.hurry(now);
        self.failed.retry_all(now)
    }

    fn probe_now(&mut self, now: Instant) {
        if let Some(down) = &mut self.down {
            down.next_try = now;
        }
    }

    /// The source went away, or is there again.
    pub fn on_source(&mut self, present: bool) {
        self.source_present = present;
    }

    fn slots(&self) -> [&Slot; 3] {
        [&self.path, &self.large, &self.tree]
    }

    fn slot(&mut self, route: Route) -> &mut Slot {
        match route {
            Route::Path => &mut self.path,
            Route::Large => &mut self.large,
            Route::Tree => &mut self.tree,
        }
    }

    fn owes_everything(&self) -> bool {
        self.dirty.is_everything() || self.slots().into_iter().any(Slot::is_everything)
    }
}

#[cfg(test)]
mod tests;
