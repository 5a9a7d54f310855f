//! A running instance is asked, over a private bus: flush, pause, resync, verify, failed, retry, reload.

use std::fs;
use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::bus::{Bus, Said};
use crate::confxml::Remote;
use crate::harness::{
    AFTER_BACK_OFF, Mirror, SOON, differences, grow, pause, stays, wait_in_sync, wait_until,
};
use crate::isolation::Immutable;
use crate::rsync_daemon::{Module, write_private};
use crate::sersync::Sersync;

/// A running mirror on a bus of its own, equal from the start.
struct Asked {
    mirror: Mirror,
    bus: Bus,
}

impl Asked {
    fn start() -> io::Result<Self> {
        let mut asked = Self {
            mirror: Mirror::prepare()?,
            bus: Bus::start()?,
        };
        grow(&asked.mirror.source(""), 5, 5, 100)?;
        let address = asked.bus.address();
        asked.mirror.run_with(&["--bus", &address])?;
        asked.mirror.in_sync();
        Ok(asked)
    }

    /// With a receiver that stands still, and a run that waits for it.
    fn start_and_stand_still() -> io::Result<Self> {
        let mut asked = Self::start()?;
        asked.mirror.daemon.freeze();
        grow(&asked.mirror.source("much"), 10, 50, 100)?;
        let sersync = asked.mirror.sersync();
        wait_until(SOON, "a run begins", || {
            !sersync.rsync_children().is_empty()
        });
        Ok(asked)
    }

    #[track_caller]
    fn ask(&self, arguments: &[&str], code: i32) -> Said {
        let said = self.bus.ask(arguments).expect("the program runs");
        assert_eq!(said.code, code, "{arguments:?}");
        said
    }

    fn differences(&self) -> io::Result<Vec<String>> {
        differences(&self.mirror.at("source"), &self.mirror.at("replica"))
    }
}

#[test]
fn after_a_flush_everything_that_changed_before_is_at_the_receiver() -> io::Result<()> {
    let asked = Asked::start()?;
    for round in 0..20 {
        let dir = asked.mirror.source(format!("round {round}"));
        grow(&dir, 1 + round % 3, 10 * round, 50)?;
        if round > 0 {
            fs::remove_dir_all(asked.mirror.source(format!("round {}", round - 1)))?;
        }
        fs::write(asked.mirror.source("always the same"), format!("{round}"))?;
        asked.ask(&["flush"], 0);
        assert_eq!(asked.differences()?, Vec::<String>::new(), "round {round}");
    }
    asked.mirror.finish()
}

#[test]
fn a_flush_waits_for_the_slowest_remote() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let local = mirror.at("local");
    fs::create_dir(&local)?;
    let remotes = &mut mirror.config.mirrors[0].remotes;
    remotes.push(Remote::Local(local.clone()));
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    mirror.daemon.freeze();
    fs::write(mirror.source("file"), "content")?;
    wait_until(SOON, "one remote has it", || local.join("file").exists());
    thread::scope(|scope| {
        let flush = scope.spawn(|| bus.ask(&["flush"]));
        stays(Duration::from_secs(1), "it waits for the other", || {
            !flush.is_finished()
        });
        mirror.daemon.thaw();
        let said = flush.join().expect("it does not panic")?;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(mirror.replica("file").exists());
        Ok::<(), io::Error>(())
    })?;
    mirror.finish()
}

#[test]
fn after_a_flush_what_was_written_and_not_closed_is_at_the_receiver_too() -> io::Result<()> {
    let asked = Asked::start()?;
    let path = asked.mirror.source("log");
    let mut log = fs::File::create(&path)?;
    for round in 0..5 {
        writeln!(log, "line {round}")?;
        asked.ask(&["flush"], 0);
        assert_eq!(fs::read(asked.mirror.replica("log"))?, fs::read(&path)?);
    }
    drop(log);
    asked.ask(&["flush"], 0);
    // Cut off by its name, which no close tells of.
    rustix::fs::ftruncate(fs::File::options().write(true).open(&path)?, 3)?;
    asked.ask(&["flush"], 0);
    assert_eq!(fs::read(asked.mirror.replica("log"))?, b"lin");
    asked.mirror.finish()
}

