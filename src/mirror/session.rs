//! A mirror with a certain source directory: it follows the watcher, feeds the lanes, and answers what is asked.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, trace, warn};

use super::{MISSING_CHECK, MirrorMessage, MirrorTask, Question, is_meant};
use crate::change::{Blindness, Change, WatchEvent};
use crate::config::{MirrorConfig, Scan, Target};
use crate::control::{Board, Notice, Scope, counted};
use crate::filter::Filter;
use crate::lane::Settled;
use crate::lane::context::{Context, filtered};
use crate::lane::guard::Guard;
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
use crate::watch::{WatchConfig, Watcher, Watching};

/// Messages between the watcher's thread and the mirror; past it the kernel's queue holds what comes.
const EVENTS: usize = 256;
/// How often a source that cannot be watched is tried again.
const WATCH_RETRY: Duration = Duration::from_secs(10);
/// How often an empty root is looked at: something may be mounted over it, which raises no event.
const EMPTY_CHECK: Duration = Duration::from_secs(2);
/// How often the root is looked at otherwise, for what raises no event: a directory above it was renamed.
const ROUTINE_CHECK: Duration = Duration::from_secs(120);
/// How often a watcher that was asked for a sign of life is looked at.
const BEAT_CHECK: Duration = Duration::from_millis(20);
/// A source to which others may write too is compared this often.
const SCAN_EVERY: Duration = Duration::from_secs(60);
/// A question to the watcher whose answer nobody waits for.
const PULSE: u64 = 0;

