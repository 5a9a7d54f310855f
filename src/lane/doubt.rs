//! What a remote may still do that has gone away in the midst of a job. Pure.
//!
//! A receiver whose connection was cut goes on with what had reached it by then: it puts the file in place that it was
//! sent, over the newer one that another connection brought meanwhile, or removes what the source did not have when it was
//! listed. Mostly that is over in a moment; not if its disk hangs, but then nobody else gets through either. So what such
//! a run was about is compared once more some time after the remote could be reached again.

use std::time::{Duration, Instant};

use super::MOST_DIRTY;
use crate::dirty::{DirtyPath, DirtySet, Route};
use crate::path::RelPath;

/// The look is this long after the remote could be reached: far longer than a receiver takes that is alive.
pub const LOOK_AFTER: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Doubt {
    paths: DirtySet,
    look_at: Option<Instant>,
}

impl Doubt {
    /// There is none.
    pub fn none() -> Self {
        Self {
            paths: DirtySet::new(MOST_DIRTY),
            look_at: None,
        }
    }

    /// A run about these paths was cut off.
    pub fn add(&mut self, paths: Vec<DirtyPath>) {
        for dirty in paths {
            self.paths.put_back(dirty, Route::Path);
            self.look_at = None;
        }
    }

    /// It failed by itself, and is tried again for that.
    pub fn forget(&mut self, path: &RelPath) {
        self.paths.withdraw(path);
    }

    /// The remote can be reached.
    pub fn on_reached(&mut self, now: Instant) {
        if !self.paths.is_empty() {
            self.look_at.get_or_insert(now + LOOK_AFTER);
        }
    }

    /// When the look is due.
    pub fn due(&self) -> Option<Instant> {
        self.look_at
    }

    /// What is to be looked at by now. It counts as differing since now: mostly it does not.
    pub fn take_due(&mut self, now: Instant) -> Vec<DirtyPath> {
        if self.look_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.look_at = None;
        let mut paths = self.paths.take(Route::Path, usize::MAX, now, |_| false);
        for dirty in &mut paths {
            (dirty.since, dirty.tries) = (now, 0);
        }
        paths
    }
}
