//! What an event of the kernel means.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::inotify::ReadFlags;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use super::volumes::not_mounted;
use super::walk::{LazyRoot, Tell};
use super::{Event, Move, Named, WatchThread};
use crate::change::Change;
use crate::config::Removals;
use crate::filter::Kind;
use crate::path::{RelPath, proc_path};
use crate::watch::tree::{NodeId, ROOT};

/// What says that a directory's own attributes changed: a call that sets its modification time alone counts as a
/// modification.
const DIRECTORY_ATTRIBUTES: ReadFlags = ReadFlags::ATTRIB.union(ReadFlags::MODIFY);

/// What says that a directory got a name, or lost it to live on elsewhere.
const COMES_OR_MOVES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);

impl WatchThread {
    pub(super) fn on_event(&mut self, event: &Event, root: &mut LazyRoot) {
        let flags = event.flags;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.on_overflow();
        }
        if flags.contains(ReadFlags::IGNORED) {
            if self.tree.forget_watch(event.watch) == Some(ROOT) {
                self.root_is_gone(true);
            }
            return;
        }
        let Some(dir) = self.tree.by_watch(event.watch) else {
            return;
        };
        if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            if dir == ROOT {
                self.root_is_gone(!flags.contains(ReadFlags::MOVE_SELF));
            } else if flags.contains(ReadFlags::UNMOUNT) {
                self.unmounted.insert(dir);
                self.uncovered.insert(dir, not_mounted(), Instant::now());
            }
            return;
        }
        let Some(path) = self.tree.path(dir) else {
            // Below a directory that is on its way. If it comes back, it is walked.
            let moving = self.moves.values_mut().chain(self.displaced.values_mut());
            moving.for_each(|moving| moving.stirred = true);
            return;
        };
        if event.name.is_empty() {
            if flags.intersects(DIRECTORY_ATTRIBUTES) && self.config.switches.attrib {
                self.changes.push(Change::entry(path));
            }
            return;
        }
        let path = path.join(&event.name);
        let is_directory = flags.contains(ReadFlags::ISDIR);
        if self.is_excluded(&path, Kind::directory_if(is_directory)) {
            self.on_excluded(event, dir);
        } else if is_directory {
            self.on_directory(event, dir, path, root);
        } else {
            self.on_file(event, dir, path);
        }
    }

    /// Whether an entry of a directory that is watched is not mirrored.
    pub(super) fn is_excluded(&self, path: &RelPath, kind: Kind) -> bool {
        let filter = self.config.filter.as_ref();
        filter.is_some_and(|filter| filter.excludes(path, kind))
    }

    /// Nobody hears of it, but something may have come to it that was watched under another name.
    fn on_excluded(&mut self, event: &Event, dir: NodeId) {
        self.forget_open(dir, &event.name);
        if event.flags.contains(ReadFlags::MOVED_TO)
            && let Some(moving) = self.moves.remove(&event.cookie)
        {
            self.remove(moving.node);
        }
        if let Some(node) = self.tree.child(dir, &event.name)
            && event.flags.contains(ReadFlags::ISDIR)
        {
            self.remove(node);
        }
    }

    /// An entry is no longer there, by a means whose switch is on or off.
    fn on_removed(&mut self, change: Change, is_on: bool) {
        match self.config.switches.removals() {
            Removals::All => self.changes.push(change),
            Removals::Seen => self.changes.push(Change {
                removed: is_on,
                kept: !is_on,
                ..change
            }),
            Removals::None => {}
        }
    }

    fn on_file(&mut self, event: &Event, dir: NodeId, path: RelPath) {
        let switches = self.config.switches;
        let name = &event.name;
        let flags = event.flags;
        if flags.contains(ReadFlags::CREATE) {
            if switches.create_file {
                self.changes.push(Change::written(path));
            }
            // Sent at once, its content is still waited for, unless its close is told anyway.
            let settled = switches.create_file && switches.close_write;
            let named = Named {
                settled,
                written: true,
            };
            self.named.insert((dir, name.clone()), named);
        } else if flags.contains(ReadFlags::MODIFY) {
            if switches.modify {
                self.look_later(dir, name, true);
                self.changes.push(Change::written(path));
            } else if self.is_settled(dir, name)
                && (switches.close_write || self.open_files.holds(dir, name))
            {
                // It may be removed before it is closed.
                if !self.open_files.holds(dir, name) {
                    self.look_later(dir, name, false);
                }
                self.open_files.on_write(dir, name, Instant::now());
            }
        } else if flags.contains(ReadFlags::CLOSE_WRITE) {
            let awaited = self.forget_open(dir, name);
            if switches.close_write || awaited {
                self.look_later(dir, name, true);
                self.changes.push(Change::written(path));
            }
        } else if flags.contains(ReadFlags::ATTRIB) {
            if switches.attrib {
                self.look_later(dir, name, false);
                self.changes.push(Change::entry(path));
            }
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.forget_open(dir, name);
            if switches.move_to {
                let named = Named {
                    settled: true,
                    written: true,
                };
                self.named.insert((dir, name.clone()), named);
                self.changes.push(Change::written(path));
            }
        } else if flags.contains(ReadFlags::DELETE) {
            self.on_name_lost(dir, name, &path, switches.delete);
            self.on_removed(Change::left(path), switches.delete);
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            self.on_name_lost(dir, name, &path, switches.move_from);
            self.on_removed(Change::left(path), switches.move_from);
        }
    }

    /// A file was changed through a name that it may have had before: it may have others.
    fn look_later(&mut self, dir: NodeId, name: &[u8], written: bool) {
        let named = self.named.entry((dir, name.into())).or_insert(Named {
            settled: true,
            written,
        });
        named.written |= written;
    }

    /// What was written through a name that is gone shows under the others that the file may have.
    fn on_name_lost(&mut self, dir: NodeId, name: &[u8], path: &RelPath, is_on: bool) {
        if self.forget_open(dir, name) {
            self.changes.push(Change {
                kept: !is_on,
                ..Change::written(path.clone())
            });
        }
    }

    fn is_settled(&self, dir: NodeId, name: &[u8]) -> bool {
        let named = self.named.get(&(dir, name.into()));
        named.is_none_or(|named| named.settled)
    }

    /// Whether the file was waited for: it is new, or was written to.
    fn forget_open(&mut self, dir: NodeId, name: &[u8]) -> bool {
        let named = self.named.get_mut(&(dir, name.into()));
        let is_new = named.is_some_and(|named| !std::mem::replace(&mut named.settled, true));
        self.open_files.on_end(dir, name) || is_new
    }

    fn on_directory(&mut self, event: &Event, dir: NodeId, path: RelPath, root: &mut LazyRoot) {
        let switches = self.config.switches;
        let flags = event.flags;
        if flags.intersects(COMES_OR_MOVES) {
            self.unsure.insert(dir, &event.name);
        }
        if flags.contains(ReadFlags::CREATE) {
            if switches.create_folder {
                // What is no directory and excluded comes and goes under its name without a word.
                let change = if self.is_excluded(&path, Kind::Other) {
                    Change::subtree(path)
                } else {
                    Change::entry(path)
                };
                self.changes.push(change);
            }
            let node = self.tree.child_or_new(dir, &event.name);
            self.walk_new(root, node, Tell::Entries);
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.on_moved_to(event, dir, root);
            if switches.move_to {
                self.changes.push(Change::moved_in(path));
            }
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            if let Some(moving) = self.take_moving(dir, &event.name)
                && let Some(other) = self.moves.insert(event.cookie, moving)
            {
                self.remove(other.node);
            }
            self.on_removed(Change::subtree(path), switches.move_from);
        } else if flags.contains(ReadFlags::DELETE) {
            if let Some(node) = self.tree.child(dir, &event.name) {
                self.remove(node);
            }
            self.on_removed(Change::subtree(path), switches.delete);
        } else if flags.intersects(DIRECTORY_ATTRIBUTES) && switches.attrib {
            // It may have become readable.
            match self.tree.child(dir, &event.name) {
                Some(node) if self.uncovered.holds(node) => {
                    self.walk_new(root, node, Tell::Nothing);
                    self.changes.push(Change::subtree(path));
                }
                _ => self.changes.push(Change::entry(path)),
            }
        }
    }

    /// A directory came in: one of ours keeps its watches, another is walked before anybody hears of it, so that
    /// nothing below it can change unseen after it was sent.
    fn on_moved_to(&mut self, event: &Event, dir: NodeId, root: &mut LazyRoot) {
        let moving = self.moves.remove(&event.cookie);
        self.displace(dir, &event.name);
        if let Some(moving) = moving.filter(|moving| self.tree.is_known(moving.node)) {
            self.tree.attach(moving.node, dir, &event.name);
            // What a filter says of an entry depends on where it is.
            let is_filtered = self.config.filter.is_some();
            let is_uncertain = self.walked.holds_any_in(&self.tree, moving.node);
            if is_filtered
                || is_uncertain
                || moving.stirred
                || !self.stands_where_it_should(moving.node, root)
            {
                self.walk_new(root, moving.node, Tell::Nothing);
            }
        } else {
            let node = self.tree.child_or_new(dir, &event.name);
            self.walk_new(root, node, Tell::Nothing);
        }
    }

    /// Whether the directory at a path is the one that is watched as such: events tell of the past.
    fn stands_where_it_should(&self, node: NodeId, root: &mut LazyRoot) -> bool {
        let (Some(path), Some(watch)) = (self.tree.path(node), self.tree.watch(node)) else {
            return false;
        };
        let Some(root) = root.take(&self.config, self.identity) else {
            return false;
        };
        root.open_dir(&path, OFlags::RDONLY)
            .is_ok_and(|fd| self.is_watched_as(&fd, node, watch))
    }

    fn is_watched_as(&self, fd: &OwnedFd, node: NodeId, watch: i32) -> bool {
        let mask = self.mask(node);
        rustix::fs::inotify::add_watch(&self.inotify, proc_path(fd.as_fd()), mask) == Ok(watch)
    }

    /// The same of a name, where there may be no directory, or none that is to be watched.
    pub(super) fn is_watched_if_there(
        &self,
        dir: NodeId,
        name: &[u8],
        path: &RelPath,
        root: &mut LazyRoot,
    ) -> bool {
        if self.is_excluded(path, Kind::Directory) {
            return true;
        }
        let Some(root) = root.take(&self.config, self.identity) else {
            return true;
        };
        // What cannot be opened either is gone, of which an event tells, or is known not to be watched.
        let Ok(fd) = root.open_dir(path, OFlags::RDONLY) else {
            return true;
        };
        let is_foreign = |stat: Stat| stat.st_dev != self.identity.device;
        if self.config.one_file_system && rustix::fs::fstat(&fd).is_ok_and(is_foreign) {
            return true;
        }
        let node = self.tree.child(dir, name);
        let watched = node.and_then(|node| Some((node, self.tree.watch(node)?)));
        watched.is_some_and(|(node, watch)| self.is_watched_as(&fd, node, watch))
    }

    /// A directory leaves its name; when two change names, the one that has lost its name to the other.
    fn take_moving(&mut self, dir: NodeId, name: &[u8]) -> Option<Move> {
        if let Some(displaced) = self.displaced.remove(&(dir, name.into())) {
            return Some(displaced);
        }
        let node = self.tree.child(dir, name)?;
        Some(self.detach(node))
    }

    fn detach(&mut self, node: NodeId) -> Move {
        let stirred = self.walked.concerns(&self.tree, node);
        self.tree.detach(node);
        Move {
            node,
            since: Instant::now(),
            stirred,
        }
    }

    /// Whatever has this name loses it to another.
    fn displace(&mut self, dir: NodeId, name: &[u8]) {
        let Some(node) = self.tree.child(dir, name) else {
            return;
        };
        let moving = self.detach(node);
        if let Some(other) = self.displaced.insert((dir, name.into()), moving) {
            self.remove(other.node);
        }
    }

    /// Looks at the files that got a name in this drain or were changed. Of new ones that were not closed, what is never
    /// closed is reported now, the others wait. Hard links are made known: their other names share what was done.
    pub(super) fn look_at_named(&mut self, root: &mut LazyRoot) {
        if self.named.is_empty() {
            return;
        }
        let now = Instant::now();
        for ((dir, name), Named { settled, written }) in std::mem::take(&mut self.named) {
            let Some(parent) = self.tree.path(dir) else {
                continue;
            };
            let path = parent.join(&name);
            let Some(root) = root.take(&self.config, self.identity) else {
                self.changes.push(Change::written(path));
                continue;
            };
            let stat = rustix::fs::statat(&*root, path.as_path(), AtFlags::SYMLINK_NOFOLLOW).ok();
            // If it is gone, the event that says so follows.
            let Some(stat) = stat else { continue };
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let linked = (is_file && stat.st_nlink > 1).then_some(stat.st_ino);
            if linked.is_some() || !settled && !is_file {
                self.changes.push(Change {
                    written,
                    linked,
                    ..Change::entry(path)
                });
            } else if !settled {
                self.open_files.on_write(dir, &name, now);
            }
        }
    }
}
