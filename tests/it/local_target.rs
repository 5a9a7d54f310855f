//! A target on this machine that is unmounted, plainly or lazily, at any moment of a job: what is beneath it is not filled
//! and not learnt, and nothing that ran there counts. With real mounts; see [`crate::guards`].

use std::fs;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::confined::{command, in_a_view_of_its_own};
use crate::confxml::Remote;
use crate::guards::{Disk, rounds};
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, grow, pause, stays, wait_until};
use crate::tree::Tree;

/// How long what must not come is waited for.
const WATCHED: Duration = Duration::from_secs(4);

/// A mirror whose replica is a disk of this machine, which is there; not yet running.
fn to_a_disk() -> io::Result<Option<(Mirror, Disk)>> {
    let mut mirror = Mirror::prepare()?;
    let replica = mirror.replica("");
    let Some(disk) = Disk::new(&mirror, "disk", replica.clone())? else {
        return Ok(None);
    };
    disk.bind();
    mirror.config.mirrors[0].remotes = vec![Remote::Local(replica)];
    Ok(Some((mirror, disk)))
}

/// The same, in the midst of a first push that takes some seconds more.
fn in_a_slow_first_push(arguments: &[&str]) -> io::Result<Option<(Mirror, Disk)>> {
    let Some((mut mirror, disk)) = to_a_disk()? else {
        return Ok(None);
    };
    "-a --bwlimit=200".clone_into(&mut mirror.config.params);
    grow(&mirror.source(""), 5, 2, 80_000)?;
    mirror.run_with(arguments)?;
    let has_begun = || disk.at.join("d00000/f0000").exists();
    wait_until(SOON, "the first push has begun", has_begun);
    Ok(Some((mirror, disk)))
}

/// What is beneath the mount.
fn strays(mirror: &Mirror) -> usize {
    Tree::read(&mirror.replica("")).map_or(0, |tree| tree.len())
}

#[test]
fn a_target_that_is_lazily_unmounted_in_a_first_push_is_waited_for_and_what_is_beneath_is_not_learnt()
-> io::Result<()> {
    let Some((mut mirror, disk)) = in_a_slow_first_push(&[])? else {
        return Ok(());
    };
    assert!(disk.unbind(true));
    mirror.sersync().wait_for_problem(&["held", "target"]);
    fs::write(mirror.source("later"), "content")?;
    fs::remove_file(mirror.source("d00000/f0001"))?;
    stays(WATCHED, "what is beneath is left alone", || {
        strays(&mirror) == 0
    });
    disk.bind();
    println!(
        "mounted: equal after {:?}",
        mirror.in_sync_within(AFTER_BACK_OFF)
    );
    mirror.stop();
    // Nor does the next start take it for the target.
    assert!(disk.unbind(true));
    mirror.run()?;
    fs::write(mirror.source("after"), "content")?;
    stays(WATCHED, "what is beneath is left alone", || {
        strays(&mirror) == 0
    });
    disk.bind();
    mirror.finish()
}

