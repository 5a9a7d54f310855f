//! The words between a lane's state and its task: jobs and what is to be done next, reports, and what is worth telling.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Budget, Spent};
use super::slot::Batch;
use crate::control::{State, counted};
use crate::dirty::{DirtyPath, Route};
use crate::fail_queue::Failure;
use crate::lasting::Difference;
use crate::path::RelPath;
use crate::rsync::args::Forms;
use crate::rsync::outcome::RefusedForm;

/// Work for one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The slot.
    pub route: Route,
    /// Its batch, in order.
    pub paths: Vec<DirtyPath>,
    /// Directories of which only the receiver may hold something.
    pub unswept: Vec<Unswept>,
    /// The long jobs that run at the same time. A link is not put where one of them may have seen a
    /// directory, since it would write and delete through that link; and nothing is deleted by a listing where it has
    /// half-written files.
    pub beside: Vec<(Route, Batch)>,
    /// Patterns of rsync that hold in this job alone: what they exclude is neither sent nor deleted.
    pub excludes: Arc<[String]>,
    /// What the receiver takes.
    pub forms: Forms,
    /// What would remove more entries at the receiver than are left of it is withheld; `None` for any number.
    pub budget: Option<Budget>,
}

/// A directory in which what only the receiver has is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unswept {
    /// The directory.
    pub dir: RelPath,
    /// Since when the tree has differed that it is of, if that was taken apart; what is there besides was left by a
    /// receiver.
    pub tree: Option<Instant>,
}

impl Unswept {
    /// Where a receiver may have left temporary files.
    #[must_use]
    pub fn left_by_receiver(dir: RelPath) -> Self {
        Self { dir, tree: None }
    }
}

/// What became of a job. Each path of the batch, or an ancestor in its place, is in one of the lists.
#[derive(Debug, Default)]
pub struct Report {
    /// Equal now.
    pub synced: Vec<DirtyPath>,
    /// Gone at the source, and the switches let them stay at the remote: nothing is left to do.
    pub kept: Vec<DirtyPath>,
    /// Dirty as before.
    pub again: Vec<DirtyPath>,
    /// Somebody looked: these belong to another slot.
    pub routed: Vec<(DirtyPath, Route)>,
    /// Failed by themselves.
    pub failed: Vec<(DirtyPath, Failure)>,
    /// At least one of these failed, and it cannot be told which.
    pub undecided: Option<(Vec<DirtyPath>, Failure)>,
    /// Trees that cannot be made equal as a whole.
    pub split: Vec<Split>,
    /// What would have removed more entries than [`Job::budget`] had left, and was not. A tree among them was compared
    /// without deletion, and is among those that are equal as well.
    pub withheld: Vec<DirtyPath>,
    /// So many would have gone by them.
    pub would_delete: u64,
    /// What was taken from [`Job::budget`].
    pub spent: Spent,
    /// How the job ended.
    pub end: End,
    /// What runs were about that had begun and were cut off: the receiver may not be done with it.
    pub cut_off: Vec<DirtyPath>,
    /// The module had no connection left for a run.
    pub crowded: bool,
    /// See [`Job::unswept`].
    pub unswept: Vec<Unswept>,
    /// Directories in which everything was deleted that their listing did not hold.
    pub emptied: Vec<RelPath>,
    /// What was learned of [`Forms::exact_times`].
    pub exact_times: Option<bool>,
    /// rsync runs it took.
    pub runs: u64,
    /// Files whose content was transferred.
    pub files_sent: u64,
    /// Directories, links and whatever else is no regular file that were made at the receiver.
    pub others_made: u64,
    /// Bytes written to the connection.
    pub bytes_sent: u64,
    /// Entries removed at the receiver.
    pub deleted: u64,
    /// Length of its longest run.
    pub took: Duration,
}

/// A tree that something in it keeps from being made equal: a full disk, what cannot be read, a path that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The tree.
    pub tree: DirtyPath,
    /// What its directory holds; together with the entry of the directory itself, and with the deletion of what is only
    /// at the receiver in it, that is all of it.
    pub children: Vec<DirtyPath>,
    /// Whether what is only at the receiver is to be deleted.
    pub deletes: bool,
    /// What kept it.
    pub failure: Failure,
}

/// How a job ended for the lane as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum End {
    /// The remote answered.
    #[default]
    Reached,
    /// The remote is away.
    Unreachable(Failure),
    /// The remote will not have us until somebody mends it.
    Misconfigured(Failure),
    /// The receiver refused an option.
    Refused(RefusedForm),
    /// The receiver's file system is full.
    DiskFull(Failure),
    /// A guard: nothing is sent or deleted for now.
    Held(Hold),
    /// It was told to stop, which says nothing of the remote or of the paths.
    Stopped,
}

