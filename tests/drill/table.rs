//! What a drill has seen, as a table, and whether it went well.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::faults::Fault;

/// The memory at the end may be so many per cent of that in the middle.
const MOST_GROWTH: u64 = 120;
/// A drill shorter than this says nothing of memory that grows: in its beginning all does.
const LONG: Duration = Duration::from_secs(300);

/// A drill as long as `make drill` makes it has many faults of many kinds, or most of them cannot be had here.
const WHOLE: Duration = Duration::from_secs(600);
const MANY_FAULTS: u32 = 200;
const MANY_KINDS: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Table {
    /// How long it was to be.
    pub time: Duration,
    /// How often each kind happened.
    pub faults: BTreeMap<Fault, u32>,
    /// What was done to the source.
    pub operations: u64,
    /// How often all was quiet and both replicas became equal.
    pub equal: u32,
    /// The longest time from the end of operations and faults until they were.
    pub longest: Duration,
    /// How often sersync has said that the kernel dropped events.
    pub overflows: usize,
    /// How often the canaries were looked at.
    pub looks: u64,
    /// The memory of the lasting process at quiet points: when, and KiB.
    pub memory: Vec<(Duration, u64)>,
    /// In what a replica was not equal in time.
    pub lost: Vec<String>,
    /// Canaries that were not there.
    pub wrongly_deleted: Vec<String>,
}

impl Table {
    /// An empty one.
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            faults: BTreeMap::new(),
            operations: 0,
            equal: 0,
            longest: Duration::ZERO,
            overflows: 0,
            looks: 0,
            memory: Vec::new(),
            lost: Vec::new(),
            wrongly_deleted: Vec::new(),
        }
    }

    /// What is not as it must be, in sentences.
    pub fn complaints(&self) -> Vec<String> {
        let mut all = Vec::new();
        let lost = self.lost.iter().map(|what| format!("lost: {what}"));
        all.extend(lost.take(20));
        let deleted = self.wrongly_deleted.iter();
        all.extend(
            deleted
                .take(20)
                .map(|what| format!("wrongly deleted: {what}")),
        );
        let (faults, kinds) = (self.faults.values().sum::<u32>(), self.faults.len());
        if self.time >= WHOLE && (faults < MANY_FAULTS || kinds < MANY_KINDS) {
            all.push(format!("only {faults} faults of {kinds} kinds"));
        }
        let (middle, end) = (self.middle(), self.end());
        if self.time >= LONG && end * 100 > middle * MOST_GROWTH {
            all.push(format!("memory grew from {middle} to {end} KiB"));
        }
        all
    }

    /// The usual memory in the middle of the time, in KiB.
    fn middle(&self) -> u64 {
        self.usual(0.4, 0.6)
    }

    /// The same at the end.
    fn end(&self) -> u64 {
        self.usual(0.8, f64::INFINITY)
    }

    /// The median of what was seen in a part of the time.
    fn usual(&self, from: f64, to: f64) -> u64 {
        let whole = self.time.as_secs_f64();
        let mut seen: Vec<u64> = self
            .memory
            .iter()
            .filter(|(at, _)| (from..to).contains(&(at.as_secs_f64() / whole)))
            .map(|(_, memory)| *memory)
            .collect();
        seen.sort_unstable();
        seen.get(seen.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<40} {value:>12}");
        for (fault, count) in &self.faults {
            line(fault.name(), count.to_string())?;
        }
        let faults: u32 = self.faults.values().sum();
        line("", String::new())?;
        line("faults", faults.to_string())?;
        line("kinds of faults", self.faults.len().to_string())?;
        line("operations", self.operations.to_string())?;
        line("became equal by itself", format!("{} times", self.equal))?;
        line(
            "longest until equal",
            format!("{:.2} s", self.longest.as_secs_f64()),
        )?;
        line(
            "overflows of the kernel's queue",
            self.overflows.to_string(),
        )?;
        line("looks at the canaries", self.looks.to_string())?;
        line("memory in the middle", format!("{} KiB", self.middle()))?;
        line("memory at the end", format!("{} KiB", self.end()))?;
        line("lost", self.lost.len().to_string())?;
        line("wrongly deleted", self.wrongly_deleted.len().to_string())
    }
}
