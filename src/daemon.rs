//! The composition root: it starts a task for each mirror, answers signals and the bus, reloads, and ends everything in
//! order.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError, Loaded, PluginKind, Problem};
use crate::control::{
    self, ControlEnd, ControlError, ControlHandle, Drift, LogControl, LogLevel, Notice, Reply,
    Request, Scope,
};
use crate::dbus::{self, BusAddress, Identity, Presence};
use crate::fail_log::FailLog;
use crate::mirror::{Memory, MirrorHandle, Places, Question, Shared};
use crate::plugin::Plugins;
use crate::rsync::program::try_confined;
use crate::rsync::{Program, find_program, version};
use crate::systemd::ServiceManager;
use crate::{message_id as id, sysctl};

mod mirrors;
mod plugins;
mod request;

use mirrors::Mirrors;
use request::Answered;

/// The bus answers within milliseconds, or within two seconds that the name is taken. One that does not is not waited
/// for: mirroring begins without it.
const BUS_PATIENCE: Duration = Duration::from_secs(5);
/// At the end, the bus has so long to say good-bye.
const FAREWELL: Duration = Duration::from_secs(3);
/// Verifications whose findings are kept.
const KEPT_VERIFICATIONS: usize = 4;

/// How an instance runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub instance: String,
    /// Where the configuration came from and is read again from; `None` if it was given on the command line.
    pub config_file: Option<PathBuf>,
    /// At most so many rsync children at work.
    pub children: usize,
    /// Whether the first thing is a push of everything.
    pub initial_push: bool,
    /// Whether rsync is kept from touching anything but the sources and what it needs, where the kernel can do that.
    pub confine: bool,
    /// Where state is kept between starts; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// The sources are right as they are at the start, a person has said.
    pub accept_source: bool,
    /// Nothing is sent anywhere: this plugin alone is told of every change, also after a reload.
    pub plugins_only: Option<PluginKind>,
    /// The bus it is controlled on.
    pub bus: Option<BusAddress>,
    /// The way to the log's level.
    pub log: Arc<dyn LogControl>,
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
    /// Two processes must not serve one instance.
    #[error("another process is the instance `{0}`: it has the name org.sersync1.{0} on the bus")]
    NameTaken(String),
}

