//! What can be asked of a running instance, and what it says of itself.
//!
//! This is the whole contract between the daemon and whoever controls it: the bus knows nothing else of the daemon, and
//! the daemon nothing of the bus. Questions are messages with an answer ([`Request`], through a [`ControlHandle`]); the
//! state is a [`Snapshot`] that is always there to be read, also while everything is busy; what happens once is a
//! [`Notice`].

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Questions that may wait for the daemon, which answers at once or hands them on.
const REQUESTS: usize = 64;
/// Notices kept for a listener that is behind; it misses what is older.
const NOTICES: usize = 256;

/// Which lanes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the instance.
    All,
    /// The remote with this number; see [`RemoteSnapshot::number`].
    Remote(u32),
}

/// What is to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// At which remotes.
    pub scope: Scope,
    /// An absolute path in a mirror's source: only this and what is below it; `None` for everything.
    pub path: Option<PathBuf>,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// A question, and where its answer goes.
#[derive(Debug)]
pub enum Request {
    /// Gather changes, but send and delete nothing; answered when no rsync runs any more.
    Pause(Scope, Reply<()>),
    /// Go on.
    Resume(Scope, Reply<()>),
    /// Take the source, what is mounted below it, and a local target for right as they are.
    AcceptSource(Scope, Reply<()>),
    /// Read the configuration again.
    Reload(Reply<()>),
    /// Compare and mend; answered with the number of the run, which ends in a [`Notice::RunFinished`].
    Resync(Selection, Reply<u64>),
    /// Compare by checksum and change nothing; answered as [`Resync`](Self::Resync).
    Verify(Selection, Reply<u64>),
    /// Wait until everything that changed before is at every remote; `false` if it is not by then.
    Flush(Duration, Reply<bool>),
    /// Try every failed path now; answered with their number.
    RetryFailed(Scope, Reply<u32>),
    /// Make the deletions that `maxDelete` withholds, once; answered with the number of entries.
    AcceptDeletions(Scope, Reply<u64>),
    /// At most so many failed paths whose number is higher.
    ListFailed {
        /// Paths with a higher number only, in the order of their numbers.
        after_id: u64,
        /// At most so many.
        limit: u32,
        /// The answer.
        reply: Reply<Vec<FailedPath>>,
    },
    /// At most so many of the differences that a finished verification found, after the first `skip`.
    ListDrift {
        /// The verification.
        run: u64,
        /// Leave out so many.
        skip: u64,
        /// At most so many.
        limit: u32,
        /// The answer.
        reply: Reply<Vec<Drift>>,
    },
}

/// A path that failed by itself and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPath {
    /// Good while the path stays in the queue; higher ones failed first later.
    pub id: u64,
    /// Number of the remote.
    pub remote: u32,
    /// Relative to the source of its mirror.
    pub path: Vec<u8>,
    /// rsync's exit code; an errno if the source could not be looked at.
    pub exit: i32,
    /// rsync's words.
    pub message: String,
    /// Tries so far.
    pub attempts: u32,
    /// When it failed first.
    pub first: SystemTime,
    /// When it is tried again; `None` while it is.
    pub next_try: Option<SystemTime>,
}

/// A difference that a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Number of the remote.
    pub remote: u32,
    /// Relative to the source of its mirror.
    pub path: Vec<u8>,
    /// What differs.
    pub kind: DriftKind,
}

/// What differs at a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// The source has it, the receiver not.
    Missing,
    /// The receiver has it, the source not.
    Extra,
    /// The content.
    Content,
    /// Only attributes: times, modes, owners, link targets.
    Attributes,
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Content => "content",
            Self::Attributes => "attributes",
        })
    }
}

/// Why something that was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It would wait until somebody resumes.
    #[error("{0} is paused: resume it first")]
    Paused(String),
    /// It would wait until a guard lets go.
    #[error("{0}")]
    Held(String),
    /// Some paths cannot be brought to a remote.
    #[error("{} failed: `sersync failed` tells more", counted(*.0, "path has", "paths have"))]
    Failed(u64),
    /// The file is not in order; the old configuration stays in force.
    #[error("{0}")]
    InvalidConfiguration(String),
    /// There is no such remote, run or path.
    #[error("{0}")]
    NotFound(String),
    /// An argument makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The instance is ending, or the mirror that was asked.
    #[error("the service is ending, or a reload has ended what was asked for")]
    Stopping,
}

/// What an instance, or a remote of it, is doing. The order is that of urgency: an instance is in the most urgent state
/// of its remotes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything is equal, as far as anybody knows.
    Idle,
    /// Nothing stands yet.
    #[default]
    Starting,
    /// Changes are on their way.
    Syncing,
    /// The source is walked, or everything is compared.
    Scanning,
    /// An administrator paused it.
    Paused,
    /// Some paths have failed, or the remote cannot be reached; it is tried again by itself.
    Degraded,
    /// A guard stopped it: nothing is sent or deleted.
    Held,
    /// It is ending.
    Stopping,
}

