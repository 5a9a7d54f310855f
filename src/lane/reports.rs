//! What a job that has ended means for its lane: what is done, what is tried again, and what is told.

use std::time::{Duration, Instant};

use super::down::Down;
use super::planning::MOST_PATHS;
use super::{
    Batch, End, Hold, LaneState, MOST_DIRTY, MOST_ENDED, News, REMOVAL_OWED, Report, Split,
    Unswept, VOLUME_MISSING,
};
use crate::change::{Change, Extent};
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::{Failed, Failure};
use crate::path::RelPath;

/// In a storm, changes gather for at most this long between two jobs: fewer runs, and hardly a delay.
pub(super) const LONGEST_GATHERING: Duration = Duration::from_millis(50);
/// The gathering after the first of several jobs in a row; doubled with each further one.
const SHORTEST_GATHERING: Duration = Duration::from_millis(5);
/// A job with so many paths is a storm by itself.
const STORM: usize = 256;
/// How often a held lane looks whether its source is back.
pub(super) const HOLD_CHECK: Duration = Duration::from_secs(2);
/// How often it looks where that takes a comparison of everything.
pub(super) const COSTLY_HOLD_CHECK: Duration = Duration::from_secs(300);
/// More directories than this are not swept one by one: the whole tree is compared.
const MOST_UNSWEPT: usize = 1000;
/// A path that had changed by the time it was sent is looked at again at growing intervals, for some seconds in all;
/// then it counts as failed.
pub(super) const MOST_TRIES: u8 = 10;
/// After a scan there is a pause, so many times as long as the scan took.
pub(super) const SCAN_PAUSE: u32 = 9;
/// After a module had no connection left, it is asked for one at a time for this long.
const CROWDED: Duration = Duration::from_secs(600);
/// A full disk is tried with this many halves before the rest waits in the fail queue.
const FULL_DISK_TRIES: u32 = 8;

impl LaneState {
    /// A probe ended: `Ok`, or why not. `jitter` in 0..1 spreads the next tries of many lanes.
    pub fn on_probed(&mut self, result: Result<(), End>, now: Instant, jitter: f64) -> Vec<News> {
        let Some(down) = &mut self.down else {
            return Vec::new();
        };
        down.probing = false;
        match result {
            Ok(()) if self.dirty.is_empty() && self.suspects.is_empty() => {
                if self.is_held_by_trees() {
                    self.came_back(now)
                } else {
                    self.on_end(End::Reached, now, jitter)
                }
            }
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
        self.doubt.add(std::mem::take(&mut report.cut_off));
        if report.crowded {
            self.crowded_until = Some(now + CROWDED);
        }
        let pushed = match route {
            Route::Tree => self.push.on_report(&mut report, now),
            Route::Path | Route::Large => None,
        };
        let slot = self.slot(route);
        let batch = slot.running.take().unwrap_or_default();
        let began = slot.began.unwrap_or(now);
        for dirty in slot.take_owed(now) {
            self.dirty.put_back(dirty, Route::Path);
        }
        if route == Route::Tree {
            self.remember_tree(batch.clone(), now);
        }
        if route != Route::Path && self.path.running.is_some() {
            self.ended_meanwhile.push(batch.clone());
        }
        if route == Route::Tree && batch.lists(&RelPath::root()) {
            self.scan_after = Some(now + report.took * SCAN_PAUSE);
            self.detours.on_compared(report.took, now);
        }
        self.note_ended(route, &report, now);
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
        let (removed, would) = ((report.spent, report.deleted), report.would_delete);
        // What was compared without deletion, or but for a file system that is away, says nothing of what failed below.
        let says_all = self.forms.delete_in_trees && withheld.is_empty() && !left_out;
        let compared = route == Route::Tree;
        let left = self.take_synced(&report.synced, began, compared, says_all);
        news.extend(self.allowance.on_report(removed, withheld, would, now));
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
        // The connection that was missing is another job's of this lane, which goes on.
        let is_our_crowd =
            report.crowded && matches!(report.end, End::Unreachable(_)) && self.any_running();
        // Having looked where something belongs says nothing of what held the lane, nor do paths of a tree.
        let is_other = route != Route::Tree && self.is_held_by_trees();
        if report.end == End::Reached && is_other {
            if !only_looked {
                news.extend(self.came_back(now));
            }
        } else if (report.end != End::Reached || !only_looked) && !is_our_crowd {
            news.extend(self.on_end(report.end, now, jitter));
        }
        news.extend(self.allowance.on_oldest(self.oldest_owed()));
        news.extend(self.recovered(left));
        news
    }

    /// What the end of a job says of what jobs may have done through links.
    fn note_ended(&mut self, route: Route, report: &Report, now: Instant) {
        if route != Route::Path && !self.is_any_long_running() {
            self.detours.close(now);
        }
        if self.slot(route).is_beside {
            // Other names of files with hard links have joined.
            let done = report.synced.iter().chain(&report.again);
            self.detours.enter(done.map(|dirty| &dirty.path), now);
        }
    }

    /// Keeps what a tree job was about, for directories of which is told later that they were made under it.
    pub(super) fn remember_tree(&mut self, batch: Batch, now: Instant) {
        self.ended_trees.push_back((now, batch));
        let mut paths: usize = self.ended_trees.iter().map(|(_, batch)| batch.len()).sum();
        while paths > MOST_ENDED
            && let Some((at, oldest)) = self.ended_trees.pop_front()
        {
            paths -= oldest.len();
            self.forgotten_tree = Some(at);
        }
    }

    /// Takes out of the fail queue what got through. Returns what can be told of it.
    fn take_synced(
        &mut self,
        synced: &[DirtyPath],
        began: Instant,
        compared: bool,
        says_all: bool,
    ) -> Vec<(RelPath, Failed)> {
        let mut left = Vec::new();
        for dirty in synced {
            let gone = self
                .failed
                .on_synced(&dirty.path, dirty.extent, began, compared);
            let is_told = |(path, _): &(RelPath, Failed)| says_all || *path == dirty.path;
            left.extend(gone.into_iter().filter(is_told));
        }
        left
    }

    /// What has left the fail queue and is not in it again, as far as it was told that it failed.
    fn recovered(&self, left: Vec<(RelPath, Failed)>) -> impl Iterator<Item = News> {
        left.into_iter()
            .filter(|(path, failed)| {
                failed.failure.message != REMOVAL_OWED && !self.failed.holds(path)
            })
            .map(|(path, failed)| News::PathRecovered(path, failed.attempts))
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
        // It may be the cause that the remote went away.
        self.doubt.forget(&dirty.path);
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
        self.last_error = failure.public();
        self.failed.on_split(&tree.path, now);
        if deletes {
            self.unswept.insert(Unswept {
                dir: tree.path.clone(),
                tree: Some(tree.since),
            });
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
                if is_new && matches!(hold, Hold::OtherTarget(_)) {
                    // What it misses when it is back is not known: it may have been elsewhere.
                    self.dirty.insert(Change::subtree(RelPath::root()), now);
                }
                self.held = Some((hold.clone(), now + check));
                self.is_accepted = false;
                if is_new {
                    vec![News::Held(hold)]
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// Whether nothing but a comparison can show that what held the lane holds it no more.
    pub(super) fn is_held_by_trees(&self) -> bool {
        matches!(&self.held, Some((hold, _)) if hold.is_of_trees())
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
        self.last_error = failure.public();
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
}
