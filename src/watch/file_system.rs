//! File systems that other machines, or programs behind them, write to as well. inotify tells what this machine does
//! through the mount, and nothing of what the others do: there the source has to be compared every so often.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A file system of which not every change is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Where it is mounted.
    pub mounted_at: PathBuf,
    /// What it is, as in `mount -t`.
    pub kind: String,
}

/// The file systems, by the names of the kernel, that several machines may write to, and those of programs, of which
/// nobody knows what they do.
const SHARED: [&str; 24] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// The first file system of that kind that a source is on, or that is mounted below it.
///
/// # Errors
/// The source is not there.
pub fn shared(source: &Path) -> io::Result<Option<Shared>> {
    let real = source.canonicalize()?;
    if let Ok(mounts) = std::fs::read("/proc/self/mountinfo") {
        return Ok(shared_among(&mounts, &real));
    }
    // Without /proc the number of the file system says less: of programs, also those that read a local disk.
    let root = std::fs::File::open(&real)?;
    let magic = rustix::fs::fstatfs(root.as_fd())?.f_type;
    Ok(
        kind_of(u32::try_from(magic & 0xffff_ffff).unwrap_or(0)).map(|kind| Shared {
            mounted_at: real,
            kind: kind.into(),
        }),
    )
}

/// As [`shared`], among the mounts of `/proc/self/mountinfo`. `source` has no links in it.
fn shared_among(mounts: &[u8], source: &Path) -> Option<Shared> {
    let all: Vec<Shared> = mounts
        .split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect();
    // What is mounted later covers what was there.
    let above = all
        .iter()
        .enumerate()
        .filter(|(_, mount)| source.starts_with(&mount.mounted_at));
    let under = above.max_by_key(|(at, mount)| (mount.mounted_at.as_os_str().len(), *at));
    let below = all.iter().filter(|mount| {
        mount.mounted_at.starts_with(source) && mount.mounted_at.as_path() != source
    });
    let mut candidates = under.map(|(_, mount)| mount).into_iter().chain(below);
    candidates.find(|mount| is_shared(&mount.kind)).cloned()
}

/// A line: numbers, the root, the mount point, options, optional fields, ` - `, the kind. See proc_pid_mountinfo(5).
fn mount(line: &[u8]) -> Option<Shared> {
    let mut words = line.split(|byte| *byte == b' ');
    let point = words.nth(4)?;
    let mut words = words.skip_while(|word| *word != b"-");
    let kind = words.nth(1)?;
    Some(Shared {
        mounted_at: std::ffi::OsString::from_vec(unescaped(point)).into(),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Blanks, line ends and backslashes stand there as a backslash with three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte {
            plain.push(byte);
            rest = &after[3..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

/// Whether others may write to a file system of this kind. `fuseblk` is a program that reads a local disk, to which
/// nobody has another way.
fn is_shared(kind: &str) -> bool {
    SHARED.contains(&kind) || kind.starts_with("fuse.")
}

/// The name of a file system by the number that statfs gives it; `None` if this machine alone writes to it.
fn kind_of(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "nfs",
        0x0000_517b => "smbfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb3",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x1983_0326 => "beegfs",
        0x2003_0528 => "orangefs",
        0x786f_4256 => "vboxsf",
        0x7c7c_6673 => "prl_fs",
        0xbacb_acbc => "vmhgfs",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:40 / /srv/web rw shared:5 master:2 - nfs4 host:/web rw,vers=4.2\n\
31 22 0:41 / /data/a\\040b/deep rw - fuse.sshfs u@h:/ rw\n\
32 22 8:2 / /win rw - fuseblk /dev/sda2 rw\n\
33 22 0:42 / /srv/web/local rw - tmpfs tmpfs rw\n\
34 22 0:43 / /mnt rw - cifs //h/s rw\n\
35 34 0:44 / /mnt rw - tmpfs tmpfs rw\n";

    fn found(source: &str) -> Option<(String, String)> {
        shared_among(MOUNTS, Path::new(source)).map(|mount| {
            let at = mount.mounted_at.to_str().expect("text").to_owned();
            (mount.kind, at)
        })
    }

    #[test]
    fn a_source_on_a_network_file_system_is_found_and_one_with_such_a_mount_below_it() {
        let kind = |source: &str| found(source).map(|(kind, _)| kind);
        assert_eq!(kind("/srv/web").as_deref(), Some("nfs4"));
        assert_eq!(kind("/srv/web/pages").as_deref(), Some("nfs4"));
        assert_eq!(
            found("/data"),
            Some(("fuse.sshfs".into(), "/data/a b/deep".into()))
        );
        assert_eq!(kind("/").as_deref(), Some("nfs4"));
    }

    #[test]
    fn a_local_source_is_none_whatever_is_mounted_beside_it_or_under_it() {
        for source in [
            "/home",
            "/srv/website",
            "/win",
            "/srv/web/local/x",
            "/mnt/x",
            "/data/x",
        ] {
            assert_eq!(found(source), None, "{source}");
        }
    }

    #[test]
    fn a_broken_line_is_passed_over() {
        for line in ["", "1 2 3", "1 2 3 / /x rw", "1 2 3 / /x rw -"] {
            assert_eq!(mount(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_number_of_statfs_tells_the_same() {
        let shared = [0x6969, 0xfe53_4d42, 0x6573_5546, 0x0102_1997];
        assert!(shared.into_iter().filter_map(kind_of).all(is_shared));
        let local = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
        assert!(local.into_iter().all(|magic| kind_of(magic).is_none()));
        let here = std::env::temp_dir();
        assert!(super::shared(&here).is_ok());
    }
}
