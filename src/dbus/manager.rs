//! `org.sersync1.Manager`: the instance as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, interface};

use super::Identity;
use super::authority::ask;
use super::refusal::Refusal;
use super::selection::selection;
use super::words::{object_path, text, usec};
use crate::control::{ControlHandle, Drift, FailedPath, Request, Scope, Snapshot};

/// Entries of one answer, whatever the caller wants: longer messages than the bus allows would end our connection.
/// With the longest paths there are, so many take 4 MiB.
const LONGEST_LIST: u32 = 1000;
/// No time-out, as one that no clock overflows by.
const FOR_EVER: Duration = Duration::from_micros(u64::MAX);

/// The object at [`MANAGER_PATH`](super::MANAGER_PATH).
#[derive(Debug, Clone)]
pub(super) struct Manager {
    identity: Arc<Identity>,
    control: ControlHandle,
}

impl Manager {
    pub(super) fn new(identity: Arc<Identity>, control: ControlHandle) -> Self {
        Self { identity, control }
    }

    fn sum(&self, count: impl Fn(&Snapshot) -> u64) -> u64 {
        count(&self.control.snapshot())
    }
}

/// id, remote object, path relative to the source, exit, message, attempts, first, next try
type FailedEntry = (u64, OwnedObjectPath, Vec<u8>, i32, String, u32, u64, u64);
/// remote object, path relative to the source, kind
type DriftEntry = (OwnedObjectPath, Vec<u8>, String);

