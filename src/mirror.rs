//! The task of one mirror: it has the source watched, hands every change to its lanes, and passes on what is asked.
//!
//! It also keeps an eye on the source root. While the directory that is mirrored is not where it belongs, the lanes
//! stand still; when that very directory is back, everything may differ and is compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::config::{MirrorConfig, RemoteConfig};
use crate::control::{Board, FailedPath, MirrorSnapshot, Scope};
use crate::fail_log::FailLog;
use crate::filter::Filter;
use crate::lane::Settled;
use crate::lane::guard::{Beginning, Guard};
use crate::lane::transfer::on_disk;
use crate::lane::verify::Verified;
use crate::lasting::Lasting;
use crate::message_id as id;
use crate::path::{RelPath, SourceRoot};
use crate::plugin::Plugins;
use crate::rsync;
use crate::saved::Key;
use crate::saved::known::Known;
use crate::ssh;
use crate::store::Store;
use crate::store::known::KnownFile;

mod session;
mod timetable;

pub use crate::lane::guard::Memory;
pub use crate::lane::places::Places;
pub use session::together;
pub use timetable::Crontab;

use session::{Session, SessionEnd};
use timetable::Timetable;

/// Questions that may wait for a mirror.
const INBOX: usize = 16;
/// How often a root that is missing is looked for.
const MISSING_CHECK: Duration = Duration::from_secs(1);
/// A source whose file system takes longer is not waited for by those who wait for the start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What the mirrors of an instance share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The rsync program.
    pub program: rsync::Program,
    /// Where connections over ssh have their sockets.
    pub sockets: Arc<ssh::Sockets>,
    /// For their rsync processes.
    pub places: Places,
    /// See [`crate::config::Config::retry_period`].
    pub retry_period: Duration,
    /// Whether the first thing is a push of everything.
    pub initial_push: bool,
    /// Who is told of what was mirrored.
    pub plugins: Plugins,
    /// See [`crate::config::Config::crontab`].
    pub crontab: watch::Sender<Crontab>,
    /// Where everything is shown.
    pub board: Board,
    /// Where what failed is recorded.
    pub fail_log: FailLog,
    /// Where the lanes keep what must outlive the process.
    pub state_dir: Option<PathBuf>,
    /// What they know of their sources and targets.
    pub memory: Memory,
    /// A person has said that the sources are right as they are at the start.
    pub accept_source: bool,
}

impl Shared {
    fn store_of(&self, source: &Path, remote: &RemoteConfig) -> Option<Store> {
        let key = Key {
            source: source.to_path_buf(),
            target: remote.target.to_string(),
        };
        let source = source.display();
        match Store::open(self.state_dir.as_deref()?, key) {
            Ok((store, warning)) => {
                if let Some(warning) = warning {
                    warn!(SERSYNC_MIRROR = %source, SERSYNC_REMOTE = %remote.target, "{warning}");
                }
                Some(store)
            }
            Err(error) => {
                let dir = self.state_dir.as_deref().unwrap_or(Path::new("")).display();
                warn!(
                    SERSYNC_MIRROR = %source, SERSYNC_REMOTE = %remote.target,
                    "what fails is not kept for the next start, {dir} cannot be used: {error}"
                );
                None
            }
        }
    }
}

impl Shared {
    /// What a lane knows of its source. Without a place to keep that, it lasts as long as the process.
    fn guard_of(&self, config: &MirrorConfig, remote: &RemoteConfig) -> Guard {
        let key = Key {
            source: config.source.clone(),
            target: remote.target.to_string(),
        };
        let source = config.source.display();
        let (mut file, mut known) = (None, Known::default());
        match self
            .state_dir
            .as_deref()
            .map(|dir| KnownFile::open(dir, key.clone()))
        {
            None => {}
            Some(Ok((opened, read, warning))) => {
                (file, known) = (Some(opened), read);
                if let Some(warning) = warning {
                    warn!(SERSYNC_MIRROR = %source, SERSYNC_REMOTE = %remote.target, "{warning}");
                }
            }
            Some(Err(error)) => warn!(
                SERSYNC_MIRROR = %source, SERSYNC_REMOTE = %remote.target,
                "what {} is equal to is not kept for the next start: {error}",
                remote.target
            ),
        }
        Guard::new(Beginning {
            key,
            known,
            file,
            memory: self.memory.clone(),
            filter: config.filter.clone(),
            one_file_system: remote.params.one_file_system(),
            initial_push: self.initial_push,
            accepted: self.accept_source,
        })
    }
}

