//! The connection to a receiver over ssh, which all runs of a lane share.
//!
//! A log-in costs some hundred milliseconds and a line in the receiver's log, so there is one, by an ssh of its own, and
//! the ssh of each rsync is a client of it. That ssh is no child to be watched over: it is in the background, and ends by
//! itself when nobody has used it for minutes. Whether it lives is asked each time, by its socket: one that was killed,
//! or whose connection died, is replaced before the next run.
//!
//! ssh finds its files by the passwd entry of the user, not by `HOME`, which children of ours do not have.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::{RemoteConfig, Target};
use crate::rsync::outcome::ssh::FAILED;
use crate::rsync::{self, Ended, Exit, Launch};

pub mod args;
mod sockets;

use args::Peer;
pub use sockets::Sockets;

/// A receiver that takes our connection and says nothing more is not waited for.
const LOG_IN_LIMIT: Duration = Duration::from_secs(30);
/// The ssh in the background answers at once, or hangs.
const LOG_OUT_LIMIT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Connection {
    remote: RemoteConfig,
    peer: Peer,
    /// Where the shared connection is; without one, each run logs in.
    socket: Option<PathBuf>,
    /// Held by whoever logs in.
    opening: Mutex<()>,
}

impl Connection {
    /// The way to a remote, not opened yet. `None` if it is not reached by ssh.
    #[must_use]
    pub fn to(remote: &RemoteConfig, sockets: &Sockets) -> Option<Self> {
        let Target::Ssh {
            host, port, user, ..
        } = &remote.target
        else {
            return None;
        };
        let mut hasher = DefaultHasher::new();
        remote.target.to_string().hash(&mut hasher);
        let name = format!("ssh-{:016x}", hasher.finish());
        Some(Self {
            remote: remote.clone(),
            peer: Peer {
                host: host.clone(),
                user: user.clone(),
                port: *port,
            },
            socket: sockets.directory().map(|directory| directory.join(name)),
            opening: Mutex::new(()),
        })
    }

    /// What an rsync needs to be told.
    #[must_use]
    pub fn rsync_options(&self) -> Vec<OsString> {
        let Target::Ssh {
            path,
            port,
            options,
            ..
        } = &self.remote.target
        else {
            return Vec::new();
        };
        args::rsync_options(&self.remote, path, *port, options, self.socket.as_deref())
    }

    /// Whether a run can begin without a log-in of its own.
    #[must_use]
    pub fn is_open(&self) -> bool {
        // Comes back at once: only a listener whose queue is full lets anybody wait, and each lane asks its own.
        let answers = |socket: &PathBuf| UnixStream::connect(socket).is_ok();
        self.socket.as_ref().is_none_or(answers)
    }

    /// Logs in, unless that is done already.
    ///
    /// # Errors
    /// The end of the ssh that could not, as if it had been that of a run.
    pub async fn open(&self, cancel: &CancellationToken) -> Result<(), Ended> {
        let (Some(socket), Target::Ssh { options, .. }) = (&self.socket, &self.remote.target)
        else {
            return Ok(());
        };
        if self.is_open() {
            return Ok(());
        }
        let _opening = self.opening.lock().await;
        if self.is_open() {
            return Ok(());
        }
        // A killed ssh leaves its socket behind, and the next would not take the name.
        let _ = fs::remove_file(socket);
        if let Some(identity) = &options.identity
            && let Err(error) = File::open(identity)
        {
            return Err(failed(format_args!(
                "the identity file cannot be read: {error}"
            )));
        }
        let launch = ssh(args::log_in(&self.peer, options, socket));
        let ended = rsync::run(&launch, Vec::new(), Some(LOG_IN_LIMIT), cancel, |_| {}).await;
        match &ended.exit {
            Exit::Code(0) => {
                debug!(took_ms = ended.took.as_millis(), "logged in by ssh");
                Ok(())
            }
            Exit::NotStarted(error) => {
                Err(failed(format_args!("ssh could not be started: {error}")))
            }
            _ if ended.took >= LOG_IN_LIMIT => {
                let seconds = LOG_IN_LIMIT.as_secs();
                Err(failed(format_args!(
                    "the log-in by ssh was not over within {seconds} s"
                )))
            }
            _ => Err(ended),
        }
    }

    /// Ends the connection. The next run logs in again.
    pub async fn close(&self) {
        let Some(socket) = self.socket.as_ref().filter(|socket| socket.exists()) else {
            return;
        };
        let _opening = self.opening.lock().await;
        let launch = ssh(args::log_out(&self.peer, socket));
        let never = CancellationToken::new();
        rsync::run(&launch, Vec::new(), Some(LOG_OUT_LIMIT), &never, |_| {}).await;
        // One that hangs is left to itself: nobody finds it any more, so it ends.
        let _ = fs::remove_file(socket);
    }
}

/// Not in the source's directory, which the ssh in the background would keep busy.
fn ssh(args: Vec<OsString>) -> Launch {
    Launch {
        program: "ssh".into(),
        args,
        directory: "/".into(),
        root: None,
        patience: None,
        confinement: None,
    }
}

/// An end in our words.
fn failed(words: fmt::Arguments<'_>) -> Ended {
    Ended {
        exit: Exit::Code(FAILED),
        stderr: words.to_string().into_bytes(),
        stderr_cut: false,
        deletions_skipped: false,
        stats: rsync::Stats::default(),
        took: Duration::ZERO,
    }
}
