//! The task that tells one place: it takes what is ready, looks at it, tells it, and waits while nobody is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::delivery::Delivery;
use super::event::{Event, look};
use super::outcome::Outcome;
use super::{Inbox, count_dropped, lock};
use crate::message_id as id;
use crate::path::escaped;

/// Paths of one turn, and of one batch.
const TURN: usize = 1000;
/// A directory that came as a whole brings at most so many paths.
const MOST_OF_A_TREE: usize = 50_000;
/// So many commands or requests at once.
const AT_ONCE: usize = 4;
/// Failures of one turn that are logged one by one.
const LOGGED: usize = 10;
/// After the first time that nobody was there; doubled with each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Looking blocks, and the threads for that are shared with mirroring: of all workers, one looks at a time.
static LOOKS: Semaphore = Semaphore::const_new(1);

/// See the module.
pub(super) struct Worker {
    delivery: Arc<Delivery>,
    inbox: Arc<Inbox>,
}

/// What came of one round over all that was to be told.
#[derive(Default)]
struct Round {
    /// To be told again, when somebody is there.
    left: Vec<Event>,
    /// Why nobody is.
    away: Option<String>,
    failed: Vec<(Vec<Event>, String)>,
}

impl Worker {
    pub(super) fn new(delivery: Delivery, inbox: Arc<Inbox>) -> Self {
        let delivery = Arc::new(delivery);
        Self { delivery, inbox }
    }

    /// Runs until it is told to stop; a command that runs is ended then.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
        let left = lock(&self.inbox.queue).len();
        if left > 0 {
            let name = &self.inbox.name;
            info!(SERSYNC_PLUGIN = name, "{name} was not told of {left} paths");
        }
    }

    async fn work(&self) {
        loop {
            let items = lock(&self.inbox.queue).take(TURN);
            if items.is_empty() {
                self.inbox.overflowed.store(false, Ordering::Relaxed);
                self.inbox.arrived.notified().await;
                continue;
            }
            let expand = !self.delivery.takes_trees();
            let Ok(permit) = LOOKS.acquire().await else {
                return;
            };
            let filters = lock(&self.inbox.filters).clone();
            let delivery = Arc::clone(&self.delivery);
            let looking = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let wants = |event: &Event| delivery.wants(event);
                look(&items, expand, MOST_OF_A_TREE, &filters, wants)
            });
            let Ok((events, left_out)) = looking.await else {
                return;
            };
            if left_out > 0 {
                count_dropped(&self.inbox.board, left_out);
                let name = &self.inbox.name;
                warn!(
                    MESSAGE_ID = id::PLUGIN_FAILED,
                    SERSYNC_PLUGIN = name,
                    "{name} is not told of {left_out} paths: too many came at once"
                );
            }
            self.tell(events).await;
        }
    }

    /// Tells all of it, however long that takes.
    async fn tell(&self, mut events: Vec<Event>) {
        let name = &self.inbox.name;
        let mut tries = 0;
        while !events.is_empty() {
            let round = self.round(events).await;
            self.on_failed(&round.failed);
            events = round.left;
            if let Some(cause) = round.away {
                self.count_failures(1);
                if tries == 0 {
                    warn!(
                        MESSAGE_ID = id::PLUGIN_FAILED,
                        SERSYNC_PLUGIN = name,
                        "{name} cannot be told now and is tried again, mirroring goes on: {cause}"
                    );
                }
                tokio::time::sleep(pause(tries, fastrand::f64())).await;
                tries += 1;
            }
        }
        if tries > 0 {
            info!(SERSYNC_PLUGIN = name, "{name} can be told again");
        }
    }

    /// Tells each once; as soon as nobody is there, the rest is not tried.
    async fn round(&self, events: Vec<Event>) -> Round {
        let most = if self.delivery.takes_many() { TURN } else { 1 };
        let is_away = AtomicBool::new(false);
        let is_away = &is_away;
        let groups: Vec<Vec<Event>> = events.chunks(most).map(<[Event]>::to_vec).collect();
        let told = stream::iter(groups.into_iter().map(|group| async move {
            if is_away.load(Ordering::Relaxed) {
                return (group, None);
            }
            let outcome = self.delivery.tell(&group).await;
            if matches!(outcome, Outcome::Away(_)) {
                is_away.store(true, Ordering::Relaxed);
            }
            (group, Some(outcome))
        }));
        let mut told = told.buffer_unordered(AT_ONCE);
        let mut round = Round::default();
        while let Some((group, outcome)) = told.next().await {
            match outcome {
                Some(Outcome::Done) => debug!(paths = group.len(), "{} was told", self.inbox.name),
                Some(Outcome::Failed(cause)) => round.failed.push((group, cause)),
                Some(Outcome::Away(cause)) => {
                    round.left.extend(group);
                    round.away = Some(cause);
                }
                None => round.left.extend(group),
            }
        }
        round
    }

    fn on_failed(&self, failed: &[(Vec<Event>, String)]) {
        if failed.is_empty() {
            return;
        }
        self.count_failures(failed.len());
        let name = &self.inbox.name;
        for (group, cause) in failed.iter().take(LOGGED) {
            match &group[..] {
                [event] => {
                    let path = escaped(&event.path);
                    warn!(
                        MESSAGE_ID = id::PLUGIN_FAILED,
                        SERSYNC_PLUGIN = name,
                        SERSYNC_PATH = %path,
                        "{name} failed at {path}: {cause}"
                    );
                }
                group => warn!(
                    MESSAGE_ID = id::PLUGIN_FAILED,
                    SERSYNC_PLUGIN = name,
                    "{name} failed at {} paths: {cause}",
                    group.len()
                ),
            }
        }
        if failed.len() > LOGGED {
            let more = failed.len() - LOGGED;
            warn!(
                MESSAGE_ID = id::PLUGIN_FAILED,
                SERSYNC_PLUGIN = name,
                "{name} failed {more} more times"
            );
        }
    }

    fn count_failures(&self, count: usize) {
        let board = &self.inbox.board;
        board.update(|snapshot| snapshot.plugin_failures += count as u64);
    }
}

/// Before the next try after so many. `jitter` in 0..1 keeps many instances from knocking at the same time.
fn pause(tries: u32, jitter: f64) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.pow(tries.min(6));
    pause.min(LONGEST_PAUSE).mul_f64(0.75 + 0.5 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_about_a_minute() {
        assert_eq!(pause(0, 0.5), FIRST_PAUSE);
        assert_eq!(pause(3, 0.5), FIRST_PAUSE * 8);
        for jitter in [0.0, 0.99] {
            let longest = pause(u32::MAX, jitter);
            assert!(longest >= Duration::from_secs(45) && longest <= Duration::from_secs(75));
        }
    }
}
