//! Names that were a directory to one job and something else to another that ran beside it. Pure.
//!
//! Each run lists its part of the source for itself. Where a directory becomes a link while two of them overlap, or a
//! link a directory, the receiver of one may put the link under the feet of the other, which then writes and deletes
//! where that link leads: anywhere at the remote, and neither notices. So such a name is looked for in what the watcher
//! tells, and when there is one, everything is compared once no job is left that may have met it. That is rare: the
//! name must change its kind while a long job runs, and another job must be at work in the directory meanwhile.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::Batch;
use crate::change::{Change, Extent};

/// What happened during a job may be told so long after its end.
const LATE: Duration = Duration::from_secs(10);
/// So many names are kept, some 2 MB; beyond, it is taken for granted that there was one.
const MOST: usize = 1 << 17;

/// See the module.
#[derive(Debug, Default)]
pub struct Detours {
    phase: Phase,
    turned: Option<Instant>,
    /// Directories in which jobs beside a long one had something to do.
    entered: Names,
    /// Names that something left which was no directory.
    left: Names,
    met: bool,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Closed,
    Open,
    /// No long job runs, but something may still be told of the last one.
    ClosesAt(Instant),
}

impl Detours {
    /// A long job begins, and it is the only one.
    pub fn open(&mut self, now: Instant) {
        if !self.is_open(now) {
            self.forget();
        } else if self.turned.is_none_or(|at| at + LATE <= now) {
            self.turned = Some(now);
            self.entered.turn();
            self.left.turn();
        }
        self.phase = Phase::Open;
    }

    /// The last long job has ended.
    pub fn close(&mut self, now: Instant) {
        self.phase = Phase::ClosesAt(now + LATE);
    }

    /// This runs beside a long job.
    pub fn enter(&mut self, batch: &Batch) {
        let mut last: &[u8] = b"";
        for dirty in batch.iter() {
            let path = dirty.path.as_bytes();
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            // In order, most paths share their directory with the one before.
            let new = slashes.filter(|(at, _)| !last.starts_with(&path[..=*at]));
            for (at, _) in new {
                let directory = fingerprint(&path[..at]);
                self.met |= self.left.hold(directory) || self.entered.insert(directory);
            }
            last = path;
        }
    }

    /// The watcher tells of this.
    pub fn on_change(&mut self, change: &Change, now: Instant) {
        if !change.is_of_no_directory() || !self.is_open(now) {
            return;
        }
        let name = fingerprint(change.path.as_bytes());
        self.met |= self.entered.hold(name);
        if change.extent == Extent::Name {
            self.met |= self.left.insert(name);
        }
    }

    /// Whether there may have been such a name.
    pub fn is_met(&self) -> bool {
        self.met
    }

    /// Everything is compared from now on.
    pub fn forget(&mut self) {
        *self = Self {
            phase: std::mem::take(&mut self.phase),
            ..Self::default()
        };
    }

    fn is_open(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed => false,
            Phase::Open => true,
            Phase::ClosesAt(at) => now < at,
        }
    }
}

/// Names by their fingerprints, and those of a while ago.
#[derive(Debug, Default)]
struct Names {
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl Names {
    fn hold(&self, name: u64) -> bool {
        self.new.contains(&name) || self.old.contains(&name)
    }

    /// `true` if there were too many.
    fn insert(&mut self, name: u64) -> bool {
        self.new.insert(name);
        let too_many = self.new.len() > MOST;
        if too_many {
            self.new.clear();
        }
        too_many
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.new);
    }
}

fn fingerprint(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirty::DirtyPath;
    use crate::path::RelPath;

    fn path(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).expect("a valid path")
    }

    fn batch(names: &[&str]) -> Batch {
        let paths = names
            .iter()
            .map(|name| DirtyPath::now(path(name), Extent::Entry));
        Batch::new(&paths.collect::<Vec<_>>())
    }

    fn beside(names: &[&str], now: Instant) -> Detours {
        let mut detours = Detours::default();
        detours.open(now);
        detours.enter(&batch(names));
        detours
    }

    #[test]
    fn a_directory_at_work_that_becomes_a_link_is_met() {
        let now = Instant::now();
        let mut detours = beside(&["a/b/c", "a/b/d", "a/bc/d"], now);
        for no_link in [
            Change::subtree(path("a/b")),
            Change::entry(path("a/b")),
            Change::moved_in(path("a")),
            Change::written(path("a/b/c")),
            Change::left(path("a/bcd")),
        ] {
            detours.on_change(&no_link, now);
            assert!(!detours.is_met(), "{no_link:?}");
        }
        for directory in ["a", "a/b", "a/bc"] {
            for link in [
                Change::written(path(directory)),
                Change::left(path(directory)),
            ] {
                let mut detours = beside(&["a/b/c", "a/b/d", "a/bc/d"], now);
                detours.on_change(&link, now);
                assert!(detours.is_met(), "{link:?}");
            }
        }
    }

    #[test]
    fn a_link_that_becomes_a_directory_at_work_is_met() {
        let now = Instant::now();
        let mut detours = beside(&["a"], now);
        detours.on_change(&Change::left(path("b")), now);
        detours.enter(&batch(&["b"]));
        assert!(!detours.is_met(), "nothing was done in it");
        detours.enter(&batch(&["b/c"]));
        assert!(detours.is_met());
    }

    #[test]
    fn what_is_told_late_counts_and_what_happens_later_does_not() {
        let now = Instant::now();
        let link = Change::written(path("a"));
        let mut detours = beside(&["a/b"], now);
        detours.close(now);
        detours.on_change(&link, now + LATE);
        assert!(!detours.is_met());
        detours.open(now + LATE);
        detours.on_change(&link, now + LATE);
        assert!(!detours.is_met(), "that was another time");
        let mut detours = beside(&["a/b"], now);
        detours.close(now);
        detours.on_change(&link, now + LATE / 2);
        assert!(detours.is_met());
    }

    #[test]
    fn where_one_long_job_follows_the_other_only_the_last_are_remembered() {
        let now = Instant::now();
        let mut detours = beside(&["a/b"], now);
        for round in 1..=3 {
            detours.close(now + LATE * round);
            detours.open(now + LATE * round);
        }
        detours.on_change(&Change::written(path("a")), now + LATE * 3);
        assert!(!detours.is_met());
    }

    #[test]
    fn too_many_names_count_as_one_that_is_met() {
        let now = Instant::now();
        let mut detours = beside(&["a/b"], now);
        for number in 0..=MOST {
            assert!(!detours.is_met());
            detours.on_change(&Change::left(path(&format!("f{number}"))), now);
        }
        assert!(detours.is_met());
        detours.forget();
        assert!(!detours.is_met());
    }
}
