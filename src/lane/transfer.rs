//! One job, from its batch to its report: the batch is resolved, sent, what is gone is deleted, trees are compared.
//!
//! Sending and deleting are two runs. The first has no option that removes anything but what stands in the way of a
//! change of kind; a module that refuses deletions still gets its files, and a moved file arrives under its new name
//! before the old one goes. Before each run the source root is verified; each child starts in that very directory, by
//! descriptor, so an unmounted or replaced root can make a run fail but cannot make it delete. A target on this machine is
//! held open as long, and what a run has done counts only if it was in its place before and after.
//!
//! | part | what it does |
//! |---|---|
//! | `child` | one run of rsync, by the standby or a new child |
//! | `account` | puts the paths of a run where its outcome says |
//! | `deletion` | removes what is missing, sweeps left-overs |
//! | `comparison` | compares trees, takes those apart that cannot be equal as a whole |
//! | `filtered` | the same for a mirror with a filter, which rsync cannot be told |
//! | `guarded` | leaves alone what is not mounted, and rehearses a first comparison |
//! | `withhold` | counts deletions where there is a limit |

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use super::budget::Budget;
use super::context::{Context, Halt, Pin};
use super::guard::View;
use super::{Batch, End, Hold, Job, Report};
use crate::change::Extent;
use crate::config::Backup;
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::Failure;
use crate::filter::Filter;
use crate::path::{RelPath, SourceRoot};
use crate::resolve::mirrored::uncovered;
use crate::resolve::{Resolved, Rules, directories, present, resolve};
use crate::rsync::{Forms, RunKind, Standby};

mod account;
mod child;
mod comparison;
mod deletion;
mod filtered;
mod guarded;
mod withhold;

/// rsync's exit where the source or the receiver changed while it ran.
const CHANGED: i32 = 24;

/// Up to so many bytes of files that need not be sent ride along with those that must, instead of in a run of their
/// own.
const RIDE_ALONG: u64 = 1 << 20;

/// The percentage of a comparison that is over.
const DONE: u8 = 100;

/// Names that the source did not have when a batch was resolved.
struct Missing {
    gone: Vec<RelPath>,
    /// What stood there was excluded.
    hidden: Vec<RelPath>,
}

/// Carries out a job. Also returns the standby if nobody had a use for it: its end is to be waited for.
pub async fn execute(
    context: Arc<Context>,
    job: Job,
    standby: Option<Standby>,
    halt: Halt,
) -> (Report, Option<Standby>) {
    let Job {
        route,
        paths,
        unswept,
        beside,
        excludes,
        forms,
        budget,
    } = job;
    // What the source has under the name of the backup directory is not mirrored; nor is it removed when that is
    // gone: the deletion by name knows no filter.
    let backup = context.remote.backup.as_ref().and_then(Backup::inside);
    let is_kept = |dirty: &DirtyPath| backup.is_some_and(|dir| dirty.path.is_within(dir));
    let (kept, paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_kept);
    let report = Report {
        synced: kept,
        unswept,
        ..Report::default()
    };
    let grouped = BTreeSet::new();
    let filter = filtered::with_excludes(context.filter.as_ref(), &excludes);
    let mut transfer = Transfer {
        context,
        target: None,
        filter,
        route,
        beside,
        excludes,
        forms,
        budget,
        ceiling: 0,
        making_way: false,
        standby,
        halt,
        grouped,
        in_the_way: Vec::new(),
        indivisible: Vec::new(),
        rules: Vec::new(),
        begun: Begun::default(),
        astray: None,
        bytes: 0,
        view: View::default(),
        has_compared_everything: false,
        made: 0,
        report,
    };
    match transfer.context.pin_target().await {
        Ok(target) => transfer.target = target,
        Err(end) => {
            transfer.report.end = end;
            transfer.report.again = paths;
            return (transfer.report, transfer.standby);
        }
    }
    let root = match transfer.context.open_root().await {
        Ok(root) => Arc::new(root),
        Err(hold) => {
            transfer.report.end = End::Held(hold);
            transfer.report.again = paths;
            return (transfer.report, transfer.standby);
        }
    };
    match transfer.resolve(&root, paths.clone()).await {
        Some((resolved, view)) => {
            transfer.view = view;
            transfer.run(root, resolved).await;
            // Beside a filter it is not known what of it a run was about.
            if transfer.context.filter.is_some() && transfer.is_cut_off() {
                let again = transfer.report.again.clone();
                transfer.doubt(&again);
            }
            transfer.blame().await;
        }
        None => transfer.report.again = paths,
    }
    (transfer.report, transfer.standby)
}

