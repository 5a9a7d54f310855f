//! An instance on a bus, whose daemon is a stand-in.

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use sersync::control::{
    self, Board, ControlEnd, LogControl, LogLevel, LogTarget, MirrorSnapshot, RemoteSnapshot, State,
};
use sersync::dbus::{BusAddress, Identity, Presence, serve};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zbus::{Connection, Proxy};

use crate::bus::Bus;
use crate::client::DEADLINE;
use crate::stand_in::answer;

/// An instance on a bus, and the stand-in for its daemon.
pub struct Instance {
    pub board: Board,
    pub first_try: Presence,
    pub log: Arc<Log>,
    name: String,
    asked: Arc<Mutex<Vec<String>>>,
    daemon: JoinHandle<()>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Instance {
    /// Serves, and waits for what comes of the first try.
    pub async fn start(bus: &Bus, instance: &str) -> Self {
        let (control, ControlEnd { requests, board }) = control::channel();
        board.update(|snapshot| {
            snapshot.mirrors = vec![mirror()];
            snapshot.remotes = vec![remote(1, "backup::data"), remote(2, "/mnt/copy")];
        });
        let asked = Arc::default();
        let daemon = tokio::spawn(answer(requests, Arc::clone(&asked)));
        let log = Arc::new(Log(Mutex::new(LogLevel::Info)));
        let identity = Identity {
            instance: instance.into(),
            config_file: Some("/etc/sersync/data.xml".into()),
            version: "3.0.0".into(),
        };
        let stop = CancellationToken::new();
        let (ready, first_try) = oneshot::channel();
        let address = BusAddress::Address(bus.address());
        let served = tokio::spawn(serve(
            address,
            identity.clone(),
            control,
            Arc::clone(&log) as Arc<dyn LogControl>,
            stop.clone(),
            ready,
        ));
        let first_try = timeout(DEADLINE, first_try).await;
        Self {
            board,
            first_try: first_try.expect("in time").expect("it is told"),
            log,
            name: identity.bus_name(),
            asked,
            daemon,
            stop,
            served,
        }
    }

    pub fn bus_name(&self) -> &str {
        &self.name
    }

    /// What the daemon was asked, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    pub async fn manager(&self, client: &Connection) -> Proxy<'static> {
        self.object(client, "/org/sersync1", "org.sersync1.Manager")
            .await
    }

    pub async fn remote(&self, client: &Connection, number: u32) -> Proxy<'static> {
        let path = format!("/org/sersync1/remote/{number}");
        self.object(client, &path, "org.sersync1.Remote").await
    }

    async fn object(&self, client: &Connection, path: &str, interface: &str) -> Proxy<'static> {
        zbus::proxy::Builder::new(client)
            .destination(self.name.clone())
            .path(path.to_owned())
            .interface(interface.to_owned())
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .expect("names and paths are well formed")
    }

    pub fn is_serving(&self) -> bool {
        !self.served.is_finished()
    }

    /// Ends as a daemon does: nobody takes requests any more, and then the bus is left.
    pub async fn end(self) {
        self.daemon.abort();
        self.stop.cancel();
        timeout(DEADLINE, self.served)
            .await
            .expect("it ends in time")
            .expect("it does not panic");
    }
}

/// A log whose level can be set.
#[derive(Debug)]
pub struct Log(Mutex<LogLevel>);

impl LogControl for Log {
    fn level(&self) -> LogLevel {
        *self.0.lock().expect("nobody panicked")
    }

    fn set_level(&self, level: LogLevel) {
        *self.0.lock().expect("nobody panicked") = level;
    }

    fn target(&self) -> LogTarget {
        LogTarget::Journal
    }
}

pub fn mirror() -> MirrorSnapshot {
    MirrorSnapshot {
        source: "/srv/data".into(),
        is_watched: true,
        watches: 12,
        ..MirrorSnapshot::default()
    }
}

pub fn remote(number: u32, target: &str) -> RemoteSnapshot {
    RemoteSnapshot {
        number,
        mirror: "/srv/data".into(),
        target: target.into(),
        state: State::Idle,
        last_success: Some(UNIX_EPOCH + Duration::from_secs(number.into())),
        percent: 100,
        ..RemoteSnapshot::default()
    }
}
