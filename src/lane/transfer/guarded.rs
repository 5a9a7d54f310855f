//! What a job leaves alone: what is mounted below the source and is missing now, and a remote that a first comparison
//! would empty.
//!
//! What is mounted is looked at before a batch is resolved, after it, and again before anything is deleted. The mount
//! points are held open meanwhile, so that only a lazy unmount can take a file system away under a run. What is left
//! alone fails as the mount point: so it is listed, tried again, and synced as a whole when the file system is back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::OFlags;

use super::filtered::REFUSED;
use super::{Transfer, on_disk};
use crate::change::Extent;
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::Failure;
use crate::lane::guard::check_first;
use crate::lane::removal::{Hides, Removal};
use crate::lane::{End, VOLUME_MISSING, news};
use crate::path::{RelPath, SourceRoot};
use crate::resolve::{Resolved, directories};
use crate::rsync::rules::{Effect, rule_below};
use crate::rsync::{Ended, Exit, Names, Outcome, RefusedForm, RunKind, args, judge};

/// What is to be done with paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// They are sent, as what they are.
    Send,
    /// They are compared with all their content; rules keep what is missing below them.
    Compare,
    /// They are removed with all their content.
    Remove,
}

impl Transfer {
    /// Takes another look at what is mounted, if anything is.
    pub(super) async fn look_at_volumes(&mut self, root: &Arc<SourceRoot>) {
        if self.view.is_empty() {
            return;
        }
        let (guard, root) = (Arc::clone(&self.context.guard), Arc::clone(root));
        if let Some(view) = on_disk(move || guard.look(&root)).await {
            self.view.extend(view);
        }
    }

    /// Takes out of a resolved batch what is to be left alone.
    pub(super) fn leave_out(&mut self, root: &SourceRoot, resolved: &mut Resolved) {
        if self.view.gaps.is_empty() {
            return;
        }
        for list in [
            &mut resolved.written,
            &mut resolved.plain,
            &mut resolved.large,
            &mut resolved.partly_known,
        ] {
            *list = self.spared(root, std::mem::take(list), Deed::Send);
        }
        resolved.trees = self.spared(root, std::mem::take(&mut resolved.trees), Deed::Compare);
        for list in [&mut resolved.gone, &mut resolved.hidden] {
            *list = self.spared(root, std::mem::take(list), Deed::Remove);
        }
    }

    /// The paths that need not be left alone; the others fail.
    pub(super) fn spared(
        &mut self,
        root: &SourceRoot,
        paths: Vec<DirtyPath>,
        deed: Deed,
    ) -> Vec<DirtyPath> {
        if self.view.gaps.is_empty() {
            return paths;
        }
        let mut rest = Vec::with_capacity(paths.len());
        for dirty in paths {
            let gaps = &self.view.gaps;
            if let Some((at, gap)) = gaps.around(&dirty.path) {
                let (at, words) = (at.clone(), gap.words());
                self.leave(DirtyPath::now(at, Extent::Subtree), words);
                continue;
            }
            if !gaps.is_below(&dirty.path) {
                rest.push(dirty);
                continue;
            }
            let is_kept = match deed {
                Deed::Compare => false,
                // Something else in place of a directory would be made way for.
                Deed::Send => root.open_dir(&dirty.path, OFlags::PATH).is_err(),
                Deed::Remove => true,
            };
            if is_kept {
                let words = "a file system that was mounted below it is not mounted; what the remote has there is \
                             kept until it is, or until `sersync resume --accept-source`";
                self.leave(dirty, words.into());
                continue;
            }
            if deed == Deed::Compare {
                let below: Vec<_> = gaps
                    .iter()
                    .filter(|(at, _)| at.is_within(&dirty.path))
                    .map(|(at, gap)| (at.clone(), gap.words()))
                    .collect();
                for (at, words) in below {
                    self.leave(DirtyPath::now(at, Extent::Subtree), words);
                }
            }
            rest.push(dirty);
        }
        rest
    }

    fn leave(&mut self, dirty: DirtyPath, message: String) {
        let mut left = self.report.failed.iter();
        if left.any(|(other, failure)| failure.exit == VOLUME_MISSING && other.path == dirty.path) {
            return;
        }
        let exit = VOLUME_MISSING;
        self.report.failed.push((dirty, Failure { exit, message }));
    }

