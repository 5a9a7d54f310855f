//! The notify protocol: what the service manager is told of an instance. The only user of `sd-notify`.
//!
//! ```text
//!  snapshots, bus, reloads ─► Voice (pure) ─► READY=1 STATUS=… RELOADING=1 STOPPING=1 ─┐
//!  pulse (watchers, mirrors, lanes answer) ─► EXTEND_TIMEOUT_USEC=… WATCHDOG=1 ────────┴─► $NOTIFY_SOCKET
//! ```
//!
//! Without `NOTIFY_SOCKET` nothing of this happens, and once all is said there is no timer but that of the watchdog.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::control::Snapshot;

/// `STATUS=` changes with every file; nobody reads faster than this.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// While it starts, progress is looked for so often.
const PULSE_AT_START: Duration = Duration::from_secs(10);
/// How long the start may last after progress was seen. A walk that has come no further within that time hangs.
const EXTENSION: Duration = Duration::from_secs(60);

/// The daemon's end: it says what no snapshot shows, and runs the rest. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    reloads: watch::Sender<Reloads>,
}

/// The service manager shows the instance as reloading until this is dropped.
#[derive(Debug)]
#[must_use = "the reload is over when this is dropped"]
pub struct Reloading {
    reloads: watch::Sender<Reloads>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reloads {
    begun: u64,
    ended: u64,
}

impl ServiceManager {
    /// A configuration is being read.
    pub fn reloading(&self) -> Reloading {
        self.reloads.send_modify(|reloads| reloads.begun += 1);
        Reloading {
            reloads: self.reloads.clone(),
        }
    }

    /// Tells the service manager of everything until `stop`, and of that too. The instance is ready as soon as each
    /// mirror is watched or waits for its source, and `bus` has come to an end, be it with a name or without.
    ///
    /// `pulse` asks everything that must live to answer, also during the first walk, and gives a number that grows
    /// with each directory that is walked. When it does not answer in time, the watchdog is not fed.
    pub async fn run<Pulse, Answer>(
        self,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        bus: impl Future,
        pulse: Pulse,
        stop: CancellationToken,
    ) where
        Pulse: Fn() -> Answer,
        Answer: Future<Output = u64>,
    {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let (ready, is_ready) = watch::channel(false);
        let heart = Heart {
            pulse,
            say,
            watchdog: sd_notify::watchdog_enabled(),
            pulse_at_start: PULSE_AT_START,
        };
        let reloads = self.reloads.subscribe();
        tokio::join!(
            talk(snapshots, bus, reloads, ready, say, &stop),
            heart.beat(is_ready, &stop),
        );
        say(vec![Word::Stopping, Word::Status("ending".into())]).await;
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.reloads.send_modify(|reloads| reloads.ended += 1);
    }
}

/// What can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Extend(Duration),
    Watchdog,
}

/// Sends one message. The service manager may be busy with itself for a moment, which must hold up nobody else.
async fn say(words: Vec<Word>) {
    let said = tokio::task::spawn_blocking(move || notify(&words)).await;
    if let Ok(Err(error)) = said {
        debug!("the service manager was not told: {error}");
    }
}

fn notify(words: &[Word]) -> io::Result<()> {
    let mut states: Vec<_> = words.iter().map(Word::as_state).collect();
    if words.contains(&Word::Reloading) {
        // systemd 253 and newer compare it with the time at which they asked.
        states.push(NotifyState::monotonic_usec_now()?);
    }
    sd_notify::notify(&states)
}

impl Word {
    fn as_state(&self) -> NotifyState<'_> {
        match self {
            Self::Ready => NotifyState::Ready,
            Self::Reloading => NotifyState::Reloading,
            Self::Stopping => NotifyState::Stopping,
            Self::Status(status) => NotifyState::Status(status),
            Self::Extend(time) => {
                NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
            }
            Self::Watchdog => NotifyState::Watchdog,
        }
    }
}

async fn talk(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    bus: impl Future,
    mut reloads: watch::Receiver<Reloads>,
    ready: watch::Sender<bool>,
    say: impl AsyncFn(Vec<Word>),
    stop: &CancellationToken,
) {
    let mut bus = std::pin::pin!(bus);
    let mut voice = Voice::default();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let reloads_now = *reloads.borrow_and_update();
        while let Some(words) = voice.next(&snapshot, reloads_now, Instant::now()) {
            say(words).await;
        }
        ready.send_replace(voice.is_ready());
        tokio::select! {
            () = stop.cancelled() => return,
            _ = &mut bus, if !voice.has_bus => voice.has_bus = true,
            Ok(()) = snapshots.changed() => {}
            Ok(()) = reloads.changed() => {}
            () = sleep_until(voice.wake) => {}
        }
    }
}

