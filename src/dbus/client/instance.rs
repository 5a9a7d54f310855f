//! A running instance: one process, and what it can be asked.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use zbus::names::OwnedUniqueName;
use zbus::proxy::MethodFlags;
use zbus::{Variant, fdo};

use super::proxies::{self, LOG_CONTROL, MANAGER, REMOTE};
use super::rows::{self, DriftFound, DriftRow, FailedRow};
use super::status::{self, InstanceStatus};
use super::{Bus, ClientError, Finished, LOG_CONTROL_PATH, MANAGER_PATH, Result, follow, within};
use crate::control::FailedPath;

/// Rows asked for at once: some hundred kilobytes, far below what a bus carries in one message.
const PAGE: u32 = 1000;

/// A running instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(super) bus: Bus,
    pub(super) name: String,
    pub(super) owner: OwnedUniqueName,
}

/// What is to be compared; see [`Instance::resync`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Only at the remote with this number.
    pub remote: Option<u32>,
    /// Only this absolute path in a source and what is below it.
    pub path: Option<&'a Path>,
}

/// An instance that acts may be told to do so for one remote only: those methods take the remote's number. They fail
/// with [`ClientError`]; which ones is the business of the service.
#[expect(
    clippy::missing_errors_doc,
    reason = "the same for all of them, and said above"
)]
impl Instance {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything it shows.
    pub async fn status(&self) -> Result<InstanceStatus> {
        within(&self.name, status::read(&self.bus.connection, &self.owner)).await
    }

    /// Stops sending and deleting; returns when no rsync runs any more.
    pub async fn pause(&self, remote: Option<u32>) -> Result<()> {
        let object = self.object(remote).await?;
        answer(object.call_with_flags("Pause", self.flags(), &()).await)
    }

    /// Goes on.
    pub async fn resume(&self, remote: Option<u32>) -> Result<()> {
        let object = self.object(remote).await?;
        answer(object.call_with_flags("Resume", self.flags(), &()).await)
    }

    /// Takes the source for right as it is, though it is not what it was.
    pub async fn accept_source(&self, remote: Option<u32>) -> Result<()> {
        let object = self.object(remote).await?;
        answer(
            object
                .call_with_flags("AcceptSource", self.flags(), &())
                .await,
        )
    }

    /// Makes the deletions that are withheld, and returns how many entries they remove.
    pub async fn accept_deletions(&self, remote: Option<u32>) -> Result<u64> {
        let object = self.object(remote).await?;
        answer(
            object
                .call_with_flags("AcceptDeletions", self.flags(), &())
                .await,
        )
    }

    /// Tries all failed paths now, and returns their number.
    pub async fn retry_failed(&self, remote: Option<u32>) -> Result<u32> {
        let object = self.object(remote).await?;
        answer(
            object
                .call_with_flags("RetryFailed", self.flags(), &())
                .await,
        )
    }

    /// Reads the configuration again.
    pub async fn reload(&self) -> Result<()> {
        let manager = self.object(None).await?;
        answer(manager.call_with_flags("Reload", self.flags(), &()).await)
    }

    /// Begins to compare and mend, and returns the number of the run.
    pub async fn resync(&self, what: Selection<'_>) -> Result<u64> {
        if what.path.is_none() && what.remote.is_some() {
            let remote = self.object(what.remote).await?;
            return answer(remote.call_with_flags("Resync", self.flags(), &()).await);
        }
        let manager = self.object(None).await?;
        let options = rows::options(what);
        answer(
            manager
                .call_with_flags("Resync", self.flags(), &options)
                .await,
        )
    }

    /// Begins to compare by checksum, and returns the number of the run.
    pub async fn verify(&self, what: Selection<'_>) -> Result<u64> {
        let manager = self.object(None).await?;
        let options = rows::options(what);
        answer(
            manager
                .call_with_flags("Verify", self.flags(), &options)
                .await,
        )
    }

    /// Begins a run and waits until it has finished; meanwhile `on_percent` is told how far it is.
    pub async fn follow(
        &self,
        begin: impl Future<Output = Result<u64>>,
        on_percent: impl FnMut(u32),
    ) -> Result<Finished> {
        follow::to_the_end(&self.bus.connection, &self.owner, begin, on_percent).await
    }

    /// Waits until everything that changed before is at every remote. `false`: it was not by then.
    pub async fn flush(&self, timeout: Option<Duration>) -> Result<bool> {
        // 0 stands for no time-out, so what is shorter than a microsecond must not become one.
        let microseconds = timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_micros())
                .unwrap_or(u64::MAX)
                .max(1)
        });
        let manager = self.object(None).await?;
        answer(
            manager
                .call_with_flags("Flush", self.flags(), &microseconds)
                .await,
        )
    }

    /// One page of the failed paths whose number is higher, in the order of their numbers; empty at the end.
    pub async fn failed_paths(&self, after_id: u64) -> Result<Vec<FailedPath>> {
        let manager = self.object(None).await?;
        let page: Vec<FailedRow> = answer(
            manager
                .call_with_flags("ListFailed", self.flags(), &(after_id, PAGE))
                .await,
        )?;
        page.into_iter().map(rows::failed).collect()
    }

    /// One page of the differences that a verification found, after the first `skip`; empty at the end.
    pub async fn drift(&self, run: u64, skip: u64) -> Result<Vec<DriftFound>> {
        let manager = self.object(None).await?;
        let page: Vec<DriftRow> = answer(
            manager
                .call_with_flags("ListDrift", self.flags(), &(run, skip, PAGE))
                .await,
        )?;
        page.into_iter().map(rows::drift).collect()
    }

    /// The lowest level that is logged, by the words of syslog.
    pub async fn log_level(&self) -> Result<String> {
        let properties = self.log_control().await?;
        let interface = LOG_CONTROL.try_into()?;
        let level = within(&self.name, async {
            Ok(properties.get(interface, "LogLevel").await?)
        });
        Ok(String::try_from(level.await?)?)
    }

    /// Sets it.
    pub async fn set_log_level(&self, level: &str) -> Result<()> {
        let properties = self.log_control().await?;
        let body = (LOG_CONTROL, "LogLevel", Variant::from(level));
        answer(
            properties
                .inner()
                .call_with_flags("Set", self.flags(), &body)
                .await,
        )
    }

    async fn log_control(&self) -> Result<fdo::PropertiesProxy<'_>> {
        let proxy = fdo::PropertiesProxy::builder(&self.bus.connection)
            .destination(&self.owner)
            .path(LOG_CONTROL_PATH);
        Ok(proxy.build().await?)
    }

    /// The manager, or the remote with this number.
    async fn object(&self, remote: Option<u32>) -> Result<zbus::Proxy<'_>> {
        let (path, interface) = match remote {
            None => (MANAGER_PATH.to_owned(), MANAGER),
            Some(number) => (proxies::remote_path(number), REMOTE),
        };
        Ok(zbus::Proxy::new(&self.bus.connection, &self.owner, path, interface).await?)
    }

    fn flags(&self) -> MethodFlags {
        if self.bus.may_ask {
            MethodFlags::ALLOW_INTERACTIVE_AUTH
        } else {
            MethodFlags::empty()
        }
    }
}

/// What a call brought; there is always an answer, since all our calls ask for one.
fn answer<T>(answer: zbus::Result<Option<T>>) -> Result<T> {
    answer?.ok_or(ClientError::Bus(zbus::Error::InvalidReply))
}
