//! Transient services of systemd: started over the bus, without a unit file.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};
use zbus::proxy::CacheProperties;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, connection, fdo};

use super::{BusAddress, METHOD_TIMEOUT};

/// How long a service may take to stop before it is killed, and as long again until what is left of it is.
const STOP_SECONDS: u64 = 30;
/// A stop that takes longer than twice that hangs.
const STOPS_WITHIN: Duration = Duration::from_secs(3 * STOP_SECONDS);
/// Between two looks at a service that is stopping. A look is three short questions.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A service that is one process, restarts by itself after a failure, and says by the notify protocol when it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientService {
    /// The unit's name, with `.service`.
    pub unit: String,
    /// What it is, by which it is known again.
    pub description: String,
    /// What its entries in the journal are marked with; the field's name is in front.
    pub journal_field: String,
    /// The name in front of these entries.
    pub identifier: String,
    /// Its directory below that for state.
    pub state_directory: String,
    /// Its directory below that for what does not outlive it.
    pub runtime_directory: String,
    /// The program, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// What has it read its configuration again.
    pub reload: Vec<String>,
}

/// A unit that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUnit {
    /// See [`TransientService::description`].
    pub description: String,
    /// It was told to end, and has not yet.
    pub is_stopping: bool,
}

/// Why no service could be started.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// There is no way to the service manager.
    #[error("systemd cannot be reached: {0}")]
    Unreachable(#[source] zbus::Error),
    /// Whoever asks may not.
    #[error("systemd does not allow it ({0}): try it as root")]
    NotAllowed(String),
    /// The service manager would not have it.
    #[error("systemd refused it: {0}")]
    Refused(String),
    /// It began and did not get ready.
    #[error("the service did not start: {0}")]
    Failed(String),
}

/// The service manager of the machine.
#[derive(Debug)]
pub struct Units {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        more_units: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;

    #[zbus(property)]
    fn description(&self) -> zbus::Result<String>;
}

impl Units {
    /// Connects to the service manager.
    ///
    /// # Errors
    /// [`UnitError::Unreachable`].
    pub async fn connect(bus: &BusAddress) -> Result<Self, UnitError> {
        let builder = match bus {
            BusAddress::System => connection::Builder::system(),
            BusAddress::Session => connection::Builder::session(),
            BusAddress::Address(address) => connection::Builder::address(address.as_str()),
        };
        let builder = builder.method_timeout(METHOD_TIMEOUT);
        let connection = builder.build().await.map_err(UnitError::Unreachable)?;
        let manager = ManagerProxy::new(&connection).await;
        Ok(Self {
            manager: manager.map_err(UnitError::Unreachable)?,
            connection,
        })
    }

