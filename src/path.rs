//! Paths as the mirror sees them: bytes, relative to a source root that is held open.
//!
//! A file name may hold any byte but `/` and NUL, so nothing here is ever a `str`. A [`RelPath`] orders by component,
//! which keeps everything below a directory in one contiguous range behind it: the dirty set relies on that.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::lasting::Lasting;

/// The longest list entry rsync takes: `MAXPATHLEN` is 4096 with its NUL, and each name carries `./` before it.
/// A longer one is dropped by rsync without a word (measured with 3.5.0), so it must never be listed.
pub const LONGEST_LISTED: usize = 4093;

/// A path below a source root: no leading or trailing `/`, no empty component, no `.` or `..`, no NUL.
/// The empty path is the root itself. Clones share the bytes, so that a change costs one allocation for all lanes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Arc<[u8]>);

impl RelPath {
    /// The source root itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from([].as_slice()))
    }

    /// Takes bytes as a relative path; `None` unless they fulfil the type's promise.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let valid = bytes.is_empty()
            || bytes
                .split(|byte| *byte == b'/')
                .all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0));
        valid.then(|| Self(Arc::from(bytes)))
    }

    /// A relative path as an administrator writes it; `None` if it goes up, or is absolute.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        path.components()
            .filter(|part| *part != Component::CurDir)
            .try_fold(Self::root(), |dir, part| match part {
                Component::Normal(name) => Some(dir.join(name.as_bytes())),
                _ => None,
            })
    }

    /// The entry `name` of this directory. `name` comes from the kernel: one component, never `.` or `..`.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
        if self.is_root() {
            return Self(Arc::from(name));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self(Arc::from(bytes))
    }

    /// The directory this path is an entry of; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(Arc::from(&self.0[..end])))
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
    }

    /// Every directory above this path, from the first below the root down to the parent.
    pub fn ancestors_below_root(&self) -> impl Iterator<Item = Self> + '_ {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| Self(Arc::from(&self.0[..at])))
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || (self.0.starts_with(&other.0)
                && matches!(self.0.get(other.0.len()), None | Some(b'/')))
    }

    /// Number of components; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        if self.is_root() {
            return 0;
        }
        self.0.split(|byte| *byte == b'/').count()
    }

    /// The first `depth` components.
    #[must_use]
    pub fn truncated(&self, depth: usize) -> Self {
        if depth == 0 {
            return Self::root();
        }
        let cut = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        match cut.map(|(at, _)| at).nth(depth - 1) {
            Some(at) => Self(Arc::from(&self.0[..at])),
            None => self.clone(),
        }
    }

    /// Whether this is the source root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, as the kernel knows them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For file system calls relative to the root; `.` for the root itself.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        if self.is_root() {
            return Path::new(".");
        }
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // No name holds NUL, so `/` counted as NUL makes a directory's content follow it directly.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        fmt::Display::fmt(&escaped(&self.0), f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escaped(&self.0))
    }
}

/// Shows bytes on one line of a log: UTF-8 as it is, control characters and stray bytes as `\n` or `\xFF`.
#[must_use]
pub fn escaped(bytes: &[u8]) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a [u8]);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for chunk in self.0.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() || c == '\\' {
                        write!(f, "{}", c.escape_default())?;
                    } else {
                        write!(f, "{c}")?;
                    }
                }
                for byte in chunk.invalid() {
                    write!(f, "\\x{byte:02X}")?;
                }
            }
            Ok(())
        }
    }
    Escaped(bytes)
}

/// Which directory a root is: a name may come to mean another one, this does not.
/// Good within one boot only, since device numbers are handed out anew by the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

impl Identity {
    /// Identity of what was looked at.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// A source directory, held open: the name may be unmounted, replaced or removed, this stays what it was.
#[derive(Debug)]
pub struct SourceRoot {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    identity: Identity,
    lasting: Lasting,
}

impl SourceRoot {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// What the kernel says: it is missing, no directory, not to be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let identity = Identity::of(&rustix::fs::fstat(&fd)?);
        let lasting = Lasting::of(&fd)?;
        Ok(Self {
            path: path.to_owned(),
            fd: Arc::new(fd),
            identity,
            lasting,
        })
    }

    /// The name it was opened under.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which directory it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Which directory it is, also after the next boot.
    #[must_use]
    pub fn lasting(&self) -> Lasting {
        self.lasting
    }

    /// Whether it is a certain directory. Device numbers are used again as soon as they are free, so within a process
    /// too they are not enough.
    #[must_use]
    pub fn is(&self, identity: Identity, lasting: &Lasting) -> bool {
        self.identity == identity && lasting.differs(&self.lasting).is_none()
    }

