//! What a session is asked, by whoever steers it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::info;

use super::{Session, Sight, Waiting};
use crate::config::Target;
use crate::control::{Scope, counted};
use crate::filter::Filter;
use crate::lane::Settled;
use crate::lane::context::filtered;
use crate::lane::task::{LaneHandle, LaneMessage};
use crate::lane::transfer::on_disk;
use crate::local_target::Pinned;
use crate::mirror::{MirrorMessage, MirrorTask, Question, Verifier, is_meant};
use crate::path::{RelPath, SourceRoot};
use crate::watch::PULSE;

/// How often a watcher that was asked for a sign of life is looked at.
const BEAT_CHECK: Duration = Duration::from_millis(20);

/// There is nothing to be asked about.
const NOT_THERE: &str = "the source is not there";
/// Nobody does it any more.
const ENDING: &str = "it is ending";

impl Waiting {
    /// Nobody waits any more.
    fn is_over(&self) -> bool {
        match self {
            Self::Flush(reply) => reply.is_closed(),
            Self::Verify(_, reply) => reply.is_closed(),
        }
    }
}

impl Session<'_> {
    /// A person says that whatever is there now is the source. The file system may hang, so nobody waits for it here.
    fn accept_source(&self, scope: Scope, reply: oneshot::Sender<Result<(), String>>) {
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
        let lanes: Vec<LaneHandle> = self.lanes_of(scope).cloned().collect();
        let recheck = Arc::clone(&self.recheck);
        let stop = self.mirror.stop.clone();
        tokio::spawn(async move {
            let accepting = on_disk(move || {
                let root = SourceRoot::open(&source)
                    .map_err(|error| format!("the source cannot be opened: {error}"))?;
                // It took long, and others may keep guard by now.
                if stop.is_cancelled() {
                    return Err(ENDING.into());
                }
                let mut kept = Ok(());
                for (target, guard) in meant {
                    // What is not there now is none that could be accepted.
                    let target = match &target {
                        Target::Local { path } => Pinned::open(path).ok(),
                        _ => None,
                    };
                    guard.accept(&root, target.map(|target| target.lasting()));
                    kept = kept.and(guard.keep());
                }
                Ok(kept.map_err(|error| {
                    format!("it is accepted, but the next start will not know it: {error}")
                }))
            });
            let accepted = match accepting.await {
                Some(Ok(kept)) => {
                    for lane in lanes {
                        lane.tell(LaneMessage::Accepted).await;
                    }
                    kept
                }
                Some(Err(error)) => Err(error),
                None => Err(ENDING.into()),
            };
            recheck.notify_one();
            let _ = reply.send(accepted);
        });
    }

    pub(super) async fn on_message(&mut self, message: MirrorMessage) {
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
            Question::AcceptSource(reply) => self.accept_source(scope, reply),
            Question::Filter(filter) => self.refilter(filter).await,
            Question::Flush(reply) => self.flush(scope, reply),
            Question::Resync(path, reply) => self.settle(scope, Some(path), reply).await,
            Question::Verify(path, reply) => {
                // What nobody has told yet is no drift.
                match self.sight {
                    Sight::Walking => self.verifying.push((scope, path, reply)),
                    Sight::Absent => self.verify(scope, path, reply).await,
                    Sight::Whole => match self.ask_watcher() {
                        Ok(number) => {
                            let waiting = Waiting::Verify(path, reply);
                            self.waiting.insert(number, (scope, waiting));
                        }
                        Err(_) => self.verify(scope, path, reply).await,
                    },
                }
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

    pub(super) async fn verify(&self, scope: Scope, path: RelPath, reply: Verifier) {
        let numbers: Vec<u32> = self.lanes_of(scope).map(|lane| lane.number).collect();
        let verify = |reply| LaneMessage::Verify(path.clone(), reply);
        let waits = self.ask_lanes(scope, verify).await;
        answer_when_all_have(waits, reply, |all| numbers.into_iter().zip(all).collect());
    }

    /// The lanes come first: what the watcher then tells is resolved by the filter that had it told.
    async fn refilter(&mut self, filter: Arc<Filter>) {
        let source = self.mirror.config.source.display();
        info!(
            SERSYNC_MIRROR = %source,
            "another filter holds for {source}: what it excludes no more is sent"
        );
        self.mirror.refilter(Arc::clone(&filter));
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
        match self.ask_watcher() {
            Ok(number) => {
                self.waiting.insert(number, (scope, Waiting::Flush(reply)));
            }
            Err(cause) => drop(reply.send(Settled::Held(cause))),
        }
    }

    /// The number under which the watcher says that it has told all that it knows; `Err` if it cannot be asked.
    fn ask_watcher(&mut self) -> Result<u64, String> {
        let watching = self.watching.as_ref().ok_or(NOT_THERE)?;
        let number = self.next_question;
        self.next_question += 1;
        watching
            .ask(number)
            .map_err(|error| format!("the watcher cannot be asked: {error}"))?;
        self.waiting.retain(|_, (_, waiting)| !waiting.is_over());
        Ok(number)
    }

    /// The watcher has told all that it knew.
    pub(super) async fn on_reached(&mut self, scope: Scope, waiting: Waiting) {
        match waiting {
            Waiting::Flush(reply) => match self.blind_spots() {
                Some(cause) => drop(reply.send(Settled::Held(cause))),
                None => self.settle(scope, None, reply).await,
            },
            Waiting::Verify(path, reply) => self.verify(scope, path, reply).await,
        }
    }

    /// There is no watcher any more.
    pub(super) async fn answer_without_watcher(&mut self) {
        let mut verifying = std::mem::take(&mut self.verifying);
        for (_, (scope, waiting)) in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Flush(reply) => drop(reply.send(Settled::Held(NOT_THERE.into()))),
                Waiting::Verify(path, reply) => verifying.push((scope, path, reply)),
            }
        }
        for (scope, path, reply) in verifying {
            self.verify(scope, path, reply).await;
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
