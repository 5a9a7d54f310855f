//! Whole trees: a storm of small files, its deletion, and the removal of half of a big tree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::bed::{Bed, REST};
use super::super::compare::Expected;
use super::super::pace;
use super::super::results::{Results, Series, count};
use super::super::tool::Kind;
use super::write_files;

/// The storm: directories, files in each, bytes in a file.
const STORM: (usize, usize, usize) = (100, 50, 1024);

/// The big tree: directories at its top, and directories in each of them.
const BIG: (usize, usize) = (200, 100);

/// 5 000 files as fast as they can be written, then `rm -rf` of them.
pub fn storm(kind: Kind, results: &mut Results) -> io::Result<()> {
    let mut bed = Bed::start(kind, |_| Ok(()))?;
    let source = bed.source();
    let (runs_before, cpu_before) = (bed.runs()?, bed.tool.cpu_time()?);
    let paths = write_storm(&source, || bed.tool.on_changed())?;
    let equal = bed.seconds_to_equal(Instant::now(), &paths, Expected::Alike)?;
    pace::pause(REST)?;
    let (runs, cpu) = (bed.runs()?, bed.tool.cpu_time()?);
    results.add(Series::StormEqual, kind, equal);
    results.add(Series::StormRuns, kind, count(runs - runs_before));
    results.add(
        Series::StormCpu,
        kind,
        cpu.as_secs_f64() - cpu_before.as_secs_f64(),
    );
    if equal.is_infinite() {
        return Ok(());
    }

    fs::remove_dir_all(source.join("storm"))?;
    bed.tool.on_changed()?;
    let equal = bed.seconds_to_equal(Instant::now(), &[PathBuf::from("storm")], Expected::Gone)?;
    pace::pause(REST)?;
    results.add(Series::DeleteEqual, kind, equal);
    results.add(Series::DeleteRuns, kind, count(bed.runs()? - runs));
    Ok(())
}

/// Writes the storm into `source`; gives the paths of its files.
pub fn write_storm(
    source: &Path,
    on_changed: impl FnMut() -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let (directories, files, size) = STORM;
    write_files(
        source,
        "storm",
        directories,
        files,
        &vec![b'x'; size],
        on_changed,
    )
}

/// 20 000 directories; every second one of those at the top is removed with the hundred in it.
pub fn prune(kind: Kind, results: &mut Results) -> io::Result<()> {
    let mut bed = Bed::start(kind, |source| make_directories(source, BIG))?;
    let source = bed.source();
    let removed: Vec<PathBuf> = (0..BIG.0).step_by(2).map(top).collect();
    for directory in &removed {
        fs::remove_dir_all(source.join(directory))?;
        bed.tool.on_changed()?;
    }
    let equal = bed.seconds_to_equal(Instant::now(), &removed, Expected::Gone)?;
    results.add(Series::PruneEqual, kind, equal);
    if equal.is_infinite() {
        return Ok(());
    }

    let path = top(1).join("next");
    fs::write(source.join(&path), "the next change\n")?;
    let closed = Instant::now();
    bed.tool.on_changed()?;
    let visible = bed.seconds_to_equal(closed, &[path], Expected::Alike)?;
    results.add(Series::PruneNext, kind, visible);
    Ok(())
}

/// Makes `inner` directories in each of `outer` ones.
pub fn make_directories(source: &Path, (outer, inner): (usize, usize)) -> io::Result<()> {
    for number in 0..outer {
        let parent = source.join(top(number));
        for child in 0..inner {
            fs::create_dir_all(parent.join(format!("d{child:04}")))?;
        }
    }
    Ok(())
}

fn top(number: usize) -> PathBuf {
    PathBuf::from(format!("top{number:04}"))
}