    /// A name for exactly this directory, for a child's working directory and for inotify.
    #[must_use]
    pub fn proc_path(&self) -> PathBuf {
        proc_path(self.fd.as_fd())
    }

    /// What holds it open, for whoever starts a child in it later.
    #[must_use]
    pub fn handle(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// What stands under the root's name now.
    ///
    /// # Errors
    /// What the kernel says: the root is missing or its parents cannot be searched.
    pub fn identity_at_path(&self) -> io::Result<Identity> {
        Ok(Identity::of(&rustix::fs::stat(&self.path)?))
    }

    /// Whether the root has no entry at all, as a mount point without its mount.
    ///
    /// # Errors
    /// What the kernel says about reading it.
    pub fn is_empty(&self) -> io::Result<bool> {
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A directory itself, never what a link leads to.
    const REAL: OFlags = OFlags::DIRECTORY
        .union(OFlags::CLOEXEC)
        .union(OFlags::NOFOLLOW);

    /// Opens a directory below the root without following any symbolic link on the way, and never out of the root.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory` and `ELOOP` (a link on the way) say that the path is not what it was.
    pub fn open_dir(&self, dir: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | Self::REAL;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, dir.as_path(), flags, Mode::empty(), resolve) {
            // A kernel before 5.6, or a sandbox: systemd's RestrictSUIDSGID=yes takes this call away.
            Err(Errno::NOSYS) => self.open_dir_by_steps(dir, flags),
            opened => Ok(opened?),
        }
    }

    /// The same without openat2: as no step follows a link or goes up, the end is as surely below the root.
    fn open_dir_by_steps(&self, dir: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let (step, flags) = (OFlags::PATH | Self::REAL, flags | Self::REAL);
        let mut at = rustix::fs::openat(&self.fd, ".", step, Mode::empty())?;
        if dir.is_root() {
            return Ok(rustix::fs::openat(&at, ".", flags, Mode::empty())?);
        }
        let mut names = dir.as_bytes().split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let flags = if names.peek().is_some() { step } else { flags };
            at = rustix::fs::openat(&at, OsStr::from_bytes(name), flags, Mode::empty())?;
        }
        Ok(at)
    }
}

impl AsFd for SourceRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name for an open descriptor of this process.
#[must_use]
pub fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Looks at an entry of an open directory without following it.
///
/// # Errors
/// What the kernel says; `NotFound` is the usual one.
pub fn look(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Stat> {
    Ok(rustix::fs::statat(
        dir,
        OsStr::from_bytes(name),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn only_clean_relative_paths_are_taken() {
        for bad in ["/a", "a/", "a//b", ".", "a/..", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(RelPath::new(b"\xFF/-x/#;`y`").is_some());
    }

    #[test]
    fn a_directory_is_followed_directly_by_its_content() {
        let mut paths = ["a.b", "a/z", "a", "a-", "a/b/c", "a b"].map(path);
        paths.sort();
        assert_eq!(paths, ["a", "a/b/c", "a/z", "a b", "a-", "a.b"].map(path));
    }

    #[test]
    fn within_is_by_component() {
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&RelPath::root()));
        assert!(!path("ab").is_within(&path("a")));
    }

    #[test]
    fn truncating_keeps_the_first_components() {
        assert_eq!(path("a/b/c").truncated(2), path("a/b"));
        assert_eq!(path("a/b").truncated(5), path("a/b"));
        assert_eq!(path("a/b").truncated(0), RelPath::root());
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
    }

    #[test]
    fn odd_names_are_shown_on_one_line() {
        assert_eq!(path("a\nb").to_string(), "a\\nb");
        let stray = RelPath::new(b"\xFFx").expect("valid").to_string();
        assert_eq!(stray, "\\xFFx");
    }

    #[test]
    fn a_directory_is_opened_below_the_root_with_and_without_openat2() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path().join("real/deep")).expect("made");
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("made");
        std::fs::write(dir.path().join("file"), "").expect("made");
        let root = SourceRoot::open(dir.path()).expect("it is there");
        let at_once = |dir: &RelPath| root.open_dir(dir, OFlags::RDONLY).is_ok();
        let by_steps = |dir: &RelPath| root.open_dir_by_steps(dir, OFlags::RDONLY).is_ok();
        for opens in [&at_once as &dyn Fn(&RelPath) -> bool, &by_steps] {
            assert!(opens(&RelPath::root()) && opens(&path("real/deep")));
            for not in ["link", "link/deep", "file", "file/x", "gone", "gone/x"] {
                assert!(!opens(&path(not)), "{not}");
            }
        }
    }
}
