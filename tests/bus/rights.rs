//! Who may read and who may act: everybody, and root with whom polkit allows.

use std::collections::HashMap;
use std::process::Output;
use std::sync::{Arc, Mutex};

use sersync::control::{LogControl as _, LogLevel};
use zbus::{Connection, OwnedVariant, interface};

use crate::bus::{Bus, can_be_nobody};
use crate::instance::Instance;

const METHODS: [&str; 6] = [
    "Pause",
    "Resume",
    "AcceptSource",
    "Reload",
    "RetryFailed",
    "AcceptDeletions",
];

#[tokio::test]
async fn nobody_can_read_and_cannot_act() {
    if !can_be_nobody() {
        return;
    }
    let bus = Bus::start().await;
    // The second one only waits for the umbrella name, by which the policy lets everybody in.
    let _first = Instance::start(&bus, "first").await;
    let instance = Instance::start(&bus, "second").await;
    let object = [instance.bus_name(), "/org/sersync1", "org.sersync1.Manager"];

    let get = [&["get-property"][..], &object, &["State"]].concat();
    let state = bus.busctl_of_nobody(&get).await;
    assert_eq!(said(&state), "s \"idle\"\n");
    let introspect = bus
        .busctl_of_nobody(&["introspect", object[0], object[1]])
        .await;
    assert!(introspect.status.success(), "{}", said(&introspect));

    for method in METHODS {
        let refused = call(&bus, &instance, method).await;
        assert!(
            is_error(&refused, "AccessDenied"),
            "{method}: {}",
            said(&refused)
        );
    }
    let lists = [
        &["ListFailed", "tu", "0", "10"][..],
        &["ListDrift", "ttu", "1", "0", "10"],
        &["Resync", "a{sv}", "0"],
        &["Verify", "a{sv}", "0"],
        &["Flush", "t", "1"],
    ];
    for arguments in lists {
        let call = [&["call"][..], &object, arguments].concat();
        let refused = bus.busctl_of_nobody(&call).await;
        assert!(
            said(&refused).contains("Access denied"),
            "{arguments:?}: {}",
            said(&refused)
        );
    }
    let remote = "/org/sersync1/remote/1";
    for method in [
        "Pause",
        "Resume",
        "AcceptSource",
        "Resync",
        "RetryFailed",
        "AcceptDeletions",
    ] {
        let method = format!("org.sersync1.Remote.{method}");
        let refused = bus.dbus_send_of_nobody(object[0], remote, &method).await;
        assert!(
            is_error(&refused, "AccessDenied"),
            "{method}: {}",
            said(&refused)
        );
    }
    assert_eq!(instance.asked(), [""; 0], "the daemon was asked");

    let log = [
        "set-property",
        object[0],
        "/org/freedesktop/LogControl1",
        "org.freedesktop.LogControl1",
    ];
    for setting in [["LogLevel", "s", "debug"], ["LogTarget", "s", "journal"]] {
        let refused = bus.busctl_of_nobody(&[&log[..], &setting].concat()).await;
        assert!(
            said(&refused).contains("Access denied"),
            "{}",
            said(&refused)
        );
    }
    assert_eq!(instance.log.level(), LogLevel::Info);
}

#[tokio::test]
async fn nobody_cannot_be_an_instance() {
    if !can_be_nobody() {
        return;
    }
    let bus = Bus::start().await;
    let request = [
        "call",
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
    ];
    for name in ["org.sersync1", "org.sersync1.data"] {
        let arguments = [&request[..], &["RequestName", "su", name, "0"]].concat();
        let refused = bus.busctl_of_nobody(&arguments).await;
        assert!(!refused.status.success(), "{name}: {}", said(&refused));
    }
}

#[tokio::test]
async fn whom_polkit_allows_may_act() {
    if !can_be_nobody() {
        return;
    }
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let polkit = Polkit::start(&bus).await;

    polkit.will_say(true, false);
    let done = call(&bus, &instance, "Pause").await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(instance.asked(), ["pause All"]);

    polkit.will_say(false, false);
    let refused = call(&bus, &instance, "Pause").await;
    assert!(is_error(&refused, "AccessDenied"), "{}", said(&refused));

    // polkit would ask for a password, but the caller did not say that anybody is there to type it.
    polkit.will_say(false, true);
    let refused = call(&bus, &instance, "Pause").await;
    assert!(
        is_error(&refused, "InteractiveAuthorizationRequired"),
        "{}",
        said(&refused)
    );
    assert_eq!(instance.asked(), ["pause All"]);

    let [action, kind, flags] = polkit.asked.lock().expect("nobody panicked")[0].clone();
    assert_eq!(
        (action.as_str(), kind.as_str(), flags.as_str()),
        ("org.sersync1.control", "system-bus-name", "0")
    );
}

