//! Guards against deletion that outlive the process, with real mounts: the source unmounted or another one, at any moment
//! and at every start; what is mounted below it; a local target; a first comparison that would empty a replica.
//!
//! A tmpfs that is mounted anew is another one, so what goes and comes back here is one that stays mounted beside the
//! source, and is bound to its place. Where nothing may be mounted, these tests say so and pass.
//! `SERSYNC_RACE_ROUNDS` sets how often the race with a lazy unmount is run.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

use crate::bus::Bus;
use crate::confxml::Remote;
use crate::harness::{
    AFTER_BACK_OFF, KEEP, Mirror, SOON, differences, grow, pause, stays, wait_until,
};
use crate::idle::Tmpfs;
use crate::outcomes::{remove_deep, too_deep};
use crate::tree::Tree;

/// How long a deletion that must not come is waited for. One that comes takes some milliseconds.
const WATCHED: Duration = Duration::from_secs(4);
/// A standby keeps the source busy for about 20 s after the last change.
const QUIET_WITHIN: Duration = Duration::from_secs(45);
/// A full push each second.
const EVERY_SECOND: &str = r#"<crontab start="true" calendar="*:*:*"/>"#;

/// A file system with files of its own, to be bound to places and taken away again.
pub struct Disk {
    files: Tmpfs,
    /// Where its files are always to be seen.
    pub at: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// One that belongs at `place`, and is not there yet. `None` where nothing can be mounted.
    pub fn new(mirror: &Mirror, name: &str, place: PathBuf) -> io::Result<Option<Self>> {
        let at = mirror.at(name);
        fs::create_dir_all(&at)?;
        fs::create_dir_all(&place)?;
        let Some(files) = Tmpfs::mount(at.clone()) else {
            return Ok(None);
        };
        // Else what is done to one of the places would be done to the other.
        let private = mount(&["--make-private".as_ref(), at.as_ref()]);
        assert!(private, "it is a mount of its own");
        Ok(Some(Self { files, at, place }))
    }

    #[track_caller]
    pub fn bind(&self) {
        let place: &Path = &self.place;
        assert!(
            mount(&["--bind".as_ref(), self.at.as_ref(), place.as_ref()]),
            "it is bound"
        );
        assert!(mount(&["--make-private".as_ref(), place.as_ref()]));
    }

    /// Whether it could be taken away.
    pub fn unbind(&self, lazily: bool) -> bool {
        let mut command = Command::new("umount");
        if lazily {
            command.arg("--lazy");
        }
        let output = command.arg(&self.place).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be bound several times, or not at all.
        while self.unbind(true) {}
        let _ = self.files.unmount();
    }
}

fn mount(arguments: &[&OsStr]) -> bool {
    let output = Command::new("mount").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A file with a file system in it, mounted; it is detached with its last unmount.
struct Image(PathBuf);

impl Image {
    fn make(file: &Path) -> io::Result<bool> {
        fs::File::create(file)?.set_len(16 << 20)?;
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(file)
            .output();
        let made = made.is_ok_and(|output| output.status.success());
        if !made {
            println!("skipped: no file system can be made here");
        }
        Ok(made)
    }

    fn mount(file: &Path, at: PathBuf) -> Option<Self> {
        if mount(&["-o".as_ref(), "loop".as_ref(), file.as_ref(), at.as_ref()]) {
            return Some(Self(at));
        }
        println!("skipped: no file can be mounted here");
        None
    }

    fn unmount(&self) -> bool {
        let output = Command::new("umount").arg(&self.0).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Where it is unmounted already this fails, as it should.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// A mirror whose source is a disk with 111 entries, running and equal.
fn on_a_disk() -> io::Result<Option<(Mirror, Disk, usize)>> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source(""))? else {
        return Ok(None);
    };
    disk.bind();
    grow(&mirror.source(""), 10, 10, 100)?;
    fs::write(mirror.source(KEEP), "on the disk")?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    assert_eq!(names, 111);
    wait_until(SOON, "it is kept what the remote is equal to", || {
        knows(&mirror)
    });
    Ok(Some((mirror, disk, names)))
}

/// Whether what a remote was equal to has been kept.
fn knows(mirror: &Mirror) -> bool {
    let files = fs::read_dir(mirror.at("state"))
        .into_iter()
        .flatten()
        .flatten();
    files
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "known")
        })
        .any(|file| {
            fs::read_to_string(file.path()).is_ok_and(|text| text.contains(r#""compared":true"#))
        })
}

#[track_caller]
fn nothing_is_deleted(mirror: &mut Mirror, names: usize) {
    let replica = mirror.replica("");
    stays(WATCHED, "the replica has all its files", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() >= names)
    });
    assert!(mirror.sersync().is_running());
}

