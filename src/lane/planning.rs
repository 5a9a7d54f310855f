//! What a lane does next: which of its slots is free, and what goes into it.

use std::sync::Arc;
use std::time::Instant;

use super::slot::Batch;
use super::{Job, LaneState, Plan, Unswept, push};
use crate::change::Extent;
use crate::dirty::{DirtyPath, Route};
use crate::path::RelPath;

/// Paths of one job: about a second of small files, so that a change never waits much longer for its turn.
pub(super) const MOST_PATHS: usize = 16_384;

impl LaneState {
    /// What to do at `now`. Each job it returns counts as started.
    pub fn plan(&mut self, now: Instant) -> Plan {
        let mut plan = Plan::default();
        for dirty in self.failed.take_due(now) {
            self.dirty.put_back(dirty, Route::Path);
        }
        if !self.source_present || self.paused {
            return plan;
        }
        for dirty in self.allowance.take_due(now) {
            self.dirty.put_back(dirty, Route::Path);
        }
        if let Some((_, recheck)) = self.held
            && recheck > now
        {
            plan.wake = Some(recheck);
            return plan;
        }
        if let Some(down) = &mut self.down
            && !down.answered
        {
            if down.next_try > now {
                plan.wake = Some(down.next_try);
            } else if !down.probing {
                down.probing = true;
                plan.probe = true;
            }
            return plan;
        }
        // One of the suspects may be what cuts off every run: it is not to be looked for among others once more.
        let in_order = self.suspects.is_empty();
        if in_order {
            self.doubt.on_reached(now);
            for dirty in self.doubt.take_due(now) {
                self.dirty.put_back(dirty, Route::Path);
            }
        }
        self.note_running(now);
        let after_detour = self.detours.due().is_some_and(|due| due <= now);
        if after_detour && !self.is_any_long_running() {
            if self.any_running() {
                return plan;
            }
            if let Some(since) = self.detours.take() {
                let mut everything = DirtyPath::now(RelPath::root(), Extent::Subtree);
                everything.since = since;
                self.dirty.put_back(everything, Route::Path);
            }
            plan.after_detour = true;
        }
        for route in [Route::Path, Route::Large, Route::Tree] {
            if (self.exclusive || self.is_crowded(now)) && self.any_running() {
                break;
            }
            if route == Route::Large && self.only_looks() {
                continue;
            }
            // Or one long job after the other would begin before the last one has ended.
            if after_detour && !plan.after_detour && route == Route::Tree {
                break;
            }
            // One new job must get through before there are several again. It does not wait for long ones that are
            // still at work, but long ones wait.
            let is_careful = self.down.is_some() || self.held.is_some();
            let waits = match route {
                Route::Path => false,
                Route::Large | Route::Tree => self.any_running(),
            };
            if is_careful && (waits || !plan.jobs.is_empty()) {
                break;
            }
            if let Some(job) = self.next_job(route, now) {
                plan.jobs.push(job);
            }
        }
        let gathering = self
            .gather_until
            .filter(|until| *until > now && self.path.running.is_none());
        let times = [
            gathering,
            self.dirty.next_due().filter(|due| *due > now),
            self.failed.next_due(),
            self.push.due().filter(|due| *due > now),
            self.doubt.due().filter(|_| in_order),
            self.detours.due().filter(|due| *due > now),
            self.allowance.due(),
        ];
        plan.wake = times.into_iter().flatten().min();
        plan
    }

    /// Whether the module had no connection left for a run, not long ago. None is kept for later then.
    #[must_use]
    pub fn is_crowded(&self, now: Instant) -> bool {
        self.crowded_until.is_some_and(|until| now < until)
    }

    pub(super) fn any_running(&self) -> bool {
        self.slots().iter().any(|slot| slot.running.is_some())
    }

    pub(super) fn is_any_long_running(&self) -> bool {
        [&self.large, &self.tree]
            .iter()
            .any(|slot| slot.running.is_some())
    }

    /// A job begins beside long ones, or is one.
    fn note_beside(&mut self, route: Route, batch: &Batch, unswept: &[Unswept], now: Instant) {
        let was_long = self.is_any_long_running();
        if route != Route::Path {
            if !was_long {
                self.detours.open(now);
            }
            if let Some(batch) = &self.path.running {
                self.path.is_beside = true;
                self.detours.enter(batch.paths(), now);
            }
        }
        if route == Route::Tree {
            return;
        }
        let is_beside = route == Route::Large || was_long;
        self.slot(route).is_beside = is_beside;
        if is_beside {
            self.detours.enter(batch.paths(), now);
            for one in unswept {
                self.detours.enter_directory(&one.dir, now);
            }
        }
    }

