//! Waiting, and being interrupted: shared by the demonstration and the bench, and the only place there that sleeps.
//!
//! Both watch a receiver from outside, so a condition can only be polled. Every wait has a limit and notices SIGINT and
//! SIGTERM: it then fails, the error travels up, and what was started is ended on the way by its `Drop`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How often a condition is looked at: far below the milliseconds that are measured, and still cheap.
const POLL: Duration = Duration::from_micros(200);

/// Rest after a look that took long, in times of what it took: watching must not take the processor from the watched.
const REST_PER_LOOK: u32 = 2;

/// The longest sleep between two looks at the interruption flag.
const SLICE: Duration = Duration::from_millis(50);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Turns SIGINT and SIGTERM into an error of every later wait, instead of the end of this process.
pub fn watch_for_interrupts() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || -> io::Result<()> {
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    INTERRUPTED.store(true, Ordering::Relaxed);
                }
            })
        })?;
    Ok(())
}

/// Lets `duration` pass.
pub fn pause(duration: Duration) -> io::Result<()> {
    let end = Instant::now() + duration;
    loop {
        check_interrupted()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(SLICE));
    }
}

/// Polls until `is_true`; returns the time from `since` to then, or `None` when `limit` has passed since `since`.
pub fn wait_until(
    since: Instant,
    limit: Duration,
    mut is_true: impl FnMut() -> bool,
) -> io::Result<Option<Duration>> {
    loop {
        let look = Instant::now();
        // The clock is read after the look: a slow look is part of the time, never hidden from it.
        let seen = is_true();
        let elapsed = since.elapsed();
        if seen {
            return Ok(Some(elapsed));
        }
        if elapsed > limit {
            return Ok(None);
        }
        check_interrupted()?;
        sleep((look.elapsed() * REST_PER_LOOK).clamp(POLL, SLICE));
    }
}

/// Waits for the end of something, also when interrupted: what was started is always ended. False after `limit`.
pub fn has_ended_within(limit: Duration, mut has_ended: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if has_ended() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        sleep(POLL);
    }
}

fn check_interrupted() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a receiver can only be watched from outside by polling it"
)]
fn sleep(duration: Duration) {
    thread::sleep(duration);
}