    /// A unit that runs, is about to, or is not yet stopped.
    ///
    /// # Errors
    /// The service manager cannot be asked.
    pub async fn find(&self, unit: &str) -> Result<Option<FoundUnit>, UnitError> {
        let path = match self.manager.get_unit(unit).await {
            Ok(path) => path,
            Err(error) if is_named(&error, "NoSuchUnit") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unit = UnitProxy::builder(&self.connection)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let is_stopping = match unit.active_state().await?.as_str() {
            "inactive" | "failed" => return Ok(None),
            state => state == "deactivating",
        };
        Ok(Some(FoundUnit {
            description: unit.description().await?,
            is_stopping,
        }))
    }

    /// Waits until a unit that is stopping has stopped, and gives what is there then: one that failed may be about to
    /// start again.
    ///
    /// # Errors
    /// The service manager cannot be asked, or it takes longer than systemd has patience.
    pub async fn wait_for_stop(&self, unit: &str) -> Result<Option<FoundUnit>, UnitError> {
        let stopped = async {
            loop {
                match self.find(unit).await? {
                    Some(found) if found.is_stopping => sleep(BETWEEN_LOOKS).await,
                    found => return Ok(found),
                }
            }
        };
        timeout(STOPS_WITHIN, stopped).await.unwrap_or_else(|_| {
            let seconds = STOPS_WITHIN.as_secs();
            Err(UnitError::Failed(format!(
                "the one before it is still stopping after {seconds} seconds"
            )))
        })
    }

    /// Starts a service and waits until it is ready.
    ///
    /// # Errors
    /// It is not.
    pub async fn start(&self, service: &TransientService) -> Result<(), UnitError> {
        // A failed one of that name would be in the way; usually there is none.
        let _ = self.manager.reset_failed_unit(&service.unit).await;
        let mut removed = self.manager.receive_job_removed().await?;
        self.manager.subscribe().await?;
        let job = self
            .manager
            .start_transient_unit(&service.unit, "fail", &service.properties(), &[])
            .await?;
        while let Some(signal) = removed.next().await {
            let ended = signal.args()?;
            if ended.job.as_str() == job.as_str() {
                return match ended.result {
                    "done" => Ok(()),
                    result => Err(UnitError::Failed(result.into())),
                };
            }
        }
        Err(UnitError::Failed("the bus was lost".into()))
    }
}

impl TransientService {
    /// The settings of `sersync@.service`, as far as they do not take rights away: whoever starts a program by hand
    /// expects it to be able to do what he is.
    fn properties(&self) -> Vec<(&str, Variant<'_>)> {
        const SECOND: u64 = 1_000_000;
        let strings = |words: &[&str]| {
            Variant::from(
                words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let no_restart: (Vec<i32>, Vec<i32>) = (vec![64, 78], Vec::new());
        let extra_fields: Vec<Vec<u8>> = vec![self.journal_field.clone().into_bytes()];
        vec![
            ("Description", self.description.as_str().into()),
            (
                "After",
                strings(&["network.target", "nss-lookup.target", "remote-fs.target"]),
            ),
            ("StartLimitIntervalUSec", 0_u64.into()),
            ("Type", "notify".into()),
            ("NotifyAccess", "main".into()),
            ("ExecStart", exec(&self.command)),
            ("ExecReload", exec(&self.reload)),
            ("Restart", "on-failure".into()),
            ("RestartUSec", SECOND.into()),
            ("RestartPreventExitStatus", Variant::new(no_restart)),
            ("TimeoutStartUSec", (90 * SECOND).into()),
            ("TimeoutStopUSec", (STOP_SECONDS * SECOND).into()),
            ("WatchdogUSec", (60 * SECOND).into()),
            ("KillMode", "mixed".into()),
            ("OOMPolicy", "continue".into()),
            ("LimitNOFILE", 16_384_u64.into()),
            ("StateDirectory", strings(&[&self.state_directory])),
            ("StateDirectoryMode", 0o700_u32.into()),
            ("RuntimeDirectory", strings(&[&self.runtime_directory])),
            ("RuntimeDirectoryMode", 0o700_u32.into()),
            ("UMask", 0o077_u32.into()),
            ("LogExtraFields", Variant::new(extra_fields)),
            ("SyslogIdentifier", self.identifier.as_str().into()),
        ]
    }
}

/// A command line as `a(sasb)`: the program, all words, and that a failure is one. systemd puts variables in place of
/// what follows a `$`, unless that is doubled.
fn exec(command: &[String]) -> Variant<'static> {
    let program = command.first().cloned().unwrap_or_default();
    let words: Vec<String> = command.iter().map(|word| word.replace('$', "$$")).collect();
    Variant::new(vec![(program, words, false)])
}

/// Whether systemd answered with this error of its own.
fn is_named(error: &zbus::Error, name: &str) -> bool {
    let full = format!("org.freedesktop.systemd1.{name}");
    matches!(error, zbus::Error::MethodError(named, ..) if named.as_str() == full)
}

impl From<zbus::Error> for UnitError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::FDO(error) => match *error {
                fdo::Error::AccessDenied(text)
                | fdo::Error::AuthFailed(text)
                | fdo::Error::InteractiveAuthorizationRequired(text) => Self::NotAllowed(text),
                other => Self::Unreachable(other.into()),
            },
            zbus::Error::MethodError(name, text, _) => {
                Self::Refused(text.unwrap_or_else(|| name.to_string()))
            }
            other => Self::Unreachable(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_reaches_the_program_as_it_is() {
        let command = ["/usr/bin/sersync", "run", "--config", "/a $b/%c.xml"];
        let shown = exec(&command.map(String::from));
        assert_eq!(shown.value_signature().to_string(), "a(sasb)");
        assert!(format!("{shown:?}").contains("/a $$b/%c.xml"), "{shown:?}");
    }
}