/// Which of the last children may have begun to write: their receivers may go on with what they have.
#[derive(Debug, Default)]
struct Begun {
    /// A standby that ended without a result; another child did its work then.
    standby: bool,
    last: bool,
}

struct Transfer {
    context: Arc<Context>,
    /// Kept until the job has ended.
    target: Pin,
    /// What is not mirrored, or not touched by this job.
    filter: Option<Arc<Filter>>,
    route: Route,
    /// See [`Job::beside`].
    beside: Vec<(Route, Batch)>,
    /// See [`Job::excludes`].
    excludes: Arc<[String]>,
    forms: Forms,
    /// See [`Job::budget`].
    budget: Option<Budget>,
    /// What was taken from it for the run that is made now.
    ceiling: u64,
    /// The run that is made now may remove what is in the way of its files.
    making_way: bool,
    standby: Option<Standby>,
    halt: Halt,
    /// See [`Resolved::grouped`].
    grouped: BTreeSet<RelPath>,
    /// With a filter: names under which the receiver has a directory with content, and the source something else.
    in_the_way: Vec<DirtyPath>,
    /// Trees that cannot be made equal as a whole, and why.
    indivisible: Vec<(DirtyPath, Failure)>,
    /// Filter rules for the run that is made now.
    rules: Vec<OsString>,
    begun: Begun,
    /// How the job ends, once its target was found not to be in its place.
    astray: Option<End>,
    /// What the job's files weigh.
    bytes: u64,
    /// What is mounted below the source.
    view: View,
    /// Without patterns of the job's own that leave something out.
    has_compared_everything: bool,
    /// Entries that were made at the receiver.
    made: u64,
    report: Report,
}

impl Transfer {
    /// What is mounted is looked at before and after: what was missing at either time may be what a name is missing for.
    async fn resolve(
        &self,
        root: &Arc<SourceRoot>,
        paths: Vec<DirtyPath>,
    ) -> Option<(Resolved, View)> {
        let (root, guard) = (Arc::clone(root), Arc::clone(&self.context.guard));
        let links = Arc::clone(&self.context.links);
        let params = &self.context.remote.params;
        let rules = Rules {
            split_large: self.route == Route::Path,
            whole_groups: params.hard_links(),
            one_file_system: params.one_file_system(),
            filter: self.context.filter.clone(),
            hides: self.context.hides.clone(),
        };
        on_disk(move || {
            let mut view = guard.look(&root);
            let resolved = resolve(&root, paths, &links, rules);
            view.extend(guard.look(&root));
            (resolved, view)
        })
        .await
    }

    async fn run(&mut self, root: Arc<SourceRoot>, mut resolved: Resolved) {
        for dirty in std::mem::take(&mut resolved.too_long) {
            let message = "the path is longer than rsync can take (4093 bytes)".into();
            self.report
                .failed
                .push((dirty, Failure { exit: -1, message }));
        }
        for (dirty, error) in std::mem::take(&mut resolved.failed) {
            self.not_seen(dirty, &error);
        }
        self.report.synced.append(&mut resolved.beyond);
        self.report.synced.append(&mut resolved.excluded);
        self.leave_out(&root, &mut resolved);
        self.route_away(&mut resolved);
        self.grouped = std::mem::take(&mut resolved.grouped);
        self.bytes = resolved.bytes;
        self.report.again.append(&mut resolved.partly_known);
        self.send(&root, &mut resolved).await;
        self.make_way(&root).await;
        let gone = std::mem::take(&mut resolved.gone);
        let hidden = std::mem::take(&mut resolved.hidden);
        let missing = Missing {
            gone: gone.iter().map(|dirty| dirty.path.clone()).collect(),
            hidden: hidden.iter().map(|dirty| dirty.path.clone()).collect(),
        };
        self.delete(gone, hidden).await;
        self.sweep(&root).await;
        self.compare(std::mem::take(&mut resolved.trees)).await;
        self.learn(&root).await;
        // A tree that was compared without deletion has left it; the next job counts it.
        self.report.again.append(&mut self.in_the_way);
        self.look_again(root, resolved, missing).await;
    }

