//! What keeps a lane from deleting what it should not: whether the source, what is mounted below it, and a local target
//! are what the remote was last equal to.
//!
//! What it [knows](Known) is learnt when a remote is first made equal, or from a person. It is kept between starts where
//! there is a state directory; else it lasts as long as the process ([`Memory`]). The decisions are pure and elsewhere
//! ([`Lasting::differs`], [`Gaps`]); here are the looks at the file system, and the one lock around what is known.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Dir, OFlags};

use super::Hold;
use super::volumes::{Gap, Gaps, Volumes};
use crate::filter::{Filter, Kind};
use crate::lasting::Lasting;
use crate::mounts::{MountTable, Mounted};
use crate::path::{Identity, RelPath, SourceRoot};
use crate::saved::Key;
use crate::saved::known::Known;
use crate::store::known::KnownFile;

/// A first comparison may remove so many entries in any case: what a fresh file system has, and a try or two.
const FEW: u64 = 10;

/// See the module.
#[derive(Debug)]
pub struct Guard {
    state: Mutex<State>,
    /// `-x`: what is mounted below the source is not mirrored.
    one_file_system: bool,
    /// Whether what changes says that the remote belongs to this source: without a first push nothing else does.
    learns_from_changes: bool,
    /// Where those that follow find it.
    memory: (Memory, Key),
    /// Held by whoever writes the file: a job and a person may both have something to keep.
    writing: Mutex<()>,
}

/// What a guard begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Whose it is.
    pub key: Key,
    /// What was kept of it.
    pub known: Known,
    /// Where it is kept from now on.
    pub file: Option<KnownFile>,
    /// What guards before this one knew, in this process.
    pub memory: Memory,
    /// What is not mirrored.
    pub filter: Option<Arc<Filter>>,
    /// `-x`: what is mounted below the source is not mirrored.
    pub one_file_system: bool,
    /// Whether the first thing is a push of everything.
    pub initial_push: bool,
    /// A person has said that whatever is there at the start is meant.
    pub accepted: bool,
}

/// What the guards of a process know, so that a lane that is begun anew by a reload knows it too.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<Key, Known>>>);

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    known: Known,
    /// What the next start will know.
    kept: Known,
    /// The directory that a person has accepted.
    accepted: Option<Identity>,
    /// What is not mirrored.
    filter: Option<Arc<Filter>>,
    /// The first target on this machine that was used, as long as none is known.
    used: Option<Lasting>,
    file: Option<KnownFile>,
    table: Option<MountTable>,
    /// A person said that what the first comparison removes is meant.
    first_is_accepted: bool,
    /// A comparison of everything has begun that may delete what it would.
    has_related: bool,
    /// A person said that the source is meant to be empty; until it has an entry again.
    empty_is_accepted: bool,
}

/// What is mounted below the source at a moment. As long as this is kept, nothing of it can be unmounted but lazily.
#[derive(Debug, Default)]
pub struct View {
    /// The file systems.
    present: Volumes,
    /// What is missing of those that are known.
    pub gaps: Gaps,
    pins: Vec<OwnedFd>,
}

impl View {
    /// Whether there is nothing mounted, and nothing missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present.is_empty() && self.gaps.is_empty()
    }

    /// Whether a path is on one of the file systems that are mounted.
    #[must_use]
    pub fn holds(&self, path: &RelPath) -> bool {
        self.present.keys().any(|volume| path.is_within(volume))
    }

    /// What of a tree is on them: all of it, or the topmost mount points in it.
    #[must_use]
    pub fn parts_of(&self, tree: &RelPath) -> Vec<RelPath> {
        if self.holds(tree) {
            return vec![tree.clone()];
        }
        let mut parts: Vec<RelPath> = Vec::new();
        for volume in self.present.keys().filter(|volume| volume.is_within(tree)) {
            // They come in order.
            if !parts.last().is_some_and(|last| volume.is_within(last)) {
                parts.push(volume.clone());
            }
        }
        parts
    }

    /// Another look was taken: both count.
    pub fn extend(&mut self, other: Self) {
        self.gaps.extend(other.gaps);
        self.present = other.present;
        self.pins.extend(other.pins);
    }
}

impl Guard {
    /// A guard.
    #[must_use]
    pub fn new(beginning: Beginning) -> Self {
        let Beginning {
            key,
            known: kept,
            file,
            memory,
            filter,
            one_file_system,
            initial_push,
            accepted,
        } = beginning;
        let remembered = memory.all().get(&key).cloned();
        let known = match remembered {
            _ if accepted => Known::default(),
            Some(known) => known,
            None => kept.clone(),
        };
        let state = State {
            known,
            kept,
            accepted: None,
            filter,
            used: None,
            file,
            table: MountTable::open().ok(),
            first_is_accepted: accepted,
            has_related: false,
            empty_is_accepted: accepted,
        };
        Self {
            state: Mutex::new(state),
            one_file_system,
            learns_from_changes: !initial_push,
            memory: (memory, key),
            writing: Mutex::default(),
        }
    }

