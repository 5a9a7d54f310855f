//! Names of directories that may not be watched, since events told of the past what a walk had seen of the present. Pure.
//!
//! A walk finds a directory under a name that it has only by a later rename: its watch is then taken for that name at
//! once. The events in between still speak of what had the name before, and move the wrong directory in the tree. Mostly a
//! later event puts that right. Not always: of two directories that change names (`RENAME_EXCHANGE`) one comes to a name
//! before the other is said to leave it, so if the other is not known there any more, the first one leaves in its stead and
//! its name is left to nobody. Whenever a walk comes upon such a contradiction, the names that directories came to or left
//! are looked at once more as soon as the kernel has told everything.

use std::collections::BTreeSet;

use super::super::tree::NodeId;

/// Names kept. With more, everything is walked if there is need.
const MOST_NAMES: usize = 100_000;

pub(super) type Name = (NodeId, Box<[u8]>);

/// What is to be looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    Nothing,
    Names(BTreeSet<Name>),
    Everything,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// Since the kernel's queue was empty.
    now: BTreeSet<Name>,
    /// Between the last two times that it was.
    before: BTreeSet<Name>,
    is_contradicted: bool,
    /// There were more names than are kept.
    is_overfull: bool,
}

impl Unsure {
    /// A directory came to this name or left it.
    pub fn insert(&mut self, dir: NodeId, name: &[u8]) {
        if self.now.len() < MOST_NAMES {
            self.now.insert((dir, name.into()));
        } else {
            self.is_overfull = true;
        }
    }

    /// A walk found a directory where the events had not led to it.
    pub fn contradict(&mut self) {
        self.is_contradicted = true;
    }

    /// Everything is walked.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All that was read is handled, and the last reading left nothing in the queue.
    pub fn on_drained(&mut self) -> Doubt {
        let now = std::mem::take(&mut self.now);
        if !std::mem::take(&mut self.is_contradicted) {
            self.before = now;
            self.is_overfull = false;
            return Doubt::Nothing;
        }
        if std::mem::take(&mut self.is_overfull) {
            return Doubt::Everything;
        }
        let mut names = std::mem::replace(&mut self.before, now.clone());
        names.extend(now);
        Doubt::Names(names)
    }

    /// They could not be looked at.
    pub fn put_back(&mut self, names: BTreeSet<Name>) {
        self.now.extend(names);
        self.is_contradicted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tree::ROOT;

    #[test]
    fn names_are_looked_at_after_a_contradiction_with_those_of_the_drain_before() {
        let mut unsure = Unsure::default();
        for name in [b"old", b"one"] {
            unsure.insert(ROOT, name);
            assert_eq!(unsure.on_drained(), Doubt::Nothing, "nothing contradicts");
        }
        unsure.insert(ROOT, b"two");
        unsure.contradict();
        let names = [b"one", b"two"].map(|name| (ROOT, (*name).into()));
        assert_eq!(unsure.on_drained(), Doubt::Names(names.into()));
        assert_eq!(unsure.on_drained(), Doubt::Nothing, "they were looked at");
    }

    #[test]
    fn more_names_than_are_kept_matter_only_if_something_contradicts_them() {
        let mut unsure = Unsure::default();
        for is_contradicted in [false, true] {
            for number in 0..=MOST_NAMES {
                unsure.insert(ROOT, number.to_string().as_bytes());
            }
            if is_contradicted {
                unsure.contradict();
            }
            let everything = unsure.on_drained() == Doubt::Everything;
            assert_eq!(everything, is_contradicted);
        }
    }
}
