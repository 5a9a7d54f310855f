//! What must never happen: a deletion because the source is gone, a file name that is run, a deletion against the
//! switches.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::fake::Stage;
use crate::harness::{AFTER_BACK_OFF, KEEP, Mirror, SOON, grow, stays, wait_until};
use crate::idle::Tmpfs;
use crate::names;
use crate::rsync_daemon::Module;
use crate::sersync::Sersync;
use crate::tree::Tree;

/// How long a deletion that must not come is waited for. One that comes takes some milliseconds.
const WATCHED: Duration = Duration::from_secs(4);

/// A running mirror of ten directories with ten files each, and how many names that makes.
fn full() -> io::Result<(Mirror, usize)> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 10, 10, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    assert_eq!(names, 111);
    Ok((mirror, names))
}

/// Asserts that the replica keeps all its names for a while, and that sersync does not end.
#[track_caller]
fn nothing_is_deleted(mirror: &mut Mirror, names: usize) {
    let replica = mirror.replica("");
    stays(WATCHED, "the replica has all its files", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() >= names)
    });
}

#[test]
fn a_source_that_is_renamed_away_deletes_nothing_and_goes_on_when_it_is_back() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    fs::rename(mirror.source(""), mirror.at("away"))?;
    nothing_is_deleted(&mut mirror, names);
    // Not even when what is below it changes under its new name.
    fs::remove_dir_all(mirror.at("away/d00001"))?;
    nothing_is_deleted(&mut mirror, names);
    assert!(
        mirror.sersync().is_running(),
        "a missing source is no reason to end"
    );
    fs::rename(mirror.at("away"), mirror.source(""))?;
    fs::write(mirror.source("later"), "content")?;
    println!(
        "back: equal after {:?}",
        mirror.in_sync_within(AFTER_BACK_OFF)
    );
    mirror.finish()
}

#[test]
fn a_source_replaced_by_an_empty_directory_deletes_nothing() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    fs::rename(mirror.source(""), mirror.at("away"))?;
    fs::create_dir(mirror.source(""))?;
    nothing_is_deleted(&mut mirror, names);
    assert!(mirror.sersync().is_running());
    mirror.stop();
    Ok(())
}

#[test]
fn a_source_removed_behind_a_stopped_process_deletes_nothing() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    // It gets all the events at once, and the root is gone before it can look at anything.
    mirror.sersync().signal(Signal::STOP);
    fs::remove_dir_all(mirror.source(""))?;
    mirror.sersync().signal(Signal::CONT);
    nothing_is_deleted(&mut mirror, names);
    mirror.sersync().signal(Signal::STOP);
    fs::create_dir(mirror.source(""))?;
    mirror.sersync().signal(Signal::CONT);
    nothing_is_deleted(&mut mirror, names);
    mirror.stop();
    Ok(())
}

#[test]
fn a_source_moved_away_and_removed_deletes_nothing() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    fs::rename(mirror.source(""), mirror.at("away"))?;
    fs::remove_dir_all(mirror.at("away"))?;
    nothing_is_deleted(&mut mirror, names);
    mirror.stop();
    Ok(())
}

#[test]
fn a_start_with_an_empty_source_deletes_nothing() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    mirror.stop();
    fs::rename(mirror.source(""), mirror.at("away"))?;
    fs::create_dir(mirror.source(""))?;
    mirror.run()?;
    nothing_is_deleted(&mut mirror, names);
    Ok(())
}

#[test]
fn a_start_without_the_source_deletes_nothing() -> io::Result<()> {
    let (mut mirror, names) = full()?;
    mirror.stop();
    fs::rename(mirror.source(""), mirror.at("away"))?;
    // Whether it waits for the source or refuses to start.
    mirror.run()?;
    nothing_is_deleted(&mut mirror, names);
    Ok(())
}

/// Nothing is known of either side then, and still nothing goes.
#[test]
fn the_very_first_start_without_a_source_or_with_an_empty_one_deletes_nothing() -> io::Result<()> {
    for is_there in [false, true] {
        let mut mirror = Mirror::prepare()?;
        grow(&mirror.replica("kept"), 3, 3, 100)?;
        let names = Tree::read(&mirror.replica(""))?.len();
        fs::remove_dir_all(mirror.source(""))?;
        if is_there {
            fs::create_dir(mirror.source(""))?;
        }
        mirror.run()?;
        nothing_is_deleted(&mut mirror, names);
        // As a mount would bring it.
        fs::create_dir_all(mirror.outside("source"))?;
        fs::write(mirror.outside("source/file"), "content")?;
        if is_there {
            fs::remove_dir(mirror.source(""))?;
        }
        fs::rename(mirror.outside("source"), mirror.source(""))?;
        mirror
            .sersync()
            .wait_for_problem(&["held", "first comparison would remove"]);
        nothing_is_deleted(&mut mirror, names);
        mirror.stop();
    }
    Ok(())
}