#[test]
fn a_source_that_is_unmounted_deletes_nothing_and_resumes_when_it_is_mounted_again()
-> io::Result<()> {
    let Some((mut mirror, disk, names)) = on_a_disk()? else {
        return Ok(());
    };
    println!(
        "unmounted {:?} after the last change",
        wait_until(QUIET_WITHIN, "umount succeeds", || disk.unbind(false))
    );
    // What is under the mount point looks like a change.
    fs::write(mirror.source("beneath"), "content")?;
    nothing_is_deleted(&mut mirror, names);
    assert!(!mirror.replica("beneath").exists(), "nothing is sent");
    fs::remove_file(mirror.source("beneath"))?;
    disk.bind();
    fs::remove_file(mirror.source("d00000/f0000"))?;
    fs::write(mirror.source("later"), "content")?;
    println!("mounted again: equal after {:?}", mirror.in_sync());
    mirror.finish()
}

#[test]
fn a_disk_is_the_same_under_another_device_number_and_another_disk_is_not() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let (one, other, beside) = (
        mirror.at("one.img"),
        mirror.at("other.img"),
        mirror.at("beside"),
    );
    fs::create_dir(&beside)?;
    if !Image::make(&one)? || !Image::make(&other)? {
        return Ok(());
    }
    let Some(disk) = Image::mount(&one, mirror.source("")) else {
        return Ok(());
    };
    grow(&mirror.source(""), 10, 10, 100)?;
    fs::write(mirror.source(KEEP), "on the disk")?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    wait_until(SOON, "it is kept what the remote is equal to", || {
        knows(&mirror)
    });
    wait_until(QUIET_WITHIN, "umount succeeds", || disk.unmount());
    // This takes the number that has become free.
    let Some(taken) = Image::mount(&other, beside) else {
        return Ok(());
    };
    nothing_is_deleted(&mut mirror, names);
    let Some(disk) = Image::mount(&one, mirror.source("")) else {
        return Ok(());
    };
    fs::remove_file(mirror.source("d00000/f0000"))?;
    fs::write(mirror.source("later"), "content")?;
    println!("mounted again: equal after {:?}", mirror.in_sync());
    mirror.stop();
    assert!(disk.unmount() && taken.unmount());
    let Some(_another) = Image::mount(&other, mirror.source("")) else {
        return Ok(());
    };
    mirror.run()?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "another file system"]);
    nothing_is_deleted(&mut mirror, names - 1);
    mirror.stop();
    Ok(())
}

