//! What a run would do, without doing it: rsync itself is asked, by the very run that would be made, as a rehearsal.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::{Context, in_its_place};
use super::guard::{View, check_first};
use super::removal::{Extraneous, Removal, left_out};
use super::sample;
use super::transfer::on_disk;
use crate::control::DriftKind;
use crate::filter::{Filter, Kind};
use crate::path::{RelPath, SourceRoot};
use crate::resolve::mirrored::Mirrored;
use crate::rsync::{
    Ended, Exit, Forms, Item, Itemized, Names, Outcome, Pace, RefusedForm, RunKind, args, judge,
};

/// What the first push would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Would be removed at the receiver.
    pub deleted: Listed,
    /// Would be made at the receiver, or have its content sent.
    pub sent: Listed,
    /// Would have its times, modes or owners changed, and nothing else.
    pub attributes: u64,
    /// What the files to be sent weigh.
    pub bytes: u64,
    /// What would go wrong, or be left out: a sentence each.
    pub notes: Vec<String>,
}

/// Paths, of which the first are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub paths: Vec<RelPath>,
}

impl Listed {
    fn add(&mut self, path: RelPath, most: usize) {
        self.count += 1;
        if self.paths.len() < most {
            self.paths.push(path);
        }
    }
}

impl Preview {
    fn take(&mut self, item: Item, most: usize) {
        match item.drift {
            DriftKind::Extra => self.deleted.add(item.path, most),
            DriftKind::Missing | DriftKind::Content => self.sent.add(item.path, most),
            DriftKind::Attributes => self.attributes += 1,
        }
    }
}

/// Why a rehearsal says nothing.
enum Instead {
    /// The receiver does not take this; without it, it may.
    Without(RefusedForm),
    Failed(String),
}

impl Context {
    /// What the first push would do, as things are. Of what is removed and what is sent, so many paths are kept each.
    ///
    /// # Errors
    /// Why that push would not begin, or why it is not known.
    pub async fn preview(self: &Arc<Self>, most: usize) -> Result<Preview, String> {
        let previewed = self.rehearse_push(most).await;
        self.hang_up().await;
        previewed
    }

    async fn rehearse_push(self: &Arc<Self>, most: usize) -> Result<Preview, String> {
        let target = self.pin_target().await.map_err(|end| end.cause())?;
        let preview = self.rehearse_push_to_it(most).await?;
        // Nothing is written, so it is enough to know that all of it was said of this one.
        let never = CancellationToken::new();
        let found = in_its_place(&target, &never).await;
        found.map_err(|end| end.cause())?;
        Ok(preview)
    }

    async fn rehearse_push_to_it(self: &Arc<Self>, most: usize) -> Result<Preview, String> {
        let root = if self.compares_with_deletion() {
            self.open_root_to_delete().await
        } else {
            self.open_root().await
        };
        let root = Arc::new(root.map_err(|hold| hold.to_string())?);
        let (guard, below) = (Arc::clone(&self.guard), Arc::clone(&root));
        let looking = on_disk(move || guard.look(&below));
        let view = looking.await.ok_or("it was ended")?;
        let mut forms = Forms::of(&self.remote);
        if self.filter.is_some() {
            forms = forms.without_content();
        }
        forms.exact_times = self.ask_for_exact_times(&root, forms).await;
        loop {
            let mut preview = Preview::default();
            for (at, gap) in view.gaps.iter() {
                preview.notes.push(format!("{at}: {}", gap.words()));
            }
            let rehearsed = match &self.filter {
                None => {
                    self.rehearse_tree(&root, &view, forms, most, &mut preview)
                        .await
                }
                Some(filter) => {
                    let filter = Arc::clone(filter);
                    self.rehearse_filtered(&root, &view, forms, filter, most, &mut preview)
                        .await
                }
            };
            match rehearsed {
                Ok(()) => {
                    if self.compares_with_deletion() && !forms.delete_in_trees {
                        let note = "the receiver refuses to delete";
                        preview.notes.push(note.into());
                    }
                    return Ok(preview);
                }
                Err(Instead::Failed(cause)) => return Err(cause),
                Err(Instead::Without(form)) => {
                    let without = form.dropped_from(forms);
                    forms = without.ok_or("it refuses an option that was not given")?;
                }
            }
        }
    }

    async fn rehearse_tree(
        &self,
        root: &SourceRoot,
        view: &View,
        forms: Forms,
        most: usize,
        preview: &mut Preview,
    ) -> Result<(), Instead> {
        let delete = self.compares_with_deletion() && forms.delete_in_trees;
        let kind = RunKind::tree(delete);
        let listed = [RelPath::root()];
        let take = |item| preview.take(item, most);
        let ended = self.rehearse(
            root,
            kind,
            forms,
            view.gaps.rules(),
            args::list(&listed),
            take,
        );
        let ended = ended.await;
        preview.bytes = ended.stats.transferred_size;
        self.understand(kind, &ended, &listed, &mut preview.notes)?;
        if delete {
            // The root itself is no entry.
            let stats = ended.stats;
            let there = stats.listed.saturating_sub(stats.made + 1) + preview.deleted.count;
            self.note_first_contact(there, preview);
        }
        Ok(())
    }

