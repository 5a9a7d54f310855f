//! The log: one sentence per event, in the journal with fields, on a terminal for people, elsewhere on standard error
//! with `<N>` priorities.
//!
//! ```text
//!  info!(…) ─► level ─► Record ─► queue (bounded) ─► writer thread ─► limit ─► journald or standard error
//! ```
//!
//! Who says something never waits: a journal that stands still, or a terminal nobody reads, would hold up the whole
//! daemon. What does not fit is dropped and counted. Fields in capitals (`SERSYNC_*`, [`MESSAGE_ID`](message_id)) are for
//! machines; they are in the sentence already and are not shown to people again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, error, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::limit::Limit;
use self::queue::{Bounds, Queue, Task};
use self::record::Record;
use self::sink::Sink;
use crate::control::{LogControl, LogLevel, LogTarget};
use crate::message_id;

mod limit;
mod queue;
mod record;
mod sink;
#[cfg(test)]
mod tests;

/// Minutes of an ordinary day, seconds of a bad one; and not much memory.
const BOUNDS: Bounds = Bounds {
    records: 8192,
    bytes: 4 << 20,
};
/// The last messages are worth so long a wait when the process ends, well below what a service manager gives it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts the log. `SERSYNC_LOG` overrides the level, as in `SERSYNC_LOG=trace` or `SERSYNC_LOG=sersync::watch=debug`.
///
/// While the returned value lives nobody waits for the journal; without it, whoever says something does.
pub fn start(debug: bool) -> Journal {
    let level = if debug {
        LogLevel::Debug
    } else {
        LogLevel::Info
    };
    let filter = EnvFilter::try_from_env("SERSYNC_LOG").unwrap_or_else(|_| filter(level));
    let (filter, handle) = reload::Layer::new(filter);
    let out = Arc::new(Out::new(Sink::of_stderr()));
    let target = out.target();
    let layer = ToQueue(Arc::clone(&out));
    let is_new = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .is_ok();
    // It is no failure if there is a log already: that one is as good.
    if is_new {
        log_panics(Arc::clone(&out));
        out.spawn_writer(report_loss);
    }
    let control = Arc::new(Control { handle, target });
    Journal { out, control }
}

/// The running log. When it is dropped, what was said is written, and from then on each message at once.
#[derive(Debug)]
pub struct Journal {
    out: Arc<Out>,
    control: Arc<Control>,
}

impl Journal {
    /// The way to its level.
    #[must_use]
    pub fn control(&self) -> Arc<dyn LogControl> {
        Arc::<Control>::clone(&self.control)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.out.queue.close(PATIENCE);
    }
}

#[derive(Debug)]
struct Control {
    handle: reload::Handle<EnvFilter, Registry>,
    target: LogTarget,
}

impl LogControl for Control {
    fn level(&self) -> LogLevel {
        let shown = self.handle.with_current(EnvFilter::max_level_hint);
        match shown.ok().flatten() {
            Some(LevelFilter::OFF | LevelFilter::ERROR) => LogLevel::Error,
            Some(LevelFilter::WARN) => LogLevel::Warning,
            Some(LevelFilter::INFO) => LogLevel::Info,
            _ => LogLevel::Debug,
        }
    }

    fn set_level(&self, level: LogLevel) {
        // It fails only if there was a log before this one, which nobody can have a handle of.
        let _ = self.handle.reload(filter(level));
    }

    fn target(&self) -> LogTarget {
        self.target
    }
}

/// The level is that of our own words. Libraries are heard when something is wrong, not when we are debugged.
fn filter(level: LogLevel) -> EnvFilter {
    let (others, ours) = match level {
        LogLevel::Emergency | LogLevel::Alert | LogLevel::Critical | LogLevel::Error => {
            ("error", "error")
        }
        LogLevel::Warning => ("warn", "warn"),
        LogLevel::Notice | LogLevel::Info => ("warn", "info"),
        LogLevel::Debug => ("warn", "debug"),
    };
    EnvFilter::new(format!("{others},sersync={ours}"))
}

/// The queue and what is behind it.
struct Out {
    queue: Queue,
    sink: Mutex<Sink>,
}

impl Out {
    fn new(sink: Sink) -> Self {
        Self {
            queue: Queue::new(BOUNDS),
            sink: Mutex::new(sink),
        }
    }

    fn target(&self) -> LogTarget {
        match *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Journal(_) => LogTarget::Journal,
            Sink::People(_) | Sink::Priorities(_) => LogTarget::Console,
        }
    }

    fn say(&self, record: Record) {
        if let Some(record) = self.queue.push(record) {
            self.write(&record);
        }
    }

    fn write(&self, record: &Record) {
        self.sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(record);
    }

    /// From now on a thread writes, and says by `report_loss` how many records found no room. Without a thread, writing
    /// goes on as before.
    fn spawn_writer(self: &Arc<Self>, report_loss: fn(u64)) {
        self.queue.open();
        let out = Arc::clone(self);
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || out.run_writer(report_loss));
        if writer.is_err() {
            self.queue.finish();
        }
    }

    fn run_writer(&self, report_loss: fn(u64)) {
        let mut limit = Limit::default();
        loop {
            match self.queue.take(limit.next_due()) {
                Task::Write(record) => self.write_all(limit.admit(record, Instant::now())),
                Task::Lost(count) => report_loss(count),
                Task::Wake => {}
                Task::End => {
                    self.write_all(limit.take_rest(Instant::now()));
                    if self.queue.finish() {
                        return;
                    }
                }
            }
            self.write_all(limit.take_due(Instant::now()));
        }
    }

    fn write_all(&self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            self.write(&record);
        }
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

/// The end of a subscriber.
struct ToQueue(Arc<Out>);

impl<S: Subscriber> Layer<S> for ToQueue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.say(Record::of(event));
    }
}

fn report_loss(count: u64) {
    warn!(
        MESSAGE_ID = message_id::JOURNAL_STALLED,
        "{count} messages were lost: the journal did not take them in time"
    );
}

/// A panic ends the service, so its words must be out before.
fn log_panics(out: Arc<Out>) {
    std::panic::set_hook(Box::new(move |panic| {
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            error!("a fault in sersync, please report it: {panic}\n{trace}");
        } else {
            error!("a fault in sersync, please report it: {panic}");
        }
        out.queue.flush(PATIENCE);
    }));
}
