//! The file in which a lane keeps what it [knows](known) of its source and its target. It is always written as a whole, and
//! put in the place of the old one.

use std::io;
use std::path::{Path, PathBuf};

use super::{make_dir, read, set_aside, write_anew};
use crate::saved::Key;
use crate::saved::known::{self, Known};

/// See the module.
#[derive(Debug, Clone)]
pub struct KnownFile {
    key: Key,
    dir: PathBuf,
    file: PathBuf,
}

impl KnownFile {
    /// What a lane knows, kept in a directory, which is made if it is missing. The third value is a warning about a file
    /// that was set aside.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, key: Key) -> io::Result<(Self, Known, Option<String>)> {
        make_dir(dir)?;
        let file = dir.join(key.file_name()).with_extension("known");
        let (mut known, mut warning) = (Known::default(), None);
        let read = read(&file)?.map(|bytes| {
            let bytes = bytes.map_err(ToOwned::to_owned)?;
            known::read(&bytes, &key).map_err(|reason| reason.to_string())
        });
        match read {
            None => {}
            Some(Ok(read)) => known = read,
            Some(Err(reason)) => {
                let aside = set_aside(&file, "known-unreadable")?;
                warning = Some(format!(
                    "what {} says of the source is not used and was set aside as {}: {reason}",
                    file.display(),
                    aside.display()
                ));
            }
        }
        let dir = dir.to_path_buf();
        Ok((Self { key, dir, file }, known, warning))
    }

    /// Keeps this instead.
    ///
    /// # Errors
    /// It could not be written; the old one stays.
    pub fn write(&self, known: &Known) -> io::Result<()> {
        let bytes = known::written(known, &self.key);
        write_anew(&self.dir, &self.file, "known-new", &bytes).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::lasting::Lasting;

    fn key() -> Key {
        Key {
            source: "/data".into(),
            target: "rsync://backup/data".into(),
        }
    }

    #[test]
    fn what_was_kept_is_there_again_and_what_is_not_understood_is_set_aside_and_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, known, warning) = KnownFile::open(dir.path(), key()).expect("opened");
        assert_eq!((known, warning), (Known::default(), None));
        let root = fs::File::open(dir.path()).expect("opened");
        let known = Known {
            source: Some(Lasting::of(&root).expect("looked at")),
            ..Known::default()
        };
        file.write(&known).expect("written");
        let (file, read, _) = KnownFile::open(dir.path(), key()).expect("opened");
        assert_eq!(read, known);
        fs::write(&file.file, "not ours").expect("written");
        let (file, read, warning) = KnownFile::open(dir.path(), key()).expect("opened");
        assert_eq!(read, Known::default());
        assert!(warning.is_some_and(|text| text.contains("set aside")));
        let aside = file.file.with_extension("known-unreadable");
        assert_eq!(fs::read(aside).expect("kept"), b"not ours");
    }
}
