//! What is told of a path: where it is, what it is now, and the word that inotify has for that.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use super::queue::Item;
use crate::change::Extent;
use crate::filter::{Filter, Kind};

/// `IN_CLOSE_WRITE`
const CLOSE_WRITE: u32 = 0x8;
/// `IN_CREATE`
const CREATE: u32 = 0x100;
/// `IN_DELETE`
const DELETE: u32 = 0x200;
/// `IN_ISDIR`
const IS_DIRECTORY: u32 = 0x4000_0000;

/// A path, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    /// Absolute, as bytes.
    pub(super) path: Vec<u8>,
    pub(super) is_directory: bool,
    /// It is not there any more.
    pub(super) is_gone: bool,
}

impl Event {
    /// The events of the original are states here, so this says which event would have led to it.
    pub(super) fn mask(&self) -> u32 {
        let kind = if self.is_directory { IS_DIRECTORY } else { 0 };
        match (self.is_gone, self.is_directory) {
            (true, _) => DELETE | kind,
            (false, true) => CREATE | kind,
            (false, false) => CLOSE_WRITE,
        }
    }

    /// For system calls and arguments.
    pub(super) fn os_path(&self) -> &OsStr {
        OsStr::from_bytes(&self.path)
    }
}

/// Looks at what is to be told. With `expand`, a directory that came as a whole brings all that is in it, except for the
/// source itself: a comparison of everything does not tell of everything; nor what is excluded by the filter of its source.
/// Returns no more than `most` events of those that somebody `wants`, and how many were left out.
pub(super) fn look(
    items: &[Item],
    expand: bool,
    most: usize,
    filters: &HashMap<Arc<Path>, Arc<Filter>>,
    wants: impl Fn(&Event) -> bool,
) -> (Vec<Event>, usize) {
    let (mut events, mut left_out) = (BTreeSet::new(), 0);
    for item in items {
        let filter = filters.get(&item.source);
        let mut pending = vec![item.path.clone()];
        let mut is_first = true;
        while let Some(below) = pending.pop() {
            let path = if below.is_root() {
                item.source.to_path_buf()
            } else {
                item.source.join(below.as_path())
            };
            let found = fs::symlink_metadata(&path).ok();
            // What the remotes still have is told as they got it.
            let is_gone = found.is_none() && item.may_be_gone;
            // Of what is gone only the watcher knew what it was; it reports directories with what was below them.
            let is_directory = found.map_or(is_first && item.extent == Extent::Subtree, |found| {
                found.is_dir()
            });
            let kind = Kind::directory_if(is_directory);
            // What was told itself was mirrored.
            if !is_first && filter.is_some_and(|filter| filter.excludes(&below, kind)) {
                continue;
            }
            is_first = false;
            if expand
                && is_directory
                && !is_gone
                && item.extent == Extent::Subtree
                && !item.path.is_root()
            {
                pending.extend(entries(&path).iter().map(|name| below.join(name)));
            }
            let event = Event {
                path: path.into_os_string().into_encoded_bytes(),
                is_directory,
                is_gone,
            };
            if !wants(&event) {
                continue;
            }
            if events.len() < most {
                events.insert(event);
            } else {
                left_out += 1;
            }
        }
    }
    (events.into_iter().collect(), left_out)
}

/// Names in a directory. What cannot be read now changes again or is gone.
fn entries(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names.map(OsString::into_encoded_bytes).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::path::RelPath;

    fn told(root: &Path, name: &str, extent: Extent, expand: bool) -> Vec<(String, u32)> {
        told_of(root, name, extent, expand, true)
    }

    fn told_of(
        root: &Path,
        name: &str,
        extent: Extent,
        expand: bool,
        may_be_gone: bool,
    ) -> Vec<(String, u32)> {
        let item = Item {
            source: Arc::from(root),
            path: RelPath::new(name.as_bytes()).expect("a valid path"),
            extent,
            may_be_gone,
        };
        let (events, left_out) = look(&[item], expand, 100, &HashMap::new(), |_| true);
        assert_eq!(left_out, 0);
        let below = |event: &Event| {
            let path = Path::new(event.os_path())
                .strip_prefix(root)
                .expect("below");
            path.display().to_string()
        };
        events
            .iter()
            .map(|event| (below(event), event.mask()))
            .collect()
    }

    #[test]
    fn a_path_is_what_it_is_now_and_a_link_is_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        fs::create_dir(root.join("d")).expect("made");
        fs::write(root.join("d/f"), "").expect("written");
        symlink("/", root.join("l")).expect("linked");
        assert_eq!(told(root, "d/f", Extent::Entry, true), [("d/f".into(), 8)]);
        assert_eq!(
            told(root, "d", Extent::Entry, true),
            [("d".into(), 0x4000_0100)]
        );
        assert_eq!(told(root, "l", Extent::Subtree, true), [("l".into(), 8)]);
        assert_eq!(told(root, "x", Extent::Entry, true), [("x".into(), 0x200)]);
        assert_eq!(
            told(root, "x", Extent::Subtree, true),
            [("x".into(), 0x4000_0200)]
        );
    }

    #[test]
    fn what_is_gone_and_stays_at_the_remotes_is_told_as_it_came_there() {
        let root = tempfile::tempdir().expect("a directory");
        for (extent, mask) in [(Extent::Entry, 8), (Extent::Subtree, 0x4000_0100)] {
            let told = told_of(root.path(), "x", extent, true, false);
            assert_eq!(told, [("x".into(), mask)]);
        }
    }

    #[test]
    fn a_directory_that_came_as_a_whole_brings_its_content_where_that_is_wanted() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        fs::create_dir_all(root.join("d/e")).expect("made");
        fs::write(root.join("d/e/f"), "").expect("written");
        let names =
            |told: Vec<(String, u32)>| told.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(
            names(told(root, "d", Extent::Subtree, true)),
            ["d", "d/e", "d/e/f"]
        );
        assert_eq!(names(told(root, "d", Extent::Subtree, false)), ["d"]);
        assert_eq!(names(told(root, "", Extent::Subtree, true)), [""]);
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("d")).expect("made");
        for name in ["a", "b", "c"] {
            fs::write(root.path().join("d").join(name), "").expect("written");
        }
        let item = Item {
            source: Arc::from(root.path()),
            path: RelPath::new(b"d").expect("valid"),
            extent: Extent::Subtree,
            may_be_gone: true,
        };
        let (events, left_out) = look(&[item], true, 2, &HashMap::new(), |_| true);
        assert_eq!((events.len(), left_out), (2, 2));
    }
}
