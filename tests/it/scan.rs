//! What the kernel does not tell: a source that is compared every so often, limits that are named with their number.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, grow, stays, wait_until};
use crate::sersync::Sersync;

#[test]
fn a_source_with_a_scan_is_compared_without_an_event() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.scan = Some("1");
    fs::write(mirror.source("file"), "x")?;
    mirror.run()?;
    mirror.in_sync();
    // As a change that nobody saw, this is a difference without an event.
    fs::remove_file(mirror.replica("file"))?;
    let took = wait_until(SOON, "it is sent again", || mirror.replica("file").exists());
    println!("found after {took:?}");
    assert!(!mirror.log().contains("drift"), "{}", mirror.log());
    mirror.finish()
}

#[test]
fn without_a_scan_nothing_is_compared_without_an_event() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let connections = mirror.daemon.connections();
    stays(Duration::from_secs(3), "nobody connects", || {
        mirror.daemon.connections() <= connections + 1
    });
    mirror.stop();
    Ok(())
}

#[test]
fn a_watcher_that_dies_ends_the_service_with_its_cause() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    // With fewer files allowed than it waits for, the kernel refuses to let the watcher's thread wait.
    let one = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    prlimit(Some(mirror.sersync().pid()), Resource::Nofile, one)?;
    fs::write(mirror.source("file"), "wakes it")?;
    let status = mirror.sersync().wait(SOON);
    assert!(!status.success(), "{status}");
    let log = mirror.log();
    assert!(log.contains("cannot wait for events"), "{log}");
    Ok(())
}

/// Runs a mirror in a user namespace of its own, in which a limit of inotify is as low as that.
fn run_limited(mirror: &mut Mirror, limit: &str, number: u32) -> io::Result<()> {
    let script = format!("echo {number} > /proc/sys/user/{limit} && exec \"$@\"");
    let mut command = Sersync::command_called("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", &script, "sh"])
        .arg(env!("CARGO_BIN_EXE_sersync"))
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file)
        .arg("--state-dir")
        .arg(mirror.at("state"));
    mirror.run_by(command)
}

/// Whether this user may make such a namespace here.
fn can_be_limited() -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        println!("skipped: no user namespaces here");
    }
    can
}

#[test]
fn directories_without_a_watch_are_compared_and_the_limit_is_named_with_a_number() -> io::Result<()>
{
    if !can_be_limited() {
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 10, 2, 10)?;
    run_limited(&mut mirror, "max_inotify_watches", 4)?;
    mirror.in_sync();
    let line = mirror
        .sersync()
        .wait_for_problem(&["not watched", "set fs.inotify.max_user_watches to at least"]);
    let number = line.rsplit("to at least ").next().unwrap_or_default();
    assert!(number.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    for directory in 0..10 {
        fs::write(mirror.source(format!("d{directory:05}/late")), "x")?;
    }
    println!("found after {:?}", mirror.in_sync_within(AFTER_BACK_OFF));
    mirror.finish()
}

#[test]
fn a_source_that_cannot_be_watched_at_all_says_which_limit_and_to_what_to_set_it() -> io::Result<()>
{
    if !can_be_limited() {
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    run_limited(&mut mirror, "max_inotify_instances", 0)?;
    mirror.sersync().wait_for_problem(&[
        "cannot be watched",
        "set fs.inotify.max_user_instances to at least",
    ]);
    assert!(mirror.sersync().is_running(), "it tries again");
    mirror.stop();
    Ok(())
}

#[test]
fn a_directory_that_may_not_be_read_is_named_and_followed_when_it_may() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 3, 2, 10)?;
    let shut = mirror.source("d00001");
    fs::set_permissions(&shut, Permissions::from_mode(0o000))?;
    // Without capabilities, what root owns is shut for root too.
    let mut command = Sersync::command_called("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_sersync"))
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file)
        .arg("--state-dir")
        .arg(mirror.at("state"));
    mirror.run_by(command)?;
    let other = mirror.replica("d00002/f0001");
    wait_until(AFTER_BACK_OFF, "all else arrives", || other.exists());
    mirror
        .sersync()
        .wait_for_problem(&["not watched", "they may not be read"]);
    fs::write(mirror.source("d00002/late"), "x")?;
    let late = mirror.replica("d00002/late");
    wait_until(SOON, "all else is followed", || late.exists());
    fs::set_permissions(&shut, Permissions::from_mode(0o755))?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    fs::write(shut.join("later"), "x")?;
    mirror.finish()
}
