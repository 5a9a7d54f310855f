//! Where records go: the journal itself, or standard error for people or for whoever reads priorities there.

use std::io::{self, IsTerminal as _, Write};

use rustix::fs::fstat;
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::{Registry, registry};

use super::record::Record;

/// A way out.
pub(super) enum Sink {
    /// journald, with fields.
    Journal(Box<Layered<tracing_journald::Layer, Registry>>),
    /// Lines with the time and the level.
    People(Box<dyn Write + Send>),
    /// Lines with the priority in front, as in sd-daemon(3).
    Priorities(Box<dyn Write + Send>),
}

impl Sink {
    /// The one that fits to what standard error is.
    pub(super) fn of_stderr() -> Self {
        let stderr = io::stderr();
        if stderr.is_terminal() {
            return Self::People(Box::new(stderr));
        }
        if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref())
            && let Ok(journald) = tracing_journald::layer()
        {
            return Self::Journal(Box::new(registry().with(with_our_names(journald))));
        }
        Self::Priorities(Box::new(stderr))
    }

    pub(super) fn write(&mut self, record: &Record) {
        // A log that cannot be written is no reason for anything to end.
        let _ = match self {
            Self::Journal(journald) => {
                record.replay(journald.as_ref());
                Ok(())
            }
            Self::People(out) => {
                let level = record.metadata().level();
                let line = format!("{} {level:>5} {}\n", record.time(), record.sentence());
                out.write_all(line.as_bytes())
            }
            Self::Priorities(out) => {
                let priority = priority(*record.metadata().level());
                let mut lines = String::new();
                for line in record.sentence().lines() {
                    lines.extend(["<", priority, ">", line, "\n"]);
                }
                out.write_all(lines.as_bytes())
            }
        };
    }
}

/// `SERSYNC_REMOTE` and not `F_SERSYNC_REMOTE`; an event of every day is informational and no notice.
fn with_our_names(journald: tracing_journald::Layer) -> tracing_journald::Layer {
    journald
        .with_field_prefix(None)
        .with_syslog_identifier("sersync".into())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        })
}

/// Whether standard error is the stream to the journal that the service manager made. Someone else's would be inherited
/// by everything that is started from a service and writes elsewhere.
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// The syslog priority that journald reads from the beginning of a line; see sd-daemon(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}
