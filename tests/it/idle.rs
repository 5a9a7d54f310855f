//! What a mirror costs while nothing happens: no process, no wake-up, little memory, and no hold on the source.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::confined::{command, in_a_view_of_its_own};
use crate::harness::{KEEP, Mirror, grow, pause, stays, wait_until};
use crate::tree::Tree;

/// A standby may wait about 20 s for more to do.
const QUIET_WITHIN: Duration = Duration::from_secs(45);

#[test]
fn a_quiet_mirror_has_no_children_and_does_not_wake_up() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 20, 20, 100)?;
    // What other tests mount is looked at, too, where it can be seen.
    if rustix::process::geteuid().is_root() {
        let alone = in_a_view_of_its_own("true", &command(&mirror));
        mirror.run_by(alone)?;
    } else {
        mirror.run()?;
    }
    mirror.in_sync();
    fs::write(mirror.source("last"), "content")?;
    mirror.in_sync();
    let quiet = wait_until(QUIET_WITHIN, "no rsync is left", || {
        mirror.sersync().rsync_children().is_empty()
    });
    println!("no child {quiet:?} after the last change");
    // The end of the last child is work, too, and may go on for a moment. So the quietest of some times counts.
    let mut fewest = u64::MAX;
    for _ in 0..6 {
        let before = mirror.sersync().wake_ups()?;
        pause(Duration::from_secs(10)); // interval that is measured
        let after = mirror.sersync().wake_ups()?;
        // A thread that has ended has none.
        let of_one = |(thread, times): (&OsString, &u64)| {
            times.saturating_sub(before.get(thread).copied().unwrap_or(0))
        };
        let wake_ups: u64 = after.iter().map(of_one).sum();
        println!("{wake_ups} wake-ups in 10 s");
        fewest = fewest.min(wake_ups);
        if fewest <= 5 {
            break;
        }
    }
    assert!(
        fewest <= 5,
        "{fewest} wake-ups in 10 s in which nothing happened"
    );
    fs::write(mirror.source("after the quiet"), "content")?;
    println!("a change after the quiet: {:?}", mirror.in_sync());
    mirror.finish()
}

#[test]
fn ten_thousand_directories_cost_little_memory() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    for top in 0..100 {
        grow(&mirror.source(format!("top {top}")), 99, 0, 0)?;
    }
    mirror.run()?;
    println!(
        "10 000 directories: {:?}",
        mirror.in_sync_within(Duration::from_secs(60))
    );
    fs::write(mirror.source("top 50/d00050/file"), "content")?;
    println!("a change among them: {:?}", mirror.in_sync());
    let resident = mirror.sersync().status_figure("VmRSS");
    let own = mirror.sersync().status_figure("RssAnon");
    println!("resident: {resident} KiB, of which {own} KiB are its own");
    assert!(resident > 0, "there is a figure");
    // The pages of an unoptimized program are no measure.
    let counted = if cfg!(debug_assertions) {
        own
    } else {
        resident
    };
    assert!(counted <= 25 * 1024, "{counted} KiB");
    mirror.finish()
}

/// A tmpfs at a directory. Dropped, it is taken away whatever holds it.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where this user may not mount.
    pub fn mount(at: PathBuf) -> Option<Self> {
        Self::mount_of_size(at, "50%")
    }

    /// The same with a limit, such as `4m`.
    pub fn mount_of_size(at: PathBuf, size: &str) -> Option<Self> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs", "-o"])
            .arg(format!("size={size}"))
            .arg(&at)
            .output();
        if output.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        println!("skipped: nothing can be mounted here");
        None
    }

    /// Gives it another limit.
    pub fn resize(&self, size: &str) {
        let mut command = Command::new("mount");
        command.arg("-o").arg(format!("remount,size={size}"));
        let status = command.arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "not resized");
    }

    pub fn unmount(&self) -> bool {
        Command::new("umount")
            .arg(&self.0)
            .output()
            .is_ok_and(|output| output.status.success())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Where it is unmounted already this fails, as it should.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn a_quiet_source_can_be_unmounted_and_deletes_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(mount) = Tmpfs::mount(mirror.source("")) else {
        return Ok(());
    };
    grow(&mirror.source(""), 5, 5, 100)?;
    fs::write(mirror.source(KEEP), "on the mounted one")?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("last"), "content")?;
    mirror.in_sync();
    let names = Tree::read(&mirror.replica(""))?.len();
    println!(
        "unmounted {:?} after the last change",
        wait_until(QUIET_WITHIN, "umount succeeds", || mount.unmount())
    );
    let replica = mirror.replica("");
    stays(
        Duration::from_secs(4),
        "the replica has all its files",
        || Tree::read(&replica).is_ok_and(|tree| tree.len() >= names),
    );
    assert!(
        mirror.sersync().is_running(),
        "a source that is not mounted is no reason to end"
    );
    mirror.stop();
    Ok(())
}