/// How a session with one source directory ended.
pub(super) enum SessionEnd {
    Stopped,
    /// Another directory is to be taken for the source.
    NewSource,
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
    flushing: HashMap<u64, (Scope, oneshot::Sender<Settled>)>,
    next_question: u64,
    /// A person has accepted what is there: it may be another directory.
    recheck: Arc<Notify>,
    /// When everything is to be compared, for changes of which the kernel tells nothing.
    scan_at: Option<Instant>,
    /// The file system of which that was said.
    shared: Option<Shared>,
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
                children: Arc::clone(&shared.children),
                fail_log: shared.fail_log.clone(),
                stop: stop_lanes.clone(),
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
            flushing: HashMap::new(),
            next_question: PULSE + 1,
            recheck: Arc::default(),
            scan_at: None,
            shared: None,
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
                Some(ended) = self.tasks.join_next() => pass_panic_on(ended),
            }
        }
    }

    pub(super) async fn run(&mut self, root: SourceRoot) -> SessionEnd {
        let mut root = root;
        loop {
            let look = look_at_volumes(&self.mirror.config, self.mirror.guards.clone());
            if self.serve_until(look).await.is_none() {
                return SessionEnd::Stopped;
            }
            let (sender, mut events) = mpsc::channel(EVENTS);
            match self.watch(root, sender) {
                Ok(watching) => {
                    self.watching = Some(watching);
                    self.plan_scan();
                    self.mirror.show(|shown| shown.missing = None);
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
            for (_, (_, reply)) in self.flushing.drain() {
                let _ = reply.send(Settled::Held("the source is not there".into()));
            }
            self.tell_lanes(|| LaneMessage::Source { present: false })
                .await;
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
                    self.is_source_there()
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
            WatchEvent::Changes(changes) => {
                self.was_filled = true;
                for change in &changes {
                    trace!("{change:?}");
                    if let Some(inode) = change.linked {
                        self.links.note(&change.path, inode);
                    }
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
                if let Some((scope, reply)) = self.flushing.remove(&number) {
                    match self.blind_spots() {
                        Some(cause) => drop(reply.send(Settled::Held(cause))),
                        None => self.settle(scope, None, reply).await,
                    }
                }
            }
            WatchEvent::RootGone { is_certain } => return !is_certain && self.is_source_there(),
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

    /// Finds out whether the source is to be scanned, and when.
    fn plan_scan(&mut self) {
        let MirrorConfig { source, scan, .. } = &self.mirror.config;
        let shared = match scan {
            // What cannot be found out now is found out next time.
            Scan::Auto => file_system::shared(source).ok().flatten(),
            Scan::Every(_) | Scan::Never => None,
        };
        let period = match (scan, &shared) {
            (Scan::Every(period), _) => Some(*period),
            (Scan::Auto, Some(_)) => Some(SCAN_EVERY),
            (Scan::Auto, None) | (Scan::Never, _) => None,
        };
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
        self.shared = shared;
        self.scan_at = period.map(|period| Instant::now() + period);
        self.mirror.show(|shown| shown.scan_period = period);
    }

    fn is_source_there(&self) -> bool {
        SourceRoot::open(&self.mirror.config.source)
            .is_ok_and(|root| root.is(self.identity, &self.lasting))
    }

    /// Whether this source is the one to be waited for if it goes: it held something, and no remote was last equal to
    /// another.
    fn is_settled(&self) -> bool {
        self.was_filled && !self.mirror.is_other(&self.lasting)
    }

    /// A person says that whatever is there now is the source.
    fn accept_source(&self, scope: Scope) -> impl Future<Output = Result<(), String>> + use<> {
        let MirrorTask {
            config,
            numbers,
            guards,
            ..
        } = &*self.mirror;
        let source = config.source.clone();
        let meant = config.remotes.iter().zip(numbers).zip(guards);
        let meant = meant.filter(|((_, number), _)| is_meant(scope, **number));
        let meant: Vec<_> = meant
            .map(|((remote, _), guard)| (remote.target.clone(), Arc::clone(guard)))
            .collect();
        async move {
            let accepting = on_disk(move || {
                let root = SourceRoot::open(&source)
                    .map_err(|error| format!("the source cannot be opened: {error}"))?;
                for (target, guard) in meant {
                    let target = match &target {
                        Target::Local { path } => Some(path.as_path()),
                        _ => None,
                    };
                    guard.accept(&root, target);
                    guard.keep().map_err(|error| {
                        format!("it is accepted, but the next start will not know it: {error}")
                    })?;
                }
                Ok(())
            });
            accepting
                .await
                .unwrap_or_else(|| Err("it is ending".into()))
        }
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

    async fn on_message(&mut self, message: MirrorMessage) {
        let MirrorMessage { scope, question } = message;
        match question {
            Question::Pause(reply) => {
                let meant = self.mirror.meant(scope);
                self.mirror.paused.extend(meant);
                let waits = self.ask_lanes(scope, LaneMessage::Pause).await;
                answer_when_all_have(waits, reply, |_| ());
            }
            Question::Resume => {
                let meant = self.mirror.meant(scope);
                self.mirror.paused.retain(|number| !meant.contains(number));
                for lane in self.lanes_of(scope) {
                    lane.tell(LaneMessage::Resume).await;
                }
            }
            Question::AcceptSource(reply) => {
                let accepted = self.accept_source(scope).await;
                for lane in self.lanes_of(scope) {
                    lane.tell(LaneMessage::Accepted).await;
                }
                self.recheck.notify_one();
                let _ = reply.send(accepted);
            }
            Question::Filter(filter) => self.refilter(filter).await,
            Question::Flush(reply) => self.flush(scope, reply),
            Question::Resync(path, reply) => self.settle(scope, Some(path), reply).await,
            Question::Verify(path, reply) => {
                let numbers: Vec<u32> = self.lanes_of(scope).map(|lane| lane.number).collect();
                let verify = |reply| LaneMessage::Verify(path.clone(), reply);
                let waits = self.ask_lanes(scope, verify).await;
                answer_when_all_have(waits, reply, |all| numbers.into_iter().zip(all).collect());
            }
            Question::RetryFailed(reply) => {
                let waits = self.ask_lanes(scope, LaneMessage::RetryFailed).await;
                answer_when_all_have(waits, reply, |all| all.into_iter().sum());
            }
            Question::AcceptDeletions(reply) => {
                let waits = self.ask_lanes(scope, LaneMessage::AcceptDeletions).await;
                answer_when_all_have(waits, reply, |all| all.into_iter().sum());
            }
            Question::ListFailed(reply) => {
                let waits = self.ask_lanes(scope, LaneMessage::ListFailed).await;
                answer_when_all_have(waits, reply, |all| all.into_iter().flatten().collect());
            }
            Question::Pulse(reply) => self.pulse(reply).await,
        }
    }

    /// The lanes come first: what the watcher then tells is resolved by the filter that had it told.
    async fn refilter(&mut self, filter: Arc<Filter>) {
        let source = self.mirror.config.source.display();
        info!(
            SERSYNC_MIRROR = %source,
            "another filter holds for {source}: what it excludes no more is sent"
        );
        self.mirror.config.filter = Some(Arc::clone(&filter));
        for (lane, remote) in self.lanes.iter().zip(&self.mirror.config.remotes) {
            if let (_, Some(filter), _) = filtered(remote, Some(&filter)) {
                lane.tell(LaneMessage::Filter(filter)).await;
            }
        }
        if let Some(watching) = &self.watching {
            watching.refilter(filter);
        }
    }

    /// What nobody can tell is at the remotes.
    fn blind_spots(&self) -> Option<String> {
        let gauges = self.watching.as_ref()?.gauges();
        let unwatched = gauges.uncovered.load(Ordering::Relaxed);
        let number = counted(unwatched, "directory is", "directories are");
        (unwatched > 0).then(|| format!("{number} not watched, so what changed there is not known"))
    }

    /// Has the watcher tell first what it knows.
    fn flush(&mut self, scope: Scope, reply: oneshot::Sender<Settled>) {
        let held = |cause: String| Settled::Held(cause);
        let Some(watching) = &self.watching else {
            let _ = reply.send(held("the source is not there".into()));
            return;
        };
        let number = self.next_question;
        self.next_question += 1;
        match watching.ask(number) {
            Ok(()) => {
                self.flushing.retain(|_, (_, reply)| !reply.is_closed());
                self.flushing.insert(number, (scope, reply));
            }
            Err(error) => {
                let _ = reply.send(held(format!("the watcher cannot be asked: {error}")));
            }
        }
    }

    /// Waits for the lanes. What was asked to be compared may wait for a person.
    async fn settle(
        &mut self,
        scope: Scope,
        resync: Option<RelPath>,
        reply: oneshot::Sender<Settled>,
    ) {
        let patient = resync.is_some();
        let settle = |reply| LaneMessage::Settle {
            resync: resync.clone(),
            patient,
            reply,
        };
        let waits = self.ask_lanes(scope, settle).await;
        answer_when_all_have(waits, reply, together);
    }

    /// Answers when the watcher's thread has moved on and each lane has answered.
    async fn pulse(&mut self, reply: oneshot::Sender<u64>) {
        let lanes = self.ask_lanes(Scope::All, LaneMessage::Ping).await;
        self.show_gauges();
        let watcher = self.watching.as_ref().map(|watching| {
            let gauges = Arc::clone(watching.gauges());
            let before = gauges.beats.load(Ordering::Relaxed);
            // If too many questions wait, it has not read them: then its beats stand still, as they should.
            let _ = watching.ask(PULSE);
            (gauges, before)
        });
        tokio::spawn(async move {
            for lane in lanes {
                if lane.await.is_err() {
                    return;
                }
            }
            let mut walked = 0;
            if let Some((gauges, before)) = watcher {
                while gauges.beats.load(Ordering::Relaxed) == before && !reply.is_closed() {
                    tokio::time::sleep(BEAT_CHECK).await;
                }
                walked = gauges.walked.load(Ordering::Relaxed);
            }
            let _ = reply.send(walked);
        });
    }

    fn lanes_of(&self, scope: Scope) -> impl Iterator<Item = &LaneHandle> {
        self.lanes
            .iter()
            .filter(move |lane| is_meant(scope, lane.number))
    }

    async fn ask_lanes<T>(
        &self,
        scope: Scope,
        question: impl Fn(oneshot::Sender<T>) -> LaneMessage,
    ) -> Vec<oneshot::Receiver<T>> {
        let mut waits = Vec::new();
        for lane in self.lanes_of(scope) {
            let (reply, answer) = oneshot::channel();
            lane.tell(question(reply)).await;
            waits.push(answer);
        }
        waits
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

/// How it stands with several lanes together.
#[must_use]
pub fn together(all: Vec<Settled>) -> Settled {
    all.into_iter()
        .fold(Settled::Equal, |one, other| match (one, other) {
            (Settled::Failed(one), Settled::Failed(other)) => Settled::Failed(one + other),
            (Settled::Equal, other) => other,
            (one, _) => one,
        })
}

/// Answers as soon as all have; not at all if one never does.
fn answer_when_all_have<T: Send + 'static, U: Send + 'static>(
    waits: Vec<oneshot::Receiver<T>>,
    mut reply: oneshot::Sender<U>,
    sum: impl FnOnce(Vec<T>) -> U + Send + 'static,
) {
    tokio::spawn(async move {
        let mut all = Vec::with_capacity(waits.len());
        for wait in waits {
            let answer = tokio::select! {
                answer = wait => answer,
                // Nobody waits any more.
                () = reply.closed() => return,
            };
            match answer {
                Ok(answer) => all.push(answer),
                Err(_) => return,
            }
        }
        let _ = reply.send(sum(all));
    });
}

/// A lane ends only when it is told to; a panic in it is a fault of ours that must not go unseen.
fn pass_panic_on(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// What is mounted below the source now is missed when it goes, also by a remote that cannot be reached until then.
fn look_at_volumes(
    config: &MirrorConfig,
    guards: Vec<Arc<Guard>>,
) -> impl Future<Output = Option<()>> + use<> {
    let source = config.source.clone();
    on_disk(move || {
        // A source that is gone again by now is for whoever watches it.
        if let Ok(root) = SourceRoot::open(&source) {
            for guard in &guards {
                let _ = guard.look(&root);
            }
        }
    })
}

/// Waits for the source directory; `None` if another is to be taken for it, since this one never held anything.
async fn wait_for_return(
    config: MirrorConfig,
    (identity, lasting): (Identity, Lasting),
    is_settled: bool,
    guards: Vec<Arc<Guard>>,
    board: Board,
) -> Option<SourceRoot> {
    let source = config.source.display().to_string();
    let show = |cause: &str| {
        board.update(|snapshot| {
            let mut mirrors = snapshot.mirrors.iter_mut();
            if let Some(shown) = mirrors.find(|mirror| mirror.source == config.source) {
                shown.missing = Some(cause.into());
            }
        });
    };
    let is_same = |root: &SourceRoot| {
        let is_back = lasting.is_certain() && lasting.differs(&root.lasting()).is_none();
        is_back || guards.iter().any(|guard| guard.takes(root))
    };
    let mut told = false;
    loop {
        match SourceRoot::open(&config.source) {
            Ok(root) if root.is(identity, &lasting) => {
                if told {
                    info!(
                        MESSAGE_ID = id::RELEASED,
                        SERSYNC_MIRROR = source,
                        "{source} is back, the whole tree is compared"
                    );
                }
                return Some(root);
            }
            Ok(_) if !is_settled => return None,
            // It has another device number now, or a person has accepted it.
            Ok(root) if is_same(&root) => {
                info!(
                    MESSAGE_ID = id::RELEASED,
                    SERSYNC_MIRROR = source,
                    "{source} is back or was accepted, the whole tree is compared"
                );
                return None;
            }
            Ok(_) if !told => {
                told = true;
                show("another directory stands in its place");
                error!(
                    MESSAGE_ID = id::SOURCE_MISSING,
                    SERSYNC_MIRROR = source,
                    "another directory stands at {source}: held, nothing is sent or deleted; \
                     put the source back, or accept this one with `sersync resume --accept-source`"
                );
            }
            Err(error) if !told => {
                told = true;
                show(&error.to_string());
                error!(
                    MESSAGE_ID = id::SOURCE_MISSING,
                    SERSYNC_MIRROR = source,
                    "{source} is gone: held, nothing is sent or deleted: {error}"
                );
            }
            _ => {}
        }
        tokio::time::sleep(MISSING_CHECK).await;
    }
}
