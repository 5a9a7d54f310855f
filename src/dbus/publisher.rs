//! What everybody on the bus is told without asking: changed properties, remotes that come and go, and notices.
//!
//! An object's first change is told at once, later ones at most once in a [`QUIET`] time, the last always. There is
//! no second account of the properties to go wrong: what the interface would answer now is compared with what was told.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, ObjectPath, OwnedVariant, Variant, fdo};

use super::MANAGER_PATH;
use super::manager::Manager;
use super::remote::Remote;
use super::words::{object_path, text};
use crate::control::{ControlHandle, Notice, RemoteSnapshot, Snapshot};

/// Between two announcements of one object.
const QUIET: Duration = Duration::from_secs(1);

/// Tells what changes through one connection.
pub(super) struct Publisher {
    connection: Connection,
    control: ControlHandle,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Receiver<Notice>,
    manager: Object<Manager, Arc<Snapshot>>,
    remotes: BTreeMap<u32, Object<Remote, RemoteSnapshot>>,
}

impl Publisher {
    pub(super) async fn new(
        connection: &Connection,
        manager: Manager,
        control: ControlHandle,
    ) -> zbus::Result<Self> {
        let (snapshots, notices) = (control.snapshots(), control.notices());
        let snapshot = control.snapshot();
        let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
        Ok(Self {
            manager: Object::new(connection, path, manager, snapshot).await?,
            connection: connection.clone(),
            control,
            snapshots,
            notices,
            remotes: BTreeMap::new(),
        })
    }

    /// Tells what changes for as long as the bus takes it.
    pub(super) async fn run(&mut self) -> zbus::Result<Infallible> {
        loop {
            let wake = self.publish().await?;
            tokio::select! {
                changed = self.snapshots.changed() => if changed.is_err() {
                    // The daemon is gone, and there is nothing more to be told.
                    return std::future::pending().await;
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                // Who is too slow misses notices; a client that must not, reads the properties too.
                notice = self.notices.recv() => if let Ok(notice) = notice {
                    self.tell(notice).await?;
                },
            }
        }
    }

    /// Brings the bus up to the snapshot of now; what was told a moment ago waits until then.
    pub(super) async fn publish(&mut self) -> zbus::Result<Option<Instant>> {
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        self.show_remotes(&snapshot).await?;
        let now = Instant::now();
        let mut wake = self.manager.tell(&snapshot, now).await?;
        for remote in &snapshot.remotes {
            if let Some(object) = self.remotes.get_mut(&remote.number) {
                let due = object.tell(remote, now).await?;
                wake = wake.into_iter().chain(due).min();
            }
        }
        Ok(wake)
    }

    /// Tells the last of everything, without waiting.
    pub(super) async fn finish(mut self) -> zbus::Result<()> {
        while let Ok(notice) = self.notices.try_recv() {
            self.tell(notice).await?;
        }
        self.manager.quiet_until = None;
        for object in self.remotes.values_mut() {
            object.quiet_until = None;
        }
        self.publish().await?;
        Ok(())
    }

    /// Objects for the remotes there are, and for no other.
    async fn show_remotes(&mut self, snapshot: &Snapshot) -> zbus::Result<()> {
        let server = self.connection.object_server();
        for remote in &snapshot.remotes {
            if !self.remotes.contains_key(&remote.number) {
                let interface = Remote::new(remote.number, self.control.clone());
                let path = object_path(remote.number);
                server.at(path.as_ref(), interface.clone()).await?;
                let object = Object::new(
                    &self.connection,
                    path.into_inner(),
                    interface,
                    remote.clone(),
                );
                self.remotes.insert(remote.number, object.await?);
            }
        }
        let gone = |number: &u32| snapshot.remote(*number).is_none();
        let gone: Vec<u32> = self.remotes.keys().copied().filter(gone).collect();
        for number in gone {
            self.remotes.remove(&number);
            server.remove::<Remote, _>(object_path(number)).await?;
        }
        Ok(())
    }

    async fn tell(&self, notice: Notice) -> zbus::Result<()> {
        let manager = &self.manager.emitter;
        match notice {
            Notice::RunFinished { id, ok, detail } => {
                Manager::run_finished(manager, id, ok, &text(&detail)).await
            }
            Notice::Overflowed => Manager::overflowed(manager).await,
            Notice::SyncFailed {
                remote,
                exit,
                cause,
            } => match self.remotes.get(&remote) {
                Some(object) => Remote::sync_failed(&object.emitter, exit, &text(&cause)).await,
                None => Ok(()),
            },
        }
    }
}

/// An interface at a path, and what is known of it. `S` is the state that its properties are made from.
struct Object<I, S> {
    interface: I,
    emitter: SignalEmitter<'static>,
    told: HashMap<String, OwnedVariant>,
    seen: S,
    quiet_until: Option<Instant>,
}

impl<I: Interface, S: Clone + PartialEq> Object<I, S> {
    async fn new(
        connection: &Connection,
        path: ObjectPath<'static>,
        interface: I,
        state: S,
    ) -> zbus::Result<Self> {
        let mut object = Self {
            interface,
            emitter: SignalEmitter::from_parts(connection.clone(), path),
            told: HashMap::new(),
            seen: state,
            quiet_until: None,
        };
        object.told = object.properties().await?;
        Ok(object)
    }

    async fn properties(&self) -> zbus::Result<HashMap<String, OwnedVariant>> {
        let connection = self.emitter.connection();
        let server = connection.object_server();
        let properties = self
            .interface
            .get_all(server, connection, None, &self.emitter);
        Ok(properties.await?)
    }

    /// Tells the properties that differ, or returns when they may be told.
    async fn tell(&mut self, state: &S, now: Instant) -> zbus::Result<Option<Instant>> {
        if self.seen == *state {
            return Ok(None);
        }
        if let Some(due) = self.quiet_until
            && now < due
        {
            return Ok(Some(due));
        }
        self.seen = state.clone();
        let mut changed = self.properties().await?;
        changed.retain(|name, value| self.told.get(name) != Some(value));
        if changed.is_empty() {
            return Ok(None);
        }
        let values = changed
            .iter()
            .map(|(name, value)| Ok((name.as_str(), Variant::try_from(value)?)))
            .collect::<zbus::Result<_>>()?;
        fdo::Properties::properties_changed(&self.emitter, I::name(), values, Cow::default())
            .await?;
        self.told.extend(changed);
        self.quiet_until = Some(now + QUIET);
        Ok(None)
    }
}
