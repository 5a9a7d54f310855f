//! The interfaces are a contract: `dist/dbus` has them as XML, and what is served must be just that.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use roxmltree::{Document, ParsingOptions};
use sersync::control::State;

use crate::bus::{Bus, dist};
use crate::client::eventually;
use crate::instance::Instance;

#[tokio::test]
async fn what_is_served_is_what_is_installed() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    for (path, interface) in [
        ("/org/sersync1", "org.sersync1.Manager"),
        ("/org/sersync1/remote/1", "org.sersync1.Remote"),
    ] {
        let served = introspect(&bus, instance.bus_name(), path).await;
        let served = interface_of(&served, interface);
        let file = dist(&format!("{interface}.xml"));
        let installed = fs::read_to_string(&file).unwrap_or_default();
        let expected = format!("{HEAD}<node>\n{served}\n</node>\n");
        assert!(
            installed == expected,
            "{} must be this:\n{expected}",
            file.display()
        );
    }
}

const HEAD: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"#;

async fn introspect(bus: &Bus, name: &str, path: &str) -> String {
    let arguments = ["introspect", "--xml-interface", name, path];
    bus.busctl_says(&arguments).await
}

/// The lines of one interface of an object.
fn interface_of(xml: &str, interface: &str) -> String {
    let begin = format!("<interface name=\"{interface}\">");
    let lines = xml.lines().skip_while(|line| line.trim() != begin);
    let mut found: Vec<&str> = lines
        .take_while(|line| line.trim() != "</interface>")
        .collect();
    assert!(!found.is_empty(), "no {interface} in\n{xml}");
    found.push("  </interface>");
    found.join("\n")
}

#[tokio::test]
async fn the_log_control_is_that_of_systemd() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let path = "/org/freedesktop/LogControl1";
    let served = introspect(&bus, instance.bus_name(), path).await;
    let interface = interface_of(&served, "org.freedesktop.LogControl1");
    let document = Document::parse(&interface).expect("well formed");
    let mut properties: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("property"))
        .map(|node| ["name", "type", "access"].map(|name| node.attribute(name).unwrap_or("")))
        .collect();
    properties.sort_unstable();
    let expected = [
        ["LogLevel", "s", "readwrite"],
        ["LogTarget", "s", "readwrite"],
        ["SyslogIdentifier", "s", "read"],
    ];
    assert_eq!(properties, expected);
}

#[tokio::test]
async fn properties_show_the_snapshot() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    instance.board.update(|snapshot| {
        snapshot.mirrors[0].overflows = 2;
        let one = &mut snapshot.remotes[0];
        one.state = State::Degraded;
        one.pending = 3;
        one.oldest_pending = Some(UNIX_EPOCH + Duration::from_millis(1_500));
        one.last_error = "connection\0refused".into();
        one.percent = 40;
        snapshot.remotes[1].pending = 4;
    });
    let name = instance.bus_name();
    let manager = [
        ("Version", r#"s "3.0.0""#),
        ("Instance", r#"s "data""#),
        ("ConfigFile", r#"s "/etc/sersync/data.xml""#),
        ("State", r#"s "degraded""#),
        (
            "Remotes",
            r#"ao 2 "/org/sersync1/remote/1" "/org/sersync1/remote/2""#,
        ),
        ("Pending", "t 7"),
        ("Failed", "t 0"),
        ("Watches", "t 12"),
        ("Unwatched", "t 0"),
        ("Overflows", "t 2"),
        ("OldestPendingUSec", "t 1500000"),
        ("LastSyncUSec", "t 2000000"),
        ("Percent", "u 40"),
    ];
    for (property, value) in manager {
        let arguments = [
            "get-property",
            name,
            "/org/sersync1",
            "org.sersync1.Manager",
        ];
        let says = bus
            .busctl_says(&[&arguments[..], &[property]].concat())
            .await;
        assert_eq!(says, value, "{property}");
    }
    let remote = [
        ("Mirror", "ay 9 47 115 114 118 47 100 97 116 97"),
        ("Target", r#"s "backup::data""#),
        ("State", r#"s "degraded""#),
        // A NUL cannot be said on the bus; it must not end the connection either.
        ("LastError", "s \"connection\u{fffd}refused\""),
        ("NextTryUSec", "t 0"),
        ("Pending", "t 3"),
        ("OldestPendingUSec", "t 1500000"),
        ("LastSuccessUSec", "t 1000000"),
        ("Percent", "u 40"),
    ];
    for (property, value) in remote {
        let path = "/org/sersync1/remote/1";
        let arguments = ["get-property", name, path, "org.sersync1.Remote", property];
        let says = bus.busctl_says(&arguments).await;
        let says = says.replace(r"\357\277\275", "\u{fffd}");
        assert_eq!(says, value, "{property}");
    }
}

#[tokio::test]
async fn properties_answer_while_a_request_waits() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    let flush = manager.clone();
    let waiting = tokio::spawn(async move { flush.call::<_, _, bool>("Flush", &0_u64).await });
    eventually("the daemon is asked", async || {
        instance.asked() == ["flush"]
    })
    .await;
    let state: String = manager.get_property("State").await.expect("an answer");
    assert_eq!(state, "idle");
    assert!(manager.call::<_, _, ()>("Pause", &()).await.is_ok());
    assert!(!waiting.is_finished());
}

#[test]
fn the_policies_are_well_formed_and_portable() {
    for name in ["org.sersync1.conf", "org.sersync1.policy"] {
        let text = fs::read_to_string(dist(name)).expect("it is there");
        let options = ParsingOptions {
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(&text, options).expect("well formed");
        let rules = document
            .descendants()
            .filter(|node| node.has_tag_name("allow"));
        let attributes = rules.flat_map(|rule| rule.attributes());
        for attribute in attributes {
            // All that dbus 1.12, 1.14 and dbus-broker know; another one would void the file for one of them.
            assert!(
                ["own_prefix", "send_destination"].contains(&attribute.name()),
                "{name}: {}",
                attribute.name()
            );
        }
    }
}
