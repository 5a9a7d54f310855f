//! The inotify back end: one thread a mirror that reads events, keeps the tree of watches, and walks what is new.
//!
//! It is our own and not a library's, since those look through every watch when one directory is removed: with 10 000
//! of 20 000 directories removed that stalls for seconds, with 100 000 for minutes. Here a removal costs one look-up
//! (`tree`), a renamed directory keeps its watches, and nothing polls: an idle thread sleeps in the
//! kernel without a descriptor of the source open, so the source can be unmounted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use self::unsure::{Doubt, Unsure};
use self::volumes::not_mounted;
use self::walk::{LazyRoot, Tell, blindness, says_no_directory};
use self::walked::Walked;
use super::open_files::OpenFiles;
use super::tree::{NodeId, ROOT, WatchTree};
use super::uncovered::Uncovered;
use super::{Gauges, LOOK, NextFilters, PULSE, WatchConfig, Watcher, Watching};
use crate::change::{Change, WatchEvent};
use crate::filter::Filter;
use crate::mounts::{self, MountTable, Mounted};
use crate::path::{Identity, RelPath, SourceRoot};

mod events;
mod unsure;
mod volumes;
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
        let next_filters = NextFilters::default();
        let thread = WatchThread {
            inotify,
            line,
            next_filters: Arc::clone(&next_filters),
            filters_before: Vec::new(),
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
            unsure: Unsure::default(),
            last_read: Instant::now(),
            quick_reads: 0,
            overflow: Overflow::default(),
            unmounted: BTreeSet::new(),
            second_places: BTreeSet::new(),
            are_mounts_new: false,
            table: MountTable::open().ok(),
            mounts: BTreeMap::new(),
            asked: Vec::new(),
            read_until: Instant::now(),
            handled_until: Instant::now(),
            ended: false,
        };
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || thread.run(root))?;
        Ok(Watching {
            line: other_end,
            gauges,
            next_filters,
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
    /// Something happened below it meanwhile, which had no path, or a walk may have met another one under its name.
    stirred: bool,
}

/// A file got this name in a drain, or was changed through it.
struct Named {
    /// Whether nothing more is to be waited for.
    settled: bool,
    /// See [`Change::written`].
    written: bool,
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
    next_filters: NextFilters,
    /// While it walks for another filter: those that held before.
    filters_before: Vec<Arc<Filter>>,
    gauges: Arc<Gauges>,
    identity: Identity,
    config: WatchConfig,
    events: mpsc::Sender<WatchEvent>,
    tree: WatchTree,
    open_files: OpenFiles,
    moves: HashMap<u32, Move>,
    /// Directories whose name another has now, by that name: half of an exchange, or gone.
    displaced: HashMap<(NodeId, Box<[u8]>), Move>,
    /// Names of files to be looked at when this drain is read.
    named: HashMap<(NodeId, Box<[u8]>), Named>,
    changes: Vec<Change>,
    /// Events read during a walk.
    backlog: VecDeque<Event>,
    uncovered: Uncovered,
    walks: u64,
    walked: Walked,
    unsure: Unsure,
    last_read: Instant,
    /// Quick readings in a row.
    quick_reads: u32,
    overflow: Overflow,
    /// Directories whose file system was unmounted, so that another is seen in their place, or none.
    unmounted: BTreeSet<NodeId>,
    /// Directories whose watch is that of another place where they are mounted as well.
    second_places: BTreeSet<NodeId>,
    /// It was seen to have changed.
    are_mounts_new: bool,
    /// What is mounted in the whole machine.
    table: Option<MountTable>,
    /// What was mounted below the root when the table was read last.
    mounts: BTreeMap<RelPath, Mounted>,
    /// Questions of [`Watching::ask`] that came before the last reading.
    asked: Vec<u64>,
    /// All that had happened by then is read.
    read_until: Instant,
    /// All that had happened by then is handled.
    handled_until: Instant,
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
            if is_drained && self.look_at_unsure() {
                // The walks have read more.
                self.handle_backlog();
            }
            if is_drained && self.moves.is_empty() && self.displaced.is_empty() {
                self.walked.on_drained();
            }
            self.handled_until = self.read_until;
            self.beat();
            self.tell_uncovered();
            self.flush();
            if is_drained && self.overflow.walk_at.is_none() {
                self.answer();
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

    /// All that had happened when it was asked is told. What is written and not closed belongs to it.
    fn answer(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        if asked.iter().any(|number| *number != PULSE) {
            let changed = self.open_files.take_changed(Instant::now());
            self.tell_written(changed);
            self.flush();
        }
        for number in asked {
            self.send(WatchEvent::Reached(number));
        }
    }

    fn tell_written(&mut self, files: Vec<(NodeId, Box<[u8]>)>) {
        for (dir, name) in files {
            if let Some(parent) = self.tree.path(dir) {
                self.changes.push(Change::written(parent.join(&name)));
            }
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
        let mut next = self
            .next_filters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut others = std::mem::take(&mut *next);
        drop(next);
        let Some(last) = others.pop() else { return };
        // What happened before is told by the old one.
        self.handle_backlog();
        // The lanes may have gone by those between, too.
        others.extend(self.config.filter.replace(last));
        self.filters_before = others;
        self.walk_new(&mut LazyRoot::default(), ROOT, Tell::Uncovered);
        self.filters_before.clear();
    }

    /// Takes what the kernel has into the backlog; `false` if there may be more.
    fn read(&mut self) -> bool {
        let began = Instant::now();
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
                Err(_) => {
                    self.read_until = began;
                    return true;
                }
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

    /// Looks whether the directories are watched whose names are in doubt; whether some were not.
    fn look_at_unsure(&mut self) -> bool {
        let names = match self.unsure.on_drained() {
            Doubt::Nothing => return false,
            Doubt::Names(names) => names,
            Doubt::Everything => {
                self.overflow.walk_at.get_or_insert_with(Instant::now);
                return false;
            }
        };
        let (mut root, mut has_walked) = (LazyRoot::default(), false);
        if root.take(&self.config, self.identity).is_none() {
            self.unsure.put_back(names);
            return false;
        }
        // What is above comes first: walking it may find what is below.
        let paths = names.into_iter().filter_map(|(dir, name)| {
            let path = self.tree.path(dir)?.join(&name);
            Some((path, dir, name))
        });
        for (path, dir, name) in paths.collect::<BTreeSet<_>>() {
            // Or where it is has been found out just now.
            if self.tree.path(dir).map(|dir| dir.join(&name)).as_ref() != Some(&path)
                || self.is_watched_if_there(dir, &name, &path, &mut root)
            {
                continue;
            }
            let node = self.tree.child_or_new(dir, &name);
            self.walk_new(&mut root, node, Tell::Nothing);
            self.changes.push(Change::subtree(path));
            has_walked = true;
        }
        has_walked
    }

    fn root_is_gone(&mut self, is_certain: bool) {
        self.flush();
        self.send(WatchEvent::RootGone { is_certain });
    }

    fn remove(&mut self, node: NodeId) {
        self.uncovered.forget(node);
        self.unmounted.remove(&node);
        self.second_places.remove(&node);
        for watch in self.tree.remove(node) {
            self.remove_watch(watch);
        }
    }

    fn remove_watch(&self, watch: i32) {
        // The kernel has dropped it already if its directory is gone.
        let _ = rustix::fs::inotify::remove_watch(&self.inotify, watch);
    }

    fn on_timers(&mut self, now: Instant) {
        let due = self.open_files.take_due(now);
        self.tell_written(due);
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
                    // Nobody tells when it is mounted again.
                    Ok(false) if self.table.is_none() => {
                        self.uncover(node, not_mounted());
                        continue;
                    }
                    // What a bare mount point says of the receivers is for the guards of the lanes.
                    Ok(_) => {}
                    // It was on that file system.
                    Err(error) if says_no_directory(&error) => {
                        self.remove(node);
                        continue;
                    }
                    Err(error) => {
                        self.uncover(node, blindness(&error));
                        continue;
                    }
                }
                self.unmounted.remove(&node);
            }
            self.walk_new(&mut root, node, Tell::Nothing);
            self.changes.push(Change {
                unseen: self.second_places.contains(&node),
                ..Change::subtree(path)
            });
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
        self.unsure.clear();
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

#[cfg(test)]
mod tests;