#[tokio::test]
async fn a_person_is_asked_only_if_the_caller_says_that_one_is_there() {
    if !can_be_nobody() {
        return;
    }
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let polkit = Polkit::start(&bus).await;
    polkit.will_say(false, false);
    let object = [instance.bus_name(), "/org/sersync1", "org.sersync1.Manager"];
    let with_person = [
        &["--allow-interactive-authorization=yes", "call"][..],
        &object,
        &["Pause"],
    ];
    let refused = bus.busctl_of_nobody(&with_person.concat()).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    // Never for a property: everything waits while one is set. (`set-property` does not say so by itself.)
    let set = [
        "--allow-interactive-authorization=yes",
        "call",
        instance.bus_name(),
        "/org/freedesktop/LogControl1",
        "org.freedesktop.DBus.Properties",
        "Set",
        "ssv",
        "org.freedesktop.LogControl1",
        "LogLevel",
        "s",
        "debug",
    ];
    let refused = bus.busctl_of_nobody(&set).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    let asked = polkit.asked.lock().expect("nobody panicked").clone();
    let flags: Vec<&str> = asked.iter().map(|[_, _, flags]| flags.as_str()).collect();
    assert_eq!(flags, ["1", "0"]);
}

#[tokio::test]
async fn root_needs_no_polkit() {
    if !can_be_nobody() {
        return;
    }
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data").await;
    let polkit = Polkit::start(&bus).await;
    polkit.will_say(false, false);
    let client = bus.client().await;
    let manager = instance.manager(&client).await;
    assert_eq!(manager.call("Pause", &()).await, Ok(()));
    assert!(polkit.asked.lock().expect("nobody panicked").is_empty());
}

async fn call(bus: &Bus, instance: &Instance, method: &str) -> Output {
    let method = format!("org.sersync1.Manager.{method}");
    bus.dbus_send_of_nobody(instance.bus_name(), "/org/sersync1", &method)
        .await
}

fn said(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part));
    parts.concat()
}

fn is_error(output: &Output, name: &str) -> bool {
    !output.status.success() && said(output).contains(&format!("org.freedesktop.DBus.Error.{name}"))
}

/// A stand-in for polkit that says what it is told to.
struct Polkit {
    _connection: Connection,
    verdict: Arc<Mutex<(bool, bool)>>,
    /// Action, kind of subject and flags of each question.
    asked: Arc<Mutex<Vec<[String; 3]>>>,
}

impl Polkit {
    async fn start(bus: &Bus) -> Self {
        let authority = Authority::default();
        let (verdict, asked) = (Arc::clone(&authority.verdict), Arc::clone(&authority.asked));
        let connection = zbus::connection::Builder::address(bus.address().as_str())
            .serve_at("/org/freedesktop/PolicyKit1/Authority", authority)
            .name("org.freedesktop.PolicyKit1")
            .build()
            .await
            .expect("the bus lets us");
        Self {
            _connection: connection,
            verdict,
            asked,
        }
    }

    fn will_say(&self, is_authorized: bool, is_challenge: bool) {
        *self.verdict.lock().expect("nobody panicked") = (is_authorized, is_challenge);
    }
}

/// Whether authorized, whether a password might help, details.
type Verdict = (bool, bool, HashMap<String, String>);

#[derive(Default)]
struct Authority {
    verdict: Arc<Mutex<(bool, bool)>>,
    asked: Arc<Mutex<Vec<[String; 3]>>>,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        cancellation: &str,
    ) -> (Verdict,) {
        // polkit lets only root say more.
        assert_eq!((details.into_keys().count(), cancellation), (0, ""));
        let question = [action, subject.0, flags.to_string()];
        self.asked.lock().expect("nobody panicked").push(question);
        let (is_authorized, is_challenge) = *self.verdict.lock().expect("nobody panicked");
        ((is_authorized, is_challenge, HashMap::new()),)
    }
}
