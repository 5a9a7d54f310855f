//! Remotes that fail: a receiver that is down for a while, and a dead one among others.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::bed::{Bed, Dead};
use super::super::compare::Expected;
use super::super::pace;
use super::super::results::{Results, Series};
use super::super::tool::Kind;
use super::{trees, write_files};

/// Files that change during the outage: directories, files in each.
const CHANGED: (usize, usize) = (200, 100);

/// How long the receiver stays down after the last change.
const OUTAGE: Duration = Duration::from_secs(5);

/// 20 000 files get a new content while the receiver is down; the time counts from when it listens again.
pub fn outage(kind: Kind, results: &mut Results) -> io::Result<()> {
    let mut bed = Bed::start(kind, |source| {
        write(source, "before the outage\n", || Ok(())).map(drop)
    })?;
    bed.receiver.stop();
    let paths = write(&bed.source(), "changed in the outage\n", || {
        bed.tool.on_changed()
    })?;
    pace::pause(OUTAGE)?;
    bed.receiver.start()?;
    let equal = bed.seconds_to_equal(Instant::now(), &paths, Expected::Alike)?;
    results.add(Series::OutageEqual, kind, equal);
    Ok(())
}

fn write(
    source: &Path,
    content: &str,
    on_changed: impl FnMut() -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let (directories, files) = CHANGED;
    write_files(
        source,
        "files",
        directories,
        files,
        content.as_bytes(),
        on_changed,
    )
}

/// The storm to three remotes; then with a fourth that refuses connections, and with one that takes them and is silent.
pub fn fan_out(kind: Kind, results: &mut Results) -> io::Result<()> {
    let alive = seconds_to_three(kind, None)?;
    let refused = seconds_to_three(kind, Some(Dead::Refuses))?;
    let silent = seconds_to_three(kind, Some(Dead::Silent))?;
    results.add(Series::FanOutAlive, kind, alive);
    results.add(Series::FanOutRefused, kind, refused);
    results.add(Series::FanOutSilent, kind, silent);
    results.add(Series::RefusedFactor, kind, refused / alive);
    results.add(Series::SilentFactor, kind, silent / alive);
    Ok(())
}

fn seconds_to_three(kind: Kind, dead: Option<Dead>) -> io::Result<f64> {
    let mut bed = Bed::start_with(kind, &["first", "second", "third"], dead, |_| Ok(()))?;
    let source = bed.source();
    let paths = trees::write_storm(&source, || bed.tool.on_changed())?;
    bed.seconds_to_equal(Instant::now(), &paths, Expected::Alike)
}
