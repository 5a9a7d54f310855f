//! `org.freedesktop.LogControl1`: how much is logged, as `systemctl service-log-level` asks every service.

use std::sync::Arc;

use zbus::message::Header;
use zbus::{Connection, interface};

use super::authority::{Interaction, authorize};
use super::refusal::Refusal;
use crate::control::{ControlError, LogControl};

/// The object at `/org/freedesktop/LogControl1`.
#[derive(Debug)]
pub(super) struct LogControl1 {
    log: Arc<dyn LogControl>,
}

impl LogControl1 {
    pub(super) fn new(log: Arc<dyn LogControl>) -> Self {
        Self { log }
    }
}

/// Whether the caller may set a property. Never with a password: zbus keeps all objects locked while one is set, and a
/// person who thinks would keep everybody else waiting.
async fn may_set(connection: &Connection, header: Option<Header<'_>>) -> Result<(), Refusal> {
    match header {
        Some(header) => authorize(connection, &header, Interaction::Never).await,
        None => Ok(()),
    }
}

#[interface(name = "org.freedesktop.LogControl1")]
impl LogControl1 {
    /// What is logged, and what is more urgent: emerg, alert, crit, err, warning, notice, info or debug.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> &str {
        self.log.level().as_str()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: &str,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        may_set(connection, header).await?;
        self.log.set_level(level.parse()?);
        Ok(())
    }

    /// Where the log goes: journal or console.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> &str {
        self.log.target().as_str()
    }

    /// The target is settled when the process starts: only what it is already can be set.
    #[zbus(property)]
    async fn set_log_target(
        &self,
        target: &str,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        may_set(connection, header).await?;
        let settled = self.log.target();
        if target != settled.as_str() {
            let words = format!("the log goes to {settled} for as long as the process runs");
            return Err(ControlError::InvalidArgument(words).into());
        }
        Ok(())
    }

    /// The name of the program in the log.
    #[zbus(property(emits_changed_signal = "false"))]
    #[expect(clippy::unused_self, reason = "properties are methods of an object")]
    fn syslog_identifier(&self) -> &'static str {
        "sersync"
    }
}