#[interface(name = "org.sersync1.Manager")]
impl Manager {
    /// Gathers changes, but sends and deletes nothing; answered when no rsync runs any more.
    async fn pause(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::Pause(Scope::All, reply)
        })
        .await
    }

    /// Goes on.
    async fn resume(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::Resume(Scope::All, reply)
        })
        .await
    }

    /// Takes every source, what is mounted below it, and targets on this machine for right as they are, also if they are
    /// not what they were. What guards held or left alone is compared then, and deleted where it is missing here.
    async fn accept_source(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::AcceptSource(Scope::All, reply)
        })
        .await
    }

    /// Reads the configuration again. One that is not in order changes nothing; the error says what is wrong and where.
    async fn reload(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, Request::Reload).await
    }

    /// Compares and mends. Options: path (ay), an absolute path in a source, for that and what is below it; remote (u),
    /// the number of a remote. The run ends in RunFinished with the id that is returned.
    #[zbus(out_args("id"))]
    async fn resync(
        &self,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Refusal> {
        let selection = selection(options)?;
        ask(&self.control, connection, &header, |reply| {
            Request::Resync(selection, reply)
        })
        .await
    }

    /// Compares by checksum and changes nothing. Options and id are those of Resync; ListDrift has what was found.
    #[zbus(out_args("id"))]
    async fn verify(
        &self,
        options: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Refusal> {
        let selection = selection(options)?;
        ask(&self.control, connection, &header, |reply| {
            Request::Verify(selection, reply)
        })
        .await
    }

    /// Waits until everything that changed before is at every remote; false if it is not after that time. 0 waits for
    /// as long as it takes. What is held, paused or failed is an error at once.
    #[zbus(out_args("done"))]
    async fn flush(
        &self,
        timeout_usec: u64,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<bool, Refusal> {
        let limit = match timeout_usec {
            0 => FOR_EVER,
            timeout_usec => Duration::from_micros(timeout_usec),
        };
        ask(&self.control, connection, &header, |reply| {
            Request::Flush(limit, reply)
        })
        .await
    }

    /// Tries every failed path now, and returns how many that are.
    #[zbus(out_args("paths"))]
    async fn retry_failed(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::RetryFailed(Scope::All, reply)
        })
        .await
    }

    /// Makes the deletions that maxDelete withholds, once, and returns how many entries they were said to remove.
    #[zbus(out_args("entries"))]
    async fn accept_deletions(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::AcceptDeletions(Scope::All, reply)
        })
        .await
    }

    /// The failed paths with a higher id, at most so many, and never more than 1000 at a time: id, remote, path relative
    /// to the source, exit code of rsync, message, attempts, time of the first, time of the next (0 while it runs).
    #[zbus(out_args("paths"))]
    async fn list_failed(
        &self,
        after_id: u64,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<FailedEntry>, Refusal> {
        let limit = limit.min(LONGEST_LIST);
        let failed = ask(&self.control, connection, &header, |reply| {
            Request::ListFailed {
                after_id,
                limit,
                reply,
            }
        })
        .await?;
        Ok(failed.into_iter().map(failed_entry).collect())
    }

    /// What a finished verification found, after the first so many, never more than 1000 at a time: remote, path
    /// relative to the source, kind (missing, extra, content, attributes).
    #[zbus(out_args("differences"))]
    async fn list_drift(
        &self,
        run: u64,
        skip: u64,
        limit: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<DriftEntry>, Refusal> {
        let limit = limit.min(LONGEST_LIST);
        let drift = ask(&self.control, connection, &header, |reply| {
            Request::ListDrift {
                run,
                skip,
                limit,
                reply,
            }
        })
        .await?;
        Ok(drift.into_iter().map(drift_entry).collect())
    }

    /// The version of the program.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        &self.identity.version
    }

    /// The last element of the bus name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn instance(&self) -> &str {
        &self.identity.instance
    }

    /// Where the configuration was read; empty if there is none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn config_file(&self) -> String {
        let file = self.identity.config_file.as_ref();
        file.map(|file| file.display().to_string())
            .unwrap_or_default()
    }

    /// starting, scanning, syncing, idle, paused, degraded, held or stopping.
    #[zbus(property)]
    fn state(&self) -> &str {
        self.control.snapshot().state().as_str()
    }

    /// One line for people.
    #[zbus(property)]
    fn status(&self) -> String {
        text(&self.control.snapshot().status())
    }

    /// The remotes of all sources.
    #[zbus(property)]
    fn remotes(&self) -> Vec<OwnedObjectPath> {
        let snapshot = self.control.snapshot();
        let numbers = snapshot.remotes.iter().map(|remote| remote.number);
        numbers.map(object_path).collect()
    }

    /// Paths that are not known to be equal, at all remotes together.
    #[zbus(property)]
    fn pending(&self) -> u64 {
        self.control.snapshot().pending()
    }

    /// Paths that failed by themselves, at all remotes together.
    #[zbus(property)]
    fn failed(&self) -> u64 {
        self.control.snapshot().failed()
    }

    /// Directories that are watched.
    #[zbus(property)]
    fn watches(&self) -> u64 {
        self.sum(|snapshot| snapshot.mirrors.iter().map(|mirror| mirror.watches).sum())
    }

    /// Directories that are not, for lack of watches or of rights.
    #[zbus(property)]
    fn unwatched(&self) -> u64 {
        self.sum(|snapshot| snapshot.mirrors.iter().map(|mirror| mirror.unwatched).sum())
    }

    /// How often the kernel dropped events.
    #[zbus(property)]
    fn overflows(&self) -> u64 {
        self.sum(|snapshot| snapshot.mirrors.iter().map(|mirror| mirror.overflows).sum())
    }

    /// Sources that are compared every so often, since the kernel does not tell what others change there, or since the
    /// configuration wants it.
    #[zbus(property)]
    fn scanned(&self) -> u64 {
        let is_scanned = |snapshot: &Snapshot| {
            let mirrors = snapshot.mirrors.iter();
            mirrors
                .filter(|mirror| mirror.scan_period.is_some())
                .count() as u64
        };
        self.sum(is_scanned)
    }

    /// How often a plugin failed, or could not be told.
    #[zbus(property)]
    fn plugin_failures(&self) -> u64 {
        self.control.snapshot().plugin_failures
    }

    /// Paths that no plugin was told of, because too many waited.
    #[zbus(property)]
    fn plugin_dropped(&self) -> u64 {
        self.control.snapshot().plugin_dropped
    }

    /// When the oldest pending change was seen, in microseconds since the epoch; 0 if there is none.
    #[zbus(property, name = "OldestPendingUSec")]
    fn oldest_pending_usec(&self) -> u64 {
        let snapshot = self.control.snapshot();
        let pending = snapshot.remotes.iter().filter_map(|one| one.oldest_pending);
        usec(pending.min())
    }

    /// When a run last succeeded, in microseconds since the epoch; 0 if none has.
    #[zbus(property, name = "LastSyncUSec")]
    fn last_sync_usec(&self) -> u64 {
        let snapshot = self.control.snapshot();
        let successes = snapshot.remotes.iter().filter_map(|one| one.last_success);
        usec(successes.max())
    }

    /// How far the comparison of everything has come, where it has come least; 100 if there is none.
    #[zbus(property)]
    fn percent(&self) -> u32 {
        let snapshot = self.control.snapshot();
        let percents = snapshot.remotes.iter().map(|remote| remote.percent);
        percents.min().unwrap_or(100).into()
    }

    /// A run that was asked for has ended. ok: every remote is equal, or for a verification, was.
    #[zbus(signal)]
    pub(super) async fn run_finished(
        emitter: &SignalEmitter<'_>,
        id: u64,
        ok: bool,
        detail: &str,
    ) -> zbus::Result<()>;

    /// The kernel dropped events; everything is compared.
    #[zbus(signal)]
    pub(super) async fn overflowed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

fn failed_entry(failed: FailedPath) -> FailedEntry {
    (
        failed.id,
        object_path(failed.remote),
        failed.path,
        failed.exit,
        text(&failed.message),
        failed.attempts,
        usec(Some(failed.first)),
        usec(failed.next_try),
    )
}

fn drift_entry(drift: Drift) -> DriftEntry {
    (
        object_path(drift.remote),
        drift.path,
        drift.kind.to_string(),
    )
}
