//! One rsync child: started, fed with its list, read, ended. Its end is a value, never an error.
//!
//! A child can be started ahead of its list: rsync connects, authenticates and negotiates before it reads
//! `--files-from=-`, so such a [`Standby`] turns a change into one round trip (3.5 ms instead of 10 on loopback).
//!
//! What a child does is in [`args`], what its end means in [`outcome`], what it may touch in [`confine`].

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub mod args;
pub mod confine;
pub mod ended;
pub mod itemized;
mod life;
pub mod outcome;
pub mod program;
pub mod progress;
pub mod rules;
mod sandbox;
pub mod skipped;
pub mod version;

pub use args::{Forms, Pace, RunKind};
pub use ended::{Ended, Exit, Stats};
pub use itemized::{Item, Itemized};
pub use outcome::{Names, Outcome, RefusedForm, judge};
pub use program::{Program, find_program};
pub use progress::Progress;

use confine::Policy;
use life::Lifeless;
use sandbox::{Names as OwnersNames, Unconfined};
use skipped::Skipped;

/// Messages kept of one run. A run that says more is not believed in detail.
const STDERR_KEPT: usize = 256 << 10;
/// The statistics are the last thing on standard output, and short.
const STDOUT_KEPT: usize = 64 << 10;
/// rsync's own exit code for a run that does not move on.
const TIMED_OUT: i32 = 30;
/// After SIGTERM rsync removes its temporary files, here and at the receiver; then it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// What rsync has started may outlive it and keep its pipes open: an ssh whose connection hangs, and the ssh in the
/// background, which that one has handed them to.
const LINGER: Duration = Duration::from_secs(1);

/// How a child is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The rsync program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub directory: PathBuf,
    /// What the working directory is a name for, if it is one below `/proc/self/fd`: a child may be started later.
    pub root: Option<Arc<OwnedFd>>,
    /// It is ended when it has shown no sign of life for so long.
    pub patience: Option<Duration>,
    /// What it may touch besides that; without it, everything.
    pub confinement: Option<Policy>,
}

impl Launch {
    /// Starts it, confined if that can be had.
    async fn start(
        &self,
        limit: Option<Duration>,
        cancel: &CancellationToken,
    ) -> Result<Running, Exit> {
        if self.confinement.is_none() {
            let started = self.spawn(Err(Unconfined::NotAsked));
            return started.map_err(Exit::NotStarted);
        }
        let (tell, told) = oneshot::channel();
        let (launch, runtime) = (self.clone(), Handle::current());
        let start = move || {
            let _entered = runtime.enter();
            // Whoever gave up meanwhile has no use for it.
            let _ = tell.send(launch.spawn_confined());
        };
        let thread = thread::Builder::new().name("rsync-start".into());
        if let Err(error) = thread.spawn(start) {
            let started = self.spawn(Err(Unconfined::NoThread(error)));
            return started.map_err(Exit::NotStarted);
        }
        // A file that rsync is to read may be on a file system that hangs. A start that gets on is not interrupted.
        let given_up = async {
            tokio::select! {
                () = after(limit.or(self.patience)) => {}
                () = cancel.cancelled() => tokio::time::sleep(GRACE).await,
            }
        };
        tokio::select! {
            biased;
            started = told => {
                let started = started.unwrap_or_else(|gone| Err(io::Error::other(gone)));
                started.map_err(Exit::NotStarted)
            }
            () = given_up => Err(Exit::Code(TIMED_OUT)),
        }
    }

    /// Restricts this thread for good.
    fn spawn_confined(&self) -> io::Result<Running> {
        let confined = match &self.confinement {
            Some(policy) => sandbox::restrict(policy, self.root.as_deref()),
            None => Err(Unconfined::NotAsked),
        };
        self.spawn(confined)
    }

    fn spawn(&self, confined: Result<OwnersNames, Unconfined>) -> io::Result<Running> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Messages are compared with names, so they must come in one language; and popt reads aliases from the
            // home directory, one of which can turn every run into a dry run.
            .env("LC_ALL", "C")
            .env("HOME", "/")
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"RSYNC_") {
                command.env_remove(name);
            }
        }
        if let Err(reason) = &confined
            && !matches!(reason, Unconfined::NotAsked)
        {
            debug!("rsync is not confined: {reason}");
        }
        // Without a file, rsync would ask the terminal for a password, and wait there for ever.
        command.env("RSYNC_PASSWORD", "");
        let mut child = command.spawn()?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Running {
            child,
            group,
            stdin,
            stdout,
            stderr,
            patience: self.patience,
            confined,
        })
    }

    /// Whether the same once more mends what the first time may have left, and does nothing else.
    fn can_be_repeated(&self, ended: &Ended) -> bool {
        matches!(ended.exit, Exit::Code(0 | 23 | 24))
            && !self.args.iter().any(|arg| arg == args::DRY_RUN)
    }
}

