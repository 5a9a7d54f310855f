//! A remote that cannot be reached: when it is tried again. Pure.

use std::time::{Duration, Instant};

/// A remote that went away is probed this often in the beginning.
const FIRST_PROBES: Duration = Duration::from_secs(1);
/// For how long.
const BEGINNING: Duration = Duration::from_secs(60);
/// The longest wait between two probes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The first wait after a failure that somebody must mend.
const FIRST_WAIT_FOR_MENDING: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Down {
    /// Since when.
    pub since: Instant,
    /// Tries since then.
    pub attempts: u32,
    /// When it is probed next.
    pub next_try: Instant,
    /// A probe is on its way.
    pub probing: bool,
    /// A probe got through, so the next failure is the batch's own.
    pub answered: bool,
}

impl Down {
    /// Away since now.
    pub fn since(now: Instant) -> Self {
        Self {
            since: now,
            attempts: 0,
            next_try: now,
            probing: false,
            answered: false,
        }
    }

    /// It failed again. `jitter` in 0..1 spreads the next tries of many lanes.
    pub fn on_failed(&mut self, needs_mending: bool, now: Instant, jitter: f64) {
        self.attempts = self.attempts.saturating_add(1);
        self.answered = false;
        let wait = if needs_mending {
            (FIRST_WAIT_FOR_MENDING * 2_u32.pow((self.attempts - 1).min(10))).min(LONGEST_WAIT)
        } else if now - self.since < BEGINNING {
            FIRST_PROBES
        } else {
            // Waits as long again as it has been waiting since the beginning, up to the longest.
            (now - self.since)
                .saturating_sub(BEGINNING)
                .clamp(FIRST_PROBES * 2, LONGEST_WAIT)
        };
        self.next_try = now + wait.mul_f64(0.75 + 0.25 * jitter);
    }
}
