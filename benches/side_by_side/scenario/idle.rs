//! A minute in which nothing happens: what a tool takes while it has nothing to do, and how fast it is after that.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::super::bed::Bed;
use super::super::compare::Expected;
use super::super::pace;
use super::super::results::{Results, Series, count};
use super::super::tool::Kind;
use super::trees::make_directories;

/// Directories at the top, and directories in each.
const WATCHED: (usize, usize) = (100, 99);

/// Quiet before the accounts are read, so that what is kept ready for more changes has been given up.
const SETTLING: Duration = Duration::from_secs(30);

/// Quiet while wake-ups are counted.
const COUNTED: Duration = Duration::from_secs(30);

/// Starts all `tools`, leaves them alone for a minute, then makes one change for each.
pub fn measure(tools: &[Kind], results: &mut Results) -> io::Result<()> {
    let mut beds = tools
        .iter()
        .map(|&tool| Bed::start(tool, |source| make_directories(source, WATCHED)))
        .collect::<io::Result<Vec<_>>>()?;
    pace::pause(SETTLING)?;
    let before = beds
        .iter()
        .map(|bed| bed.tool.wake_ups())
        .collect::<io::Result<Vec<_>>>()?;
    pace::pause(COUNTED)?;
    for (bed, before) in beds.iter().zip(before) {
        let kind = bed.tool.kind();
        let per_minute = count(bed.tool.wake_ups()? - before) * 60.0 / COUNTED.as_secs_f64();
        results.add(Series::IdleWakeUps, kind, per_minute);
        results.add(
            Series::IdleMemory,
            kind,
            count(bed.tool.resident_kibibytes()?) / 1024.0,
        );
    }
    for bed in &mut beds {
        fs::write(bed.source().join("after"), "a minute later\n")?;
        let visible = bed.seconds_to_equal(Instant::now(), &["after".into()], Expected::Alike)?;
        results.add(Series::IdleChange, bed.tool.kind(), visible);
    }
    Ok(())
}
