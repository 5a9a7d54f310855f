//! A target on this machine: rsync is the receiver there too, and needs the rights of one.
//!
//! The unit's sandbox takes these rights from the service, since a mirror to other machines only reads. That is said
//! once and plainly, instead of letting every path fail.
//!
//! rsync is given the name of the directory, which a file system may leave and come back to at any time. So the
//! directory is [pinned](Pinned) while runs are made, and before and after each of them the name must lead to it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::lasting::{Difference, Lasting};
use crate::path::proc_path;

/// Where the drop-in that gives them is explained.
const HELP: &str = "if the unit's sandbox is the cause, its drop-in local-target.conf opens it; see sersync@.service(8)";

/// A target directory, held open. As long as it is, the file system that it is on can be unmounted but lazily.
#[derive(Debug)]
pub struct Pinned {
    path: PathBuf,
    dir: OwnedFd,
    lasting: Lasting,
}

/// A name does not lead to the pinned directory any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Astray {
    /// It leads to none: why, and what to do.
    Missing(String),
    /// It leads to another one.
    Other(Difference),
}

/// Which directory it is, and under which mount; the latter on kernels from 5.8. While one of a mount is held open the
/// number of that mount is not used again, so this also tells what was unmounted and has been mounted again since.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    inode: u64,
    mount: Option<u64>,
}

impl Pinned {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Why not, and what to do. A missing directory is never made: it may be a file system that is not mounted.
    pub fn open(path: &Path) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(words)?;
        let lasting = Lasting::of(&dir)
            .map_err(|error| format!("the target directory cannot be looked at: {error}"))?;
        Ok(Self {
            path: path.to_owned(),
            dir,
            lasting,
        })
    }

    /// Whether files can be put there at all.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check_writable(&self) -> Result<(), String> {
        match rustix::fs::access(proc_path(self.dir.as_fd()), Access::WRITE_OK) {
            Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => Err(format!(
                "the target directory cannot be written ({errno}); {HELP}"
            )),
            _ => Ok(()),
        }
    }

    /// Which directory it is, also after the next boot.
    #[must_use]
    pub fn lasting(&self) -> Lasting {
        self.lasting
    }

    /// Whether its name leads to it still, and has not led elsewhere since it was opened, as far as that can be told.
    ///
    /// # Errors
    /// Where the name leads instead.
    pub fn check_name(&self) -> Result<(), Astray> {
        let now = Self::open(&self.path).map_err(Astray::Missing)?;
        let places = place(&self.dir).and_then(|was| Ok(was == place(&now.dir)?));
        if places.map_err(|errno| Astray::Missing(words(errno)))? {
            return Ok(());
        }
        let difference = self.lasting.differs(&now.lasting);
        Err(Astray::Other(difference.unwrap_or(Difference::Meanwhile)))
    }
}

fn place(dir: impl AsFd) -> Result<Place, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let mask = StatxFlags::INO | StatxFlags::MNT_ID;
    match rustix::fs::statx(&dir, c"", flags, mask) {
        Ok(stat) => {
            let given = StatxFlags::from_bits_retain(stat.stx_mask);
            Ok(Place {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                mount: given
                    .contains(StatxFlags::MNT_ID)
                    .then_some(stat.stx_mnt_id),
            })
        }
        // A kernel before 4.11.
        Err(Errno::NOSYS) => {
            let stat = rustix::fs::fstat(dir)?;
            Ok(Place {
                device: (
                    rustix::fs::major(stat.st_dev),
                    rustix::fs::minor(stat.st_dev),
                ),
                inode: stat.st_ino,
                mount: None,
            })
        }
        Err(errno) => Err(errno),
    }
}

fn words(errno: Errno) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR => {
            "the target directory does not exist; make or mount it".into()
        }
        _ => format!("the target directory cannot be opened ({errno})"),
    }
}

/// What root lacks of a receiver's rights; `None` if nothing, or if this is not root, who knows.
#[must_use]
pub fn missing_rights() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let needed = [
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (CapabilitySet::FOWNER, "CAP_FOWNER"),
    ];
    let held = rustix::thread::capabilities(None).ok()?.effective;
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(capability, _)| !held.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!("it may fail to keep owners and modes without {missing}; {HELP}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_astray_as_soon_as_it_is_gone_or_anothers() -> std::io::Result<()> {
        let temp = tempfile::tempdir()?;
        let (at, away) = (temp.path().join("target"), temp.path().join("away"));
        std::fs::create_dir(&at)?;
        let pinned = Pinned::open(&at).map_err(std::io::Error::other)?;
        assert_eq!(pinned.check_name(), Ok(()));
        assert_eq!(pinned.check_writable(), Ok(()));
        std::fs::rename(&at, &away)?;
        let missing = pinned.check_name();
        assert!(matches!(missing, Err(Astray::Missing(_))), "{missing:?}");
        std::fs::create_dir(&at)?;
        let other = pinned.check_name();
        assert!(matches!(other, Err(Astray::Other(_))), "{other:?}");
        std::fs::remove_dir(&at)?;
        std::os::unix::fs::symlink(&away, &at)?;
        assert_eq!(pinned.check_name(), Ok(()), "a link leads there as well");
        Ok(())
    }
}
