//! The log: one sentence per event on standard error, for people on a terminal and with `<N>` priorities elsewhere.
//!
//! Fields named `SERSYNC_*` are for machines: they are in the sentence already and are not shown again.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts the log. `SERSYNC_LOG` overrides the level, as in `SERSYNC_LOG=trace` or `SERSYNC_LOG=sersync::watch=debug`.
pub fn start(debug: bool) {
    let level = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("SERSYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let for_people = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(for_people)
        .event_format(Sentence { for_people });
    // It fails only if there is a log already, which is then as good.
    let _ = subscriber.try_init();
}

struct Sentence {
    for_people: bool,
}

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { message, details } = text;
        let level = *event.metadata().level();
        if self.for_people {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {level:>5} ")?;
            return writeln!(writer, "{message}{details}");
        }
        let priority = priority(level);
        for line in message.lines() {
            writeln!(writer, "<{priority}>{line}{details}")?;
        }
        Ok(())
    }
}

/// The syslog priority that journald reads from the beginning of a line; see sd-daemon(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[derive(Default)]
struct Text {
    message: String,
    details: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if name.starts_with("SERSYNC_") => Ok(()),
            name => write!(self.details, " {name}={value:?}"),
        };
    }
}
