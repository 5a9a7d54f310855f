//! What is missing at the source is removed at the receiver, by name or by listing, and left-overs are swept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::guarded::Deed;
use super::withhold::May;
use super::{CHANGED, Transfer, on_disk};
use crate::change::Extent;
use crate::config::Removals;
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::Failure;
use crate::lane::budget::Budget;
use crate::lane::{End, Unswept};
use crate::path::{RelPath, SourceRoot};
use crate::resolve::directories;
use crate::rsync::{Exit, Names, Outcome, RunKind, args, judge};

impl Transfer {
    /// Removes what is missing, and what is none of the `hidden` directories, as far as the switches want it.
    pub(super) async fn delete(&mut self, gone: Vec<DirtyPath>, hidden: Vec<DirtyPath>) {
        let removals = self.context.removals;
        let mut wanted = |paths: Vec<DirtyPath>| {
            let is_wanted = |dirty: &DirtyPath| match removals {
                Removals::All => true,
                Removals::Seen => dirty.removed,
                Removals::None => false,
            };
            let (wanted, others): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_wanted);
            self.report.kept.extend(others);
            wanted
        };
        let (gone, hidden) = (wanted(gone), wanted(hidden));
        if gone.is_empty() && hidden.is_empty() {
            return;
        }
        let root = match self.context.open_root_to_delete().await {
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
        if self.context.filter.is_some() || (!self.forms.delete_by_name && self.context.picks()) {
            self.delete_picked(&root, gone, hidden).await;
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
        if self.report.end != End::Reached {
            return self.report.again.extend(gone);
        }
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
    pub(super) async fn certain_directories(
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

    /// A receiver that was killed leaves its temporary files behind: they are removed with whatever else is only there,
    /// in the directories that it was writing to.
    pub(super) async fn sweep(&mut self, root: &Arc<SourceRoot>) {
        // What a remote had before it was first compared stays.
        if !self.context.compares_with_deletion() || self.context.guard.is_unrelated() {
            self.report.unswept.clear();
        }
        let is_busy = |one: &Unswept| {
            let mut beside = self.beside.iter();
            beside.any(|(_, batch)| batch.overlaps(&one.dir))
        };
        let all = std::mem::take(&mut self.report.unswept).into_iter();
        let (later, dirs): (Vec<_>, Vec<_>) = all.partition(is_busy);
        self.report.unswept = later;
        let budget = self.budget.clone();
        let granted = budget.as_ref().and_then(Budget::granted_at);
        let (trees, left): (Vec<_>, Vec<_>) = dirs.into_iter().partition(|one| one.tree.is_some());
        let (accepted, young): (Vec<_>, Vec<_>) =
            trees.into_iter().partition(|one| one.tree <= granted);
        // Whatever else the job is for: nobody was asked about left-overs.
        for (part, newest) in [(accepted, granted), (young, None), (left, None)] {
            if part.is_empty() {
                continue;
            }
            self.budget = budget.as_ref().map(|budget| budget.since(newest));
            let dirs: BTreeSet<RelPath> = part.iter().map(|one| one.dir.clone()).collect();
            if !self.sweep_in(root, dirs.into_iter().collect()).await {
                self.report.unswept.extend(part);
            }
        }
        self.budget = budget;
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
        let root = match self.context.open_root_to_delete().await {
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
        if !is_over(&ended.exit) {
            let swept = certain.iter().cloned();
            let swept = swept.map(|dir| DirtyPath::now(dir, Extent::Subtree));
            self.doubt(&swept.collect::<Vec<_>>());
        }
        if self.was_stopped_by_limit(&ended) {
            self.report.would_delete += 1;
            self.withhold_sweep(&certain);
        }
        self.report.emptied.extend(certain);
        is_over(&ended.exit)
    }
}

/// Whether a sweep that ended so is not to be made again.
fn is_over(exit: &Exit) -> bool {
    matches!(exit, Exit::Code(0..=4 | 23..=25))
}
