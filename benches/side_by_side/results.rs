//! The figures: what is measured, in which unit, and the median over the rounds.

use std::collections::BTreeMap;

use super::scenario::Scenario;
use super::tool::Kind;

/// A series of samples that a scenario gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    Single,
    SshSingle,
    SshFactor,
    StormEqual,
    StormCpu,
    StormRuns,
    DeleteEqual,
    DeleteRuns,
    AppendFirst,
    AppendLast,
    AppendRuns,
    PruneEqual,
    PruneNext,
    OutageEqual,
    FanOutAlive,
    FanOutRefused,
    FanOutSilent,
    RefusedFactor,
    SilentFactor,
    IdleChange,
    IdleMemory,
    IdleWakeUps,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds that somebody waits.
    Seconds,
    /// Seconds of CPU time.
    CpuSeconds,
    /// Runs of rsync.
    Runs,
    Mebibytes,
    PerMinute,
    /// Times as long as without the burden.
    Factor,
}

/// How the samples of all rounds become one figure.
#[derive(Clone, Copy, Debug)]
pub enum Statistic {
    Median,
    Percentile99,
}

/// One row of the table.
pub struct Row {
    pub scenario: Scenario,
    pub series: Series,
    pub statistic: Statistic,
    pub unit: Unit,
    pub title: &'static str,
}

/// All rows, in the order of the table.
pub const ROWS: [Row; 24] = {
    use Scenario::{Append, FanOut, Idle, Outage, Prune, Single, Ssh, Storm};
    use Unit::{CpuSeconds, Factor, Mebibytes, PerMinute};
    [
        seconds(Single, Series::Single, "visible after, median"),
        Row {
            statistic: Statistic::Percentile99,
            ..seconds(Single, Series::Single, "visible after, 99th percentile")
        },
        seconds(Ssh, Series::SshSingle, "visible after, median"),
        Row {
            statistic: Statistic::Percentile99,
            ..seconds(Ssh, Series::SshSingle, "visible after, 99th percentile")
        },
        row(Ssh, Series::SshFactor, Factor, "  compared with a daemon"),
        seconds(Storm, Series::StormEqual, "equal after the last write"),
        row(Storm, Series::StormCpu, CpuSeconds, "CPU time"),
        runs(Storm, Series::StormRuns, "rsync runs"),
        seconds(Storm, Series::DeleteEqual, "rm -rf of them: equal after"),
        runs(Storm, Series::DeleteRuns, "rm -rf of them: rsync runs"),
        seconds(Append, Series::AppendFirst, "first change visible after"),
        seconds(Append, Series::AppendLast, "last change visible after"),
        runs(Append, Series::AppendRuns, "rsync runs"),
        seconds(Prune, Series::PruneEqual, "equal after"),
        seconds(Prune, Series::PruneNext, "next single change visible after"),
        seconds(Outage, Series::OutageEqual, "equal after it listens again"),
        seconds(FanOut, Series::FanOutAlive, "3 remotes: equal after"),
        seconds(FanOut, Series::FanOutRefused, "and a 4th that refuses"),
        row(FanOut, Series::RefusedFactor, Factor, "  compared with 3"),
        seconds(FanOut, Series::FanOutSilent, "and a 4th that is silent"),
        row(FanOut, Series::SilentFactor, Factor, "  compared with 3"),
        seconds(Idle, Series::IdleChange, "change after 60 s of quiet"),
        row(Idle, Series::IdleMemory, Mebibytes, "resident memory"),
        row(Idle, Series::IdleWakeUps, PerMinute, "wake-ups"),
    ]
};

const fn seconds(scenario: Scenario, series: Series, title: &'static str) -> Row {
    row(scenario, series, Unit::Seconds, title)
}

const fn runs(scenario: Scenario, series: Series, title: &'static str) -> Row {
    row(scenario, series, Unit::Runs, title)
}

const fn row(scenario: Scenario, series: Series, unit: Unit, title: &'static str) -> Row {
    Row {
        scenario,
        series,
        statistic: Statistic::Median,
        unit,
        title,
    }
}

/// All samples.
#[derive(Default)]
pub struct Results {
    samples: BTreeMap<(Series, Kind), Vec<f64>>,
}

impl Results {
    /// Adds one sample; infinite when the result did not come in time.
    pub fn add(&mut self, series: Series, kind: Kind, sample: f64) {
        self.samples.entry((series, kind)).or_default().push(sample);
    }

    /// The figure of a row for a tool; `None` when nothing was measured.
    pub fn figure(&self, row: &Row, kind: Kind) -> Option<f64> {
        let mut samples = self.samples.get(&(row.series, kind))?.clone();
        samples.sort_unstable_by(f64::total_cmp);
        // The nearest rank: a figure that was measured, also when some samples are infinite.
        let percent = match row.statistic {
            Statistic::Median => 50,
            Statistic::Percentile99 => 99,
        };
        let rank = (samples.len() * percent).div_ceil(100);
        samples.get(rank.checked_sub(1)?).copied()
    }
}

/// A count as a sample.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is counted here is far below 2^52"
)]
pub fn count(number: u64) -> f64 {
    number as f64
}
