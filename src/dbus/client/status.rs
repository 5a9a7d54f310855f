//! What an instance shows at a moment, read in two calls.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use zbus::names::OwnedUniqueName;
use zbus::{Connection, OwnedVariant, fdo};

use super::MANAGER_PATH;
use super::proxies::{MANAGER, REMOTE, remote_number};
use super::rows::time;

/// An instance at a moment. States are words of [`State`](crate::control::State), or those of a newer service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Its name.
    pub instance: String,
    /// Its program's version.
    pub version: String,
    /// What it mirrors by; empty if there is no file.
    pub config_file: String,
    /// What it is doing, in a word.
    pub state: String,
    /// What it is doing, in a line.
    pub status: String,
    /// Paths that are not known to be equal.
    pub pending: u64,
    /// Paths that failed by themselves.
    pub failed: u64,
    /// Directories that are watched.
    pub watches: u64,
    /// Directories that are not.
    pub unwatched: u64,
    /// How often the kernel dropped events.
    pub overflows: u64,
    /// How far the comparison of everything is; 100 if there is none.
    pub percent: u32,
    /// When the oldest pending change was seen.
    pub oldest_pending: Option<SystemTime>,
    /// When anything was last synced.
    pub last_sync: Option<SystemTime>,
    /// Its remotes, by number.
    pub remotes: Vec<RemoteStatus>,
}

/// A remote at a moment; see [`RemoteSnapshot`](crate::control::RemoteSnapshot) for the meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the snapshot")]
pub struct RemoteStatus {
    pub number: u32,
    pub mirror: PathBuf,
    pub target: String,
    pub state: String,
    pub pending: u64,
    pub failed: u64,
    pub runs: u64,
    pub paths_sent: u64,
    pub paths_deleted: u64,
    pub bytes_sent: u64,
    pub oldest_pending: Option<SystemTime>,
    pub last_success: Option<SystemTime>,
    pub last_error: String,
    pub next_try: Option<SystemTime>,
    pub percent: u32,
}

pub(super) async fn read(
    connection: &Connection,
    owner: &OwnedUniqueName,
) -> zbus::Result<InstanceStatus> {
    let manager = fdo::PropertiesProxy::builder(connection)
        .destination(owner)
        .path(MANAGER_PATH)
        .build()
        .await?;
    let objects = fdo::ObjectManagerProxy::builder(connection)
        .destination(owner)
        .path(MANAGER_PATH)
        .build()
        .await?;
    let shown = Shown(manager.get_all(MANAGER.try_into()?).await?);
    let mut remotes: Vec<_> = objects
        .get_managed_objects()
        .await?
        .into_iter()
        .filter_map(|(object, interfaces)| {
            let number = remote_number(object.as_str())?;
            let (_, shown) = interfaces.into_iter().find(|(name, _)| *name == REMOTE)?;
            Some(Shown(shown).into_remote(number))
        })
        .collect();
    remotes.sort_by_key(|remote| remote.number);
    Ok(shown.into_instance(remotes))
}

/// Properties by name. One that an older service does not have, reads as its type's nothing.
struct Shown(HashMap<String, OwnedVariant>);

impl Shown {
    fn take<T>(&mut self, name: &str) -> T
    where
        T: TryFrom<OwnedVariant> + Default,
    {
        self.0
            .remove(name)
            .and_then(|value| T::try_from(value).ok())
            .unwrap_or_default()
    }

    fn time(&mut self, name: &str) -> Option<SystemTime> {
        time(self.take(name))
    }

    fn into_instance(mut self, remotes: Vec<RemoteStatus>) -> InstanceStatus {
        InstanceStatus {
            instance: self.take("Instance"),
            version: self.take("Version"),
            config_file: self.take("ConfigFile"),
            state: self.take("State"),
            status: self.take("Status"),
            pending: self.take("Pending"),
            failed: self.take("Failed"),
            watches: self.take("Watches"),
            unwatched: self.take("Unwatched"),
            overflows: self.take("Overflows"),
            percent: self.take("Percent"),
            oldest_pending: self.time("OldestPendingUSec"),
            last_sync: self.time("LastSyncUSec"),
            remotes,
        }
    }

    fn into_remote(mut self, number: u32) -> RemoteStatus {
        RemoteStatus {
            number,
            mirror: OsString::from_vec(self.take("Mirror")).into(),
            target: self.take("Target"),
            state: self.take("State"),
            pending: self.take("Pending"),
            failed: self.take("Failed"),
            runs: self.take("Runs"),
            paths_sent: self.take("PathsSent"),
            paths_deleted: self.take("PathsDeleted"),
            bytes_sent: self.take("BytesSent"),
            oldest_pending: self.time("OldestPendingUSec"),
            last_success: self.time("LastSuccessUSec"),
            last_error: self.take("LastError"),
            next_try: self.time("NextTryUSec"),
            percent: self.take("Percent"),
        }
    }
}
