//! The file in which a lane keeps its [`saved`] state. What cannot be read is set aside with a warning, and what cannot
//! be written costs a warning: neither stops anything.
//!
//! Lines are appended as things happen, without waiting for the disk: a crash of the machine loses what the comparison
//! at the next start finds again. When the lines are many more than the paths, the whole is written anew beside the old
//! file and takes its place at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::saved::{self, Key, Line, Saved};

pub mod known;

/// Lines beyond twice the paths that are put up with before the whole is written anew.
const SPARE_LINES: usize = 1000;
/// So many that the next call writes the whole.
const MANY: usize = usize::MAX / 2;
/// Why a state is set aside that is none.
const NO_FILE: &str = "it is no file";

/// See the module.
#[derive(Debug)]
pub struct Store {
    key: Key,
    dir: PathBuf,
    file: PathBuf,
    /// `None` if it could not be written at the start.
    out: Option<File>,
    lines: usize,
    saved: Saved,
}

impl Store {
    /// The state of a lane in a directory, which is made if it is missing. The second value is a warning about a file
    /// that was set aside, or cannot be written now.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: &Path, key: Key) -> io::Result<(Self, Option<String>)> {
        make_dir(dir)?;
        let file = dir.join(key.file_name());
        let mut warning = None;
        let read = read(&file)?.map(|bytes| {
            let bytes = bytes.map_err(ToOwned::to_owned)?;
            saved::read(&bytes, &key).map_err(|reason| reason.to_string())
        });
        let saved = match read {
            None => Saved::new(),
            Some(Ok(saved)) => saved,
            Some(Err(reason)) => {
                let aside = set_aside(&file, "unreadable")?;
                warning = Some(format!(
                    "the saved state {} is not used and was set aside as {}: {reason}",
                    file.display(),
                    aside.display()
                ));
                Saved::new()
            }
        };
        let mut store = Self {
            key,
            dir: dir.to_path_buf(),
            file,
            out: None,
            lines: MANY,
            saved,
        };
        // On a full disk what was read is as good as ever.
        if let Err(error) = store.write_whole() {
            let file = store.file.display();
            warning.get_or_insert_with(|| {
                format!("what fails is not kept in {file} until that can be written: {error}")
            });
        }
        Ok((store, warning))
    }

    /// What is kept.
    #[must_use]
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Keeps some more.
    ///
    /// # Errors
    /// It could not be written; what is kept in memory is right all the same, and the next call tries the whole.
    pub fn append(&mut self, lines: Vec<Line>) -> io::Result<()> {
        let bytes: Vec<u8> = lines.iter().flat_map(saved::written).collect();
        self.lines += lines.len();
        for line in lines {
            saved::apply(&mut self.saved, line);
        }
        if self.lines > self.saved.len() * 2 + SPARE_LINES {
            return self.write_whole();
        }
        let Some(out) = &mut self.out else {
            return self.write_whole();
        };
        let appended = out.write_all(&bytes);
        if appended.is_err() {
            // Half a line may stand at the end, and nothing may follow it.
            self.lines = MANY;
        }
        appended
    }

    fn write_whole(&mut self) -> io::Result<()> {
        let whole = saved::whole(&self.saved, &self.key);
        self.out = Some(write_anew(&self.dir, &self.file, "new", &whole)?);
        self.lines = self.saved.len();
        Ok(())
    }
}

/// What is there; `None` if nothing is. A pipe would be waited for and a device has no end, so what is no file is refused.
fn read(file: &Path) -> io::Result<Option<Result<Vec<u8>, &'static str>>> {
    let careful = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(careful.bits().cast_signed())
        .open(file);
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link, or a socket.
        Err(_) if !fs::symlink_metadata(file)?.is_file() => return Ok(Some(Err(NO_FILE))),
        Err(error) => return Err(error),
    };
    if !opened.metadata()?.is_file() {
        return Ok(Some(Err(NO_FILE)));
    }
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes)?;
    Ok(Some(Ok(bytes)))
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Puts a whole file in the place of the old one, so that there is always one of the two. Until then it has another
/// ending.
fn write_anew(dir: &Path, file: &Path, ending: &str, bytes: &[u8]) -> io::Result<File> {
    let fresh = file.with_extension(ending);
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&fresh)?;
    out.set_len(0)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    File::open(dir)?.sync_all()?;
    Ok(out)
}

