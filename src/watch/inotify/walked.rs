//! The directories that were walked by their paths while the kernel may have had events that tell of other paths. Pure.
//!
//! Events are of the past, a walk sees the present. Below a directory that was renamed meanwhile, a walk finds nothing, or
//! the content of another directory. The event that says so comes later, and until then nobody knows: so a directory
//! that moves is walked again if there was such a walk below it.

use std::collections::BTreeSet;

use super::super::tree::{NodeId, WatchTree};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Since the kernel's queue was empty.
    now: Walks,
    /// Between the last two times that it was: what had happened by then is read by now, but not yet handled.
    before: Walks,
}

#[derive(Debug, Default)]
struct Walks {
    /// Where they began.
    begun: BTreeSet<NodeId>,
    /// Where they missed something.
    missed: BTreeSet<NodeId>,
}

impl Walked {
    /// A walk began here.
    pub fn insert(&mut self, node: NodeId) {
        self.now.begun.insert(node);
    }

    /// A walk missed something in here.
    pub fn insert_missed(&mut self, node: NodeId) {
        self.now.missed.insert(node);
    }

    /// All that was read is handled, and the last reading left nothing in the queue.
    pub fn on_drained(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Whether one of them is this directory or below it.
    pub fn holds_any_in(&self, tree: &WatchTree, dir: NodeId) -> bool {
        let sets = [&self.now, &self.before].into_iter();
        let mut all = sets.flat_map(|walks| walks.begun.iter().chain(&walks.missed));
        all.any(|node| tree.is_within(*node, dir))
    }

    /// The same, or a walk began above it: it may have met another directory under this one's name.
    pub fn concerns(&self, tree: &WatchTree, dir: NodeId) -> bool {
        let is_begun =
            |node: NodeId| self.now.begun.contains(&node) || self.before.begun.contains(&node);
        std::iter::successors(Some(dir), |node| tree.parent(*node)).any(is_begun)
            || self.holds_any_in(tree, dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tree::ROOT;

    #[test]
    fn a_walk_counts_until_all_that_had_happened_before_it_is_handled() {
        let mut tree = WatchTree::new();
        let parent = tree.child_or_new(ROOT, b"a");
        let child = tree.child_or_new(parent, b"new");
        let other = tree.child_or_new(ROOT, b"b");
        let mut walked = Walked::default();
        walked.insert(child);
        // What was read before the walk is handled, then what was read after it.
        for _ in 0..2 {
            assert!(walked.holds_any_in(&tree, parent));
            assert!(walked.holds_any_in(&tree, child));
            assert!(!walked.holds_any_in(&tree, other));
            walked.on_drained();
        }
        assert!(!walked.holds_any_in(&tree, parent));
    }

    #[test]
    fn a_walk_from_above_may_have_met_what_moves_meanwhile() {
        let mut tree = WatchTree::new();
        let site = tree.child_or_new(ROOT, b"site");
        let below = tree.child_or_new(site, b"m");
        let mut walked = Walked::default();
        walked.insert(ROOT);
        assert!(walked.concerns(&tree, below) && !walked.holds_any_in(&tree, below));
        walked.on_drained();
        walked.on_drained();
        assert!(!walked.concerns(&tree, below));
    }
}
