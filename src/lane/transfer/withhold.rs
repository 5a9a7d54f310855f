//! `maxDelete`: a run that removes is rehearsed first, and made only if it removes no more than is left.
//!
//! What sends removes as well, where a directory with content stands in the place of a file. With a limit it is kept
//! from that, and what is in the way is rehearsed and sent by itself.
//!
//! rsync counts the same with `--max-delete`, which is given as well, with the number of the rehearsal, for what changes
//! in between. By itself it would not do: rsync removes up to that number, and says so afterwards.

use std::ffi::OsString;
use std::time::Instant;

use super::{End, Transfer};
use crate::change::Extent;
use crate::control::DriftKind;
use crate::dirty::DirtyPath;
use crate::fail_queue::Failure;
use crate::path::{RelPath, SourceRoot};
use crate::rsync::{Ended, Exit, Itemized, Launch, Names, Outcome, Pace, RunKind, args, judge};

/// The exit of a [`Failure`] that is none: the run was withheld.
pub(super) const WITHHELD: i32 = -3;

/// No receiver has so many entries; rsync keeps the number as an `int`.
const MOST: u64 = i32::MAX as u64;

/// What rsync says when `--max-delete` has kept something.
const STOPPED: &[u8] = b"Deletions stopped due to --max-delete limit";

/// Whether a run may be made.
pub(super) enum May {
    /// It may.
    Go,
    /// The job is to stop.
    Not,
    /// Its rehearsal ended like this, and so would the run.
    Judged(Exit, Outcome),
    /// It would remove too much.
    Withhold,
}

impl Transfer {
    /// Finds out whether a run may be made. What it would remove is taken from the budget then.
    pub(super) async fn may(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        names: &[RelPath],
        list: &[u8],
    ) -> May {
        if self.budget.is_none() || !removes(kind) {
            return May::Go;
        }
        self.rehearse(root, kind, names, list).await
    }

