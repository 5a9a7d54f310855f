//! A remote or a path in trouble holds nothing else back.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::confxml::Remote;
use crate::harness::{
    AFTER_BACK_OFF, KEEP, Mirror, SOON, grow, pause, stays, wait_in_sync, wait_until,
};
use crate::rsync_daemon::{Module, RsyncDaemon};

/// A file or directory that even root cannot change: `chattr +i`. Dropped, it can again.
pub struct Immutable(PathBuf);

impl Immutable {
    /// `None` where the file system or the user cannot do it.
    pub fn make(path: PathBuf) -> Option<Self> {
        let immutable = Self(path);
        match immutable.set(true) {
            Ok(()) => Some(immutable),
            Err(error) => {
                println!("skipped: no immutable files here: {error}");
                None
            }
        }
    }

    fn set(&self, on: bool) -> io::Result<()> {
        let file = File::open(&self.0)?;
        let mut flags = ioctl_getflags(&file)?;
        flags.set(IFlags::IMMUTABLE, on);
        Ok(ioctl_setflags(&file, flags)?)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        // The file may be gone; else the temporary directory stays behind, which is all that can happen.
        let _ = self.set(false);
    }
}

/// A mirror to three modules of one daemon and perhaps to one more remote; and the three replicas.
fn to_three_and(dead: Option<Remote>) -> io::Result<(Mirror, Vec<PathBuf>)> {
    let mut mirror = Mirror::prepare()?;
    let replicas: Vec<PathBuf> = (1..=3)
        .map(|number| mirror.at(format!("replica {number}")))
        .collect();
    let names = ["first", "second", "third"];
    let modules: Vec<Module> = names
        .iter()
        .zip(&replicas)
        .map(|(name, path)| Module::new(name, path))
        .collect();
    for replica in &replicas {
        fs::create_dir(replica)?;
    }
    mirror.daemon.set_modules(&modules)?;
    // The dead one is the first of the list, where it would hold up a program that takes them in turn.
    mirror.config.mirrors[0].remotes = dead.into_iter().chain(names.map(Remote::module)).collect();
    Ok((mirror, replicas))
}

/// Runs a mirror through a first push, a storm and a deletion, and says how long the three replicas took in all.
fn time_of_three(mirror: &mut Mirror, replicas: &[PathBuf]) -> io::Result<Duration> {
    let all = |mirror: &Mirror| {
        let start = Instant::now();
        for replica in replicas {
            wait_in_sync(&mirror.source(""), replica, Duration::from_secs(30));
        }
        start.elapsed()
    };
    mirror.run()?;
    let mut sum = all(mirror);
    grow(&mirror.source("storm"), 20, 20, 500)?;
    sum += all(mirror);
    fs::remove_dir_all(mirror.source("storm"))?;
    sum += all(mirror);
    Ok(sum)
}

#[test]
fn a_dead_remote_does_not_slow_the_other_three() -> io::Result<()> {
    let (mut three, replicas) = to_three_and(None)?;
    let without = time_of_three(&mut three, &replicas)?;
    three.stop();
    let dead = Remote::Module {
        ip: "127.0.0.2",
        name: "fourth".to_owned(),
    };
    let (mut four, replicas) = to_three_and(Some(dead))?;
    let with = time_of_three(&mut four, &replicas)?;
    println!("three remotes: {without:?}; with a dead fourth: {with:?}");
    assert!(
        with < without * 2 + Duration::from_secs(20),
        "{with:?} with a dead remote, {without:?} without"
    );
    four.sersync().wait_for_problem(&["127.0.0.2"]);
    // And it is made equal when it is there at last.
    let fourth = four.at("fourth");
    fs::create_dir(&fourth)?;
    let modules = [Module::new("fourth", &fourth)];
    let mut daemon =
        RsyncDaemon::prepare_at(Ipv4Addr::new(127, 0, 0, 2), four.daemon.port(), &modules)?;
    daemon.start()?;
    println!(
        "the fourth: {:?} after it is there",
        wait_in_sync(&four.source(""), &fourth, AFTER_BACK_OFF)
    );
    four.stop();
    Ok(())
}

