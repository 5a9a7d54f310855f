//! A mirror with a certain source directory: it follows the watcher, feeds the lanes, and answers what is asked.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, trace, warn};

use super::{ANSWERS_WITHIN, MirrorTask, Verifier};
use crate::change::{Blindness, Change, WatchEvent};
use crate::config::{MirrorConfig, Scan};
use crate::control::{Notice, Scope, counted};
use crate::lane::Settled;
use crate::lane::context::{Context, filtered};
use crate::lane::task::{LaneHandle, LaneMessage, LaneTask, Shown};
use crate::lane::transfer::on_disk;
use crate::lasting::Lasting;
use crate::links::LinkIndex;
use crate::message_id as id;
use crate::path::{Identity, RelPath, SourceRoot};
use crate::plugin::Witness;
use crate::ssh;
use crate::sysctl::{self, Limit, Limits};
use crate::watch::file_system::{self, Shared};
use crate::watch::inotify::Inotify;
use crate::watch::{PULSE, WatchConfig, Watcher, Watching};

mod absence;
mod questions;

pub use questions::together;

use absence::{look_at_volumes, wait_for_return};

/// Messages between the watcher's thread and the mirror; past it the kernel's queue holds what comes.
const EVENTS: usize = 256;
/// How often a source that cannot be watched is tried again.
const WATCH_RETRY: Duration = Duration::from_secs(10);
/// How often an empty root is looked at: something may be mounted over it, which raises no event.
const EMPTY_CHECK: Duration = Duration::from_secs(2);
/// How often the root is looked at otherwise, for what raises no event: a directory above it was renamed.
const ROUTINE_CHECK: Duration = Duration::from_secs(120);
/// A source to which others may write too is compared this often.
const SCAN_EVERY: Duration = Duration::from_secs(60);

/// How a session with one source directory ended.
pub(super) enum SessionEnd {
    Stopped,
    /// Another directory is to be taken for the source.
    NewSource,
}

/// Who waits for the watcher.
enum Waiting {
    Flush(oneshot::Sender<Settled>),
    Verify(RelPath, Verifier),
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// The watcher has not yet been everywhere.
    Walking,
    Whole,
    /// It is not there, and the lanes know that.
    Absent,
}