#[test]
fn a_target_that_was_replaced_in_a_first_push_is_filled_when_a_person_accepts_it() -> io::Result<()>
{
    let bus = Bus::start()?;
    let Some((mut mirror, disk)) = in_a_slow_first_push(&["--bus", &bus.address()])? else {
        return Ok(());
    };
    assert!(disk.unbind(true));
    mirror.sersync().wait_for_problem(&["held", "target"]);
    assert_eq!(strays(&mirror), 0);
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_target_is_unmounted_plainly_between_two_jobs_alone_and_never_written_to_beneath()
-> io::Result<()> {
    let Some((mut mirror, disk)) = to_a_disk()? else {
        return Ok(());
    };
    grow(&mirror.source(""), 5, 5, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let mut tries = 0;
    for round in 0..rounds() {
        // A run that sends and one that deletes: it is tried between them.
        let sent = disk.at.join(format!("new{round}"));
        fs::write(mirror.source(format!("new{round}")), "content")?;
        if round > 0 {
            fs::remove_file(mirror.source(format!("new{}", round - 1)))?;
        }
        let since = Instant::now();
        while !(sent.exists() && disk.unbind(false)) {
            tries += 1;
            assert!(since.elapsed() < SOON, "it cannot be unmounted");
            pause(Duration::from_micros(50)); // interval between two tries
        }
        // A job may go on now, or begin.
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            assert_eq!(strays(&mirror), 0, "round {round}");
            pause(Duration::from_millis(10)); // interval between two looks
        }
        disk.bind();
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    println!("{} unmounts of {tries} tries", rounds());
    mirror.finish()
}

#[test]
fn a_target_that_is_lazily_unmounted_at_any_moment_becomes_equal_when_it_is_back() -> io::Result<()>
{
    let Some((mut mirror, disk)) = to_a_disk()? else {
        return Ok(());
    };
    grow(&mirror.source(""), 5, 5, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let (mut most, mut random) = (0, fastrand::Rng::with_seed(5));
    for round in 0..rounds() {
        for dir in 0..5 {
            fs::write(
                mirror.source(format!("d{dir:05}/f0000")),
                format!("{round}"),
            )?;
            fs::write(mirror.source(format!("d{dir:05}/new{round}")), "content")?;
            if round > 0 {
                fs::remove_file(mirror.source(format!("d{dir:05}/new{}", round - 1)))?;
            }
        }
        // Shorter than a run, or longer: what is back at its end looks as if it had always been there.
        for _ in 0..random.u32(1..4) {
            pause(Duration::from_micros(random.u64(..60_000))); // interval before the unmount
            assert!(disk.unbind(true), "a lazy unmount always succeeds");
            pause(Duration::from_micros(random.u64(..60_000))); // interval before the mount
            most = most.max(strays(&mirror));
            disk.bind();
        }
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    println!("at most {most} entries beneath");
    mirror.finish()
}

/// What a sandbox without the drop-in takes away is said with this.
const DROP_IN: &str = "its drop-in local-target.conf opens it";

/// How often a line with these words was logged.
fn said(mirror: &Mirror, words: &[&str]) -> usize {
    let log = mirror.log();
    let has_words = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has_words).count()
}

#[test]
fn a_target_that_may_not_be_written_is_said_at_the_start_and_once_instead_of_for_each_path()
-> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    let replica = mirror.replica("");
    mirror.config.mirrors[0].remotes = vec![Remote::Local(replica.clone())];
    grow(&mirror.source(""), 3, 10, 100)?;
    // As ProtectSystem=strict has it.
    let at = replica.display();
    let script = format!("mount --bind '{at}' '{at}' && mount -o remount,bind,ro '{at}'");
    mirror.run_by(in_a_view_of_its_own(&script, &command(&mirror)))?;
    let words = ["cannot be written", DROP_IN];
    mirror.sersync().wait_for_problem(&words);
    for number in 0..10 {
        fs::write(mirror.source(format!("new{number}")), "content")?;
    }
    // It is tried again meanwhile, and no path is to blame.
    stays(WATCHED, "it is said once", || {
        said(&mirror, &words) == 1 && said(&mirror, &["is tried again"]) == 0
    });
    assert_eq!(strays(&mirror), 0);
    mirror.stop();
    Ok(())
}

#[test]
fn rights_that_a_receiver_needs_and_does_not_have_are_said_at_the_start_and_once() -> io::Result<()>
{
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    mirror.config.mirrors[0].remotes = vec![Remote::Local(mirror.replica(""))];
    let sersync = command(&mirror);
    let mut confined = Command::new("setpriv");
    let taken = "-chown,-fowner";
    confined.args(["--bounding-set", taken, "--inh-caps", taken]);
    confined.arg(sersync.get_program()).args(sersync.get_args());
    mirror.run_by(in_a_view_of_its_own("true", &confined))?;
    let words = ["without CAP_CHOWN, CAP_FOWNER", DROP_IN];
    mirror.sersync().wait_for_problem(&words);
    mirror.in_sync();
    assert_eq!(said(&mirror, &words), 1);
    mirror.stop();
    Ok(())
}
