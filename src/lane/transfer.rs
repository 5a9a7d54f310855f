//! One job, from its batch to its report: the batch is resolved, sent, what is gone is deleted, trees are compared.
//!
//! Sending and deleting are two runs. The first has no option that removes anything but what stands in the way of a
//! change of kind; a module that refuses deletions still gets its files, and a moved file arrives under its new name
//! before the old one goes. Before each run the source root is verified; each child starts in that very directory, by
//! descriptor, so an unmounted or replaced root can make a run fail but cannot make it delete.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Dir, FileType, OFlags};
use tokio::sync::OwnedSemaphorePermit;

use super::context::{Context, Halt};
use super::guard::View;
use super::sample;
use super::slot::position;
use super::{Batch, End, Hold, Job, Report, Split};
use crate::change::Extent;
use crate::config::{Backup, Removals};
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::Failure;
use crate::filter::Filter;
use crate::path::{RelPath, SourceRoot};
use crate::resolve::{Resolved, Rules, directories, present, resolve};
use crate::rsync::{
    Ended, Exit, Forms, Names, Outcome, Pace, Progress, RunKind, Standby, args, judge,
};

mod filtered;
mod guarded;
mod withhold;

use guarded::Deed;
use withhold::May;

/// rsync's exit where the source or the receiver changed while it ran.
const CHANGED: i32 = 24;

/// Up to so many bytes of files that need not be sent ride along with those that must, instead of in a run of their
/// own.
const RIDE_ALONG: u64 = 1 << 20;

/// A list of some hundred names …
const BRIEF_LIST: usize = 16 << 10;
/// … and so many bytes of files are sent in a moment.
const BRIEF_BYTES: u64 = 4 << 20;
/// Directories with more entries are not taken apart.
const MOST_CHILDREN: usize = 20_000;
/// The percentage of a comparison that is over.
const DONE: u8 = 100;
/// How often a list is tried whole in which something changed that cannot be told.
const TRIES_BEFORE_HALVING: u8 = 4;

/// Carries out a job.
pub async fn execute(
    context: Arc<Context>,
    job: Job,
    standby: Option<Standby>,
    halt: Halt,
) -> Report {
    let Job {
        route,
        paths,
        unswept,
        beside,
        excludes,
        forms,
        may_delete,
    } = job;
    // What the source has under the name of the backup directory is not mirrored; nor is it removed when that is
    // gone: the deletion by name knows no filter.
    let backup = context.remote.backup.as_ref().and_then(Backup::inside);
    let is_kept = |dirty: &DirtyPath| backup.is_some_and(|dir| dirty.path.is_within(dir));
    let (kept, paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_kept);
    let report = Report {
        synced: kept,
        unswept,
        ..Report::default()
    };
    let grouped = BTreeSet::new();
    let filter = filtered::with_excludes(context.filter.as_ref(), &excludes);
    let mut transfer = Transfer {
        context,
        filter,
        route,
        beside,
        excludes,
        forms,
        may_delete,
        ceiling: 0,
        making_way: false,
        standby,
        halt,
        grouped,
        in_the_way: Vec::new(),
        indivisible: Vec::new(),
        rules: Vec::new(),
        standby_was_cut_off: false,
        bytes: 0,
        view: View::default(),
        has_compared_everything: false,
        made: 0,
        report,
    };
    if let Err(end) = transfer.context.check_target() {
        transfer.report.end = end;
        transfer.report.again = paths;
        return transfer.report;
    }
    let root = match transfer.context.open_root() {
        Ok(root) => Arc::new(root),
        Err(hold) => {
            transfer.report.end = End::Held(hold);
            transfer.report.again = paths;
            return transfer.report;
        }
    };
    match transfer.resolve(&root, paths.clone()).await {
        Some((resolved, view)) => {
            transfer.view = view;
            transfer.run(root, resolved).await;
        }
        None => transfer.report.again = paths,
    }
    transfer.report
}

