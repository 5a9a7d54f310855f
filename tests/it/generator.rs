//! Seeded random operations on a tree: everything programs do to files, in any order, thousands a second.
//!
//! The choices depend on the seed alone. The generator keeps a model of what it has made, so that most operations
//! hit something. A second generator in the same tree, or a link to elsewhere, makes some fail; those are counted
//! and forgotten. No pipes are made: rsync hangs when a file turns into one, and `kinds.rs` looks at that.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use rustix::io::Errno;

use crate::harness::pause;
use crate::names;

// The path is for those who share this file.
#[path = "generator/operations.rs"]
mod operations;

/// The tree is kept near this many names: large enough for whole subtrees, small enough to be compared often.
const NAMES: usize = 500;

/// Deeper than this nothing is made; renames of trees may go somewhat deeper.
const DEPTH: usize = 7;

/// One generator at work in one tree.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    root: PathBuf,
    outside: PathBuf,
    attributes: bool,
    hard_links: bool,
    known: Vec<Known>,
    parked: Vec<Known>,
    report: Report,
}

/// A name the generator believes in, relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Other,
}

/// What a generator has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Operations tried.
    pub operations: u64,
    /// Those of them that met something else than the model says.
    pub refused: u64,
}

impl Generator {
    /// A generator for the tree at `root`, which parks what it moves out of it in `outside`.
    ///
    /// With `attributes`, modes, owners and times are changed as well.
    pub fn new(seed: u64, root: PathBuf, outside: PathBuf, attributes: bool) -> Self {
        let rng = Rng::with_seed(seed);
        Self {
            rng,
            root,
            outside,
            attributes,
            hard_links: true,
            known: Vec::new(),
            parked: Vec::new(),
            report: Report::default(),
        }
    }

    /// The same without hard links.
    pub fn without_hard_links(mut self) -> Self {
        self.hard_links = false;
        self
    }

    /// Works for `time` in bursts.
    pub fn run(mut self, time: Duration) -> Report {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..self.rng.u32(1..250) {
                self.step();
            }
            pause(Duration::from_micros(self.rng.u64(0..8_000))); // interval between bursts
        }
        self.report
    }

    /// Does one operation.
    pub fn step(&mut self) {
        let full = self.known.len() > NAMES;
        let result = match self.rng.u32(0..100) {
            0..20 if full => self.remove_tree(),
            0..20 => self.write_file(),
            20..28 => self.overwrite_twice(),
            34..40 => self.save_atomically(),
            40..48 => self.make_directories(),
            48..56 => self.rename(Kind::File),
            56..61 => self.rename(Kind::Directory),
            61..71 => self.remove_file(),
            71..74 => self.remove_tree(),
            74..78 if self.hard_links => self.hard_link(),
            78..83 => self.symbolic_link(),
            83..86 => self.change_kind(),
            86..88 => self.exchange(),
            88..90 => self.put_back_older(),
            90..92 => self.move_out(),
            92..93 => self.move_in(),
            93..96 if self.attributes => self.change_mode(),
            96..98 if self.attributes => self.change_times(),
            98..100 if self.attributes => self.change_owner(),
            // What is left: 28..34, hard links, and the last ones where attributes are left alone.
            _ => self.append(),
        };
        self.attempt(result);
    }

    /// Counts an operation, and lets those fail that met another writer's work.
    fn attempt(&mut self, result: io::Result<()>) {
        self.report.operations += 1;
        let Err(error) = result else { return };
        self.report.refused += 1;
        let errno = Errno::from_io_error(&error);
        let expected = [
            Errno::NOENT,
            Errno::EXIST,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::NOTEMPTY,
            Errno::LOOP,
            Errno::INVAL,
            Errno::NAMETOOLONG,
            Errno::ACCESS,
            Errno::PERM,
        ];
        assert!(
            errno.is_some_and(|errno| expected.contains(&errno)),
            "an operation failed: {error}"
        );
    }

    fn random_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng.fill(&mut bytes);
        bytes
    }

    /// Contents of the sizes files have: mostly small, some empty, a few large.
    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.rng.u32(0..100) {
            0..5 => 0,
            5..75 => self.rng.usize(1..300),
            75..97 => self.rng.usize(300..9_000),
            _ => self.rng.usize(9_000..200_000),
        };
        self.random_bytes(length)
    }

    fn old_time(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            + Duration::from_nanos(self.rng.u64(1_000_000_000..1_500_000_000_000_000_000))
    }

    /// One of a few dozen names, so that names meet again as something else.
    fn name(&mut self) -> OsString {
        let mut name = names::name(names::ODD[self.rng.usize(..names::ODD.len())]).to_owned();
        if self.rng.bool() {
            name.push(self.rng.u32(0..3).to_string());
        }
        name
    }

    /// A path to make something at, in a known directory or in the root.
    fn new_path(&mut self) -> PathBuf {
        let parent = if self.rng.u32(0..8) == 0 {
            None
        } else {
            self.pick(Kind::Directory).ok()
        };
        let parent = parent
            .filter(|path| path.iter().count() < DEPTH)
            .unwrap_or_default();
        parent.join(self.name())
    }

    fn pick(&mut self, kind: Kind) -> io::Result<PathBuf> {
        let of_kind: Vec<usize> = (0..self.known.len())
            .filter(|&at| self.known[at].kind == kind)
            .collect();
        let at = self.rng.choice(of_kind).ok_or(Errno::NOENT)?;
        Ok(self.known[at].path.clone())
    }

    fn pick_any(&mut self) -> io::Result<Known> {
        self.rng
            .choice(&self.known)
            .cloned()
            .ok_or_else(|| Errno::NOENT.into())
    }

    fn know(&mut self, path: PathBuf, kind: Kind) {
        self.forget(&path);
        self.known.push(Known { path, kind });
    }

    fn forget(&mut self, path: &Path) {
        self.known
            .retain(|known| !is_at_or_below(&known.path, path));
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        if from == to {
            return;
        }
        self.forget(to);
        for known in &mut self.known {
            if is_at_or_below(&known.path, from) {
                let rest = known
                    .path
                    .strip_prefix(from)
                    .expect("it is below")
                    .to_owned();
                known.path = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
            }
        }
    }
}

/// Like `Path::starts_with`, on bytes and therefore faster.
fn is_at_or_below(path: &Path, top: &Path) -> bool {
    let (path, top) = (path.as_os_str().as_bytes(), top.as_os_str().as_bytes());
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
