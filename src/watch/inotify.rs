//! The inotify back end: one thread a mirror that reads events, keeps the tree of watches, and walks what is new.
//!
//! It is our own and not a library's, since those look through every watch when one directory is removed: with 10 000
//! of 20 000 directories removed that stalls for seconds, with 100 000 for minutes. Here a removal costs one look-up
//! (`tree`), a renamed directory keeps its watches, and nothing polls: an idle thread sleeps in the
//! kernel without a descriptor of the source open, so the source can be unmounted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use self::walk::{LazyRoot, Tell};
use self::walked::Walked;
use super::open_files::OpenFiles;
use super::tree::{NodeId, ROOT, WatchTree};
use super::uncovered::Uncovered;
use super::{Gauges, LOOK, NextFilter, WatchConfig, Watcher, Watching};
use crate::change::{Blindness, Change, WatchEvent};
use crate::config::Removals;
use crate::filter::{Filter, Kind};
use crate::lasting::Lasting;
use crate::mounts::{self, MountTable, Mounted};
use crate::path::{Identity, RelPath, SourceRoot, proc_path};

mod walk;
mod walked;

/// Some 2 000 events a read.
const READ_BUFFER: usize = 64 << 10;
/// Changes of one message, so that a lane may begin before a long drain is over.
const MESSAGE: usize = 4096;
/// The two halves of a rename come one right after the other; without the second by then, it went out of the source.
const SECOND_HALF: Duration = Duration::from_millis(100);
/// A reading so soon after another is a quick one …
const QUICK: Duration = Duration::from_millis(1);
/// … and so many in a row are a storm, in which it costs less …
const STORM: u32 = 8;
/// … to let events come together for a moment.
const GATHERING: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};
/// After an overflow, another is waited out before the next walk, the longer the more often it happens.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Files written so long before an overflow are sent whatever their times say: what happened to them may be lost.
const RACY: Duration = Duration::from_secs(10);

/// What says that a directory's own attributes changed: a call that sets its modification time alone counts as a
/// modification.
const DIRECTORY_ATTRIBUTES: ReadFlags = ReadFlags::ATTRIB.union(ReadFlags::MODIFY);

/// Watches with inotify.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inotify;

impl Watcher for Inotify {
    fn start(
        &self,
        root: SourceRoot,
        config: WatchConfig,
        events: mpsc::Sender<WatchEvent>,
    ) -> io::Result<Watching> {
        let inotify = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (line, other_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let gauges = Arc::new(Gauges::default());
        let next_filter = NextFilter::default();
        let thread = WatchThread {
            inotify,
            line,
            next_filter: Arc::clone(&next_filter),
            filter_before: None,
            gauges: Arc::clone(&gauges),
            identity: root.identity(),
            config,
            events,
            tree: WatchTree::new(),
            open_files: OpenFiles::default(),
            moves: HashMap::new(),
            displaced: HashMap::new(),
            named: HashMap::new(),
            changes: Vec::new(),
            backlog: VecDeque::new(),
            uncovered: Uncovered::default(),
            walks: 0,
            walked: Walked::default(),
            last_read: Instant::now(),
            quick_reads: 0,
            overflow: Overflow::default(),
            unmounted: BTreeSet::new(),
            are_mounts_new: false,
            table: MountTable::open().ok(),
            mounts: BTreeMap::new(),
            asked: Vec::new(),
            ended: false,
        };
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || thread.run(root))?;
        Ok(Watching {
            line: other_end,
            gauges,
            next_filter,
        })
    }
}

/// An event as it came, with its name.
struct Event {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Box<[u8]>,
}

/// A directory on its way: the first half of its rename was seen, or another took its place.
struct Move {
    node: NodeId,
    since: Instant,
    /// Something happened below it meanwhile, which had no path.
    stirred: bool,
}

#[derive(Default)]
struct Overflow {
    /// When to walk again.
    walk_at: Option<Instant>,
    pause: Duration,
    last: Option<Instant>,
}

