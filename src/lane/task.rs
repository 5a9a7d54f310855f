//! The task of a lane: it feeds the pure [`LaneState`], carries out its jobs, answers, and shows how it stands.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::trace;

use super::clock::Clock;
use super::context::{Context, Halt};
use super::news::LaneName;
use super::transfer::{execute, on_disk};
use super::verify::Verified;
use super::{End, Job, LaneState, Report, Settled, news};
use crate::change::Change;
use crate::control::{Board, FailedPath, Notice, RemoteSnapshot};
use crate::dirty::Route;
use crate::filter::Filter;
use crate::path::RelPath;
use crate::plugin::Witness;
use crate::rsync::{Forms, Standby};
use crate::store::Store;

/// A standby that has had nothing to do for this long ends, so that the source can be unmounted.
const QUIET: Duration = Duration::from_secs(15);
/// At the end, running transfers have this long to get through before their children are told to end.
const GRACE: Duration = Duration::from_secs(3);
/// So much later they have ended, or what they wait for does not answer.
const ENDED_WITHIN: Duration = Duration::from_secs(10);
/// Messages that may wait for a lane; a lane only sorts them in, so it never falls behind for long.
const INBOX: usize = 64;
/// In the midst of work, numbers are shown this often.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// What a lane is told or asked.
#[derive(Debug)]
pub enum LaneMessage {
    /// Paths that may differ now.
    Changes(Arc<[Change]>),
    /// The source root went away, or is back.
    Source {
        /// Whether it is there.
        present: bool,
    },
    /// Begin nothing; answered when no child runs any more.
    Pause(oneshot::Sender<()>),
    /// Go on.
    Resume,
    /// A person says that the source is right as it is.
    Accepted,
    /// The schedule asks for a full push in which these patterns hold.
    Push(Arc<[String]>),
    /// Something may have changed that nobody saw: compare everything, unless that was done a moment ago.
    Scan,
    /// See [`LaneState::settled`]; what differs at the moment this is read is waited for.
    Settle {
        /// What is to be compared first, whether or not it changed.
        resync: Option<RelPath>,
        /// Wait also for what somebody must mend or resume.
        patient: bool,
        /// The answer.
        reply: oneshot::Sender<Settled>,
    },
    /// Compare by checksum.
    Verify(RelPath, oneshot::Sender<Result<Verified, String>>),
    /// Another filter holds, where one did before.
    Filter(Arc<Filter>),
    /// Try what failed; answered with the number of paths.
    RetryFailed(oneshot::Sender<usize>),
    /// Make the deletions that are withheld; answered with the number of entries.
    AcceptDeletions(oneshot::Sender<u64>),
    /// What failed.
    ListFailed(oneshot::Sender<Vec<FailedPath>>),
    /// Answered at once, as a sign of life.
    Ping(oneshot::Sender<()>),
}

/// The way to a running lane.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    /// See [`RemoteSnapshot::number`].
    pub number: u32,
    inbox: mpsc::Sender<LaneMessage>,
}

impl LaneHandle {
    /// Hands a message over; waits while the lane's inbox is full. A lane that has ended takes nothing any more.
    pub async fn tell(&self, message: LaneMessage) {
        let _ = self.inbox.send(message).await;
    }
}

/// Where a lane shows itself.
#[derive(Debug, Clone)]
pub struct Shown {
    /// See [`RemoteSnapshot::number`].
    pub number: u32,
    /// Where.
    pub board: Board,
    /// Hears what was synced, for the plugins.
    pub witness: Option<Arc<Witness>>,
}

/// See the module.
#[derive(Debug)]
pub struct LaneTask {
    name: LaneName,
    state: LaneState,
    context: Arc<Context>,
    inbox: mpsc::Receiver<LaneMessage>,
    jobs: JoinSet<Finished>,
    standby: Option<Standby>,
    forms: Forms,
    halt: Halt,
    pausing: Vec<oneshot::Sender<()>>,
    settling: Vec<Settling>,
    verifying: Vec<Verifying>,
    progress: watch::Receiver<u8>,
    clock: Clock,
    /// Where the fail queue outlives the process.
    store: Option<Store>,
    shown: Shown,
    counts: RemoteSnapshot,
    shown_at: Instant,
}

/// Somebody waits.
#[derive(Debug)]
struct Settling {
    at: Instant,
    patient: bool,
    reply: oneshot::Sender<Settled>,
}

