//! What a run did to its paths: each is put where the outcome says.

use std::collections::BTreeSet;

use super::Transfer;
use crate::change::Extent;
use crate::dirty::DirtyPath;
use crate::fail_queue::Failure;
use crate::lane::End;
use crate::lane::slot::position;
use crate::path::RelPath;
use crate::rsync::{Exit, Outcome, RunKind};

/// How often a list is tried whole in which something changed that cannot be told.
const TRIES_BEFORE_HALVING: u8 = 4;

impl Transfer {
    /// Puts each path of a run where its outcome says.
    pub(super) fn account(
        &mut self,
        kind: RunKind,
        exit: &Exit,
        outcome: Outcome,
        mut paths: Vec<DirtyPath>,
    ) {
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
                    let mut dirty = DirtyPath::now(path, below);
                    if let Ok(listed) = listed {
                        (dirty.extent, dirty.removed) = (listed.extent, listed.removed);
                        dirty.since = listed.since;
                    }
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
                self.report.end = End::Misconfigured(Failure { exit, message });
                self.report.again.append(&mut paths);
            }
            Outcome::Unreachable(message) => {
                self.report.end = End::Unreachable(Failure { exit, message });
                self.report.again.append(&mut paths);
            }
        }
    }

    /// A source that was unmounted under a run lets that fail, as if the remote were to blame.
    pub(super) async fn blame(&mut self) {
        if matches!(self.report.end, End::Unreachable(_) | End::Misconfigured(_))
            && let Err(hold) = self.context.open_root().await
        {
            self.report.end = End::Held(hold);
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

    pub(super) fn undecided(&mut self, paths: Vec<DirtyPath>, failure: Failure) {
        match &mut self.report.undecided {
            Some((others, _)) => others.extend(paths),
            none => *none = Some((paths, failure)),
        }
        if let Some((others, _)) = &mut self.report.undecided {
            others.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }
}

/// The paths with one of these names, and the others.
fn split(paths: Vec<DirtyPath>, names: &[RelPath]) -> (Vec<DirtyPath>, Vec<DirtyPath>) {
    let names: BTreeSet<&RelPath> = names.iter().collect();
    paths
        .into_iter()
        .partition(|dirty| names.contains(&dirty.path))
}
