//! Where paths lead when symbolic links are looked through, also those whose end does not exist yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A file system that does not answer is not waited for longer: what was not found out by then is taken as written.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many links as the kernel follows on one path.
const MOST_LINKS: usize = 40;

/// The ends of those paths that lead elsewhere than they say.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<PathBuf, PathBuf>);

impl Links {
    /// Looks at these paths.
    pub(super) fn of<'p>(paths: impl Iterator<Item = &'p Path>) -> Self {
        let paths: BTreeSet<PathBuf> = paths.map(Path::to_path_buf).collect();
        if paths.len() < 2 {
            return Self::default();
        }
        let (sender, receiver) = mpsc::sync_channel(paths.len());
        // Somebody who waits for a dead server cannot be called back: that thread is left behind.
        let looking = thread::Builder::new().spawn(move || {
            for path in paths {
                let end = end_of(&path);
                if end != path && sender.send((path, end)).is_err() {
                    return;
                }
            }
        });
        let mut found = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        while looking.is_ok()
            && let left = deadline.saturating_duration_since(Instant::now())
            && let Ok((path, end)) = receiver.recv_timeout(left)
        {
            found.insert(path, end);
        }
        Self(found)
    }

    /// Where `path` leads; `None` if that is what it says.
    pub(super) fn end_of(&self, path: &Path) -> Option<&Path> {
        self.0.get(path).map(PathBuf::as_path)
    }
}

/// What does not exist, or may not be looked at, is no link.
fn end_of(path: &Path) -> PathBuf {
    let mut end = PathBuf::from("/");
    let mut links = 0;
    let mut ahead = names_behind_first(path);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            end.pop();
            continue;
        }
        end.push(name);
        if links < MOST_LINKS
            && let Ok(link) = fs::read_link(&end)
        {
            links += 1;
            end.pop();
            if link.is_absolute() {
                end = PathBuf::from("/");
            }
            ahead.extend(names_behind_first(&link));
        }
    }
    end
}

/// The last name first.
fn names_behind_first(path: &Path) -> Vec<OsString> {
    let names = path.components().rev();
    names
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_looked_through_as_far_as_there_is_something() {
        let room = tempfile::tempdir().unwrap();
        // The room itself may be reached through a link.
        let room = room.path().canonicalize().unwrap();
        let at = |name: &str| room.join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        symlink("a/b", at("relative")).unwrap();
        symlink(at("relative"), at("a/absolute")).unwrap();
        symlink("../missing/x", at("a/dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (path, end) in [
            ("a/b", "a/b"),
            ("relative", "a/b"),
            ("relative/c/d", "a/b/c/d"),
            ("a/absolute/c", "a/b/c"),
            ("a/dangling/y", "missing/x/y"),
            ("missing", "missing"),
            ("loop/x", "loop/x"),
        ] {
            assert_eq!(end_of(&at(path)), at(end), "{path}");
        }
        let links = Links::of([at("a"), at("relative")].iter().map(PathBuf::as_path));
        assert_eq!(links.end_of(&at("relative")), Some(at("a/b").as_path()));
        assert_eq!(links.end_of(&at("a")), None);
    }
}