#[test]
fn a_flush_says_no_when_the_time_is_over_and_why_it_makes_no_sense_to_wait() -> io::Result<()> {
    let mut asked = Asked::start()?;
    asked.mirror.daemon.stop();
    fs::write(asked.mirror.source("late"), "content")?;
    asked.ask(&["flush", "--timeout", "1"], 1);
    asked.mirror.daemon.start()?;
    asked.ask(&["flush"], 0);
    assert_eq!(asked.differences()?, Vec::<String>::new());
    asked.ask(&["pause"], 0);
    for question in ["flush", "verify", "resync"] {
        let started = Instant::now();
        let said = asked.ask(&[question], 1);
        let told = said.err + &said.out;
        assert!(
            told.contains("paused: resume it first"),
            "{question}: {told}"
        );
        assert!(started.elapsed() < SOON, "{question} does not wait");
    }
    asked.ask(&["resume"], 0);
    asked.mirror.finish()
}

#[test]
fn a_paused_mirror_gathers_its_changes_and_sends_them_when_it_is_resumed() -> io::Result<()> {
    let mut asked = Asked::start()?;
    asked.ask(&["pause"], 0);
    assert_eq!(asked.mirror.sersync().rsync_children(), []);
    grow(&asked.mirror.source("gathered"), 3, 3, 100)?;
    let replica = asked.mirror.replica("gathered");
    stays(Duration::from_secs(1), "nothing is sent", || {
        !replica.exists()
    });
    let status = asked.ask(&["status", "--json"], 0);
    assert!(status.out.contains(r#""state":"paused""#), "{}", status.out);
    wait_until(SOON, "what was gathered is shown", || {
        let status = asked.ask(&["status", "--json"], 0);
        !status.out.contains(r#""pending":0"#)
    });
    asked.ask(&["resume"], 0);
    asked.mirror.finish()
}

#[test]
fn a_pause_ends_a_transfer_that_would_take_long_and_loses_nothing() -> io::Result<()> {
    let mut asked = Asked::start_and_stand_still()?;
    asked.ask(&["pause"], 0);
    assert_eq!(asked.mirror.sersync().rsync_children(), []);
    asked.mirror.daemon.thaw();
    asked.ask(&["resume"], 0);
    asked.mirror.in_sync_within(AFTER_BACK_OFF);
    asked.mirror.finish()
}

#[test]
fn what_a_pause_had_begun_to_end_does_not_go_on_after_a_resume() -> io::Result<()> {
    let mut asked = Asked::start_and_stand_still()?;
    thread::scope(|scope| {
        scope.spawn(|| asked.ask(&["pause"], 0));
        let is_paused = || {
            asked
                .ask(&["status", "--json"], 0)
                .out
                .contains(r#""state":"paused""#)
        };
        wait_until(SOON, "it is paused", is_paused);
        asked.ask(&["resume"], 0);
    });
    let started = Instant::now();
    asked.ask(&["pause"], 0);
    assert!(started.elapsed() < Duration::from_secs(25));
    assert_eq!(asked.mirror.sersync().rsync_children(), []);
    asked.mirror.daemon.thaw();
    asked.ask(&["resume"], 0);
    asked.mirror.in_sync_within(AFTER_BACK_OFF);
    asked.mirror.finish()
}

#[test]
fn verify_lists_what_differs_and_changes_nothing_and_resync_mends_it() -> io::Result<()> {
    let asked = Asked::start()?;
    let replica = |name: &str| asked.mirror.replica(name);
    fs::write(replica("extra"), "not at the source")?;
    fs::remove_file(replica("d00000/f0000"))?;
    let same_size = fs::read(replica("d00001/f0001"))?
        .iter()
        .map(|byte| byte ^ 1)
        .collect::<Vec<_>>();
    let time = fs::metadata(replica("d00001/f0001"))?.modified()?;
    fs::write(replica("d00001/f0001"), same_size)?;
    fs::File::options()
        .write(true)
        .open(replica("d00001/f0001"))?
        .set_modified(time)?;
    let before = asked.differences()?;
    let said = asked.ask(&["verify"], 1);
    for line in ["extra", "missing", "content"] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert_eq!(asked.differences()?, before, "it changes nothing");
    // Size and time agree there, which is all that rsync looks at without being told.
    fs::remove_file(replica("d00001/f0001"))?;
    asked.ask(&["resync"], 0);
    asked.ask(&["verify"], 0);
    asked.mirror.finish()
}

#[test]
fn what_is_on_its_way_is_no_drift_and_a_remote_that_is_away_is_not_waited_for() -> io::Result<()> {
    let mut asked = Asked::start_and_stand_still()?;
    thread::scope(|scope| {
        let verified = scope.spawn(|| asked.bus.ask(&["verify"]));
        pause(Duration::from_secs(1)); // it must not begin before the daemon goes on
        asked.mirror.daemon.thaw();
        let said = verified.join().expect("no panic")?;
        assert_eq!(said.code, 0, "{said:?}");
        io::Result::Ok(())
    })?;
    asked.mirror.daemon.stop();
    fs::write(asked.mirror.source("late"), "content")?;
    for command in ["verify", "resync"] {
        let said = asked.ask(&[command], 1);
        assert!(!said.out.contains("no difference"), "{}", said.out);
    }
    asked.mirror.daemon.start()?;
    asked.mirror.in_sync_within(AFTER_BACK_OFF);
    asked.mirror.finish()
}

#[test]
fn what_failed_is_listed_and_tried_again_when_it_is_asked_for() -> io::Result<()> {
    let asked = Asked::start()?;
    let Some(locked) = Immutable::make(asked.mirror.replica("d00001")) else {
        return Ok(());
    };
    fs::write(asked.mirror.source("d00001/new"), "cannot be made")?;
    let is_listed = || {
        asked
            .bus
            .ask(&["failed"])
            .is_ok_and(|said| said.out.contains("d00001/new"))
    };
    wait_until(SOON, "the failure is listed", is_listed);
    let status = asked.ask(&["status", "--json"], 0);
    assert!(
        status.out.contains(r#""state":"degraded""#),
        "{}",
        status.out
    );
    assert!(
        !status.out.contains("d00001"),
        "everybody may read the status: {}",
        status.out
    );
    asked.ask(&["flush"], 1);
    drop(locked);
    asked.ask(&["retry"], 0);
    let is_empty = || {
        asked
            .bus
            .ask(&["failed", "--json"])
            .is_ok_and(|said| !said.out.contains("d00001"))
    };
    wait_until(SOON, "nothing has failed any more", is_empty);
    asked.mirror.finish()
}

#[test]
fn what_failed_is_still_known_after_a_crash() -> io::Result<()> {
    let mut asked = Asked::start()?;
    let Some(locked) = Immutable::make(asked.mirror.replica("d00001")) else {
        return Ok(());
    };
    fs::write(asked.mirror.source("d00001/new"), "cannot be made")?;
    let listed = |asked: &Asked| {
        let said = asked.bus.ask(&["failed", "--json"]).ok()?;
        let (_, first) = said.out.split_once(r#""first_usec":"#)?;
        Some(first.split(',').next()?.to_owned())
    };
    wait_until(SOON, "the failure is listed", || listed(&asked).is_some());
    let before = listed(&asked);
    asked.mirror.kill();
    let address = asked.bus.address();
    asked
        .mirror
        .run_with(&["--bus", &address, "--initial", "no"])?;
    wait_until(
        SOON,
        "it is listed again, with the time of its first failure",
        || listed(&asked) == before,
    );
    drop(locked);
    let said = asked.ask(&["retry"], 0);
    assert!(said.out.contains("1 failed path"), "{}", said.out);
    wait_until(SOON, "it is sent", || {
        asked.mirror.replica("d00001/new").exists()
    });
    wait_until(SOON, "nothing is listed", || listed(&asked).is_none());
    asked.mirror.finish()
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_instead_of_a_bad_one() -> io::Result<()>
{
    let asked = Asked::start()?;
    let file = asked.mirror.config.file.clone();
    let good = fs::read_to_string(&file)?;
    fs::write(&file, good.replace("<remote", "<remoet"))?;
    let said = asked.ask(&["reload"], 78);
    assert!(said.err.contains("confxml.xml:"), "{}", said.err);
    fs::write(asked.mirror.source("goes on"), "content")?;
    asked.ask(&["flush"], 0);
    fs::write(&file, good.replace("\"-a\"", "\"-a --bwlimit=10m\""))?;
    asked.ask(&["reload"], 0);
    fs::write(asked.mirror.source("goes on still"), "content")?;
    asked.ask(&["flush"], 0);
    asked.mirror.finish()
}

#[test]
fn a_reload_loses_nothing_that_is_pending_and_resumes_nothing_that_is_paused() -> io::Result<()> {
    let mut asked = Asked {
        mirror: Mirror::prepare()?,
        bus: Bus::start()?,
    };
    let address = asked.bus.address();
    asked
        .mirror
        .run_with(&["--bus", &address, "--initial", "no"])?;
    // Without the first push, what stands there before the watch is not sent.
    let first = asked.mirror.replica("first");
    wait_until(SOON, "it is followed", || {
        fs::write(asked.mirror.source("first"), "content").is_ok() && first.exists()
    });
    asked.mirror.daemon.stop();
    fs::write(asked.mirror.source("pending"), "content")?;
    let is_pending = || {
        let said = asked.bus.ask(&["status", "--json"]);
        said.is_ok_and(|said| said.out.contains(r#""state":"degraded""#))
    };
    wait_until(SOON, "the remote is missed", is_pending);
    let file = asked.mirror.config.file.clone();
    let good = fs::read_to_string(&file)?;
    fs::write(&file, good.replace("\"-a\"", "\"-a --bwlimit=10m\""))?;
    asked.ask(&["pause"], 0);
    asked.ask(&["reload"], 0);
    asked.mirror.daemon.start()?;
    let replica = asked.mirror.replica("pending");
    stays(Duration::from_secs(3), "it is paused", || !replica.exists());
    asked.ask(&["resume"], 0);
    asked.ask(&["flush"], 0);
    assert!(replica.exists());
    asked.mirror.finish()
}

#[test]
fn what_a_reload_brings_into_a_paused_instance_is_paused_as_well() -> io::Result<()> {
    let asked = Asked::start()?;
    asked.ask(&["pause"], 0);
    let second = asked.mirror.at("second");
    fs::create_dir(&second)?;
    fs::write(second.join("extra"), "of the receiver")?;
    let file = asked.mirror.config.file.clone();
    let remote = format!(r#"<remote path="{}"/></localpath>"#, second.display());
    let good = fs::read_to_string(&file)?;
    fs::write(&file, good.replace("</localpath>", &remote))?;
    asked.ask(&["reload"], 0);
    stays(Duration::from_secs(2), "it is paused", || {
        second.join("extra").exists() && !second.join("d00000").exists()
    });
    asked.ask(&["resume"], 0);
    wait_in_sync(&asked.mirror.at("source"), &second, SOON);
    asked.mirror.finish()
}

#[test]
fn a_reload_does_not_wait_for_the_runs_of_others() -> io::Result<()> {
    let asked = Asked {
        mirror: Mirror::prepare()?,
        bus: Bus::start()?,
    };
    let second = asked.mirror.at("second");
    grow(&second, 1, 1, 10)?;
    fs::create_dir(asked.mirror.at("second replica"))?;
    grow(&asked.mirror.source(""), 2, 20, 1000)?;
    let local = format!(
        r#"<localpath watch="{}"><remote path="{}"/></localpath></sersync>"#,
        second.display(),
        asked.mirror.at("second replica").display()
    );
    let address = asked.bus.address();
    asked.mirror.daemon.freeze();
    asked.mirror.config.write()?;
    let file = asked.mirror.config.file.clone();
    let one = fs::read_to_string(&file)?;
    let mut command = Sersync::command();
    fs::write(&file, one.replacen("</sersync>", &local, 1))?;
    command
        .args(["run", "-n", "1", "--bus", &address, "--config"])
        .arg(&file);
    let log = asked.mirror.at("two.log");
    let mut sersync = Sersync::spawn(command, &log)?;
    // Before that, rsync is asked for its version.
    let is_on_the_bus = || asked.bus.ask(&["status"]).is_ok_and(|said| said.code == 0);
    wait_until(SOON, "it is on the bus", is_on_the_bus);
    wait_until(SOON, "a run begins", || {
        !sersync.rsync_children().is_empty()
    });
    fs::write(&file, one)?;
    let started = Instant::now();
    asked.ask(&["reload"], 0);
    println!("reloaded within {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(25));
    asked.mirror.daemon.thaw();
    assert!(sersync.is_running());
    sersync.stop();
    Ok(())
}

#[test]
fn a_second_process_cannot_be_the_same_instance() -> io::Result<()> {
    let asked = Asked::start()?;
    let mut command = Sersync::command();
    command
        .args(["run", "--bus", &asked.bus.address(), "--config"])
        .arg(&asked.mirror.config.file);
    let log = asked.mirror.at("second.log");
    let mut second = Sersync::spawn(command, &log)?;
    assert_eq!(second.wait(SOON).code(), Some(1));
    let said = second.log();
    assert!(said.contains("another process is the instance"), "{said}");
    asked.mirror.finish()
}

#[test]
fn without_a_file_an_instance_has_the_name_and_the_password_it_is_given() -> io::Result<()> {
    let asked = Asked {
        mirror: Mirror::prepare()?,
        bus: Bus::start()?,
    };
    let Asked { mut mirror, bus } = asked;
    let module = Module::new("kept", &mirror.replica("")).secret("rsync_backup", "oldboy");
    mirror.daemon.set_modules(&[module])?;
    let password_file = mirror.at("rsync.password");
    write_private(&password_file, "oldboy\n")?;
    let mut command = Sersync::command();
    command
        .args(["mirror", "--bus", &bus.address(), "--instance", "other"])
        .arg("--password-file")
        .arg(&password_file)
        .arg(mirror.source(""))
        .arg(format!(
            "rsync://rsync_backup@127.0.0.1:{}/kept",
            mirror.daemon.port()
        ));
    mirror.run_by(command)?;
    mirror.in_sync();
    let said = bus.ask(&["flush", "other"])?;
    assert_eq!(said.code, 0, "{said:?}");
    mirror.finish()
}

#[test]
fn the_status_answers_while_a_receiver_stands_still() -> io::Result<()> {
    let mut asked = Asked::start_and_stand_still()?;
    wait_until(SOON, "it says that there is something to do", || {
        let started = Instant::now();
        let status = asked.ask(&["status"], 0);
        println!("answered within {:?}", started.elapsed());
        !status.out.contains("confxml: idle")
    });
    asked.mirror.daemon.thaw();
    asked.mirror.in_sync_within(AFTER_BACK_OFF);
    asked.mirror.finish()
}