struct WatchThread {
    inotify: OwnedFd,
    /// Numbers to be answered; it hangs up when the watcher is to end.
    line: OwnedFd,
    next_filter: NextFilter,
    /// While it walks for another filter: the one that held before.
    filter_before: Option<Arc<Filter>>,
    gauges: Arc<Gauges>,
    identity: Identity,
    config: WatchConfig,
    events: mpsc::Sender<WatchEvent>,
    tree: WatchTree,
    open_files: OpenFiles,
    moves: HashMap<u32, Move>,
    /// Directories whose name another has now, by that name: half of an exchange, or gone.
    displaced: HashMap<(NodeId, Box<[u8]>), Move>,
    /// Names that files got in this drain, and whether nothing more is to be waited for.
    named: HashMap<(NodeId, Box<[u8]>), bool>,
    changes: Vec<Change>,
    /// Events read during a walk.
    backlog: VecDeque<Event>,
    uncovered: Uncovered,
    walks: u64,
    walked: Walked,
    last_read: Instant,
    /// Quick readings in a row.
    quick_reads: u32,
    overflow: Overflow,
    /// Directories whose file system was unmounted, so that another is seen in their place, or none.
    unmounted: BTreeSet<NodeId>,
    /// It was seen to have changed.
    are_mounts_new: bool,
    /// What is mounted in the whole machine.
    table: Option<MountTable>,
    /// What was mounted below the root when the table was read last.
    mounts: BTreeMap<RelPath, Mounted>,
    /// Questions of [`Watching::ask`] that came before the last reading.
    asked: Vec<u64>,
    ended: bool,
}

impl WatchThread {
    fn run(mut self, root: SourceRoot) {
        // What is mounted during the walk is seen later as new.
        self.mounts = self.mounts_below(&root);
        self.walk(&root, ROOT, Tell::Nothing);
        drop(root);
        let directories = self.tree.watches() as u64;
        self.send(WatchEvent::Scanned { directories });
        let mut is_drained = false;
        while !self.ended {
            self.handle_backlog();
            if is_drained && self.moves.is_empty() && self.displaced.is_empty() {
                self.walked.on_drained();
            }
            self.beat();
            self.tell_uncovered();
            self.flush();
            if is_drained && self.overflow.walk_at.is_none() {
                for number in std::mem::take(&mut self.asked) {
                    self.send(WatchEvent::Reached(number));
                }
            }
            if !self.wait() {
                return;
            }
            self.quick_reads = if self.last_read.elapsed() < QUICK {
                self.quick_reads.saturating_add(1)
            } else {
                0
            };
            is_drained = self.read();
            self.last_read = Instant::now();
            if std::mem::take(&mut self.are_mounts_new) {
                self.on_mounts();
            }
            self.on_timers(Instant::now());
            self.take_filter();
        }
    }

