//! One file after the other: single changes with rest between them, and a log that grows all the time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::super::bed::{Bed, LIMIT, NEVER, REST};
use super::super::pace;
use super::super::results::{Results, Series, count};
use super::super::tool::Kind;

/// Single changes in a round, and the files they go round in.
const SINGLES: usize = 50;
const FILES: usize = 20;
const SINGLE_INTERVAL: Duration = Duration::from_millis(200);

const APPENDS: u32 = 400;
const APPEND_INTERVAL: Duration = Duration::from_millis(20);
const LINE: &[u8] = b"2026-11-22T12:00:00 a line of a log, sixty-four bytes with its end\n";

/// Files are written or overwritten; each version is longer than all before, so the size at the receiver tells which
/// one is there (a later one will do: the change is visible).
pub fn single(kind: Kind, results: &mut Results) -> io::Result<()> {
    let bed = Bed::start(kind, |_| Ok(()))?;
    for seconds in singles(bed)? {
        results.add(Series::Single, kind, seconds);
    }
    Ok(())
}

/// The same over ssh, and beside it to a daemon in the same minute, to compare.
pub fn over_ssh(kind: Kind, results: &mut Results) -> io::Result<()> {
    let daemon = singles(Bed::start(kind, |_| Ok(()))?)?;
    let ssh = singles(Bed::start_over_ssh()?)?;
    results.add(Series::SshFactor, kind, median(&ssh) / median(&daemon));
    for seconds in ssh {
        results.add(Series::SshSingle, kind, seconds);
    }
    Ok(())
}

fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_unstable_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(NEVER)
}

/// The seconds after which each of the changes was visible.
fn singles(mut bed: Bed) -> io::Result<Vec<f64>> {
    let mut seen = Vec::new();
    let (source, replica) = (bed.source(), bed.replica().to_owned());
    let mut awaited = Vec::new();
    let collect = |awaited: &mut Vec<(usize, Instant)>, seen: &mut Vec<f64>| {
        awaited.retain(|&(number, closed)| {
            let is_visible = fs::metadata(replica.join(name(number)))
                .is_ok_and(|there| there.len() >= size(number));
            if is_visible {
                seen.push(closed.elapsed().as_secs_f64());
            }
            !is_visible
        });
    };
    let start = Instant::now();
    for number in 0..SINGLES {
        fs::write(source.join(name(number)), vec![b'x'; size(number) as usize])?;
        let closed = Instant::now();
        bed.tool.on_changed()?;
        awaited.push((number, closed));
        let next = start + SINGLE_INTERVAL * (number as u32 + 1);
        pace::wait_until(closed, LIMIT, || {
            collect(&mut awaited, &mut seen);
            Instant::now() >= next
        })?;
    }
    pace::wait_until(Instant::now(), LIMIT, || {
        collect(&mut awaited, &mut seen);
        awaited.is_empty()
    })?;
    seen.extend(awaited.iter().map(|_| NEVER));
    bed.tool.check_alive()?;
    Ok(seen)
}

/// Each append opens, writes and closes, as `echo >> log` does.
pub fn append(kind: Kind, results: &mut Results) -> io::Result<()> {
    let mut bed = Bed::start(kind, |_| Ok(()))?;
    let (source, replica) = (bed.source().join("log"), bed.replica().join("log"));
    let arrived =
        |bytes: usize| fs::metadata(&replica).is_ok_and(|there| there.len() >= bytes as u64);
    let runs_before = bed.runs()?;
    let start = Instant::now();
    let mut first_closed = None;
    let mut first_seen = None;
    let mut last_closed = start;
    for number in 1..=APPENDS {
        let mut log = OpenOptions::new().create(true).append(true).open(&source)?;
        log.write_all(LINE)?;
        drop(log);
        last_closed = Instant::now();
        bed.tool.on_changed()?;
        let closed = *first_closed.get_or_insert(last_closed);
        let next = start + APPEND_INTERVAL * number;
        pace::wait_until(last_closed, LIMIT, || {
            if first_seen.is_none() && arrived(LINE.len()) {
                first_seen = Some(closed.elapsed());
            }
            Instant::now() >= next
        })?;
    }
    let all = LINE.len() * APPENDS as usize;
    let last_seen = pace::wait_until(last_closed, LIMIT, || arrived(all))?;
    pace::pause(REST)?;
    bed.tool.check_alive()?;
    let runs = bed.runs()? - runs_before;
    // A tool that waited longer than the whole scenario shows the first change with the last one.
    let first_seen = first_seen.or_else(|| Some(last_seen? + (last_closed - first_closed?)));
    let seconds = |time: Option<Duration>| time.map_or(NEVER, |time| time.as_secs_f64());
    results.add(Series::AppendFirst, kind, seconds(first_seen));
    results.add(Series::AppendLast, kind, seconds(last_seen));
    results.add(Series::AppendRuns, kind, count(runs));
    Ok(())
}

fn name(number: usize) -> String {
    format!("file{:02}", number % FILES)
}

fn size(number: usize) -> u64 {
    1_000 + number as u64
}