#[test]
fn a_paused_source_can_be_unmounted_at_once() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source(""))? else {
        return Ok(());
    };
    disk.bind();
    grow(&mirror.source(""), 5, 5, 100)?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    fs::write(mirror.source("last"), "content")?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    assert_eq!(bus.ask(&["pause"])?.code, 0);
    // What another test mounts in this moment is looked at.
    wait_until(SOON, "umount succeeds", || disk.unbind(false));
    assert_eq!(bus.ask(&["resume"])?.code, 0);
    nothing_is_deleted(&mut mirror, names);
    disk.bind();
    fs::write(mirror.source("later"), "content")?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_start_before_the_mount_deletes_nothing_and_waits_for_it() -> io::Result<()> {
    let Some((mut mirror, disk, names)) = on_a_disk()? else {
        return Ok(());
    };
    mirror.stop();
    assert!(disk.unbind(true));
    // Not even where the bare directory is not empty.
    fs::write(mirror.source("beneath"), "content")?;
    mirror.run()?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "last equal", "--accept-source"]);
    nothing_is_deleted(&mut mirror, names);
    assert!(!mirror.replica("beneath").exists(), "nothing is sent");
    fs::remove_file(mirror.source("beneath"))?;
    disk.bind();
    fs::remove_file(mirror.source("d00000/f0000"))?;
    println!("mounted: equal after {:?}", mirror.in_sync());
    fs::write(mirror.source("later"), "content")?;
    mirror.finish()
}

#[test]
fn a_source_that_was_replaced_while_nothing_ran_is_held_until_a_person_accepts_it() -> io::Result<()>
{
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let address = bus.address();
    grow(&mirror.source(""), 10, 10, 100)?;
    mirror.run_with(&["--bus", &address])?;
    mirror.in_sync();
    wait_until(SOON, "it is kept what the remote is equal to", || {
        knows(&mirror)
    });
    mirror.stop();
    let names = Tree::read(&mirror.replica(""))?.len();
    fs::rename(mirror.source(""), mirror.at("away"))?;
    fs::create_dir(mirror.source(""))?;
    fs::write(mirror.source("another"), "content")?;
    mirror.run_with(&["--bus", &address])?;
    mirror.sersync().wait_for_problem(&["held", "inode"]);
    nothing_is_deleted(&mut mirror, names);
    let status = bus.ask(&["status", "--json"])?;
    assert!(status.out.contains(r#""state":"held""#), "{}", status.out);
    // It is no decision to start it again.
    mirror.stop();
    mirror.run_with(&["--bus", &address])?;
    nothing_is_deleted(&mut mirror, names);
    assert_eq!(bus.ask(&["resume"])?.code, 0);
    nothing_is_deleted(&mut mirror, names);
    let said = bus.ask(&["resume", "--accept-source"])?;
    assert!(said.out.contains("accepted"), "{}", said.out);
    mirror.in_sync();
    // And now it is the one.
    mirror.stop();
    mirror.run_with(&["--bus", &address])?;
    fs::write(mirror.source("later"), "content")?;
    mirror.finish()
}

#[test]
fn a_source_that_is_replaced_while_it_runs_is_held_until_a_person_accepts_it() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    grow(&mirror.source(""), 10, 10, 100)?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    mirror.is_known();
    let names = Tree::read(&mirror.replica(""))?.len();
    fs::create_dir(mirror.at("away"))?;
    fs::write(mirror.at("away").join("another"), "content")?;
    // At once: a source that is not there for a moment is told as that.
    let (one, other) = (mirror.source(""), mirror.at("away"));
    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?;
    mirror
        .sersync()
        .wait_for_problem(&["another directory", "--accept-source"]);
    nothing_is_deleted(&mut mirror, names);
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync();
    fs::write(mirror.source("later"), "content")?;
    mirror.finish()
}

#[test]
fn an_empty_source_empties_the_replica_only_if_a_person_says_so() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    fs::write(mirror.source("file"), "content")?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    // At once to sersync: a file that goes while there is another one is removed.
    mirror.sersync().signal(Signal::STOP);
    for name in ["file", KEEP] {
        fs::remove_file(mirror.source(name))?;
    }
    mirror.sersync().signal(Signal::CONT);
    mirror.sersync().wait_for_problem(&["held", "empty"]);
    assert!(mirror.replica("file").exists());
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync();
    mirror.finish()
}