impl State {
    /// The word for it on the bus.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Syncing => "syncing",
            Self::Scanning => "scanning",
            Self::Paused => "paused",
            Self::Degraded => "degraded",
            Self::Held => "held",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An instance at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The instance is ending.
    pub stopping: bool,
    /// One entry for each mirror, in the order of the configuration.
    pub mirrors: Vec<MirrorSnapshot>,
    /// One entry for each remote of each mirror, by number.
    pub remotes: Vec<RemoteSnapshot>,
    /// How often a plugin failed, or could not be told.
    pub plugin_failures: u64,
    /// Paths that no plugin was told of, for lack of room.
    pub plugin_dropped: u64,
}

/// The watching side of a mirror at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSnapshot {
    /// Absolute path of the source.
    pub source: PathBuf,
    /// The source is there and every directory of it was walked.
    pub is_watched: bool,
    /// The source is missing or another directory, so the mirror waits for it: why.
    pub missing: Option<String>,
    /// Directories that are watched.
    pub watches: u64,
    /// Directories that are not, for lack of watches or of rights.
    pub unwatched: u64,
    /// How often the kernel dropped events.
    pub overflows: u64,
    /// How often everything is compared, since the kernel does not tell of all changes, or somebody wanted it.
    pub scan_period: Option<Duration>,
}

/// A remote at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteSnapshot {
    /// Its number, for ever: a reload gives new numbers to new remotes.
    pub number: u32,
    /// Absolute path of the source it mirrors.
    pub mirror: PathBuf,
    /// Where that goes, as rsync would write it.
    pub target: String,
    /// What it is doing.
    pub state: State,
    /// Paths that are not known to be equal. A directory that is to be compared counts as one.
    pub pending: u64,
    /// Paths that failed by themselves.
    pub failed: u64,
    /// rsync runs so far.
    pub runs: u64,
    /// Files whose content was transferred.
    pub paths_sent: u64,
    /// Files and directories deleted at the receiver.
    pub paths_deleted: u64,
    /// Bytes written to connections.
    pub bytes_sent: u64,
    /// When the oldest pending change was seen.
    pub oldest_pending: Option<SystemTime>,
    /// When a run last succeeded.
    pub last_success: Option<SystemTime>,
    /// Why it is degraded or held, else the last failure; empty if there was none.
    pub last_error: String,
    /// When it is tried again, while it cannot be reached.
    pub next_try: Option<SystemTime>,
    /// How far the comparison of everything, or of one directory, has come, in percent; 100 if there is none.
    pub percent: u8,
}

impl Snapshot {
    /// The state of the instance as a whole.
    #[must_use]
    pub fn state(&self) -> State {
        if self.stopping {
            return State::Stopping;
        }
        let mirrors = self.mirrors.iter().map(|mirror| match mirror {
            MirrorSnapshot {
                missing: Some(_), ..
            } => State::Held,
            MirrorSnapshot {
                is_watched: false, ..
            } => State::Scanning,
            _ => State::Idle,
        });
        let remotes = self.remotes.iter().map(|remote| remote.state);
        mirrors.chain(remotes).max().unwrap_or_default()
    }

    /// Paths that are not known to be equal, at all remotes together.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.pending).sum()
    }

    /// Paths that failed by themselves, at all remotes together.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.failed).sum()
    }

    /// The remote with this number.
    #[must_use]
    pub fn remote(&self, number: u32) -> Option<&RemoteSnapshot> {
        self.remotes.iter().find(|remote| remote.number == number)
    }

    /// One line for `systemctl status`.
    #[must_use]
    pub fn status(&self) -> String {
        if self.stopping {
            return "ending".into();
        }
        if let Some((mirror, cause)) = self
            .mirrors
            .iter()
            .find_map(|mirror| Some((mirror, mirror.missing.as_ref()?)))
        {
            return format!("held: {}: {cause}", mirror.source.display());
        }
        let what = match (&self.mirrors[..], self.remotes.len()) {
            ([mirror], 0) => format!("changes of {}, to plugins alone", mirror.source.display()),
            ([mirror], 1) => format!("{} to {}", mirror.source.display(), self.remotes[0].target),
            ([mirror], remotes) => format!("{} to {remotes} remotes", mirror.source.display()),
            (mirrors, remotes) => format!("{} directories to {remotes} remotes", mirrors.len()),
        };
        let verb = match self.state() {
            State::Paused => "paused: mirroring",
            State::Held => "held: mirroring",
            State::Degraded => "degraded: mirroring",
            State::Starting | State::Scanning => "scanning",
            State::Idle | State::Syncing | State::Stopping => "mirroring",
        };
        let percent = self.remotes.iter().map(|remote| remote.percent).min();
        let progress = match percent {
            Some(percent) if percent < 100 => format!(", {percent} %"),
            _ => String::new(),
        };
        let (pending, failed) = (self.pending(), self.failed());
        let cause = self
            .remotes
            .iter()
            .find(|remote| matches!(remote.state, State::Degraded | State::Held))
            .map(|remote| format!(": {}", remote.last_error))
            .unwrap_or_default();
        format!("{verb} {what}{progress}, {pending} pending, {failed} failed{cause}")
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A run that was asked for ended.
    RunFinished {
        /// Its number.
        id: u64,
        /// Whether every remote is equal, or for a verification: was.
        ok: bool,
        /// A sentence, without paths.
        detail: String,
    },
    /// The kernel dropped events; everything is compared.
    Overflowed,
    /// A remote could not be reached, or paths failed.
    SyncFailed {
        /// Number of the remote.
        remote: u32,
        /// rsync's exit code.
        exit: i32,
        /// A sentence, without paths.
        cause: String,
    },
}

