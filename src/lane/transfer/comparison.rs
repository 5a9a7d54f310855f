//! Trees are compared as a whole; those that cannot be made equal so are taken apart.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Dir, FileType, OFlags};

use super::guarded::Deed;
use super::{Transfer, on_disk};
use crate::change::Extent;
use crate::dirty::DirtyPath;
use crate::lane::{End, Split, sample};
use crate::path::{RelPath, SourceRoot};
use crate::rsync::{Exit, RunKind, args};

/// Directories with more entries are not taken apart.
const MOST_CHILDREN: usize = 20_000;

impl Transfer {
    pub(super) async fn compare(&mut self, trees: Vec<DirtyPath>) {
        if trees.is_empty() {
            return;
        }
        let root = if self.context.compares_with_deletion() {
            self.context.open_root_to_delete().await
        } else {
            self.context.open_root().await
        };
        match root {
            Ok(root) => {
                let root = Arc::new(root);
                self.look_at_volumes(&root).await;
                let trees = self.spared(&root, trees, Deed::Compare);
                if trees.is_empty() {
                    return;
                }
                if self.forms.exact_times.is_none() {
                    self.learn_exact_times(&root, &trees).await;
                }
                let is_everything = trees.iter().any(|dirty| dirty.path.is_root());
                let delete = self.context.compares_with_deletion() && self.forms.delete_in_trees;
                if let Some(filter) = self.filter.clone() {
                    // What was moved in is compared by content, and the others are not.
                    let is_moved_in = |tree: &DirtyPath| tree.written;
                    let (moved_in, others): (Vec<_>, Vec<_>) =
                        trees.into_iter().partition(is_moved_in);
                    let mut delete = delete;
                    for trees in [others, moved_in] {
                        if !trees.is_empty() {
                            let filter = Arc::clone(&filter);
                            self.compare_filtered(&root, trees, filter, delete).await;
                        }
                        // Nothing is deleted at a remote that could not be compared as a whole the first time.
                        let mut synced = self.report.synced.iter();
                        delete &= !is_everything
                            || !self.context.guard.is_first_contact()
                            || synced.any(|dirty| dirty.path.is_root());
                    }
                } else {
                    // With a limit the comparison is rehearsed anyway, which tells the same, but for what is mounted below.
                    let is_rehearsed =
                        self.budget.is_some() && self.view.parts_of(&RelPath::root()).is_empty();
                    let is_foreseen = !is_everything || !delete || is_rehearsed;
                    if !is_foreseen && !self.foresee(&root).await {
                        return self.report.again.extend(trees);
                    }
                    if is_everything && !is_rehearsed {
                        self.relate(&root, delete).await;
                    }
                    self.compare_trees(&root, trees, delete).await;
                }
                self.split(&root, delete).await;
                let mut synced = self.report.synced.iter();
                self.has_compared_everything = is_everything
                    && self.excludes.is_empty()
                    // What may not be removed is a difference.
                    && self.report.withheld.is_empty()
                    && synced.any(|dirty| dirty.path.is_root());
            }
            Err(hold) => self.hold(hold, trees),
        }
    }

    /// Takes the trees apart that cannot be made equal as a whole.
    pub(super) async fn split(&mut self, root: &Arc<SourceRoot>, deletes: bool) {
        for (tree, failure) in std::mem::take(&mut self.indivisible) {
            let (root, dir, since) = (Arc::clone(root), tree.path.clone(), tree.since);
            let listing = on_disk(move || children(&root, &dir, since));
            match listing.await {
                Some(Ok(children)) => self.report.split.push(Split {
                    tree,
                    children,
                    deletes,
                    failure,
                }),
                Some(Err(_)) | None => self.report.failed.push((tree, failure)),
            }
        }
    }

    /// Finds out whether the receiver keeps fractions of seconds, by some files that are equal there but for those.
    async fn learn_exact_times(&mut self, root: &Arc<SourceRoot>, trees: &[DirtyPath]) {
        if self.context.remote.params.modify_window() {
            // It holds for whatever is asked.
            self.forms.exact_times = Some(false);
            self.report.exact_times = self.forms.exact_times;
            return;
        }
        let changed: Vec<RelPath> = trees.iter().map(|dirty| dirty.path.clone()).collect();
        let below = Arc::clone(root);
        let sampling = on_disk(move || sample::files(&below, &changed));
        let files = sampling.await.unwrap_or_default();
        if files.is_empty() || self.report.end != End::Reached {
            return;
        }
        let mut equal = [0; 2];
        for (exact, equal) in [false, true].into_iter().zip(&mut equal) {
            let asked = self.child(root, RunKind::Ask { exact }, args::list(&files));
            let Some(ended) = asked.await else { return };
            if !matches!(ended.exit, Exit::Code(0)) {
                return;
            }
            *equal = (files.len() as u64).saturating_sub(ended.stats.files_sent);
        }
        self.forms.exact_times = sample::verdict(equal[0], equal[1]);
        self.report.exact_times = self.forms.exact_times;
    }
}

/// What a directory holds, to be made equal one by one.
fn children(root: &SourceRoot, dir: &RelPath, since: Instant) -> io::Result<Vec<DirtyPath>> {
    let mut children = Vec::new();
    let opened = root.open_dir(dir, OFlags::RDONLY)?;
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        // Whoever takes it up looks at what it is then.
        let extent = match entry.file_type() {
            FileType::Directory | FileType::Unknown => Extent::Subtree,
            _ => Extent::Entry,
        };
        children.push(DirtyPath {
            since,
            ..DirtyPath::now(dir.join(name), extent)
        });
        if children.len() > MOST_CHILDREN {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
    Ok(children)
}
