//! File systems that are mounted below the source, or go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::fs::OFlags;

use super::WatchThread;
use super::walk::{LazyRoot, Tell};
use crate::change::{Blindness, Change};
use crate::filter::Kind;
use crate::lasting::Lasting;
use crate::mounts::Mounted;
use crate::path::{RelPath, SourceRoot};
use crate::watch::tree::{NodeId, ROOT};

/// Why a directory is not watched that was a mount point.
pub(super) fn not_mounted() -> Blindness {
    Blindness::Failed("its file system is not mounted".into())
}

impl WatchThread {
    /// Whether a file system is mounted at a directory of the source.
    pub(super) fn is_mounted(&self, path: &RelPath, root: &mut LazyRoot) -> io::Result<bool> {
        let (Some(root), Some(parent)) = (root.take(&self.config, self.identity), path.parent())
        else {
            return Ok(false);
        };
        let fd = root.open_dir(path, OFlags::PATH)?;
        if let Some(is_mount) = Lasting::of(&fd)?.is_mount {
            return Ok(is_mount);
        }
        let above = root.open_dir(&parent, OFlags::PATH)?;
        Ok(rustix::fs::fstat(&fd)?.st_dev != rustix::fs::fstat(&above)?.st_dev)
    }

    pub(super) fn mounts_below(&self, root: &SourceRoot) -> BTreeMap<RelPath, Mounted> {
        let table = self.table.as_ref();
        table
            .and_then(|table| table.below(root).ok())
            .unwrap_or_default()
    }

    /// Something was mounted or unmounted somewhere. Neither raises an event where it is done by binding a directory, and
    /// mounting never does. Where it was below the root, that part is walked and compared; what the lanes make of a
    /// bare mount point is for their guards.
    pub(super) fn on_mounts(&mut self) {
        if let Some(table) = &mut self.table
            && table.read().is_err()
        {
            return;
        }
        let mut root = LazyRoot::default();
        if let Some(source) = root.take(&self.config, self.identity)
            && !self.config.one_file_system
        {
            let now = self.mounts_below(&source);
            let before = std::mem::replace(&mut self.mounts, now.clone());
            let paths: BTreeSet<&RelPath> = before.keys().chain(now.keys()).collect();
            for path in paths {
                if before.get(path) != now.get(path) {
                    self.on_mount(path, now.contains_key(path), &mut root);
                }
            }
        }
        // It may have been the root, or a directory above it.
        self.root_is_gone(false);
    }

    fn node_at(&mut self, path: &RelPath) -> NodeId {
        let names = path.as_bytes().split(|byte| *byte == b'/');
        names.fold(ROOT, |node, name| self.tree.child_or_new(node, name))
    }

    fn on_mount(&mut self, path: &RelPath, is_mounted: bool, root: &mut LazyRoot) {
        let filter = self.config.filter.as_ref();
        if filter.is_some_and(|filter| filter.covers(path, Kind::Directory)) {
            return;
        }
        let node = self.node_at(path);
        if !is_mounted {
            // Where it was bound, or was unmounted lazily, its watches are still those of what was there.
            self.remove(node);
        }
        let node = self.node_at(path);
        self.unmounted.remove(&node);
        self.walk_new(root, node, Tell::Nothing);
        self.changes.push(Change::subtree(path.clone()));
    }
}
