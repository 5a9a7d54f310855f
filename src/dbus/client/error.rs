//! Why a command could not be carried out, told apart by what somebody can do about it.

use zbus::fdo;

use crate::dbus::BusAddress;

/// Why a command could not be carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// There is no bus to ask on.
    #[error("failed to connect to {bus}: {cause}")]
    NoBus {
        /// Which.
        bus: BusAddress,
        /// Why.
        cause: String,
    },
    /// Nobody to ask.
    #[error("{0}")]
    NotRunning(String),
    /// It ended while it was asked.
    #[error("the instance ended, or lost the bus, before it was done")]
    Gone,
    /// It is ending, says the instance.
    #[error("the instance is ending: {0}")]
    Stopping(String),
    /// It is there and says nothing.
    #[error("{0} does not answer")]
    Silent(String),
    /// Whoever asks may not.
    #[error("not allowed ({0}): try it as root, or let polkit allow `org.sersync1.control`")]
    NotAllowed(String),
    /// The configuration is not in order; the old one stays in force. The problems, one a line.
    #[error("{0}")]
    InvalidConfiguration(String),
    /// An argument makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The instance has no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The instance will not: it is paused or held.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("failed to talk to the instance: {0}")]
    Bus(#[source] zbus::Error),
}

impl ClientError {
    pub(super) fn no_bus(bus: &BusAddress, error: &zbus::Error) -> Self {
        Self::NoBus {
            bus: bus.clone(),
            cause: match error {
                zbus::Error::Connection(cause, _) => cause.to_string(),
                other => other.to_string(),
            },
        }
    }
}

impl From<zbus::Error> for ClientError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::FDO(error) => (*error).into(),
            zbus::Error::MethodError(name, text, _) => by_name(&name, text.unwrap_or_default()),
            // A connection ends like a file, or like a pipe.
            zbus::Error::InputOutput(_) => Self::Gone,
            other => Self::Bus(other),
        }
    }
}

impl From<fdo::Error> for ClientError {
    fn from(error: fdo::Error) -> Self {
        match error {
            fdo::Error::ZBus(error) => error.into(),
            fdo::Error::AccessDenied(text)
            | fdo::Error::AuthFailed(text)
            | fdo::Error::InteractiveAuthorizationRequired(text) => Self::NotAllowed(text),
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::Disconnected(_) => Self::Gone,
            // A remote that a reload has taken away.
            fdo::Error::UnknownObject(text) => Self::Refused(text),
            fdo::Error::InvalidArgs(text) => Self::InvalidArgument(text),
            other => Self::Bus(other.into()),
        }
    }
}

/// The errors of our own interfaces.
fn by_name(name: &str, text: String) -> ClientError {
    match name.strip_prefix("org.sersync1.Error.") {
        Some("InvalidConfiguration") => ClientError::InvalidConfiguration(text),
        Some("InvalidArgument") => ClientError::InvalidArgument(text),
        Some("NotFound") if !text.is_empty() => ClientError::NotFound(text),
        Some("Stopping") => ClientError::Stopping(text),
        // Paused, Held, Failed, and whatever a newer service may answer.
        _ if text.is_empty() => ClientError::Refused(name.into()),
        _ => ClientError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_ours_are_told_apart_by_name() {
        let named = |name: &str| by_name(&format!("org.sersync1.Error.{name}"), "why".into());
        assert!(matches!(
            named("InvalidConfiguration"),
            ClientError::InvalidConfiguration(_)
        ));
        assert!(matches!(
            named("InvalidArgument"),
            ClientError::InvalidArgument(_)
        ));
        assert!(matches!(named("Stopping"), ClientError::Stopping(_)));
        assert!(matches!(named("NotFound"), ClientError::NotFound(_)));
        assert!(matches!(named("Held"), ClientError::Refused(text) if text == "why"));
        assert!(matches!(named("Newer"), ClientError::Refused(text) if text == "why"));
    }

    #[test]
    fn who_may_not_act_is_told_so_whether_or_not_a_password_would_help() {
        for error in [
            fdo::Error::AccessDenied(String::new()),
            fdo::Error::InteractiveAuthorizationRequired(String::new()),
        ] {
            assert!(matches!(error.into(), ClientError::NotAllowed(_)));
        }
    }
}
