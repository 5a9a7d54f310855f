//! The task of a lane: it feeds the pure [`LaneState`] and carries out its jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{error, info, trace, warn};

use super::transfer::{Context, execute};
use super::{End, Job, LaneState, News, Report};
use crate::change::Change;
use crate::dirty::Route;
use crate::rsync::{Forms, RefusedForm, Standby};

/// A standby that has had nothing to do for this long ends, so that the source can be unmounted.
const QUIET: Duration = Duration::from_secs(15);
/// At the end, running transfers have this long to get through before their children are told to end.
const GRACE: Duration = Duration::from_secs(3);
/// Messages that may wait for a lane; a lane only sorts them in, so it never falls behind for long.
const INBOX: usize = 64;
/// Failed paths of one job that are logged one by one.
const LOGGED_PATHS: usize = 10;

/// What a lane is told.
#[derive(Debug, Clone)]
pub enum LaneMessage {
    /// Paths that may differ now.
    Changes(Arc<[Change]>),
    /// The source root went away, or is back.
    Source {
        /// Whether it is there.
        present: bool,
    },
}

/// The way to a running lane.
#[derive(Debug, Clone)]
pub struct LaneHandle {
    inbox: mpsc::Sender<LaneMessage>,
}

impl LaneHandle {
    /// Hands a message over; waits while the lane's inbox is full. A lane that has ended takes nothing any more.
    pub async fn tell(&self, message: LaneMessage) {
        let _ = self.inbox.send(message).await;
    }
}

/// See the module.
#[derive(Debug)]
pub struct LaneTask {
    name: String,
    state: LaneState,
    context: Arc<Context>,
    inbox: mpsc::Receiver<LaneMessage>,
    jobs: JoinSet<Finished>,
    standby: Option<Standby>,
    forms: Forms,
}

#[derive(Debug)]
enum Finished {
    Job(Route, Box<Report>),
    Probe(Result<(), End>),
}

