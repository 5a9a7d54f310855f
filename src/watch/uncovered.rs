//! Directories that are not watched or could not be read: when they are tried again, and what is told of them. Pure.
//!
//! Each try has them compared with the receivers, so what changes there is seen, only later. The tries get rarer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::tree::NodeId;
use crate::change::Blindness;

/// The first try comes soon: a full table of descriptors is a matter of moments.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait between two tries, each of which costs a comparison.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Default)]
pub struct Uncovered {
    nodes: BTreeSet<NodeId>,
    cause: Option<Blindness>,
    due: Option<Instant>,
    wait: Duration,
    told: usize,
    told_of_watches: bool,
}

impl Uncovered {
    /// Number of directories.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether this directory is one of them.
    pub fn holds(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// A directory could not be watched or read.
    pub fn insert(&mut self, node: NodeId, cause: Blindness, now: Instant) {
        if self.nodes.is_empty() && self.due.is_none() {
            self.wait = self.wait.max(FIRST_WAIT);
        }
        self.nodes.insert(node);
        // Where watches are missing, somebody can do something about it.
        if cause == Blindness::NoWatches {
            self.cause = Some(cause);
        } else {
            self.cause.get_or_insert(cause);
        }
        self.due.get_or_insert(now + self.wait);
    }

    /// A directory is watched and read, or gone.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        if self.nodes.is_empty() {
            self.clear();
        }
    }

    /// Everything is walked anew.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.due = None;
    }

    /// When they are to be tried again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The directories to be tried at `now`: those that fail again come back.
    pub fn take(&mut self, now: Instant) -> BTreeSet<NodeId> {
        if self.due.is_none_or(|due| due > now) {
            return BTreeSet::new();
        }
        self.due = None;
        self.told_of_watches &= self.cause == Some(Blindness::NoWatches);
        self.cause = None;
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        std::mem::take(&mut self.nodes)
    }

    /// Their number and the cause, if the number has changed much since it was told last.
    pub fn take_news(&mut self) -> Option<(u64, Blindness)> {
        let (len, told) = (self.nodes.len(), self.told);
        let lacks_watches = self.cause == Some(Blindness::NoWatches);
        let is_news = match (told, len) {
            (0, 0) => false,
            (0, _) | (_, 0) => true,
            _ => len > told * 2 || (lacks_watches && !self.told_of_watches),
        };
        if !is_news {
            return None;
        }
        self.told = len;
        self.told_of_watches = lacks_watches && len > 0;
        let cause = self.cause.clone().unwrap_or(Blindness::NoWatches);
        if len == 0 {
            self.wait = Duration::ZERO;
            self.cause = None;
        }
        Some((len as u64, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_stays_unwatched_is_tried_at_growing_intervals_and_told_once() {
        let mut uncovered = Uncovered::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            uncovered.insert(7, Blindness::Denied, now);
            let due = uncovered.due().expect("a time");
            waits.push((due - now).as_secs());
            assert_eq!(uncovered.take_news().is_some(), waits.len() == 1);
            assert!(uncovered.take(now).is_empty(), "not yet");
            now = due;
            assert_eq!(uncovered.take(now), BTreeSet::from([7]));
        }
        assert_eq!(waits[..3], [2, 4, 8]);
        assert_eq!(waits[11], 300);
        let news = uncovered.take_news();
        assert_eq!(news.map(|(directories, _)| directories), Some(0));
        assert!(uncovered.due().is_none() && uncovered.take_news().is_none());
    }

    #[test]
    fn a_new_trouble_after_all_was_well_is_tried_soon() {
        let mut uncovered = Uncovered::default();
        let now = Instant::now();
        uncovered.insert(1, Blindness::NoWatches, now);
        let later = now + LONGEST_WAIT;
        uncovered.take(later);
        uncovered.take_news();
        uncovered.insert(2, Blindness::NoWatches, later);
        uncovered.forget(2);
        assert!(uncovered.due().is_none());
        uncovered.take_news();
        uncovered.insert(3, Blindness::NoWatches, later);
        assert!(
            uncovered
                .due()
                .is_some_and(|due| due <= later + FIRST_WAIT * 2)
        );
    }

    #[test]
    fn a_lack_of_watches_is_told_each_time_whatever_else_is_not_watched() {
        let mut uncovered = Uncovered::default();
        let mut now = Instant::now();
        let other = || Blindness::Failed("it is elsewhere".into());
        uncovered.insert(1, other(), now);
        assert_eq!(uncovered.take_news(), Some((1, other())));
        let lacking = Some((2, Blindness::NoWatches));
        for (lacks, news) in [
            (true, lacking.clone()),
            (true, None),
            (false, None),
            (true, lacking),
            (true, None),
        ] {
            now = uncovered.due().expect("a time");
            uncovered.take(now);
            uncovered.insert(1, other(), now);
            if lacks {
                uncovered.insert(2, Blindness::NoWatches, now);
            }
            assert_eq!(uncovered.take_news(), news, "{lacks}");
        }
    }
}
