//! What is mounted, as the kernel tells it: `/proc/self/mountinfo`, see proc(5). It is read again only when poll(2) says
//! that something has changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::path::{Identity, RelPath, SourceRoot};

const TABLE: &str = "/proc/self/mountinfo";

/// File systems of the kernel's own, in which nobody keeps files.
const KERNEL_ITS_OWN: [&[u8]; 22] = [
    b"autofs",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nsfs",
    b"proc",
    b"pstore",
    b"ramfs",
    b"rpc_pipefs",
    b"securityfs",
    b"selinuxfs",
    b"sysfs",
    b"tracefs",
];

/// What poll says when the table has changed.
pub const CHANGED: PollFlags = PollFlags::PRI;

/// What tells a mount from another at the same place: its number, which is used again as soon as it is free, the device
/// and the directory of it, as the table has them.
pub type Mounted = Vec<u8>;

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    what: Mounted,
    /// The mount point.
    at: Vec<u8>,
    /// The name of its kind of file system.
    kind: Vec<u8>,
}

/// The table, held open.
#[derive(Debug)]
pub struct MountTable {
    file: File,
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Opens it.
    ///
    /// # Errors
    /// What the kernel says; there may be no `/proc`.
    pub fn open() -> io::Result<Self> {
        let mut table = Self {
            file: File::open(TABLE)?,
            mounts: Vec::new(),
        };
        table.read()?;
        Ok(table)
    }

    /// Reads it again, after poll has said that it has changed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        self.mounts = parse(&text);
        Ok(())
    }

    /// Reads it again if it has changed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn refresh(&mut self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.file, CHANGED)];
        // The kernel tells a change once, so after an error it is read in any case.
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) => Ok(()),
            _ => self.read(),
        }
    }

    /// The mount points below a root, each with what is mounted there.
    ///
    /// # Errors
    /// The root has no path.
    pub fn below(&self, root: &SourceRoot) -> io::Result<BTreeMap<RelPath, Mounted>> {
        let path = std::fs::read_link(root.proc_path())?;
        // A root that was unmounted lazily has a path that means another directory.
        if Identity::of(&rustix::fs::stat(&path)?) != root.identity() {
            return Ok(BTreeMap::new());
        }
        Ok(below(&self.mounts, path.as_os_str().as_bytes()))
    }
}

impl AsFd for MountTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn below(mounts: &[Mount], root: &[u8]) -> BTreeMap<RelPath, Mounted> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let mut found = BTreeMap::new();
    for mount in mounts {
        let path = mount.at.strip_prefix(root);
        let path = path.and_then(|path| path.strip_prefix(b"/"));
        let Some(path) = path.and_then(RelPath::new).filter(|path| !path.is_root()) else {
            continue;
        };
        // The last one is on top.
        if KERNEL_ITS_OWN.contains(&&mount.kind[..]) {
            found.remove(&path);
        } else {
            found.insert(path, mount.what.clone());
        }
    }
    found
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(text: &[u8]) -> Vec<Mount> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (id, _parent, device, directory) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let what = [id, device, directory].join(&b' ');
    let at = unescaped(fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?.to_vec();
    Some(Mount { what, at, kind })
}

/// Blanks, line ends and backslashes are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let byte = code.unwrap_or(*first);
        bytes.push(byte);
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        36 21 98:0 /mnt1 /data/vol rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
        37 36 0:5 / /data/vol/a\\040b\\134c rw - tmpfs tmpfs rw\n\
        38 36 0:6 / /database rw - tmpfs tmpfs rw\n\
        39 36 0:7 / /data/proc rw - proc proc rw\n\
        40 36 0:8 / /data/vol rw - xfs /dev/b rw\n\
        garbage\n";

    fn names(root: &[u8]) -> Vec<(String, String)> {
        let found = below(&parse(TEXT), root).into_iter();
        found
            .map(|(path, what)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(path.as_bytes()), text(&what))
            })
            .collect()
    }

    #[test]
    fn mount_points_below_a_root_are_found_with_what_is_on_top() {
        let expected = [("vol", "40 0:8 /"), ("vol/a b\\c", "37 0:5 /")];
        let expected = expected.map(|(path, what)| (path.to_owned(), what.to_owned()));
        assert_eq!(names(b"/data"), expected);
        assert_eq!(names(b"/data/vol/a"), []);
        assert_eq!(names(b"/")[0].0, "data/vol");
    }

    #[test]
    fn the_table_of_this_process_can_be_read() {
        let mut table = MountTable::open().expect("there is a /proc");
        table.refresh().expect("read");
        assert!(!table.mounts.is_empty());
    }
}
