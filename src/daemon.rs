//! The composition root: it starts a task for each mirror, answers signals, reloads, and ends everything in order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, Loaded, MirrorConfig};
use crate::mirror::{MirrorTask, Shared};
use crate::rsync::{find_program, version};

/// How an instance runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the configuration came from and is read again from; `None` if it was given on the command line.
    pub config_file: Option<PathBuf>,
    /// At most so many rsync children.
    pub children: usize,
    /// Whether the first thing is a push of everything.
    pub initial_push: bool,
}

/// What ends the process at its start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no rsync.
    #[error("rsync was not found in PATH; install the package `rsync`")]
    NoRsync,
    /// It does not run.
    #[error("failed to run `{}`", program.display())]
    BrokenRsync {
        /// Where it was found.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too old.
    #[error("rsync {found} is too old; install rsync {} or newer", version::OLDEST)]
    OldRsync {
        /// What is there.
        found: version::Version,
    },
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[from] io::Error),
}

/// Runs an instance until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// Something without which nothing can work is missing. Afterwards no error ends it.
pub async fn run(config: Config, options: Options) -> Result<(), StartError> {
    let mut terminate = Terminate::new()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let shared = Shared {
        program: check_rsync().await?,
        children: Arc::new(Semaphore::new(options.children)),
        retry_period: config.retry_period,
        initial_push: options.initial_push,
    };
    let mut mirrors = Mirrors {
        running: Vec::new(),
        tasks: JoinSet::new(),
        shared,
    };
    mirrors.apply(config).await;
    loop {
        tokio::select! {
            () = terminate.recv() => break,
            _ = hang_up.recv() => reload(options.config_file.as_deref(), &mut mirrors).await,
            Some(ended) = mirrors.tasks.join_next() => {
                // A mirror ends only when it is told to; a panic in it is a fault of ours that must not go unseen.
                if let Err(failure) = ended
                    && failure.is_panic()
                {
                    std::panic::resume_unwind(failure.into_panic());
                }
            }
        }
    }
    info!("ending");
    mirrors.end().await;
    Ok(())
}

/// Reads the configuration again. One that is not in order changes nothing.
async fn reload(file: Option<&Path>, mirrors: &mut Mirrors) {
    let Some(file) = file else {
        return warn!("there is no configuration file to be read again");
    };
    match Config::load(file).and_then(Loaded::into_runnable) {
        Ok((config, warnings)) => {
            for warning in &warnings {
                warn!("{warning}");
            }
            mirrors.apply(config).await;
            info!("the new configuration is in force");
        }
        Err(error) => error!("the new configuration is not used, the old one stays:\n{error}"),
    }
}

async fn check_rsync() -> Result<PathBuf, StartError> {
    let program = find_program().ok_or(StartError::NoRsync)?;
    match version::of(&program).await {
        Ok(found) if found < version::OLDEST => Err(StartError::OldRsync { found }),
        Ok(_) => Ok(program),
        Err(source) => Err(StartError::BrokenRsync { program, source }),
    }
}

/// The mirrors that run.
struct Mirrors {
    running: Vec<(MirrorConfig, CancellationToken)>,
    tasks: JoinSet<()>,
    shared: Shared,
}

impl Mirrors {
    /// Ends what is not in the configuration, starts what is new; a mirror that stays as it is goes on undisturbed.
    async fn apply(&mut self, config: Config) {
        let stays = |mirror: &MirrorConfig| config.mirrors.contains(mirror);
        let same_period = self.shared.retry_period == config.retry_period;
        let (kept, ended): (Vec<_>, Vec<_>) = self
            .running
            .drain(..)
            .partition(|(mirror, _)| same_period && stays(mirror));
        let ends = ended.len();
        for (mirror, stop) in ended {
            info!(SERSYNC_MIRROR = %mirror.source.display(), "no longer mirroring {}", mirror.source.display());
            stop.cancel();
        }
        // The same source or target must not be served twice.
        for _ in 0..ends {
            let _ = self.tasks.join_next().await;
        }
        self.running = kept;
        self.shared.retry_period = config.retry_period;
        for mirror in config.mirrors {
            if self.running.iter().any(|(other, _)| *other == mirror) {
                continue;
            }
            for remote in &mirror.remotes {
                info!("mirroring {} to {}", mirror.source.display(), remote.target);
            }
            let stop = CancellationToken::new();
            let task = MirrorTask::new(mirror.clone(), self.shared.clone(), stop.clone());
            self.tasks.spawn(task.run());
            self.running.push((mirror, stop));
        }
    }

    async fn end(&mut self) {
        for (_, stop) in &self.running {
            stop.cancel();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Terminate {
    term: Signal,
    int: Signal,
}

impl Terminate {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
