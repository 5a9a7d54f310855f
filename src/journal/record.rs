//! An event that outlives its moment: what its fields said, as text, so that another thread can write it.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// What a record takes besides its text: itself and its place in a queue.
const OVERHEAD: usize = 128;

/// An event as it happened.
#[derive(Debug, Clone)]
pub(super) struct Record {
    metadata: &'static Metadata<'static>,
    time: String,
    text: Text,
}

/// The sentence, and what belongs to the machines.
#[derive(Debug, Default, Clone)]
struct Text {
    message: String,
    /// Fields that people read after the sentence.
    details: String,
    /// Fields whose name is in capitals, by their place among the fields of the event.
    fields: Vec<(usize, String)>,
}

impl Record {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut text = Text::default();
        event.record(&mut text);
        let mut time = String::new();
        // Writing to a String does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        Self {
            metadata: event.metadata(),
            time,
            text,
        }
    }

    pub(super) fn metadata(&self) -> &'static Metadata<'static> {
        self.metadata
    }

    /// When it happened, for people.
    pub(super) fn time(&self) -> &str {
        &self.time
    }

    /// The sentence and its details.
    pub(super) fn sentence(&self) -> String {
        format!("{}{}", self.text.message, self.text.details)
    }

    /// Adds to the sentence.
    pub(super) fn append(&mut self, more: &str) {
        self.text.details.push_str(more);
    }

    /// About as many bytes as it takes.
    pub(super) fn size(&self) -> usize {
        let fields = self.text.fields.iter().map(|(_, value)| value.len());
        OVERHEAD + self.text.message.len() + self.text.details.len() + fields.sum::<usize>()
    }

    /// Lets the event happen once more, for this subscriber alone: the sentence with its details as the message, the
    /// fields in capitals as they were. An event without a message is left out.
    pub(super) fn replay(&self, subscriber: &impl Subscriber) {
        let sentence = self.sentence();
        let fields = self.metadata.fields();
        let Some(message) = fields.field("message") else {
            return;
        };
        let mut values: Vec<Option<&dyn Value>> = vec![None; fields.len()];
        values[message.index()] = Some(&sentence);
        for (index, value) in &self.text.fields {
            values[*index] = Some(value);
        }
        // Not in the documentation, but what `info!` itself becomes, so it stays as long as that does.
        let values = fields.value_set_all(&values);
        subscriber.event(&Event::new(self.metadata, &values));
    }
}

impl Visit for Text {
    /// Without this, strings would have quotes.
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            // Writing to a String does not fail.
            "message" => {
                let _ = write!(self.message, "{value:?}");
            }
            name if is_for_machines(name) => {
                self.fields.push((field.index(), format!("{value:?}")));
            }
            name => {
                let _ = write!(self.details, " {name}={value:?}");
            }
        }
    }
}

/// `SERSYNC_PATH`, `MESSAGE_ID`: they are in the sentence already and are not shown to people again.
fn is_for_machines(name: &str) -> bool {
    !name.bytes().any(|byte| byte.is_ascii_lowercase())
}