#[test]
fn a_remote_that_never_answers_does_not_slow_the_other_three() -> io::Result<()> {
    let silent = Remote::Module {
        ip: "127.0.0.3",
        name: "fourth".to_owned(),
    };
    let (mut mirror, replicas) = to_three_and(Some(silent))?;
    // It takes connections, and that is all it does.
    let _listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), mirror.daemon.port()))?;
    println!(
        "with a silent fourth: {:?}",
        time_of_three(&mut mirror, &replicas)?
    );
    mirror.stop();
    Ok(())
}

/// A look whether it is back may take as long as its time-out.
#[test]
fn a_remote_that_never_answers_takes_no_place_of_the_others_while_it_is_looked_for()
-> io::Result<()> {
    let silent = Remote::Module {
        ip: "127.0.0.3",
        name: "fourth".to_owned(),
    };
    let (mut mirror, replicas) = to_three_and(Some(silent))?;
    mirror.config.timeout = 25;
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), mirror.daemon.port()))?;
    mirror.run_with(&["-n", "1"])?;
    wait_until(AFTER_BACK_OFF, "it is given up for now", || {
        mirror.log().contains("is unreachable")
    });
    listener.set_nonblocking(true)?;
    let mut kept = Vec::new();
    // What has ended is taken off the queue until a look is left that has just begun.
    while let Ok((connection, _)) = listener.accept() {
        kept.push(connection);
    }
    wait_until(AFTER_BACK_OFF, "it is looked for", || {
        listener.accept().is_ok_and(|(connection, _)| {
            kept.push(connection);
            true
        })
    });
    fs::write(mirror.source("meanwhile"), "content")?;
    for replica in &replicas {
        wait_in_sync(&mirror.source(""), replica, SOON);
    }
    mirror.stop();
    Ok(())
}

#[test]
fn one_process_at_a_time_is_enough_for_three_remotes() -> io::Result<()> {
    let (mut mirror, replicas) = to_three_and(None)?;
    grow(&mirror.source(""), 20, 20, 100)?;
    mirror.run_with(&["-n", "1"])?;
    for _ in 0..3 {
        for replica in &replicas {
            wait_in_sync(&mirror.source(""), replica, Duration::from_secs(30));
        }
        fs::rename(mirror.source("d00001"), mirror.source("away"))?;
        grow(&mirror.source("away"), 5, 5, 100)?;
        fs::rename(mirror.source("away"), mirror.source("d00001"))?;
    }
    for replica in &replicas {
        wait_in_sync(&mirror.source(""), replica, Duration::from_secs(30));
    }
    mirror.stop();
    Ok(())
}

#[test]
fn a_path_the_receiver_cannot_write_holds_no_other_back_and_arrives_when_it_is_mended()
-> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 3, 3, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let Some(locked) = Immutable::make(mirror.replica("d00001")) else {
        return Ok(());
    };
    // In one batch with others, and again beside later ones.
    fs::write(mirror.source("d00001/new"), "cannot be made")?;
    fs::remove_file(mirror.source("d00001/f0001"))?;
    grow(&mirror.source("others"), 5, 20, 100)?;
    let arrived = || mirror.replica("others/d00004/f0019").exists();
    println!(
        "the others: {:?}",
        wait_until(SOON, "the others arrive", arrived)
    );
    for number in 0..5 {
        let name = format!("later {number}");
        fs::write(mirror.source(&name), "content")?;
        wait_until(SOON, "later ones arrive", || mirror.replica(&name).exists());
        fs::remove_file(mirror.source(&name))?;
        wait_until(SOON, "later ones go", || !mirror.replica(&name).exists());
    }
    assert!(!mirror.replica("d00001/new").exists());
    mirror.sersync().wait_for_problem(&["d00001"]);
    drop(locked);
    println!("mended: {:?}", mirror.in_sync_within(AFTER_BACK_OFF));
    mirror.finish()
}

#[test]
fn a_file_the_receiver_cannot_replace_does_not_stop_the_first_push() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 10, 10, 100)?;
    fs::write(mirror.source("locked"), "the new content")?;
    fs::write(mirror.replica("locked"), "the old")?;
    let Some(locked) = Immutable::make(mirror.replica("locked")) else {
        return Ok(());
    };
    mirror.run()?;
    wait_until(SOON, "the others arrive", || {
        mirror.replica("d00009/f0009").exists()
    });
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "a change arrives", || {
        mirror.replica("later").exists()
    });
    mirror.sersync().wait_for_problem(&["locked"]);
    drop(locked);
    println!("mended: {:?}", mirror.in_sync_within(AFTER_BACK_OFF));
    mirror.finish()
}

