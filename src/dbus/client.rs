//! The other side of the bus: what a command needs to find running instances, to ask them and to follow them.
//!
//! ```text
//! Bus ──instances()──► Instance ──status()──► InstanceStatus      one moment
//!  │                      ├──pause() …──► done, or a ClientError
//!  │                      └──follow(resync(…))──► Finished        subscribed before it is asked
//!  └──changes()──► Changes                                        something may read differently now
//! ```
//!
//! An [`Instance`] is one process, addressed by its unique name: it never turns into its own successor. Reading is
//! answered at once by contract, so it has a time-out; acting may wait for rsync, for a verification or for a password,
//! so it has none, and ends when the service or the bus does.

use std::future::Future;
use std::time::Duration;

use futures_util::future;
use zbus::names::OwnedUniqueName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, connection, fdo};

use super::{BusAddress, LOG_CONTROL_PATH, MANAGER_PATH, UMBRELLA};

mod changes;
mod error;
mod follow;
mod instance;
mod proxies;
mod rows;
mod status;

pub use changes::Changes;
pub use error::ClientError;
pub use follow::Finished;
pub use instance::{Instance, Selection};
use proxies::ManagerProxy;
pub use rows::DriftFound;
pub use status::{InstanceStatus, RemoteStatus};

/// Reading touches no disk and waits for nothing, so a service that has not answered by then does not work.
const ANSWER: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, ClientError>;

/// Where instances are.
#[derive(Debug, Clone)]
pub struct Bus {
    connection: Connection,
    may_ask: bool,
}

impl Bus {
    /// Connects to a bus. With `may_ask`, whoever is not allowed to act may be asked for a password.
    ///
    /// # Errors
    /// [`ClientError::NoBus`].
    pub async fn connect(bus: &BusAddress, may_ask: bool) -> Result<Self> {
        let builder = match bus {
            BusAddress::System => connection::Builder::system(),
            BusAddress::Session => connection::Builder::session(),
            BusAddress::Address(address) => connection::Builder::address(address.as_str()),
        };
        match tokio::time::timeout(ANSWER, builder.build()).await {
            Ok(Ok(connection)) => Ok(Self {
                connection,
                may_ask,
            }),
            Ok(Err(error)) => Err(ClientError::no_bus(bus, &error)),
            Err(_) => Err(ClientError::Silent(bus.to_string())),
        }
    }

    /// All running instances, by name.
    ///
    /// # Errors
    /// The bus is gone, or an instance does not answer.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        let bus = self.daemon().await?;
        let name = UMBRELLA.try_into()?;
        let owners = match bus.list_queued_owners(name).await {
            Ok(owners) => owners,
            Err(fdo::Error::NameHasNoOwner(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let named = owners.into_iter().map(async |owner| {
            match within(owner.as_str(), self.instance_of(owner.clone())).await {
                // It ended since it was listed.
                Err(ClientError::Gone) => Ok(None),
                other => other.map(Some),
            }
        });
        let mut instances: Vec<_> = future::try_join_all(named)
            .await?
            .into_iter()
            .flatten()
            .collect();
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(instances)
    }

    /// The running instance of this name.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`].
    pub async fn instance(&self, name: &str) -> Result<Instance> {
        let bus = self.daemon().await?;
        let well_known = format!("{UMBRELLA}.{name}");
        let bus_name = well_known.try_into()?;
        match bus.get_name_owner(bus_name).await {
            Ok(owner) => Ok(Instance {
                bus: self.clone(),
                name: name.into(),
                owner,
            }),
            Err(fdo::Error::NameHasNoOwner(_)) => Err(ClientError::NotRunning(format!(
                "instance `{name}` is not running"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells from now on when an instance shows something else, appears or goes.
    ///
    /// # Errors
    /// The bus is gone.
    pub async fn changes(&self) -> Result<Changes> {
        Changes::subscribe(&self.connection).await
    }

    async fn daemon(&self) -> Result<fdo::DBusProxy<'_>> {
        Ok(fdo::DBusProxy::new(&self.connection).await?)
    }

    async fn instance_of(&self, owner: OwnedUniqueName) -> zbus::Result<Instance> {
        let manager = ManagerProxy::builder(&self.connection)
            .destination(owner.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Instance {
            bus: self.clone(),
            name: manager.instance().await?,
            owner,
        })
    }
}

/// Gives whoever is only read from a moment to answer.
async fn within<T>(who: &str, reading: impl Future<Output = zbus::Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, reading).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(ClientError::Silent(who.into())),
    }
}
