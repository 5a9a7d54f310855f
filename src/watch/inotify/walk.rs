//! The walk: each directory is watched first and read then, so that nothing falls between.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::super::WatchConfig;
use super::super::tree::NodeId;
use super::{MESSAGE, RACY, WatchThread};
use crate::change::{Blindness, Change};
use crate::filter::Kind;
use crate::path::{Identity, RelPath, SourceRoot, look, proc_path};

/// While a walk lasts, events are read this often so that the kernel's queue does not overflow.
const DIRECTORIES_PER_READ: usize = 256;
/// A directory of so many entries is a part of the work that shows.
const ENTRIES_PER_BEAT: usize = 1024;
/// Events kept while a walk lasts. More is treated as an overflow.
const MOST_BACKLOG: usize = 1_000_000;

/// What a walk says of the entries it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// Nothing: the caller says that the whole tree may differ.
    Nothing,
    /// Each entry may differ: it may have come before the watch.
    Entries,
    /// What one of the filters before excluded.
    Uncovered,
    /// Files written a moment ago: their last events may have been dropped.
    Racy(SystemTime),
}

impl WatchThread {
    pub(super) fn walk_new(&mut self, root: &mut LazyRoot, node: NodeId, tell: Tell) {
        match root.take(&self.config, self.identity) {
            Some(root) => self.walk(&root, node, tell),
            None => self.uncover(
                node,
                Blindness::Failed("the source cannot be opened".into()),
            ),
        }
    }

    /// This directory is not watched, or was not read.
    pub(super) fn uncover(&mut self, node: NodeId, cause: Blindness) {
        self.tree.mark_seen(node, self.walks);
        self.uncovered.insert(node, cause, Instant::now());
    }

    /// Watches a directory and all below it.
    pub(super) fn walk(&mut self, root: &SourceRoot, node: NodeId, tell: Tell) {
        self.walks += 1;
        self.walked.insert(node);
        let mut pending = vec![node];
        let mut visited = 0;
        while let Some(node) = pending.pop() {
            self.visit(root, node, tell, &mut pending);
            self.gauges.walked.fetch_add(1, Ordering::Relaxed);
            visited += 1;
            if visited % DIRECTORIES_PER_READ == 0 {
                if self.ended || self.is_left() {
                    return;
                }
                self.beat();
                if self.backlog.len() < MOST_BACKLOG {
                    self.read();
                }
                if !self.changes.is_empty() {
                    self.flush();
                }
            }
        }
    }

    /// Whether nobody wants to know any more: then its watches are wanted elsewhere.
    fn is_left(&self) -> bool {
        let mut line = [PollFd::new(&self.line, PollFlags::IN)];
        let looked = poll(&mut line, Some(&Timespec::default()));
        looked.is_ok() && line[0].revents().contains(PollFlags::HUP)
    }

    /// Watches one directory, then reads it.
    fn visit(&mut self, root: &SourceRoot, node: NodeId, tell: Tell, pending: &mut Vec<NodeId>) {
        let Some(path) = self.tree.path(node) else {
            return;
        };
        let fd = match root.open_dir(&path, OFlags::RDONLY) {
            Ok(fd) => fd,
            // It is gone or something else by now; the event that says so follows.
            Err(error) if says_no_directory(&error) => {
                if let Some(parent) = self.tree.parent(node) {
                    self.walked.insert_missed(parent);
                }
                return self.remove(node);
            }
            Err(error) => return self.uncover(node, blindness(&error)),
        };
        self.uncovered.forget(node);
        match rustix::fs::inotify::add_watch(&self.inotify, proc_path(fd.as_fd()), self.mask(node))
        {
            Ok(watch) => {
                if let Some((other, path)) = self.other_place(root, &fd, node, watch) {
                    // The watch is the other's still, with what that one is to be told.
                    let mask = self.mask(other);
                    let _ =
                        rustix::fs::inotify::add_watch(&self.inotify, proc_path(fd.as_fd()), mask);
                    self.second_places.insert(node);
                    let cause = format!("it is mounted at `{path}` of the source as well");
                    return self.uncover(node, Blindness::Failed(cause));
                }
                self.second_places.remove(&node);
                if self.tree.set_watch(node, watch) {
                    self.unsure.contradict();
                }
                self.tree.mark_seen(node, self.walks);
            }
            Err(Errno::NOSPC) => self.uncover(node, Blindness::NoWatches),
            Err(errno) => self.uncover(node, blindness(&errno.into())),
        }
        let entries = match Dir::read_from(&fd) {
            Ok(entries) => entries,
            Err(errno) => return self.uncover(node, blindness(&errno.into())),
        };
        for (number, entry) in entries.enumerate() {
            if number % ENTRIES_PER_BEAT == ENTRIES_PER_BEAT - 1 {
                self.beat();
                self.gauges.walked.fetch_add(1, Ordering::Relaxed);
                if self.changes.len() >= MESSAGE {
                    self.flush();
                }
            }
            let entry = match entry {
                Ok(entry) => entry,
                // The reader ends after an error.
                Err(errno) => {
                    self.uncover(node, blindness(&errno.into()));
                    continue;
                }
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match look(fd.as_fd(), name) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                kind => kind,
            };
            let is_directory = kind == FileType::Directory;
            if self.config.filter.is_some()
                && self.is_excluded(&path.join(name), Kind::directory_if(is_directory))
            {
                // It may have been watched under another name.
                if let Some(child) = self.tree.child(node, name) {
                    self.remove(child);
                }
                continue;
            }
            if is_directory && self.is_entered(&fd, name) {
                pending.push(self.tree.child_or_new(node, name));
            }
            self.tell_entry(tell, (node, &path, &fd), name, kind);
        }
        // Where directories are not sent by themselves, they are not compared by themselves either.
        if tell == Tell::Entries && self.config.switches.create_folder {
            self.changes.push(Change::made(path, self.handled_until));
        }
    }