struct Transfer {
    context: Arc<Context>,
    /// What is not mirrored, or not touched by this job.
    filter: Option<Arc<Filter>>,
    route: Route,
    /// See [`Job::beside`].
    beside: Vec<(Route, Batch)>,
    /// See [`Job::excludes`].
    excludes: Arc<[String]>,
    forms: Forms,
    /// See [`Job::may_delete`]; what is left of it.
    may_delete: Option<u64>,
    /// What was left of it before the run that is made now.
    ceiling: u64,
    /// The run that is made now may remove what is in the way of its files.
    making_way: bool,
    standby: Option<Standby>,
    halt: Halt,
    /// See [`Resolved::grouped`].
    grouped: BTreeSet<RelPath>,
    /// With a filter: names under which the receiver has a directory with content, and the source something else.
    in_the_way: Vec<DirtyPath>,
    /// Trees that cannot be made equal as a whole, and why.
    indivisible: Vec<(DirtyPath, Failure)>,
    /// Filter rules for the run that is made now.
    rules: Vec<OsString>,
    standby_was_cut_off: bool,
    /// What the job's files weigh.
    bytes: u64,
    /// What is mounted below the source.
    view: View,
    /// Without patterns of the job's own that leave something out.
    has_compared_everything: bool,
    /// Entries that were made at the receiver.
    made: u64,
    report: Report,
}

impl Transfer {
    /// What is mounted is looked at before and after: what was missing at either time may be what a name is missing for.
    async fn resolve(
        &self,
        root: &Arc<SourceRoot>,
        paths: Vec<DirtyPath>,
    ) -> Option<(Resolved, View)> {
        let (root, guard) = (Arc::clone(root), Arc::clone(&self.context.guard));
        let links = Arc::clone(&self.context.links);
        let params = &self.context.remote.params;
        let rules = Rules {
            split_large: self.route == Route::Path,
            whole_groups: params.hard_links(),
            one_file_system: params.one_file_system(),
            filter: self.context.filter.clone(),
            hides: self.context.hides.clone(),
        };
        on_disk(move || {
            let mut view = guard.look(&root);
            let resolved = resolve(&root, paths, &links, rules);
            view.extend(guard.look(&root));
            (resolved, view)
        })
        .await
    }

    async fn run(&mut self, root: Arc<SourceRoot>, mut resolved: Resolved) {
        for dirty in std::mem::take(&mut resolved.too_long) {
            let message = "the path is longer than rsync can take (4093 bytes)".into();
            self.report
                .failed
                .push((dirty, Failure { exit: -1, message }));
        }
        for (dirty, error) in std::mem::take(&mut resolved.failed) {
            self.not_seen(dirty, &error);
        }
        self.report.synced.append(&mut resolved.beyond);
        self.report.synced.append(&mut resolved.excluded);
        self.leave_out(&root, &mut resolved);
        self.route_away(&mut resolved);
        self.grouped = std::mem::take(&mut resolved.grouped);
        self.bytes = resolved.bytes;
        self.report.again.append(&mut resolved.partly_known);
        self.send(&root, &mut resolved).await;
        self.make_way(&root).await;
        let gone = std::mem::take(&mut resolved.gone);
        let names = gone.iter().map(|dirty| dirty.path.clone()).collect();
        self.delete(gone, std::mem::take(&mut resolved.hidden))
            .await;
        self.sweep(&root).await;
        self.compare(std::mem::take(&mut resolved.trees)).await;
        self.learn(&root).await;
        // A tree that was compared without deletion has left it; the next job counts it.
        self.report.again.append(&mut self.in_the_way);
        self.look_again(root, resolved, names).await;
    }

    fn not_seen(&mut self, dirty: DirtyPath, error: &io::Error) {
        let exit = error.raw_os_error().unwrap_or(-1);
        let message = format!("the source could not be looked at: {error}");
        self.report.failed.push((dirty, Failure { exit, message }));
    }

    /// What another slot is for.
    fn route_away(&mut self, resolved: &mut Resolved) {
        if self.route == Route::Path {
            let large = std::mem::take(&mut resolved.large).into_iter();
            self.report
                .routed
                .extend(large.map(|dirty| (dirty, Route::Large)));
        }
        if self.route != Route::Tree {
            let trees = std::mem::take(&mut resolved.trees).into_iter();
            self.report
                .routed
                .extend(trees.map(|dirty| (dirty, Route::Tree)));
        }
        // A link where a long job may have seen a directory waits until that one has ended.
        for path in std::mem::take(&mut resolved.links) {
            let job = self.beside.iter().find(|(_, job)| job.overlaps(&path));
            let was_directory =
                |dirty: &DirtyPath| dirty.path == path && dirty.extent == Extent::Subtree;
            if let Some((route, _)) = job
                && let Some(at) = resolved.plain.iter().position(was_directory)
            {
                self.report.routed.push((resolved.plain.remove(at), *route));
            }
        }
    }

