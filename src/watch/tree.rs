//! The watched directories as a tree of names: from a watch descriptor to a path, and back. Pure.
//!
//! A watch follows its inode, so a renamed directory keeps its watch and all below it: only one node moves here.
//! Every operation costs what it touches, never what is watched.

use std::collections::{BTreeMap, HashMap};

use crate::path::RelPath;

/// A directory in the tree. Never given twice, since events and timers may speak of a directory that is long gone.
pub type NodeId = u64;

/// The source root.
pub const ROOT: NodeId = 0;

#[derive(Debug, Default)]
struct Node {
    /// `None` for the root, and for a directory that is not in the tree now.
    parent: Option<NodeId>,
    name: Box<[u8]>,
    watch: Option<i32>,
    children: BTreeMap<Box<[u8]>, NodeId>,
    /// Which walk saw it last.
    seen: u64,
}

/// See the module.
#[derive(Debug)]
pub struct WatchTree {
    nodes: HashMap<NodeId, Node>,
    next: NodeId,
    by_watch: HashMap<i32, NodeId>,
}

impl WatchTree {
    /// The root alone, not watched.
    pub fn new() -> Self {
        Self {
            nodes: HashMap::from([(ROOT, Node::default())]),
            next: ROOT + 1,
            by_watch: HashMap::new(),
        }
    }

    /// Number of watches.
    pub fn watches(&self) -> usize {
        self.by_watch.len()
    }

