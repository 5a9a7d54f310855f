//! What the machine below must have, what a run may leave on it, and how that is taken away again.
//!
//! A run holds a lock, because the inotify limits it changes are the kernel's own. What could outlive a killed run is
//! made so that it does not (the mounts are in a namespace of their own, the container dies with its parent), or is
//! found and mended by the next run: the limits, which are written down before they are touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::wait::wait_until;

/// Where a run keeps what it has on the host. Fixed, so that the next run finds it.
const DIRECTORY: &str = "/run/sersync-booted";
/// Another run may be on; it is bounded itself.
const OTHER_RUN: Duration = Duration::from_secs(20 * 60);
/// The limits of the kernel that the service changes.
const INOTIFY: &str = "/proc/sys/fs/inotify";

/// Programs a boot needs, and the Debian packages they are in.
const NEEDED: [(&str, &str); 7] = [
    ("/usr/bin/systemd-nspawn", "systemd-container"),
    ("/sbin/init", "systemd-sysv"),
    ("/usr/bin/dbus-daemon", "dbus"),
    ("/usr/bin/pkcheck", "polkitd"),
    ("/usr/bin/rsync", "rsync"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/dpkg", "dpkg"),
];

/// Why nothing can be booted here; none if it can.
pub fn what_is_missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("the rights of root".to_owned());
    }
    missing.extend(
        NEEDED
            .iter()
            .filter(|(program, _)| !Path::new(program).exists())
            .map(|(program, package)| format!("{program} (package {package})")),
    );
    missing
}

/// The right to boot, and the promise to leave the host as it was.
#[derive(Debug)]
pub struct Host {
    /// Held until the process ends.
    _lock: File,
}

impl Host {
    /// Waits for other runs, and mends what a killed one has left.
    pub fn claim() -> io::Result<Self> {
        fs::create_dir_all(DIRECTORY)?;
        let lock = File::create(at("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("booted: another run is on, waiting for its end");
            wait_until(OTHER_RUN, "the other run ends", || {
                flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            });
        }
        restore_limits()?;
        fs::create_dir_all(at("limits.new"))?;
        for entry in fs::read_dir(INOTIFY)? {
            let entry = entry?;
            fs::write(
                at("limits.new").join(entry.file_name()),
                fs::read(entry.path())?,
            )?;
        }
        // Only a whole set of limits has this name.
        fs::rename(at("limits.new"), at("limits"))?;
        Ok(Self { _lock: lock })
    }
}

/// Where the container's console goes.
pub fn console() -> PathBuf {
    at("console.log")
}

/// An empty directory to mount the container's file system on.
pub fn mount_point() -> io::Result<PathBuf> {
    fs::create_dir_all(at("machine"))?;
    Ok(at("machine"))
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = restore_limits() {
            eprintln!("booted: the inotify limits are not what they were: {error}");
        }
    }
}

/// Writes the limits back that were in force before a run.
fn restore_limits() -> io::Result<()> {
    let saved = match fs::read_dir(at("limits")) {
        Ok(saved) => saved,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in saved {
        let entry = entry?;
        fs::write(
            Path::new(INOTIFY).join(entry.file_name()),
            fs::read(entry.path())?,
        )?;
    }
    fs::remove_dir_all(at("limits"))
}

fn at(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}
