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

use crate::change::{Change, Extent};
use crate::path::RelPath;

/// What happened during a job may be told so long after its end.
const LATE: Duration = Duration::from_secs(60);
/// Names of one generation, in about 1 MB. There are four at most; the oldest are forgotten first.
const MOST: usize = 1 << 16;
/// After a comparison that a detour has asked for, the next one has a pause so many times as long.
const PAUSE: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Detours {
    phase: Phase,
    /// Directories in which jobs beside a long one had something to do.
    entered: Names,
    /// When the older of them were told apart.
    turned: Option<Instant>,
    /// Names of what was no directory.
    others: Names,
    /// When such a name was told.
    met: Option<Instant>,
    /// A comparison that was asked for is under way.
    compares: bool,
    rests_until: Option<Instant>,
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
            self.entered = Names::default();
            self.others = Names::default();
        }
        self.phase = Phase::Open;
    }

    /// The last long job has ended.
    pub fn close(&mut self, now: Instant) {
        self.phase = Phase::ClosesAt(now + LATE);
    }

    /// Forgets the directories of jobs that have long ended; true if those that run are to be entered once more.
    pub fn turn(&mut self, now: Instant) -> bool {
        let is_due = self.is_open(now) && self.turned.is_none_or(|at| at + LATE <= now);
        if is_due {
            self.turned = Some(now);
            self.entered.turn();
        }
        is_due
    }

    /// This runs beside a long job, or is one.
    pub fn enter<'a>(&mut self, paths: impl Iterator<Item = &'a RelPath>, now: Instant) {
        if !self.is_open(now) {
            return;
        }
        let mut last: &[u8] = b"";
        for path in paths {
            self.enter_parents(path.as_bytes(), last, now);
            last = path.as_bytes();
        }
    }

    /// A job beside a long one is at work in this directory itself.
    pub fn enter_directory(&mut self, dir: &RelPath, now: Instant) {
        self.enter([&dir.join(b"*")].into_iter(), now);
    }

    /// In order, most paths share their directory with the `last` one.
    fn enter_parents(&mut self, path: &[u8], last: &[u8], now: Instant) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (at, _) in slashes.filter(|(at, _)| !last.starts_with(&path[..=*at])) {
            self.enter_one(&path[..at], now);
        }
    }

    fn enter_one(&mut self, directory: &[u8], now: Instant) {
        let directory = fingerprint(directory);
        if self.others.hold(directory) {
            self.met.get_or_insert(now);
        }
        self.entered.insert(directory);
    }

    /// The watcher tells of this.
    pub fn on_change(&mut self, change: &Change, now: Instant) {
        // A directory that took the place of another may hold links where that one had directories.
        let is_replaced = change.extent == Extent::Subtree && change.written;
        let is_other = change.is_of_no_directory();
        if !(is_replaced || is_other) || !self.is_open(now) {
            return;
        }
        let name = fingerprint(change.path.as_bytes());
        if self.entered.hold(name) {
            self.met.get_or_insert(now);
        }
        if is_other {
            self.others.insert(name);
        }
    }

    /// When there may have been such a name, as long as nobody has compared for it.
    pub fn met(&self) -> Option<Instant> {
        self.met
    }

    /// When everything is to be compared for it, at the earliest.
    pub fn due(&self) -> Option<Instant> {
        let met = self.met?;
        Some(self.rests_until.map_or(met, |until| until.max(met)))
    }

    /// Everything is compared from now on. Returns since when it is to be.
    pub fn take(&mut self) -> Option<Instant> {
        let met = self.met.take()?;
        self.entered = Names::default();
        self.others = Names::default();
        self.compares = true;
        Some(met)
    }

    /// A comparison of everything took so long.
    pub fn on_compared(&mut self, took: Duration, now: Instant) {
        if std::mem::take(&mut self.compares) {
            self.rests_until = Some(now + took * PAUSE);
        }
    }

    /// Somebody waits until all is equal.
    pub fn hurry(&mut self) {
        self.rests_until = None;
        self.compares = false;
    }

    fn is_open(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed => false,
            Phase::Open => true,
            Phase::ClosesAt(at) => now < at,
        }
    }
}