/// A verification that waits for what is on its way.
#[derive(Debug)]
struct Verifying {
    at: Instant,
    path: RelPath,
    reply: oneshot::Sender<Result<Verified, String>>,
}

#[derive(Debug)]
enum Finished {
    Job(Route, Box<Report>, Option<Standby>),
    Probe(Result<(), End>),
    Standby,
    Verified(
        oneshot::Sender<Result<Verified, String>>,
        Result<Verified, String>,
    ),
}

impl LaneTask {
    /// A lane and the way to it. The token of its context ends it.
    #[must_use]
    pub fn new(
        context: Context,
        retry_period: Duration,
        paused: bool,
        store: Option<Store>,
        shown: Shown,
    ) -> (Self, LaneHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut forms = Forms::of(&context.remote);
        if context.filter.is_some() {
            forms = forms.without_content();
        }
        let state = LaneState::new(forms, retry_period, context.remote.params.inplace());
        let mut state = state.with_max_delete(context.remote.max_delete);
        state.on_pause(paused);
        let clock = Clock::now();
        if let Some(store) = &store {
            state.restore(store.saved(), clock, Instant::now());
        }
        let number = shown.number;
        let counts = RemoteSnapshot {
            number,
            mirror: context.source.clone(),
            target: context.remote.target.to_string(),
            percent: 100,
            ..RemoteSnapshot::default()
        };
        let progress = context.progress.subscribe();
        let task = Self {
            name: context.name(),
            state,
            context: Arc::new(context),
            inbox,
            jobs: JoinSet::new(),
            standby: None,
            forms,
            halt: Halt::default(),
            pausing: Vec::new(),
            settling: Vec::new(),
            verifying: Vec::new(),
            progress,
            clock,
            store,
            shown,
            counts,
            shown_at: Instant::now(),
        };
        let handle = LaneHandle {
            number,
            inbox: sender,
        };
        (task, handle)
    }