/// A child and its pipes, which are taken out of it: waiting for a child closes a standard input it still has.
struct Running {
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// See [`Launch::patience`].
    patience: Option<Duration>,
    confined: Result<OwnersNames, Unconfined>,
}

/// Runs rsync with a list. When `cancel` is cancelled, or after `limit`, the child is ended, and its end is reported
/// like any other. `listen` hears its standard output as it comes.
///
/// If somebody added a user meanwhile, a child that was confined may have sent numbers in the place of names that it
/// could not look up any more. Then it is done once more, and what differs is put right.
pub async fn run(
    launch: &Launch,
    list: Vec<u8>,
    limit: Option<Duration>,
    cancel: &CancellationToken,
    mut listen: impl FnMut(&[u8]),
) -> Ended {
    let (ended, knew_names) = run_once(launch, &list, limit, cancel, &mut listen).await;
    if knew_names || cancel.is_cancelled() || !launch.can_be_repeated(&ended) {
        return ended;
    }
    debug!("users or groups were changed meanwhile: once more");
    let (mut again, _) = Box::pin(run_once(launch, &list, limit, cancel, listen)).await;
    again.stats += ended.stats;
    again.took += ended.took;
    again
}

/// Also returns whether it could look names up all the time.
async fn run_once(
    launch: &Launch,
    list: &[u8],
    limit: Option<Duration>,
    cancel: &CancellationToken,
    listen: impl FnMut(&[u8]),
) -> (Ended, bool) {
    match launch.start(limit, cancel).await {
        Ok(mut child) => {
            let names = child.take_names();
            let ended = child.finish(list, limit, cancel, listen).await;
            (ended, names.is_none_or(|names| names.are_current()))
        }
        Err(exit) => (not_started(exit), true),
    }
}

fn not_started(exit: Exit) -> Ended {
    Ended {
        exit,
        stderr: Vec::new(),
        stderr_cut: false,
        deletions_skipped: false,
        stats: Stats::default(),
        took: Duration::ZERO,
    }
}

/// A list, and how long its run may take.
type Given = (Vec<u8>, Option<Duration>);

/// A child that is connected and waits for its list.
#[derive(Debug)]
pub struct Standby {
    list: oneshot::Sender<Given>,
    /// `None` if it ended without having taken a list.
    task: JoinHandle<Option<Ended>>,
}

impl Standby {
    /// Starts one. It ends by itself when it is dropped, after `quiet` without a list, or when `cancel` is cancelled.
    /// It has its `place` until it has something to do, or has ended.
    #[must_use]
    pub fn start(
        launch: Launch,
        quiet: Duration,
        cancel: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (list, receiver) = oneshot::channel::<Given>();
        let task = tokio::spawn(async move {
            let mut running = launch.start(None, &cancel).await.ok()?;
            // The source is not held open by us while it waits.
            drop(launch);
            let names = running.take_names();
            let knows_names = || names.as_ref().is_none_or(OwnersNames::are_current);
            let list = tokio::select! {
                list = receiver => list.ok(),
                () = tokio::time::sleep(quiet) => None,
                () = cancel.cancelled() => None,
                _ = running.child.wait() => None,
            };
            let list = list.filter(|_| knows_names());
            let was_given = list.is_some();
            let (list, limit) = list.unwrap_or_default();
            let place = (!was_given).then_some(place);
            // With an empty list it says good-bye to the daemon, so that no connection is left to time out.
            let ended = running.finish(&list, limit, &cancel, |_| {}).await;
            drop(place);
            (was_given && knows_names()).then_some(ended)
        });
        Self { list, task }
    }

    /// Whether it still waits. A dead connection does not show; its run then fails and a new child is started.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.task.is_finished() && !self.list.is_closed()
    }

    /// Ends it, and waits for its end.
    pub async fn end(self) {
        drop(self.list);
        pass_panic_on(self.task.await);
    }

    /// Gives it its list, and ends it after `limit`. `None` if it had ended by then, or cannot look up the names of
    /// owners any more: the list is to be given to another.
    pub async fn run(self, list: Vec<u8>, limit: Option<Duration>) -> Option<Ended> {
        self.list.send((list, limit)).ok()?;
        pass_panic_on(self.task.await)
    }
}

/// `None` if the runtime ended meanwhile.
fn pass_panic_on(ended: Result<Option<Ended>, JoinError>) -> Option<Ended> {
    match ended {
        Ok(ended) => ended,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        Err(_) => None,
    }
}

