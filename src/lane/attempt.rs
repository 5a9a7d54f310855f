//! What a person can try by hand for a path that failed: the run that the next try would be, as the source is now.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FileType, OFlags};

use super::context::Context;
use crate::by_hand::{Attempt, Entry};
use crate::change::Extent;
use crate::config::Removals;
use crate::path::{LONGEST_LISTED, RelPath, SourceRoot, look};
use crate::rsync::{Forms, Pace, RunKind, args};
use crate::saved::{Line, SavedFailure};

/// What the source has under a name.
enum Found {
    Nothing,
    Directory,
    Another,
}

impl Context {
    /// Has a path recorded that failed for the first time. Further tries of it are no news.
    pub(super) fn record(self: &Arc<Self>, line: &Line, forms: Forms) {
        let Line::Failed(path, saved) = line else {
            return;
        };
        if saved.attempts > 1 {
            return;
        }
        let (context, path, saved) = (Arc::clone(self), path.clone(), saved.clone());
        let at = SystemTime::now();
        self.fail_log.record(move || {
            let entry = Entry {
                at,
                source: &context.source,
                target: &context.remote.target.to_string(),
                path: &path,
                failure: &saved.failure,
                attempt: context.attempt(&path, &saved, forms),
            };
            entry.render()
        });
    }

    fn attempt(
        &self,
        path: &RelPath,
        saved: &SavedFailure,
        forms: Forms,
    ) -> Result<Attempt, &'static str> {
        const FILTERED: &str = "beside a filter no single command does it";
        if path.as_bytes().len() > LONGEST_LISTED {
            return Err("rsync takes no path of this length");
        }
        let root = self
            .open_root_now()
            .map_err(|_| "the source is not there")?;
        let found = find(&root, path).map_err(|_| "its directory is not there any more")?;
        let is_filtered = self.filter.is_some();
        let kind = match (found, saved.extent) {
            (Found::Nothing, _) => {
                let is_wanted = match self.removals {
                    Removals::All => true,
                    Removals::Seen => saved.removed,
                    Removals::None => false,
                };
                if !is_wanted {
                    return Err("it is gone, and the switches let nothing be removed");
                }
                if is_filtered {
                    return Err(FILTERED);
                }
                if !forms.delete_by_name && self.picks() {
                    return Err("a single run would remove more than that");
                }
                RunKind::Delete {
                    by_name: forms.delete_by_name,
                }
            }
            (Found::Directory, Extent::Subtree) if is_filtered => return Err(FILTERED),
            (Found::Directory, Extent::Subtree) => {
                RunKind::tree(self.compares_with_deletion() && forms.delete_in_trees)
            }
            _ => RunKind::Send { ignore_times: true },
        };
        let list = match kind {
            RunKind::Delete { by_name: false } => args::parents_list([path]),
            _ => args::list([path]),
        };
        Ok(Attempt {
            identity: self.identity,
            args: self.launch(&root, kind, forms, Pace::Long).args,
            list,
        })
    }
}

fn find(root: &SourceRoot, path: &RelPath) -> io::Result<Found> {
    let Some(parent) = path.parent() else {
        return Ok(Found::Directory);
    };
    let dir = root.open_dir(&parent, OFlags::PATH)?;
    match look(dir.as_fd(), path.name()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Ok(Found::Directory)
        }
        Ok(_) => Ok(Found::Another),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}
