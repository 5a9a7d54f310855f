//! What identifies a directory across reboots and remounts, and in what two such identities differ.
//!
//! A device number is handed out anew by each boot and each mount, so it is no part of this; within one process it is,
//! see [`crate::path::Identity`]. What lasts, and why it counts:
//!
//! | field | what it tells apart | where it is left out |
//! |---|---|---|
//! | kind of the file system | a bare mount point from what is mounted there | nowhere |
//! | volume | a disk from another with the same layout: `f_fsid` | all but ext2/3/4 and btrfs, which make it from their UUID. That of xfs is its device number, that of tmpfs another at each mount, that of nfs 0 |
//! | inode number | a directory from the one that took its name | vfat, exfat, fuse, 9p, cifs, overlay: they number anew at each mount |
//! | time of birth | an inode number that was used again, a new file system with the inode numbers of any new one | where the file system has none |
//! | a mount point or not | a bare mount point where all else is the same | where the time of birth is known: a sandbox may bind a directory onto itself |

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// `f_type` of ext2, ext3 and ext4.
const EXT: u64 = 0xEF53;
/// `f_type` of btrfs.
const BTRFS: u64 = 0x9123_683E;
/// Those of vfat, exfat, fuse, 9p, smb2, cifs and overlay.
const NUMBER_ANEW: [u64; 7] = [
    0x4d44,
    0x2011_BAB0,
    0x6573_5546,
    0x0102_1997,
    0xFE53_4D42,
    0xFF53_4D42,
    0x794C_7630,
];

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// `f_type` of its file system.
    pub kind: u64,
    /// `f_fsid` of its file system, where that lasts.
    pub volume: Option<u64>,
    /// Inode number.
    pub inode: u64,
    /// When it was made, in nanoseconds since the epoch, where the file system knows.
    pub born: Option<i64>,
    /// Whether a file system is mounted there; `None` on kernels before 5.8.
    pub is_mount: Option<bool>,
}

/// In what a directory is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// The kind of the file system.
    Kind,
    /// The file system.
    Volume,
    /// The inode number.
    Inode,
    /// The time of birth.
    Born,
    /// It was a mount point, and is none now.
    Unmounted,
    /// It was no mount point, and is one now.
    Mounted,
    /// None that lasts: the name has led elsewhere meanwhile.
    Meanwhile,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "it is on a file system of another kind",
            Self::Volume => "it is on another file system",
            Self::Inode => "its inode number is another",
            Self::Born => "it was made at another time",
            Self::Unmounted => "a file system was mounted there, and none is now",
            Self::Mounted => "no file system was mounted there, and one is now",
            Self::Meanwhile => "it was unmounted or replaced while it was in use",
        })
    }
}