    fn beat(&self) {
        let watches = self.tree.watches() as u64;
        self.gauges.watches.store(watches, Ordering::Relaxed);
        let uncovered = self.uncovered.len() as u64;
        self.gauges.uncovered.store(uncovered, Ordering::Relaxed);
        self.gauges.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Sleeps until something is to be done; `false` when nobody wants to know any more.
    fn wait(&mut self) -> bool {
        let moving = self.moves.values().chain(self.displaced.values());
        let moved = moving.map(|moving| moving.since + SECOND_HALF).min();
        let timers = [
            moved,
            self.open_files.next_due(),
            self.overflow.walk_at,
            self.uncovered.due(),
        ];
        let wake = timers.into_iter().flatten().min();
        let timeout = wake.map(|at| {
            // Rounded up, so that the timer is due when the call comes back.
            let rest = at.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
            Timespec {
                tv_sec: rest.as_secs().cast_signed(),
                tv_nsec: rest.subsec_nanos().into(),
            }
        });
        let mut fds = vec![
            PollFd::new(&self.inotify, PollFlags::IN),
            PollFd::new(&self.line, PollFlags::IN),
        ];
        if let Some(table) = &self.table {
            fds.push(PollFd::new(table, mounts::CHANGED));
        }
        // Questions do not wait for that.
        if self.quick_reads >= STORM && matches!(poll(&mut fds[1..2], Some(&GATHERING)), Ok(1..)) {
            return self.take_questions();
        }
        let polled = poll(&mut fds, timeout.as_ref());
        let has_asked = !fds[1].revents().is_empty();
        self.are_mounts_new |= fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        match polled {
            Ok(_) if has_asked => self.take_questions(),
            Ok(_) | Err(Errno::INTR) => true,
            // Without poll there is no way to wait: to be seen by whoever restarts the service.
            Err(error) => panic!("the watcher cannot wait for events: {error}"),
        }
    }

    /// `false` when the other end is gone.
    fn take_questions(&mut self) -> bool {
        let mut number = [0; 8];
        loop {
            match rustix::io::read(&self.line, &mut number) {
                Ok(8) if u64::from_ne_bytes(number) == LOOK => {}
                Ok(8) => self.asked.push(u64::from_ne_bytes(number)),
                Ok(_) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// If there is another filter: what it does not exclude any more is watched and told, what it does is left.
    fn take_filter(&mut self) {
        let next = self
            .next_filter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(next) = next else { return };
        // What happened before is told by the old one.
        self.handle_backlog();
        self.filter_before = self.config.filter.replace(next);
        self.walk_new(&mut LazyRoot::default(), ROOT, Tell::Uncovered);
        self.filter_before = None;
    }

    /// Takes what the kernel has into the backlog; `false` if there may be more.
    fn read(&mut self) -> bool {
        let mut buffer = vec![MaybeUninit::uninit(); READ_BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => self.backlog.push_back(Event {
                    watch: event.wd(),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event
                        .file_name()
                        .map(|name| name.to_bytes().into())
                        .unwrap_or_default(),
                }),
                Err(Errno::INTR) => {}
                // Mostly that there is nothing more.
                Err(_) => return true,
            }
            if reader.is_buffer_empty() && self.backlog.len() >= MESSAGE {
                return false;
            }
        }
    }

    fn handle_backlog(&mut self) {
        let mut root = LazyRoot::default();
        while let Some(event) = self.backlog.pop_front() {
            self.on_event(&event, &mut root);
            if self.changes.len() >= MESSAGE {
                self.beat();
                self.flush();
            }
        }
        self.look_at_named(&mut root);
    }

    fn on_event(&mut self, event: &Event, root: &mut LazyRoot) {
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
                let cause = "its file system is not mounted";
                self.uncovered
                    .insert(dir, Blindness::Failed(cause.into()), Instant::now());
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
    fn is_excluded(&self, path: &RelPath, kind: Kind) -> bool {
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
                ..change
            }),
            Removals::None => {}
        }
    }

    fn root_is_gone(&mut self, is_certain: bool) {
        self.flush();
        self.send(WatchEvent::RootGone { is_certain });
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
            self.named.insert((dir, name.clone()), settled);
        } else if flags.contains(ReadFlags::MODIFY) {
            if switches.modify {
                self.changes.push(Change::written(path));
            } else if self.named.get(&(dir, name.clone())) != Some(&false)
                && (switches.close_write || self.open_files.holds(dir, name))
            {
                self.open_files.on_write(dir, name, Instant::now());
            }
        } else if flags.contains(ReadFlags::CLOSE_WRITE) {
            let awaited = self.forget_open(dir, name);
            if switches.close_write || awaited {
                self.changes.push(Change::written(path));
            }
        } else if flags.contains(ReadFlags::ATTRIB) {
            if switches.attrib {
                self.changes.push(Change::entry(path));
            }
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.forget_open(dir, name);
            if switches.move_to {
                self.named.insert((dir, name.clone()), true);
                self.changes.push(Change::written(path));
            }
        } else if flags.contains(ReadFlags::DELETE) {
            self.forget_open(dir, name);
            self.on_removed(Change::entry(path), switches.delete);
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            self.forget_open(dir, name);
            self.on_removed(Change::entry(path), switches.move_from);
        }
    }

    /// Whether the file was waited for: it is new, or was written to.
    fn forget_open(&mut self, dir: NodeId, name: &[u8]) -> bool {
        let named = self.named.get_mut(&(dir, name.into()));
        let is_new = named.is_some_and(|settled| !std::mem::replace(settled, true));
        self.open_files.on_end(dir, name) || is_new
    }