    pub fn by_watch(&self, watch: i32) -> Option<NodeId> {
        self.by_watch.get(&watch).copied()
    }

    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(parent)?.children.get(name).copied()
    }

    /// The entry `name` of `parent`, which is made if it is not there.
    pub fn child_or_new(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        if let Some(child) = self.child(parent, name) {
            return child;
        }
        let node = Node {
            name: name.into(),
            ..Node::default()
        };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.attach(id, parent, name);
        id
    }

    /// Where a directory is, or `None` if it is not in the tree now.
    pub fn path(&self, id: NodeId) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = self.node(at)?;
            names.push(&node.name[..]);
            at = node.parent?;
        }
        names.reverse();
        RelPath::new(&names.join(&b'/'))
    }

    /// In what a directory is.
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id)?.parent
    }

    /// Whether a directory is another one, or somewhere below it.
    pub fn is_within(&self, id: NodeId, top: NodeId) -> bool {
        std::iter::successors(Some(id), |id| self.parent(*id)).any(|id| id == top)
    }

    /// A directory has this watch now. What had it before was the same directory under another name. Whether there was
    /// such a one, or this one had another watch: then the tree was wrong.
    pub fn set_watch(&mut self, id: NodeId, watch: i32) -> bool {
        let former = self.by_watch.insert(watch, id);
        let was_elsewhere = former.is_some_and(|other| other != id);
        if let Some(other) = former
            && was_elsewhere
        {
            self.detach(other);
            if let Some(node) = self.node_mut(other) {
                node.watch = None;
            }
            for child in self.remove_node(other) {
                if let Some(child) = self.node_mut(child) {
                    child.parent = None;
                }
            }
        }
        let old = self.node_mut(id).and_then(|node| node.watch.replace(watch));
        let old = old.filter(|old| *old != watch);
        if let Some(old) = old {
            self.by_watch.remove(&old);
        }
        was_elsewhere || old.is_some()
    }

    /// The kernel dropped a watch.
    pub fn forget_watch(&mut self, watch: i32) -> Option<NodeId> {
        let id = self.by_watch.remove(&watch)?;
        if let Some(node) = self.node_mut(id) {
            node.watch = None;
        }
        Some(id)
    }

    /// The watch of a directory that is known.
    pub fn watch(&self, id: NodeId) -> Option<i32> {
        self.node(id)?.watch
    }

    pub fn is_known(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Takes a directory out of its parent; it keeps its watches and its content.
    pub fn detach(&mut self, id: NodeId) {
        let Some(node) = self.node_mut(id) else {
            return;
        };
        let (parent, name) = (node.parent.take(), node.name.clone());
        let Some(parent) = parent.and_then(|parent| self.node_mut(parent)) else {
            return;
        };
        if parent.children.get(&name) == Some(&id) {
            parent.children.remove(&name);
        }
    }

    /// Puts a directory under a parent; one of that name there has been replaced and is returned with its content's
    /// watches, which are to be removed.
    pub fn attach(&mut self, id: NodeId, parent: NodeId, name: &[u8]) -> Vec<i32> {
        let replaced = self.child(parent, name).filter(|other| *other != id);
        let watches = replaced.map(|other| self.remove(other)).unwrap_or_default();
        self.detach(id);
        if let Some(node) = self.node_mut(id) {
            node.parent = Some(parent);
            node.name = name.into();
        }
        if let Some(parent) = self.node_mut(parent) {
            parent.children.insert(name.into(), id);
        }
        watches
    }

    /// Removes a directory with its content; returns the watches to be removed.
    pub fn remove(&mut self, id: NodeId) -> Vec<i32> {
        self.detach(id);
        let mut watches = Vec::new();
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            if let Some(watch) = self.node(id).and_then(|node| node.watch) {
                self.by_watch.remove(&watch);
                watches.push(watch);
            }
            pending.extend(self.remove_node(id));
        }
        watches
    }

    /// Marks a directory as seen by a walk.
    pub fn mark_seen(&mut self, id: NodeId, walk: u64) {
        if let Some(node) = self.node_mut(id) {
            node.seen = walk;
        }
    }

    /// Whether a later walk than this saw a directory.
    pub fn was_seen_after(&self, id: NodeId, walk: u64) -> bool {
        self.node(id).is_some_and(|node| node.seen > walk)
    }

    /// Every directory that a walk did not see; parents may come with their content.
    pub fn unseen(&self, walk: u64) -> Vec<NodeId> {
        let unseen = self
            .nodes
            .iter()
            .filter(|(id, node)| **id != ROOT && node.seen != walk);
        unseen.map(|(id, _)| *id).collect()
    }

    fn remove_node(&mut self, id: NodeId) -> Vec<NodeId> {
        if id == ROOT {
            return Vec::new();
        }
        self.nodes
            .remove(&id)
            .map(|node| node.children.into_values().collect())
            .unwrap_or_default()
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tree: &WatchTree, watch: i32) -> Option<String> {
        tree.path(tree.by_watch(watch)?)
            .map(|path| path.to_string())
    }

    /// `a/b/c` and `d`, with watches 1 to 4.
    fn a_tree() -> WatchTree {
        let mut tree = WatchTree::new();
        tree.set_watch(ROOT, 0);
        let a = tree.child_or_new(ROOT, b"a");
        let b = tree.child_or_new(a, b"b");
        let c = tree.child_or_new(b, b"c");
        let d = tree.child_or_new(ROOT, b"d");
        for (id, watch) in [(a, 1), (b, 2), (c, 3), (d, 4)] {
            tree.set_watch(id, watch);
        }
        tree
    }

    #[test]
    fn a_renamed_directory_keeps_its_watches() {
        let mut tree = a_tree();
        let b = tree.by_watch(2).expect("watched");
        tree.detach(b);
        assert_eq!(shown(&tree, 3), None, "nowhere now");
        let d = tree.by_watch(4).expect("watched");
        assert!(tree.attach(b, d, b"new").is_empty());
        assert_eq!(shown(&tree, 3).as_deref(), Some("d/new/c"));
        assert_eq!(shown(&tree, 1).as_deref(), Some("a"));
    }

    #[test]
    fn a_removed_directory_gives_up_all_watches_below() {
        let mut tree = a_tree();
        let a = tree.by_watch(1).expect("watched");
        let mut watches = tree.remove(a);
        watches.sort_unstable();
        assert_eq!(watches, [1, 2, 3]);
        assert_eq!(tree.watches(), 2);
        let again = tree.child_or_new(ROOT, b"again");
        tree.set_watch(again, 9);
        assert_eq!(shown(&tree, 9).as_deref(), Some("again"));
    }

    #[test]
    fn a_directory_found_under_another_name_takes_its_watch_along() {
        let mut tree = a_tree();
        let found = tree.child_or_new(ROOT, b"found");
        tree.set_watch(found, 2);
        assert_eq!(shown(&tree, 2).as_deref(), Some("found"));
        assert_eq!(shown(&tree, 3), None, "until the walk finds it too");
        let below = tree.child_or_new(found, b"c");
        tree.set_watch(below, 3);
        assert_eq!(shown(&tree, 3).as_deref(), Some("found/c"));
    }

    #[test]
    fn the_id_of_a_removed_directory_is_never_given_again() {
        let mut tree = a_tree();
        let a = tree.by_watch(1).expect("watched");
        tree.remove(a);
        let other = tree.child_or_new(ROOT, b"other");
        tree.set_watch(other, 7);
        assert!(
            tree.remove(a).is_empty(),
            "it is gone, whoever has come since"
        );
        assert_eq!(shown(&tree, 7).as_deref(), Some("other"));
    }

    #[test]
    fn a_directory_moved_onto_another_replaces_it() {
        let mut tree = a_tree();
        let d = tree.by_watch(4).expect("watched");
        let mut watches = tree.attach(d, ROOT, b"a");
        watches.sort_unstable();
        assert_eq!(watches, [1, 2, 3]);
        assert_eq!(shown(&tree, 4).as_deref(), Some("a"));
    }
}