/// The one tree that is never mirrored is the empty one: it looks like a file system that is not mounted.
#[test]
fn an_emptied_source_keeps_the_replica_until_it_has_an_entry_again() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source("only"), 3, 3, 100)?;
    fs::remove_file(mirror.source(KEEP))?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    fs::rename(mirror.source("only"), mirror.outside("only"))?;
    nothing_is_deleted(&mut mirror, names);
    fs::write(mirror.source("an entry"), "again")?;
    println!(
        "with an entry again: equal after {:?}",
        mirror.in_sync_within(AFTER_BACK_OFF)
    );
    mirror.finish()
}

#[test]
fn a_local_target_that_is_not_there_is_not_made() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let target = mirror.at("not mounted/copy");
    mirror.config.mirrors[0]
        .remotes
        .push(crate::confxml::Remote::Local(target.clone()));
    mirror.run()?;
    mirror.in_sync();
    mirror.sersync().wait_for_problem(&["not mounted"]);
    fs::write(mirror.source("later"), "content")?;
    mirror.in_sync();
    assert!(!mirror.at("not mounted").exists(), "a target was made");
    mirror.finish()
}

#[test]
fn a_local_target_that_goes_away_is_not_made_anew() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let target = mirror.at("copy");
    fs::create_dir(&target)?;
    mirror.config.mirrors[0]
        .remotes
        .push(crate::confxml::Remote::Local(target.clone()));
    mirror.run()?;
    fs::write(mirror.source("one"), "content")?;
    wait_until(SOON, "it is at the target", || target.join("one").exists());
    fs::rename(&target, mirror.at("away"))?;
    fs::write(mirror.source("two"), "content")?;
    mirror
        .sersync()
        .wait_for_problem(&["copy", "does not exist"]);
    stays(WATCHED, "no target is made", || !target.exists());
    fs::rename(mirror.at("away"), &target)?;
    wait_until(AFTER_BACK_OFF, "it is served again", || {
        target.join("two").exists()
    });
    mirror.finish()
}

#[test]
fn names_that_look_like_commands_are_run_by_nobody() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let directory = mirror.at("working directory");
    fs::create_dir(&directory)?;
    mirror.config.write()?;
    let mut command = Sersync::command();
    command
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file);
    command
        .arg("--state-dir")
        .arg(mirror.at("state"))
        .current_dir(&directory)
        .env("HOME", &directory);
    let sersync = Sersync::spawn(command, &mirror.log_file())?;
    for &name in names::ODD {
        let name = names::name(name);
        fs::write(mirror.source(name), "content")?;
        let mut directory = name.to_owned();
        directory.push(".d");
        fs::create_dir(mirror.source(directory))?;
    }
    crate::harness::wait_in_sync(&mirror.source(""), &mirror.replica(""), SOON);
    for &name in names::ODD {
        fs::remove_file(mirror.source(names::name(name)))?;
    }
    crate::harness::wait_in_sync(&mirror.source(""), &mirror.replica(""), SOON);
    sersync.stop();
    assert_eq!(
        Tree::read(&directory)?.len(),
        0,
        "something was made in the working directory"
    );
    for place in [
        mirror.source("pwned"),
        mirror.replica("pwned"),
        mirror.at("pwned"),
        "/pwned".into(),
    ] {
        assert!(!Path::new(&place).exists(), "{place:?} was made");
    }
    Ok(())
}

#[test]
fn with_delete_and_move_from_off_nothing_is_ever_removed_at_the_receiver() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror
        .config
        .switches
        .extend([("delete", false), ("moveFrom", false)]);
    grow(&mirror.source(""), 3, 3, 100)?;
    fs::write(mirror.source("file"), "content")?;
    fs::write(mirror.replica("extra"), "was there before the first push")?;
    mirror.run()?;
    wait_until(SOON, "the first push arrives", || {
        mirror.replica("d00002/f0002").exists()
    });
    fs::remove_file(mirror.source("d00001/f0001"))?;
    fs::remove_dir_all(mirror.source("d00002"))?;
    fs::rename(mirror.source("file"), mirror.source("renamed"))?;
    fs::rename(mirror.source("d00000"), mirror.source("renamed directory"))?;
    wait_until(SOON, "the new names arrive", || {
        mirror.replica("renamed").exists() && mirror.replica("renamed directory/f0002").exists()
    });
    // Not by a restart either.
    mirror.stop();
    mirror.run()?;
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "a later change arrives", || {
        mirror.replica("later").exists()
    });
    stays(Duration::from_secs(2), "everything removed is kept", || {
        [
            "extra",
            "d00001/f0001",
            "d00002/f0002",
            "file",
            "d00000/f0000",
        ]
        .iter()
        .all(|name| mirror.replica(name).exists())
    });
    mirror.stop();
    Ok(())
}

