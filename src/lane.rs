//! The sending side of one mirror to one remote.
//!
//! [`LaneState`] here is pure: changes, reports and the time go in, jobs come out. [`task`] carries them out, and
//! [`transfer`] is one job from its batch to its report.
//!
//! A lane has three slots ([`Route`]): small paths, large files, and trees. Each runs one job at a time, so per remote
//! at most three runs overlap; what a path job sent or deleted below a long job is dirty again when that one ends,
//! since the long one may have undone it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::{Change, Extent};
use crate::control::State;
use crate::dirty::{DirtyPath, DirtySet, Route};
use crate::fail_queue::{FailQueue, Failed, Failure};
use crate::path::RelPath;
use crate::rsync::args::Forms;
use crate::saved::{Line, Saved, SavedFailure};

mod allowance;
pub mod attempt;
pub mod clock;
pub mod context;
mod down;
pub mod guard;
mod job;
mod news;
pub mod preview;
mod push;
mod removal;
mod sample;
mod slot;
pub mod task;
pub mod transfer;
pub mod verify;
pub mod volumes;

pub use job::{Condition, End, Hold, Job, News, Plan, Report, Settled, Split};
pub use slot::Batch;

use allowance::Allowance;
use clock::Clock;
use down::Down;
use push::Push;
use slot::Slot;

