//! What a remote may still do that has gone away in the midst of a job. Pure.
//!
//! A receiver that hung, on a disk or a stopped machine, may go on long after we gave it up, with what had reached it by
//! then: it puts the file in place that it was sent, over the newer one that another connection brought meanwhile. So
//! what such a job was about is compared once more some time after the remote is back. That is done for paths alone: a
//! tree that is compared again may take hours, and what was under way of it is little of that.

use std::time::{Duration, Instant};

use super::MOST_DIRTY;
use crate::dirty::{DirtyPath, DirtySet, Route};

/// The look is this long after the remote is back: as long as a receiver mostly has until its own timeout.
pub const LOOK_AFTER: Duration = Duration::from_secs(100);

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

    /// A job about these paths was cut off.
    pub fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a DirtyPath>) {
        for dirty in paths {
            self.paths.put_back(dirty.clone(), Route::Path);
        }
        self.look_at = None;
    }

    /// The remote is back.
    pub fn on_back(&mut self, now: Instant) {
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
