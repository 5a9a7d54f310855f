//! The rsync program: where it is, and whether it runs when it is confined.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::confine::Policy;
use super::sandbox::{self, Unconfined};
use super::{Exit, Launch};
use crate::config::RemoteConfig;

/// To say its version takes it some milliseconds.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Whether its runs are confined where that is possible.
    pub is_confined: bool,
}

impl Program {
    /// The program as it is, without bounds.
    #[must_use]
    pub fn unconfined(path: PathBuf) -> Self {
        Self {
            path,
            is_confined: false,
        }
    }

    /// What a run to a remote may touch besides the source; `None` if that has no bounds.
    #[must_use]
    pub fn confinement(&self, remote: &RemoteConfig) -> Option<Policy> {
        if !self.is_confined {
            return None;
        }
        let policy = Policy::of(remote, &self.path);
        policy
            .inspect_err(|reason| debug!("rsync is not confined: {reason}"))
            .ok()
    }
}

/// Whether a program runs confined. One from a place of its own may not find its libraries.
///
/// # Errors
/// Why not, on one line.
pub async fn try_confined(program: &Path) -> Result<(), String> {
    if sandbox::has_rights_of_its_own(program) {
        return Err("its file gives it rights, which it would lose".into());
    }
    let launch = Launch {
        program: program.into(),
        args: vec!["--version".into()],
        directory: "/".into(),
        root: None,
        patience: None,
        confinement: Some(Policy::of_program(program)),
    };
    let never = CancellationToken::new();
    let started = launch.start(Some(TRIAL_LIMIT), &never).await;
    let mut running = started.map_err(|exit| exit.to_string())?;
    let confined = std::mem::replace(&mut running.confined, Err(Unconfined::NotAsked));
    let ended = running.finish(&[], Some(TRIAL_LIMIT), &never, |_| {}).await;
    confined.map_err(|reason| reason.to_string())?;
    match ended.exit {
        Exit::Code(0) => Ok(()),
        exit => Err(format!("it does not run then: {exit}")),
    }
}

/// Finds the rsync program in `PATH`.
#[must_use]
pub fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("rsync"))
        .find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    program.is_file() && rustix::fs::access(program, Access::EXEC_OK).is_ok()
}