/// A mirror with a certain source directory.
pub(super) struct Session<'a> {
    mirror: &'a mut MirrorTask,
    identity: Identity,
    lasting: Lasting,
    /// Whether the source had an entry at some time. An empty directory may be a mount point that waits for its mount.
    was_filled: bool,
    links: Arc<LinkIndex>,
    lanes: Vec<LaneHandle>,
    witness: Option<Arc<Witness>>,
    tasks: JoinSet<()>,
    stop_lanes: CancellationToken,
    push_when_scanned: bool,
    watching: Option<Watching>,
    /// Who waits for the watcher to have told all that had happened by then.
    waiting: HashMap<u64, (Scope, Waiting)>,
    next_question: u64,
    sight: Sight,
    /// Who waits for the watcher to have been everywhere.
    verifying: Vec<(Scope, RelPath, Verifier)>,
    /// A person has accepted what is there: it may be another directory.
    recheck: Arc<Notify>,
    /// When everything is to be compared, for changes of which the kernel tells nothing.
    scan_at: Option<Instant>,
    /// The file system of which that was said.
    shared: Option<Shared>,
    /// Looks at what file system the source is on.
    looks: JoinSet<io::Result<Option<Shared>>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(mirror: &'a mut MirrorTask, root: &SourceRoot) -> Self {
        let (identity, lasting) = (root.identity(), root.lasting());
        let MirrorTask { config, shared, .. } = mirror;
        let links = Arc::new(LinkIndex::default());
        let mut tasks = JoinSet::new();
        let stop_lanes = CancellationToken::new();
        let mut lanes = Vec::new();
        let witness = Witness::new(
            &shared.plugins,
            &config.source,
            &mirror.numbers,
            config.switches.removals(),
            &shared.board,
        );
        let numbered = config.remotes.iter().zip(&mirror.numbers);
        for ((remote, number), guard) in numbered.zip(&mirror.guards) {
            let (remote, filter, hides) = filtered(remote, config.filter.as_ref());
            let context = Context {
                source: config.source.clone(),
                identity,
                lasting,
                guard: Arc::clone(guard),
                removals: config.switches.removals(),
                ssh: ssh::Connection::to(&remote, &shared.sockets).map(Arc::new),
                remote,
                filter,
                hides,
                links: Arc::clone(&links),
                program: shared.program.clone(),
                places: shared.places.clone(),
                fail_log: shared.fail_log.clone(),
                stop: stop_lanes.clone(),
                crowd: Arc::new(Notify::new()),
                progress: watch::Sender::new(100),
            };
            let shown = Shown {
                number: *number,
                board: shared.board.clone(),
                witness: witness.clone(),
            };
            let paused = mirror.paused.contains(number);
            let store = shared.store_of(&config.source, &context.remote);
            let (task, handle) = LaneTask::new(context, shared.retry_period, paused, store, shown);
            tasks.spawn(task.run());
            lanes.push(handle);
        }
        let push_when_scanned = shared.initial_push;
        Self {
            mirror,
            identity,
            lasting,
            was_filled: false,
            links,
            lanes,
            witness,
            tasks,
            stop_lanes,
            push_when_scanned,
            watching: None,
            waiting: HashMap::new(),
            next_question: PULSE + 1,
            sight: Sight::Walking,
            verifying: Vec::new(),
            recheck: Arc::default(),
            scan_at: None,
            shared: None,
            looks: JoinSet::new(),
        }
    }

    pub(super) async fn end(mut self) {
        self.stop_lanes.cancel();
        self.watching = None;
        while let Some(ended) = self.tasks.join_next().await {
            pass_panic_on(ended);
        }
    }

    /// Answers what is asked until something is done; `None` if the mirror is to stop.
    async fn serve_until<T>(&mut self, done: impl Future<Output = T>) -> Option<T> {
        let mut done = pin!(done);
        loop {
            tokio::select! {
                () = self.mirror.stop.cancelled() => return None,
                done = &mut done => return Some(done),
                Some(message) = self.mirror.inbox.recv() => self.on_message(message).await,
                excludes = self.mirror.timetable.due() => {
                    self.tell_lanes(|| LaneMessage::Push(Arc::clone(&excludes))).await;
                }
                () = sleep_until(self.scan_at) => {
                    self.plan_scan();
                    self.tell_lanes(|| LaneMessage::Scan).await;
                }
                Some(looked) = self.looks.join_next() => self.on_looked(looked),
                Some(ended) = self.tasks.join_next() => pass_panic_on(ended),
            }
        }
    }

    async fn look_at_volumes(&mut self) -> Option<()> {
        let look = look_at_volumes(&self.mirror.config, self.mirror.guards.clone());
        let mut look = pin!(look);
        let soon = tokio::time::timeout(ANSWERS_WITHIN, look.as_mut());
        if self.serve_until(soon).await?.is_err() {
            self.mirror.does_not_answer();
            self.serve_until(look).await?;
        }
        Some(())
    }

    pub(super) async fn run(&mut self, root: SourceRoot) -> SessionEnd {
        let mut root = root;
        loop {
            if self.look_at_volumes().await.is_none() {
                return SessionEnd::Stopped;
            }
            let (sender, mut events) = mpsc::channel(EVENTS);
            match self.watch(root, sender) {
                Ok(watching) => {
                    self.watching = Some(watching);
                    self.plan_scan();
                    self.mirror
                        .show(|shown| (shown.missing, shown.is_watched) = (None, false));
                    if self.follow(&mut events).await.is_none() {
                        return SessionEnd::Stopped;
                    }
                }
                Err(error) => {
                    let source = self.mirror.config.source.display();
                    let advice = sysctl::advice_on(&error, Path::new(sysctl::DIRECTORY));
                    error!(
                        MESSAGE_ID = id::LIMIT_REACHED,
                        SERSYNC_MIRROR = %source,
                        "{source} cannot be watched, trying again: {error}{advice}"
                    );
                    let cause = format!("it cannot be watched: {error}{advice}");
                    self.mirror.show(|shown| shown.missing = Some(cause));
                    if self
                        .serve_until(tokio::time::sleep(WATCH_RETRY))
                        .await
                        .is_none()
                    {
                        return SessionEnd::Stopped;
                    }
                }
            }
            self.watching = None;
            self.tell_lanes(|| LaneMessage::Source { present: false })
                .await;
            self.sight = Sight::Absent;
            self.answer_without_watcher().await;
            let back = wait_for_return(
                self.mirror.config.clone(),
                (self.identity, self.lasting),
                self.is_settled(),
                self.mirror.guards.clone(),
                self.mirror.shared.board.clone(),
            );
            match self.serve_until(back).await {
                None => return SessionEnd::Stopped,
                Some(None) => return SessionEnd::NewSource,
                Some(Some(found)) => root = found,
            }
            self.sight = Sight::Walking;
            self.tell_lanes(|| LaneMessage::Source { present: true })
                .await;
            self.push_when_scanned = true;
        }
    }

    fn watch(
        &mut self,
        root: SourceRoot,
        events: mpsc::Sender<WatchEvent>,
    ) -> io::Result<Watching> {
        self.was_filled |= !root.is_empty()?;
        let MirrorConfig {
            source,
            remotes,
            switches,
            filter,
            scan: _,
        } = &self.mirror.config;
        let config = WatchConfig {
            source: source.clone(),
            switches: *switches,
            one_file_system: !remotes.is_empty()
                && remotes.iter().all(|remote| remote.params.one_file_system()),
            filter: filter.clone(),
        };
        Inotify.start(root, config, events)
    }

    /// Hands on what the watcher says, until the source is not there any more; `None` if the mirror is to stop.
    async fn follow(&mut self, events: &mut mpsc::Receiver<WatchEvent>) -> Option<()> {
        loop {
            let check = if self.is_settled() {
                ROUTINE_CHECK
            } else {
                EMPTY_CHECK
            };
            let recheck = Arc::clone(&self.recheck);
            let next = async {
                tokio::select! {
                    next = tokio::time::timeout(check, events.recv()) => next.ok(),
                    () = recheck.notified() => None,
                }
            };
            let is_there = match self.serve_until(next).await? {
                Some(Some(event)) => self.on_event(event).await,
                // Its thread has ended, which it never does by itself.
                Some(None) => panic!(
                    "the watcher of {} has ended",
                    self.mirror.config.source.display()
                ),
                None => {
                    if self.scan_at.is_none() {
                        self.plan_scan();
                    }
                    self.is_source_there().await
                }
            };
            self.show_gauges();
            if !is_there {
                return Some(());
            }
        }
    }

    /// `false` when the source is gone.
    async fn on_event(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Changes(mut changes) => {
                self.was_filled = true;
                if self.links.note(&mut changes) {
                    changes.push(Change::subtree(RelPath::root()));
                }
                for change in &changes {
                    trace!("{change:?}");
                }
                if let Some(witness) = &self.witness {
                    witness.on_changes(&changes);
                }
                self.tell_changes(changes).await;
            }
            WatchEvent::Scanned { directories } => {
                let source = self.mirror.config.source.display();
                info!(
                    SERSYNC_MIRROR = %source,
                    "watching {} of {source}",
                    counted(directories, "directory", "directories")
                );
                if std::mem::take(&mut self.push_when_scanned) {
                    self.tell_changes(vec![Change::subtree(RelPath::root())])
                        .await;
                }
                self.mirror.show(|shown| shown.is_watched = true);
                self.sight = Sight::Whole;
                for (scope, path, reply) in std::mem::take(&mut self.verifying) {
                    self.verify(scope, path, reply).await;
                }
            }
            WatchEvent::Overflowed => {
                let source = self.mirror.config.source.display();
                let advice = Limit::QueuedEvents.advice(Path::new(sysctl::DIRECTORY), 1);
                warn!(
                    MESSAGE_ID = id::OVERFLOWED,
                    SERSYNC_MIRROR = %source,
                    "the kernel dropped events of {source}, the whole tree is compared; \
                     if this happens often, {advice}"
                );
                self.mirror.show(|shown| shown.overflows += 1);
                self.mirror.shared.board.notice(Notice::Overflowed);
            }
            WatchEvent::Uncovered { directories, cause } => self.on_uncovered(directories, cause),
            WatchEvent::Reached(number) => {
                if let Some((scope, waiting)) = self.waiting.remove(&number) {
                    self.on_reached(scope, waiting).await;
                }
            }
            WatchEvent::RootGone { is_certain } => {
                return !is_certain && self.is_source_there().await;
            }
        }
        true
    }

    fn on_uncovered(&self, directories: u64, cause: Blindness) {
        if cause == Blindness::NoWatches && directories > 0 {
            self.raise_limits(directories);
        }
        let source = self.mirror.config.source.display();
        if directories == 0 {
            return info!(SERSYNC_MIRROR = %source, "all directories of {source} are watched again");
        }
        let cause = match cause {
            Blindness::NoWatches => format!(
                "the kernel allows no more watches: {}",
                Limit::Watches.advice(Path::new(sysctl::DIRECTORY), directories)
            ),
            Blindness::Denied => "they may not be read".into(),
            Blindness::Failed(cause) => cause,
        };
        error!(
            MESSAGE_ID = id::LIMIT_REACHED,
            SERSYNC_MIRROR = %source,
            "{source}: {} not watched, only compared every few minutes: {cause}",
            counted(directories, "directory is", "directories are")
        );
    }

    /// More watches for the next try, if we may.
    fn raise_limits(&self, unwatched: u64) {
        let watching = self.watching.as_ref();
        let watches = watching.map_or(0, |it| it.gauges().watches.load(Ordering::Relaxed));
        let wanted = Limits::needed_for(watches + unwatched);
        for report in sysctl::raise(Path::new(sysctl::DIRECTORY), wanted) {
            if report.is_raised() {
                info!(MESSAGE_ID = id::LIMITS_RAISED, "{report}");
            }
        }
    }

    /// Finds out whether the source is to be scanned, and when. The file system may hang, so nobody waits for it.
    fn plan_scan(&mut self) {
        let MirrorConfig { source, scan, .. } = &self.mirror.config;
        match scan {
            // One that hangs is enough.
            Scan::Auto if !self.looks.is_empty() => {}
            Scan::Auto => {
                let source = source.clone();
                self.scan_at = None;
                self.looks
                    .spawn_blocking(move || file_system::shared(&source));
            }
            Scan::Every(period) => self.scan_every(Some(*period)),
            Scan::Never => self.scan_every(None),
        }
    }

    fn scan_every(&mut self, period: Option<Duration>) {
        self.scan_at = period.map(|period| Instant::now() + period);
        self.mirror.show(|shown| shown.scan_period = period);
    }

    /// What cannot be found out now is found out next time.
    fn on_looked(&mut self, looked: Result<io::Result<Option<Shared>>, JoinError>) {
        let shared = match looked {
            Ok(found) => found.ok().flatten(),
            Err(failure) => return pass_panic_on(Err(failure)),
        };
        let MirrorConfig { source, .. } = &self.mirror.config;
        if let Some(Shared { mounted_at, kind }) = shared.as_ref().filter(|_| shared != self.shared)
        {
            let (source, at) = (source.display(), mounted_at.display());
            warn!(
                MESSAGE_ID = id::SOURCE_SHARED,
                SERSYNC_MIRROR = %source,
                "{source}: at {at} is {kind}, and the kernel does not tell what others change there: \
                 everything is compared every {} s; mirror it from the machine that has the disk if you can",
                SCAN_EVERY.as_secs()
            );
        }
        let period = shared.as_ref().map(|_| SCAN_EVERY);
        self.shared = shared;
        self.scan_every(period);
    }

    /// Answers meanwhile what is asked: the file system may hang. If the mirror is to stop, the source counts as there.
    async fn is_source_there(&mut self) -> bool {
        let source = self.mirror.config.source.clone();
        let (identity, lasting) = (self.identity, self.lasting);
        let looking = on_disk(move || {
            SourceRoot::open(&source).is_ok_and(|root| root.is(identity, &lasting))
        });
        self.serve_until(looking).await.flatten().unwrap_or(true)
    }

    /// Whether this source is the one to be waited for if it goes: it held something, and no remote was last equal to
    /// another.
    fn is_settled(&self) -> bool {
        self.was_filled && !self.mirror.is_other(&self.lasting)
    }

    fn show_gauges(&self) {
        let Some(watching) = &self.watching else {
            return;
        };
        let gauges = watching.gauges();
        let watches = gauges.watches.load(Ordering::Relaxed);
        let unwatched = gauges.uncovered.load(Ordering::Relaxed);
        self.mirror.show(|shown| {
            shown.watches = watches;
            shown.unwatched = unwatched;
        });
    }

    async fn tell_changes(&self, changes: Vec<Change>) {
        let changes: Arc<[Change]> = changes.into();
        self.tell_lanes(|| LaneMessage::Changes(Arc::clone(&changes)))
            .await;
    }

    async fn tell_lanes(&self, message: impl Fn() -> LaneMessage) {
        for lane in &self.lanes {
            lane.tell(message()).await;
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A lane ends only when it is told to; a panic in it is a fault of ours that must not go unseen.
fn pass_panic_on(ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        std::panic::resume_unwind(failure.into_panic());
    }
}