impl LaneTask {
    /// A lane and the way to it. The tokens of its context end it.
    #[must_use]
    pub fn new(context: Context, retry_period: Duration) -> (Self, LaneHandle) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let forms = Forms::of(&context.remote);
        let state = LaneState::new(forms, retry_period, context.remote.params.inplace());
        let task = Self {
            name: context.remote.target.to_string(),
            state,
            context: Arc::new(context),
            inbox,
            jobs: JoinSet::new(),
            standby: None,
            forms,
        };
        (task, LaneHandle { inbox: sender })
    }

    /// Runs until it is told to stop. Running children then have a moment to end by themselves.
    pub async fn run(mut self) {
        loop {
            let plan = self.state.plan(Instant::now());
            for job in plan.jobs {
                self.start(job);
            }
            if plan.probe {
                let (context, forms) = (Arc::clone(&self.context), self.forms);
                self.jobs
                    .spawn(async move { Finished::Probe(context.probe(forms).await) });
            }
            tokio::select! {
                () = self.context.stop.cancelled() => break,
                message = self.inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
                Some(finished) = self.jobs.join_next() => self.on_finished(finished),
                () = sleep_until(plan.wake) => {}
            }
        }
        self.standby = None;
        if tokio::time::timeout(GRACE, self.drain()).await.is_err() {
            self.context.cancel.cancel();
            self.drain().await;
        }
        let pending = self.state.pending();
        if pending > 0 {
            info!(
                SERSYNC_REMOTE = self.name,
                "{}: the next start sends {pending} pending changes", self.name
            );
        }
    }

    async fn drain(&mut self) {
        while let Some(finished) = self.jobs.join_next().await {
            self.on_finished(finished);
        }
    }

    fn start(&mut self, job: Job) {
        self.forms = job.forms;
        trace!(route = ?job.route, paths = job.paths.len(), "job");
        let standby = if job.route == Route::Path {
            self.standby.take()
        } else {
            None
        };
        let context = Arc::clone(&self.context);
        let route = job.route;
        self.jobs.spawn(async move {
            Finished::Job(route, Box::new(execute(context, job, standby).await))
        });
    }

    fn on_message(&mut self, message: LaneMessage) {
        let now = Instant::now();
        match message {
            LaneMessage::Changes(changes) => {
                for change in changes.iter() {
                    self.state.on_change(change.clone(), now);
                }
            }
            LaneMessage::Source { present } => {
                self.state.on_source(present);
                if !present {
                    self.standby = None;
                }
            }
        }
    }

    fn on_finished(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        let (now, jitter) = (Instant::now(), fastrand::f64());
        let news = match finished {
            Ok(Finished::Job(route, report)) => {
                trace!(?route, ?report, "job ended");
                let reached = report.end == End::Reached;
                let news = self.state.on_report(route, *report, now, jitter);
                if reached && !self.context.stop.is_cancelled() {
                    self.keep_standby();
                }
                news
            }
            Ok(Finished::Probe(result)) => self.state.on_probed(result, now, jitter),
            // Nothing is known of its batch, and a process in which that happened is not to be trusted with deletions:
            // the whole service ends, and the next start restores the truth.
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        };
        self.tell(news);
    }

    fn keep_standby(&mut self) {
        if self
            .standby
            .as_ref()
            .is_none_or(|standby| !standby.is_waiting())
        {
            self.standby = self.context.standby(self.forms, QUIET);
        }
    }

    fn tell(&self, news: Vec<News>) {
        let remote = self.name.as_str();
        let mut failed = 0;
        for news in news {
            match news {
                News::Down {
                    cause,
                    needs_mending: true,
                } => {
                    error!(
                        SERSYNC_REMOTE = remote,
                        "{remote} does not take files: {}",
                        hint(&cause)
                    );
                }
                News::Down {
                    cause,
                    needs_mending: false,
                } => {
                    warn!(
                        SERSYNC_REMOTE = remote,
                        "{remote} is unreachable, changes are kept: {cause}"
                    );
                }
                News::Back(after) => {
                    let seconds = after.as_secs();
                    info!(
                        SERSYNC_REMOTE = remote,
                        "{remote} is back after {seconds} s"
                    );
                }
                News::Held(hold) => {
                    error!(
                        SERSYNC_REMOTE = remote,
                        "{remote} is held, nothing is sent or deleted: {hold}"
                    );
                }
                News::Released => info!(SERSYNC_REMOTE = remote, "{remote} is no longer held"),
                News::PathFailed(path, failure) => {
                    failed += 1;
                    if failed <= LOGGED_PATHS {
                        warn!(
                            SERSYNC_REMOTE = remote,
                            SERSYNC_PATH = %path,
                            SERSYNC_EXIT = failure.exit,
                            "{path} failed on {remote} and is tried again: {}",
                            failure.message
                        );
                    }
                }
                News::FormChanged(form) => {
                    let what = match form {
                        RefusedForm::DeleteByName => {
                            "deletes by directory, since its rsync does not take names"
                        }
                        RefusedForm::DeleteInTrees => {
                            "keeps what only it has, since it refuses --delete"
                        }
                        RefusedForm::Force => "is used without --force, which it refuses",
                    };
                    info!(SERSYNC_REMOTE = remote, "{remote} {what}");
                }
            }
        }
        if failed > LOGGED_PATHS {
            let more = failed - LOGGED_PATHS;
            warn!(
                SERSYNC_REMOTE = remote,
                "{more} more paths failed on {remote} and are tried again"
            );
        }
    }
}

/// rsync's words, and what to mend where they are plain.
fn hint(cause: &str) -> String {
    let mend = if cause.starts_with("@ERROR: auth failed") {
        "check `users` and the password file against the module's `auth users` and `secrets file`"
    } else if cause.starts_with("@ERROR: Unknown module") {
        "check `name` against the module names in the receiver's rsyncd.conf"
    } else if cause.starts_with("@ERROR: chdir failed") {
        "the module's `path` does not exist at the receiver"
    } else if cause.contains("module is read only") {
        "set `read only = no` for the module at the receiver"
    } else if cause.contains("password file") {
        "the password file must belong to root and have mode 0600"
    } else {
        return cause.to_owned();
    };
    format!("{cause} ({mend})")
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
