//! Nobody there, too many there, nobody who may.

use std::sync::{Arc, Mutex};

use zbus::fdo;
use zbus::message::Flags;

use crate::harness::{Bus, Ended, Instance, Script, program};

#[tokio::test]
async fn no_bus_and_no_instance_are_told_apart() {
    let bus = Bus::start().await;
    for command in ["status", "pause", "failed", "log-level", "status --watch"] {
        let complaint = bus.sersync(command).await.complaint(69);
        let words = "no instance is running on the bus at unix:path=/";
        assert!(complaint.starts_with(words), "{command}: {complaint}");
    }
    let complaint = bus.sersync("status data").await.complaint(69);
    assert_eq!(complaint, "instance `data` is not running\n");

    let mut nowhere = program("status");
    nowhere.args(["--bus", "unix:path=/nonexistent/bus"]);
    let complaint = Ended::of(nowhere).await.complaint(69);
    assert!(complaint.contains("/nonexistent/bus"), "{complaint}");
    assert!(complaint.contains("No such file"), "{complaint}");
}

#[tokio::test]
async fn with_several_instances_one_must_be_named() {
    let bus = Bus::start().await;
    let _one = Instance::start(&bus, "photos", Script::default()).await;
    let two = Instance::start(&bus, "data", Script::default()).await;

    let complaint = bus.sersync("pause").await.complaint(64);
    assert_eq!(
        complaint,
        "several instances are running, say which: data, photos\n"
    );
    bus.sersync("pause data").await.answer();
    assert_eq!(two.asked(), ["pause All"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    for wrong in [
        "status 1data",
        "status --bus sytem",
        "flush --remote 1",
        "pause a b",
        "mirror /data /backup --password-file /etc/rsync.password",
        "mirror /data host:/backup --password-file /etc/rsync.password",
        "mirror /data host::m --instance 1data",
    ] {
        let ended = Ended::of(program(wrong)).await;
        assert_eq!(ended.code, 64, "{wrong}: {ended:?}");
    }
}

/// A service that refuses, and remembers whether it was told that a person could give a password.
struct Refusing {
    name: String,
    could_ask: Arc<Mutex<Vec<bool>>>,
}

#[zbus::interface(name = "org.sersync1.Manager")]
impl Refusing {
    #[zbus(property)]
    fn instance(&self) -> &str {
        &self.name
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is how zbus hands it over"
    )]
    fn pause(&self, #[zbus(header)] header: zbus::message::Header<'_>) -> fdo::Result<()> {
        let flags = header.primary().flags();
        let could_ask = flags.contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let mut all = self.could_ask.lock().expect("nobody panicked");
        all.push(could_ask);
        Err(fdo::Error::AccessDenied("you are nobody".into()))
    }
}

async fn refusing(bus: &Bus) -> (zbus::Connection, Arc<Mutex<Vec<bool>>>) {
    let could_ask = Arc::default();
    let refusing = Refusing {
        name: "data".into(),
        could_ask: Arc::clone(&could_ask),
    };
    let connection = zbus::connection::Builder::address(bus.address().as_str())
        .serve_at("/org/sersync1", refusing)
        .name("org.sersync1.data")
        .name("org.sersync1")
        .build()
        .await
        .expect("the bus runs");
    (connection, could_ask)
}

#[tokio::test]
async fn who_may_not_is_told_so_and_a_script_is_not_asked_for_a_password() {
    let bus = Bus::start().await;
    let (_service, could_ask) = refusing(&bus).await;

    let complaint = bus.sersync("pause").await.complaint(77);
    assert!(complaint.contains("you are nobody"), "{complaint}");
    assert!(complaint.contains("org.sersync1.control"), "{complaint}");
    assert_eq!(*could_ask.lock().expect("nobody panicked"), [false]);
}

#[tokio::test]
async fn a_person_at_a_terminal_may_be_asked_for_a_password() {
    let bus = Bus::start().await;
    let (_service, could_ask) = refusing(&bus).await;

    let ended = Ended::of(bus.at_a_terminal("pause")).await;
    assert_eq!(ended.code, 77, "{ended:?}");
    assert_eq!(*could_ask.lock().expect("nobody panicked"), [true]);
}

/// A service that hangs.
struct Hanging;

#[zbus::interface(name = "org.sersync1.Manager")]
impl Hanging {
    #[zbus(property)]
    async fn instance(&self) -> String {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_service_that_hangs_does_not_hang_who_asks() {
    let bus = Bus::start().await;
    let _service = zbus::connection::Builder::address(bus.address().as_str())
        .serve_at("/org/sersync1", Hanging)
        .name("org.sersync1.data")
        .name("org.sersync1")
        .build()
        .await
        .expect("the bus runs");

    let (all, one) = tokio::join!(bus.sersync("status"), bus.sersync("status data"));
    assert!(all.complaint(69).contains("does not answer"));
    assert_eq!(one.complaint(69), "data does not answer\n");
}
