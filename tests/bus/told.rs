//! What clients are told without asking.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use sersync::control::{Notice, State};
use tokio::time::{Instant, interval, timeout};
use zbus::fdo::ObjectManagerProxy;
use zbus::{OwnedVariant, Proxy};

use crate::bus::Bus;
use crate::client::{Changes, DEADLINE};
use crate::instance::{Instance, remote};

#[tokio::test]
async fn a_storm_of_changes_is_told_now_and_then_and_to_the_end() {
    const CHANGES: u64 = 250;
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let mut told = Changes::of(&manager).await;

    let begun = Instant::now();
    instance
        .board
        .update(|snapshot| snapshot.remotes[0].pending = 1);
    told.until("Pending", "1").await;
    let first = begun.elapsed();
    let mut beat = interval(Duration::from_millis(10));
    for pending in 2..=CHANGES {
        beat.tick().await;
        instance
            .board
            .update(|snapshot| snapshot.remotes[0].pending = pending);
    }
    let announcements = told.until("Pending", &CHANGES.to_string()).await;
    let seconds = begun.elapsed().as_secs() as usize;
    assert!(
        first < Duration::from_millis(900),
        "the first took {first:?}"
    );
    assert!(
        announcements <= seconds + 1,
        "{announcements} announcements in {seconds} s"
    );
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let two = instance.remote(&client, 2).await;
    let mut told = Changes::of(&two).await;
    // Another remote's matter is not told by this one.
    instance
        .board
        .update(|snapshot| snapshot.remotes[0].runs = 9);
    instance.board.update(|snapshot| {
        snapshot.remotes[1].state = State::Syncing;
        snapshot.remotes[1].runs = 1;
    });
    let changed = told.next().await;
    let expected = [("Runs", "1"), ("State", "syncing")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn remotes_come_and_go() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let objects = ObjectManagerProxy::new(&client, instance.bus_name().to_owned(), "/org/sersync1")
        .await
        .expect("well formed");
    let mut added = objects.receive_interfaces_added().await.expect("signals");
    let mut removed = objects.receive_interfaces_removed().await.expect("signals");

    instance.board.update(|snapshot| {
        snapshot.remotes.remove(0);
        snapshot.remotes.push(remote(3, "other::data"));
    });
    let signal = timeout(DEADLINE, added.next()).await.expect("in time");
    let signal = signal.expect("connected");
    let args = signal.args().expect("well formed");
    assert_eq!(args.object_path().as_str(), "/org/sersync1/remote/3");
    let properties = &args.interfaces_and_properties()["org.sersync1.Remote"];
    assert_eq!(properties["Target"], "other::data".into());
    let signal = timeout(DEADLINE, removed.next()).await.expect("in time");
    let signal = signal.expect("connected");
    let args = signal.args().expect("well formed");
    assert_eq!(args.object_path().as_str(), "/org/sersync1/remote/1");

    let managed = objects.get_managed_objects().await.expect("an answer");
    let mut paths: Vec<&str> = managed
        .iter()
        .filter(|(_, interfaces)| interfaces.keys().any(|name| *name == "org.sersync1.Remote"))
        .map(|(path, _)| path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/org/sersync1/remote/2", "/org/sersync1/remote/3"]);
    let gone = instance.remote(&client, 1).await;
    let properties: zbus::Result<HashMap<String, OwnedVariant>> = gone.call("Resync", &()).await;
    assert!(properties.is_err(), "{properties:?}");
}

#[tokio::test]
async fn notices_become_signals() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let remote = instance.remote(&client, 2).await;
    let mut signals = Signals::of(&manager).await;
    let mut failures = Signals::of(&remote).await;

    instance.board.notice(Notice::RunFinished {
        id: 41,
        ok: false,
        detail: "2 differences\0".into(),
    });
    instance.board.notice(Notice::Overflowed);
    instance.board.notice(Notice::SyncFailed {
        remote: 2,
        exit: 10,
        cause: "connection refused".into(),
    });
    let (id, ok, detail): (u64, bool, String) = signals.next("RunFinished").await;
    assert_eq!(
        (id, ok, detail.as_str()),
        (41, false, "2 differences\u{fffd}")
    );
    signals.next::<()>("Overflowed").await;
    let (exit, cause): (i32, String) = failures.next("SyncFailed").await;
    assert_eq!((exit, cause.as_str()), (10, "connection refused"));
}

/// The signals of one object and interface.
struct Signals(zbus::proxy::SignalStream<'static>);

impl Signals {
    async fn of(object: &Proxy<'static>) -> Self {
        Self(object.receive_all_signals().await.expect("signals"))
    }

    async fn next<T>(&mut self, member: &str) -> T
    where
        T: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let signal = timeout(DEADLINE, self.0.next()).await.expect("in time");
        let signal = signal.expect("connected");
        assert_eq!(signal.header().member().expect("a signal has one"), member);
        signal.body().deserialize().expect("as the interface says")
    }
}