    /// Makes trees equal. On what is mounted below the source nothing is removed by that, since a lazy unmount under the run
    /// would show it the bare mount point. What is only at the receiver there is asked for; if the file system is still
    /// there then, exactly that is removed.
    pub(super) async fn compare_trees(
        &mut self,
        root: &Arc<SourceRoot>,
        trees: Vec<DirtyPath>,
        delete: bool,
    ) {
        let parts = trees.iter().flat_map(|tree| self.view.parts_of(&tree.path));
        let parts: Vec<RelPath> = parts.filter(|_| delete).collect();
        let since = trees.iter().map(|tree| tree.since).min();
        self.rules = parts
            .iter()
            .map(|part| rule_below(Effect::Protect, part))
            .collect();
        let (moved_in, others): (Vec<_>, Vec<_>) = trees.into_iter().partition(|tree| tree.written);
        // What holds the comparison of everything back is found out before anything else is removed.
        for (ignore_times, trees) in [(false, others), (true, moved_in)] {
            if !trees.is_empty() {
                let kind = RunKind::Tree {
                    delete,
                    ignore_times,
                };
                self.run_list(root, kind, trees).await;
            }
        }
        self.rules.clear();
        if parts.is_empty() || self.report.end != End::Reached {
            return;
        }
        let kind = RunKind::List { recursive: true };
        let left_alone = args::excluding(&self.excludes).collect();
        let asked = self.ask(root, kind, left_alone, args::list(&parts), &parts);
        let removed = match asked.await {
            Ok(found) => {
                let above = found.iter().flat_map(|one| one.path.ancestors_below_root());
                let above: Vec<RelPath> = above.collect::<BTreeSet<_>>().into_iter().collect();
                let below = Arc::clone(root);
                let here = on_disk(move || directories(&below, &above)).await;
                let here: BTreeSet<RelPath> = here.into_iter().flatten().collect();
                let removal = Removal::pick(found, None, None, |dir| here.contains(dir));
                self.carry_out(root, &removal, Hides::default()).await
            }
            Err(failure) => Err(failure),
        };
        let Err(failure) = removed else { return };
        if failure.exit == REFUSED && self.report.end == End::Reached {
            self.report.end = End::Refused(RefusedForm::DeleteInTrees);
        }
        let parts = parts.into_iter();
        let parts = parts.map(|part| DirtyPath {
            since: since.unwrap_or_else(Instant::now),
            ..DirtyPath::now(part, Extent::Subtree)
        });
        self.not_removed(parts.collect(), failure);
    }

    /// Removes missing names of which the directories cannot be listed, as the file system may go meanwhile.
    pub(super) async fn delete_on_volumes(&mut self, root: &Arc<SourceRoot>, gone: Vec<DirtyPath>) {
        if self.report.end != End::Reached {
            self.report.again.extend(gone);
        } else if !gone.is_empty() {
            self.delete_picked(root, gone, Vec::new()).await;
        }
    }

    /// After a comparison of everything, it is known what the remote is equal to.
    pub(super) async fn learn(&mut self, root: &Arc<SourceRoot>) {
        let guard = &self.context.guard;
        let mut again = self.report.again.iter();
        if self.route == Route::Tree && again.any(|dirty| dirty.path.is_root()) {
            guard.unrelate();
        }
        if self.report.end == End::Reached {
            if self.has_compared_everything {
                let target = self.target.as_ref();
                guard.learn(root, target.map(|target| target.lasting()));
            } else if self.report.files_sent + self.report.others_made + self.report.deleted > 0 {
                guard.relate_by_change(root);
            }
        }
        self.keep().await;
    }

    /// A comparison of everything begins, and may delete what it would if it deletes: until it is over, and if it never is,
    /// another source must not be taken for this one.
    pub(super) async fn relate(&mut self, root: &SourceRoot, may_delete: bool) {
        let may_delete = may_delete && self.excludes.is_empty();
        self.context.guard.relate(root, may_delete);
        self.keep().await;
    }

    async fn keep(&self) {
        let guard = &self.context.guard;
        if !guard.has_news() {
            return;
        }
        let guard = Arc::clone(guard);
        if let Some(Err(error)) = on_disk(move || guard.keep()).await {
            news::guard_not_kept(&self.context.name(), &error);
        }
    }

    /// Whether a comparison of everything may remove what it would: the first one is tried without doing anything.
    /// `false` puts an end to the job.
    pub(super) async fn foresee(&mut self, root: &SourceRoot) -> bool {
        self.foresee_all(root, false).await
    }

    async fn foresee_all(&mut self, root: &SourceRoot, despite_errors: bool) -> bool {
        if !self.context.guard.is_first_contact() {
            return true;
        }
        let listed = [RelPath::root()];
        let kind = RunKind::Foresee { despite_errors };
        let Some(ended) = self.child(root, kind, args::list(&listed)).await else {
            return false;
        };
        let names = Names {
            listed: &listed,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        let outcome = judge(RunKind::tree(true), &ended, &names);
        if despite_errors {
            self.is_few(&ended, &outcome)
        } else {
            self.is_foreseen(root, &ended, &outcome).await
        }
    }

    /// The same of a comparison of everything that was tried without doing anything.
    pub(super) async fn is_foreseen(
        &mut self,
        root: &SourceRoot,
        ended: &Ended,
        outcome: &Outcome,
    ) -> bool {
        // After an error at the source rsync counts no deletions, and makes none; but the trees in it are compared one by
        // one then, with all of theirs.
        if ended.deletions_skipped || matches!(ended.exit, Exit::Code(23)) {
            return Box::pin(self.foresee_all(root, true)).await;
        }
        self.is_few(ended, outcome)
    }

    fn is_few(&mut self, ended: &Ended, outcome: &Outcome) -> bool {
        if !self.context.guard.is_first_contact() {
            return true;
        }
        let stats = ended.stats;
        if matches!(ended.exit, Exit::Code(0 | 23..=25)) {
            // The root itself is no entry.
            let there = stats.listed.saturating_sub(stats.made + 1) + stats.deleted;
            let checked = check_first(stats.deleted, there);
            return checked
                .map_err(|hold| self.report.end = End::Held(hold))
                .is_ok();
        }
        // It will not say what would be removed, be it for `--ignore-errors`.
        if matches!(ended.exit, Exit::Code(REFUSED)) {
            self.report.end = End::Refused(RefusedForm::DeleteInTrees);
            return false;
        }
        let kind = RunKind::tree(true);
        self.account(kind, &ended.exit, outcome.clone(), Vec::new());
        // What cannot be foreseen is tried again, and not done.
        if self.report.end == End::Reached {
            let exit = ended.exit.code();
            let message = ended.exit.to_string();
            self.report.end = End::Unreachable(Failure { exit, message });
        }
        false
    }
}