    async fn send(&mut self, root: &SourceRoot, resolved: &mut Resolved) {
        let mut written = std::mem::take(&mut resolved.written);
        let mut plain = std::mem::take(&mut resolved.plain);
        if resolved.plain_bytes <= RIDE_ALONG {
            written.append(&mut plain);
        }
        self.send_root_alone(root, &mut written).await;
        self.send_root_alone(root, &mut plain).await;
        self.send_directories(root, &mut written, &mut plain).await;
        let delicate = self.take_delicate(&mut written, &mut plain);
        self.send_delicate(root, delicate).await;
        for (ignore_times, paths) in [(true, written), (false, plain)] {
            if !paths.is_empty() {
                let kind = RunKind::Send { ignore_times };
                self.run_list(root, kind, paths).await;
            }
        }
    }

    /// Removes what is missing, and what is none of the `hidden` directories, as far as the switches want it.
    async fn delete(&mut self, gone: Vec<DirtyPath>, hidden: Vec<DirtyPath>) {
        let removals = self.context.removals;
        let mut wanted = |paths: Vec<DirtyPath>| {
            let is_wanted = |dirty: &DirtyPath| match removals {
                Removals::All => true,
                Removals::Seen => dirty.removed,
                Removals::None => false,
            };
            let (wanted, others): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_wanted);
            self.report.synced.extend(others);
            wanted
        };
        let (gone, hidden) = (wanted(gone), wanted(hidden));
        if gone.is_empty() && hidden.is_empty() {
            return;
        }
        let root = match self.context.open_root_to_delete() {
            Ok(root) => Arc::new(root),
            Err(hold) => {
                self.hold(hold, hidden);
                return self.report.again.extend(gone);
            }
        };
        self.look_at_volumes(&root).await;
        let gone = self.spared(&root, gone, Deed::Remove);
        let hidden = self.spared(&root, hidden, Deed::Remove);
        if gone.is_empty() && hidden.is_empty() {
            return;
        }
        if self.context.filter.is_some() {
            self.delete_filtered(&root, gone, hidden).await;
        } else if self.forms.delete_by_name {
            let kind = RunKind::Delete { by_name: true };
            self.run_list(&root, kind, gone).await;
        } else {
            let (apart, gone) = gone
                .into_iter()
                .partition(|dirty| self.view.holds(&dirty.path));
            self.delete_by_listing(&root, gone).await;
            self.delete_on_volumes(&root, apart).await;
        }
    }

    /// Deletes what the directories of missing names do not hold. That is done by path jobs alone, and not where a
    /// long job has half-written files; there the directories are compared as trees.
    async fn delete_by_listing(&mut self, root: &SourceRoot, gone: Vec<DirtyPath>) {
        let is_path = self.route == Route::Path;
        let (now, later): (Vec<_>, Vec<_>) = gone.into_iter().partition(|dirty| {
            let dir = dirty.path.parent().unwrap_or_else(RelPath::root);
            is_path && !self.beside.iter().any(|(_, batch)| batch.overlaps(&dir))
        });
        for dirty in later {
            let path = dirty.path.parent().unwrap_or_else(RelPath::root);
            let tree = DirtyPath {
                path,
                extent: Extent::Subtree,
                written: false,
                ..dirty
            };
            self.report.routed.push((tree, Route::Tree));
        }
        let mut dirs: Vec<RelPath> = now.iter().filter_map(|dirty| dirty.path.parent()).collect();
        dirs.sort();
        dirs.dedup();
        let failure = match self.certain_directories(root, &dirs).await {
            Ok((certain, failure)) => {
                let is_certain = |dirty: &DirtyPath| {
                    dirty
                        .path
                        .parent()
                        .is_some_and(|dir| certain.contains(&dir))
                };
                let (sure, unsure): (Vec<_>, Vec<_>) = now.into_iter().partition(is_certain);
                let unsure = unsure.into_iter().map(|dirty| (dirty, failure.clone()));
                self.report.failed.extend(unsure);
                if !sure.is_empty() {
                    let kind = RunKind::Delete { by_name: false };
                    self.run_list(root, kind, sure).await;
                    self.report.emptied.extend(certain);
                }
                return;
            }
            Err(failure) => failure,
        };
        if self.report.end == End::Reached {
            self.undecided(now, failure);
        } else {
            self.report.again.extend(now);
        }
    }

    /// Has directories stand at the receiver as such, so that no deletion in them goes through a link that was there
    /// before. Gives those of which that is certain, and why it is not of the others; `Err` if it is of none.
    async fn certain_directories(
        &mut self,
        root: &SourceRoot,
        dirs: &[RelPath],
    ) -> Result<(BTreeSet<RelPath>, Failure), Failure> {
        let failure = |exit: i32, message: String| Failure { exit, message };
        let all = || dirs.iter().cloned().collect::<BTreeSet<_>>();
        let why = "nothing is deleted in a directory that could not be sent";
        // The root stands there anyway, and in a list it takes its entries along.
        let is_filtered = self.context.filter.is_some();
        let is_listed = |dir: &&RelPath| !dir.is_root();
        let listed: Vec<RelPath> = dirs.iter().filter(is_listed).cloned().collect();
        if dirs.is_empty() || self.report.end != End::Reached {
            return Ok((BTreeSet::new(), failure(-1, why.into())));
        }
        if listed.is_empty() {
            return Ok((all(), failure(0, why.into())));
        }
        let kind = RunKind::Send { ignore_times: true };
        self.rules.extend(self.directories_alone());
        let ended = self.child(root, kind, args::list(&listed)).await;
        self.rules.clear();
        let Some(ended) = ended else {
            return Err(failure(-1, "it was stopped".into()));
        };
        let names = Names {
            listed: &listed,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        let exit = ended.exit.code();
        let uncertain = match judge(kind, &ended, &names) {
            Outcome::Synced => return Ok((all(), failure(exit, why.into()))),
            // It changed meanwhile: another look helps.
            Outcome::Again(_) | Outcome::Undecided { changed: true, .. } if is_filtered => {
                return Err(failure(CHANGED, why.into()));
            }
            Outcome::Again(again) => again,
            Outcome::Failed { paths, again, .. } => paths
                .into_iter()
                .map(|(path, _)| path)
                .chain(again)
                .collect(),
            Outcome::Undecided { message, .. } | Outcome::DiskFull(message) => {
                return Err(failure(exit, format!("{why}: {message}")));
            }
            Outcome::Unreachable(message) => {
                let failure = failure(exit, message);
                self.report.end = End::Unreachable(failure.clone());
                return Err(failure);
            }
            Outcome::Misconfigured(message) => {
                let failure = failure(exit, message);
                self.report.end = End::Misconfigured(failure.clone());
                return Err(failure);
            }
            Outcome::Refused(form) => {
                self.report.end = End::Refused(form);
                return Err(failure(exit, "an option was refused".into()));
            }
        };
        let mut certain = all();
        certain.retain(|dir| !uncertain.iter().any(|name| dir.is_within(name)));
        Ok((certain, failure(exit, format!("{why}: {}", ended.exit))))
    }

    async fn compare(&mut self, trees: Vec<DirtyPath>) {
        if trees.is_empty() {
            return;
        }
        let root = if self.context.compares_with_deletion() {
            self.context.open_root_to_delete()
        } else {
            self.context.open_root()
        };
        match root {
            Ok(root) => {
                let root = Arc::new(root);
                self.look_at_volumes(&root).await;
                let trees = self.spared(&root, trees, Deed::Compare);
                if trees.is_empty() {
                    return;
                }
                if self.forms.exact_times.is_none() {
                    self.learn_exact_times(&root, &trees).await;
                }
                let is_everything = trees.iter().any(|dirty| dirty.path.is_root());
                let delete = self.context.compares_with_deletion() && self.forms.delete_in_trees;
                if let Some(filter) = self.filter.clone() {
                    self.compare_filtered(&root, trees, filter, delete).await;
                } else {
                    // With a limit the comparison is rehearsed anyway, which tells the same, but for what is mounted below.
                    let is_rehearsed = self.may_delete.is_some()
                        && self.view.parts_of(&RelPath::root()).is_empty();
                    let is_foreseen = !is_everything || !delete || is_rehearsed;
                    if !is_foreseen && !self.foresee(&root).await {
                        return self.report.again.extend(trees);
                    }
                    self.compare_trees(&root, trees, delete).await;
                }
                self.split(&root, delete).await;
                let mut synced = self.report.synced.iter();
                self.has_compared_everything = is_everything
                    && self.excludes.is_empty()
                    // What may not be removed is a difference.
                    && self.report.withheld.is_empty()
                    && synced.any(|dirty| dirty.path.is_root());
            }
            Err(hold) => self.hold(hold, trees),
        }
    }

    /// Takes the trees apart that cannot be made equal as a whole.
    async fn split(&mut self, root: &Arc<SourceRoot>, deletes: bool) {
        for (tree, failure) in std::mem::take(&mut self.indivisible) {
            let (root, dir, since) = (Arc::clone(root), tree.path.clone(), tree.since);
            let listing = on_disk(move || children(&root, &dir, since));
            match listing.await {
                Some(Ok(children)) => self.report.split.push(Split {
                    tree,
                    children,
                    deletes,
                    failure,
                }),
                Some(Err(_)) | None => self.report.failed.push((tree, failure)),
            }
        }
    }

    /// Finds out whether the receiver keeps fractions of seconds, by some files that are equal there but for those.
    async fn learn_exact_times(&mut self, root: &Arc<SourceRoot>, trees: &[DirtyPath]) {
        let trees: Vec<RelPath> = trees.iter().map(|dirty| dirty.path.clone()).collect();
        let below = Arc::clone(root);
        let sampling = on_disk(move || sample::files(&below, &trees));
        let files = sampling.await.unwrap_or_default();
        if files.is_empty() || self.report.end != End::Reached {
            return;
        }
        let mut equal = [0; 2];
        for (exact, equal) in [false, true].into_iter().zip(&mut equal) {
            let asked = self.child(root, RunKind::Ask { exact }, args::list(&files));
            let Some(ended) = asked.await else { return };
            if !matches!(ended.exit, Exit::Code(0)) {
                return;
            }
            *equal = (files.len() as u64).saturating_sub(ended.stats.files_sent);
        }
        self.forms.exact_times = sample::verdict(equal[0], equal[1]);
        self.report.exact_times = self.forms.exact_times;
    }

    fn hold(&mut self, hold: Hold, paths: Vec<DirtyPath>) {
        self.report.again.extend(paths);
        if self.report.end == End::Reached {
            self.report.end = End::Held(hold);
        }
    }

    /// One run, unless an earlier one of this job found that there is nobody to talk to.
    async fn run_list(&mut self, root: &SourceRoot, kind: RunKind, paths: Vec<DirtyPath>) {
        if self.report.end != End::Reached {
            self.report.again.extend(paths);
            return;
        }
        let names: Vec<RelPath> = paths.iter().map(|dirty| dirty.path.clone()).collect();
        let list = match kind {
            RunKind::Delete { by_name: false } => args::parents_list(&names),
            _ => args::list(&names),
        };
        match self.may(root, kind, &names, &list).await {
            May::Go => {}
            May::Not => {
                self.report.again.extend(paths);
                return;
            }
            May::Judged(exit, outcome) => return self.account(kind, &exit, outcome, paths),
            May::Withhold => return self.withhold_run(root, kind, paths).await,
        }
        let Some(mut ended) = self.child(root, kind, list).await else {
            self.report.again.extend(paths);
            return;
        };
        self.forget_the_limit(kind, &mut ended);
        if self.was_stopped_by_limit(&ended) {
            return self.withhold(paths, 1);
        }
        for dirty in &paths {
            tracing::trace!(written = dirty.written, "{kind:?} {}", dirty.path);
        }
        let names = Names {
            listed: &names,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        let outcome = judge(kind, &ended, &names);
        tracing::debug!(
            paths = paths.len(),
            ?kind,
            took_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX),
            bytes = ended.stats.bytes_sent,
            "{}{}",
            ended.exit,
            if outcome == Outcome::Synced {
                String::new()
            } else {
                format!(": {outcome:?}")
            }
        );
        let was_sending = matches!(kind, RunKind::Send { .. });
        let was_cut_off = matches!(outcome, Outcome::Unreachable(_)) && had_begun(&ended.exit);
        if was_sending && (was_cut_off || std::mem::take(&mut self.standby_was_cut_off)) {
            self.report
                .unswept
                .extend(names.listed.iter().filter_map(RelPath::parent));
        }
        if outcome != Outcome::Synced {
            tracing::debug!("rsync said: {}", crate::path::escaped(&ended.stderr));
        }
        self.account(kind, &ended.exit, outcome, paths);
    }

    /// The standby if there is one and the run is of its kind, else a new child. `None` if the job is to stop, which may
    /// have ended the run.
    async fn child(&mut self, root: &SourceRoot, kind: RunKind, list: Vec<u8>) -> Option<Ended> {
        let ended = match self.permit().await {
            Some(_permit) => Some(self.run_child(root, kind, list).await),
            None => None,
        };
        if ended.is_none() || self.halt.cancel.is_cancelled() {
            self.report.end = End::Stopped;
            return None;
        }
        match &ended {
            // Nothing was done.
            Some(_) if kind == RunKind::Foresee => self.report.runs += 1,
            Some(ended) => self.count(ended),
            None => {}
        }
        ended
    }

    /// The right to start a child; `None` when the job is to stop.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.halt.stop.cancelled() => None,
            permit = Arc::clone(&self.context.children).acquire_owned() => permit.ok(),
        }
    }

    async fn run_child(&mut self, root: &SourceRoot, kind: RunKind, list: Vec<u8>) -> Ended {
        let pace = self.pace(kind, &list);
        let limit = (pace == Pace::Brief).then_some(self.context.remote.timeout);
        if kind == (RunKind::Send { ignore_times: true })
            && self.rules.is_empty()
            && !self.making_way
            && let Some(standby) = self.standby.take()
            && let Some(ended) = standby.run(list.clone(), limit).await
        {
            // Its connection may have died while it waited. That says nothing of the batch or of the remote now.
            let was_stale = !matches!(ended.exit, Exit::Code(0 | 11 | 23..=25));
            if !was_stale || self.halt.cancel.is_cancelled() {
                return ended;
            }
            self.standby_was_cut_off = had_begun(&ended.exit);
        }
        let mut launch = self.context.launch(root, kind, self.forms, pace);
        let rules = self.rules.iter().cloned();
        let rules: Vec<OsString> = rules.chain(args::excluding(&self.excludes)).collect();
        launch.args.splice(0..0, rules);
        launch.args.splice(0..0, self.rules_of_gaps(kind));
        self.limit(kind, &mut launch);
        tracing::trace!("{}", args::shown(&launch.args));
        let told = &self.context.progress;
        let is_tree = matches!(kind, RunKind::Tree { .. });
        let mut progress = Progress::default();
        let listen = |output: &[u8]| {
            if is_tree && let Some(percent) = progress.read(output) {
                told.send_if_modified(|now| std::mem::replace(now, percent) != percent);
            }
        };
        let running = self
            .context
            .run(&launch, list, limit, &self.halt.cancel, listen);
        let ended = running.await;
        if is_tree {
            told.send_replace(DONE);
        }
        ended
    }

    /// Where a file system is missing, nothing is removed by a listing, and nothing compared.
    fn rules_of_gaps(&self, kind: RunKind) -> Vec<OsString> {
        if kind.is_by_name() {
            return Vec::new();
        }
        self.view.gaps.rules()
    }

    fn pace(&self, kind: RunKind, list: &[u8]) -> Pace {
        let is_small = list.len() <= BRIEF_LIST && self.bytes <= BRIEF_BYTES;
        if is_small && !matches!(kind, RunKind::Tree { .. } | RunKind::Foresee) {
            Pace::Brief
        } else {
            Pace::Long
        }
    }

    /// Puts each path of a run where its outcome says.
    fn account(&mut self, kind: RunKind, exit: &Exit, outcome: Outcome, mut paths: Vec<DirtyPath>) {
        let exit = exit.code();
        match outcome {
            Outcome::Synced => self.report.synced.append(&mut paths),
            Outcome::Again(names) => {
                let is_tree = matches!(kind, RunKind::Tree { .. });
                let below = if is_tree {
                    Extent::Subtree
                } else {
                    Extent::Entry
                };
                let synced = self.again(paths, &names, below);
                let synced = self.involved(synced, &names);
                self.report.synced.extend(synced);
            }
            Outcome::Failed {
                paths: failed,
                again,
                deletions_owed,
            } => {
                // A tree run names what is below the listed directories, and what it is is not known.
                let is_tree = matches!(kind, RunKind::Tree { .. });
                let below = if is_tree {
                    Extent::Subtree
                } else {
                    Extent::Entry
                };
                let names: Vec<RelPath> = failed.iter().map(|(path, _)| path.clone()).collect();
                let (listed, rest) = split(paths, &names);
                for (path, message) in failed {
                    let listed = position(&listed, &path).map(|at| &listed[at]);
                    let extent = listed.map_or(below, |dirty| dirty.extent);
                    let removed = listed.is_ok_and(|dirty| dirty.removed);
                    let dirty = DirtyPath {
                        removed,
                        ..DirtyPath::now(path, extent)
                    };
                    if self.is_in_the_way(&message) {
                        self.in_the_way.push(dirty);
                        continue;
                    }
                    self.report.failed.push((dirty, Failure { exit, message }));
                }
                let rest = self.again(rest, &again, below);
                let told: Vec<RelPath> = names.into_iter().chain(again).collect();
                let rest = self.involved(rest, &told);
                if deletions_owed {
                    let message = "rsync removed nothing, since it could not read all of it";
                    let failure = Failure {
                        exit,
                        message: message.into(),
                    };
                    self.not_as_a_whole(kind, rest, failure);
                } else {
                    self.report.synced.extend(rest);
                }
            }
            // A source in which much changes looks different soon.
            Outcome::Undecided { changed, .. }
                if changed && paths.iter().all(|dirty| dirty.tries < TRIES_BEFORE_HALVING) =>
            {
                self.report.again.append(&mut paths);
            }
            Outcome::Undecided { message, .. } => {
                self.not_as_a_whole(kind, paths, Failure { exit, message });
            }
            Outcome::DiskFull(message) => {
                let failure = Failure { exit, message };
                self.report.end = End::DiskFull(failure.clone());
                self.not_as_a_whole(kind, paths, failure);
            }
            Outcome::Refused(form) => {
                self.report.end = End::Refused(form);
                self.report.again.append(&mut paths);
            }
            // A module that refuses deletions still gets its files: only what is to be deleted fails.
            Outcome::Misconfigured(message)
                if matches!(kind, RunKind::Delete { .. }) && exit == 4 =>
            {
                let failure = Failure { exit, message };
                self.report
                    .failed
                    .extend(paths.into_iter().map(|dirty| (dirty, failure.clone())));
            }
            Outcome::Misconfigured(message) => {
                self.report.end = self.blame(End::Misconfigured(Failure { exit, message }));
                self.report.again.append(&mut paths);
            }
            Outcome::Unreachable(message) => {
                self.report.end = self.blame(End::Unreachable(Failure { exit, message }));
                self.report.again.append(&mut paths);
            }
        }
    }

    /// A source that was unmounted under a run lets that fail, as if the remote were to blame.
    fn blame(&self, end: End) -> End {
        match self.context.open_root() {
            Ok(_) => end,
            Err(hold) => End::Held(hold),
        }
    }

    /// At least one of these failed, and it cannot be told which; or what failed in one of them keeps the others back.
    fn not_as_a_whole(&mut self, kind: RunKind, mut paths: Vec<DirtyPath>, failure: Failure) {
        let is_tree = matches!(kind, RunKind::Tree { .. });
        match paths.len() {
            0 => {}
            _ if !is_tree => self.undecided(paths, failure),
            1 => self
                .indivisible
                .extend(paths.pop().map(|tree| (tree, failure))),
            // Trees that are looked at again go one by one, which tells them apart.
            _ if self.report.end == End::Reached => self.report.again.append(&mut paths),
            _ => self.undecided(paths, failure),
        }
    }

    /// Puts these names aside for another look; returns the other paths.
    fn again(&mut self, paths: Vec<DirtyPath>, names: &[RelPath], below: Extent) -> Vec<DirtyPath> {
        let (again, rest) = split(paths, names);
        for name in names {
            if position(&again, name).is_err() {
                self.report.again.push(DirtyPath::now(name.clone(), below));
            }
        }
        self.report.again.extend(again);
        rest
    }

    /// What may not have been done beside the names that rsync told: what is below them, and with `-H` the other names
    /// of files whose first name failed.
    fn involved(&mut self, paths: Vec<DirtyPath>, told: &[RelPath]) -> Vec<DirtyPath> {
        let told: BTreeSet<&RelPath> = told.iter().collect();
        let is_below = |path: &RelPath| path.ancestors_below_root().any(|dir| told.contains(&dir));
        let (involved, rest): (Vec<_>, Vec<_>) = paths
            .into_iter()
            .partition(|dirty| self.grouped.contains(&dirty.path) || is_below(&dirty.path));
        self.report.again.extend(involved);
        rest
    }

    fn undecided(&mut self, paths: Vec<DirtyPath>, failure: Failure) {
        match &mut self.report.undecided {
            Some((others, _)) => others.extend(paths),
            none => *none = Some((paths, failure)),
        }
        if let Some((others, _)) = &mut self.report.undecided {
            others.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }

    /// A parent that changed during the runs may have led rsync astray: it is dirty again with all its content. So is
    /// a name that was gone and is taken again: a deletion leaves what exists, and it may be the old directory of that
    /// name that still stands at the receiver. So does that if a file was to take its place, and was a directory by the
    /// time that rsync looked.
    async fn look_again(&mut self, root: Arc<SourceRoot>, resolved: Resolved, gone: Vec<RelPath>) {
        let looking = on_disk(move || {
            let mut changed = resolved.changed_parents(&root);
            changed.extend(present(&root, &gone));
            changed.extend(directories(&root, &resolved.no_directories));
            changed
        });
        for path in looking.await.unwrap_or_default() {
            self.report
                .again
                .push(DirtyPath::now(path, Extent::Subtree));
        }
    }

    /// A receiver that was killed leaves its temporary files behind: they are removed with whatever else is only there,
    /// in the directories that it was writing to.
    async fn sweep(&mut self, root: &Arc<SourceRoot>) {
        if !self.context.compares_with_deletion() {
            self.report.unswept.clear();
        }
        let is_busy = |dir: &RelPath| self.beside.iter().any(|(_, batch)| batch.overlaps(dir));
        let all = std::mem::take(&mut self.report.unswept).into_iter();
        let (later, dirs): (Vec<_>, Vec<_>) = all.partition(is_busy);
        self.report.unswept = later;
        if dirs.is_empty() {
            return;
        }
        if !self.sweep_in(root, dirs.clone()).await {
            self.report.unswept.extend(dirs);
        }
    }

    /// Whether that is over. What failed by itself is not tried again: it is a left-over, and the next full push removes
    /// it.
    async fn sweep_in(&mut self, root: &Arc<SourceRoot>, dirs: Vec<RelPath>) -> bool {
        let below = Arc::clone(root);
        let Some(dirs) = on_disk(move || directories(&below, &dirs)).await else {
            return false;
        };
        if self.report.end != End::Reached {
            return false;
        }
        let root = match self.context.open_root_to_delete() {
            Ok(root) => Arc::new(root),
            Err(hold) => {
                self.hold(hold, Vec::new());
                return false;
            }
        };
        self.look_at_volumes(&root).await;
        let dirs: Vec<RelPath> = dirs
            .into_iter()
            .filter(|dir| self.view.gaps.around(dir).is_none())
            .collect();
        let certain: Vec<RelPath> = match self.certain_directories(&root, &dirs).await {
            Ok((certain, _)) => certain.into_iter().collect(),
            Err(_) => return self.report.end == End::Reached,
        };
        if certain.is_empty() {
            return self.report.end == End::Reached;
        }
        let is_mounted = certain.iter().any(|dir| self.view.holds(dir));
        if self.context.filter.is_some() || is_mounted {
            return self.sweep_picked(&root, &certain).await;
        }
        let kind = RunKind::Delete { by_name: false };
        let list = args::directories_list(&certain);
        match self.may(&root, kind, &certain, &list).await {
            May::Go => {}
            May::Not => return false,
            May::Withhold => {
                self.withhold_sweep(&certain);
                return self.report.end == End::Reached;
            }
            May::Judged(exit, _) => return is_over(&exit),
        }
        let Some(ended) = self.child(&root, kind, list).await else {
            return false;
        };
        tracing::debug!(directories = certain.len(), "swept: {}", ended.exit);
        self.report.emptied.extend(certain);
        is_over(&ended.exit)
    }

    fn count(&mut self, ended: &Ended) {
        self.report.runs += 1;
        self.made += ended.stats.made;
        self.report.files_sent += ended.stats.files_sent;
        self.report.others_made += ended.stats.made.saturating_sub(ended.stats.files_made);
        self.report.bytes_sent += ended.stats.bytes_sent;
        self.report.deleted += ended.stats.deleted;
        self.report.took = self.report.took.max(ended.took);
    }
}

