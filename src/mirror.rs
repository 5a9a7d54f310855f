//! The task of one mirror: it has the source watched and hands every change to its lanes.
//!
//! It also keeps an eye on the source root. While the directory that is mirrored is not where it belongs, the lanes
//! stand still; when that very directory is back, everything may differ and is compared.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, trace, warn};

use crate::change::{Blindness, Change, WatchEvent};
use crate::config::MirrorConfig;
use crate::lane::task::{LaneHandle, LaneMessage, LaneTask};
use crate::lane::transfer::Context;
use crate::links::LinkIndex;
use crate::path::{Identity, RelPath, SourceRoot};
use crate::watch::inotify::Inotify;
use crate::watch::{WatchConfig, Watcher, Watching};

/// Messages between the watcher's thread and the mirror; past it the kernel's queue holds what comes.
const EVENTS: usize = 256;
/// How often a root that is missing is looked for.
const MISSING_CHECK: Duration = Duration::from_secs(1);
/// How often an empty root is looked at: something may be mounted over it, which raises no event.
const EMPTY_CHECK: Duration = Duration::from_secs(2);
/// How often the root is looked at otherwise, for what raises no event: a directory above it was renamed.
const ROUTINE_CHECK: Duration = Duration::from_secs(120);

/// What the mirrors of an instance share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The rsync program.
    pub program: PathBuf,
    /// At most so many children.
    pub children: Arc<Semaphore>,
    /// See [`crate::config::Config::retry_period`].
    pub retry_period: Duration,
    /// Whether the first thing is a push of everything.
    pub initial_push: bool,
}

/// See the module.
#[derive(Debug)]
pub struct MirrorTask {
    config: MirrorConfig,
    shared: Shared,
    stop: CancellationToken,
}

/// How a session with one source directory ended.
enum SessionEnd {
    Stopped,
    /// Another directory is to be taken for the source.
    NewSource,
}

