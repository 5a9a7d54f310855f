//! The comparison of whole trees: what a mirror has to carry, and in words what it did not.
//!
//! Two trees are equal when every name below their roots has the same kind, mode, owner, content, link target and
//! device number, and the same time: of files to the nanosecond, of everything else to the second, because that is
//! as far as rsync looks at directories, links and special files. The roots themselves are not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File { bytes: u64 },
    Directory,
    Symlink { target: PathBuf },
    Fifo,
    Socket,
    Device { block: bool, number: u64 },
}

/// One name and all that a mirror carries of it, but for a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds, and nanoseconds for a file.
    pub modified: (i64, i64),
    /// Device and inode: equal for the names of one file.
    pub identity: (u64, u64),
    /// How many names the file has, here and elsewhere.
    pub names: u64,
}

/// Every name below a root, by its path relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Reads the tree below `root`. What vanishes meanwhile is left out.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut unread = vec![PathBuf::new()];
        while let Some(directory) = unread.pop() {
            let Some(entries) = unless_gone(fs::read_dir(root.join(&directory)))? else {
                continue;
            };
            for entry in entries {
                let path = directory.join(entry?.file_name());
                if let Some(node) = unless_gone(Node::read(&root.join(&path)))? {
                    if node.kind == Kind::Directory {
                        unread.push(path.clone());
                    }
                    nodes.insert(path, node);
                }
            }
        }
        let root = root.to_path_buf();
        Ok(Self { root, nodes })
    }

    /// The tree without some entries, which are told by path and by whether they are directories, and what is in them.
    /// Times of directories count for nothing then: what is left out sets them too.
    pub fn without(mut self, is_excluded: impl Fn(&Path, bool) -> bool) -> Self {
        let excluded: Vec<PathBuf> = self
            .nodes
            .iter()
            .filter(|(path, node)| is_excluded(path, node.kind == Kind::Directory))
            .map(|(path, _)| path.clone())
            .collect();
        for node in self.nodes.values_mut() {
            if node.kind == Kind::Directory {
                node.modified = (0, 0);
            }
        }
        self.nodes.retain(|path, _| {
            !path
                .ancestors()
                .any(|dir| excluded.iter().any(|it| it == dir))
        });
        self
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The paths of another tree that this one has not.
    pub fn lacks<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Path> {
        let missing = |path: &&PathBuf| !self.nodes.contains_key(*path);
        other.nodes.keys().filter(missing).map(PathBuf::as_path)
    }

    /// Whether some path of the tree has `name` as a component.
    pub fn has_name(&self, name: impl AsRef<OsStr>) -> bool {
        let name = name.as_ref();
        self.nodes
            .keys()
            .any(|path| path.iter().any(|component| component == name))
    }

    /// One sentence for each thing in which `replica` is not like `self`; none when they are equal.
    ///
    /// Contents are read where they are all that can differ, and where a difference in time makes one wonder.
    pub fn differences(&self, replica: &Self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let mut same_kind = Vec::new();
        for (path, node) in &self.nodes {
            match replica.nodes.get(path) {
                None => found.push(format!(
                    "{} is missing at the replica ({:?})",
                    shown(path),
                    node.kind
                )),
                Some(copy) => {
                    let names = match (&node.kind, node.names) {
                        (Kind::File { .. }, 2..) => format!(" (one of {} names)", node.names),
                        _ => String::new(),
                    };
                    node.differences(copy, |what| {
                        found.push(format!("{}{names} {what}", shown(path)));
                    });
                    if matches!(node.kind, Kind::File { .. }) && node.kind == copy.kind {
                        same_kind.push(path);
                    }
                }
            }
        }
        for (path, copy) in &replica.nodes {
            if !self.nodes.contains_key(path) {
                found.push(format!(
                    "{} is only at the replica ({:?})",
                    shown(path),
                    copy.kind
                ));
            }
        }
        if found.len() < 50 {
            for path in same_kind {
                let what = content_difference(&self.root.join(path), &replica.root.join(path))?;
                found.extend(what.map(|what| format!("{} {what}", shown(path))));
            }
        }
        Ok(found)
    }

    /// The groups of names that are one file, for files with more than one name in this tree.
    pub fn hard_links(&self) -> BTreeSet<BTreeSet<PathBuf>> {
        let mut names: BTreeMap<(u64, u64), BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if matches!(node.kind, Kind::File { .. }) {
                names.entry(node.identity).or_default().insert(path.clone());
            }
        }
        names
            .into_values()
            .filter(|group| group.len() > 1)
            .collect()
    }
}

impl Node {
    /// Reads one name, not following links.
    pub fn read(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = Kind::of(path, &metadata)?;
        let nanoseconds = if metadata.is_file() {
            metadata.mtime_nsec()
        } else {
            0
        };
        Ok(Self {
            // Every link has the mode 777 on Linux, whatever it was made with.
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), nanoseconds),
            identity: (metadata.dev(), metadata.ino()),
            names: metadata.nlink(),
            kind,
        })
    }

    fn differences(&self, copy: &Self, mut say: impl FnMut(String)) {
        if self.kind != copy.kind {
            // Nothing else can be compared between a file and a directory.
            return say(format!(
                "is {:?}, at the replica {:?}",
                self.kind, copy.kind
            ));
        }
        if self.mode != copy.mode {
            say(format!(
                "has mode {:o}, at the replica {:o}",
                self.mode, copy.mode
            ));
        }
        if self.owner != copy.owner {
            say(format!(
                "belongs to {:?}, at the replica to {:?}",
                self.owner, copy.owner
            ));
        }
        if self.modified != copy.modified {
            let shown = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
            say(format!(
                "is of {}, at the replica of {}",
                shown(self.modified),
                shown(copy.modified)
            ));
        }
    }
}

impl Kind {
    fn of(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        let kind = metadata.file_type();
        Ok(if kind.is_dir() {
            Self::Directory
        } else if kind.is_symlink() {
            Self::Symlink {
                target: fs::read_link(path)?,
            }
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else if kind.is_block_device() || kind.is_char_device() {
            Self::Device {
                block: kind.is_block_device(),
                number: metadata.rdev(),
            }
        } else {
            Self::File {
                bytes: metadata.len(),
            }
        })
    }
}

/// A path as it can be read, and told from every other one.
fn shown(path: &Path) -> String {
    format!("\"{}\"", path.as_os_str().as_bytes().escape_ascii())
}

/// Where two files of one length begin to differ.
fn content_difference(here: &Path, there: &Path) -> io::Result<Option<String>> {
    let (source, copy) = (unless_gone(fs::read(here))?, unless_gone(fs::read(there))?);
    let (Some(source), Some(copy)) = (source, copy) else {
        return Ok(Some("vanished while it was compared".to_owned()));
    };
    if source == copy {
        return Ok(None);
    }
    let at = source.iter().zip(&copy).take_while(|(a, b)| a == b).count();
    Ok(Some(format!(
        "has other content from byte {at} of {} on",
        source.len()
    )))
}

/// `None` for what vanished, or changed its kind, between the look at its parent and the look at itself.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput => Ok(None),
            _ => Err(error),
        },
    }
}
