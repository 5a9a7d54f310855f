//! Files that are written and stay open: logs, databases, and what an NFS server keeps open for its clients. Pure.
//!
//! Such a file raises no event of its end, so it is reported after some seconds, then at growing intervals for as long
//! as it is written. A new file waits here for its close in the same way.
//!
//! For this the kernel has to report every write. Measured on two processors in memory: one `dd bs=4k` of 1 GiB, 262 144
//! writes in 0.9 s, costs the watcher 0.4 s of processor time; two at once, whose events do not merge, 1.1 s. Watching
//! for closes alone would cost nothing there, and leave what an NFS server keeps open stale for hours.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::tree::NodeId;

/// How long a file may stay open before it is sent as it is.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// A file written for hours is sent at this interval.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A file not written for this long is sent, whatever its interval has grown to.
const REST: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct OpenFile {
    /// When it is looked at: the time in `timers`.
    due: Instant,
    sent: Instant,
    wait: Duration,
    written: Instant,
    changed: bool,
}

impl OpenFile {
    fn next_look(&self) -> Instant {
        let by_interval = self.sent + self.wait;
        if self.changed {
            by_interval.min(self.written + REST)
        } else {
            by_interval
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct OpenFiles {
    files: HashMap<NodeId, HashMap<Box<[u8]>, OpenFile>>,
    timers: BTreeSet<(Instant, NodeId, Box<[u8]>)>,
}

impl OpenFiles {
    /// A file was made, or written to.
    pub fn on_write(&mut self, dir: NodeId, name: &[u8], now: Instant) {
        let files = self.files.entry(dir).or_default();
        if let Some(file) = files.get_mut(name) {
            file.written = now;
            if !std::mem::replace(&mut file.changed, true) {
                self.timers.remove(&(file.due, dir, name.into()));
                file.due = file.next_look();
                self.timers.insert((file.due, dir, name.into()));
            }
            return;
        }
        let due = now + FIRST_WAIT;
        let file = OpenFile {
            due,
            sent: now,
            wait: FIRST_WAIT,
            written: now,
            changed: true,
        };
        files.insert(name.into(), file);
        self.timers.insert((due, dir, name.into()));
    }

    /// Whether a file waits here.
    pub fn holds(&self, dir: NodeId, name: &[u8]) -> bool {
        let files = self.files.get(&dir);
        files.is_some_and(|files| files.contains_key(name))
    }

    /// A file was closed, renamed or removed: whether it waited here.
    pub fn on_end(&mut self, dir: NodeId, name: &[u8]) -> bool {
        let Some(files) = self.files.get_mut(&dir) else {
            return false;
        };
        let Some(file) = files.remove(name) else {
            return false;
        };
        if files.is_empty() {
            self.files.remove(&dir);
        }
        self.timers.remove(&(file.due, dir, name.into()));
        true
    }

    /// When the next file is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, ..)| *due)
    }

    /// Somebody waits until all that was written is sent: so are these, as they are at `now`.
    pub fn take_changed(&mut self, now: Instant) -> Vec<(NodeId, Box<[u8]>)> {
        let mut changed = Vec::new();
        for (dir, files) in &mut self.files {
            for (name, file) in files.iter_mut().filter(|(_, file)| file.changed) {
                file.changed = false;
                file.sent = now;
                changed.push((*dir, name.clone()));
            }
        }
        changed
    }

    /// The files to be sent as they are at `now`.
    pub fn take_due(&mut self, now: Instant) -> Vec<(NodeId, Box<[u8]>)> {
        let mut due = Vec::new();
        while self.timers.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, dir, name)) = self.timers.pop_first() else {
                break;
            };
            let Some(file) = self
                .files
                .get_mut(&dir)
                .and_then(|files| files.get_mut(&name))
            else {
                continue;
            };
            if !file.changed {
                self.on_end(dir, &name);
                continue;
            }
            if file.next_look() <= now {
                file.changed = false;
                file.sent = now;
                file.wait = (file.wait * 2).min(LONGEST_WAIT);
                due.push((dir, name.clone()));
            }
            file.due = file.next_look();
            self.timers.insert((file.due, dir, name));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_open_is_due_at_growing_intervals_while_it_is_written() {
        let start = Instant::now();
        let mut files = OpenFiles::default();
        let mut due = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            if second < 100 {
                files.on_write(1, b"log", now);
            }
            if !files.take_due(now).is_empty() {
                due.push(second);
            }
        }
        assert_eq!(
            due,
            [2, 6, 14, 30, 62, 102],
            "the last one when it has come to rest"
        );
        assert_eq!(
            files.next_due(),
            None,
            "forgotten when it is not written any more"
        );
    }

    #[test]
    fn what_was_written_is_there_for_whoever_does_not_wait_and_then_not_sent_again() {
        let now = Instant::now();
        let mut files = OpenFiles::default();
        files.on_write(1, b"a", now);
        assert_eq!(files.take_changed(now), [(1, b"a"[..].into())]);
        assert!(files.take_changed(now).is_empty());
        assert!(files.take_due(now + FIRST_WAIT).is_empty());
        assert_eq!(files.next_due(), None, "it is at rest");
        files.on_write(1, b"a", now + FIRST_WAIT);
        assert_eq!(files.take_due(now + FIRST_WAIT * 2).len(), 1);
    }

    #[test]
    fn a_closed_file_no_longer_waits() {
        let now = Instant::now();
        let mut files = OpenFiles::default();
        files.on_write(1, b"a", now);
        assert!(files.on_end(1, b"a"));
        assert!(!files.on_end(1, b"a"));
        assert!(files.take_due(now + FIRST_WAIT).is_empty());
    }
}