/// Whoever wants to know what was in it finds it there; one such file is kept.
fn set_aside(file: &Path, ending: &str) -> io::Result<PathBuf> {
    let aside = file.with_extension(ending);
    fs::rename(file, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::change::Extent;
    use crate::fail_queue::Failure;
    use crate::path::RelPath;
    use crate::saved::SavedFailure;

    fn key() -> Key {
        Key {
            source: "/data".into(),
            target: "rsync://backup/data".into(),
        }
    }

    fn failed(name: &str) -> Line {
        let path = RelPath::new(name.as_bytes()).expect("a valid path");
        let failure = Failure {
            exit: 23,
            message: "Permission denied (13)".into(),
        };
        let saved = SavedFailure {
            extent: Extent::Entry,
            removed: false,
            attempts: 1,
            failure,
            first: SystemTime::UNIX_EPOCH,
        };
        Line::Failed(path, saved)
    }

    fn synced(name: &str) -> Line {
        Line::Synced(RelPath::new(name.as_bytes()).expect("a valid path"))
    }

    fn names(store: &Store) -> Vec<String> {
        store.saved().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_kept_is_there_after_any_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert!(warning.is_none() && names(&store).is_empty());
        store.append(vec![failed("a"), failed("b")]).expect("kept");
        store.append(vec![synced("a")]).expect("kept");
        // As after a SIGKILL: nothing is done at the end.
        std::mem::forget(store);
        let (store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert_eq!((names(&store), warning), (vec!["b".into()], None));
    }

    #[test]
    fn a_file_that_is_not_understood_is_set_aside_and_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(key().file_name());
        fs::write(&file, "not ours").expect("written");
        let (store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert!(names(&store).is_empty());
        assert!(warning.is_some_and(|text| text.contains("set aside")));
        let aside = file.with_extension("unreadable");
        assert_eq!(fs::read(aside).expect("kept"), b"not ours");
    }

    #[test]
    fn the_file_does_not_grow_without_an_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut store, _) = Store::open(dir.path(), key()).expect("opened");
        let mut longest = 0;
        for round in 0..10_000 {
            let line = if round % 2 == 0 {
                failed("a")
            } else {
                synced("a")
            };
            store.append(vec![line]).expect("kept");
            let length = fs::metadata(&store.file).expect("there").len();
            longest = longest.max(length);
        }
        assert!(longest < 300_000, "{longest} bytes");
    }

    #[test]
    fn what_is_no_file_is_set_aside_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(key().file_name());
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &file, FileType::Fifo, mode, 0).expect("a pipe");
        let (store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert!(store.saved().is_empty());
        assert!(warning.is_some_and(|text| text.contains(NO_FILE)));
        fs::remove_file(&file).expect("it was put in place");
        std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
        let (_, warning) = Store::open(dir.path(), key()).expect("opened");
        assert!(warning.is_some_and(|text| text.contains(NO_FILE)));
        assert!(fs::symlink_metadata(&file).is_ok_and(|file| file.is_file()));
    }

    #[test]
    fn what_was_saved_is_known_although_nothing_can_be_written_now() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut store, _) = Store::open(dir.path(), key()).expect("opened");
        store.append(vec![failed("a")]).expect("written");
        // In the way of what would be put in its place.
        let obstacle = store.file.with_extension("new");
        fs::create_dir(&obstacle).expect("made");
        let (mut store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert_eq!(store.saved().len(), 1);
        assert!(warning.is_some_and(|text| text.contains("not kept")));
        assert!(store.append(vec![failed("b")]).is_err());
        fs::remove_dir(&obstacle).expect("removed");
        store.append(vec![failed("c")]).expect("written");
        let (store, warning) = Store::open(dir.path(), key()).expect("opened");
        assert_eq!((store.saved().len(), warning), (3, None));
    }
}