    /// With a filter the names come from our own walk, and what is removed is picked from what is only there.
    async fn rehearse_filtered(
        &self,
        root: &Arc<SourceRoot>,
        view: &View,
        forms: Forms,
        filter: Arc<Filter>,
        most: usize,
        preview: &mut Preview,
    ) -> Result<(), Instead> {
        let stays_here = self.remote.params.one_file_system();
        let (below, rules) = (Arc::clone(root), Arc::clone(&filter));
        let walk = move || Mirrored::below(&below, &[RelPath::root()], &rules, stays_here);
        let Some(mut mirrored) = on_disk(walk).await else {
            return Err(Instead::Failed("it was ended".into()));
        };
        for (path, error) in &mirrored.failed {
            let note = format!("{path} could not be looked at: {error}");
            preview.notes.push(note);
        }
        mirrored.entries.append(&mut mirrored.directories);
        mirrored.entries.append(&mut mirrored.delicate);
        let is_sent = |path: &RelPath| !path.is_root() && view.gaps.around(path).is_none();
        mirrored.entries.retain(is_sent);
        let kind = RunKind::Send {
            ignore_times: false,
        };
        let exact = Forms {
            exact_times: Some(forms.exact_times != Some(false)),
            ..forms
        };
        let list = args::list(&mirrored.entries);
        let take = |item| preview.take(item, most);
        let ended = self
            .rehearse(root, kind, exact, Vec::new(), list, take)
            .await;
        preview.bytes = ended.stats.transferred_size;
        let made = ended.stats.made;
        self.understand(kind, &ended, &mirrored.entries, &mut preview.notes)?;
        if !(self.compares_with_deletion() && forms.delete_in_trees) {
            return Ok(());
        }
        let kind = RunKind::List { recursive: true };
        let listed = [RelPath::root()];
        let mut found = Vec::new();
        let take = |item: Item| {
            if item.drift == DriftKind::Extra {
                found.push(Extraneous {
                    path: item.path,
                    kind: Kind::directory_if(item.is_directory),
                });
            }
        };
        let mut rules = view.gaps.rules();
        rules.extend(left_out(&mirrored.excluded, &mirrored.hidden));
        let ended = self.rehearse(root, kind, forms, rules, args::list(&listed), take);
        let ended = ended.await;
        self.understand(kind, &ended, &listed, &mut preview.notes)?;
        found.retain(|one| view.gaps.spare(&one.path));
        // All of the source was walked.
        let is_here = |dir: &RelPath| mirrored.holds(dir);
        let removal = Removal::pick(found, Some(&filter), None, is_here);
        for path in removal.doomed() {
            preview.deleted.add(path.clone(), most);
        }
        let sent = mirrored.entries.len() as u64;
        self.note_first_contact(sent.saturating_sub(made) + removal.len(), preview);
        Ok(())
    }

    /// Whether a first comparison would wait for a person, of so many entries that the remote has.
    fn note_first_contact(&self, entries: u64, preview: &mut Preview) {
        if !self.guard.is_first_contact() {
            return;
        }
        if let Err(hold) = check_first(preview.deleted.count, entries) {
            let note = format!("if it was never equal to this source, it is held: {hold}");
            preview.notes.push(note);
        }
    }

    /// Whether the receiver keeps fractions of seconds, as the push would find out before it begins.
    async fn ask_for_exact_times(&self, root: &Arc<SourceRoot>, forms: Forms) -> Option<bool> {
        if self.remote.params.modify_window() {
            return Some(false);
        }
        let below = Arc::clone(root);
        let sampling = on_disk(move || sample::files(&below, &[]));
        let files = sampling.await.unwrap_or_default();
        if files.is_empty() {
            return None;
        }
        let mut equal = [0; 2];
        for (exact, equal) in [false, true].into_iter().zip(&mut equal) {
            let launch = self.launch(root, RunKind::Ask { exact }, forms, Pace::Long);
            let never = CancellationToken::new();
            let asked = self.run_unpinned(&launch, args::list(&files), None, &never, |_| {});
            let ended = asked.await;
            if !matches!(ended.exit, Exit::Code(0)) {
                return None;
            }
            *equal = (files.len() as u64).saturating_sub(ended.stats.files_sent);
        }
        sample::verdict(equal[0], equal[1])
    }

    /// Makes a run as a rehearsal, with rules that come before the user's.
    async fn rehearse(
        &self,
        root: &SourceRoot,
        kind: RunKind,
        forms: Forms,
        rules: Vec<OsString>,
        list: Vec<u8>,
        mut take: impl FnMut(Item),
    ) -> Ended {
        let mut launch = self.launch(root, kind, forms, Pace::Long);
        launch.args = args::rehearsed(launch.args);
        launch.args.splice(0..0, rules);
        tracing::trace!("{}", args::shown(&launch.args));
        let mut itemized = Itemized::default();
        let listen = |output: &[u8]| itemized.read(output).into_iter().for_each(&mut take);
        let never = CancellationToken::new();
        self.run_unpinned(&launch, list, None, &never, listen).await
    }

    /// What the end of a rehearsal says.
    fn understand(
        &self,
        kind: RunKind,
        ended: &Ended,
        listed: &[RelPath],
        notes: &mut Vec<String>,
    ) -> Result<(), Instead> {
        let names = Names {
            listed,
            root: &self.source,
            target: &self.remote.target,
        };
        match judge(kind, ended, &names) {
            // What vanished meanwhile is no part of it.
            Outcome::Synced | Outcome::Again(_) => {}
            Outcome::Failed {
                paths,
                deletions_owed,
                ..
            } => {
                let messages: BTreeSet<String> =
                    paths.into_iter().map(|(_, message)| message).collect();
                notes.extend(messages);
                if deletions_owed {
                    let note = "rsync would remove nothing, since it cannot read all of the source";
                    notes.push(note.into());
                }
            }
            Outcome::Undecided { message, .. } => notes.push(message),
            Outcome::Refused(form) => return Err(Instead::Without(form)),
            Outcome::DiskFull(cause)
            | Outcome::Unreachable(cause)
            | Outcome::Misconfigured(cause) => return Err(Instead::Failed(cause)),
        }
        Ok(())
    }
}
