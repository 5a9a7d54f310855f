//! The file that `failLog path` names: a record of what failed, with what to try by hand. Nothing here reads it or runs
//! it. What stands in it is [`by_hand`](crate::by_hand)'s matter.
//!
//! A thread of its own writes, since the path may lead to a file system that hangs; whoever has something to record
//! never waits, and what finds no room is counted. The file is opened for each entry, so it can be moved or removed at
//! any time, and keeps nothing busy.
//!
//! The path is often one in `/tmp`, where everybody may lay out a file or a link under its name: only a regular file of
//! our own is written, which then is for its owner alone. Where it cannot be written, as in the sandbox of the packaged
//! unit, another place is taken, with a warning. Two files are kept, the older as `NAME.1`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::by_hand::HEAD;

/// Entries that may wait for the writer.
const WAITING: usize = 1000;
/// Length at which a file is put aside, for some thousand entries.
const LONGEST: u64 = 1 << 20;
/// For the owner alone: names of files are nobody else's business.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);
/// How long the end of the process waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// While the writer has no room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// See the module. Clones are ways to the same record.
#[derive(Debug, Clone)]
pub struct FailLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Mutex<Places>,
    lost: AtomicU64,
    writer: OnceLock<Option<SyncSender<Task>>>,
}

/// Where the record may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    /// As configured; nothing is recorded without it.
    wanted: Option<PathBuf>,
    /// Where that cannot be written.
    instead: Option<PathBuf>,
}

enum Task {
    /// Renders an entry, which may take a look at the source.
    Record(Box<dyn FnOnce() -> String + Send>),
    /// Tells that all is written.
    Flush(oneshot::Sender<()>),
}