/// Whether a sweep that ended so is not to be made again.
fn is_over(exit: &Exit) -> bool {
    matches!(exit, Exit::Code(0..=4 | 23..=25))
}

/// What a directory holds, to be made equal one by one.
fn children(root: &SourceRoot, dir: &RelPath, since: Instant) -> io::Result<Vec<DirtyPath>> {
    let mut children = Vec::new();
    let opened = root.open_dir(dir, OFlags::RDONLY)?;
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        // Whoever takes it up looks at what it is then.
        let extent = match entry.file_type() {
            FileType::Directory | FileType::Unknown => Extent::Subtree,
            _ => Extent::Entry,
        };
        children.push(DirtyPath {
            since,
            ..DirtyPath::now(dir.join(name), extent)
        });
        if children.len() > MOST_CHILDREN {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
    Ok(children)
}

/// Work on the file system, which blocks, in a thread of its own. `None` if the runtime ends meanwhile.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => None,
    }
}

/// Whether a run that did not get through may have begun to write: not if nobody answered, or the module was refused.
fn had_begun(exit: &Exit) -> bool {
    !matches!(exit, Exit::NotStarted(_) | Exit::Code(5 | 10 | 35))
}

/// The paths with one of these names, and the others.
fn split(paths: Vec<DirtyPath>, names: &[RelPath]) -> (Vec<DirtyPath>, Vec<DirtyPath>) {
    let names: BTreeSet<&RelPath> = names.iter().collect();
    paths
        .into_iter()
        .partition(|dirty| names.contains(&dirty.path))
}