#[test]
fn a_path_written_a_thousand_times_during_a_long_first_push_ends_right() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 100, 30, 2_000)?;
    fs::write(mirror.source("d00050/busy"), "before")?;
    mirror.run()?;
    wait_until(SOON, "the first push has begun", || {
        mirror.replica("d00000").exists()
    });
    for write in 0..1_000 {
        fs::write(mirror.source("d00050/busy"), format!("write {write}"))?;
        match write {
            // The receiver stands still for most of it: however fast the machine, the push is not over.
            100 => mirror.daemon.freeze(),
            900 => mirror.daemon.thaw(),
            _ => pause(Duration::from_millis(1)), // interval between two writes
        }
    }
    println!("equal {:?} after the last write", mirror.in_sync());
    assert_eq!(fs::read(mirror.replica("d00050/busy"))?, b"write 999");
    mirror.finish()
}

#[test]
fn a_receiver_that_stands_still_for_a_while_is_waited_for() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    mirror.daemon.freeze();
    grow(&mirror.source("storm"), 10, 50, 100)?;
    fs::remove_file(mirror.source("storm/d00001/f0001"))?;
    let replica = mirror.replica("storm/d00009");
    stays(Duration::from_secs(2), "nothing arrives", || {
        !replica.exists()
    });
    assert!(mirror.sersync().is_running());
    mirror.daemon.thaw();
    mirror.in_sync();
    assert!(mirror.source(KEEP).exists());
    mirror.finish()
}

/// The one that waits for the next change must not keep the others out.
fn with_a_single_connection(change: fn(&mut Mirror)) -> io::Result<()> {
    let lock = tempfile::NamedTempFile::new()?;
    let lock_file = format!("lock file = {}", lock.path().display());
    let mut mirror =
        Mirror::prepare_with(|module| module.line("max connections = 1").line(lock_file))?;
    change(&mut mirror);
    grow(&mirror.source(""), 3, 3, 100)?;
    mirror.run()?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    for round in 0..3 {
        fs::write(mirror.source("file"), "content")?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        grow(&mirror.outside("dir"), 3, 100, 100)?;
        fs::rename(mirror.outside("dir"), mirror.source(format!("dir {round}")))?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        fs::remove_file(mirror.source("file"))?;
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    let turned_away = mirror.log().matches("is unreachable").count();
    // A daemon that is slow to see that a connection has ended may show once.
    assert!(turned_away <= 1, "{turned_away} times taken for an outage");
    mirror.finish()
}

#[test]
fn a_module_with_a_single_connection_is_served_by_one_child_after_another() -> io::Result<()> {
    with_a_single_connection(|_| {})
}

#[test]
fn a_module_with_a_single_connection_may_have_a_limit_of_deletions() -> io::Result<()> {
    with_a_single_connection(|mirror| {
        "<maxDelete start=\"true\" count=\"1000\"/>".clone_into(&mut mirror.config.rsync);
    })
}

#[test]
fn a_module_with_a_single_connection_may_have_a_filter() -> io::Result<()> {
    with_a_single_connection(|mirror| mirror.config.excludes = vec![r"(.*)\.tmp"])
}

#[test]
fn with_n_so_many_rsync_processes_work_at_once_and_so_many_wait() -> io::Result<()> {
    let (mut mirror, replicas) = to_three_and(None)?;
    // For a second each, so that without a limit there are three of them.
    mirror.config.params = "-a --bwlimit=200".into();
    fs::write(mirror.source("long"), vec![b'x'; 200_000])?;
    mirror.run_with(&["-n", "1"])?;
    for name in ["long", "1", "2", "3", "4"] {
        if name != "long" {
            fs::write(mirror.source(name), name)?;
        }
        wait_until(SOON, "all have it", || {
            let processes = mirror.sersync().rsync_children();
            assert!(processes.len() <= 2, "{processes:?}");
            replicas.iter().all(|replica| replica.join(name).exists())
        });
    }
    wait_until(SOON, "one waits", || {
        mirror.sersync().rsync_children().len() == 1
    });
    mirror.stop();
    Ok(())
}