/// What a tmpfs of before and one of now share is the device number, the inode number and the kind.
#[test]
fn a_fresh_file_system_with_the_same_numbers_is_not_the_source() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(first) = Tmpfs::mount(mirror.source("")) else {
        return Ok(());
    };
    grow(&mirror.source(""), 10, 10, 100)?;
    fs::write(mirror.source(KEEP), "on the mounted one")?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    wait_until(QUIET_WITHIN, "umount succeeds", || first.unmount());
    let Some(_second) = Tmpfs::mount(mirror.source("")) else {
        return Ok(());
    };
    fs::write(mirror.source("another"), "content")?;
    nothing_is_deleted(&mut mirror, names);
    assert!(!mirror.replica("another").exists(), "nothing is sent");
    mirror.stop();
    Ok(())
}

/// A running mirror with a disk below the source, on a bus.
fn with_a_volume(crontab: &str) -> io::Result<Option<(Mirror, Bus, Disk, usize)>> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source("data/vol"))? else {
        return Ok(None);
    };
    crontab.clone_into(&mut mirror.config.more);
    disk.bind();
    grow(&mirror.source("data/vol"), 5, 5, 100)?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica("data/vol"))?.len();
    wait_until(SOON, "it is kept what the remote is equal to", || {
        knows(&mirror)
    });
    Ok(Some((mirror, bus, disk, names)))
}

#[track_caller]
fn the_volume_is_kept(mirror: &mut Mirror, names: usize) {
    let replica = mirror.replica("data/vol");
    stays(WATCHED, "the replica of the volume is whole", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() == names)
    });
    assert!(mirror.sersync().is_running());
}

