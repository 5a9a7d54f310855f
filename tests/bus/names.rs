//! Which names an instance has, and what happens where it cannot have them.

use std::time::Duration;

use futures_util::StreamExt as _;
use sersync::dbus::{Presence, UMBRELLA};
use tokio::time::timeout;
use zbus::fdo::{self, DBusProxy};

use crate::bus::Bus;
use crate::client::{Changes, DEADLINE, error_name, eventually};
use crate::instance::Instance;

#[tokio::test]
async fn a_second_process_cannot_take_the_name() {
    let bus = Bus::start().await;
    let first = Instance::start(&bus, "data").await;
    assert_eq!(first.first_try, Presence::Serving);

    let second = Instance::start(&bus, "data").await;
    assert_eq!(second.first_try, Presence::NameTaken);
    eventually("the second ends", async || !second.is_serving()).await;

    // Not by force either: REPLACE_EXISTING | DO_NOT_QUEUE is answered with EXISTS.
    let request = ["call", "org.freedesktop.DBus", "/org/freedesktop/DBus"];
    let force = [
        "org.freedesktop.DBus",
        "RequestName",
        "su",
        "org.sersync1.data",
        "6",
    ];
    assert_eq!(
        bus.busctl_says(&[&request[..], &force].concat()).await,
        "u 3"
    );
    let client = bus.client().await;
    let instance: String = first
        .manager(&client)
        .await
        .get_property("Instance")
        .await
        .expect("the first still serves");
    assert_eq!(instance, "data");
}

#[tokio::test]
async fn the_name_of_a_process_that_ends_is_waited_for() {
    let bus = Bus::start().await;
    let first = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let bus_itself = DBusProxy::new(&client).await.expect("well formed");
    // Refused, it is on the bus for a moment only: who asks now and then may never see it.
    let mut owners = bus_itself
        .receive_name_owner_changed()
        .await
        .expect("a match");
    let (second, ()) = tokio::join!(Instance::start(&bus, "data"), async {
        let come = timeout(DEADLINE, owners.next()).await;
        come.expect("the second comes in time")
            .expect("the bus runs");
        first.end().await;
    });
    assert_eq!(second.first_try, Presence::Serving);
}

#[tokio::test]
async fn the_umbrella_lists_all_instances() {
    let bus = Bus::start().await;
    let _data = Instance::start(&bus, "data").await;
    let mail = Instance::start(&bus, "mail-spool_2").await;
    assert_eq!(mail.first_try, Presence::Serving);
    assert_eq!(instances(&bus).await, ["data", "mail-spool_2"]);
    mail.end().await;
    eventually("the ended one is gone", async || {
        instances(&bus).await == ["data"]
    })
    .await;
}

/// The way of a client: the owners in the queue, and what each says that it is.
async fn instances(bus: &Bus) -> Vec<String> {
    let client = bus.client().await;
    let daemon = DBusProxy::new(&client).await.expect("the bus daemon");
    let umbrella = UMBRELLA.try_into().expect("well formed");
    let owners = match daemon.list_queued_owners(umbrella).await {
        Err(fdo::Error::NameHasNoOwner(_)) => Vec::new(),
        owners => owners.expect("an answer"),
    };
    let mut instances = Vec::new();
    for owner in owners {
        let manager = zbus::Proxy::new(&client, owner, "/org/sersync1", "org.sersync1.Manager");
        let manager = manager.await.expect("well formed");
        if let Ok(instance) = manager.get_property("Instance").await {
            instances.push(instance);
        }
    }
    instances.sort();
    instances
}

#[tokio::test]
async fn a_restart_of_the_bus_is_survived() {
    let mut bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    for _ in 0..2 {
        bus.end().await;
        // What changes meanwhile is there when the bus is back.
        instance.board.update(|snapshot| {
            snapshot.remotes[0].pending += 1;
            snapshot.remotes.truncate(1);
        });
        bus.begin().await;
        eventually("the instance is back", async || {
            instances(&bus).await == ["data"]
        })
        .await;
    }
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let pending: u64 = manager.get_property("Pending").await.expect("pending");
    assert_eq!(pending, 2);
    let gone = instance.remote(&client, 2).await;
    assert!(gone.get_property::<u64>("Pending").await.is_err());
    let stays = instance.remote(&client, 1).await;
    assert_eq!(stays.get_property::<u64>("Pending").await, Ok(2));
}

#[tokio::test]
async fn without_a_bus_it_waits_for_one() {
    let mut bus = Bus::planned();
    let instance = Instance::start(&bus, "data").await;
    let Presence::WithoutBus(reason) = &instance.first_try else {
        panic!("{:?} without a bus", instance.first_try);
    };
    assert!(reason.contains("cannot be reached"), "{reason}");
    bus.begin().await;
    eventually("the instance is there", async || {
        instances(&bus).await == ["data"]
    })
    .await;
}

#[tokio::test]
async fn a_bus_without_the_policy_is_a_reason_and_no_end() {
    let bus = Bus::start_without_policy().await;
    let instance = Instance::start(&bus, "data").await;
    let Presence::WithoutBus(reason) = &instance.first_try else {
        panic!("{:?} without a policy", instance.first_try);
    };
    assert!(reason.contains("org.sersync1.conf"), "{reason}");
    assert!(instance.is_serving());
    instance.end().await;
}

#[tokio::test]
async fn it_ends_at_once_while_there_is_no_bus() {
    let bus = Bus::planned();
    let instance = Instance::start(&bus, "data").await;
    timeout(Duration::from_secs(5), instance.end())
        .await
        .expect("it does not wait for the next try");
}

#[tokio::test]
async fn a_bus_that_hangs_does_not_hold_up_the_end() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    bus.freeze();
    instance
        .board
        .update(|snapshot| snapshot.remotes[0].pending = 1);
    timeout(Duration::from_secs(10), instance.end())
        .await
        .expect("it does not wait for the bus");
}

#[tokio::test]
async fn the_end_answers_who_waits_and_is_seen() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let mut told = Changes::of(&manager).await;
    let flush = manager.clone();
    let waiting = tokio::spawn(async move { flush.call::<_, _, bool>("Flush", &0_u64).await });
    eventually("the daemon is asked", async || {
        instance.asked() == ["flush"]
    })
    .await;

    instance.board.update(|snapshot| snapshot.stopping = true);
    instance.end().await;
    told.until("State", "stopping").await;
    let refused = timeout(DEADLINE, waiting)
        .await
        .expect("it is answered")
        .expect("no panic");
    assert_eq!(error_name(refused), "org.sersync1.Error.Stopping");
    assert_eq!(instances(&bus).await, [""; 0]);
}