impl MirrorTask {
    /// A mirror; `stop` ends it.
    #[must_use]
    pub fn new(config: MirrorConfig, shared: Shared, stop: CancellationToken) -> Self {
        Self {
            config,
            shared,
            stop,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        while let Some(root) = self.wait_for_source().await {
            let mut session = Session::new(&self.config, &self.shared, root.identity());
            let end = session.run(root, &self.stop).await;
            session.end().await;
            if matches!(end, SessionEnd::Stopped) {
                return;
            }
            self.shared.initial_push = true;
        }
    }

    async fn wait_for_source(&self) -> Option<SourceRoot> {
        let mut told = false;
        loop {
            match SourceRoot::open(&self.config.source) {
                Ok(root) => return Some(root),
                Err(error) if !told => {
                    told = true;
                    let source = self.config.source.display();
                    error!(
                        SERSYNC_MIRROR = %source,
                        "{source} cannot be opened, nothing is sent or deleted until it can: {error}"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(MISSING_CHECK) => {}
            }
        }
    }
}

/// A mirror with a certain source directory.
struct Session<'a> {
    config: &'a MirrorConfig,
    identity: Identity,
    /// Whether the source had an entry at some time. An empty directory may be a mount point that waits for its mount.
    was_filled: bool,
    links: Arc<LinkIndex>,
    lanes: Vec<LaneHandle>,
    tasks: TaskTracker,
    stop_lanes: CancellationToken,
    push_when_scanned: bool,
}

impl<'a> Session<'a> {
    fn new(config: &'a MirrorConfig, shared: &'a Shared, identity: Identity) -> Self {
        let links = Arc::new(LinkIndex::default());
        let tasks = TaskTracker::new();
        let stop_lanes = CancellationToken::new();
        let lanes = config.remotes.iter().map(|remote| {
            let context = Context {
                remote: remote.clone(),
                source: config.source.clone(),
                identity,
                deletes: config.switches.delete && config.switches.move_from,
                links: Arc::clone(&links),
                program: shared.program.clone(),
                children: Arc::clone(&shared.children),
                stop: stop_lanes.clone(),
                cancel: CancellationToken::new(),
            };
            let (task, handle) = LaneTask::new(context, shared.retry_period);
            tasks.spawn(task.run());
            handle
        });
        let lanes: Vec<LaneHandle> = lanes.collect();
        tasks.close();
        let push_when_scanned = shared.initial_push;
        Self {
            config,
            identity,
            was_filled: false,
            links,
            lanes,
            tasks,
            stop_lanes,
            push_when_scanned,
        }
    }

    async fn end(self) {
        self.stop_lanes.cancel();
        self.tasks.wait().await;
    }

    async fn run(&mut self, root: SourceRoot, stop: &CancellationToken) -> SessionEnd {
        let mut root = Some(root);
        loop {
            let (sender, mut events) = mpsc::channel(EVENTS);
            let watching = match root.take() {
                Some(root) => self.watch(root, sender),
                None => Ok(None),
            };
            match watching {
                Ok(Some(_watching)) => {
                    tokio::select! {
                        () = stop.cancelled() => return SessionEnd::Stopped,
                        () = self.follow(&mut events) => {}
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let source = self.config.source.display();
                    error!(SERSYNC_MIRROR = %source, "{source} cannot be watched, trying again: {error}");
                    tokio::select! {
                        () = stop.cancelled() => return SessionEnd::Stopped,
                        () = tokio::time::sleep(MISSING_CHECK * 10) => {}
                    }
                }
            }
            self.tell(&LaneMessage::Source { present: false }).await;
            tokio::select! {
                () = stop.cancelled() => return SessionEnd::Stopped,
                back = self.wait_for_return() => match back {
                    Some(found) => root = Some(found),
                    None => return SessionEnd::NewSource,
                },
            }
            self.tell(&LaneMessage::Source { present: true }).await;
            self.push_when_scanned = true;
        }
    }

    fn watch(
        &mut self,
        root: SourceRoot,
        events: mpsc::Sender<WatchEvent>,
    ) -> io::Result<Option<Watching>> {
        self.was_filled |= !root.is_empty()?;
        let config = WatchConfig {
            source: self.config.source.clone(),
            switches: self.config.switches,
            one_file_system: self
                .config
                .remotes
                .iter()
                .all(|remote| remote.params.one_file_system()),
        };
        Inotify.start(root, config, events).map(Some)
    }

    /// Hands on what the watcher says, until the source is not there any more.
    async fn follow(&mut self, events: &mut mpsc::Receiver<WatchEvent>) {
        loop {
            let check = if self.was_filled {
                ROUTINE_CHECK
            } else {
                EMPTY_CHECK
            };
            let event = tokio::select! {
                event = events.recv() => event,
                () = tokio::time::sleep(check) => {
                    if self.is_source_there() {
                        continue;
                    }
                    return;
                }
            };
            match event {
                Some(event) => {
                    if !self.on_event(event).await {
                        return;
                    }
                }
                // Its thread has ended, which it never does by itself.
                None => panic!("the watcher of {} has ended", self.config.source.display()),
            }
        }
    }

    /// `false` when the source is gone.
    async fn on_event(&mut self, event: WatchEvent) -> bool {
        let source = self.config.source.display();
        match event {
            WatchEvent::Changes(changes) => {
                self.was_filled = true;
                for change in &changes {
                    if let Some(inode) = change.linked {
                        self.links.note(&change.path, inode);
                    }
                }
                self.tell(&LaneMessage::Changes(changes.into())).await;
            }
            WatchEvent::Scanned { directories } => {
                info!(SERSYNC_MIRROR = %source, "watching {directories} directories below {source}");
                if std::mem::take(&mut self.push_when_scanned) {
                    let everything = [Change::subtree(RelPath::root())];
                    self.tell(&LaneMessage::Changes(everything.into())).await;
                }
            }
            WatchEvent::Overflowed => {
                warn!(
                    SERSYNC_MIRROR = %source,
                    "the kernel dropped events of {source}, the whole tree is compared; \
                     raise fs.inotify.max_queued_events if this happens often"
                );
            }
            WatchEvent::Uncovered {
                directories: 0,
                cause: _,
            } => info!(SERSYNC_MIRROR = %source, "all directories of {source} are watched again"),
            WatchEvent::Uncovered { directories, cause } => {
                let cause = match cause {
                    Blindness::NoWatches => format!(
                        "the kernel allows no more watches: raise fs.inotify.max_user_watches by at least {directories}"
                    ),
                    Blindness::Denied => "they may not be read".into(),
                    Blindness::Failed(cause) => cause,
                };
                error!(
                    SERSYNC_MIRROR = %source,
                    "{directories} directories of {source} are not watched, they are compared every few minutes: {cause}"
                );
            }
            WatchEvent::Reached(_) => {}
            WatchEvent::RootGone => return self.is_source_there(),
        }
        true
    }

    fn is_source_there(&self) -> bool {
        match rustix::fs::stat(&self.config.source) {
            Ok(stat) => Identity::of(&stat) == self.identity,
            Err(_) => false,
        }
    }

    /// Waits for the source directory; `None` if another is to be taken for it, since this one never held anything.
    async fn wait_for_return(&mut self) -> Option<SourceRoot> {
        let source = self.config.source.display().to_string();
        let mut told = false;
        loop {
            match SourceRoot::open(&self.config.source) {
                Ok(root) if root.identity() == self.identity => {
                    if told {
                        info!(
                            SERSYNC_MIRROR = source,
                            "{source} is back, the whole tree is compared"
                        );
                    }
                    return Some(root);
                }
                Ok(_) if !self.was_filled => return None,
                Ok(_) if !told => {
                    told = true;
                    error!(
                        SERSYNC_MIRROR = source,
                        "another directory stands at {source}: held, nothing is sent or deleted; \
                         put the source back, or restart to accept this one"
                    );
                }
                Err(error) if !told => {
                    told = true;
                    error!(
                        SERSYNC_MIRROR = source,
                        "{source} is gone: held, nothing is sent or deleted: {error}"
                    );
                }
                _ => {}
            }
            tokio::time::sleep(MISSING_CHECK).await;
        }
    }

    async fn tell(&self, message: &LaneMessage) {
        if let LaneMessage::Changes(changes) = message {
            for change in changes.iter() {
                trace!("{change:?}");
            }
        }
        for lane in &self.lanes {
            lane.tell(message.clone()).await;
        }
    }
}