/// The way to the daemon; cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    requests: mpsc::Sender<Request>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Sender<Notice>,
}

/// The daemon's end: requests come out, the state and the notices go in.
#[derive(Debug)]
pub struct ControlEnd {
    /// What is asked.
    pub requests: mpsc::Receiver<Request>,
    /// Where the state is shown.
    pub board: Board,
}

/// Both ends.
#[must_use]
pub fn channel() -> (ControlHandle, ControlEnd) {
    let (sender, requests) = mpsc::channel(REQUESTS);
    let (snapshots, receiver) = watch::channel(Arc::default());
    let (notices, _) = broadcast::channel(NOTICES);
    let handle = ControlHandle {
        requests: sender,
        snapshots: receiver,
        notices: notices.clone(),
    };
    let board = Board { snapshots, notices };
    (handle, ControlEnd { requests, board })
}

impl ControlHandle {
    /// The state of now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// A view of the state that can be waited for.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// What happens from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Asks, and waits for the answer.
    ///
    /// ```ignore
    /// control.ask(|reply| Request::Pause(Scope::All, reply)).await
    /// ```
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).await.is_err() {
            return Err(ControlError::Stopping);
        }
        answer.await.unwrap_or(Err(ControlError::Stopping))
    }
}

/// How much is logged, and where to; what `systemctl service-log-level` shows and sets.
pub trait LogControl: fmt::Debug + Send + Sync {
    /// What is logged: this, and what is more urgent.
    fn level(&self) -> LogLevel;

    /// From now on. A log that tells fewer levels apart takes the nearest that shows no less, and says that in
    /// [`level`](Self::level).
    fn set_level(&self, level: LogLevel);

    /// Where it goes; settled when the process starts.
    fn target(&self) -> LogTarget;
}

/// The levels of syslog, from the most urgent to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `emerg`
    Emergency,
    /// `alert`
    Alert,
    /// `crit`
    Critical,
    /// `err`
    Error,
    /// `warning`
    Warning,
    /// `notice`
    Notice,
    /// `info`
    Info,
    /// `debug`
    Debug,
}

impl LogLevel {
    /// All of them, from the most urgent to the least.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// The word for it in `org.freedesktop.LogControl1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emerg",
            Self::Alert => "alert",
            Self::Critical => "crit",
            Self::Error => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = ControlError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == word)
            .ok_or_else(|| {
                let words = Self::ALL.map(Self::as_str).join(", ");
                ControlError::InvalidArgument(format!(
                    "no log level `{word}`: it is one of {words}"
                ))
            })
    }
}

/// Where a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// The journal, with fields.
    Journal,
    /// Standard error.
    Console,
}

impl LogTarget {
    /// The word for it in `org.freedesktop.LogControl1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Console => "console",
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where the daemon and its tasks show what they do.
#[derive(Debug, Clone)]
pub struct Board {
    snapshots: watch::Sender<Arc<Snapshot>>,
    notices: broadcast::Sender<Notice>,
}

impl Board {
    /// Changes the state; whoever waits is woken only if it differs then.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshots.send_if_modified(|current| {
            let mut next = Snapshot::clone(current);
            change(&mut next);
            let differs = next != **current;
            if differs {
                *current = Arc::new(next);
            }
            differs
        });
    }

    /// Tells everybody who listens.
    pub fn notice(&self, notice: Notice) {
        // Nobody listening is as good as any.
        let _ = self.notices.send(notice);
    }
}

/// A number with its noun: `1 path`, `2 paths`.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
