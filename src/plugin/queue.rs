//! What one place is to be told and is not yet: each path once, the oldest first, and no more than a bound. Pure.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use super::owed::Ready;
use crate::change::Extent;
use crate::path::RelPath;

/// Paths that wait: past it, a place that is told ten paths a second has enough to do for more than an hour.
const MOST_PATHS: usize = 50_000;
/// And their bytes.
const MOST_BYTES: usize = 16 << 20;

type Key = (Arc<Path>, RelPath);

/// A path that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The source it is in.
    pub source: Arc<Path>,
    /// Relative to that.
    pub path: RelPath,
    /// Whether all below it came with it.
    pub extent: Extent,
    /// See [`Ready::may_be_gone`].
    pub may_be_gone: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    order: VecDeque<Key>,
    waiting: HashMap<Key, Waiting>,
    bytes: usize,
    most_paths: usize,
}

/// See [`Ready`].
#[derive(Debug)]
struct Waiting {
    extent: Extent,
    may_be_gone: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            waiting: HashMap::new(),
            bytes: 0,
            most_paths: MOST_PATHS,
        }
    }
}

impl Queue {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many paths wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Puts a path at the end, unless it waits already. `false` if there is no room.
    pub fn push(&mut self, source: &Arc<Path>, ready: &Ready) -> bool {
        let key = (Arc::clone(source), ready.path.clone());
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.extent = ready.extent.max(waiting.extent);
            // The last word counts.
            waiting.may_be_gone = ready.may_be_gone;
            return true;
        }
        let bytes = self.bytes + ready.path.as_bytes().len();
        if self.order.len() >= self.most_paths || bytes > MOST_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.order.push_back(key.clone());
        let Ready {
            extent,
            may_be_gone,
            ..
        } = *ready;
        let waiting = Waiting {
            extent,
            may_be_gone,
        };
        self.waiting.insert(key, waiting);
        true
    }

    /// Takes at most so many.
    pub fn take(&mut self, most: usize) -> Vec<Item> {
        let taken = most.min(self.order.len());
        let keys: Vec<Key> = self.order.drain(..taken).collect();
        let items = keys.into_iter().filter_map(|key| {
            let Waiting {
                extent,
                may_be_gone,
            } = self.waiting.remove(&key)?;
            let (source, path) = key;
            self.bytes -= path.as_bytes().len();
            Some(Item {
                source,
                path,
                extent,
                may_be_gone,
            })
        });
        items.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(name: &str, extent: Extent) -> Ready {
        let path = RelPath::new(name.as_bytes()).expect("a valid path");
        Ready {
            path,
            extent,
            may_be_gone: true,
        }
    }

    #[test]
    fn a_path_that_waits_keeps_its_place_and_is_told_once() {
        let source: Arc<Path> = Path::new("/data").into();
        let mut queue = Queue::default();
        for (name, extent) in [
            ("a", Extent::Entry),
            ("b", Extent::Entry),
            ("a", Extent::Subtree),
        ] {
            assert!(queue.push(&source, &ready(name, extent)));
        }
        let told: Vec<_> = queue
            .take(10)
            .into_iter()
            .map(|item| (item.path.to_string(), item.extent))
            .collect();
        assert_eq!(
            told,
            [("a".into(), Extent::Subtree), ("b".into(), Extent::Entry)]
        );
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_comes_past_the_bound_is_refused_and_what_waits_stays() {
        let source: Arc<Path> = Path::new("/data").into();
        let mut queue = Queue {
            most_paths: 2,
            ..Queue::default()
        };
        let pushed =
            ["a", "b", "c", "b"].map(|name| queue.push(&source, &ready(name, Extent::Entry)));
        assert_eq!(pushed, [true, true, false, true]);
        assert_eq!(queue.take(1).len(), 1);
        assert!(queue.push(&source, &ready("c", Extent::Entry)));
    }

    #[test]
    fn one_name_in_two_sources_is_two_paths() {
        let mut queue = Queue::default();
        for source in ["/a", "/b"] {
            let source: Arc<Path> = Path::new(source).into();
            assert!(queue.push(&source, &ready("x", Extent::Entry)));
        }
        assert_eq!(queue.len(), 2);
    }
}