#[test]
fn a_volume_below_the_source_that_is_unmounted_outlives_a_resync_and_scheduled_pushes()
-> io::Result<()> {
    let Some((mut mirror, bus, disk, names)) = with_a_volume(EVERY_SECOND)? else {
        return Ok(());
    };
    assert!(disk.unbind(true));
    mirror
        .sersync()
        .wait_for_problem(&["data/vol", "not mounted", "--accept-source"]);
    let resync = bus.ask(&["resync"])?;
    assert_eq!(resync.code, 1, "not all of it is equal: {}", resync.err);
    the_volume_is_kept(&mut mirror, names);
    // What is beside it goes on, in both directions.
    grow(&mirror.source("data/beside"), 1, 1, 10)?;
    wait_until(SOON, "what is beside it arrives", || {
        mirror.replica("data/beside/d00000/f0000").exists()
    });
    fs::remove_dir_all(mirror.source("data/beside"))?;
    wait_until(SOON, "what is beside it goes", || {
        !mirror.replica("data/beside").exists()
    });
    // Nor is what lies beneath it sent, or the mount point's own removal carried out.
    fs::write(mirror.source("data/vol/beneath"), "content")?;
    the_volume_is_kept(&mut mirror, names);
    fs::remove_dir_all(mirror.source("data/vol"))?;
    the_volume_is_kept(&mut mirror, names);
    fs::remove_dir_all(mirror.source("data"))?;
    the_volume_is_kept(&mut mirror, names);
    let status = bus.ask(&["status", "--json"])?.out;
    assert!(status.contains(r#""state":"degraded""#), "{status}");
    assert!(
        !status.contains("data/vol"),
        "everybody may read it: {status}"
    );
    let failed = bus.ask(&["failed"])?.out;
    assert!(failed.contains("data/vol"), "{failed}");
    fs::create_dir_all(mirror.source("data/vol"))?;
    disk.bind();
    fs::remove_file(mirror.source("data/vol/d00000/f0000"))?;
    println!("mounted again: equal after {:?}", mirror.in_sync());
    fs::write(mirror.source("data/vol/d00001/later"), "content")?;
    mirror.finish()
}

#[test]
fn a_volume_that_is_missing_at_the_start_is_kept_and_seen_when_it_is_mounted() -> io::Result<()> {
    let Some((mut mirror, bus, disk, names)) = with_a_volume("")? else {
        return Ok(());
    };
    mirror.stop();
    assert!(disk.unbind(true));
    let address = bus.address();
    mirror.run_with(&["--bus", &address])?;
    mirror
        .sersync()
        .wait_for_problem(&["data/vol", "not mounted"]);
    assert_eq!(bus.ask(&["resync"])?.code, 1);
    the_volume_is_kept(&mut mirror, names);
    disk.bind();
    fs::remove_file(mirror.source("data/vol/d00000/f0000"))?;
    println!("mounted: equal after {:?}", mirror.in_sync());
    // It is watched, too.
    fs::write(mirror.source("data/vol/d00001/later"), "content")?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn another_volume_in_the_place_of_one_is_left_alone_until_a_person_accepts_it() -> io::Result<()> {
    let Some((mut mirror, bus, disk, names)) = with_a_volume("")? else {
        return Ok(());
    };
    let Some(other) = Disk::new(&mirror, "other", mirror.source("data/vol"))? else {
        return Ok(());
    };
    fs::write(other.at.join("of the other"), "content")?;
    assert!(disk.unbind(true));
    other.bind();
    mirror
        .sersync()
        .wait_for_problem(&["data/vol", "another file system"]);
    assert_eq!(bus.ask(&["resync"])?.code, 1);
    the_volume_is_kept(&mut mirror, names);
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync();
    assert!(mirror.replica("data/vol/of the other").exists());
    mirror.finish()
}

#[test]
fn a_volume_that_is_gone_for_good_is_deleted_when_a_person_says_so() -> io::Result<()> {
    let Some((mut mirror, bus, disk, names)) = with_a_volume("")? else {
        return Ok(());
    };
    assert!(disk.unbind(true));
    the_volume_is_kept(&mut mirror, names);
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync();
    // What was its mount point is a directory like any other.
    fs::write(mirror.source("data/vol/later"), "content")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// The kernel has one watch for both places.
#[test]
fn what_is_bound_to_another_place_of_the_source_arrives_at_both() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let (shared, place) = (mirror.source("shared"), mirror.source("jail/shared"));
    grow(&shared, 2, 3, 100)?;
    fs::create_dir_all(&place)?;
    if !mount(&["--bind".as_ref(), shared.as_ref(), place.as_ref()]) {
        println!("skipped: nothing can be mounted here");
        return Ok(());
    }
    let _bound = Bound(place.clone());
    mirror.run()?;
    mirror.in_sync();
    mirror
        .sersync()
        .wait_for_problem(&["not watched", "mounted at", "as well"]);
    for (round, dir) in [&shared, &place].into_iter().enumerate() {
        fs::write(dir.join("d00001/new"), format!("round {round}"))?;
        fs::create_dir(dir.join(format!("made {round}")))?;
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    mirror.finish()
}

struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn with_a_filter_too_a_volume_that_is_unmounted_is_kept() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source("data/vol"))? else {
        return Ok(());
    };
    mirror.config.excludes = vec![r"(.*)\.tmp"];
    disk.bind();
    grow(&mirror.source("data/vol"), 5, 5, 100)?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica("data/vol"))?.len();
    assert!(disk.unbind(true));
    mirror
        .sersync()
        .wait_for_problem(&["data/vol", "not mounted"]);
    assert_eq!(bus.ask(&["resync"])?.code, 1);
    fs::remove_dir_all(mirror.source("data"))?;
    assert_eq!(bus.ask(&["resync"])?.code, 1);
    the_volume_is_kept(&mut mirror, names);
    fs::create_dir_all(mirror.source("data/vol"))?;
    disk.bind();
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// As the others, but the file system itself ends, which the kernel tells; and the fresh one there is another.
#[test]
fn a_volume_whose_file_system_ends_is_kept_and_a_fresh_one_is_not_taken_for_it() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let volume = mirror.source("vol");
    fs::create_dir(&volume)?;
    let Some(mount) = Tmpfs::mount(volume.clone()) else {
        return Ok(());
    };
    grow(&volume, 2, 2, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica("vol"))?.len();
    wait_until(AFTER_BACK_OFF * 2, "umount succeeds", || mount.unmount());
    fs::write(mirror.source("beside"), "content")?;
    let replica = mirror.replica("vol");
    let is_whole = || Tree::read(&replica).is_ok_and(|tree| tree.len() == names);
    stays(WATCHED, "the replica of the volume is kept", is_whole);
    assert!(mirror.replica("beside").exists());
    mirror.sersync().wait_for_problem(&["not mounted"]);
    let Some(_mount) = Tmpfs::mount(volume.clone()) else {
        return Ok(());
    };
    fs::write(volume.join("after"), "content")?;
    stays(WATCHED, "the replica of the volume is kept", is_whole);
    mirror.stop();
    Ok(())
}

#[test]
fn a_file_system_that_is_mounted_below_a_running_source_is_mirrored_at_once() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let Some(disk) = Disk::new(&mirror, "disk", mirror.source("new"))? else {
        return Ok(());
    };
    grow(&disk.at, 2, 2, 100)?;
    mirror.in_sync();
    disk.bind();
    println!("mounted: equal after {:?}", mirror.in_sync());
    fs::write(mirror.source("new/d00000/later"), "content")?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_local_target_that_is_another_directory_is_neither_filled_nor_emptied() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let target = mirror.at("copy");
    let Some(disk) = Disk::new(&mirror, "disk", target.clone())? else {
        return Ok(());
    };
    disk.bind();
    mirror.config.mirrors[0]
        .remotes
        .push(Remote::Local(target.clone()));
    let address = bus.address();
    mirror.run_with(&["--bus", &address])?;
    let is_equal = || differences(&mirror.source(""), &target).is_ok_and(|found| found.is_empty());
    wait_until(SOON, "the target is equal", is_equal);
    mirror.in_sync();
    let known = || {
        let files = fs::read_dir(mirror.at("state"))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter(|file| {
                fs::read_to_string(file.path()).is_ok_and(|text| text.contains("target_was"))
            })
            .count()
    };
    wait_until(SOON, "it is kept what the target is", || known() == 1);
    assert!(disk.unbind(true));
    fs::write(target.join("beneath"), "not to be deleted")?;
    fs::write(mirror.source("one"), "content")?;
    mirror
        .sersync()
        .wait_for_problem(&["copy", "held", "target"]);
    mirror.in_sync();
    // Nor after a start.
    mirror.stop();
    mirror.run_with(&["--bus", &address])?;
    fs::write(mirror.source("two"), "content")?;
    mirror.in_sync();
    stays(WATCHED, "the bare directory is left alone", || {
        !target.join("one").exists() && target.join("beneath").exists()
    });
    disk.bind();
    wait_until(AFTER_BACK_OFF, "it is served again", || {
        target.join("two").exists()
    });
    mirror.finish()
}

