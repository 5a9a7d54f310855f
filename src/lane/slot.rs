//! A slot of a lane: the job that runs in it, and what other jobs did meanwhile where it is at work.

use std::sync::Arc;
use std::time::Instant;

use super::MOST_DIRTY;
use crate::change::Extent;
use crate::dirty::{DirtyPath, DirtySet, Route};
use crate::path::RelPath;

/// The paths of a job, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    paths: Arc<[DirtyPath]>,
    oldest: Option<Instant>,
}

impl Batch {
    /// A batch of paths that are in order, as a dirty set gives them.
    #[must_use]
    pub fn new(paths: &[DirtyPath]) -> Self {
        Self {
            paths: paths.into(),
            oldest: paths.iter().map(|dirty| dirty.since).min(),
        }
    }

    /// Since when the oldest of its paths has differed.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Number of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The paths.
    pub fn iter(&self) -> impl Iterator<Item = &DirtyPath> {
        self.paths.iter()
    }

    /// The paths by name.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.paths.iter().map(|dirty| &dirty.path)
    }

    /// Whether this very path is one of them.
    #[must_use]
    pub fn lists(&self, path: &RelPath) -> bool {
        position(&self.paths, path).is_ok()
    }

    /// Whether what is done to `path` may meet what a run of this batch does: one of them is the other, or above it.
    #[must_use]
    pub fn overlaps(&self, path: &RelPath) -> bool {
        let at = |dir: &RelPath| position(&self.paths, dir);
        let below = at(path).map_or_else(|next| self.paths.get(next), |at| self.paths.get(at));
        below.is_some_and(|dirty| dirty.path.is_within(path))
            || at(&RelPath::root()).is_ok()
            || path.ancestors_below_root().any(|dir| at(&dir).is_ok())
    }

    /// What a run of this batch may have undone of what another one did, and the other way round: what was done, and the
    /// directories in which everything was deleted that their listing did not hold.
    pub fn met_by<'a>(
        &'a self,
        done: &'a [DirtyPath],
        emptied: &'a [RelPath],
    ) -> impl Iterator<Item = DirtyPath> + 'a {
        let done = done.iter().filter(|dirty| self.overlaps(&dirty.path));
        let met = emptied.iter().flat_map(|dir| self.met_in(dir));
        done.cloned().chain(met)
    }

    /// What of this batch a deletion of what stands in `dir` may have undone: its paths below that directory, or the
    /// directory itself if it is below one of them.
    fn met_in(&self, dir: &RelPath) -> Vec<DirtyPath> {
        let first = self.paths.partition_point(|dirty| dirty.path < *dir);
        let below = self.paths[first..].iter();
        let below: Vec<DirtyPath> = below
            .take_while(|dirty| dirty.path.is_within(dir))
            .cloned()
            .collect();
        if below.is_empty() && self.overlaps(dir) {
            let mut whole = DirtyPath::now(dir.clone(), Extent::Subtree);
            whole.since = self.oldest.unwrap_or(whole.since);
            return vec![whole];
        }
        below
    }
}

/// Where a path stands in a list of paths in order.
pub fn position(paths: &[DirtyPath], path: &RelPath) -> Result<usize, usize> {
    paths.binary_search_by(|dirty| dirty.path.cmp(path))
}

/// See the module.
#[derive(Debug)]
pub struct Slot {
    /// The batch of its job.
    pub running: Option<Batch>,
    /// Whether a long job has been at work beside its own, or it is one that sends a large file.
    pub is_beside: bool,
    /// When its last job began.
    pub began: Option<Instant>,
    /// What path jobs did below this one's paths meanwhile.
    pub touched: DirtySet,
    /// Directories that were made below its trees meanwhile. It may have listed what came and went in them before they
    /// were watched.
    pub made: DirtySet,
}

impl Slot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// A slot in which this runs.
    pub fn of(running: Option<Batch>) -> Self {
        Self {
            running,
            is_beside: false,
            began: None,
            touched: DirtySet::new(MOST_DIRTY),
            made: DirtySet::new(MOST_DIRTY),
        }
    }

    /// Whether its job lists this very path.
    pub fn lists(&self, path: &RelPath) -> bool {
        self.running.as_ref().is_some_and(|batch| batch.lists(path))
    }

    /// What is to be done when its job has ended: what other jobs may have met, and what it may have seen too early.
    pub fn take_owed(&mut self, now: Instant) -> Vec<DirtyPath> {
        let sets = [&mut self.touched, &mut self.made];
        let owed = sets.map(|set| set.take(Route::Path, usize::MAX, now, |_| false));
        owed.into_iter().flatten().collect()
    }

    /// Number of paths of its job.
    pub fn len(&self) -> usize {
        self.running.as_ref().map_or(0, Batch::len)
    }

    /// Since when the oldest of its paths has differed, or of what is to be looked at again after it.
    pub fn oldest(&self) -> Option<Instant> {
        let running = self.running.as_ref().and_then(|batch| batch.oldest);
        running.into_iter().chain(self.touched.oldest()).min()
    }

    /// Whether its job compares the whole source.
    pub fn is_everything(&self) -> bool {
        let mut running = self.running.iter().flat_map(Batch::iter);
        running.any(|dirty| dirty.path.is_root() && dirty.extent == Extent::Subtree)
    }

    /// What was a directory when this job began may still be one to it. So a path that a path job is to deal with is
    /// marked as a former subtree if it was, which matters where a link stands now; see [`super::Job::beside`].
    pub fn remember_former(&self, dirty: &mut DirtyPath) {
        if self.touched.holds_subtree(&dirty.path) {
            dirty.extent = Extent::Subtree;
        }
    }
}
