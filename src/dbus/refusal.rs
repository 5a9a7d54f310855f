//! Why a call is refused, by the names that callers see.

use zbus::DBusError;

use super::words::text;
use crate::control::ControlError;

/// An error that goes back to the caller.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org")]
pub(super) enum Refusal {
    /// Something to be waited for is paused.
    #[zbus(name = "sersync1.Error.Paused")]
    Paused(String),
    /// Something to be waited for is held.
    #[zbus(name = "sersync1.Error.Held")]
    Held(String),
    /// Paths have failed.
    #[zbus(name = "sersync1.Error.Failed")]
    Failed(String),
    /// The configuration is not in order.
    #[zbus(name = "sersync1.Error.InvalidConfiguration")]
    InvalidConfiguration(String),
    /// There is no such remote, run or path.
    #[zbus(name = "sersync1.Error.NotFound")]
    NotFound(String),
    /// An argument makes no sense.
    #[zbus(name = "sersync1.Error.InvalidArgument")]
    InvalidArgument(String),
    /// The instance is ending.
    #[zbus(name = "sersync1.Error.Stopping")]
    Stopping(String),
    /// The caller may not.
    #[zbus(name = "freedesktop.DBus.Error.AccessDenied")]
    AccessDenied(String),
    /// The caller might, after a password; it did not say that a person is there to give it.
    #[zbus(name = "freedesktop.DBus.Error.InteractiveAuthorizationRequired")]
    InteractiveAuthorizationRequired(String),
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let words = text(&error.to_string());
        match error {
            ControlError::Paused(_) => Self::Paused(words),
            ControlError::Held(_) => Self::Held(words),
            ControlError::Failed(_) => Self::Failed(words),
            ControlError::InvalidConfiguration(_) => Self::InvalidConfiguration(words),
            ControlError::NotFound(_) => Self::NotFound(words),
            ControlError::InvalidArgument(_) => Self::InvalidArgument(words),
            ControlError::Stopping => Self::Stopping(words),
        }
    }
}
