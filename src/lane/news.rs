//! What a lane has to say in the log: a sentence for each piece of news.

use std::fmt;
use std::io;
use std::path::Path;

use tracing::{error, info, warn};

use super::{Hold, News};
use crate::config::Target;
use crate::control::counted;
use crate::fail_queue::Failure;
use crate::message_id as id;
use crate::path::RelPath;
use crate::rsync::outcome::{RefusedForm, ssh};

/// Paths of one job that are logged one by one as failed, or as failing no longer.
const LOGGED_PATHS: u64 = 10;

/// A failure in a few words, without the name of a file, for everybody to hear.
#[derive(Debug)]
pub struct Heard {
    /// rsync's exit code, or -1.
    pub exit: i32,
    /// What it was.
    pub cause: String,
}

impl Heard {
    fn of(failure: &Failure) -> Self {
        Self {
            exit: failure.exit,
            cause: failure.public(),
        }
    }
}

/// Whose news it is. Shown, it is the remote.
#[derive(Debug, Clone)]
pub struct LaneName {
    source: String,
    remote: String,
}

impl LaneName {
    /// The lane from a source to a target.
    #[must_use]
    pub fn new(source: &Path, target: &Target) -> Self {
        Self {
            source: source.display().to_string(),
            remote: target.to_string(),
        }
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)
    }
}

/// Logs the news of a lane. Returns the failure among them.
pub fn tell(lane: &LaneName, news: Vec<News>) -> Option<Heard> {
    let (mut failed, mut recovered, mut heard) = (0, 0, None);
    for news in news {
        match news {
            News::Down {
                failure,
                needs_mending,
            } => {
                down(lane, &failure, needs_mending);
                heard = Some(Heard::of(&failure));
            }
            News::Back(after) => {
                let seconds = after.as_secs();
                info!(
                    MESSAGE_ID = id::REMOTE_BACK,
                    SERSYNC_MIRROR = lane.source,
                    SERSYNC_REMOTE = lane.remote,
                    "{lane} is back after {seconds} s"
                );
            }
            News::Held(hold) => held(lane, &hold),
            News::Released => info!(
                MESSAGE_ID = id::RELEASED,
                SERSYNC_MIRROR = lane.source,
                SERSYNC_REMOTE = lane.remote,
                "{lane} is no longer held"
            ),
            News::PathFailed(path, failure) => {
                failed += 1;
                if failed <= LOGGED_PATHS {
                    warn!(
                                           MESSAGE_ID = id::PATH_FAILED,
                                           SERSYNC_MIRROR = lane.source,
                    SERSYNC_REMOTE = lane.remote,
                                           SERSYNC_PATH = %path,
                                           SERSYNC_EXIT = failure.exit,
                                           "{path} failed on {lane} and is tried again: {}",
                                           failure.message
                                       );
                }
                let exit = failure.exit;
                let cause = failed_paths(failed);
                heard.get_or_insert(Heard { exit, cause }).cause = failed_paths(failed);
            }
            News::PathRecovered(path, failures) => {
                recovered += 1;
                if recovered <= LOGGED_PATHS {
                    info!(
                                           MESSAGE_ID = id::PATH_RECOVERED,
                                           SERSYNC_MIRROR = lane.source,
                    SERSYNC_REMOTE = lane.remote,
                                           SERSYNC_PATH = %path,
                                           "{path} no longer fails on {lane}, after {}",
                                           counted(failures.into(), "failure", "failures")
                                       );
                }
            }
            News::VolumeMissing(path, cause) => {
                heard.get_or_insert(volume_missing(lane, &path, &cause));
            }
            News::FormChanged(form) => {
                let what = without(form);
                info!(
                    SERSYNC_MIRROR = lane.source,
                    SERSYNC_REMOTE = lane.remote,
                    "{lane} {what}"
                );
            }
            News::Pushed {
                sent,
                deleted,
                alone,
            } => pushed(lane, sent, deleted, alone),
            News::PushFailed(failure) => {
                warn!(
                    MESSAGE_ID = id::PATH_FAILED,
                    SERSYNC_MIRROR = lane.source,
                    SERSYNC_REMOTE = lane.remote,
                    SERSYNC_EXIT = failure.exit,
                    "the scheduled push to {lane} failed and is left to the next time: {}",
                    failure.message
                );
                heard = Some(Heard::of(&failure));
            }
        }
    }
    more(lane, failed, recovered);
    heard
}

/// A remote went away, or will not have us.
fn down(lane: &LaneName, Failure { exit, message }: &Failure, needs_mending: bool) {
    if needs_mending {
        error!(
            MESSAGE_ID = id::REMOTE_NEEDS_MENDING,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            SERSYNC_EXIT = exit,
            "{lane} does not take files: {}",
            hint(message)
        );
    } else {
        warn!(
            MESSAGE_ID = id::REMOTE_DOWN,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            SERSYNC_EXIT = exit,
            "{lane} is unreachable, changes are kept: {message}"
        );
    }
}

/// The number of those that were not logged one by one.
fn more(lane: &LaneName, failed: u64, recovered: u64) {
    if failed > LOGGED_PATHS {
        let more = failed - LOGGED_PATHS;
        warn!(
            MESSAGE_ID = id::PATH_FAILED,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "{more} more paths failed on {lane} and are tried again"
        );
    }
    if recovered > LOGGED_PATHS {
        let more = recovered - LOGGED_PATHS;
        info!(
            MESSAGE_ID = id::PATH_RECOVERED,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "{more} more paths no longer fail on {lane}"
        );
    }
}