impl FailLog {
    /// A record that is nowhere yet; see [`set_path`](Self::set_path). `instead` is a file to take where it cannot be
    /// written.
    #[must_use]
    pub fn new(instead: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            places: Mutex::new(Places {
                wanted: None,
                instead,
            }),
            lost: AtomicU64::new(0),
            writer: OnceLock::new(),
        }))
    }

    /// From now on it is there; `None` records nothing.
    pub fn set_path(&self, path: Option<PathBuf>) {
        self.0.places().wanted = path;
    }

    /// Has an entry written, at some time. `render` is called in another thread.
    pub fn record(&self, render: impl FnOnce() -> String + Send + 'static) {
        if self.0.places().wanted.is_none() {
            return;
        }
        let writer = self.0.writer.get_or_init(|| start_writer(&self.0));
        let task = Task::Record(Box::new(render));
        let taken = writer
            .as_ref()
            .is_some_and(|writer| writer.try_send(task).is_ok());
        if !taken {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment until all that was recorded is written.
    pub async fn flush(&self) {
        let Some(Some(writer)) = self.0.writer.get() else {
            return;
        };
        let flushed = async {
            let (done, is_done) = oneshot::channel();
            let mut task = Task::Flush(done);
            while let Err(TrySendError::Full(again)) = writer.try_send(task) {
                task = again;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            // The writer may have ended.
            let _ = is_done.await;
        };
        // A file system that hangs keeps nobody from ending.
        let _ = tokio::time::timeout(PATIENCE, flushed).await;
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It ends with the last way to it.
fn start_writer(shared: &Arc<Shared>) -> Option<SyncSender<Task>> {
    let (sender, tasks) = mpsc::sync_channel(WAITING);
    let shared = Arc::downgrade(shared);
    let writer = Writer::new(LONGEST);
    let run = move || run_writer(writer, &tasks, || shared.upgrade());
    let thread = std::thread::Builder::new()
        .name("fail-log".into())
        .spawn(run);
    match thread {
        Ok(_) => Some(sender),
        Err(error) => {
            warn!("what fails is not recorded: no thread can be started: {error}");
            None
        }
    }
}

fn run_writer(
    mut writer: Writer,
    tasks: &Receiver<Task>,
    shared: impl Fn() -> Option<Arc<Shared>>,
) {
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Record(render) => {
                let mut text = render();
                let Some(shared) = shared() else { return };
                let lost = shared.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(text, "# {lost} more failed than could be recorded");
                }
                let places = shared.places().clone();
                writer.write(&places, text.as_bytes());
            }
            Task::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Puts entries where there is a place for them, and says once where that is not the one that was wanted.
#[derive(Debug)]
struct Writer {
    longest: u64,
    /// What was said of which places.
    said: Option<(Places, Said)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Instead,
    Nowhere,
}

impl Writer {
    fn new(longest: u64) -> Self {
        Self {
            longest,
            said: None,
        }
    }

    fn write(&mut self, places: &Places, text: &[u8]) {
        let Some(wanted) = &places.wanted else { return };
        let Err(error) = append(wanted, text, self.longest) else {
            self.say(places, None, String::new);
            return;
        };
        let shown = wanted.display();
        let Some(instead) = &places.instead else {
            self.say(places, Some(Said::Nowhere), || {
                format!("what fails is not recorded in {shown}: {error}")
            });
            return;
        };
        let other = instead.display();
        match append(instead, text, self.longest) {
            Ok(()) => self.say(places, Some(Said::Instead), || {
                format!(
                    "what fails is recorded in {other}, since {shown} cannot be written: {error}"
                )
            }),
            Err(second) => self.say(places, Some(Said::Nowhere), || {
                format!(
                    "what fails is recorded neither in {shown}: {error}; nor in {other}: {second}"
                )
            }),
        }
    }

    /// Says what is otherwise than before. That all is well is no news at the beginning.
    fn say(&mut self, places: &Places, said: Option<Said>, words: impl FnOnce() -> String) {
        let now = said.map(|said| (places.clone(), said));
        if now == self.said {
            return;
        }
        if now.is_some() {
            warn!("{}", words());
        } else {
            info!("what fails is recorded where it is configured again");
        }
        self.said = now;
    }
}

/// Appends to a file of ours, which is made if it is not there, and put aside if it is too long.
fn append(path: &Path, text: &[u8], longest: u64) -> io::Result<()> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    if length > 0 && length + text.len() as u64 > longest {
        let mut older: OsString = path.as_os_str().to_owned();
        older.push(".1");
        fs::rename(path, older)?;
        file = open(path)?;
    }
    if file.metadata()?.len() == 0 {
        file.write_all(HEAD.as_bytes())?;
    }
    file.write_all(text)
}

/// Nothing that somebody else has put under this name is followed, waited for, written or read.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(CWD, path, flags, PRIVATE) {
        Ok(file) => file,
        Err(rustix::io::Errno::LOOP) => return Err(refused("it is a symbolic link")),
        // A pipe that nobody reads, a socket.
        Err(rustix::io::Errno::NXIO) => return Err(refused("it is not a regular file")),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused("it is not a regular file"));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refused("it belongs to another user"));
    }
    if stat.st_nlink > 1 {
        return Err(refused("it is a file with other names, too"));
    }
    if Mode::from_raw_mode(stat.st_mode) != PRIVATE {
        // The original left its script writable for everybody.
        rustix::fs::fchmod(&file, PRIVATE)?;
    }
    Ok(file.into())
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::other(reason)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn places(wanted: &Path, instead: Option<&Path>) -> Places {
        Places {
            wanted: Some(wanted.to_owned()),
            instead: instead.map(Path::to_owned),
        }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    }

    #[test]
    fn entries_are_appended_to_a_file_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("log.sh");
        fs::write(&file, "old\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).expect("ours");
        append(&file, b"one\n", LONGEST).expect("appended");
        append(&file, b"two\n", LONGEST).expect("appended");
        assert_eq!(read(&file), "old\none\ntwo\n");
        assert_eq!(mode(&file), 0o600);
        fs::remove_file(&file).expect("removed");
        append(&file, b"three\n", LONGEST).expect("appended");
        assert_eq!(read(&file), format!("{HEAD}three\n"));
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn what_somebody_has_laid_out_under_the_name_is_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        let at = |name: &str| dir.path().join(name);
        fs::write(&victim, "kept").expect("written");
        symlink(&victim, at("link")).expect("made");
        symlink(at("absent"), at("dangling")).expect("made");
        fs::hard_link(&victim, at("name")).expect("made");
        fs::create_dir(at("directory")).expect("made");
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, PRIVATE, 0).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        for name in ["link", "dangling", "name", "directory", "pipe", "socket"] {
            let refused = append(&at(name), b"text", LONGEST);
            assert!(refused.is_err(), "{name}");
        }
        assert_eq!(read(&victim), "kept");
        assert!(!at("absent").exists());
    }

    #[test]
    fn two_files_are_kept_and_no_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("log");
        for number in 0..1000 {
            append(&file, format!("entry {number}\n").as_bytes(), 1000).expect("appended");
        }
        let older = dir.path().join("log.1");
        assert!(read(&file).ends_with("entry 999\n"));
        assert!(read(&file).len() <= 1000 && read(&older).len() <= 1000);
        assert!(read(&older).starts_with(HEAD));
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 2);
    }

    #[test]
    fn where_it_cannot_be_written_the_other_place_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let (wanted, instead) = (dir.path().join("absent/log"), dir.path().join("instead"));
        let mut writer = Writer::new(LONGEST);
        writer.write(&places(&wanted, None), b"lost\n");
        assert_eq!(writer.said.as_ref().map(|said| said.1), Some(Said::Nowhere));
        writer.write(&places(&wanted, Some(&instead)), b"one\n");
        writer.write(&places(&wanted, Some(&instead)), b"two\n");
        assert_eq!(writer.said.as_ref().map(|said| said.1), Some(Said::Instead));
        assert_eq!(read(&instead), format!("{HEAD}one\ntwo\n"));
        fs::create_dir(dir.path().join("absent")).expect("made");
        writer.write(&places(&wanted, Some(&instead)), b"three\n");
        assert_eq!(writer.said, None);
        assert_eq!(read(&wanted), format!("{HEAD}three\n"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_writer_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("log");
        let log = FailLog::new(None);
        log.record(|| unreachable!("nothing is recorded without a path"));
        log.set_path(Some(file.clone()));
        let (go_on, may_go_on) = mpsc::channel::<()>();
        log.record(move || {
            let _ = may_go_on.recv();
            "\nfirst\n".into()
        });
        for number in 0..WAITING + 10 {
            log.record(move || format!("\n{number}\n"));
        }
        drop(go_on);
        log.flush().await;
        log.record(|| "\nlast\n".into());
        let mut text = String::new();
        // A flush waits for a second.
        for _ in 0..30 {
            log.flush().await;
            text = read(&file);
            if text.contains("\nlast\n") {
                break;
            }
        }
        assert!(
            text.contains("more failed than could be recorded"),
            "{text}"
        );
        assert!(
            text.contains("\nfirst\n") && text.contains("\nlast\n"),
            "{text}"
        );
    }
}
