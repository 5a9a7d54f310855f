//! Jobs with a filter: nothing that is excluded is sent, and nothing that is excluded is removed at the receiver.
//!
//! Names to be sent come from our own walk. What is removed is picked by [`Removal`]. Only the sending knows that the
//! receiver has a directory where something else is to stand; such a directory is emptied in the same way.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use super::withhold::{May, WITHHELD, withheld};
use super::{CHANGED, DONE, Transfer, on_disk};
use crate::change::Extent;
use crate::control::DriftKind;
use crate::dirty::DirtyPath;
use crate::fail_queue::Failure;
use crate::filter::{Filter, Kind, Rule};
use crate::lane::End;
use crate::lane::guard::check_first;
use crate::lane::removal::{Extraneous, Hides, MOST_NAMES, Removal, left_out};
use crate::lane::slot::position;
use crate::path::{RelPath, SourceRoot};
use crate::resolve::mirrored::{Mirrored, uncovered};
use crate::rsync::rules::{DIRECTORIES_ALONE, Effect, THE_ROOT_ALONE, rule};
use crate::rsync::{
    Ended, Exit, Forms, Itemized, Names, Outcome, Pace, Progress, RefusedForm, RunKind, args, judge,
};

/// Names of one run that have a rule each.
const MOST_DELICATE: usize = 200;
/// What rsync says where a directory is not empty, or is in the way.
const NOT_EMPTY: &str = "cannot delete non-empty directory: ";
const IN_THE_WAY: &str = "could not make way for ";

/// rsync's exit where the module refuses deletions.
pub(super) const REFUSED: i32 = 4;

/// What a job with a filter leaves alone: what the filter excludes, and what these patterns do, which are rsync's.
/// `None` without a filter: rsync walks by itself then, and is told the patterns.
pub(super) fn with_excludes(
    filter: Option<&Arc<Filter>>,
    patterns: &[String],
) -> Option<Arc<Filter>> {
    let filter = filter?;
    let rules: Vec<Rule> = patterns
        .iter()
        .map(|pattern| Rule::of_exclude(pattern.as_bytes()))
        .collect();
    if rules.is_empty() {
        return Some(Arc::clone(filter));
    }
    match Filter::new(rules) {
        Ok(patterns) => Some(Arc::new(filter.and(&patterns))),
        // They were tried when the configuration was read.
        Err(_) => Some(Arc::clone(filter)),
    }
}

impl Transfer {
    /// Whether a path failed since the receiver has a directory with content in its place.
    pub(super) fn is_in_the_way(&self, message: &str) -> bool {
        (self.context.filter.is_some() || self.budget.is_some())
            && (message.starts_with(NOT_EMPTY) || message.starts_with(IN_THE_WAY))
    }

    /// What is mirrored only as long as it is no directory.
    pub(super) fn take_delicate(
        &self,
        written: &mut Vec<DirtyPath>,
        plain: &mut Vec<DirtyPath>,
    ) -> Vec<DirtyPath> {
        let Some(filter) = &self.filter else {
            return Vec::new();
        };
        let is_delicate = |dirty: &mut DirtyPath| filter.excludes(&dirty.path, Kind::Directory);
        let taken = written.extract_if(.., is_delicate);
        taken.chain(plain.extract_if(.., is_delicate)).collect()
    }

    /// The rule for a run of directories some of which are mirrored only as long as they are.
    pub(super) fn directories_alone(&self) -> Option<OsString> {
        let filter = self.filter.as_ref();
        let has_such = filter.is_some_and(|filter| filter.includes_directories());
        has_such.then(|| DIRECTORIES_ALONE.into())
    }