impl Running {
    /// Which files it can look names up in; `None` if in any.
    fn take_names(&mut self) -> Option<OwnersNames> {
        let taken = std::mem::replace(&mut self.confined, Err(Unconfined::NotAsked));
        taken.ok()
    }

    /// Feeds the child and waits for its end.
    async fn finish(
        self,
        list: &[u8],
        limit: Option<Duration>,
        cancel: &CancellationToken,
        listen: impl FnMut(&[u8]),
    ) -> Ended {
        let start = Instant::now();
        let Self {
            mut child,
            group,
            stdin,
            stdout,
            stderr,
            patience,
            confined: _,
        } = self;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A child that ended early does not take its list; its exit says why.
                let _ = stdin.write_all(list).await;
            }
        };
        let end = async {
            let instead = tokio::select! {
                status = child.wait() => return status.map_or_else(Exit::NotStarted, exit_of),
                () = cancel.cancelled() => None,
                lifeless = life::lifeless(group, patience) => Some(match lifeless {
                    Lifeless::InAPipe => Exit::Stuck,
                    Lifeless::Hung => Exit::Hung,
                }),
                () = after(limit) => Some(Exit::Code(TIMED_OUT)),
            };
            signal(group, Signal::TERM);
            let in_time = tokio::time::timeout(GRACE, child.wait()).await;
            let status = if let Ok(status) = in_time {
                // What it has started need not have ended with it.
                clear_away(group).await;
                status
            } else {
                signal(group, Signal::KILL);
                child.wait().await
            };
            instead.unwrap_or_else(|| status.map_or_else(Exit::NotStarted, exit_of))
        };
        let enough = CancellationToken::new();
        let output = async {
            tokio::join!(
                feed,
                keep_last(stdout, STDOUT_KEPT, &enough, listen),
                keep_first(stderr, STDERR_KEPT, &enough)
            )
        };
        let (mut end, mut output) = (pin!(end), pin!(output));
        let mut read = None;
        let exit = loop {
            tokio::select! {
                exit = &mut end => break exit,
                all = &mut output, if read.is_none() => read = Some(all),
            }
        };
        if read.is_none() {
            read = tokio::time::timeout(LINGER, &mut output).await.ok();
        }
        let ((), (out, skipped), (stderr, stderr_cut)) = if let Some(all) = read {
            all
        } else {
            signal(group, Signal::KILL);
            enough.cancel();
            output.await
        };
        Ended {
            exit,
            stderr,
            stderr_cut,
            deletions_skipped: skipped.was_said(),
            stats: Stats::read(&out),
            took: start.elapsed(),
        }
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may be gone already.
        let _ = kill_process_group(group, signal);
    }
}

/// Ends what is left of a group whose leader has ended. A receiver on this machine removes its temporary files first.
async fn clear_away(group: Option<Pid>) {
    const LOOK_AGAIN: Duration = Duration::from_millis(20);
    let Some(pid) = group else { return };
    let emptied = async {
        while test_kill_process_group(pid).is_ok() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(LINGER, emptied).await.is_err() {
        signal(group, Signal::KILL);
    }
}

/// `None` at the end, or when it is enough.
async fn read_some(
    pipe: &mut (impl AsyncRead + Unpin),
    chunk: &mut [u8],
    enough: &CancellationToken,
) -> Option<usize> {
    tokio::select! {
        biased;
        count = pipe.read(chunk) => count.ok().filter(|count| *count > 0),
        () = enough.cancelled() => None,
    }
}

async fn keep_first(
    pipe: Option<impl AsyncRead + Unpin>,
    most: usize,
    enough: &CancellationToken,
) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    let mut cut = false;
    let Some(mut pipe) = pipe else {
        return (kept, cut);
    };
    let mut chunk = [0; 4096];
    while let Some(count) = read_some(&mut pipe, &mut chunk, enough).await {
        let room = most - kept.len();
        cut |= count > room;
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    (kept, cut)
}

async fn keep_last(
    pipe: Option<impl AsyncRead + Unpin>,
    most: usize,
    enough: &CancellationToken,
    mut listen: impl FnMut(&[u8]),
) -> (Vec<u8>, Skipped) {
    let (mut kept, mut skipped) = (Vec::new(), Skipped::default());
    let Some(mut pipe) = pipe else {
        return (kept, skipped);
    };
    let mut chunk = [0; 4096];
    while let Some(count) = read_some(&mut pipe, &mut chunk, enough).await {
        listen(&chunk[..count]);
        skipped.read(&chunk[..count]);
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > most * 2 {
            kept.drain(..kept.len() - most);
        }
    }
    (kept, skipped)
}
