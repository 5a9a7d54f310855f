//! A bound on floods: so many events a time from one place of the program, and of the others the last and their number.
//!
//! Debugging is not limited: who turns it on wants it all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::callsite::Identifier;

use super::record::Record;

/// Nobody reads more sentences of one kind than this.
pub(super) const BURST: u32 = 200;
/// The time in which they are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// Counts what each place of the program says.
#[derive(Debug, Default)]
pub(super) struct Limit {
    places: HashMap<Identifier, Place>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    written: u32,
    left_out: u32,
    /// The last that was left out.
    last: Option<Record>,
}

impl Limit {
    /// The record, if it is to be written now.
    pub(super) fn admit(&mut self, record: Record, now: Instant) -> Option<Record> {
        if *record.metadata().level() > Level::INFO {
            return Some(record);
        }
        let place = self
            .places
            .entry(record.metadata().callsite())
            .or_insert_with(|| Place::new(now));
        if place.last.is_none() && now >= place.since + WINDOW {
            *place = Place::new(now);
        }
        if place.written < BURST {
            place.written += 1;
            return Some(record);
        }
        place.left_out += 1;
        place.last = Some(record);
        None
    }

    /// When something that was left out is to be told.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.places
            .values()
            .filter(|place| place.last.is_some())
            .map(|place| place.since + WINDOW)
            .min()
    }

    /// What is to be told by now of that which was left out.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Record> {
        self.take(|place| place.since + WINDOW <= now, now)
    }

    /// All that is still to be told.
    pub(super) fn take_rest(&mut self, now: Instant) -> Vec<Record> {
        self.take(|_| true, now)
    }

    fn take(&mut self, is_due: impl Fn(&Place) -> bool, now: Instant) -> Vec<Record> {
        self.places
            .values_mut()
            .filter(|place| is_due(place))
            .filter_map(|place| {
                let Place { last, left_out, .. } = std::mem::replace(place, Place::new(now));
                let mut record = last?;
                if left_out > 1 {
                    record.append(&format!(" (the last of {left_out} such messages)"));
                }
                Some(record)
            })
            .collect()
    }
}

impl Place {
    fn new(since: Instant) -> Self {
        Self {
            since,
            written: 0,
            left_out: 0,
            last: None,
        }
    }
}
