//! The sending side of one mirror to one remote.
//!
//! [`LaneState`] here is pure: changes, reports and the time go in, jobs come out. [`task`] carries them out, and
//! [`transfer`] is one job from its batch to its report.
//!
//! A lane has three slots ([`Route`]): small paths, large files, and trees. Each runs one job at a time, so per remote
//! at most three runs overlap; what a path job sent or deleted below a long job is dirty again when that one ends,
//! since the long one may have undone it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::change::{Change, Extent};
use crate::dirty::{DirtyPath, DirtySet, Route};
use crate::fail_queue::{FailQueue, Failure};
use crate::path::RelPath;
use crate::rsync::args::Forms;
use crate::rsync::outcome::RefusedForm;

mod sample;
pub mod task;
pub mod transfer;

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
/// A remote that went away is probed this often in the beginning.
const FIRST_PROBES: Duration = Duration::from_secs(1);
/// For how long.
const BEGINNING: Duration = Duration::from_secs(60);
/// The longest wait between two probes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The first wait after a failure that somebody must mend.
const FIRST_WAIT_FOR_MENDING: Duration = Duration::from_secs(2);
/// How often a held lane looks whether its source is back.
const HOLD_CHECK: Duration = Duration::from_secs(2);
/// More directories than this are not swept one by one: the whole tree is compared.
const MOST_UNSWEPT: usize = 1000;
/// A path that had changed by the time it was sent is looked at again at growing intervals, for some seconds in all;
/// then it counts as failed.
const MOST_TRIES: u8 = 10;
/// A full disk is tried with this many halves before the rest waits in the fail queue.
const FULL_DISK_TRIES: u32 = 8;

/// Work for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The slot.
    pub route: Route,
    /// Its batch, in order.
    pub paths: Vec<DirtyPath>,
    /// Directories in which the receiver may have left temporary files.
    pub unswept: Vec<RelPath>,
    /// What the receiver takes.
    pub forms: Forms,
}

/// What became of a job. Each path of the batch, or an ancestor in its place, is in one of the lists.
#[derive(Debug, Default)]
pub struct Report {
    /// Equal now.
    pub synced: Vec<DirtyPath>,
    /// Dirty as before.
    pub again: Vec<DirtyPath>,
    /// Somebody looked: these belong to another slot.
    pub routed: Vec<(DirtyPath, Route)>,
    /// Failed by themselves.
    pub failed: Vec<(DirtyPath, Failure)>,
    /// At least one of these failed, and it cannot be told which.
    pub undecided: Option<(Vec<DirtyPath>, Failure)>,
    /// How the job ended.
    pub end: End,
    /// Directories in which the receiver may have left temporary files; see [`Job::unswept`].
    pub unswept: Vec<RelPath>,
    /// What was learned of [`Forms::exact_times`].
    pub exact_times: Option<bool>,
    /// rsync runs it took.
    pub runs: u64,
    /// Files whose content was transferred.
    pub files_sent: u64,
    /// Bytes written to the connection.
    pub bytes_sent: u64,
    /// Length of its longest run.
    pub took: Duration,
}

/// How a job ended for the lane as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum End {
    /// The remote answered.
    #[default]
    Reached,
    /// The remote is away.
    Unreachable(String),
    /// The remote will not have us until somebody mends it.
    Misconfigured(String),
    /// The receiver refused an option.
    Refused(RefusedForm),
    /// The receiver's file system is full.
    DiskFull(String),
    /// A guard: nothing is sent or deleted for now.
    Held(Hold),
}

impl End {
    fn cause(&self) -> String {
        match self {
            Self::Unreachable(cause) | Self::Misconfigured(cause) | Self::DiskFull(cause) => {
                cause.clone()
            }
            Self::Held(hold) => hold.to_string(),
            Self::Reached | Self::Refused(_) => String::new(),
        }
    }
}