#[test]
fn a_first_comparison_that_would_empty_a_replica_waits_for_a_person() -> io::Result<()> {
    first_contact(&[])
}

#[test]
fn with_a_filter_too_a_first_comparison_that_would_empty_a_replica_waits_for_a_person()
-> io::Result<()> {
    first_contact(&[r"(.*)\.tmp"])
}

fn first_contact(filter: &[&'static str]) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    mirror.config.excludes = filter.to_vec();
    grow(&mirror.source("mine"), 1, 3, 10)?;
    grow(&mirror.replica("theirs"), 10, 12, 10)?;
    let names = Tree::read(&mirror.replica(""))?.len();
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "first comparison would remove 131 of 131"]);
    fs::write(mirror.source("later"), "content")?;
    nothing_is_deleted(&mut mirror, names);
    assert_eq!(bus.ask(&["resume", "--accept-source"])?.code, 0);
    mirror.in_sync();
    mirror.finish()
}

/// rsync deletes nothing then, nor says what it would have; later the tree is compared directory by directory.
#[test]
fn a_first_comparison_waits_for_a_person_although_not_all_of_the_source_can_be_read()
-> io::Result<()> {
    first_contact_with_an_error("")
}

#[test]
fn with_max_delete_and_one_process_too_a_first_comparison_waits_although_not_all_can_be_read()
-> io::Result<()> {
    first_contact_with_an_error("<maxDelete start=\"true\" count=\"1000\"/>")
}