/// Dirty paths kept one by one for each lane: some 10 MB. More than that is compared faster by directory.
const MOST_DIRTY: usize = 50_000;
/// Paths of one job: about a second of small files, so that a change never waits much longer for its turn.
const MOST_PATHS: usize = 16_384;
/// In a storm, changes gather for at most this long between two jobs: fewer runs, and hardly a delay.
const LONGEST_GATHERING: Duration = Duration::from_millis(50);
/// The gathering after the first of several jobs in a row; doubled with each further one.
const SHORTEST_GATHERING: Duration = Duration::from_millis(5);
/// A job with so many paths is a storm by itself.
const STORM: usize = 256;
/// How often a held lane looks whether its source is back.
const HOLD_CHECK: Duration = Duration::from_secs(2);
/// How often it looks where that takes a comparison of everything.
const COSTLY_HOLD_CHECK: Duration = Duration::from_secs(300);
/// In place of an exit code: a path that is left as it is, for a file system that is not mounted there.
pub const VOLUME_MISSING: i32 = -2;
/// More directories than this are not swept one by one: the whole tree is compared.
const MOST_UNSWEPT: usize = 1000;
/// A path that had changed by the time it was sent is looked at again at growing intervals, for some seconds in all;
/// then it counts as failed.
const MOST_TRIES: u8 = 10;
/// After a scan there is a pause, so many times as long as the scan took.
const SCAN_PAUSE: u32 = 9;
/// A full disk is tried with this many halves before the rest waits in the fail queue.
const FULL_DISK_TRIES: u32 = 8;

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
    held: Option<(Hold, Instant)>,
    allowance: Allowance,
    source_present: bool,
    /// Groups of which at least one path fails, to be tried apart.
    suspects: VecDeque<Vec<DirtyPath>>,
    suspects_turn: bool,
    /// Long jobs that ended while the path job of now was running.
    ended_meanwhile: Vec<Batch>,
    unswept: BTreeSet<RelPath>,
    full_disk: u32,
    gather_until: Option<Instant>,
    in_a_row: u32,
    /// Two runs at once could write one file in place.
    exclusive: bool,
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
            held: None,
            allowance: Allowance::new(None),
            source_present: true,
            suspects: VecDeque::new(),
            suspects_turn: false,
            ended_meanwhile: Vec::new(),
            unswept: BTreeSet::new(),
            full_disk: 0,
            gather_until: None,
            in_a_row: 0,
            exclusive,
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
        self.dirty.len() + suspects + running + self.allowance.len()
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
        let owed: Vec<DirtyPath> = self
            .dirty
            .removals()
            .chain(suspects)
            .chain(withheld)
            .collect();
        for dirty in owed {
            let message = "its removal was owed when the service ended or read its file again";
            let failure = Failure {
                exit: -1,
                message: message.into(),
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
    pub fn on_change(&mut self, change: Change, now: Instant) {
        self.push.disturb();
        self.dirty.insert(change, now);
        // An entry may have come into an empty source.
        if let Some((Hold::SourceEmpty, recheck)) = &mut self.held {
            *recheck = now;
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
        for route in [Route::Path, Route::Large, Route::Tree] {
            if self.exclusive && self.any_running() {
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
            self.allowance.due(),
        ];
        plan.wake = times.into_iter().flatten().min();
        plan
    }

    fn any_running(&self) -> bool {
        self.slots().iter().any(|slot| slot.running.is_some())
    }

    fn slots(&self) -> [&Slot; 3] {
        [&self.path, &self.large, &self.tree]
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
            let is_busy = |dir: &RelPath| beside.iter().any(|(_, batch)| batch.overlaps(dir));
            let all = std::mem::take(&mut self.unswept).into_iter();
            let (later, now): (Vec<_>, Vec<_>) = all.partition(is_busy);
            self.unswept.extend(later);
            unswept = now;
        }
        self.slot(route).running = Some(Batch::new(&paths));
        if self.tree.is_everything() {
            self.push.forget();
        }
        Some(Job {
            route,
            paths,
            unswept,
            beside,
            excludes,
            forms: self.forms,
            may_delete: self.allowance.left(now),
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
        let mut trees = self.dirty.take(Route::Tree, MOST_PATHS, now, |_| false);
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

    fn next_paths(&mut self, now: Instant) -> Option<Vec<DirtyPath>> {
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
        let paths = dirty.take(Route::Path, MOST_PATHS, now, |other| large.lists(other));
        if paths.is_empty() {
            self.suspects.pop_front()
        } else {
            Some(paths)
        }
    }

    fn slot(&mut self, route: Route) -> &mut Slot {
        match route {
            Route::Path => &mut self.path,
            Route::Large => &mut self.large,
            Route::Tree => &mut self.tree,
        }
    }

    /// A probe ended: `Ok`, or why not. `jitter` in 0..1 spreads the next tries of many lanes.
    pub fn on_probed(&mut self, result: Result<(), End>, now: Instant, jitter: f64) -> Vec<News> {
        let Some(down) = &mut self.down else {
            return Vec::new();
        };
        down.probing = false;
        match result {
            Ok(()) if self.dirty.is_empty() && self.suspects.is_empty() => self.came_back(now),
            Ok(()) => {
                down.answered = true;
                Vec::new()
            }
            Err(end) => self.on_end(end, now, jitter),
        }
    }

    /// The job of a slot ended. `jitter` as with [`on_probed`](Self::on_probed).
    pub fn on_report(
        &mut self,
        route: Route,
        mut report: Report,
        now: Instant,
        jitter: f64,
    ) -> Vec<News> {
        let pushed = match route {
            Route::Tree => self.push.on_report(&mut report, now),
            Route::Path | Route::Large => None,
        };
        let slot = self.slot(route);
        let batch = slot.running.take().unwrap_or_default();
        for dirty in slot.touched.take(Route::Path, usize::MAX, now, |_| false) {
            self.dirty.put_back(dirty, Route::Path);
        }
        if route != Route::Path && self.path.running.is_some() {
            self.ended_meanwhile.push(batch.clone());
        }
        if route == Route::Tree && batch.lists(&RelPath::root()) {
            self.scan_after = Some(now + report.took * SCAN_PAUSE);
        }
        self.note_touched(route, &report);
        if route == Route::Path {
            self.start_gathering(batch.len(), now);
        }
        self.unswept.extend(report.unswept.iter().cloned());
        if self.unswept.len() > MOST_UNSWEPT {
            self.unswept.clear();
            self.dirty.insert(Change::subtree(RelPath::root()), now);
        }
        self.dirty.note_run(report.took);
        self.forms.exact_times = self.forms.exact_times.or(report.exact_times);
        let poisoned = self.is_poisoned(route, &report);
        let mut failures = report.failed.iter().map(|(_, failure)| failure.exit);
        let left_out = failures.any(|exit| exit == VOLUME_MISSING);
        let only_looked = report.runs == 0 && (!report.routed.is_empty() || left_out);
        let mut news = Vec::from_iter(pushed);
        // A tree that got through but for some paths takes nothing of what is known of these.
        let still_failed = report.failed.iter().map(|(dirty, _)| &dirty.path);
        let still_failed = self.failed.entries_of(still_failed);
        let withheld = std::mem::take(&mut report.withheld);
        let (removed, would) = (report.deleted, report.would_delete);
        news.extend(self.allowance.on_report(removed, withheld, would, now));
        for dirty in report.synced {
            self.failed.on_synced(&dirty.path, dirty.extent);
        }
        self.failed.put_back(still_failed);
        if poisoned {
            let failure = Failure {
                exit: -1,
                message: report.end.cause(),
            };
            news.extend(self.divide(report.again, &failure, now));
        } else {
            for dirty in report.again {
                if report.end != End::Reached {
                    self.dirty.put_back(dirty, Route::Path);
                } else if dirty.tries < MOST_TRIES {
                    self.dirty.retry(dirty, now);
                } else {
                    let message = "it had changed each time it was sent".into();
                    news.extend(self.path_failed(&dirty, Failure { exit: -1, message }, now));
                }
            }
        }
        for (dirty, route) in report.routed {
            self.dirty.put_back(dirty, route);
        }
        if matches!(report.end, End::DiskFull(_)) {
            self.full_disk += 1;
        }
        for split in report.split {
            news.extend(self.split(split, now));
        }
        for (dirty, failure) in report.failed {
            news.extend(self.path_failed(&dirty, failure, now));
        }
        if report.end == End::Reached && !only_looked {
            self.full_disk = 0;
        }
        if let Some((paths, failure)) = report.undecided {
            news.extend(self.divide(paths, &failure, now));
        }
        // Having looked where something belongs says nothing of what held the lane, nor do paths of a tree.
        let is_other =
            route != Route::Tree && matches!(&self.held, Some((hold, _)) if hold.is_of_trees());
        if report.end == End::Reached && is_other {
            news.extend(self.came_back(now));
        } else if report.end != End::Reached || !only_looked {
            news.extend(self.on_end(report.end, now, jitter));
        }
        news.extend(self.allowance.on_oldest(self.oldest_owed()));
        news
    }

    /// The remote answers a probe and goes away at this batch, again and again: something in it is the cause.
    fn is_poisoned(&self, route: Route, report: &Report) -> bool {
        const ENOUGH: u32 = 3;
        let answers = self
            .down
            .as_ref()
            .is_some_and(|down| down.answered && down.attempts >= ENOUGH);
        answers && route == Route::Path && matches!(report.end, End::Unreachable(_))
    }

    fn path_failed(&mut self, dirty: &DirtyPath, failure: Failure, now: Instant) -> Option<News> {
        self.last_error = "paths have failed by themselves".into();
        if failure.exit == VOLUME_MISSING {
            let is_told = |(path, failed): (&RelPath, &Failed)| {
                *path == dirty.path && failed.failure == failure
            };
            let is_known = self.failed.iter().any(is_told);
            self.failed.on_failed(dirty, failure.clone(), now);
            return (!is_known).then(|| News::VolumeMissing(dirty.path.clone(), failure.message));
        }
        let failed = self.failed.on_failed(dirty, failure.clone(), now);
        (failed.attempts == 1).then(|| News::PathFailed(dirty.path.clone(), failure))
    }

    /// Has a tree made equal entry by entry, so that what fails in it is found and keeps nothing else back.
    fn split(&mut self, split: Split, now: Instant) -> Option<News> {
        let Split {
            tree,
            children,
            deletes,
            failure,
        } = split;
        // What collapsed to its directory, or to the whole source, would be the same tree again.
        let has_room = self.dirty.len() + children.len() <= MOST_DIRTY / 2
            && self.unswept.len() < MOST_UNSWEPT / 2;
        if children.is_empty() || !has_room || self.full_disk >= FULL_DISK_TRIES {
            return self.path_failed(&tree, failure, now);
        }
        self.last_error = failure.message;
        self.failed.on_split(&tree.path);
        if deletes {
            self.unswept.insert(tree.path.clone());
        }
        // The root would take its entries along; it is sent with each of them.
        let itself = (!tree.path.is_root()).then_some(DirtyPath {
            extent: Extent::Entry,
            ..tree
        });
        for dirty in children.into_iter().chain(itself) {
            self.dirty.put_back(dirty, Route::Path);
        }
        None
    }

    /// Halves a group until the path that fails stands alone.
    fn divide(&mut self, mut paths: Vec<DirtyPath>, failure: &Failure, now: Instant) -> Vec<News> {
        if paths.len() > 1 && self.full_disk < FULL_DISK_TRIES {
            // A batch is in order.
            paths.sort_by(|a, b| a.path.cmp(&b.path));
            let second = paths.split_off(paths.len() / 2);
            self.suspects.push_back(paths);
            self.suspects.push_back(second);
            return Vec::new();
        }
        let failing = paths.iter();
        failing
            .filter_map(|dirty| self.path_failed(dirty, failure.clone(), now))
            .collect()
    }

    fn on_end(&mut self, end: End, now: Instant, jitter: f64) -> Vec<News> {
        match end {
            End::Stopped => Vec::new(),
            End::Reached => {
                let mut news = self.came_back(now);
                if self.held.take().is_some() {
                    news.push(News::Released);
                }
                news
            }
            // It answered, and its owner sees the paths in the fail queue.
            End::DiskFull(_) => self.came_back(now),
            End::Unreachable(failure) => self.went_down(failure, false, now, jitter),
            End::Misconfigured(failure) => self.went_down(failure, true, now, jitter),
            End::Refused(form) => {
                if let Some(forms) = form.dropped_from(self.forms) {
                    self.forms = forms;
                    return vec![News::FormChanged(form)];
                }
                let message = "it refuses an option that was not given".into();
                self.went_down(Failure { exit: -1, message }, true, now, jitter)
            }
            End::Held(hold) => {
                let is_new = self.held.as_ref().is_none_or(|(other, _)| *other != hold);
                let check = if hold.is_of_trees() {
                    COSTLY_HOLD_CHECK
                } else {
                    HOLD_CHECK
                };
                self.held = Some((hold.clone(), now + check));
                if is_new {
                    vec![News::Held(hold)]
                } else {
                    Vec::new()
                }
            }
        }
    }

    fn came_back(&mut self, now: Instant) -> Vec<News> {
        self.down
            .take()
            .map(|down| News::Back(now - down.since))
            .into_iter()
            .collect()
    }

    fn went_down(
        &mut self,
        failure: Failure,
        needs_mending: bool,
        now: Instant,
        jitter: f64,
    ) -> Vec<News> {
        let is_new = self.down.is_none();
        self.last_error.clone_from(&failure.message);
        self.down
            .get_or_insert_with(|| Down::since(now))
            .on_failed(needs_mending, now, jitter);
        if is_new {
            vec![News::Down {
                failure,
                needs_mending,
            }]
        } else {
            Vec::new()
        }
    }

    /// Remembers what a job did where a longer one is at work, or was while this one ran: that one may have undone it.
    fn note_touched(&mut self, route: Route, report: &Report) {
        // A failure counts as well: when the long job ends as synced, it must not be forgotten.
        let undecided = report.undecided.iter().flat_map(|(paths, _)| paths);
        let failed = report.failed.iter().map(|(dirty, _)| dirty);
        let done = report.synced.iter().chain(failed).chain(undecided);
        // Where the long run put an older file back its time differs, if all its digits are compared.
        let by_time = self.forms.exact_times == Some(true);
        let done = done.map(|dirty| DirtyPath {
            written: dirty.written && !by_time,
            ..dirty.clone()
        });
        let done: Vec<DirtyPath> = done.collect();
        let (ended, longer) = match route {
            Route::Path => (
                std::mem::take(&mut self.ended_meanwhile),
                vec![&mut self.large, &mut self.tree],
            ),
            // It ends by putting its file in place, so only what is still at work can undo it.
            Route::Large => (Vec::new(), vec![&mut self.tree]),
            Route::Tree => return,
        };
        for slot in longer {
            if let Some(batch) = slot.running.clone() {
                for met in batch.met_by(&done, &report.emptied) {
                    slot.touched.put_back(met, Route::Path);
                }
            }
        }
        for batch in ended {
            for met in batch.met_by(&done, &report.emptied) {
                self.dirty.put_back(met, Route::Path);
            }
        }
    }

    /// Jobs in a row are a storm: the longer it lasts, the more gathers between two jobs.
    fn start_gathering(&mut self, batch: usize, now: Instant) {
        if self.dirty.ready_len() == 0 {
            self.in_a_row = 0;
            return;
        }
        let pause = if batch >= MOST_PATHS {
            return;
        } else if batch >= STORM {
            LONGEST_GATHERING
        } else {
            self.in_a_row = (self.in_a_row + 1).min(10);
            (SHORTEST_GATHERING * 2_u32.pow(self.in_a_row)).min(LONGEST_GATHERING)
        };
        self.gather_until = Some(now + pause);
    }

    /// Since when the oldest path that is not known to be equal has differed.
    #[must_use]
    pub fn oldest_owed(&self) -> Option<Instant> {
        let running = self.slots().into_iter().filter_map(Slot::oldest);
        let suspects = self.suspects.iter().flatten().map(|dirty| dirty.since);
        let ended = self.ended_meanwhile.iter().filter_map(Batch::oldest);
        let known = running.chain(suspects).chain(ended);
        known.chain(self.dirty.oldest()).min()
    }

    /// How it stands with whatever differed at `at` or before: `None` while it is on its way. With `patient`, what
    /// somebody must resume is waited for too, and failed paths count in the end; but not for a remote that was found
    /// away since.
    #[must_use]
    pub fn settled(&self, at: Instant, patient: bool) -> Option<Settled> {
        let failed = self.failed.len() as u64;
        if !patient {
            if self.paused {
                return Some(Settled::Paused);
            }
            if let Some(cause) = self.hold() {
                return Some(Settled::Held(cause));
            }
            if failed > 0 {
                return Some(Settled::Failed(failed));
            }
        }
        let is_done = self.oldest_owed().is_none_or(|oldest| oldest > at);
        if let Some(down) = &self.down
            && patient
            && !is_done
            && !down.probing
            && down.next_try > at
        {
            return Some(Settled::Unreachable(self.last_error.clone()));
        }
        match failed {
            _ if !is_done => None,
            _ if self.allowance.len() > 0 => self.hold().map(Settled::Held),
            0 => Some(Settled::Equal),
            _ => Some(Settled::Failed(failed)),
        }
    }

    fn hold(&self) -> Option<String> {
        match &self.held {
            _ if !self.source_present => Some("the source is not there".into()),
            Some((hold, _)) => Some(hold.to_string()),
            None => self.allowance.hold().map(|hold| hold.to_string()),
        }
    }

    /// Why nothing goes on before a person, or a guard, lets it.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.paused {
            return Some("it is paused: resume it first".into());
        }
        // What is sent goes on while deletions are withheld.
        self.hold()
            .filter(|_| !self.source_present || self.held.is_some())
    }

    /// Whether everything is at the receiver, as far as anybody knows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.pending() == 0 && self.failed.is_empty()
    }

    /// What it is doing.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let hold = self.hold();
        let state = if hold.is_some() {
            State::Held
        } else if self.paused {
            State::Paused
        } else if self.down.is_some() || !self.failed.is_empty() {
            State::Degraded
        } else if self.owes_everything() {
            State::Scanning
        } else if self.pending() > 0 {
            State::Syncing
        } else {
            State::Idle
        };
        Condition {
            state,
            pending: self.pending() as u64,
            failed: self.failed.len() as u64,
            oldest: self
                .oldest_owed()
                .into_iter()
                .chain(self.allowance.oldest())
                .min(),
            next_try: self.down.as_ref().map(|down| down.next_try),
            last_error: hold.unwrap_or_else(|| self.last_error.clone()),
        }
    }

    fn owes_everything(&self) -> bool {
        self.dirty.is_everything() || self.slots().into_iter().any(Slot::is_everything)
    }
}

#[cfg(test)]
mod tests;