/// Why nothing may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The source root is not there, or cannot be read.
    SourceMissing(String),
    /// Another directory stands under the source root's name.
    SourceReplaced,
    /// The source root has no entry at all, as a mount point without its mount.
    SourceEmpty,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceMissing(cause) => write!(f, "the source is missing: {cause}"),
            Self::SourceReplaced => f.write_str(
                "another directory stands where the source was; put the source back, or restart to accept this one",
            ),
            Self::SourceEmpty => f.write_str(
                "the source is empty, as an unmounted file system would be; it goes on when the source has an entry",
            ),
        }
    }
}

/// What is worth telling: a lane's condition changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The remote went away, or will not have us.
    Down {
        /// rsync's words.
        cause: String,
        /// Whether somebody must mend something.
        needs_mending: bool,
    },
    /// It answers again, after so long.
    Back(Duration),
    /// A guard stopped the lane.
    Held(Hold),
    /// It goes on.
    Released,
    /// A path failed by itself.
    PathFailed(RelPath, Failure),
    /// From now on without this option.
    FormChanged(RefusedForm),
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be started now.
    pub jobs: Vec<Job>,
    /// An empty run is to find out whether the remote answers.
    pub probe: bool,
    /// When to ask again if nothing happens.
    pub wake: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    running: Option<Vec<DirtyPath>>,
    /// What path jobs did below this one's paths meanwhile.
    touched: DirtySet,
}

impl Slot {
    fn sends(&self, path: &RelPath) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| position(running, path).is_ok())
    }

    /// Whether what was done to `path` may meet what this slot's job does.
    fn overlaps(&self, path: &RelPath) -> bool {
        let Some(running) = &self.running else {
            return false;
        };
        let at = |dir: &RelPath| position(running, dir);
        let below = at(path).map_or_else(|next| running.get(next), |at| running.get(at));
        below.is_some_and(|dirty| dirty.path.is_within(path))
            || at(&RelPath::root()).is_ok()
            || path.ancestors_below_root().any(|dir| at(&dir).is_ok())
    }
}

/// Where a path stands in a batch, which is in order.
fn position(batch: &[DirtyPath], path: &RelPath) -> Result<usize, usize> {
    batch.binary_search_by(|dirty| dirty.path.cmp(path))
}

#[derive(Debug)]
struct Down {
    since: Instant,
    attempts: u32,
    next_try: Instant,
    probing: bool,
    /// A probe got through, so the next failure is the batch's own.
    answered: bool,
}

/// See the module.
#[derive(Debug)]
pub struct LaneState {
    dirty: DirtySet,
    failed: FailQueue,
    forms: Forms,
    path: Slot,
    large: Slot,
    tree: Slot,
    down: Option<Down>,
    held: Option<(Hold, Instant)>,
    source_present: bool,
    /// Groups of which at least one path fails, to be tried apart.
    suspects: VecDeque<Vec<DirtyPath>>,
    suspects_turn: bool,
    /// Long jobs that ended while the path job of now was running.
    ended_meanwhile: Vec<Slot>,
    unswept: BTreeSet<RelPath>,
    full_disk: u32,
    gather_until: Option<Instant>,
    in_a_row: u32,
    /// Two runs at once could write one file in place.
    exclusive: bool,
}

impl LaneState {
    /// A lane with nothing to do yet.
    #[must_use]
    pub fn new(forms: Forms, retry_period: Duration, exclusive: bool) -> Self {
        let slot = || Slot {
            running: None,
            touched: DirtySet::new(MOST_DIRTY),
        };
        Self {
            dirty: DirtySet::new(MOST_DIRTY),
            failed: FailQueue::new(retry_period),
            forms,
            path: slot(),
            large: slot(),
            tree: slot(),
            down: None,
            held: None,
            source_present: true,
            suspects: VecDeque::new(),
            suspects_turn: false,
            ended_meanwhile: Vec::new(),
            unswept: BTreeSet::new(),
            full_disk: 0,
            gather_until: None,
            in_a_row: 0,
            exclusive,
        }
    }

    /// Paths that are not known to be equal.
    #[must_use]
    pub fn pending(&self) -> usize {
        let running = |slot: &Slot| slot.running.as_ref().map_or(0, Vec::len);
        let suspects: usize = self.suspects.iter().map(Vec::len).sum();
        let slots = running(&self.path) + running(&self.large) + running(&self.tree);
        self.dirty.len() + suspects + slots
    }