    /// Runs until it is told to stop. Running children then have a moment to end by themselves.
    pub async fn run(mut self) {
        loop {
            self.keep().await;
            let plan = self.state.plan(Instant::now());
            if plan.after_detour {
                news::after_detour(&self.name);
            }
            for job in plan.jobs {
                self.start(job);
            }
            if plan.probe {
                let (context, forms, halt) =
                    (Arc::clone(&self.context), self.forms, self.halt.clone());
                self.jobs
                    .spawn(async move { Finished::Probe(context.probe(forms, &halt).await) });
            }
            self.answer();
            self.begin_verifying();
            let show_at = self.show(Instant::now());
            let wake = [plan.wake, show_at].into_iter().flatten().min();
            tokio::select! {
                () = self.context.stop.cancelled() => break,
                () = self.context.crowd.notified() => {
                    let standby = self.standby.take();
                    self.let_go(standby);
                }
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
                Some(finished) = self.jobs.join_next() => self.on_finished(finished),
                _ = self.progress.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
        Box::pin(self.end()).await;
    }

    async fn end(mut self) {
        // Until it has ended, the source cannot be unmounted.
        let standby = self.standby.take();
        self.let_go(standby);
        self.halt.end_within(GRACE);
        // A file system that does not answer, or a child that waits for one, keeps nobody.
        if tokio::time::timeout(GRACE + ENDED_WITHIN, self.drain())
            .await
            .is_err()
        {
            news::does_not_end(&self.name);
            self.jobs.abort_all();
        }
        self.state.keep_removals(Instant::now());
        self.keep().await;
        self.context.hang_up().await;
        news::ended(&self.name, self.state.pending());
    }

    /// Has what became otherwise in the fail queue recorded, and outlive the process.
    async fn keep(&mut self) {
        let lines = self.state.take_lines(self.clock);
        if lines.is_empty() {
            return;
        }
        for line in &lines {
            self.context.record(line, self.forms);
        }
        let Some(mut store) = self.store.take() else {
            return;
        };
        let kept = on_disk(move || {
            let kept = store.append(lines);
            (store, kept)
        });
        if let Some((store, kept)) = kept.await {
            self.store = Some(store);
            news::kept(&self.name, kept);
        }
    }

    async fn drain(&mut self) {
        while let Some(finished) = self.jobs.join_next().await {
            self.on_finished(finished);
        }
    }

    fn start(&mut self, job: Job) {
        self.forms = job.forms;
        trace!(route = ?job.route, paths = job.paths.len(), "job");
        let standby = if job.route == Route::Path {
            self.standby.take()
        } else {
            None
        };
        let (context, halt) = (Arc::clone(&self.context), self.halt.clone());
        let route = job.route;
        // Where patterns hold, it is not said what was left out.
        let is_whole = job.excludes.is_empty();
        let witness = self.shown.witness.clone().filter(|_| is_whole);
        let remote = self.shown.number;
        self.jobs.spawn(async move {
            let started = Instant::now();
            let (mut report, unused) = Box::pin(execute(context, job, standby, halt)).await;
            if let Some(witness) = witness {
                witness.on_ended(remote, started, &report.synced, &report.kept);
            }
            // For the lane they are done alike.
            report.synced.append(&mut report.kept);
            Finished::Job(route, Box::new(report), unused)
        });
    }

    fn on_message(&mut self, message: LaneMessage) {
        let now = Instant::now();
        // Whoever asked may have gone, so no answer is checked for its arrival.
        match message {
            LaneMessage::Changes(changes) => {
                for change in changes.iter() {
                    self.state.on_change(change.clone(), now);
                }
            }
            LaneMessage::Source { present } => {
                self.state.on_source(present);
                if !present {
                    self.standby = None;
                }
            }
            LaneMessage::Pause(reply) => {
                self.state.on_pause(true);
                let standby = self.standby.take();
                self.let_go(standby);
                self.halt.end_within(GRACE);
                self.pausing.push(reply);
            }
            LaneMessage::Resume => {
                self.state.on_pause(false);
                for reply in self.pausing.drain(..) {
                    let _ = reply.send(());
                }
                // What was under way at the pause ends all the same, and goes on in another run.
                if self.halt.stop.is_cancelled() {
                    self.halt = Halt::default();
                }
            }
            LaneMessage::Accepted => self.state.on_accepted(now),
            LaneMessage::Filter(filter) => self.refilter(filter),
            LaneMessage::Push(excludes) => self.state.on_schedule(excludes, now),
            LaneMessage::Scan => self.state.on_scan(now),
            LaneMessage::Settle {
                resync,
                patient,
                reply,
            } => {
                self.state.hurry(now);
                if let Some(path) = resync {
                    self.state.on_change(Change::subtree(path), now);
                }
                self.settling.push(Settling {
                    at: now,
                    patient,
                    reply,
                });
            }
            LaneMessage::Verify(path, reply) => {
                self.state.hurry(now);
                self.verifying.push(Verifying {
                    at: now,
                    path,
                    reply,
                });
            }
            LaneMessage::RetryFailed(reply) => {
                let _ = reply.send(self.state.retry_failed(now));
            }
            LaneMessage::AcceptDeletions(reply) => {
                let _ = reply.send(self.state.accept_deletions(now));
            }
            LaneMessage::ListFailed(reply) => {
                let _ = reply.send(self.failed_paths());
            }
            LaneMessage::Ping(reply) => {
                let _ = reply.send(());
            }
        }
    }

    /// What runs by the old filter could remove what the new one protects: it ends, and is done again by the new one.
    fn refilter(&mut self, filter: Arc<Filter>) {
        self.context = Arc::new(Context {
            filter: Some(filter),
            ..Context::clone(&self.context)
        });
        self.standby = None;
        // A paused lane runs nothing, or is ending it.
        if !self.halt.stop.is_cancelled() {
            std::mem::take(&mut self.halt).end_within(GRACE);
        }
    }

    /// What is on its way is no drift, so a verification waits for it. It does not wait for a remote that is away, nor
    /// for a person.
    fn begin_verifying(&mut self) {
        let state = &self.state;
        let obstacle = state.waits_for();
        let is_due = |one: &mut Verifying| {
            obstacle.is_some() || one.reply.is_closed() || state.settled(one.at, true).is_some()
        };
        for Verifying { path, reply, .. } in self.verifying.extract_if(.., is_due) {
            if let Some(obstacle) = &obstacle {
                let _ = reply.send(Err(obstacle.clone()));
                continue;
            }
            let (context, forms, halt) = (Arc::clone(&self.context), self.forms, self.halt.clone());
            self.jobs.spawn(async move {
                let result = context.verify(&[path], forms, &halt).await;
                Finished::Verified(reply, result)
            });
        }
    }

    fn failed_paths(&self) -> Vec<FailedPath> {
        let number = self.shown.number;
        let paths = self.state.failed().iter().map(|(path, failed)| FailedPath {
            // Unique among all lanes of the instance.
            id: failed.id << 16 | u64::from(number),
            remote: number,
            path: path.as_bytes().to_vec(),
            exit: failed.failure.exit,
            message: failed.failure.message.clone(),
            attempts: failed.attempts,
            first: self.clock.civil(failed.first),
            next_try: failed.next_try.map(|at| self.clock.civil(at)),
        });
        paths.collect()
    }

    fn on_finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        let (now, jitter) = (Instant::now(), fastrand::f64());
        let news = match finished {
            Ok(Finished::Job(route, report, unused)) => {
                self.let_go(unused);
                trace!(?route, ?report, "job ended");
                let reached = report.end == End::Reached;
                if report.crowded {
                    let standby = self.standby.take();
                    self.let_go(standby);
                }
                self.count(&report);
                let news = self.state.on_report(route, *report, now, jitter);
                if reached && !self.halt.stop.is_cancelled() {
                    self.keep_standby();
                }
                news
            }
            Ok(Finished::Probe(result)) => self.state.on_probed(result, now, jitter),
            Ok(Finished::Standby) => return,
            Ok(Finished::Verified(reply, result)) => {
                // What has changed since, or cannot be brought there, is not drift.
                if let Ok(verified) = &result
                    && self.state.is_equal()
                {
                    news::drift_found(&self.name, verified.found);
                }
                let _ = reply.send(result);
                return;
            }
            // Nothing is known of its batch, and a process in which that happened is not to be trusted with deletions:
            // the whole service ends, and the next start restores the truth.
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        };
        if let Some(news::Heard { exit, cause }) = news::tell(&self.name, news) {
            self.shown.board.notice(Notice::SyncFailed {
                remote: self.shown.number,
                exit,
                cause,
            });
        }
    }

    fn count(&mut self, report: &Report) {
        self.counts.runs += report.runs;
        self.counts.paths_sent += report.files_sent;
        self.counts.paths_deleted += report.deleted;
        self.counts.bytes_sent += report.bytes_sent;
        if !report.synced.is_empty() {
            self.counts.last_success = Some(SystemTime::now());
        }
    }

    /// Ends a child that waits, and waits for its end.
    fn let_go(&mut self, standby: Option<Standby>) {
        if let Some(standby) = standby {
            self.jobs.spawn(async move {
                standby.end().await;
                Finished::Standby
            });
        }
    }

    fn keep_standby(&mut self) {
        let has_one = self.standby.as_ref().is_some_and(Standby::is_waiting);
        if !has_one && !self.state.is_crowded(Instant::now()) {
            self.standby = self.context.standby(self.forms, QUIET, &self.halt);
        }
    }

    /// Answers whoever waits for what has come about by now.
    fn answer(&mut self) {
        if self.jobs.is_empty() {
            for reply in self.pausing.drain(..) {
                let _ = reply.send(());
            }
        }
        let state = &self.state;
        let is_over = |settling: &mut Settling| {
            settling.reply.is_closed() || state.settled(settling.at, settling.patient).is_some()
        };
        for settling in self.settling.extract_if(.., is_over) {
            if let Some(settled) = state.settled(settling.at, settling.patient) {
                let _ = settling.reply.send(settled);
            }
        }
    }

    /// Shows how it stands; in the midst of work only now and then. Returns when to do it again if nothing happens.
    fn show(&mut self, now: Instant) -> Option<Instant> {
        let condition = self.state.condition();
        let is_news = (condition.state, condition.failed, &condition.last_error)
            != (
                self.counts.state,
                self.counts.failed,
                &self.counts.last_error,
            );
        let civil = |at: Option<Instant>| at.map(|at| self.clock.civil(at));
        let next = RemoteSnapshot {
            state: condition.state,
            pending: condition.pending,
            failed: condition.failed,
            oldest_pending: civil(condition.oldest),
            next_try: civil(condition.next_try),
            last_error: condition.last_error,
            percent: *self.progress.borrow_and_update(),
            ..self.counts.clone()
        };
        let next_time = self.shown_at + SHOWN_EVERY;
        if !is_news && next.pending > 0 && now < next_time {
            return (next != self.counts).then_some(next_time);
        }
        self.shown_at = now;
        self.counts.clone_from(&next);
        self.shown.board.update(|snapshot| {
            let mut remotes = snapshot.remotes.iter_mut();
            if let Some(remote) = remotes.find(|remote| remote.number == next.number) {
                *remote = next;
            }
        });
        None
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