    /// Jobs that go on for long are still at work in their directories.
    fn note_running(&mut self, now: Instant) {
        if self.detours.turn(now) {
            for slot in [&self.path, &self.large] {
                if let Some(batch) = &slot.running {
                    self.detours.enter(batch.paths(), now);
                }
            }
        }
    }

    fn next_job(&mut self, route: Route, now: Instant) -> Option<Job> {
        if self.slot(route).running.is_some() {
            return None;
        }
        let mut excludes: Arc<[String]> = Arc::default();
        let mut paths = match route {
            Route::Path => self.next_paths(now)?,
            // One at a time: each is long by itself.
            Route::Large => {
                let Self { dirty, path, .. } = self;
                dirty.take(route, 1, now, |other| path.lists(other))
            }
            Route::Tree => self.next_trees(now),
        };
        if route == Route::Tree && paths.is_empty() {
            excludes = self.begin_push(now)?;
            paths = push::batch(now);
        }
        if paths.is_empty() {
            return None;
        }
        let (mut beside, mut unswept) = (Vec::new(), Vec::new());
        let others = [(Route::Large, &self.large), (Route::Tree, &self.tree)];
        for (other, slot) in others.into_iter().filter(|(other, _)| *other != route) {
            if let Some(batch) = &slot.running {
                beside.push((other, batch.clone()));
                for dirty in &mut paths {
                    slot.remember_former(dirty);
                }
            }
        }
        if route == Route::Path {
            // What is half written there is no left-over.
            let is_busy = |one: &Unswept| beside.iter().any(|(_, batch)| batch.overlaps(&one.dir));
            let all = std::mem::take(&mut self.unswept).into_iter();
            let (later, now): (Vec<_>, Vec<_>) = all.partition(is_busy);
            self.unswept.extend(later);
            unswept = now;
        }
        let batch = Batch::new(&paths);
        self.note_beside(route, &batch, &unswept, now);
        let slot = self.slot(route);
        (slot.running, slot.began) = (Some(batch), Some(now));
        if self.tree.is_everything() {
            self.push.forget();
        }
        let budget = self.allowance.budget(&paths);
        Some(Job {
            route,
            paths,
            unswept,
            beside,
            excludes,
            forms: self.forms,
            budget,
        })
    }

    /// The patterns of the push that is due. It waits where everything is dirty: comparing that takes its place.
    fn begin_push(&mut self, now: Instant) -> Option<Arc<[String]>> {
        if self.owes_everything() {
            return None;
        }
        let alone = self.pending() == 0 && self.failed.is_empty();
        self.push.begin(alone, now)
    }

    /// Trees that failed together with others go one by one, so that it shows which one fails.
    fn next_trees(&mut self, now: Instant) -> Vec<DirtyPath> {
        let only_looks = self.only_looks();
        let is_later = |other: &RelPath| only_looks && !other.is_root();
        let mut trees = self.dirty.take(Route::Tree, MOST_PATHS, now, is_later);
        for other in self.allowance.set_apart(&mut trees) {
            self.dirty.put_back(other, Route::Tree);
        }
        if let Some(at) = trees.iter().position(|dirty| dirty.tries > 0)
            && trees.len() > 1
        {
            let alone = trees.swap_remove(at);
            for other in trees {
                self.dirty.put_back(other, Route::Tree);
            }
            trees = vec![alone];
        }
        trees
    }

    /// As long as nothing is to be sent, everything is compared again, which nothing else comes before.
    fn only_looks(&self) -> bool {
        self.is_held_by_trees() && !self.is_accepted && self.owes_everything()
    }

    fn next_paths(&mut self, now: Instant) -> Option<Vec<DirtyPath>> {
        if self.only_looks() {
            if !self.dirty.is_everything() {
                return None;
            }
            let but_root = |other: &RelPath| !other.is_root();
            return Some(self.dirty.take(Route::Path, 1, now, but_root));
        }
        if (self.suspects_turn || self.dirty.ready_len() == 0)
            && let Some(group) = self.suspects.pop_front()
        {
            self.suspects_turn = false;
            return Some(group);
        }
        self.suspects_turn = !self.suspects.is_empty();
        if self.gather_until.is_some_and(|until| until > now) {
            return None;
        }
        self.gather_until = None;
        let Self { dirty, large, .. } = self;
        let mut paths = dirty.take(Route::Path, MOST_PATHS, now, |other| large.lists(other));
        for other in self.allowance.set_apart(&mut paths) {
            self.dirty.put_back(other, Route::Path);
        }
        if paths.is_empty() {
            self.suspects.pop_front()
        } else {
            Some(paths)
        }
    }
}