    /// The paths that failed by themselves.
    #[must_use]
    pub fn failed(&self) -> &FailQueue {
        &self.failed
    }

    /// A change came in.
    pub fn on_change(&mut self, change: Change, now: Instant) {
        self.dirty.insert(change, now);
        // An entry may have come into an empty source.
        if let Some((Hold::SourceEmpty, recheck)) = &mut self.held {
            *recheck = now;
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
        if !self.source_present {
            return plan;
        }
        if let Some((_, recheck)) = self.held
            && recheck > now
        {
            plan.wake = Some(recheck);
            return plan;
        }
        if let Some(down) = &mut self.down {
            let idle = [&self.path, &self.large, &self.tree]
                .iter()
                .all(|slot| slot.running.is_none());
            if !down.answered {
                if down.next_try > now {
                    plan.wake = Some(down.next_try);
                } else if idle && !down.probing {
                    down.probing = true;
                    plan.probe = true;
                }
                return plan;
            }
            if !idle {
                return plan;
            }
        }
        for route in [Route::Path, Route::Large, Route::Tree] {
            // One job must get through before there are several again.
            if (self.down.is_some() || self.held.is_some() || self.exclusive) && self.any_running()
            {
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
        ];
        plan.wake = times.into_iter().flatten().min();
        plan
    }

    fn any_running(&self) -> bool {
        [&self.path, &self.large, &self.tree]
            .iter()
            .any(|slot| slot.running.is_some())
    }

    fn next_job(&mut self, route: Route, now: Instant) -> Option<Job> {
        if self.slot(route).running.is_some() {
            return None;
        }
        let paths = match route {
            Route::Path => self.next_paths(now)?,
            // One at a time: each is long by itself.
            Route::Large => {
                let Self { dirty, path, .. } = self;
                dirty.take(route, 1, now, |other| path.sends(other))
            }
            Route::Tree => self.dirty.take(route, MOST_PATHS, now, |_| false),
        };
        if paths.is_empty() {
            return None;
        }
        self.slot(route).running = Some(paths.clone());
        let unswept = match route {
            Route::Path => std::mem::take(&mut self.unswept).into_iter().collect(),
            Route::Large | Route::Tree => Vec::new(),
        };
        Some(Job {
            route,
            paths,
            unswept,
            forms: self.forms,
        })
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
        let paths = dirty.take(Route::Path, MOST_PATHS, now, |other| large.sends(other));
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
        report: Report,
        now: Instant,
        jitter: f64,
    ) -> Vec<News> {
        let slot = self.slot(route);
        let batch = slot.running.take().unwrap_or_default();
        for dirty in slot.touched.take(Route::Path, usize::MAX, now, |_| false) {
            self.dirty.put_back(dirty, Route::Path);
        }
        if route != Route::Path && self.path.running.is_some() {
            let touched = DirtySet::new(MOST_DIRTY);
            self.ended_meanwhile.push(Slot {
                running: Some(batch.clone()),
                touched,
            });
        }
        if route == Route::Path {
            self.note_touched(&report, now);
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
        let mut news = Vec::new();
        for dirty in report.synced {
            self.failed.on_synced(&dirty.path, dirty.extent);
        }
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
        for (dirty, failure) in report.failed {
            news.extend(self.path_failed(&dirty, failure, now));
        }
        if report.end == End::Reached {
            self.full_disk = 0;
        }
        if let Some((paths, failure)) = report.undecided {
            if matches!(report.end, End::DiskFull(_)) {
                self.full_disk += 1;
            }
            news.extend(self.divide(paths, &failure, now));
        }
        news.extend(self.on_end(report.end, now, jitter));
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
        let failed = self.failed.on_failed(dirty, failure.clone(), now);
        (failed.attempts == 1).then(|| News::PathFailed(dirty.path.clone(), failure))
    }

    /// Halves a group until the path that fails stands alone.
    fn divide(&mut self, mut paths: Vec<DirtyPath>, failure: &Failure, now: Instant) -> Vec<News> {
        if paths.len() > 1 && self.full_disk < FULL_DISK_TRIES {
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
            End::Reached => {
                let mut news = self.came_back(now);
                if self.held.take().is_some() {
                    news.push(News::Released);
                }
                news
            }
            // It answered, and its owner sees the paths in the fail queue.
            End::DiskFull(_) => self.came_back(now),
            End::Unreachable(cause) => self.went_down(cause, false, now, jitter),
            End::Misconfigured(cause) => self.went_down(cause, true, now, jitter),
            End::Refused(form) => {
                let known = match form {
                    RefusedForm::DeleteByName => &mut self.forms.delete_by_name,
                    RefusedForm::DeleteInTrees => &mut self.forms.delete_in_trees,
                    RefusedForm::Force => &mut self.forms.force,
                };
                if std::mem::replace(known, false) {
                    return vec![News::FormChanged(form)];
                }
                self.went_down(
                    "it refuses an option that was not given".into(),
                    true,
                    now,
                    jitter,
                )
            }
            End::Held(hold) => {
                let is_new = self.held.as_ref().is_none_or(|(other, _)| *other != hold);
                self.held = Some((hold.clone(), now + HOLD_CHECK));
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
        cause: String,
        needs_mending: bool,
        now: Instant,
        jitter: f64,
    ) -> Vec<News> {
        let is_new = self.down.is_none();
        let down = self.down.get_or_insert(Down {
            since: now,
            attempts: 0,
            next_try: now,
            probing: false,
            answered: false,
        });
        down.attempts = down.attempts.saturating_add(1);
        down.answered = false;
        let wait = if needs_mending {
            (FIRST_WAIT_FOR_MENDING * 2_u32.pow((down.attempts - 1).min(10))).min(LONGEST_WAIT)
        } else if now - down.since < BEGINNING {
            FIRST_PROBES
        } else {
            // Waits as long again as it has been waiting since the beginning, up to the longest.
            (now - down.since)
                .saturating_sub(BEGINNING)
                .clamp(FIRST_PROBES * 2, LONGEST_WAIT)
        };
        down.next_try = now + wait.mul_f64(0.75 + 0.25 * jitter);
        if is_new {
            vec![News::Down {
                cause,
                needs_mending,
            }]
        } else {
            Vec::new()
        }
    }

    /// Remembers what a path job did below a long one.
    fn note_touched(&mut self, report: &Report, now: Instant) {
        // A failure counts as well: when the long job ends as synced, it must not be forgotten.
        let undecided = report.undecided.iter().flat_map(|(paths, _)| paths);
        let failed = report
            .failed
            .iter()
            .map(|(dirty, _)| dirty)
            .chain(undecided);
        let done = report.synced.iter().chain(failed);
        let ended = std::mem::take(&mut self.ended_meanwhile);
        for dirty in done {
            if ended.iter().any(|long| long.overlaps(&dirty.path)) {
                self.dirty.put_back(
                    DirtyPath {
                        written: false,
                        ..dirty.clone()
                    },
                    Route::Path,
                );
            }
            for slot in [&mut self.large, &mut self.tree] {
                if slot.overlaps(&dirty.path) {
                    let DirtyPath { path, extent, .. } = dirty.clone();
                    // Where the long run put an older file back, its time differs: no need to ignore times.
                    slot.touched.insert(
                        Change {
                            path,
                            extent,
                            written: false,
                            linked: None,
                        },
                        now,
                    );
                }
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

    /// The largest extent that is still owed, for tests and for the log.
    #[must_use]
    pub fn owes_everything(&self) -> bool {
        let runs_root = |slot: &Slot| {
            slot.running.as_ref().is_some_and(|running| {
                running
                    .iter()
                    .any(|d| d.path.is_root() && d.extent == Extent::Subtree)
            })
        };
        self.dirty.is_everything() || runs_root(&self.tree) || runs_root(&self.path)
    }
}

#[cfg(test)]
mod tests;
