//! Why a command failed, in a sentence and an exit code.

use std::io;

use super::text;
use crate::cli::exit;
use crate::dbus::client::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It was asked and is not so.
    #[error("{0}")]
    Failed(String),
    /// The command line fits nothing that runs.
    #[error("{0}")]
    Usage(String),
    /// Somebody pressed Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("failed to write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code, as in sysexits.h.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Client(ClientError::InvalidArgument(_) | ClientError::NotFound(_)) => {
                exit::USAGE
            }
            Self::Interrupted(_) => exit::INTERRUPTED,
            Self::Client(
                ClientError::NoBus { .. }
                | ClientError::NotRunning(_)
                | ClientError::Gone
                | ClientError::Stopping(_)
                | ClientError::Silent(_),
            ) => exit::UNAVAILABLE,
            Self::Client(ClientError::NotAllowed(_)) => exit::NOT_ALLOWED,
            Self::Client(ClientError::InvalidConfiguration(_)) => exit::CONFIG,
            Self::Failed(_)
            | Self::Output(_)
            | Self::Client(ClientError::Refused(_) | ClientError::Bus(_)) => exit::FAILED,
        }
    }

    /// What to say, safe for a terminal. The problems of a configuration come one a line, as `sersync check` shows them.
    pub(super) fn message(&self) -> String {
        let lines: Vec<_> = self.to_string().lines().map(text::sentence).collect();
        lines.join("\n")
    }
}
