//! What can be asked, how it is refused, and how the log is steered.

use std::collections::HashMap;

use sersync::control::{LogControl as _, LogLevel};
use zbus::{OwnedObjectPath, Variant};

use crate::bus::Bus;
use crate::client::error_name;
use crate::instance::Instance;

type Options = HashMap<&'static str, Variant<'static>>;
type Failed = (u64, OwnedObjectPath, Vec<u8>, i32, String, u32, u64, u64);

#[tokio::test]
async fn what_is_called_is_what_the_daemon_is_asked() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let remote = instance.remote(&client, 2).await;
    let everything = Options::new();
    let narrow = Options::from([
        ("path", b"/srv/data/a".to_vec().into()),
        ("remote", 1_u32.into()),
    ]);

    assert_eq!(manager.call("Pause", &()).await, Ok(()));
    assert_eq!(manager.call("Resume", &()).await, Ok(()));
    assert_eq!(manager.call("Resync", &(&everything,)).await, Ok(41_u64));
    assert_eq!(manager.call("Verify", &(&narrow,)).await, Ok(42_u64));
    assert_eq!(manager.call("RetryFailed", &()).await, Ok(3_u32));
    assert_eq!(remote.call("Pause", &()).await, Ok(()));
    assert_eq!(remote.call("Resume", &()).await, Ok(()));
    assert_eq!(remote.call("Resync", &()).await, Ok(41_u64));
    assert_eq!(remote.call("RetryFailed", &()).await, Ok(3_u32));
    assert_eq!(
        instance.asked(),
        [
            "pause All",
            "resume All",
            "resync All None",
            "verify Remote(1) Some(\"/srv/data/a\")",
            "retry All",
            "pause Remote(2)",
            "resume Remote(2)",
            "resync Remote(2) None",
            "retry Remote(2)",
        ]
    );
    assert_eq!(manager.call("Flush", &1_000_000_u64).await, Ok(true));
    assert_eq!(manager.call("Flush", &1_u64).await, Ok(false));
}

#[tokio::test]
async fn busctl_can_do_it() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let call = [
        "call",
        instance.bus_name(),
        "/org/sersync1",
        "org.sersync1.Manager",
    ];
    let says = bus
        .busctl_says(&[&call[..], &["Resync", "a{sv}", "0"]].concat())
        .await;
    assert_eq!(says, "t 41");
    let says = bus.busctl_says(&[&call[..], &["Pause"]].concat()).await;
    assert_eq!(says, "");
    let tree = bus
        .busctl_says(&["tree", "--list", instance.bus_name()])
        .await;
    assert!(tree.contains("/org/sersync1/remote/2"), "{tree}");
    let shown = bus
        .busctl_says(&["introspect", instance.bus_name(), "/org/sersync1/remote/2"])
        .await;
    assert!(shown.contains(".LastSuccessUSec"), "{shown}");
}

#[tokio::test]
async fn lists_carry_any_name_and_never_more_than_the_bus_can() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let failed: Vec<Failed> = manager
        .call("ListFailed", &(3_u64, u32::MAX))
        .await
        .expect("a list");
    let remote = OwnedObjectPath::try_from("/org/sersync1/remote/2").expect("a path");
    let expected = (
        5,
        remote,
        b"dir/\xff\nname".to_vec(),
        23,
        "failed\u{fffd}: Permission denied (13)".into(),
        4,
        1_700_000_000_000_001,
        0,
    );
    assert_eq!(failed, [expected]);
    let drift: zbus::Result<Vec<(OwnedObjectPath, Vec<u8>, String)>> =
        manager.call("ListDrift", &(9_u64, 0_u64, 10_u32)).await;
    assert_eq!(error_name(drift), "org.sersync1.Error.NotFound");
    assert_eq!(
        instance.asked(),
        ["list failed 3 1000", "list drift 9 0 10"]
    );
}

#[tokio::test]
async fn errors_have_their_names() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let names = [
        "Paused",
        "Held",
        "Failed",
        "NotFound",
        "InvalidArgument",
        "Stopping",
    ];
    for name in names {
        let path = format!("/srv/data/{name}").into_bytes();
        let options = Options::from([("path", path.into())]);
        let refused = manager.call::<_, _, u64>("Resync", &(options,)).await;
        assert_eq!(error_name(refused), format!("org.sersync1.Error.{name}"));
    }
    let asked = instance.asked().len();
    let unknown = Options::from([("paht", b"/srv/data".to_vec().into())]);
    let refused = manager.call::<_, _, u64>("Resync", &(unknown,)).await;
    assert_eq!(error_name(refused), "org.sersync1.Error.InvalidArgument");
    assert_eq!(instance.asked().len(), asked, "the daemon was asked");

    let refused = manager.call::<_, _, ()>("Reload", &()).await;
    let Err(zbus::Error::MethodError(name, text, _)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(name, "org.sersync1.Error.InvalidConfiguration");
    assert_eq!(
        text.as_deref(),
        Some("data.xml:3:7: unknown element `fliter`")
    );
}

#[tokio::test]
async fn the_level_of_the_log_can_be_set() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let log = [
        instance.bus_name(),
        "/org/freedesktop/LogControl1",
        "org.freedesktop.LogControl1",
    ];
    let set = async |property: &str, value: &str| {
        let arguments = [&["set-property"][..], &log, &[property, "s", value]].concat();
        bus.busctl(&arguments).await
    };
    assert!(set("LogLevel", "debug").await.status.success());
    assert_eq!(instance.log.level(), LogLevel::Debug);
    let get = [&["get-property"][..], &log, &["LogLevel"]].concat();
    assert_eq!(bus.busctl_says(&get).await, r#"s "debug""#);

    let refused = set("LogLevel", "loud").await;
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("emerg, alert, crit, err"), "{words}");
    assert_eq!(instance.log.level(), LogLevel::Debug);

    assert!(set("LogTarget", "journal").await.status.success());
    assert!(!set("LogTarget", "kmsg").await.status.success());
}