    async fn rehearse(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        names: &[RelPath],
        list: &[u8],
    ) -> May {
        let Some(permit) = self.permit().await else {
            self.report.end = End::Stopped;
            return May::Not;
        };
        let mut launch = self.context.launch(root, kind, self.forms, Pace::Long);
        // Nothing keeps the rehearsal from counting all of it.
        launch.args = args::rehearsed(args::limited(launch.args, MOST));
        let rules = self.rules.iter().cloned();
        let rules: Vec<OsString> = rules.chain(args::excluding(&self.excludes)).collect();
        args::put_rules(&mut launch.args, &self.context.remote, rules);
        launch.args.splice(0..0, self.rules_of_gaps(kind));
        tracing::trace!("{}", args::shown(&launch.args));
        let (mut itemized, mut count) = (Itemized::default(), 0_u64);
        let listen = |output: &[u8]| {
            let items = itemized.read(output).into_iter();
            count += items.filter(|item| item.drift == DriftKind::Extra).count() as u64;
        };
        let running = self.start(&launch, list.to_vec(), None, listen);
        let Some(ended) = running.await else {
            return May::Not;
        };
        // Who holds one and waits for another may wait for itself.
        drop(permit);
        self.report.runs += 1;
        let names = Names {
            listed: names,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        tracing::debug!(
            count,
            left = self
                .budget
                .as_ref()
                .map(|budget| budget.left(Instant::now())),
            ?kind,
            "rehearsed: {}",
            ended.exit
        );
        let outcome = judge(kind, &ended, &names);
        if matches!(kind, RunKind::Tree { delete: true, .. })
            && names.listed.iter().any(RelPath::is_root)
        {
            if !self.is_foreseen(root, &ended, &outcome).await {
                return May::Not;
            }
            self.relate(root, true).await;
        }
        match outcome {
            // What failed or changed fails in the run itself, where it is told apart.
            Outcome::Synced
            | Outcome::Again(_)
            | Outcome::Failed { .. }
            | Outcome::Undecided { .. } => self.take_from_budget(count),
            outcome => May::Judged(ended.exit, outcome),
        }
    }

    /// So many entries are to be removed.
    pub(super) fn take_from_budget(&mut self, count: u64) -> May {
        let Some(budget) = &self.budget else {
            return May::Go;
        };
        if let Some(spent) = budget.take(count, Instant::now()) {
            self.ceiling = count;
            self.report.spent += spent;
            May::Go
        } else {
            self.report.would_delete += count;
            May::Withhold
        }
    }

    /// A run that may not be made: a tree is compared without deletion.
    pub(super) async fn withhold_run(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        paths: Vec<DirtyPath>,
    ) {
        if let RunKind::Tree { ignore_times, .. } = kind {
            let kind = RunKind::Tree {
                delete: false,
                ignore_times,
            };
            let before = self.report.synced.len();
            Box::pin(self.run_list(root, kind, paths)).await;
            let compared = self.report.synced[before..].to_vec();
            self.withhold(compared, 0);
        } else {
            self.withhold(paths, 0);
        }
    }

    /// Directories that are not swept. What a receiver left there may wait; but of a tree that was taken apart, it is this
    /// that removes what is only at the receiver.
    pub(super) fn withhold_sweep(&mut self, dirs: &[RelPath]) {
        let trees = dirs.iter().cloned();
        let trees = trees.map(|dir| DirtyPath::now(dir, Extent::Subtree));
        self.withhold(trees.collect(), 0);
    }

    /// Puts paths aside, by which so many more entries would go than was counted already.
    pub(super) fn withhold(&mut self, paths: Vec<DirtyPath>, more: u64) {
        self.report.would_delete += more;
        self.report.withheld.extend(paths);
    }

    /// Gives a run that removes rsync's own limit.
    pub(super) fn limit(&self, kind: RunKind, launch: &mut Launch) {
        if self.budget.is_some() && (removes(kind) || self.making_way) {
            let args = std::mem::take(&mut launch.args);
            launch.args = args::limited(args, self.ceiling);
        }
    }

    /// Without a filter: sends what stands, at the receiver, for a directory with content, if that may go.
    pub(super) async fn make_way_counted(&mut self, root: &SourceRoot, paths: Vec<DirtyPath>) {
        let kind = RunKind::Send { ignore_times: true };
        let names: Vec<RelPath> = paths.iter().map(|dirty| dirty.path.clone()).collect();
        match self.rehearse(root, kind, &names, &args::list(&names)).await {
            May::Go => {
                self.making_way = true;
                self.run_list(root, kind, paths).await;
                self.making_way = false;
                // More has come into it.
                self.report.again.append(&mut self.in_the_way);
            }
            May::Not => self.report.again.extend(paths),
            May::Judged(exit, outcome) => self.account(kind, &exit, outcome, paths),
            May::Withhold => self.withhold(paths, 0),
        }
    }

    /// Whether rsync's own limit kept something: more was there to go than a moment before.
    pub(super) fn was_stopped_by_limit(&self, ended: &Ended) -> bool {
        let mut lines = ended.stderr.split(|byte| *byte == b'\n');
        self.budget.is_some() && lines.any(|line| line.starts_with(STOPPED))
    }

    /// More was there to go than a moment before: it is rehearsed once more, if anything is left.
    pub(super) fn stopped_by_limit(&mut self, paths: Vec<DirtyPath>) {
        if self.has_budget() {
            self.report.again.extend(paths);
        } else {
            self.withhold(paths, 1);
        }
    }

    /// Whether anything is left that may be removed.
    pub(super) fn has_budget(&self) -> bool {
        let budget = self.budget.as_ref();
        budget.is_none_or(|budget| budget.left(Instant::now()) > 0)
    }

    /// A run that only sends has stopped at what is in the way, and names it: that is all there is to be said of it.
    pub(super) fn forget_the_limit(&self, kind: RunKind, ended: &mut Ended) {
        if self.budget.is_none() || removes(kind) {
            return;
        }
        let lines = ended.stderr.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.starts_with(STOPPED));
        ended.stderr = lines.flatten().copied().collect();
    }
}

/// The failure of a run that was withheld, between the parts of a job.
pub(super) fn withheld() -> Failure {
    Failure {
        exit: WITHHELD,
        message: String::new(),
    }
}

fn removes(kind: RunKind) -> bool {
    matches!(
        kind,
        RunKind::Delete { .. } | RunKind::Tree { delete: true, .. }
    )
}