impl End {
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Unreachable(failure) | Self::Misconfigured(failure) | Self::DiskFull(failure) => {
                failure.message.clone()
            }
            Self::Held(hold) => hold.to_string(),
            Self::Reached | Self::Refused(_) | Self::Stopped => String::new(),
        }
    }
}

/// Why nothing may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The source root is not there, or cannot be read.
    SourceMissing(String),
    /// Another directory stands under the source root's name.
    SourceReplaced,
    /// The source root has no entry at all, as a mount point without its mount.
    SourceEmpty,
    /// The source root is not the directory that the remote was last equal to.
    OtherSource(Difference),
    /// The target on this machine is not the directory that it was.
    OtherTarget(Difference),
    /// The remote was never equal to this source, and the first comparison would remove most of what it has.
    FirstContact {
        /// Entries that would be removed.
        deletions: u64,
        /// Entries at the remote.
        entries: u64,
    },
    /// More would be removed at the receiver than `maxDelete` allows. Sending goes on.
    TooManyDeletions {
        /// So many entries.
        count: u64,
        /// What it allows.
        limit: u64,
    },
}

impl Hold {
    /// Whether finding out that it still holds takes a comparison of everything.
    #[must_use]
    pub fn is_of_trees(&self) -> bool {
        matches!(self, Self::FirstContact { .. })
    }
}

/// How a person lets go what a guard holds.
const ACCEPT: &str = "accept this one with `sersync resume --accept-source`";

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SourceMissing(cause) => write!(f, "the source is missing: {cause}"),
            Self::SourceReplaced => write!(
                f,
                "another directory stands where the source was; put the source back, or {ACCEPT}"
            ),
            Self::SourceEmpty => f.write_str(
                "the source is empty, as an unmounted file system would be; it goes on when the source has an entry, \
                 or when `sersync resume --accept-source` says that it is to be empty",
            ),
            Self::OtherSource(difference) => write!(
                f,
                "the source is not the directory that this remote was last equal to: {difference}; \
                 mount it or put it back, or {ACCEPT}"
            ),
            Self::OtherTarget(difference) => write!(
                f,
                "the target is not the directory that it was: {difference}; \
                 mount it or put it back, or {ACCEPT}"
            ),
            Self::FirstContact { deletions, entries } => write!(
                f,
                "the first comparison would remove {deletions} of {entries} entries at the remote; \
                 check that it is the right one, and if it is, say `sersync resume --accept-source`"
            ),
            Self::TooManyDeletions { count, limit } => write!(
                f,
                "{} would be deleted at once, and `maxDelete` allows {limit}; \
                 put them back, or accept that by `sersync resume --accept-deletions`",
                counted(*count, "entry", "entries")
            ),
        }
    }
}

/// What is worth telling: a lane's condition changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The remote went away, or will not have us.
    Down {
        /// rsync's exit code and words.
        failure: Failure,
        /// Whether somebody must mend something.
        needs_mending: bool,
    },
    /// It answers again, after so long.
    Back(Duration),
    /// A guard stopped the lane.
    Held(Hold),
    /// It goes on.
    Released,
    /// A path failed by itself.
    PathFailed(RelPath, Failure),
    /// A path of which that was told got through or is gone, after so many failures.
    PathRecovered(RelPath, u32),
    /// What a remote has of a path is kept, since a file system is not mounted there: why, in words without a path.
    VolumeMissing(RelPath, String),
    /// From now on without this option.
    FormChanged(RefusedForm),
    /// The push that the schedule asked for got through.
    Pushed {
        /// Entries whose content was transferred, or that were made.
        sent: u64,
        /// Entries removed at the receiver.
        deleted: u64,
        /// Whether nothing was known to differ, so that what was sent or deleted is drift.
        alone: bool,
    },
    /// It did not, and is left to the next time.
    PushFailed(Failure),
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be started now.
    pub jobs: Vec<Job>,
    /// An empty run is to find out whether the remote answers.
    pub probe: bool,
    /// Everything is compared: jobs may have written and deleted where a link led them.
    pub after_detour: bool,
    /// When to ask again if nothing happens.
    pub wake: Option<Instant>,
}

/// How it stands with what somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// All of it is at the receiver.
    Equal,
    /// All but what is in the fail queue, with so many paths.
    Failed(u64),
    /// Not before somebody resumes.
    Paused,
    /// Not before a guard lets go.
    Held(String),
    /// Not before the remote, which was just tried, can be reached: why, in words that name no file.
    Unreachable(String),
}

/// What a lane is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// In a word.
    pub state: State,
    /// See [`super::LaneState::pending`].
    pub pending: u64,
    /// Paths in the fail queue.
    pub failed: u64,
    /// See [`super::LaneState::oldest_owed`].
    pub oldest: Option<Instant>,
    /// When the remote is tried again, while it cannot be reached.
    pub next_try: Option<Instant>,
    /// What is wrong, or was wrong last, in words that name no file.
    pub last_error: String,
}