    /// Another filter holds from now on.
    pub fn refilter(&self, filter: Arc<Filter>) {
        self.state().filter = Some(filter);
    }

    /// Has whoever follows know it.
    fn remember(&self, known: &Known) {
        let (memory, key) = &self.memory;
        let mut all = memory.all();
        if all.get(key) != Some(known) {
            all.insert(key.clone(), known.clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the source that the remote was last equal to; `None` if none is known.
    #[must_use]
    pub fn knows(&self, source: &Lasting) -> Option<bool> {
        let known = self.state().known.source;
        known.map(|known| known.differs(source).is_none())
    }

    /// Whether the mirror may go on with this directory after the one that it had is gone.
    #[must_use]
    pub fn takes(&self, root: &SourceRoot) -> bool {
        let lasting = root.lasting();
        let is_accepted = self.state().accepted == Some(root.identity());
        self.knows(&lasting) == Some(true) && (is_accepted || lasting.is_certain())
    }

    /// Holds a source that is another than the remote was last equal to.
    ///
    /// # Errors
    /// In what it is another.
    pub fn check_source(&self, source: &Lasting) -> Result<(), Hold> {
        let known = self.state().known.source;
        match known.and_then(|known| known.differs(source)) {
            Some(difference) => Err(Hold::OtherSource(difference)),
            None => Ok(()),
        }
    }

    /// Holds a source without an entry, unless a person has accepted it.
    ///
    /// # Errors
    /// It is empty.
    pub fn check_filled(&self, is_empty: bool) -> Result<(), Hold> {
        let mut state = self.state();
        state.empty_is_accepted &= is_empty;
        if is_empty && !state.empty_is_accepted {
            return Err(Hold::SourceEmpty);
        }
        Ok(())
    }

    /// Holds a target on this machine that is another than it was, or than the first one that was used.
    ///
    /// # Errors
    /// In what it is another.
    pub fn check_target(&self, now: &Lasting) -> Result<(), Hold> {
        self.state().check_target(now)
    }

    /// The same, and from now on this one is expected, also before it is equal to anything.
    ///
    /// # Errors
    /// In what it is another.
    pub fn use_target(&self, now: &Lasting) -> Result<(), Hold> {
        let mut state = self.state();
        state.check_target(now)?;
        state.used.get_or_insert(*now);
        Ok(())
    }

    /// Whether the remote was never equal to anything, as far as is known, and nobody has said that this is right.
    #[must_use]
    pub fn is_first_contact(&self) -> bool {
        let state = self.state();
        !state.known.compared && !state.first_is_accepted
    }

    /// Whether what the remote has beside what it was sent may be somebody else's: no comparison has found that it is
    /// little.
    #[must_use]
    pub fn is_unrelated(&self) -> bool {
        self.is_first_contact() && !self.state().has_related
    }

    /// Looks at what is mounted below the source. What was not seen there before is known from now on, and what was
    /// mounted elsewhere since is known there. Blocks on the file system.
    #[must_use]
    pub fn look(&self, root: &SourceRoot) -> View {
        if self.one_file_system {
            return View::default();
        }
        let (mut points, before, filter) = {
            let mut state = self.state();
            let points = state.mount_points(root);
            (points, state.known.clone(), state.filter.clone())
        };
        if points.is_empty() && before.volumes.is_empty() {
            return View::default();
        }
        let is_excluded = |path: &RelPath| {
            let filter = filter.as_ref();
            filter.is_some_and(|filter| filter.covers(path, Kind::Directory))
        };
        points.retain(|path, _| !is_excluded(path));
        let mut known = before.volumes.clone();
        known.retain(|path, _| !is_excluded(path));
        let mut filled = Vec::new();
        let mut view = View::default();
        for path in points.keys().chain(known.keys()) {
            if view.present.contains_key(path) {
                continue;
            }
            // What is not a mount point any more by now, or cannot be opened, is not there.
            let Ok(dir) = root.open_dir(path, OFlags::PATH) else {
                continue;
            };
            let Ok(lasting) = Lasting::of(&dir) else {
                continue;
            };
            let is_mount = lasting.is_mount.unwrap_or(points.contains_key(path));
            if is_mount {
                if has_entry(root, path) {
                    filled.push(path.clone());
                }
                view.present.insert(path.clone(), lasting);
                view.pins.push(dir);
            }
        }
        view.gaps = Gaps::between(&known, &view.present);
        // One that never held anything, and one that was there when the remote was first made equal, may be empty.
        let may_be_empty = |path: &RelPath| {
            if before.volumes.contains_key(path) {
                !before.filled.contains(path)
            } else {
                before.source.is_none()
            }
        };
        for path in view.present.keys() {
            if !filled.contains(path) && !may_be_empty(path) {
                view.gaps.add(path.clone(), Gap::Empty);
            }
        }
        let (present, gaps) = (&view.present, &view.gaps);
        let known = &mut self.state().known;
        let stays = |path: &RelPath| {
            present.contains_key(path) || gaps.around(path).is_some() || is_excluded(path)
        };
        known.volumes.retain(|path, _| stays(path));
        known.filled.retain(|path| stays(path));
        for (path, volume) in present {
            if gaps.around(path).is_none() {
                known.volumes.insert(path.clone(), *volume);
                known
                    .filled
                    .extend(filled.iter().filter(|one| *one == path).cloned());
            }
        }
        self.remember(known);
        view
    }

    /// A comparison of everything got through: from now on these are the source and the target.
    pub fn learn(&self, root: &SourceRoot, target: Option<Lasting>) {
        let known = &mut self.state().known;
        known.source = Some(root.lasting());
        known.target = target;
        known.compared = true;
        self.remember(known);
    }

    /// What is at the remote comes from this source from now on, whether or not all of it gets there: a comparison of
    /// everything begins, and `may_delete` what it would.
    pub fn relate(&self, root: &SourceRoot, may_delete: bool) {
        self.state().has_related |= may_delete;
        self.know_source(root);
    }

    /// The comparison did not get through: the next one is to find out anew what it may delete.
    pub fn unrelate(&self) {
        self.state().has_related = false;
    }

    fn know_source(&self, root: &SourceRoot) {
        let known = &mut self.state().known;
        if known.source.is_none() {
            known.source = Some(root.lasting());
            self.remember(known);
        }
    }

    /// A change got there.
    pub fn relate_by_change(&self, root: &SourceRoot) {
        if self.learns_from_changes {
            self.know_source(root);
        }
    }

    /// Whether something is known that the next start would not know; see [`keep`](Self::keep).
    #[must_use]
    pub fn has_news(&self) -> bool {
        let state = self.state();
        state.file.is_some() && state.known != state.kept
    }

    /// A person says that the source, what is mounted below it, and the target are right as they are. To be
    /// [kept](Self::keep). Blocks on the file system.
    pub fn accept(&self, root: &SourceRoot, target: Option<Lasting>) {
        let present = self.look(root).present;
        let is_empty = root.is_empty().unwrap_or(false);
        let filled = present.keys().filter(|path| has_entry(root, path));
        let filled = filled.cloned().collect();
        let mut state = self.state();
        state.known = Known {
            source: Some(root.lasting()),
            target,
            compared: true,
            volumes: present,
            filled,
        };
        self.remember(&state.known);
        state.used = None;
        state.accepted = Some(root.identity());
        state.first_is_accepted = true;
        state.empty_is_accepted = is_empty;
    }

    /// Has what is known outlive the process. Blocks on the file system.
    ///
    /// # Errors
    /// It could not be written.
    pub fn keep(&self) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, known) = {
            let state = self.state();
            (state.file.clone(), state.known.clone())
        };
        let Some(file) = file else { return Ok(()) };
        file.write(&known)?;
        self.state().kept = known;
        Ok(())
    }
}

impl State {
    fn check_target(&self, now: &Lasting) -> Result<(), Hold> {
        let expected = self.known.target.or(self.used);
        match expected.and_then(|expected| expected.differs(now)) {
            Some(difference) => Err(Hold::OtherTarget(difference)),
            None => Ok(()),
        }
    }

