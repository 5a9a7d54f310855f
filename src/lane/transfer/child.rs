//! One run of rsync: whether it may be made, by the standby or by a new child, and what it is told.

use std::ffi::OsString;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::withhold::May;
use super::{DONE, Transfer};
use crate::change::Extent;
use crate::dirty::DirtyPath;
use crate::lane::{End, Hold, Unswept};
use crate::path::{RelPath, SourceRoot};
use crate::rsync::outcome::{deleted_below_nothing, is_busy};
use crate::rsync::{Ended, Exit, Launch, Names, Outcome, Pace, Progress, RunKind, args, judge};

/// A list of some hundred names …
const BRIEF_LIST: usize = 16 << 10;
/// … and so many bytes of files are sent in a moment.
const BRIEF_BYTES: u64 = 4 << 20;
/// A daemon takes a moment to see that our last child has gone, and to count one connection less. These are the waits, in
/// milliseconds, for a run that finds none left.
const LET_GO: [u64; 4] = [50, 100, 200, 400];

impl Transfer {
    /// One run, unless an earlier one of this job found that there is nobody to talk to.
    pub(super) async fn run_list(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        paths: Vec<DirtyPath>,
    ) {
        if self.report.end != End::Reached {
            self.report.again.extend(paths);
            return;
        }
        let names: Vec<RelPath> = paths.iter().map(|dirty| dirty.path.clone()).collect();
        let list = match kind {
            RunKind::Delete { by_name: false } => args::parents_list(&names),
            RunKind::Delete { by_name: true } if self.may_remove_parents() => {
                args::missing_list(&names)
            }
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
            if self.halt.cancel.is_cancelled() {
                self.doubt(&paths);
            }
            self.report.again.extend(paths);
            return;
        };
        self.forget_the_limit(kind, &mut ended);
        if self.was_stopped_by_limit(&ended) {
            return self.stopped_by_limit(paths);
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
        // Receivers of old delete without a word, and vanished is none but a parent that is not listed.
        let has_vanished = !self.may_remove_parents() && matches!(ended.exit, Exit::Code(24));
        if kind == (RunKind::Delete { by_name: true })
            && (has_vanished || deleted_below_nothing(&ended))
        {
            // It may have been through a link, to anywhere.
            let everything = DirtyPath::now(RelPath::root(), Extent::Subtree);
            self.report.again.push(everything);
        }
        let was_sending = matches!(kind, RunKind::Send { .. });
        let was_cut_off = std::mem::take(&mut self.begun.standby)
            || matches!(outcome, Outcome::Unreachable(_)) && had_begun(&ended)
            || matches!(ended.exit, Exit::Stuck);
        if was_sending {
            let left = names.listed.iter();
            let left = left.filter(|name| was_cut_off || self.may_be_linked_beside(name));
            let left = left.filter_map(RelPath::parent);
            let left: Vec<Unswept> = left.map(Unswept::left_by_receiver).collect();
            self.report.unswept.extend(left);
        }
        if was_cut_off {
            self.doubt(&paths);
        }
        if outcome != Outcome::Synced {
            tracing::debug!("rsync said: {}", crate::path::escaped(&ended.stderr));
        }
        self.account(kind, &ended.exit, outcome, paths);
    }

    /// Whether another receiver may give a file this name at the same time. rsync 3.5.0 makes a link under a temporary
    /// name and renames it over the right one, which does nothing where that is the same file by now: the temporary name
    /// stays.
    fn may_be_linked_beside(&self, name: &RelPath) -> bool {
        self.grouped.contains(name) && self.beside.iter().any(|(_, batch)| batch.overlaps(name))
    }

    /// Whether the directory of a missing name may be removed if it is missing by then as well: not where some removals are
    /// not wanted, or where it may be a file system that is not mounted any more.
    fn may_remove_parents(&self) -> bool {
        self.context.compares_with_deletion() && self.view.is_empty()
    }

    /// The receiver may not be done with what it was sent of these. What patterns have left out is not to be compared; a
    /// push by the clock comes again.
    pub(super) fn doubt(&mut self, paths: &[DirtyPath]) {
        if self.excludes.is_empty() {
            self.report.cut_off.extend_from_slice(paths);
        }
    }

    /// The standby if there is one and the run is of its kind, else a new child. `None` if the job is to stop, which may
    /// have ended the run.
    pub(super) async fn child(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        list: Vec<u8>,
    ) -> Option<Ended> {
        let Some(_permit) = self.permit().await else {
            self.report.end = End::Stopped;
            return None;
        };
        let ended = self.run_child(root, kind, list).await?;
        if matches!(kind, RunKind::Foresee { .. }) {
            // Nothing was done.
            self.report.runs += 1;
        } else {
            self.count(&ended);
        }
        Some(ended)
    }

    /// Starts a new child and waits for its end; there is no other way to one. `None` if the job is to stop, or if its
    /// target is not in its place: what was done then does not count, and no further child is started.
    pub(super) async fn start(
        &mut self,
        launch: &Launch,
        list: Vec<u8>,
        limit: Option<Duration>,
        mut listen: impl FnMut(&[u8]),
    ) -> Option<Ended> {
        let mut ended = self.once(launch, list.clone(), limit, &mut listen).await;
        for wait in LET_GO {
            if !ended.as_ref().is_some_and(is_busy) {
                break;
            }
            self.report.crowded = true;
            self.context.crowd.notify_one();
            if let Some(standby) = self.standby.take() {
                standby.end().await;
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            ended = self.once(launch, list.clone(), limit, &mut listen).await;
        }
        ended
    }

    async fn once(
        &mut self,
        launch: &Launch,
        list: Vec<u8>,
        limit: Option<Duration>,
        listen: impl FnMut(&[u8]),
    ) -> Option<Ended> {
        let may_write = match self.astray.clone() {
            Some(end) => Err(end),
            None => self.may_write().map_err(End::Held),
        };
        let ended = match may_write {
            Ok(()) => {
                let (target, cancel) = (&self.target, &self.halt.cancel);
                self.context
                    .run(target, launch, list, limit, cancel, listen)
                    .await
            }
            Err(end) => Err(end),
        };
        match ended {
            Ok(ended) if !self.halt.cancel.is_cancelled() => {
                self.begun.last = had_begun(&ended);
                return Some(ended);
            }
            Ok(_) | Err(End::Stopped) => self.report.end = End::Stopped,
            Err(end) => {
                tracing::debug!("the run does not count: {}", end.cause());
                self.astray = Some(end.clone());
                self.report.end = end;
            }
        }
        None
    }

    /// Whether the remote may not be done yet with what the job had begun.
    pub(super) fn is_cut_off(&self) -> bool {
        match self.report.end {
            End::Unreachable(_) => self.begun.last,
            End::Stopped => true,
            _ => false,
        }
    }

    /// The first target that is written to is the one that is expected from then on.
    fn may_write(&self) -> Result<(), Hold> {
        self.target.as_ref().map_or(Ok(()), |target| {
            self.context.guard.use_target(&target.lasting())
        })
    }

    /// The right to start a child; `None` when the job is to stop.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.halt.stop.cancelled() => None,
            permit = self.context.places.work() => permit,
        }
    }