fn first_contact_with_an_error(limit: &str) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    limit.clone_into(&mut mirror.config.rsync);
    grow(&mirror.source("mine"), 1, 3, 10)?;
    too_deep(&mirror.source("deep"))?;
    fs::create_dir(mirror.source("zone"))?;
    grow(&mirror.replica("zone/theirs"), 10, 12, 10)?;
    let names = Tree::read(&mirror.replica(""))?.len();
    mirror.run_with(&["-n", "1"])?;
    mirror
        .sersync()
        .wait_for_problem(&["held", "first comparison would remove 131 of"]);
    nothing_is_deleted(&mut mirror, names);
    remove_deep(&mirror.source("deep"));
    mirror.stop();
    Ok(())
}

#[test]
fn without_a_bus_a_first_comparison_is_accepted_on_the_command_line() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.replica("theirs"), 10, 12, 10)?;
    mirror.run_with(&["--accept-source"])?;
    mirror.in_sync();
    mirror.finish()
}

/// How often a lazy unmount is tried.
pub fn rounds() -> u32 {
    let rounds = env::var("SERSYNC_RACE_ROUNDS").ok();
    rounds.and_then(|value| value.parse().ok()).unwrap_or(20)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Unmounts a disk lazily at random moments while changes on it are on their way: nothing of the replica may go but what
/// is removed on the disk.
fn race(mirror: &mut Mirror, disk: &Disk, dirs: usize, replica: &Path) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let started = Instant::now();
    for round in 0..rounds() {
        let before = Tree::read(replica)?;
        // Some are written, some are new, some go: every kind of run is on its way.
        for dir in 0..dirs {
            for name in ["f0000", "new"] {
                let file = disk.place.join(format!("d{dir:05}/{name}"));
                fs::write(file, format!("{round}"))?;
            }
        }
        let removed = PathBuf::from(format!("d0000{}/new", round as usize % dirs));
        fs::remove_file(disk.place.join(&removed))?;
        pause(Duration::from_micros(random.u64(..60_000))); // interval before the unmount
        assert!(disk.unbind(true), "a lazy unmount always succeeds");
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            let now = Tree::read(replica)?;
            // What is sent twice may be on its way once more when `before` is read, under rsync's name for it.
            let is_temporary = |path: &Path| path.file_name().is_some_and(is_hidden);
            let lost: Vec<_> = now
                .lacks(&before)
                .filter(|path| *path != removed && !is_temporary(path))
                .collect();
            assert!(lost.is_empty(), "round {round}: {lost:?} are lost");
            pause(Duration::from_millis(20)); // interval between two looks
        }
        disk.bind();
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    println!(
        "{} lazy unmounts, 0 names lost, {:?} in all",
        rounds(),
        started.elapsed()
    );
    Ok(())
}

#[test]
fn a_source_that_is_lazily_unmounted_at_any_moment_of_a_run_deletes_nothing() -> io::Result<()> {
    let Some((mut mirror, disk, _)) = on_a_disk()? else {
        return Ok(());
    };
    let replica = mirror.replica("");
    race(&mut mirror, &disk, 10, &replica)?;
    mirror.finish()
}

#[test]
fn a_volume_that_is_lazily_unmounted_at_any_moment_of_a_run_is_kept() -> io::Result<()> {
    let Some((mut mirror, _bus, disk, _)) = with_a_volume(EVERY_SECOND)? else {
        return Ok(());
    };
    let replica = mirror.replica("data/vol");
    race(&mut mirror, &disk, 5, &replica)?;
    mirror.finish()
}