/// What a mirror is asked. An answer that never comes means that it has ended.
#[derive(Debug)]
pub struct MirrorMessage {
    /// Which of its lanes are meant.
    pub scope: Scope,
    /// What.
    pub question: Question,
}

/// Who waits for a verification.
pub type Verifier = oneshot::Sender<Vec<(u32, Result<Verified, String>)>>;

/// See [`MirrorMessage`], and [`LaneMessage`](crate::lane::task::LaneMessage) for what it means to a lane.
#[derive(Debug)]
pub enum Question {
    /// Begin nothing; answered when no child runs any more.
    Pause(oneshot::Sender<()>),
    /// Go on.
    Resume,
    /// The source is right as it is; answered when that is known, or with why it cannot be.
    AcceptSource(oneshot::Sender<Result<(), String>>),
    /// Another filter holds from now on, where one did before.
    Filter(Arc<Filter>),
    /// Wait until what has changed by now is at the remotes.
    Flush(oneshot::Sender<Settled>),
    /// Compare this with the remotes; answered when it is equal.
    Resync(RelPath, oneshot::Sender<Settled>),
    /// Compare this by checksum; answered with the numbers of the remotes.
    Verify(RelPath, Verifier),
    /// Try what failed; answered with the number of paths.
    RetryFailed(oneshot::Sender<usize>),
    /// Make the deletions that are withheld; answered with the number of entries.
    AcceptDeletions(oneshot::Sender<u64>),
    /// What failed.
    ListFailed(oneshot::Sender<Vec<FailedPath>>),
    /// Answered when the watcher and the lanes have given a sign of life, with the number of directories that were
    /// walked.
    Pulse(oneshot::Sender<u64>),
}

/// The way to a running mirror.
#[derive(Debug, Clone)]
pub struct MirrorHandle {
    inbox: mpsc::Sender<MirrorMessage>,
}

impl MirrorHandle {
    /// Asks, and waits for the answer; `None` if the mirror has ended.
    pub async fn ask<T>(
        &self,
        scope: Scope,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let question = question(reply);
        let message = MirrorMessage { scope, question };
        self.inbox.send(message).await.ok()?;
        answer.await.ok()
    }

    /// Tells what needs no answer.
    pub async fn tell(&self, scope: Scope, question: Question) {
        let _ = self.inbox.send(MirrorMessage { scope, question }).await;
    }
}

/// See the module.
#[derive(Debug)]
pub struct MirrorTask {
    config: MirrorConfig,
    /// The numbers of its remotes, in order.
    numbers: Vec<u32>,
    shared: Shared,
    stop: CancellationToken,
    inbox: mpsc::Receiver<MirrorMessage>,
    timetable: Timetable,
    paused: BTreeSet<u32>,
    /// One for each remote, in order.
    guards: Vec<Arc<Guard>>,
}

impl MirrorTask {
    /// A mirror and the way to it; `stop` ends it. Of its remotes, those with these numbers begin paused.
    #[must_use]
    pub fn new(
        config: MirrorConfig,
        numbers: Vec<u32>,
        paused: BTreeSet<u32>,
        shared: Shared,
        stop: CancellationToken,
    ) -> (Self, MirrorHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let timetable = Timetable::new(shared.crontab.subscribe());
        let remotes = config.remotes.iter();
        let guards = remotes.map(|remote| Arc::new(shared.guard_of(&config, remote)));
        let guards = guards.collect();
        let filter = config.filter.as_ref();
        shared.plugins.refilter(&config.source, filter);
        let task = Self {
            config,
            numbers,
            shared,
            stop,
            inbox,
            timetable,
            paused,
            guards,
        };
        (task, MirrorHandle { inbox: sender })
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        while let Some(root) = self.wait_for_source().await {
            let mut session = Session::new(&mut self, &root);
            let end = session.run(root).await;
            session.end().await;
            if matches!(end, SessionEnd::Stopped) {
                return;
            }
            self.shared.initial_push = true;
        }
    }