/// Runs an instance until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// Something without which nothing can work is missing. Afterwards no error ends it.
pub async fn run(config: Config, options: Options) -> Result<(), StartError> {
    let mut terminate = Terminate::new()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let program = if options.plugins_only.is_some() {
        Program::default()
    } else {
        confine(check_rsync().await?, options.confine).await
    };
    raise_limits();
    let (
        control,
        ControlEnd {
            mut requests,
            board,
        },
    ) = control::channel();
    let (ending, gone) = (CancellationToken::new(), CancellationToken::new());
    let mut service = JoinSet::new();
    let (mut bus, bus_is_settled) = Bus::join(&options, &control, &gone, &mut service);
    let (pulses, mut asked_for_life) = mpsc::channel(1);
    let service_manager = ServiceManager::default();
    service.spawn(service_manager.clone().run(
        control.snapshots(),
        bus_is_settled,
        move || pulse(pulses.clone()),
        ending.clone(),
    ));
    if bus.is_expected() {
        let presence = tokio::time::timeout(BUS_PATIENCE, bus.presence()).await;
        if presence == Ok(Presence::NameTaken) {
            return Err(StartError::NameTaken(options.instance));
        }
    }
    let state_dir = options.state_dir.as_ref();
    let fail_log_instead = state_dir.map(|dir| dir.join(format!("{}.fail.log", options.instance)));
    let shared = Shared {
        program,
        sockets: Arc::default(),
        places: Places::new(options.children),
        retry_period: config.retry_period,
        initial_push: options.initial_push,
        plugins: Plugins::default(),
        crontab: watch::Sender::new(None),
        board,
        fail_log: FailLog::new(fail_log_instead),
        state_dir: options.state_dir,
        memory: Memory::default(),
        accept_source: options.accept_source,
    };
    let mut daemon = Daemon {
        mirrors: Mirrors::new(shared),
        config_file: options.config_file,
        plugins_only: options.plugins_only,
        debug: config.debug,
        log: options.log,
        service_manager,
        answers: JoinSet::new(),
        verified: VecDeque::new(),
        next_run: 1,
    };
    daemon.mirrors.apply(config).await;
    loop {
        tokio::select! {
            () = terminate.recv() => break,
            _ = hang_up.recv() => {
                // Whoever sent the signal reads of a failure in the log.
                let _ = daemon.reload().await;
            }
            Some(request) = requests.recv() => daemon.on_request(request).await,
            Some(reply) = asked_for_life.recv() => daemon.pulse(reply),
            presence = bus.presence() => if presence == Presence::NameTaken {
                daemon.mirrors.end().await;
                return Err(StartError::NameTaken(options.instance));
            },
            Some(answered) = daemon.answers.join_next() => daemon.on_answered(answered),
            () = daemon.mirrors.watch_over() => {}
        }
    }
    info!("ending");
    ending.cancel();
    // Whoever waits for an answer hears that there will be none.
    drop(requests);
    daemon.mirrors.end().await;
    gone.cancel();
    let farewell = async { while service.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    Ok(())
}

/// Whether the process is on a bus.
struct Bus {
    /// What came of the first try, until it is known.
    presence: Option<oneshot::Receiver<Presence>>,
    /// Dropped when it is known, or if there is nothing to be known.
    settled: Option<oneshot::Sender<()>>,
}

impl Bus {
    /// Starts to serve on the bus of the options. The second value comes to an end when it is settled what comes of it.
    fn join(
        options: &Options,
        control: &ControlHandle,
        gone: &CancellationToken,
        service: &mut JoinSet<()>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (settled, is_settled) = oneshot::channel();
        let mut bus = Self {
            presence: None,
            settled: None,
        };
        if let Some(address) = options.bus.clone() {
            let (ready, presence) = oneshot::channel();
            let identity = Identity {
                instance: options.instance.clone(),
                config_file: options.config_file.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
            };
            let (control, log) = (control.clone(), Arc::clone(&options.log));
            service.spawn(dbus::serve(
                address,
                identity,
                control,
                log,
                gone.clone(),
                ready,
            ));
            bus.presence = Some(presence);
            bus.settled = Some(settled);
        }
        (bus, is_settled)
    }

    fn is_expected(&self) -> bool {
        self.presence.is_some()
    }

    /// What came of the first try, once.
    async fn presence(&mut self) -> Presence {
        let Some(presence) = &mut self.presence else {
            return std::future::pending().await;
        };
        let presence = presence.await;
        self.presence = None;
        self.settled = None;
        presence.unwrap_or_else(|_| Presence::WithoutBus("the bus was left".into()))
    }
}

/// Asks the daemon for a sign of life of all its parts.
async fn pulse(pulses: mpsc::Sender<oneshot::Sender<u64>>) -> u64 {
    let (reply, answer) = oneshot::channel();
    match pulses.send(reply).await {
        Ok(()) => match answer.await {
            Ok(walked) => walked,
            Err(_) => std::future::pending().await,
        },
        Err(_) => std::future::pending().await,
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

/// Finds out whether its runs can be confined, and says if not.
async fn confine(path: PathBuf, is_wanted: bool) -> Program {
    let confined = if is_wanted {
        try_confined(&path).await
    } else {
        Err("--confine no".into())
    };
    if let Err(reason) = &confined {
        info!("rsync is not confined to the sources: {reason}");
    }
    Program {
        path,
        is_confined: confined.is_ok(),
    }
}

fn raise_limits() {
    for report in sysctl::raise(Path::new(sysctl::DIRECTORY), sysctl::Limits::WANTED) {
        if report.is_short() {
            warn!(MESSAGE_ID = id::LIMIT_REACHED, "{report}");
        } else if report.is_raised() {
            info!(MESSAGE_ID = id::LIMITS_RAISED, "{report}");
        }
    }
}

/// What runs, and what was asked of it.
struct Daemon {
    mirrors: Mirrors,
    config_file: Option<PathBuf>,
    plugins_only: Option<PluginKind>,
    /// `<debug>` of the configuration in force: what an administrator has set meanwhile stays as long as it does.
    debug: bool,
    log: Arc<dyn LogControl>,
    service_manager: ServiceManager,
    /// Questions that are on their way.
    answers: JoinSet<Answered>,
    /// What verifications found, the oldest first.
    verified: VecDeque<(u64, Vec<Drift>)>,
    next_run: u64,
}

impl Daemon {
    /// Reads the configuration again. One that is not in order changes nothing.
    async fn reload(&mut self) -> Result<(), ControlError> {
        let Some(file) = &self.config_file else {
            let refusal = "there is no configuration file to be read again";
            warn!("{refusal}");
            return Err(ControlError::InvalidArgument(refusal.into()));
        };
        let _reloading = self.service_manager.reloading();
        match load(file, self.plugins_only) {
            Ok((config, warnings)) => {
                for warning in &warnings {
                    warn!("{warning}");
                }
                if std::mem::replace(&mut self.debug, config.debug) != config.debug {
                    self.log.set_level(if config.debug {
                        LogLevel::Debug
                    } else {
                        LogLevel::Info
                    });
                }
                self.mirrors.apply(config).await;
                info!("the new configuration is in force");
                Ok(())
            }
            Err(error) => {
                error!(
                    MESSAGE_ID = id::CONFIGURATION_REJECTED,
                    "the new configuration is not used, the old one stays:\n{error}"
                );
                Err(ControlError::InvalidConfiguration(error.to_string()))
            }
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Reload(reply) => {
                let _ = reply.send(self.reload().await);
            }
            Request::ListDrift {
                run,
                skip,
                limit,
                reply,
            } => {
                let _ = reply.send(self.drift(run, skip, limit));
            }
            Request::Resync(selection, reply) => {
                let run = request::resync(&self.mirrors, &selection, self.next_run);
                self.begin(run, reply);
            }
            Request::Verify(selection, reply) => {
                let run = request::verify(&self.mirrors, &selection, self.next_run);
                self.begin(run, reply);
            }
            other => {
                match &other {
                    Request::Pause(scope, _) => self.mirrors.note_paused(*scope, true),
                    Request::Resume(scope, _) => self.mirrors.note_paused(*scope, false),
                    _ => {}
                }
                request::pass_on(&self.mirrors, other, &mut self.answers);
            }
        }
    }

    /// Begins what is answered by the number of a run, and ends in a notice.
    fn begin(
        &mut self,
        run: Result<impl Future<Output = Answered> + Send + 'static, ControlError>,
        reply: Reply<u64>,
    ) {
        let started = run.map(|run| {
            self.answers.spawn(run);
            self.next_run += 1;
            self.next_run - 1
        });
        let _ = reply.send(started);
    }

    fn on_answered(&mut self, answered: Result<Answered, JoinError>) {
        match answered {
            Ok(Answered::Run {
                id,
                ok,
                detail,
                drift,
            }) => {
                if let Some(drift) = drift {
                    self.verified.push_back((id, drift));
                    if self.verified.len() > KEPT_VERIFICATIONS {
                        self.verified.pop_front();
                    }
                }
                let notice = Notice::RunFinished { id, ok, detail };
                self.mirrors.board().notice(notice);
            }
            Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
            Ok(Answered::Question) | Err(_) => {}
        }
    }

    fn drift(&self, run: u64, skip: u64, limit: u32) -> Result<Vec<Drift>, ControlError> {
        let found = self.verified.iter().find(|(id, _)| *id == run);
        let (_, drift) = found.ok_or_else(|| {
            ControlError::NotFound(format!("there is no finished verification {run}"))
        })?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let some = drift.iter().skip(skip).take(limit as usize);
        Ok(some.cloned().collect())
    }

    /// All mirrors are asked; the answer is how many directories they have walked.
    fn pulse(&mut self, reply: oneshot::Sender<u64>) {
        let mirrors: Vec<MirrorHandle> = self.mirrors.handles().cloned().collect();
        self.answers.spawn(async move {
            let mut walked = 0;
            for mirror in mirrors {
                // One that a reload has ended meanwhile need not live.
                let more = mirror.ask(Scope::All, Question::Pulse).await;
                walked += more.unwrap_or_default();
            }
            let _ = reply.send(walked);
            Answered::Question
        });
    }
}

/// Reads a configuration and its warnings.
///
/// # Errors
/// Every problem of the file, or the plugin is not in it that alone is to be told.
pub fn load(
    file: &Path,
    plugins_only: Option<PluginKind>,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let Loaded {
        config, warnings, ..
    } = Config::load(file)?;
    let config = match plugins_only {
        None => config,
        Some(kind) => config.into_plugins_only(file, kind)?,
    };
    Ok((config, warnings))
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
