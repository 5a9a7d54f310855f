//! The full push that a schedule asks for: a tree run of the root in which patterns of its own hold.
//!
//! It is owed until it got through, once, however often the schedule asked meanwhile: while the lane is paused or held,
//! or its remote is away, it waits. What its patterns exclude is neither sent nor deleted by it, so it says nothing of
//! what is there: such a push takes nothing from the fail queue, and puts nothing into the dirty set that a run without
//! its patterns would take further than rsync has named it.

use std::sync::Arc;
use std::time::Instant;

use super::reports::MOST_TRIES;
use super::{End, News, Report};
use crate::change::Extent;
use crate::control::counted;
use crate::dirty::{DirtyPath, TREE_RETRY};
use crate::fail_queue::Failure;
use crate::path::RelPath;

/// rsync's words for a directory that is only at the receiver, and in which an excluded file keeps its place.
const KEPT: &str = "cannot delete non-empty directory";

/// See the module.
#[derive(Debug, Default)]
pub struct Push {
    owed: Option<Owed>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Owed {
    patterns: Arc<[String]>,
    tries: u8,
    due: Instant,
}

#[derive(Debug)]
struct Running {
    owed: Owed,
    /// Whether nothing differed that we knew of, so that whatever the push sends is drift.
    alone: bool,
}

impl Push {
    /// The schedule asks for one. One that runs is one.
    pub fn ask(&mut self, patterns: Arc<[String]>, now: Instant) {
        if self.running.is_none() {
            self.owed = Some(Owed {
                patterns,
                tries: 0,
                due: now,
            });
        }
    }

    /// Another comparison of everything has begun: none is owed any more.
    pub fn forget(&mut self) {
        self.owed = None;
    }

    /// When it is to begin, if one is owed.
    pub fn due(&self) -> Option<Instant> {
        self.owed.as_ref().map(|owed| owed.due)
    }

    /// It begins, if one is due: its patterns. `alone` says that nothing is known to differ.
    pub fn begin(&mut self, alone: bool, now: Instant) -> Option<Arc<[String]>> {
        let owed = self.owed.take_if(|owed| owed.due <= now)?;
        let patterns = Arc::clone(&owed.patterns);
        self.running = Some(Running { owed, alone });
        Some(patterns)
    }

    /// Something changed: what is sent from now on may be that.
    pub fn disturb(&mut self) {
        if let Some(running) = &mut self.running {
            running.alone = false;
        }
    }

    /// A job of the tree slot ended. If it was the push, its report is cut down to what it says beyond doubt.
    pub fn on_report(&mut self, report: &mut Report, now: Instant) -> Option<News> {
        let Running { owed, alone } = self.running.take()?;
        let root_again = report.again.iter().any(|dirty| dirty.path.is_root());
        report.again.retain(|dirty| !dirty.path.is_root());
        let root_failed = report
            .failed
            .extract_if(.., |(dirty, _)| dirty.path.is_root());
        let failure = root_failed.map(|(_, failure)| failure).last();
        let failure = failure.or(report.undecided.take().map(|(_, failure)| failure));
        // Its patterns hold for the tree as a whole only.
        let split = report.split.drain(..).next().map(|split| split.failure);
        let failure = failure.or(split);
        let mut withheld = 0;
        if !owed.patterns.is_empty() {
            // Later it would be deleted without the patterns.
            if !report.withheld.is_empty() {
                report.withheld.clear();
                withheld = std::mem::take(&mut report.would_delete);
            }
            report.synced.clear();
            report
                .failed
                .retain(|(_, failure)| !failure.message.starts_with(KEPT));
            let failed = report.failed.iter_mut().map(|(dirty, _)| dirty);
            for dirty in report.again.iter_mut().chain(failed) {
                dirty.extent = Extent::Entry;
            }
        }
        if let Some(failure) = failure {
            return Some(News::PushFailed(failure));
        }
        if withheld > 0 {
            return Some(push_failed(format!(
                "it would have deleted {}, more than `maxDelete` allows, and deleted none",
                counted(withheld, "entry", "entries")
            )));
        }
        if root_again {
            return self.put_off(owed, &report.end, now);
        }
        Some(News::Pushed {
            sent: report.files_sent + report.others_made,
            deleted: report.deleted,
            alone,
        })
    }

    /// It did not get through: at once when the remote is back, or a little later if the source was changing.
    fn put_off(&mut self, mut owed: Owed, end: &End, now: Instant) -> Option<News> {
        owed.due = now;
        if *end == End::Reached {
            owed.tries += 1;
            owed.due += TREE_RETRY * 2_u32.pow(u32::from(owed.tries.min(6)));
        }
        if owed.tries == MOST_TRIES {
            return Some(push_failed(
                "the source had changed each time it was compared".into(),
            ));
        }
        self.owed = Some(owed);
        None
    }
}

fn push_failed(message: String) -> News {
    News::PushFailed(Failure { exit: -1, message })
}

/// The batch of a push.
pub fn batch(now: Instant) -> Vec<DirtyPath> {
    vec![DirtyPath {
        since: now,
        ..DirtyPath::now(RelPath::root(), Extent::Subtree)
    }]
}