/// Decides what is to be said.
#[derive(Debug, Default)]
struct Voice {
    /// The bus has a name for us, or there is none.
    has_bus: bool,
    phase: Phase,
    /// Reloads that were told of.
    reloads: u64,
    /// What was told last, and when.
    status: String,
    status_at: Option<Instant>,
    /// When a newer status is to be told, which has to wait.
    wake: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Running,
    Reloading,
}

impl Voice {
    fn is_ready(&self) -> bool {
        self.phase != Phase::Starting
    }

    /// The next message, if there is one now. If there is one later even if nothing happens, `wake` says when.
    fn next(&mut self, snapshot: &Snapshot, reloads: Reloads, now: Instant) -> Option<Vec<Word>> {
        let mut words: Vec<_> = self.next_phase(snapshot, reloads).into_iter().collect();
        self.wake = None;
        let status = one_line(&snapshot.status());
        // Before there are mirrors there is nothing to say.
        if !snapshot.mirrors.is_empty() && status != self.status {
            let due = self.status_at.map(|at| at + STATUS_PERIOD);
            if due.is_none_or(|due| now >= due) || !words.is_empty() {
                self.status.clone_from(&status);
                self.status_at = Some(now);
                words.push(Word::Status(status));
            } else {
                self.wake = due;
            }
        }
        (!words.is_empty()).then_some(words)
    }

    /// One step at a time: the service manager must see the begin and the end of a reload as two messages.
    fn next_phase(&mut self, snapshot: &Snapshot, reloads: Reloads) -> Option<Word> {
        let (phase, word) = match self.phase {
            Phase::Starting => {
                // A reload that is over by then is a part of the start.
                self.reloads = reloads.ended;
                if !self.has_bus || !stands(snapshot) {
                    return None;
                }
                (Phase::Running, Word::Ready)
            }
            Phase::Running if self.reloads < reloads.begun => (Phase::Reloading, Word::Reloading),
            Phase::Reloading if reloads.ended == reloads.begun => {
                self.reloads = reloads.ended;
                (Phase::Running, Word::Ready)
            }
            Phase::Running | Phase::Reloading => return None,
        };
        self.phase = phase;
        Some(word)
    }
}

/// Each mirror does what it can.
fn stands(snapshot: &Snapshot) -> bool {
    let mut mirrors = snapshot.mirrors.iter();
    !snapshot.mirrors.is_empty()
        && mirrors.all(|mirror| mirror.is_watched || mirror.missing.is_some())
}

/// A newline in the name of a source would begin a word of its own.
fn one_line(status: &str) -> String {
    status.replace(char::is_control, "?")
}

/// What keeps the service manager from losing its patience.
struct Heart<Pulse, Say> {
    pulse: Pulse,
    say: Say,
    /// When the service manager takes us for dead.
    watchdog: Option<Duration>,
    pulse_at_start: Duration,
}

impl<Pulse, Answer, Say> Heart<Pulse, Say>
where
    Pulse: Fn() -> Answer,
    Answer: Future<Output = u64>,
    Say: AsyncFn(Vec<Word>),
{
    async fn beat(&self, mut is_ready: watch::Receiver<bool>, stop: &CancellationToken) {
        let life = async {
            tokio::select! {
                _ = is_ready.wait_for(|ready| *ready) => {}
                () = self.ask_for_time() => {}
            }
            if let Some(watchdog) = self.watchdog {
                self.feed(watchdog / 2).await;
            }
        };
        stop.run_until_cancelled(life).await;
    }

    /// Without an end.
    async fn ask_for_time(&self) {
        let mut walked = 0;
        loop {
            sleep(self.pulse_at_start).await;
            let answer = timeout(self.pulse_at_start, (self.pulse)()).await;
            if let Ok(walked_now) = answer
                && walked_now > walked
            {
                walked = walked_now;
                (self.say)(vec![Word::Extend(EXTENSION)]).await;
            }
        }
    }

    /// Without an end.
    async fn feed(&self, every: Duration) {
        let mut at = tokio::time::interval(every);
        at.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            at.tick().await;
            if timeout(every, (self.pulse)()).await.is_ok() {
                (self.say)(vec![Word::Watchdog]).await;
            } else {
                error!("a part of sersync does not answer: the watchdog is not fed");
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