    fn on_directory(&mut self, event: &Event, dir: NodeId, path: RelPath, root: &mut LazyRoot) {
        let switches = self.config.switches;
        let flags = event.flags;
        if flags.contains(ReadFlags::CREATE) {
            if switches.create_folder {
                self.changes.push(Change::entry(path));
            }
            let node = self.tree.child_or_new(dir, &event.name);
            self.walk_new(root, node, Tell::Entries);
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.on_moved_to(event, dir, root);
            if switches.move_to {
                self.changes.push(Change::subtree(path));
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
        root.open_dir(&path, OFlags::RDONLY).is_ok_and(|fd| {
            let mask = self.mask(node);
            rustix::fs::inotify::add_watch(&self.inotify, proc_path(fd.as_fd()), mask) == Ok(watch)
        })
    }

    /// A directory leaves its name; when two change names, the one that has lost its name to the other.
    fn take_moving(&mut self, dir: NodeId, name: &[u8]) -> Option<Move> {
        if let Some(displaced) = self.displaced.remove(&(dir, name.into())) {
            return Some(displaced);
        }
        let node = self.tree.child(dir, name)?;
        self.tree.detach(node);
        Some(Move {
            node,
            since: Instant::now(),
            stirred: false,
        })
    }

    /// Whatever has this name loses it to another.
    fn displace(&mut self, dir: NodeId, name: &[u8]) {
        let Some(node) = self.tree.child(dir, name) else {
            return;
        };
        self.tree.detach(node);
        let moving = Move {
            node,
            since: Instant::now(),
            stirred: false,
        };
        if let Some(other) = self.displaced.insert((dir, name.into()), moving) {
            self.remove(other.node);
        }
    }

    fn remove(&mut self, node: NodeId) {
        self.uncovered.forget(node);
        self.unmounted.remove(&node);
        for watch in self.tree.remove(node) {
            self.remove_watch(watch);
        }
    }

    fn remove_watch(&self, watch: i32) {
        // The kernel has dropped it already if its directory is gone.
        let _ = rustix::fs::inotify::remove_watch(&self.inotify, watch);
    }

    /// Looks at the files that got a name in this drain. Of new ones that were not closed, what is never closed is
    /// reported now, the others wait. Hard links are made known: their other names share what is written.
    fn look_at_named(&mut self, root: &mut LazyRoot) {
        if self.named.is_empty() {
            return;
        }
        let now = Instant::now();
        for ((dir, name), settled) in std::mem::take(&mut self.named) {
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
                    linked,
                    ..Change::written(path)
                });
            } else if !settled {
                self.open_files.on_write(dir, &name, now);
            }
        }
    }

    fn on_timers(&mut self, now: Instant) {
        for (dir, name) in self.open_files.take_due(now) {
            if let Some(parent) = self.tree.path(dir) {
                self.changes.push(Change::written(parent.join(&name)));
            }
        }
        // The second half may be in the backlog by now.
        if self.backlog.is_empty() {
            let is_gone = |moving: &Move| moving.since + SECOND_HALF <= now;
            let moved = self
                .moves
                .extract_if(|_, moving| is_gone(moving))
                .map(|(_, moving)| moving);
            let displaced = self
                .displaced
                .extract_if(|_, moving| is_gone(moving))
                .map(|(_, moving)| moving);
            for moving in moved.chain(displaced).collect::<Vec<_>>() {
                self.remove(moving.node);
            }
        }
        if self.overflow.walk_at.is_some_and(|at| at <= now) {
            self.walk_again();
        }
        if self.uncovered.due().is_some_and(|due| due <= now) {
            self.walk_uncovered(now);
        }
    }

    /// Whether a file system is mounted at a directory of the source.
    fn is_mounted(&self, path: &RelPath, root: &mut LazyRoot) -> io::Result<bool> {
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

    fn mounts_below(&self, root: &SourceRoot) -> BTreeMap<RelPath, Mounted> {
        let table = self.table.as_ref();
        table
            .and_then(|table| table.below(root).ok())
            .unwrap_or_default()
    }

    /// Something was mounted or unmounted somewhere. Neither raises an event where it is done by binding a directory, and
    /// mounting never does. Where it was below the root, that part is walked and compared; what the lanes make of a
    /// bare mount point is for their guards.
    fn on_mounts(&mut self) {
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

    fn on_mount(&mut self, path: &RelPath, is_mounted: bool, root: &mut LazyRoot) {
        let filter = self.config.filter.as_ref();
        if filter.is_some_and(|filter| filter.covers(path, Kind::Directory)) {
            return;
        }
        if is_mounted {
            let mut node = ROOT;
            for name in path.as_bytes().split(|byte| *byte == b'/') {
                node = self.tree.child_or_new(node, name);
            }
            self.unmounted.remove(&node);
            self.walk_new(root, node, Tell::Nothing);
        }
        self.changes.push(Change::subtree(path.clone()));
    }

    /// What is not watched may have changed: it is tried again, and compared.
    fn walk_uncovered(&mut self, now: Instant) {
        let mut root = LazyRoot::default();
        let before = self.walks;
        for node in self.uncovered.take(now) {
            // Below one that has just been walked, it has been too.
            if self.tree.was_seen_after(node, before) {
                continue;
            }
            let Some(path) = self.tree.path(node) else {
                continue;
            };
            if self.unmounted.contains(&node) {
                match self.is_mounted(&path, &mut root) {
                    Ok(true) => {}
                    // The bare mount point says nothing of what is at the receivers.
                    Ok(false) => {
                        let cause = "its file system is not mounted";
                        self.uncover(node, Blindness::Failed(cause.into()));
                        continue;
                    }
                    // It was on that file system.
                    Err(_) => {
                        self.remove(node);
                        continue;
                    }
                }
                self.unmounted.remove(&node);
            }
            self.walk_new(&mut root, node, Tell::Nothing);
            self.changes.push(Change::subtree(path));
        }
    }

    fn on_overflow(&mut self) {
        let now = Instant::now();
        let often = self
            .overflow
            .last
            .is_some_and(|last| now - last < LONGEST_PAUSE * 2);
        let pause = if often {
            self.overflow.pause * 2
        } else {
            Duration::ZERO
        };
        self.overflow.pause = pause.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.overflow.last = Some(now);
        if self.overflow.walk_at.is_none() {
            self.overflow.walk_at = Some(now + self.overflow.pause);
            self.send(WatchEvent::Overflowed);
        }
    }

    /// After an overflow nothing is known: directories may be unwatched, names may be wrong.
    fn walk_again(&mut self) {
        self.overflow.walk_at = None;
        let Some(root) = LazyRoot::default().take(&self.config, self.identity) else {
            self.overflow.walk_at = Some(Instant::now() + LONGEST_PAUSE);
            return self.send(WatchEvent::RootGone { is_certain: false });
        };
        let moves = std::mem::take(&mut self.moves).into_values();
        let displaced = std::mem::take(&mut self.displaced).into_values();
        for moving in moves.chain(displaced) {
            self.remove(moving.node);
        }
        self.uncovered.clear();
        let racy_since = SystemTime::now() - RACY - self.overflow.pause;
        self.walk(&root, ROOT, Tell::Racy(racy_since));
        for node in self.tree.unseen(self.walks) {
            self.remove(node);
        }
        self.changes.push(Change::subtree(RelPath::root()));
        self.flush();
    }

    fn mask(&self, node: NodeId) -> WatchFlags {
        let mut mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        if self.config.switches.attrib {
            mask |= WatchFlags::ATTRIB;
        }
        if node == ROOT {
            mask |= WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        }
        mask
    }

    fn tell_uncovered(&mut self) {
        if let Some((directories, cause)) = self.uncovered.take_news() {
            self.send(WatchEvent::Uncovered { directories, cause });
        }
    }

    fn flush(&mut self) {
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            self.send(WatchEvent::Changes(changes));
        }
    }

    /// Waits while the mirror is behind; the kernel keeps what comes meanwhile.
    fn send(&mut self, event: WatchEvent) {
        self.ended |= self.events.blocking_send(event).is_err();
    }
}
