//! The service on the message bus: who is asked, who may ask, and what everybody may know.
//!
//! [`serve`] stays on the bus for as long as it can: it connects, shows its objects, owns `org.sersync1.INSTANCE` and
//! queues for `org.sersync1`, by which clients find all instances; when the bus goes, it comes back. Mirroring never
//! waits for it. The objects hold ends of channels only ([`ControlHandle`]): what they are asked goes to the daemon,
//! what they show is its snapshot of that moment, so a busy daemon answers too. `dist/dbus` has the interfaces as XML.
//!
//! ```text
//!  caller ─► manager, remote ─► authority: may they? ─► ControlHandle ─► daemon
//!  everybody ◄─ publisher ◄─ snapshots, notices ◄─────────────────────────┘
//! ```

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use zbus::connection::{Builder, Connection};
use zbus::fdo::{self, ObjectManager, RequestNameFlags};

use crate::control::{ControlHandle, LogControl};

mod authority;
pub mod client;
mod log_control;
mod manager;
mod publisher;
mod refusal;
mod remote;
mod selection;
pub mod units;
mod words;

use log_control::LogControl1;
use manager::Manager;
use publisher::Publisher;

/// Every instance queues for this name, and has one of its own below it.
pub const UMBRELLA: &str = "org.sersync1";
/// The object of the instance; its remotes are below it.
pub const MANAGER_PATH: &str = "/org/sersync1";
const LOG_CONTROL_PATH: &str = "/org/freedesktop/LogControl1";

/// A bus that does not answer by then is taken for lost: the usual time-out of D-Bus.
const METHOD_TIMEOUT: Duration = Duration::from_secs(25);
/// At the end, answers that are on their way may take so long.
const FAREWELL: Duration = Duration::from_secs(1);
/// The first pause before the bus is tried again; they double. A restarted bus is back in less.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The bus may not have heard yet that a process before this one has ended; whoever has the name for longer is alive.
const PREDECESSOR: Duration = Duration::from_secs(2);
/// The longest pause on a machine that has a bus; a connection that lasted this long begins with the first pause again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause as long as there never was a bus; there may never be one.
const LONGEST_PAUSE_WITHOUT_BUS: Duration = Duration::from_secs(60);

/// Which bus is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// The bus of the machine.
    System,
    /// The bus of the user.
    Session,
    /// A bus with this D-Bus address, such as `unix:path=/run/bus`.
    Address(String),
}

/// A word for a bus that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no bus: write system, session or an address such as unix:path=/run/dbus/system_bus_socket"
)]
pub struct NoBusAddress(String);

impl FromStr for BusAddress {
    type Err = NoBusAddress;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "system" => Ok(Self::System),
            "session" => Ok(Self::Session),
            _ if zbus::Address::from_str(word).is_ok() => Ok(Self::Address(word.into())),
            _ => Err(NoBusAddress(word.into())),
        }
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.pad("the system bus"),
            Self::Session => f.pad("the session bus"),
            Self::Address(address) => write!(f, "the bus at {address}"),
        }
    }
}

impl BusAddress {
    /// A connection to be made; calls through it do not wait for ever.
    fn connection(&self) -> Builder<'static> {
        let builder = match self {
            Self::System => Builder::system(),
            Self::Session => Builder::session(),
            Self::Address(address) => Builder::address(address.as_str()),
        };
        builder.method_timeout(METHOD_TIMEOUT)
    }
}

/// Who serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The last element of the bus name.
    pub instance: String,
    /// Where the configuration was read; `None` if there is none.
    pub config_file: Option<PathBuf>,
    /// The version of the program.
    pub version: String,
}

impl Identity {
    /// The bus name of this instance.
    #[must_use]
    pub fn bus_name(&self) -> String {
        format!("{UMBRELLA}.{}", self.instance)
    }
}

/// What came of the first try to be on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The names are ours.
    Serving,
    /// There is no bus, or it refuses us, for this reason; it is tried again.
    WithoutBus(String),
    /// Another process is this instance. Nothing is served and nothing tried again.
    NameTaken,
}

