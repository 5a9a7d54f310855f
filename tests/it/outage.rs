//! A long outage: one look at a time, few words about it, and all that changed when it is over.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, pause, wait_until};

/// How long the remote is away. Real ones last days: what is counted grows with the probes, which get rarer.
const OUTAGE: Duration = Duration::from_secs(20);

#[test]
fn an_outage_costs_one_process_at_a_time_and_few_lines_of_log() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    wait_until(SOON, "the first push is over", || {
        !mirror.sersync().rsync_children().is_empty()
    });
    let quiet = mirror.log().lines().count();
    mirror.daemon.stop();
    let (began, mut most, mut number) = (Instant::now(), 0, 0);
    while began.elapsed() < OUTAGE {
        fs::write(
            mirror.source(format!("file {}", number % 50)),
            format!("{number}"),
        )?;
        number += 1;
        most = most.max(mirror.sersync().rsync_children().len());
        pause(Duration::from_millis(50)); // interval
    }
    assert!(most <= 1, "{most} processes at once");
    let log = mirror.log();
    let lines: Vec<&str> = log.lines().skip(quiet).collect();
    println!("{number} changes, {} lines: {lines:?}", lines.len());
    assert!(lines.len() <= 3, "{} lines: {lines:?}", lines.len());
    assert!(
        lines
            .iter()
            .any(|line| line.contains("is unreachable, changes are kept"))
    );
    let before = mirror.daemon.connections();
    mirror.daemon.start()?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "its return is told", || {
        mirror.log().contains("is back after")
    });
    // A probe, the batch, perhaps a second one and a standby.
    let connections = mirror.daemon.connections() - before;
    println!("{connections} connections at the return");
    assert!(connections <= 8, "{connections} connections");
    mirror.finish()
}

#[test]
fn a_remote_that_hangs_is_asked_by_one_process_at_a_time() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    mirror.daemon.freeze();
    let (began, mut most, mut number) = (Instant::now(), 0, 0);
    while began.elapsed() < OUTAGE / 2 {
        fs::write(
            mirror.source(format!("file {}", number % 50)),
            format!("{number}"),
        )?;
        number += 1;
        most = most.max(mirror.sersync().rsync_children().len());
        pause(Duration::from_millis(50)); // interval
    }
    // The run that hangs, and the standby beside it.
    assert!(most <= 2, "{most} processes at once");
    mirror.daemon.thaw();
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}