    /// Sends what is mirrored only as long as it is a directory, with a rule that it is left out otherwise.
    pub(super) async fn send_directories(
        &mut self,
        root: &SourceRoot,
        written: &mut Vec<DirtyPath>,
        plain: &mut Vec<DirtyPath>,
    ) {
        let (Some(rule), Some(filter)) = (self.directories_alone(), self.filter.clone()) else {
            return;
        };
        let is_such = |dirty: &mut DirtyPath| filter.excludes(&dirty.path, Kind::Other);
        let taken = written.extract_if(.., is_such);
        let mut paths: Vec<DirtyPath> = taken.chain(plain.extract_if(.., is_such)).collect();
        if paths.is_empty() {
            return;
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        self.rules.push(rule);
        let kind = RunKind::Send { ignore_times: true };
        self.run_list(root, kind, paths).await;
        self.rules.clear();
    }

    /// Sends it, with a rule that it is left out if it has become a directory by then: rsync would make an empty one.
    pub(super) async fn send_delicate(&mut self, root: &SourceRoot, mut paths: Vec<DirtyPath>) {
        while !paths.is_empty() {
            let rest = paths.split_off(paths.len().min(MOST_DELICATE));
            let rules = paths
                .iter()
                .map(|dirty| rule(Effect::Exclude, &dirty.path, true));
            self.rules = rules.collect();
            let kind = RunKind::Send { ignore_times: true };
            self.run_list(root, kind, paths).await;
            self.rules.clear();
            paths = rest;
        }
    }

    /// With the root in a list rsync takes all of its entries in as well. So the root goes by itself, with a rule that
    /// keeps them out.
    pub(super) async fn send_root_alone(&mut self, root: &SourceRoot, paths: &mut Vec<DirtyPath>) {
        let at = paths.iter().position(|dirty| dirty.path.is_root());
        let Some(at) = at.filter(|_| self.context.filter.is_some()) else {
            return;
        };
        let dirty = paths.remove(at);
        match self.send_root(root).await {
            Ok(()) => self.report.synced.push(dirty),
            Err(failure) => self.fail_or_repeat(vec![dirty], &failure),
        }
    }

    async fn send_root(&mut self, root: &SourceRoot) -> Result<(), Failure> {
        if self.report.end != End::Reached {
            return Err(unsaid(-1));
        }
        let kind = RunKind::Send {
            ignore_times: false,
        };
        let rules = vec![THE_ROOT_ALONE.into()];
        let listed = [RelPath::root()];
        let ended = self
            .with_rules(root, kind, self.forms, rules, args::list(&listed), |_| {})
            .await?;
        self.count(&ended);
        self.check(kind, &ended, &listed)
    }

    /// Empties and removes the directories that stand in the way of something else, as far as nothing that is excluded
    /// is in them, and has what belongs there sent with the next job.
    pub(super) async fn make_way(&mut self, root: &Arc<SourceRoot>) {
        let paths = std::mem::take(&mut self.in_the_way);
        if paths.is_empty() {
            return;
        }
        let Some(filter) = self.filter.clone() else {
            return self.make_way_counted(root, paths).await;
        };
        let names: BTreeSet<RelPath> = paths.iter().map(|dirty| dirty.path.clone()).collect();
        let hides = Hides {
            filter: Some(&filter),
            replaced: Some(&names),
        };
        match self.remove_names(root, &names, hides).await {
            Ok(removal) => {
                for dirty in paths {
                    if removal.kept.contains(&dirty.path) {
                        let message = "a directory stands in its place at the receiver, which holds what the filter excludes".into();
                        let failure = Failure { exit: -1, message };
                        self.report.failed.push((dirty, failure));
                    } else {
                        // It may have become a directory once more, of which some is removed now.
                        self.report.again.push(DirtyPath {
                            extent: Extent::Subtree,
                            written: true,
                            ..dirty
                        });
                    }
                }
            }
            Err(failure) => self.not_removed(paths, failure),
        }
    }

    /// Removes missing names, and what is none of the hidden directories, by name and as far as a filter lets it.
    pub(super) async fn delete_picked(
        &mut self,
        root: &Arc<SourceRoot>,
        gone: Vec<DirtyPath>,
        hidden: Vec<DirtyPath>,
    ) {
        let filter = self.filter.clone();
        let hides = Hides {
            filter: filter.as_deref(),
            ..Hides::default()
        };
        let (ruled, mut rest): (Vec<_>, Vec<_>) = gone
            .into_iter()
            .chain(hidden)
            .partition(|dirty| hides.has(&dirty.path));
        let mut ruled = ruled.into_iter().peekable();
        while ruled.peek().is_some() || !rest.is_empty() {
            // Those without a rule of their own cost nothing more.
            let rest = std::mem::take(&mut rest);
            let paths: Vec<DirtyPath> = ruled.by_ref().take(MOST_NAMES).chain(rest).collect();
            let names = paths.iter().map(|dirty| dirty.path.clone()).collect();
            match self.remove_names(root, &names, hides).await {
                Ok(_) => self.report.synced.extend(paths),
                Err(failure) => self.not_removed(paths, failure),
            }
        }
    }

    /// Names that are not known to be removed: one of them may be the cause.
    pub(super) fn not_removed(&mut self, paths: Vec<DirtyPath>, failure: Failure) {
        if failure.exit == WITHHELD {
            return self.withhold(paths, 0);
        }
        let can_be_told_apart = paths.len() > 1 && failure.exit != REFUSED;
        let has_changed = failure.exit == CHANGED;
        if self.report.end != End::Reached || has_changed {
            self.report.again.extend(paths);
        } else if can_be_told_apart {
            self.undecided(paths, failure);
        } else {
            self.fail_or_repeat(paths, &failure);
        }
    }

    /// Removes what is only at the receiver in directories that it was writing to when it was killed.
    /// Whether that is over.
    pub(super) async fn sweep_picked(&mut self, root: &Arc<SourceRoot>, dirs: &[RelPath]) -> bool {
        let filter = self.filter.clone();
        let removal = self
            .pick(root, dirs, Vec::new(), filter.as_deref(), None)
            .await;
        if let Ok(removal) = removal {
            match self.carry_out(root, &removal, Hides::default()).await {
                Ok(()) => self.report.emptied.extend(dirs.iter().cloned()),
                Err(failure) if failure.exit == WITHHELD => self.withhold_sweep(dirs),
                Err(failure) if failure.exit == CHANGED => return false,
                Err(_) => {}
            }
        }
        self.report.end == End::Reached
    }

    /// Paths that could not be dealt with: dirty as before if the remote is to blame, else failed.
    fn fail_or_repeat(&mut self, paths: Vec<DirtyPath>, failure: &Failure) {
        if self.report.end == End::Reached {
            let failed = paths.into_iter().map(|dirty| (dirty, failure.clone()));
            self.report.failed.extend(failed);
        } else {
            self.report.again.extend(paths);
        }
    }

    async fn remove_names(
        &mut self,
        root: &Arc<SourceRoot>,
        names: &BTreeSet<RelPath>,
        hides: Hides<'_>,
    ) -> Result<Removal, Failure> {
        if self.report.end != End::Reached {
            return Err(unsaid(-1));
        }
        let dirs: BTreeSet<RelPath> = names.iter().filter_map(RelPath::parent).collect();
        let dirs: Vec<RelPath> = dirs.into_iter().collect();
        // No deletion goes through a link that stands at the receiver for a directory.
        let (certain, failure) = self.certain_directories(root, &dirs).await?;
        if certain.len() < dirs.len() {
            return Err(failure);
        }
        let rules = names.iter().flat_map(|path| hides.rules(path)).collect();
        let removal = self
            .pick(root, &dirs, rules, hides.filter, Some(names))
            .await?;
        self.carry_out(root, &removal, hides).await?;
        Ok(removal)
    }

    /// Asks what is only at the receiver in some directories.
    async fn pick(
        &mut self,
        root: &Arc<SourceRoot>,
        dirs: &[RelPath],
        rules: Vec<OsString>,
        filter: Option<&Filter>,
        within: Option<&BTreeSet<RelPath>>,
    ) -> Result<Removal, Failure> {
        let kind = RunKind::List { recursive: false };
        let list = args::directories_list(dirs);
        let found = self.ask(root, kind, rules, list, dirs).await?;
        // They are read one level deep, and what is below is only there.
        let above = dirs.iter().flat_map(RelPath::ancestors_below_root);
        let here: BTreeSet<RelPath> = dirs.iter().cloned().chain(above).collect();
        let is_here = |dir: &RelPath| here.contains(dir);
        Ok(Removal::pick(found, filter, within, is_here))
    }

    pub(super) async fn ask(
        &mut self,
        root: &Arc<SourceRoot>,
        kind: RunKind,
        rules: Vec<OsString>,
        list: Vec<u8>,
        asked: &[RelPath],
    ) -> Result<Vec<Extraneous>, Failure> {
        let mut itemized = Itemized::default();
        let mut found = Vec::new();
        let listen = |output: &[u8]| {
            let items = itemized.read(output).into_iter();
            let items = items.filter(|item| item.drift == DriftKind::Extra);
            found.extend(items.map(|item| Extraneous {
                path: item.path,
                kind: Kind::directory_if(item.is_directory),
            }));
        };
        let ended = self
            .with_rules(root, kind, self.forms, rules, list, listen)
            .await?;
        self.report.runs += 1;
        self.check(kind, &ended, asked)?;
        // What was unmounted under the run seems to be only there.
        self.look_at_volumes(root).await;
        found.retain(|one: &Extraneous| self.view.gaps.spare(&one.path));
        Ok(found)
    }

    /// Removes what was picked. A name that the source has again by the end was left with what was below it, of which
    /// nobody else will tell: it is compared.
    pub(super) async fn carry_out(
        &mut self,
        root: &Arc<SourceRoot>,
        removal: &Removal,
        hides: Hides<'_>,
    ) -> Result<(), Failure> {
        if let May::Withhold = self.take_from_budget(removal.doomed().len() as u64) {
            return Err(withheld());
        }
        // rsync counts what it leaves as not empty before it looks.
        self.ceiling += removal.kept.len() as u64;
        let carried_out = self.remove_doomed(root, removal, hides).await;
        let (below, topmost) = (Arc::clone(root), removal.topmost());
        let filter = self.filter.clone();
        let back = on_disk(move || uncovered(&below, &topmost, filter.as_deref())).await;
        for path in back.unwrap_or_default() {
            let dirty = DirtyPath::now(path, Extent::Subtree);
            self.report.again.push(dirty);
        }
        carried_out
    }

    async fn remove_doomed(
        &mut self,
        root: &SourceRoot,
        removal: &Removal,
        hides: Hides<'_>,
    ) -> Result<(), Failure> {
        let kind = RunKind::Delete { by_name: false };
        let mut all = Ok(());
        for run in removal.runs(hides) {
            if self.report.end != End::Reached {
                break;
            }
            let list = args::directories_list(&run.directories);
            let mut ended = self
                .with_rules(root, kind, self.forms, run.rules, list, |_| {})
                .await?;
            self.count(&ended);
            if self.was_stopped_by_limit(&ended) {
                // More has come: it is looked at once more, if anything is left.
                if self.has_budget() {
                    let message = "more is there to be removed than a moment before".into();
                    return Err(Failure {
                        exit: CHANGED,
                        message,
                    });
                }
                self.report.would_delete += 1;
                return Err(withheld());
            }
            // What is protected in a directory is meant to stay, and what another run is for is still there.
            let lines = ended.stderr.split_inclusive(|byte| *byte == b'\n');
            ended.stderr = lines
                .filter(|line| !line.starts_with(NOT_EMPTY.as_bytes()))
                .flatten()
                .copied()
                .collect();
            all = all.and(self.check(kind, &ended, &run.directories));
        }
        all
    }

    /// `Err` unless all of a run was done; what befell the remote is the end of the job.
    fn check(&mut self, kind: RunKind, ended: &Ended, listed: &[RelPath]) -> Result<(), Failure> {
        let names = Names {
            listed,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        let exit = ended.exit.code();
        let outcome = judge(kind, ended, &names);
        if outcome != Outcome::Synced {
            tracing::debug!("rsync said: {}", crate::path::escaped(&ended.stderr));
        }
        let message = match outcome {
            Outcome::Synced => return Ok(()),
            // A module that refuses deletions still gets its files.
            Outcome::Misconfigured(cause) if exit == REFUSED => cause,
            Outcome::Misconfigured(message) => {
                self.report.end = End::Misconfigured(Failure { exit, message });
                String::new()
            }
            Outcome::Unreachable(message) => {
                self.report.end = End::Unreachable(Failure { exit, message });
                String::new()
            }
            Outcome::Refused(form) => {
                self.report.end = End::Refused(form);
                String::new()
            }
            Outcome::Again(_) | Outcome::Undecided { changed: true, .. } => {
                let message = "what is there changed while it was looked at".into();
                return Err(Failure {
                    exit: CHANGED,
                    message,
                });
            }
            Outcome::Undecided { message, .. } | Outcome::DiskFull(message) => message,
            Outcome::Failed { paths, .. } => paths.into_iter().next().map_or_else(
                || "rsync removed nothing, since it could not read all of it".into(),
                |(_, message)| message,
            ),
        };
        Err(Failure { exit, message })
    }

    /// A run with rules that come before the user's. `Err` if nothing of it counts; see [`start`](Self::start).
    async fn with_rules(
        &mut self,
        root: &SourceRoot,
        kind: RunKind,
        forms: Forms,
        rules: Vec<OsString>,
        list: Vec<u8>,
        listen: impl FnMut(&[u8]),
    ) -> Result<Ended, Failure> {
        let Some(_permit) = self.permit().await else {
            self.report.end = End::Stopped;
            return Err(unsaid(-1));
        };
        let mut launch = self.context.launch(root, kind, forms, Pace::Long);
        args::put_rules(&mut launch.args, &self.context.remote, rules);
        launch.args.splice(0..0, self.rules_of_gaps(kind));
        self.limit(kind, &mut launch);
        tracing::trace!("{}", args::shown(&launch.args));
        let ended = self.start(&launch, list, None, listen).await;
        ended.ok_or_else(|| unsaid(-1))
    }

    /// Makes directories equal with all of their content that is mirrored.
    pub(super) async fn compare_filtered(
        &mut self,
        root: &Arc<SourceRoot>,
        trees: Vec<DirtyPath>,
        filter: Arc<Filter>,
        delete: bool,
    ) {
        if self.report.end != End::Reached {
            self.report.again.extend(trees);
            return;
        }
        let names: Vec<RelPath> = trees.iter().map(|dirty| dirty.path.clone()).collect();
        let stays_here = self.context.remote.params.one_file_system();
        let (below, walked, rules) = (Arc::clone(root), names.clone(), Arc::clone(&filter));
        let walk = move || Mirrored::below(&below, &walked, &rules, stays_here);
        let Some(mut mirrored) = on_disk(walk).await else {
            self.report.again.extend(trees);
            return;
        };
        self.note_unread(&mut mirrored);
        let is_spared = |path: &RelPath| self.view.gaps.around(path).is_none();
        mirrored.entries.retain(is_spared);
        mirrored.delicate.retain(is_spared);
        let is_first =
            delete && names.iter().any(RelPath::is_root) && self.context.guard.is_first_contact();
        let mut theirs = None;
        if is_first {
            // What is only there before anything is sent is not ours.
            match self.extraneous(root, &names, &mirrored, &filter).await {
                Ok(removal) => theirs = Some(removal.len()),
                Err(failure) if failure.exit == REFUSED && self.report.end == End::Reached => {
                    self.report.end = End::Refused(RefusedForm::DeleteInTrees);
                    return self.report.again.extend(trees);
                }
                Err(failure) => return self.fail_or_repeat(trees, &failure),
            }
        }
        let Some(trees) = self.send_mirrored(root, &mirrored, trees).await else {
            return;
        };
        self.make_way(root).await;
        let removed = if delete {
            self.remove_extraneous(root, &names, &mirrored, &filter, theirs)
                .await
        } else {
            Ok(())
        };
        match removed {
            Ok(()) => self.report.synced.extend(trees),
            Err(failure) if failure.exit == WITHHELD => {
                self.report.synced.extend(trees.iter().cloned());
                self.withhold(trees, 0);
            }
            // Trees that are looked at again go one by one, which tells them apart.
            Err(_) if trees.len() > 1 => self.report.again.extend(trees),
            Err(failure) if failure.exit == REFUSED && self.report.end == End::Reached => {
                self.report.end = End::Refused(RefusedForm::DeleteInTrees);
                self.report.again.extend(trees);
            }
            Err(failure) if failure.exit == CHANGED => self.report.again.extend(trees),
            Err(failure) => self.fail_or_repeat(trees, &failure),
        }
        let below = Arc::clone(root);
        let changed = on_disk(move || mirrored.changed(&below)).await;
        for path in changed.unwrap_or_default() {
            let dirty = DirtyPath::now(path, Extent::Subtree);
            self.report.again.push(dirty);
        }
    }

    fn note_unread(&mut self, mirrored: &mut Mirrored) {
        for path in mirrored.vanished.drain(..) {
            let dirty = DirtyPath::now(path, Extent::Subtree);
            self.report.again.push(dirty);
        }
        for path in mirrored.too_long.drain(..) {
            let message = "the path is longer than rsync can take (4093 bytes)".into();
            let failure = Failure { exit: -1, message };
            let dirty = DirtyPath::now(path, Extent::Entry);
            self.report.failed.push((dirty, failure));
        }
        for (path, error) in mirrored.failed.drain(..) {
            self.not_seen(DirtyPath::now(path, Extent::Subtree), &error);
        }
    }

    /// Sends what a walk found, as far as it differs. `None` if the trees are dealt with by that: nothing can be said
    /// of them as a whole.
    async fn send_mirrored(
        &mut self,
        root: &SourceRoot,
        mirrored: &Mirrored,
        trees: Vec<DirtyPath>,
    ) -> Option<Vec<DirtyPath>> {
        let kind = RunKind::Send {
            // They are all of one sort.
            ignore_times: trees.iter().all(|tree| tree.written),
        };
        let forms = Forms {
            // As long as nothing is known, there was nothing at the receiver to lose by it.
            exact_times: Some(self.forms.exact_times != Some(false)),
            ..self.forms
        };
        let mut progress = Progress::default();
        let told = self.context.progress.clone();
        let listen = |output: &[u8]| {
            if let Some(percent) = progress.read(output) {
                told.send_if_modified(|now| std::mem::replace(now, percent) != percent);
            }
        };
        if mirrored.entries.iter().any(RelPath::is_root)
            && let Err(failure) = self.send_root(root).await
        {
            self.fail_or_repeat(trees, &failure);
            return None;
        }
        let entries = |paths: &[RelPath]| {
            let entries = paths.iter().cloned();
            let entries = entries.map(|path| DirtyPath::now(path, Extent::Entry));
            entries.collect::<Vec<_>>()
        };
        let mut directories = entries(&mirrored.directories);
        self.send_directories(root, &mut directories, &mut Vec::new())
            .await;
        let mut delicate = entries(&mirrored.delicate);
        delicate.sort_by(|a, b| a.path.cmp(&b.path));
        self.send_delicate(root, delicate).await;
        let shown = match trees[..] {
            [_] => vec![args::PROGRESS.into()],
            _ => Vec::new(),
        };
        let list = args::list(mirrored.entries.iter().filter(|path| !path.is_root()));
        let ended = self
            .with_rules(root, kind, forms, shown, list, listen)
            .await;
        self.context.progress.send_replace(DONE);
        let Ok(ended) = ended else {
            self.report.again.extend(trees);
            return None;
        };
        self.count(&ended);
        let names = Names {
            listed: &mirrored.entries,
            root: &self.context.source,
            target: &self.context.remote.target,
        };
        let outcome = judge(kind, &ended, &names);
        tracing::debug!(entries = mirrored.entries.len(), "{}", ended.exit);
        self.account_mirrored(&ended.exit, outcome, mirrored, trees)
    }

    fn account_mirrored(
        &mut self,
        exit: &Exit,
        outcome: Outcome,
        mirrored: &Mirrored,
        mut trees: Vec<DirtyPath>,
    ) -> Option<Vec<DirtyPath>> {
        trees.sort_by(|a, b| a.path.cmp(&b.path));
        let entry = |path: RelPath| match position(&trees, &path) {
            Ok(at) => trees[at].clone(),
            Err(_) => DirtyPath::now(path, Extent::Entry),
        };
        match outcome {
            Outcome::Synced => {}
            Outcome::Again(names) => self.report.again.extend(names.into_iter().map(entry)),
            Outcome::Failed { paths, again, .. } => {
                for (path, message) in paths {
                    let dirty = entry(path);
                    if self.is_in_the_way(&message) {
                        self.in_the_way.push(dirty);
                    } else {
                        let exit = exit.code();
                        self.report.failed.push((dirty, Failure { exit, message }));
                    }
                }
                self.report.again.extend(again.into_iter().map(entry));
            }
            Outcome::Undecided {
                changed: false,
                message,
            } if trees.len() == 1 => {
                let exit = exit.code();
                let paths = mirrored.entries.iter().cloned().map(entry).collect();
                self.undecided(paths, Failure { exit, message });
                self.report.again.extend(trees);
                return None;
            }
            Outcome::Undecided { .. } => {
                self.report.again.extend(trees);
                return None;
            }
            outcome => {
                let kind = RunKind::tree(false);
                self.account(kind, exit, outcome, trees);
                return None;
            }
        }
        Some(trees)
    }

    /// What is only at the receiver, and may be removed for all that the filter says.
    async fn extraneous(
        &mut self,
        root: &Arc<SourceRoot>,
        trees: &[RelPath],
        mirrored: &Mirrored,
        filter: &Filter,
    ) -> Result<Removal, Failure> {
        let kind = RunKind::List { recursive: true };
        let rules = left_out(&mirrored.excluded, &mirrored.hidden);
        let list = args::list(trees);
        let found = self.ask(root, kind, rules, list, trees).await?;
        let is_here =
            |dir: &RelPath| mirrored.holds(dir) || trees.iter().any(|tree| tree.is_within(dir));
        Ok(Removal::pick(found, Some(filter), None, is_here))
    }

    /// Removes it. At a first contact so many entries were `theirs`: only there before anything was sent.
    async fn remove_extraneous(
        &mut self,
        root: &Arc<SourceRoot>,
        trees: &[RelPath],
        mirrored: &Mirrored,
        filter: &Filter,
        theirs: Option<u64>,
    ) -> Result<(), Failure> {
        if self.report.end != End::Reached {
            return Err(unsaid(-1));
        }
        // A person may have accepted it meanwhile.
        if let Some(theirs) = theirs.filter(|_| self.context.guard.is_first_contact()) {
            let sent = mirrored.entries.len() + mirrored.delicate.len();
            let there = (sent as u64).saturating_sub(self.made + 1) + theirs;
            if let Err(hold) = check_first(theirs, there) {
                self.report.end = End::Held(hold);
                return Err(unsaid(-1));
            }
            self.relate(root, true).await;
        }
        let removal = self.extraneous(root, trees, mirrored, filter).await?;
        let hides = Hides {
            filter: Some(filter),
            ..Hides::default()
        };
        self.carry_out(root, &removal, hides).await
    }
}

/// Why nothing is known, where the end of the job or another look says it all.
fn unsaid(exit: i32) -> Failure {
    Failure {
        exit,
        message: String::new(),
    }
}