impl Lasting {
    /// Identity of an open directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(dir: impl AsFd) -> io::Result<Self> {
        let dir = dir.as_fd();
        let kind = rustix::fs::fstatfs(dir)?.f_type.cast_unsigned();
        let volume = match kind {
            EXT | BTRFS => match rustix::fs::fstatvfs(dir)?.f_fsid {
                0 => None,
                volume => Some(volume),
            },
            _ => None,
        };
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let mask = StatxFlags::INO | StatxFlags::BTIME;
        match rustix::fs::statx(dir, c"", flags, mask) {
            Ok(stat) => {
                let has_birth =
                    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
                let birth = stat.stx_btime;
                let nanos = birth
                    .tv_sec
                    .checked_mul(1_000_000_000)
                    .and_then(|nanos| nanos.checked_add(birth.tv_nsec.into()));
                // Some file systems say that they know, and give the epoch.
                let born = nanos.filter(|nanos| has_birth && *nanos != 0);
                let says_mounts = stat
                    .stx_attributes_mask
                    .contains(StatxAttributes::MOUNT_ROOT);
                let is_mount =
                    says_mounts.then(|| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
                Ok(Self {
                    kind,
                    volume,
                    inode: stat.stx_ino,
                    born,
                    is_mount,
                })
            }
            // A kernel before 4.11.
            Err(Errno::NOSYS) => Ok(Self {
                kind,
                volume,
                inode: rustix::fs::fstat(dir)?.st_ino,
                born: None,
                is_mount: None,
            }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// In what `now` is not this directory; `None` if it is, as far as that can be told. What only one of the two knows
    /// says nothing: the kernel may have changed between them.
    #[must_use]
    pub fn differs(&self, now: &Self) -> Option<Difference> {
        if self.kind != now.kind {
            return Some(Difference::Kind);
        }
        if is_other(self.volume, now.volume) {
            return Some(Difference::Volume);
        }
        if self.inode != now.inode && !NUMBER_ANEW.contains(&self.kind) {
            return Some(Difference::Inode);
        }
        match (self.born, now.born) {
            (Some(one), Some(other)) if one != other => return Some(Difference::Born),
            (Some(_), Some(_)) => return None,
            _ => {}
        }
        match (self.is_mount, now.is_mount) {
            (Some(true), Some(false)) => Some(Difference::Unmounted),
            (Some(false), Some(true)) => Some(Difference::Mounted),
            _ => None,
        }
    }

    /// Whether this tells more than that two directories look alike.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.born.is_some() || self.volume.is_some()
    }
}

fn is_other(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const XFS: u64 = 0x5846_5342;
    const VFAT: u64 = 0x4d44;

    fn disk() -> Lasting {
        Lasting {
            kind: EXT,
            volume: Some(7),
            inode: 2,
            born: Some(1_700_000_000_000_000_000),
            is_mount: Some(true),
        }
    }

    #[test]
    fn each_field_tells_directories_apart() {
        let was = disk();
        assert_eq!(was.differs(&was), None);
        let others = [
            (Lasting { kind: XFS, ..was }, Difference::Kind),
            (
                Lasting {
                    volume: Some(8),
                    ..was
                },
                Difference::Volume,
            ),
            (
                Lasting {
                    inode: 131_073,
                    ..was
                },
                Difference::Inode,
            ),
            (
                Lasting {
                    born: Some(1),
                    ..was
                },
                Difference::Born,
            ),
        ];
        for (now, difference) in others {
            assert_eq!(was.differs(&now), Some(difference));
        }
    }

    #[test]
    fn a_bare_mount_point_is_told_by_that_where_nothing_else_tells() {
        let was = Lasting {
            born: None,
            ..disk()
        };
        let bare = Lasting {
            is_mount: Some(false),
            ..was
        };
        assert_eq!(was.differs(&bare), Some(Difference::Unmounted));
        assert_eq!(bare.differs(&was), Some(Difference::Mounted));
        // A sandbox binds a directory onto itself.
        let bound = Lasting {
            is_mount: Some(false),
            ..disk()
        };
        assert_eq!(disk().differs(&bound), None);
    }

    #[test]
    fn what_is_made_anew_at_each_mount_does_not_count() {
        let was = Lasting {
            kind: VFAT,
            volume: None,
            born: None,
            ..disk()
        };
        assert_eq!(was.differs(&Lasting { inode: 77, ..was }), None);
        assert!(!was.is_certain());
    }

    #[test]
    fn a_directory_and_what_takes_its_name_differ() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let look = |name: &str| {
            let dir = std::fs::File::open(temp.path().join(name)).expect("opened");
            Lasting::of(&dir).expect("looked at")
        };
        std::fs::create_dir(temp.path().join("a")).expect("made");
        let was = look("a");
        assert_eq!(was.differs(&look("a")), None);
        std::fs::rename(temp.path().join("a"), temp.path().join("b")).expect("renamed");
        std::fs::create_dir(temp.path().join("a")).expect("made");
        assert!(was.differs(&look("a")).is_some());
        assert_eq!(was.differs(&look("b")), None);
    }

    fn any_lasting() -> impl Strategy<Value = Lasting> {
        let kind = prop_oneof![Just(EXT), Just(XFS), Just(VFAT)];
        let number = || proptest::option::of(0..2_u64);
        let born = proptest::option::of(1..3_i64);
        let mount = proptest::option::of(any::<bool>());
        (kind, number(), 0..2_u64, born, mount).prop_map(|(kind, volume, inode, born, is_mount)| {
            Lasting {
                kind,
                volume,
                inode,
                born,
                is_mount,
            }
        })
    }

    proptest! {
        #[test]
        fn whether_two_differ_does_not_depend_on_which_came_first(one in any_lasting(), other in any_lasting()) {
            prop_assert_eq!(one.differs(&one), None);
            prop_assert_eq!(one.differs(&other).is_some(), other.differs(&one).is_some());
        }

        #[test]
        fn a_field_that_nobody_knew_before_holds_nothing_up(was in any_lasting(), volume in any::<u64>(), born in 1..9_i64) {
            let before = Lasting { volume: None, born: None, is_mount: None, ..was };
            let now = Lasting { volume: Some(volume), born: Some(born), ..was };
            prop_assert_eq!(before.differs(&now), None);
        }
    }
}