    /// Without a table only what is known is looked at.
    fn mount_points(&mut self, root: &SourceRoot) -> BTreeMap<RelPath, Mounted> {
        let Some(table) = &mut self.table else {
            return BTreeMap::new();
        };
        let refreshed = table.refresh();
        refreshed
            .and_then(|()| table.below(root))
            .unwrap_or_default()
    }
}

/// What cannot be read may hold anything.
fn has_entry(root: &SourceRoot, dir: &RelPath) -> bool {
    let opened = root.open_dir(dir, OFlags::RDONLY);
    let Ok(entries) = opened.and_then(|dir| Ok(Dir::read_from(dir)?)) else {
        return true;
    };
    entries
        .flatten()
        .any(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
}

/// Whether a first comparison that would remove so many of the entries at a remote is to wait for a person.
///
/// # Errors
/// It is.
pub fn check_first(deletions: u64, entries: u64) -> Result<(), Hold> {
    if deletions > FEW && deletions > entries / 2 {
        return Err(Hold::FirstContact { deletions, entries });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_comparison_may_remove_a_few_entries_or_the_smaller_half() {
        assert_eq!(check_first(10, 10), Ok(()));
        assert_eq!(check_first(5000, 10_000), Ok(()));
        let hold = check_first(101, 150).expect_err("most of it");
        assert!(hold.to_string().contains("101 of 150"), "{hold}");
    }
}