/// Names by their fingerprints: those of now, and those of a while ago.
#[derive(Debug, Default)]
struct Names {
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl Names {
    fn hold(&self, name: u64) -> bool {
        self.new.contains(&name) || self.old.contains(&name)
    }

    fn insert(&mut self, name: u64) {
        if self.new.len() >= MOST {
            self.turn();
        }
        self.new.insert(name);
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

    fn path(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).expect("a valid path")
    }

    fn paths(names: &[&str]) -> Vec<RelPath> {
        names.iter().map(|name| path(name)).collect()
    }

    fn beside(names: &[&str], now: Instant) -> Detours {
        let mut detours = Detours::default();
        detours.open(now);
        detours.enter(paths(names).iter(), now);
        detours
    }

    #[test]
    fn a_directory_at_work_that_becomes_a_link_is_met() {
        let now = Instant::now();
        let names = ["a/b/c", "a/b/d", "a/bc/d"];
        let mut detours = beside(&names, now);
        for no_link in [
            Change::subtree(path("a/b")),
            Change::entry(path("a/b")),
            Change::written(path("a/b/c")),
            Change::left(path("a/bcd")),
            Change::moved_in(path("a/b/d")),
        ] {
            detours.on_change(&no_link, now);
            assert_eq!(detours.met(), None, "{no_link:?}");
        }
        for directory in ["a", "a/b", "a/bc"] {
            for link in [
                Change::written(path(directory)),
                Change::left(path(directory)),
                Change::moved_in(path(directory)),
            ] {
                let mut detours = beside(&names, now);
                detours.on_change(&link, now);
                assert_eq!(detours.met(), Some(now), "{link:?}");
            }
        }
    }

    #[test]
    fn a_link_that_becomes_a_directory_at_work_is_met() {
        let now = Instant::now();
        for link in [Change::left(path("b")), Change::written(path("b"))] {
            let mut detours = beside(&["a"], now);
            detours.on_change(&link, now);
            detours.enter(paths(&["b"]).iter(), now);
            assert_eq!(detours.met(), None, "nothing was done in it");
            detours.enter(paths(&["b/c"]).iter(), now);
            assert_eq!(detours.met(), Some(now));
            let mut swept = beside(&[], now);
            swept.on_change(&link, now);
            swept.enter_directory(&path("b"), now);
            assert_eq!(swept.met(), Some(now));
        }
    }

    #[test]
    fn what_is_told_late_counts_and_what_happens_later_does_not() {
        let now = Instant::now();
        let link = Change::written(path("a"));
        let mut detours = beside(&["a/b"], now);
        detours.close(now);
        detours.on_change(&link, now + LATE);
        assert_eq!(detours.met(), None);
        detours.open(now + LATE);
        detours.on_change(&link, now + LATE);
        assert_eq!(detours.met(), None, "that was another time");
        let mut detours = beside(&["a/b"], now);
        detours.close(now);
        detours.on_change(&link, now + LATE / 2);
        assert_eq!(detours.met(), Some(now + LATE / 2));
    }

    #[test]
    fn directories_are_forgotten_when_no_job_is_at_work_there_any_more() {
        let now = Instant::now();
        let mut detours = beside(&["a/b"], now);
        assert!(detours.turn(now));
        assert!(!detours.turn(now + LATE / 2), "too early");
        assert!(detours.turn(now + LATE));
        detours.on_change(&Change::written(path("a")), now + LATE);
        assert_eq!(detours.met(), None);
    }

    #[test]
    fn the_latest_names_are_remembered_and_their_number_is_bounded() {
        let now = Instant::now();
        let mut detours = beside(&[], now);
        let name = |number: usize| path(&format!("f{number}"));
        for number in 0..4 * MOST {
            detours.on_change(&Change::left(name(number)), now);
        }
        let kept = detours.others.new.len() + detours.others.old.len();
        assert!((MOST..=2 * MOST).contains(&kept), "{kept}");
        detours.enter_directory(&name(0), now);
        assert_eq!(detours.met(), None);
        detours.enter_directory(&name(3 * MOST), now);
        assert_eq!(detours.met(), Some(now));
    }

    #[test]
    fn comparisons_have_pauses_unless_somebody_waits() {
        let now = Instant::now();
        let took = Duration::from_secs(3);
        let link = Change::written(path("a"));
        let mut detours = beside(&["a/b"], now);
        detours.on_compared(took, now);
        detours.on_change(&link, now);
        assert_eq!(detours.due(), Some(now), "that one was not asked for");
        assert_eq!(detours.take(), Some(now));
        assert_eq!(detours.due(), None);
        detours.on_compared(took, now);
        detours.enter(paths(&["a/b"]).iter(), now);
        detours.on_change(&link, now);
        assert_eq!(detours.due(), Some(now + took * PAUSE));
        detours.hurry();
        assert_eq!(detours.due(), Some(now));
    }
}
