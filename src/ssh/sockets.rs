//! The directory in which the shared connections have their sockets.

use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::warn;

/// The address of a socket has 108 bytes. ssh makes it under a name that is longer by 17, and ours has 20.
const LONGEST: usize = 70;

/// A directory that nobody else can write to: that of the service, or a new one. It is made when it is first needed, and
/// removed at the end.
#[derive(Debug, Default)]
pub struct Sockets {
    directory: OnceLock<Option<Directory>>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Made by us alone.
    own: bool,
}

impl Sockets {
    /// `None` if there is none to be had.
    pub(super) fn directory(&self) -> Option<&Path> {
        let directory = self.directory.get_or_init(|| {
            let directory = of_the_service().or_else(|| new_in(&std::env::temp_dir()));
            let directory = directory.or_else(|| new_in(Path::new("/tmp")));
            if directory.is_none() {
                warn!("no directory for sockets can be made in /tmp: each run logs in by ssh anew");
            }
            directory
        });
        directory.as_ref().map(|directory| directory.path.as_path())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(Some(Directory { path, own: true })) = self.directory.get() {
            // It is empty but for what a killed ssh left. Nothing is to be said if it cannot be removed.
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn of_the_service() -> Option<Directory> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
    let path = std::env::split_paths(&directories).next()?;
    (fits(&path) && path.is_dir()).then_some(Directory { path, own: false })
}

fn new_in(parent: &Path) -> Option<Directory> {
    let path = parent.join(format!("sersync-{:08x}", fastrand::u32(..)));
    if !fits(&path) {
        return None;
    }
    // Fails if anything has that name already, so what stands there is ours.
    DirBuilder::new().mode(0o700).create(&path).ok()?;
    Some(Directory { path, own: true })
}

/// Whether a path is short enough, and means the same to ssh as to us.
fn fits(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    path.is_absolute() && bytes.len() <= LONGEST && bytes.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_private_and_gone_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir_in("/tmp").expect("a directory");
        let sockets = Sockets {
            directory: OnceLock::from(new_in(temp.path())),
        };
        let path = sockets.directory().expect("it can be made").to_path_buf();
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(path.join("left"), "").expect("it is ours");
        drop(sockets);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_or_that_ssh_would_expand_is_not_used() {
        assert!(fits(Path::new("/run/sersync/data_1")));
        let long = format!("/{}", "x".repeat(LONGEST));
        for path in ["/run/%h", "/run/a b", "/run/${X}", "run", &long] {
            assert!(!fits(Path::new(path)), "{path}");
        }
    }
}
