//! What a lane knows of its source and of what is mounted below it: from when on, and what makes it forget. A bare mount
//! point with something in it looks like a source; only what is known tells it from the real one.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::bus::Bus;
use crate::guards::Disk;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, grow, stays, wait_until};
use crate::outcomes::too_deep;
use crate::sersync::Sersync;
use crate::tree::Tree;

/// How long a deletion that must not come is waited for. One that comes takes some milliseconds.
const WATCHED: Duration = Duration::from_secs(3);

fn size(tree: &Path) -> usize {
    Tree::read(tree).map_or(0, |tree| tree.len())
}

#[track_caller]
fn keeps(mirror: &mut Mirror, tree: &str, names: usize) {
    let replica = mirror.replica(tree);
    stays(WATCHED, "the replica keeps all it has", || {
        size(&replica) >= names
    });
    assert!(mirror.sersync().is_running());
}

/// Has the running process read the configuration again.
fn reload(mirror: &mut Mirror) -> io::Result<()> {
    let reloads = |log: &str| log.matches("new configuration is in force").count();
    let before = reloads(&mirror.log());
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    wait_until(SOON, "it is read", || reloads(&mirror.log()) > before);
    Ok(())
}

/// A disk at a place in the source, with files on it.
fn disk_at(mirror: &Mirror, place: &str) -> io::Result<Option<Disk>> {
    let disk = Disk::new(mirror, "disk", mirror.source(place))?;
    if let Some(disk) = &disk {
        disk.bind();
        grow(&mirror.source(place), 3, 3, 100)?;
    }
    Ok(disk)
}

#[test]
fn a_volume_that_a_reload_uncovers_is_guarded_from_then_on() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "vol")? else {
        return Ok(());
    };
    mirror.config.rules = "<exclude pattern=\"/vol/\"/><exclude pattern=\"*.tmp\"/>".into();
    mirror.run()?;
    mirror.is_known();
    mirror.config.rules = "<exclude pattern=\"*.tmp\"/>".into();
    reload(&mut mirror)?;
    mirror.in_sync();
    let names = size(&mirror.replica("vol"));
    assert!(names > 10);
    assert!(disk.unbind(true));
    mirror.sersync().wait_for_problem(&["vol", "not mounted"]);
    keeps(&mut mirror, "vol", names);
    disk.bind();
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_volume_that_is_excluded_for_a_while_is_not_forgotten() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "vol")? else {
        return Ok(());
    };
    mirror.run()?;
    mirror.in_sync();
    mirror.is_known();
    let names = size(&mirror.replica("vol"));
    mirror.stop();
    // It is excluded for as long as the disk is away …
    mirror.config.rules = "<exclude pattern=\"/vol/\"/>".into();
    mirror.run()?;
    fs::write(mirror.source("beside"), "content")?;
    wait_until(SOON, "it runs", || mirror.replica("beside").exists());
    mirror.stop();
    assert!(disk.unbind(true));
    // … and no longer, too soon.
    mirror.config.rules.clear();
    mirror.run()?;
    mirror.sersync().wait_for_problem(&["vol", "not mounted"]);
    keeps(&mut mirror, "vol", names);
    disk.bind();
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// Stops it, has it start with what is beneath the disk, and wants the replica to keep what it has.
fn starts_on_the_bare_mount_point(
    mut mirror: Mirror,
    disk: &Disk,
    arguments: &[&str],
) -> io::Result<()> {
    let names = size(&mirror.replica(""));
    assert!(names > 10, "{names}");
    mirror.stop();
    assert!(disk.unbind(true));
    fs::write(mirror.source("stray"), "on the bare mount point")?;
    mirror.run_with(arguments)?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "not the directory"]);
    keeps(&mut mirror, "", names);
    assert!(!mirror.replica("stray").exists());
    mirror.stop();
    Ok(())
}

#[test]
fn a_source_is_known_although_its_first_push_is_never_whole() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "")? else {
        return Ok(());
    };
    too_deep(&mirror.source("deep"))?;
    mirror.run()?;
    wait_until(AFTER_BACK_OFF, "the others arrive", || {
        mirror.replica("d00002/f0002").exists()
    });
    starts_on_the_bare_mount_point(mirror, &disk, &[])
}