/// What a remote has of a path is left as it is.
fn volume_missing(lane: &LaneName, path: &RelPath, cause: &str) -> Heard {
    error!(
           MESSAGE_ID = id::VOLUME_MISSING,
           SERSYNC_MIRROR = lane.source,
    SERSYNC_REMOTE = lane.remote,
           SERSYNC_PATH = %path,
           "{path} is left as it is on {lane}: {cause}"
       );
    Heard {
        exit: -1,
        cause: "a file system below the source is not mounted".into(),
    }
}

/// What a remote does from now on, in words to follow its name.
fn without(form: RefusedForm) -> &'static str {
    match form {
        RefusedForm::DeleteByName => "deletes by directory, since its rsync does not take names",
        RefusedForm::DeleteInTrees => "keeps what only it has, since it refuses --delete",
        RefusedForm::Force => "is used without --force, which it refuses",
        RefusedForm::ExactTimes => {
            "has its times compared in whole seconds, since its rrsync takes no more"
        }
    }
}

/// Where `maxDelete` holds, sending goes on.
fn held(lane: &LaneName, hold: &Hold) {
    let what = match hold {
        Hold::TooManyDeletions { .. } => "nothing is deleted, files are sent",
        _ => "nothing is sent or deleted",
    };
    error!(
        MESSAGE_ID = id::HELD,
        SERSYNC_MIRROR = lane.source,
        SERSYNC_REMOTE = lane.remote,
        "{lane} is held, {what}: {hold}"
    );
}

/// A scheduled push got through.
fn pushed(lane: &LaneName, sent: u64, deleted: u64, alone: bool) {
    let entries = |count| match count {
        1 => "1 entry".to_owned(),
        _ => format!("{count} entries"),
    };
    let done = format!("{} sent, {} deleted", entries(sent), entries(deleted));
    match (sent + deleted, alone) {
        (0, _) => info!(
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "the scheduled push had nothing to send to {lane}"
        ),
        (_, true) => warn!(
            MESSAGE_ID = id::DRIFT_FOUND,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "{lane} had drifted, the scheduled push has mended it: {done}"
        ),
        // What changed by itself meanwhile is among them.
        (_, false) => info!(
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "the scheduled push to {lane} ended: {done}"
        ),
    }
}

/// So many paths failed, in words that name none.
pub fn failed_paths(count: u64) -> String {
    format!("{} failed", counted(count, "path", "paths"))
}

/// A verification could not be made.
pub fn not_compared(lane: &LaneName, failure: &Failure) {
    info!(
        SERSYNC_MIRROR = lane.source,
        SERSYNC_REMOTE = lane.remote,
        SERSYNC_EXIT = failure.exit,
        "{lane} was not compared: {}",
        failure.message
    );
}

/// A verification found this many differences.
pub fn drift_found(lane: &LaneName, found: u64) {
    if found > 0 {
        let differences = counted(found, "difference", "differences");
        warn!(
            MESSAGE_ID = id::DRIFT_FOUND,
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "{lane} is not what its source is: {differences}; `sersync resync` mends that"
        );
    }
}

/// A name changed its kind while two jobs were at work there.
pub fn after_detour(lane: &LaneName) {
    info!(
        SERSYNC_MIRROR = lane.source,
        SERSYNC_REMOTE = lane.remote,
        "{lane}: a link and a directory may have taken each other's place while they were sent; everything is compared"
    );
}

/// The fail queue was kept, or not.
pub fn kept(lane: &LaneName, kept: io::Result<()>) {
    if let Err(error) = kept {
        warn!(
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "what failed on {lane} cannot be kept for the next start: {error}"
        );
    }
}

/// What the remote was equal to was not kept.
pub fn guard_not_kept(lane: &LaneName, error: &io::Error) {
    warn!(
        SERSYNC_MIRROR = lane.source,
        SERSYNC_REMOTE = lane.remote,
        "what {lane} was equal to cannot be kept for the next start: {error}"
    );
}

/// What the lane waits for does not come to an end.
pub fn does_not_end(lane: &LaneName) {
    warn!(
        SERSYNC_MIRROR = lane.source,
        SERSYNC_REMOTE = lane.remote,
        "{lane}: what runs does not come to an end, as where a file system does not answer; it is not waited for"
    );
}

/// The lane has ended.
pub fn ended(lane: &LaneName, pending: usize) {
    if pending > 0 {
        info!(
            SERSYNC_MIRROR = lane.source,
            SERSYNC_REMOTE = lane.remote,
            "{lane}: the next start sends {}",
            counted(pending as u64, "pending change", "pending changes")
        );
    }
}

/// rsync's words, and what to mend where they are plain.
fn hint(cause: &str) -> String {
    let mend = if cause.starts_with("@ERROR: auth failed") {
        "check `users` and the password file against the module's `auth users` and `secrets file`"
    } else if cause.starts_with("@ERROR: Unknown module") {
        "check `name` against the module names in the receiver's rsyncd.conf"
    } else if ["@ERROR: chdir failed", "@ERROR: chroot failed"]
        .iter()
        .any(|error| cause.starts_with(error))
    {
        "the module's `path` does not exist at the receiver"
    } else if cause.contains("module is read only") {
        "set `read only = no` for the module at the receiver"
    } else if cause.contains("configured to refuse --") {
        "take that option out of the module's `refuse options`, or out of `params`"
    } else if cause.starts_with("protocol version mismatch") {
        "something else than an rsync of these days answers there: check address and port, or what the login shell prints"
    } else if cause.contains("password file") {
        "the password file must belong to root and have mode 0600"
    } else if let Some(advice) = ssh::advice(cause) {
        advice
    } else {
        return cause.to_owned();
    };
    format!("{cause} ({mend})")
}
