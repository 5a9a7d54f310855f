//! What `journalctl` finds.

use std::time::Duration;

use serde_json::Value;

use crate::machine::Machine;
use crate::wait::{SOON, wait_for};

/// One entry: its fields by their names.
#[derive(Debug, Clone)]
pub struct Entry(Value);

impl Entry {
    /// A field; empty if it has none of this name.
    pub fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        self.field("MESSAGE")
    }
}

/// The entries that match, the oldest first: `matches` are arguments of journalctl.
#[track_caller]
pub fn entries(machine: &Machine, matches: &[&str]) -> Vec<Entry> {
    let mut command = vec!["journalctl", "--quiet", "--all", "--output=json"];
    command.extend(matches);
    machine
        .ok(command)
        .lines()
        .map(|line| Entry(serde_json::from_str(line).expect("journalctl prints JSON")))
        .collect()
}

/// Waits for an entry that matches.
#[track_caller]
pub fn wait_for_entry(machine: &Machine, matches: &[&str]) -> Entry {
    wait_for_entry_within(SOON, machine, matches)
}

/// The same within a time.
#[track_caller]
pub fn wait_for_entry_within(within: Duration, machine: &Machine, matches: &[&str]) -> Entry {
    wait_for(
        within,
        &format!("the journal has an entry for {matches:?}"),
        || {
            entries(machine, matches)
                .into_iter()
                .next()
                .ok_or("nothing")
        },
    )
}
