//! Ends, crashes and reloads: whatever is sent to the process or its children, nothing is lost.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::confxml::Remote;
use crate::harness::{Mirror, SOON, grow, pause, wait_in_sync, wait_until};

#[test]
fn a_sigterm_in_a_storm_ends_well_and_the_next_start_makes_it_right() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..4 {
        std::thread::scope(|scope| {
            let root = mirror.source(format!("storm {round}"));
            let writer = scope.spawn(move || grow(&root, 40, 25, 500));
            // A little later in each round: before, in and after the runs it causes.
            pause(Duration::from_millis(30 * round)); // interval until the signal
            let asked = Instant::now();
            mirror.stop();
            println!("ended after {:?}", asked.elapsed());
            writer.join().expect("the writer went well")
        })?;
        fs::remove_dir_all(mirror.source(format!("storm {round}/d00003")))?;
        mirror.run()?;
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn a_crash_in_a_storm_is_made_right_by_the_next_start() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..4 {
        std::thread::scope(|scope| {
            let root = mirror.source(format!("storm {round}"));
            let writer = scope.spawn(move || grow(&root, 40, 25, 500));
            pause(Duration::from_millis(30 * round)); // interval until the crash
            mirror.kill();
            writer.join().expect("the writer went well")
        })?;
        fs::remove_dir_all(mirror.source(format!("storm {round}/d00003")))?;
        mirror.run()?;
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn killed_children_are_made_good() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let mut killed = 0;
    for round in 0..15 {
        grow(&mirror.source(format!("storm {round}")), 20, 20, 2_000)?;
        for child in mirror.sersync().rsync_children() {
            // Those that have ended by themselves are gone: as good as killed.
            killed += usize::from(kill_process(child, Signal::KILL).is_ok());
        }
        if round % 3 == 2 {
            fs::remove_dir_all(mirror.source(format!("storm {}", round - 1)))?;
        }
    }
    println!("{killed} children killed");
    assert!(killed > 0, "no child was found to be killed");
    mirror.in_sync_within(Duration::from_secs(60));
    mirror.finish()
}

#[test]
fn a_reload_adds_a_remote_without_a_restart() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 5, 5, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let second = mirror.at("second");
    fs::create_dir(&second)?;
    mirror.config.mirrors[0]
        .remotes
        .push(Remote::Local(second.clone()));
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    println!(
        "the new remote: {:?}",
        wait_in_sync(&mirror.source(""), &second, SOON)
    );
    fs::write(mirror.source("later"), "content")?;
    mirror.in_sync();
    wait_in_sync(&mirror.source(""), &second, SOON);
    // And away again: it gets no more.
    mirror.config.mirrors[0].remotes.pop();
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    let mut probes = 0;
    wait_until(SOON, "the removed remote is left alone", || {
        probes += 1;
        let name = format!("probe {probes}");
        fs::write(mirror.source(&name), "content").expect("the source can be written to");
        wait_until(SOON, "the other remote goes on", || {
            mirror.replica(&name).exists()
        });
        pause(Duration::from_millis(50)); // interval in which it could arrive at the removed one, too
        !second.join(&name).exists()
    });
    mirror.finish()
}

#[test]
fn a_reload_with_mistakes_keeps_the_old_configuration_and_says_why() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let good = fs::read(&mirror.config.file)?;
    fs::write(
        &mirror.config.file,
        "<head version=\"2.5\">\n  <sersinc/>\n</head>\n",
    )?;
    mirror.sersync().signal(Signal::HUP);
    mirror.sersync().wait_for_problem(&["sersinc"]);
    assert!(mirror.sersync().is_running());
    fs::write(mirror.source("later"), "content")?;
    mirror.in_sync();
    fs::write(&mirror.config.file, "not XML at all")?;
    mirror.sersync().signal(Signal::HUP);
    fs::write(mirror.source("later still"), "content")?;
    mirror.in_sync();
    fs::write(&mirror.config.file, good)?;
    mirror.sersync().signal(Signal::HUP);
    fs::write(mirror.source("last"), "content")?;
    mirror.finish()
}

#[test]
fn reloads_in_a_storm_lose_nothing() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..10 {
        grow(&mirror.source(format!("storm {round}")), 10, 20, 500)?;
        mirror.sersync().signal(Signal::HUP);
        if round % 2 == 1 {
            fs::remove_dir_all(mirror.source(format!("storm {}", round - 1)))?;
        }
    }
    mirror.in_sync();
    mirror.finish()
}

/// The kernel keeps a bounded number of events for a process that does not read them, then drops the rest.
#[test]
fn an_overflow_of_the_event_queue_loses_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 20, 20, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?;
    let limit: usize = limit.trim().parse().expect("the kernel writes a number");
    if limit > 100_000 {
        println!("skipped: {limit} events are too many to overflow in a test");
        return Ok(());
    }
    mirror.sersync().signal(Signal::STOP);
    for number in 0..limit / 2 + 100 {
        // At least two events for each.
        fs::write(mirror.source("scratch"), number.to_string())?;
        fs::rename(mirror.source("scratch"), mirror.source("other scratch"))?;
    }
    // What the queue has no room for:
    fs::remove_dir_all(mirror.source("d00003"))?;
    fs::rename(mirror.source("d00004"), mirror.source("renamed"))?;
    fs::write(mirror.source("d00005/f0005"), "changed")?;
    grow(&mirror.source("new"), 10, 10, 100)?;
    mirror.sersync().signal(Signal::CONT);
    println!("equal {:?} after an overflow", mirror.in_sync());
    let told = [
        "dropped events",
        "set fs.inotify.max_queued_events to at least",
    ];
    mirror.sersync().wait_for_problem(&told);
    // The watches are right again, also in what was made and moved unseen.
    fs::write(mirror.source("new/d00001/f0001"), "changed later")?;
    fs::write(mirror.source("renamed/f0001"), "changed later")?;
    mirror.in_sync();
    mirror.finish()
}

/// What it hears of is long past when it goes on: a directory that was made below `a` is found below `b` only.
#[test]
fn a_directory_made_and_moved_with_its_parent_while_the_process_hangs_is_watched() -> io::Result<()>
{
    let mut mirror = Mirror::prepare()?;
    fs::create_dir_all(mirror.source("a/deeper"))?;
    mirror.run()?;
    mirror.in_sync();
    mirror.sersync().signal(Signal::STOP);
    fs::create_dir(mirror.source("a/new"))?;
    fs::create_dir(mirror.source("a/deeper/new"))?;
    fs::rename(mirror.source("a"), mirror.source("b"))?;
    mirror.sersync().signal(Signal::CONT);
    mirror.in_sync();
    for name in ["b/new/file", "b/deeper/new/file"] {
        fs::write(mirror.source(name), "content")?;
        mirror.in_sync();
    }
    mirror.finish()
}