    async fn run_child(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        list: Vec<u8>,
    ) -> Option<Ended> {
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
            if self.halt.cancel.is_cancelled() {
                self.report.end = End::Stopped;
                return None;
            }
            if !was_stale {
                return Some(ended);
            }
            self.begun.standby = had_begun(&ended);
        }
        let mut launch = self.context.launch(root, kind, self.forms, pace);
        let rules = self.rules.iter().cloned();
        let rules: Vec<OsString> = rules.chain(args::excluding(&self.excludes)).collect();
        args::put_rules(&mut launch.args, &self.context.remote, rules);
        launch.args.splice(0..0, self.rules_of_gaps(kind));
        self.limit(kind, &mut launch);
        // Who waits for a comparison waits for that of the source, or of one directory.
        let is_told = matches!(kind, RunKind::Tree { .. }) && args::names_one(&list);
        if is_told {
            launch.args = args::telling_progress(launch.args);
        }
        tracing::trace!("{}", args::shown(&launch.args));
        let told = self.context.progress.clone();
        let mut progress = Progress::default();
        let listen = |output: &[u8]| {
            if is_told && let Some(percent) = progress.read(output) {
                told.send_if_modified(|now| std::mem::replace(now, percent) != percent);
            }
        };
        let ended = self.start(&launch, list, limit, listen).await;
        if is_told {
            told.send_replace(DONE);
        }
        ended
    }

    /// Where a file system is missing, nothing is removed by a listing, and nothing compared.
    pub(super) fn rules_of_gaps(&self, kind: RunKind) -> Vec<OsString> {
        if kind.is_by_name() {
            return Vec::new();
        }
        self.view.gaps.rules()
    }

    fn pace(&self, kind: RunKind, list: &[u8]) -> Pace {
        let is_small = list.len() <= BRIEF_LIST && self.bytes <= BRIEF_BYTES;
        if is_small && !matches!(kind, RunKind::Tree { .. } | RunKind::Foresee { .. }) {
            Pace::Brief
        } else {
            Pace::Long
        }
    }

    pub(super) fn count(&mut self, ended: &Ended) {
        self.report.runs += 1;
        self.made += ended.stats.made;
        self.report.files_sent += ended.stats.files_sent;
        self.report.others_made += ended.stats.made.saturating_sub(ended.stats.files_made);
        self.report.bytes_sent += ended.stats.bytes_sent;
        self.report.deleted += ended.stats.deleted;
        self.report.took = self.report.took.max(ended.took);
    }
}

/// Whether a run that did not get through may have begun to write: not if nobody answered, or the module was refused. A
/// connection that is reset later has the exit code of one that was not made.
fn had_begun(ended: &Ended) -> bool {
    const NOBODY: [&[u8]; 2] = [b"failed to connect to ", b"getaddrinfo: "];
    let says = |words: &[u8]| ended.stderr.windows(words.len()).any(|said| said == words);
    match ended.exit {
        Exit::NotStarted(_) | Exit::Code(5 | 35) => false,
        Exit::Code(10) => !NOBODY.into_iter().any(says),
        _ => true,
    }
}