    /// Tells of an entry of a directory what a walk is to tell.
    fn tell_entry(
        &mut self,
        tell: Tell,
        (node, dir, fd): (NodeId, &RelPath, &OwnedFd),
        name: &[u8],
        kind: FileType,
    ) {
        let is_directory = kind == FileType::Directory;
        match tell {
            Tell::Nothing => {}
            // Made by itself, it would not be told either; what is in it is.
            Tell::Entries if is_directory && !self.config.switches.create_folder => {}
            // A link by itself is told as written, too.
            Tell::Entries if kind == FileType::Symlink => {
                self.changes.push(Change::written(dir.join(name)));
            }
            Tell::Entries => {
                // Its content may be on its way, and its close would not be told.
                let switches = self.config.switches;
                let is_told = switches.close_write || switches.modify;
                let is_young =
                    || was_since(fd, name, SystemTime::now() - RACY, |stat| stat.st_ctime);
                if kind == FileType::RegularFile && !is_told && is_young() {
                    self.open_files.on_write(node, name, Instant::now());
                }
                self.changes.push(Change::entry(dir.join(name)));
            }
            Tell::Uncovered => {
                let (mut before, path) = (self.filters_before.iter(), dir.join(name));
                let kind = Kind::directory_if(is_directory);
                if before.any(|before| before.excludes(&path, kind)) {
                    self.changes.push(if is_directory {
                        Change::subtree(path)
                    } else {
                        Change::written(path)
                    });
                }
            }
            Tell::Racy(since) => {
                if kind == FileType::RegularFile && was_since(fd, name, since, |stat| stat.st_mtime)
                {
                    self.changes.push(Change::written(dir.join(name)));
                }
            }
        }
    }

    /// Whether the kernel tells of this directory under another name that it has as well: one of the two is bound over
    /// the other, or their file system is mounted twice. It has one watch at most.
    fn other_place(
        &self,
        root: &SourceRoot,
        fd: &OwnedFd,
        node: NodeId,
        watch: i32,
    ) -> Option<(NodeId, RelPath)> {
        let other = self.tree.by_watch(watch).filter(|other| *other != node)?;
        let path = self.tree.path(other)?;
        let there = root.open_dir(&path, OFlags::PATH).ok()?;
        let (here, there) = (rustix::fs::fstat(fd).ok()?, rustix::fs::fstat(there).ok()?);
        let is_same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino);
        is_same.then_some((other, path))
    }

    /// With `-x`, rsync sends a mount point but nothing below it.
    fn is_entered(&self, dir: &OwnedFd, name: &[u8]) -> bool {
        !self.config.one_file_system
            || look(dir.as_fd(), name).is_ok_and(|stat| stat.st_dev == self.identity.device)
    }
}

/// The source root, opened only if something is to be looked at, and only while events are handled.
#[derive(Default)]
pub(super) struct LazyRoot {
    asked: bool,
    root: Option<Rc<SourceRoot>>,
}

impl LazyRoot {
    /// The root, if it is the directory that is watched.
    pub(super) fn take(
        &mut self,
        config: &WatchConfig,
        identity: Identity,
    ) -> Option<Rc<SourceRoot>> {
        if !std::mem::replace(&mut self.asked, true) {
            let root = SourceRoot::open(&config.source).ok()?;
            self.root = (root.identity() == identity).then(|| Rc::new(root));
        }
        self.root.clone()
    }
}

pub(super) fn says_no_directory(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

pub(super) fn blindness(error: &io::Error) -> Blindness {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Blindness::Denied,
        _ => Blindness::Failed(error.to_string()),
    }
}

/// Whether one of its times is not older.
fn was_since(dir: &OwnedFd, name: &[u8], since: SystemTime, time: impl Fn(&Stat) -> i64) -> bool {
    let since = since
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| u64::try_from(time(&stat)).is_ok_and(|time| time >= since))
}