#[test]
fn a_source_is_known_although_deletions_are_withheld_from_its_first_push_on() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "")? else {
        return Ok(());
    };
    mirror.config.rsync = "<maxDelete start=\"true\" count=\"1\"/>".into();
    grow(&mirror.replica("old"), 1, 3, 10)?;
    mirror.run()?;
    mirror.sersync().wait_for_problem(&["held", "maxDelete"]);
    wait_until(SOON, "the others arrive", || {
        mirror.replica("d00002/f0002").exists()
    });
    mirror.config.rsync.clear();
    starts_on_the_bare_mount_point(mirror, &disk, &[])
}

#[test]
fn without_a_first_push_a_source_is_known_by_its_first_change() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "")? else {
        return Ok(());
    };
    grow(&mirror.replica(""), 3, 3, 100)?;
    mirror.run_with(&["--initial", "no"])?;
    let said = "watching";
    wait_until(SOON, "it watches", || mirror.log().contains(said));
    fs::write(mirror.source("changed"), "content")?;
    wait_until(SOON, "it arrives", || mirror.replica("changed").exists());
    let known = mirror.at("state");
    wait_until(SOON, "the source is kept", || {
        let files = fs::read_dir(&known).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        texts.any(|text| text.contains("\"was\""))
    });
    starts_on_the_bare_mount_point(mirror, &disk, &[])
}

#[test]
fn a_small_replica_is_not_emptied_by_a_first_comparison_either() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.replica("dumps"), 1, 30, 10)?;
    mirror.run()?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "first comparison would remove 32 of 32"]);
    keeps(&mut mirror, "dumps", 31);
    mirror.stop();
    Ok(())
}

#[test]
fn without_a_state_directory_a_reload_forgets_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = disk_at(&mirror, "vol")? else {
        return Ok(());
    };
    let mut command: Command = Sersync::command();
    command
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file);
    mirror.run_by(command)?;
    mirror.in_sync();
    let names = size(&mirror.replica("vol"));
    assert!(disk.unbind(true));
    mirror.sersync().wait_for_problem(&["vol", "not mounted"]);
    mirror.config.params = "-az".into();
    reload(&mut mirror)?;
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "it goes on", || mirror.replica("later").exists());
    keeps(&mut mirror, "vol", names);
    disk.bind();
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn an_empty_file_system_over_what_was_mirrored_deletes_nothing_and_may_go_again() -> io::Result<()>
{
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source("sub"), 3, 3, 100)?;
    mirror.run()?;
    mirror.in_sync();
    mirror.is_known();
    let names = size(&mirror.replica("sub"));
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source("sub"))? else {
        return Ok(());
    };
    disk.bind();
    mirror.sersync().wait_for_problem(&["sub", "is empty"]);
    keeps(&mut mirror, "sub", names);
    assert!(disk.unbind(true));
    fs::write(mirror.source("sub/d00000/f0000"), "changed")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_volume_that_is_suddenly_empty_keeps_its_replica_until_it_has_an_entry() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(_disk) = disk_at(&mirror, "vol")? else {
        return Ok(());
    };
    mirror.run()?;
    mirror.in_sync();
    mirror.is_known();
    let names = size(&mirror.replica("vol"));
    // At once, as a file system that has lost its content.
    mirror.sersync().signal(Signal::STOP);
    for dir in fs::read_dir(mirror.source("vol"))? {
        fs::remove_dir_all(dir?.path())?;
    }
    mirror.sersync().signal(Signal::CONT);
    mirror.sersync().wait_for_problem(&["vol", "is empty"]);
    keeps(&mut mirror, "vol", names);
    fs::write(mirror.source("vol/new"), "content")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_volume_that_never_held_anything_is_nobodys_matter() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source("vol"))? else {
        return Ok(());
    };
    disk.bind();
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    assert_eq!(bus.ask(&["resync"])?.code, 0);
    assert!(bus.ask(&["failed"])?.out.contains("no path has failed"));
    mirror.finish()
}
