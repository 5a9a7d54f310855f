//! Waiting for conditions, never for time.

use std::fmt;
use std::time::{Duration, Instant};

/// How long something may take that takes milliseconds, on a machine that does other things as well.
pub const SOON: Duration = Duration::from_secs(20);

/// How long a lane may take to try again after its remote is back.
pub const AFTER_BACK_OFF: Duration = Duration::from_secs(100);

/// Between two looks at a condition. A look costs a process or two.
const POLL: Duration = Duration::from_millis(50);

/// Lets a moment pass between two looks at a condition. Nothing may be asserted because it is over.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has nothing to cancel, and its pauses end in a deadline"
)]
pub fn pause() {
    std::thread::sleep(POLL);
}

/// Waits until `look` finds what is wanted, and gives it; fails after `within` with what it saw instead.
#[track_caller]
pub fn wait_for<T, E: fmt::Display>(
    within: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() >= within => {
                panic!("not within {within:?}: {what}; instead: {seen}")
            }
            Err(_) => pause(),
        }
    }
}

/// Waits until `condition` holds; fails after `within`.
#[track_caller]
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(
        within,
        what,
        || {
            if condition() { Ok(()) } else { Err("no") }
        },
    );
}

/// Looks again and again for `time`, and fails as soon as `condition` does not hold.
#[track_caller]
pub fn stays(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(condition(), "no longer after {:?}: {what}", start.elapsed());
        pause();
    }
}