/// The receiver still has the link when the names below the directory that took its place are deleted there.
#[test]
fn nothing_is_deleted_through_a_link_that_still_stands_at_the_receiver() -> io::Result<()> {
    nothing_is_deleted_through_a_link(|module| module)
}

#[test]
fn nothing_is_deleted_through_a_link_where_deletions_go_by_directory() -> io::Result<()> {
    nothing_is_deleted_through_a_link(|module| module.line("refuse options = delete-missing-args"))
}

fn nothing_is_deleted_through_a_link(change: impl FnOnce(Module) -> Module) -> io::Result<()> {
    let mut mirror = Mirror::prepare_with(change)?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("bystander"), "not to be touched")?;
    symlink(".", mirror.source("place"))?;
    fs::create_dir(mirror.source("tree"))?;
    mirror.in_sync();
    mirror.daemon.stop();
    fs::remove_file(mirror.source("place"))?;
    fs::rename(mirror.source("tree"), mirror.source("place"))?;
    fs::write(mirror.source("place/bystander"), "soon gone")?;
    fs::remove_file(mirror.source("place/bystander"))?;
    mirror.daemon.start()?;
    mirror.in_sync();
    mirror.finish()
}

/// The directory that took the place of the link is gone again by the time that rsync looks.
#[test]
fn nothing_is_deleted_through_a_link_whose_successor_has_vanished() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let stage = Stage::set_up(&mirror)?;
    let bystanders = ["bystander", "bystander/file", "deep/bystander"];
    fs::create_dir(mirror.source("bystander"))?;
    fs::write(mirror.source("bystander/file"), "not to be touched")?;
    fs::create_dir_all(mirror.source("deep/bystander"))?;
    for (place, tree) in [("place", "tree"), ("deep/place", "deep/tree")] {
        symlink(".", mirror.source(place))?;
        fs::create_dir(mirror.source(tree))?;
    }
    mirror.run_by(stage.command(&mirror))?;
    mirror.in_sync();
    let inodes = |mirror: &Mirror| {
        bystanders.map(|name| fs::metadata(mirror.replica(name)).map_or(0, |found| found.ino()))
    };
    let before = inodes(&mirror);
    for (name, tree) in [("place", "tree"), ("deep/place", "deep/tree")] {
        let place = mirror.source(name);
        let (about, removes) = (format!("{name}/bystander"), place.display().to_string());
        let scene = json!({ "on": "delete", "about": about, "removes": removes, "real": true });
        stage.lay_times(1, "vanishes", scene)?;
        mirror.sersync().signal(Signal::STOP);
        fs::remove_file(&place)?;
        fs::rename(mirror.source(tree), &place)?;
        fs::write(place.join("bystander"), "soon gone")?;
        fs::remove_file(place.join("bystander"))?;
        mirror.sersync().signal(Signal::CONT);
        wait_until(SOON, "it vanishes", || !place.exists());
        mirror.in_sync();
    }
    assert_eq!(inodes(&mirror), before, "they were removed and sent again");
    mirror.finish()
}

#[test]
fn with_x_nothing_below_a_mount_point_is_sent_or_deleted() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source("vol/below the mount"), 2, 2, 100)?;
    fs::create_dir_all(mirror.replica("vol/only there"))?;
    mirror.config.params = "-a -x".into();
    let volume = mirror.source("vol");
    let Some(mount) = Tmpfs::mount(volume.clone()) else {
        return Ok(());
    };
    fs::write(volume.join("on the volume"), "content")?;
    mirror.run()?;
    fs::write(mirror.source("first"), "content")?;
    let arrived = |name: &str| mirror.replica(name).exists();
    wait_until(SOON, "what is beside it arrives", || arrived("first"));
    for round in 0..5 {
        fs::write(volume.join(format!("later {round}")), "content")?;
        fs::remove_file(volume.join("on the volume")).ok();
        // The directory itself changes, and so does its parent.
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o700 + round))?;
        let name = format!("beside {round}");
        fs::write(mirror.source(&name), "content")?;
        wait_until(SOON, "what is beside it arrives", || arrived(&name));
    }
    assert!(arrived("vol"));
    for round in 0..5 {
        assert!(!arrived(&format!("vol/later {round}")));
    }
    assert!(!arrived("vol/on the volume"));
    assert!(arrived("vol/only there"));
    mirror.stop();
    assert!(mount.unmount());
    Ok(())
}
