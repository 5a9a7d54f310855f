//! The operations themselves: each picks from the model, acts, and tells the model.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use super::{DEPTH, Generator, Kind, Known};

impl Generator {
    pub(super) fn write_file(&mut self) -> io::Result<()> {
        let path = self.new_path();
        let bytes = self.bytes();
        self.open(
            &path,
            File::options().write(true).create(true).truncate(true),
        )?
        .write_all(&bytes)?;
        self.know(path, Kind::File);
        Ok(())
    }

    /// Two writes of one length at one place, one right after the other: size and clock tick stay the same.
    pub(super) fn overwrite_twice(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::File)?;
        let (first, at) = (self.bytes(), self.rng.u64(0..300));
        let second: Vec<u8> = first.iter().map(|byte| byte ^ 0x55).collect();
        for bytes in [first, second] {
            let mut file = self.open(&path, File::options().write(true))?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&bytes)?;
        }
        Ok(())
    }

    pub(super) fn append(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::File)?;
        let length = self.rng.usize(1..64);
        let line = self.random_bytes(length);
        self.open(&path, File::options().append(true))?
            .write_all(&line)
    }

    /// What editors do: write beside, then rename over.
    pub(super) fn save_atomically(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::File)?;
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let bytes = self.bytes();
        self.open(
            &beside,
            File::options().write(true).create(true).truncate(true),
        )?
        .write_all(&bytes)?;
        self.know(beside.clone(), Kind::File);
        fs::rename(self.root.join(&beside), self.root.join(&path))?;
        self.forget(&beside);
        Ok(())
    }

    /// `mkdir -p a/b/c` and files in it at once.
    pub(super) fn make_directories(&mut self) -> io::Result<()> {
        let mut path = self.new_path();
        for _ in 0..self.rng.u32(1..4) {
            fs::create_dir(self.root.join(&path))?;
            self.know(path.clone(), Kind::Directory);
            for _ in 0..self.rng.u32(0..4) {
                let file = path.join(self.name());
                let bytes = self.bytes();
                self.open(&file, File::options().write(true).create_new(true))?
                    .write_all(&bytes)?;
                self.know(file, Kind::File);
            }
            if path.iter().count() >= DEPTH {
                break;
            }
            path.push(self.name());
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, kind: Kind) -> io::Result<()> {
        let from = self.pick(kind)?;
        let to = self.new_path();
        fs::rename(self.root.join(&from), self.root.join(&to))?;
        self.moved(&from, &to);
        Ok(())
    }

    pub(super) fn remove_file(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::File)?;
        let result = fs::remove_file(self.root.join(&path));
        self.forget(&path);
        result
    }

    pub(super) fn remove_tree(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::Directory)?;
        let result = fs::remove_dir_all(self.root.join(&path));
        self.forget(&path);
        result
    }

    pub(super) fn hard_link(&mut self) -> io::Result<()> {
        let (from, to) = (self.pick(Kind::File)?, self.new_path());
        fs::hard_link(self.root.join(&from), self.root.join(&to))?;
        self.know(to, Kind::File);
        Ok(())
    }

    /// To a name beside it, to something that may not be there, or to a directory outside; never upwards, so
    /// that what is done through a link stays in directories made for the test.
    pub(super) fn symbolic_link(&mut self) -> io::Result<()> {
        let path = self.new_path();
        let target = match self.rng.u32(0..4) {
            0 => self.outside.clone(),
            1 => PathBuf::from("."),
            _ => PathBuf::from(self.name()),
        };
        symlink(target, self.root.join(&path))?;
        self.know(path, Kind::Other);
        Ok(())
    }

    /// A file, a directory or a link becomes another of the three under the same name.
    pub(super) fn change_kind(&mut self) -> io::Result<()> {
        let known = self.pick_any()?;
        let path = self.root.join(&known.path);
        match known.kind {
            Kind::Directory => fs::remove_dir_all(&path)?,
            Kind::File | Kind::Other => fs::remove_file(&path)?,
        }
        self.forget(&known.path);
        match self.rng.u32(0..3) {
            0 => {
                fs::write(&path, self.bytes())?;
                self.know(known.path, Kind::File);
            }
            1 => {
                fs::create_dir(&path)?;
                self.know(known.path.clone(), Kind::Directory);
                let file = known.path.join(self.name());
                fs::write(self.root.join(&file), self.bytes())?;
                self.know(file, Kind::File);
            }
            _ => {
                let target = self
                    .pick_any()
                    .map_or_else(|_| self.outside.clone(), |other| self.root.join(other.path));
                symlink(target, &path)?;
                self.know(known.path, Kind::Other);
            }
        }
        Ok(())
    }

    /// Two names change places in one system call.
    pub(super) fn exchange(&mut self) -> io::Result<()> {
        let (one, other) = (self.pick_any()?, self.pick_any()?);
        let (here, there) = (self.root.join(&one.path), self.root.join(&other.path));
        rustix::fs::renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE)?;
        if one.path != other.path {
            let aside = PathBuf::from(OsStr::new("exchanged meanwhile"));
            self.moved(&one.path, &aside);
            self.moved(&other.path, &one.path);
            self.moved(&aside, &other.path);
        }
        Ok(())
    }

    /// `cp -p` of an old file over a newer one.
    pub(super) fn put_back_older(&mut self) -> io::Result<()> {
        let path = self.pick(Kind::File)?;
        let bytes = self.bytes();
        let mut file = self.open(&path, File::options().write(true).truncate(true))?;
        file.write_all(&bytes)?;
        file.set_times(FileTimes::new().set_modified(self.old_time()))
    }

    pub(super) fn move_out(&mut self) -> io::Result<()> {
        let known = self.pick_any()?;
        let parked = PathBuf::from(format!(
            "parked-{}-{}",
            self.rng.u64(..),
            self.report.operations
        ));
        fs::rename(self.root.join(&known.path), self.outside.join(&parked))?;
        self.forget(&known.path);
        self.parked.push(Known {
            path: parked,
            kind: known.kind,
        });
        Ok(())
    }

    pub(super) fn move_in(&mut self) -> io::Result<()> {
        let Some(parked) = self.parked.pop() else {
            return Ok(());
        };
        let to = self.new_path();
        fs::rename(self.outside.join(&parked.path), self.root.join(&to))?;
        self.know(to, parked.kind);
        Ok(())
    }

    pub(super) fn change_mode(&mut self) -> io::Result<()> {
        let known = self.pick_any()?;
        if known.kind == Kind::Other {
            // The mode of a link cannot be changed, and its target may be outside.
            return Ok(());
        }
        let modes: &[u32] = match known.kind {
            Kind::Directory => &[0o755, 0o700, 0o750, 0o711, 0o1777, 0o2755],
            Kind::File | Kind::Other => &[0o644, 0o600, 0o755, 0o640, 0o444, 0o666],
        };
        let mode = modes[self.rng.usize(..modes.len())];
        fs::set_permissions(self.root.join(known.path), Permissions::from_mode(mode))
    }

    pub(super) fn change_times(&mut self) -> io::Result<()> {
        let known = self.pick_any()?;
        let since = self
            .old_time()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("it is after 1970");
        let time = Timespec {
            tv_sec: since.as_secs().cast_signed(),
            tv_nsec: since.subsec_nanos().into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(
            CWD,
            self.root.join(known.path),
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }

    pub(super) fn change_owner(&mut self) -> io::Result<()> {
        let known = self.pick_any()?;
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let (owner, group) = (self.rng.u32(0..3) * 1000, self.rng.u32(0..3) * 1000);
        lchown(self.root.join(known.path), Some(owner), Some(group))
    }

    fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<File> {
        options.open(self.root.join(path))
    }
}
