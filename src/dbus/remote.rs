//! `org.sersync1.Remote`: one target of a source.

use std::os::unix::ffi::OsStrExt as _;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, fdo, interface};

use super::authority::ask;
use super::refusal::Refusal;
use super::words::{text, usec};
use crate::control::{ControlHandle, RemoteSnapshot, Request, Scope, Selection};

/// The object at [`object_path`](super::words::object_path).
#[derive(Debug, Clone)]
pub(super) struct Remote {
    number: u32,
    control: ControlHandle,
}

impl Remote {
    pub(super) fn new(number: u32, control: ControlHandle) -> Self {
        Self { number, control }
    }

    fn scope(&self) -> Scope {
        Scope::Remote(self.number)
    }

    /// Something of the snapshot of now. The remote may have left the configuration a moment ago.
    fn look<T>(&self, at: impl FnOnce(&RemoteSnapshot) -> T) -> fdo::Result<T> {
        let snapshot = self.control.snapshot();
        let gone = || fdo::Error::UnknownObject(format!("there is no remote {}", self.number));
        snapshot.remote(self.number).map(at).ok_or_else(gone)
    }
}

#[interface(name = "org.sersync1.Remote")]
impl Remote {
    /// Gathers changes for this remote, but sends and deletes nothing; answered when no rsync runs for it any more.
    async fn pause(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::Pause(self.scope(), reply)
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
            Request::Resume(self.scope(), reply)
        })
        .await
    }

    /// The same as the manager's, for this remote.
    async fn accept_source(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::AcceptSource(self.scope(), reply)
        })
        .await
    }

    /// Compares everything at this remote and mends it. The run ends in the manager's RunFinished with this id.
    #[zbus(out_args("id"))]
    async fn resync(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Refusal> {
        let selection = Selection {
            scope: self.scope(),
            path: None,
        };
        ask(&self.control, connection, &header, |reply| {
            Request::Resync(selection, reply)
        })
        .await
    }

    /// Tries every path now that failed at this remote, and returns how many that are.
    #[zbus(out_args("paths"))]
    async fn retry_failed(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::RetryFailed(self.scope(), reply)
        })
        .await
    }

    /// Makes the deletions at this remote that maxDelete withholds, once, and returns how many entries they were said to
    /// remove.
    #[zbus(out_args("entries"))]
    async fn accept_deletions(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u64, Refusal> {
        ask(&self.control, connection, &header, |reply| {
            Request::AcceptDeletions(self.scope(), reply)
        })
        .await
    }

    /// Absolute path of the source.
    #[zbus(property(emits_changed_signal = "const"))]
    fn mirror(&self) -> fdo::Result<Vec<u8>> {
        self.look(|remote| remote.mirror.as_os_str().as_bytes().to_vec())
    }

    /// Where it goes, as rsync would write it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn target(&self) -> fdo::Result<String> {
        self.look(|remote| text(&remote.target))
    }

    /// starting, scanning, syncing, idle, paused, degraded, held or stopping.
    #[zbus(property)]
    fn state(&self) -> fdo::Result<&str> {
        self.look(|remote| remote.state.as_str())
    }

    /// Why it is degraded or held, else the last failure; empty if there was none.
    #[zbus(property)]
    fn last_error(&self) -> fdo::Result<String> {
        self.look(|remote| text(&remote.last_error))
    }

    /// When it is tried again, while it cannot be reached, in microseconds since the epoch; else 0.
    #[zbus(property, name = "NextTryUSec")]
    fn next_try_usec(&self) -> fdo::Result<u64> {
        self.look(|remote| usec(remote.next_try))
    }

    /// Paths that are not known to be equal. A directory that is to be compared counts as one.
    #[zbus(property)]
    fn pending(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.pending)
    }

    /// Paths that failed by themselves.
    #[zbus(property)]
    fn failed(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.failed)
    }

    /// Runs of rsync so far.
    #[zbus(property)]
    fn runs(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.runs)
    }

    /// Files whose content was transferred.
    #[zbus(property)]
    fn paths_sent(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.paths_sent)
    }

    /// Files and directories deleted at the receiver.
    #[zbus(property)]
    fn paths_deleted(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.paths_deleted)
    }

    /// Bytes written to connections.
    #[zbus(property)]
    fn bytes_sent(&self) -> fdo::Result<u64> {
        self.look(|remote| remote.bytes_sent)
    }

    /// When the oldest pending change was seen, in microseconds since the epoch; 0 if there is none.
    #[zbus(property, name = "OldestPendingUSec")]
    fn oldest_pending_usec(&self) -> fdo::Result<u64> {
        self.look(|remote| usec(remote.oldest_pending))
    }

    /// When a run last succeeded, in microseconds since the epoch; 0 if none has.
    #[zbus(property, name = "LastSuccessUSec")]
    fn last_success_usec(&self) -> fdo::Result<u64> {
        self.look(|remote| usec(remote.last_success))
    }

    /// How far the comparison of everything has come; 100 if there is none.
    #[zbus(property)]
    fn percent(&self) -> fdo::Result<u32> {
        self.look(|remote| remote.percent.into())
    }

    /// The remote could not be reached, or paths failed.
    #[zbus(signal)]
    pub(super) async fn sync_failed(
        emitter: &SignalEmitter<'_>,
        exit: i32,
        cause: &str,
    ) -> zbus::Result<()>;
}