    async fn wait_for_source(&mut self) -> Option<SourceRoot> {
        let mut told = false;
        loop {
            let path = self.config.source.clone();
            let mut opening = pin!(on_disk(move || SourceRoot::open(&path)));
            let mut late = pin!(tokio::time::sleep(ANSWERS_WITHIN));
            let mut is_late = false;
            let opened = loop {
                tokio::select! {
                    () = self.stop.cancelled() => return None,
                    opened = &mut opening => break opened?,
                    () = &mut late, if !is_late => {
                        is_late = true;
                        self.does_not_answer();
                    }
                    Some(message) = self.inbox.recv() => self.answer_without_source(message),
                }
            };
            match opened {
                Ok(root) => return Some(root),
                Err(error) if !told => {
                    told = true;
                    let source = self.config.source.display();
                    error!(
                        MESSAGE_ID = id::SOURCE_MISSING,
                        SERSYNC_MIRROR = %source,
                        "{source} cannot be opened, nothing is sent or deleted until it can: {error}"
                    );
                    let cause = error.to_string();
                    self.show(|shown| shown.missing = Some(cause));
                }
                Err(_) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(MISSING_CHECK) => {}
                Some(message) = self.inbox.recv() => self.answer_without_source(message),
            }
        }
    }

    /// A file system hangs, as one of a server that is away. The others are not kept from their work for it.
    fn does_not_answer(&self) {
        let source = self.config.source.display();
        error!(
            MESSAGE_ID = id::SOURCE_MISSING,
            SERSYNC_MIRROR = %source,
            "{source} does not answer, nothing is sent or deleted until it does"
        );
        self.show(|shown| shown.missing = Some("it does not answer".into()));
    }

    /// There are no lanes as long as the source was never seen.
    fn answer_without_source(&mut self, message: MirrorMessage) {
        let held = || Settled::Held("the source is not there".into());
        // Whoever asked may have gone.
        match message.question {
            Question::Pause(reply) => {
                self.paused.extend(self.meant(message.scope));
                let _ = reply.send(());
            }
            Question::Resume => {
                let meant = self.meant(message.scope);
                self.paused.retain(|number| !meant.contains(number));
            }
            Question::AcceptSource(reply) => {
                let _ = reply.send(Err("the source is not there".into()));
            }
            Question::Filter(filter) => self.refilter(filter),
            Question::Flush(reply) | Question::Resync(_, reply) => {
                let _ = reply.send(held());
            }
            Question::Verify(_, reply) => {
                let failed = || Err("the source is not there".into());
                let meant = self.meant(message.scope).into_iter();
                let _ = reply.send(meant.map(|number| (number, failed())).collect());
            }
            Question::RetryFailed(reply) => {
                let _ = reply.send(0);
            }
            Question::ListFailed(reply) => {
                let _ = reply.send(Vec::new());
            }
            Question::AcceptDeletions(reply) | Question::Pulse(reply) => {
                let _ = reply.send(0);
            }
        }
    }

    fn meant(&self, scope: Scope) -> Vec<u32> {
        let numbers = self.numbers.iter().copied();
        numbers.filter(|number| is_meant(scope, *number)).collect()
    }

    /// Another filter holds from now on.
    fn refilter(&mut self, filter: Arc<Filter>) {
        for guard in &self.guards {
            guard.refilter(Arc::clone(&filter));
        }
        let source = &self.config.source;
        self.shared.plugins.refilter(source, Some(&filter));
        self.config.filter = Some(filter);
    }

    /// Whether a remote was last equal to another directory than this.
    fn is_other(&self, root: &Lasting) -> bool {
        let mut guards = self.guards.iter();
        guards.any(|guard| guard.knows(root) == Some(false))
    }

    /// Shows how it stands with the source.
    fn show(&self, change: impl FnOnce(&mut MirrorSnapshot)) {
        self.shared.board.update(|snapshot| {
            let source = &self.config.source;
            let mut mirrors = snapshot.mirrors.iter_mut();
            if let Some(shown) = mirrors.find(|mirror| mirror.source == *source) {
                change(shown);
            }
        });
    }
}

fn is_meant(scope: Scope, number: u32) -> bool {
    match scope {
        Scope::All => true,
        Scope::Remote(only) => only == number,
    }
}