/// Is on the bus until it is told to `stop`, and says by `ready` what came of the first try.
///
/// Only a name that is taken at the start, and stays so for some seconds, ends it before: two processes must not serve
/// one instance. After that,
/// a name that is taken is a bus that refuses us, and is tried again like any other failure.
pub async fn serve(
    bus: BusAddress,
    identity: Identity,
    control: ControlHandle,
    log: Arc<dyn LogControl>,
    stop: CancellationToken,
    ready: oneshot::Sender<Presence>,
) {
    let service = Service {
        bus,
        identity: Arc::new(identity),
        control,
        log,
    };
    let mut first = Some(ready);
    let mut was_told = false;
    let mut pause = FIRST_PAUSE;
    let mut longest_pause = LONGEST_PAUSE_WITHOUT_BUS;
    let began = Instant::now();
    loop {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            opened = service.open() => opened,
        };
        let answer = first.take();
        let failure = match opened {
            Ok(session) => {
                info!("on {} as {}", service.bus, service.identity.bus_name());
                tell(answer, Presence::Serving);
                longest_pause = LONGEST_PAUSE;
                was_told = false;
                let since = Instant::now();
                let Some(failure) = session.run(&stop).await else {
                    return;
                };
                if since.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                failure
            }
            Err(zbus::Error::NameTaken) if answer.is_some() => {
                if began.elapsed() > PREDECESSOR {
                    return tell(answer, Presence::NameTaken);
                }
                first = answer;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(FIRST_PAUSE) => continue,
                }
            }
            Err(error) => {
                let failure = service.explain(&error);
                tell(answer, Presence::WithoutBus(failure.clone()));
                failure
            }
        };
        if was_told {
            debug!("{failure}");
        } else {
            warn!("{failure}; mirroring goes on, and the bus is tried again");
            was_told = true;
        }
        pause = pause.min(longest_pause);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pause) => pause *= 2,
        }
    }
}

fn tell(ready: Option<oneshot::Sender<Presence>>, presence: Presence) {
    if let Some(ready) = ready {
        // Who does not listen does not want to know.
        let _ = ready.send(presence);
    }
}

struct Service {
    bus: BusAddress,
    identity: Arc<Identity>,
    control: ControlHandle,
    log: Arc<dyn LogControl>,
}

impl Service {
    /// Connects, shows the objects, and takes the names last: who sees a name finds what belongs to it.
    async fn open(&self) -> zbus::Result<Session> {
        timeout(METHOD_TIMEOUT, self.try_open())
            .await
            .unwrap_or_else(|_| Err(zbus::Error::Failure("no answer in 25 s".into())))
    }

    async fn try_open(&self) -> zbus::Result<Session> {
        let manager = Manager::new(Arc::clone(&self.identity), self.control.clone());
        let connection = self
            .bus
            .connection()
            .serve_at(MANAGER_PATH, manager.clone())
            .serve_at(MANAGER_PATH, ObjectManager)
            .serve_at(LOG_CONTROL_PATH, LogControl1::new(Arc::clone(&self.log)))
            .build()
            .await?;
        let mut publisher = Publisher::new(&connection, manager, self.control.clone()).await?;
        publisher.publish().await?;
        // zbus would by default let any second process take the name away without a word.
        connection
            .request_name_with_flags(self.identity.bus_name(), RequestNameFlags::DO_NOT_QUEUE)
            .await?;
        connection
            .request_name_with_flags(UMBRELLA, RequestNameFlags::empty())
            .await?;
        Ok(Session {
            bus: self.bus.to_string(),
            connection,
            publisher,
        })
    }

    fn explain(&self, error: &zbus::Error) -> String {
        let (bus, name) = (&self.bus, self.identity.bus_name());
        match error {
            zbus::Error::NameTaken => format!("another process has the name {name} on {bus}"),
            zbus::Error::FDO(refusal) if matches!(**refusal, fdo::Error::AccessDenied(_)) => {
                format!(
                    "{bus} refuses the name {name}: is its policy, org.sersync1.conf, installed, and the service root?"
                )
            }
            error => format!("{bus} cannot be reached: {error}"),
        }
    }
}

/// A connection that has the names.
struct Session {
    bus: String,
    connection: Connection,
    publisher: Publisher,
}

impl Session {
    /// Serves until it is told to stop, or the bus is lost: why.
    async fn run(self, stop: &CancellationToken) -> Option<String> {
        let Self {
            bus,
            connection,
            mut publisher,
        } = self;
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = connection.closed() => Some(format!("{bus} closed the connection")),
            failed = publisher.run() => {
                let Err::<Infallible, _>(error) = failed;
                Some(format!("{bus} is lost: {error}"))
            }
        };
        if failure.is_none() {
            let _ = timeout(FAREWELL, publisher.finish()).await;
            // Ends when the answers that are on their way are out.
            let _ = timeout(FAREWELL, connection.graceful_shutdown()).await;
        } else {
            // Calls that still wait hold the connection, and with it the names.
            let _ = timeout(FAREWELL, connection.close()).await;
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_a_word_or_an_address() {
        assert_eq!("system".parse(), Ok(BusAddress::System));
        assert_eq!("session".parse(), Ok(BusAddress::Session));
        let address = "unix:path=/run/some/bus";
        assert_eq!(address.parse(), Ok(BusAddress::Address(address.into())));
        for wrong in ["", "sytem", "/run/some/bus", "none"] {
            assert!(wrong.parse::<BusAddress>().is_err(), "{wrong}");
        }
    }
}