    fn not_seen(&mut self, dirty: DirtyPath, error: &io::Error) {
        let exit = error.raw_os_error().unwrap_or(-1);
        let message = format!("the source could not be looked at: {error}");
        self.report.failed.push((dirty, Failure { exit, message }));
    }

    /// What another slot is for.
    fn route_away(&mut self, resolved: &mut Resolved) {
        if self.route == Route::Path {
            let large = std::mem::take(&mut resolved.large).into_iter();
            self.report
                .routed
                .extend(large.map(|dirty| (dirty, Route::Large)));
        }
        if self.route != Route::Tree {
            let trees = std::mem::take(&mut resolved.trees).into_iter();
            self.report
                .routed
                .extend(trees.map(|dirty| (dirty, Route::Tree)));
        }
        // A link where a long job may have seen a directory waits until that one has ended.
        for path in std::mem::take(&mut resolved.links) {
            let job = self.beside.iter().find(|(_, job)| job.overlaps(&path));
            let was_directory =
                |dirty: &DirtyPath| dirty.path == path && dirty.extent == Extent::Subtree;
            if let Some((route, _)) = job
                && let Some(at) = resolved.plain.iter().position(was_directory)
            {
                self.report.routed.push((resolved.plain.remove(at), *route));
            }
        }
    }

    async fn send(&mut self, root: &SourceRoot, resolved: &mut Resolved) {
        let mut written = std::mem::take(&mut resolved.written);
        let mut plain = std::mem::take(&mut resolved.plain);
        if resolved.plain_bytes <= RIDE_ALONG {
            written.append(&mut plain);
        }
        self.send_root_alone(root, &mut written).await;
        self.send_root_alone(root, &mut plain).await;
        self.send_directories(root, &mut written, &mut plain).await;
        let delicate = self.take_delicate(&mut written, &mut plain);
        self.send_delicate(root, delicate).await;
        for (ignore_times, paths) in [(true, written), (false, plain)] {
            if !paths.is_empty() {
                let kind = RunKind::Send { ignore_times };
                self.run_list(root, kind, paths).await;
            }
        }
    }

    fn hold(&mut self, hold: Hold, paths: Vec<DirtyPath>) {
        self.report.again.extend(paths);
        if self.report.end == End::Reached {
            self.report.end = End::Held(hold);
        }
    }

    /// A parent that changed during the runs may have led rsync astray: it is dirty again with all its content. So is
    /// a name that was gone and is taken again: a deletion leaves what exists, and it may be the old directory of that
    /// name that still stands at the receiver. So does that if a file was to take its place, and was a directory by the
    /// time that rsync looked.
    async fn look_again(&mut self, root: Arc<SourceRoot>, resolved: Resolved, missing: Missing) {
        let filter = self.context.filter.clone();
        let looking = on_disk(move || {
            let mut changed = resolved.changed_parents(&root);
            changed.extend(present(&root, &missing.gone));
            changed.extend(directories(&root, &resolved.no_directories));
            changed.extend(uncovered(&root, &missing.hidden, filter.as_deref()));
            changed
        });
        for path in looking.await.unwrap_or_default() {
            self.report
                .again
                .push(DirtyPath::now(path, Extent::Subtree));
        }
    }
}

/// Work on the file system, which blocks, in a thread of its own. `None` if the runtime ends meanwhile.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => None,
    }
}
