//! `busctl` on a running instance: what it shows, what it does when asked, and who may ask.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use crate::busctl::{MANAGER, MANAGER_PATH, REMOTE, text};
use crate::instance::Instance;
use crate::machine::{Machine, Running};
use crate::wait::{SOON, stays};

/// Long enough for a change to arrive a hundred times over.
const A_WHILE: Duration = Duration::from_secs(1);

/// Runs a command as somebody without any right.
const AS_NOBODY: [&str; 5] = [
    "setpriv",
    "--reuid=nobody",
    "--regid=nogroup",
    "--clear-groups",
    "--",
];

pub fn tree_and_introspection_show_the_manager_and_its_remotes(machine: &Machine) {
    let instance = Instance::start(machine, "introspected");
    let remotes = instance.remotes();
    let tree = machine.ok(["busctl", "tree", "--list", &instance.bus_name()]);
    assert_eq!(remotes.len(), 1, "{remotes:?}");
    for object in [MANAGER_PATH, &remotes[0], "/org/freedesktop/LogControl1"] {
        assert!(tree.lines().any(|line| line == object), "{tree}");
    }
    let introspect = |path: &str, interface: &str| {
        machine.ok([
            "busctl",
            "introspect",
            &instance.bus_name(),
            path,
            interface,
        ])
    };
    let manager = introspect(MANAGER_PATH, MANAGER);
    for member in [
        ".Pause",
        ".Resume",
        ".Reload",
        ".Resync",
        ".Verify",
        ".Flush",
        ".RetryFailed",
        ".ListFailed",
        ".ListDrift",
        ".State",
        ".Pending",
        ".Failed",
        ".RunFinished",
        ".Overflowed",
    ] {
        assert!(manager.contains(member), "{member} is not in\n{manager}");
    }
    let remote = introspect(&remotes[0], REMOTE);
    for member in [
        ".Target",
        ".LastError",
        ".NextTryUSec",
        ".BytesSent",
        ".SyncFailed",
    ] {
        assert!(remote.contains(member), "{member} is not in\n{remote}");
    }
}

pub fn properties_count_what_is_done(machine: &Machine) {
    let instance = Instance::start(machine, "counted");
    instance.wait_for_property("State", "idle");
    assert_eq!(instance.property("Instance"), "counted");
    assert_eq!(instance.property("ConfigFile"), instance.file());
    let remote = &instance.remotes()[0];
    assert_eq!(
        text(&instance.remote_property(remote, "Mirror")),
        instance.source_path()
    );
    let number = |name| {
        instance
            .remote_property(remote, name)
            .as_u64()
            .expect("a number")
    };
    let (runs, sent) = (number("Runs"), number("PathsSent"));
    instance.grow("counted", 10, 1000);
    instance.in_sync(SOON);
    instance.wait_for_property("Pending", 0);
    assert!(number("Runs") > runs);
    assert!(number("PathsSent") >= sent + 10);
    assert!(number("BytesSent") >= 10_000);
    assert!(number("LastSuccessUSec") > 0);
    assert_eq!(instance.property("Failed"), 0);
    assert!(
        instance.property("Watches").as_u64() >= Some(2),
        "the root and one directory"
    );
}

pub fn a_paused_instance_gathers_and_a_resumed_one_sends(machine: &Machine) {
    let instance = Instance::start(machine, "paused");
    instance.call("Pause", &[]).succeeded();
    assert_eq!(instance.property("State"), "paused");
    instance.grow("meanwhile", 5, 10);
    instance.wait_for_property_that(SOON, "Pending", "counts what waits", |pending| {
        pending.as_u64() > Some(0)
    });
    stays(A_WHILE, "nothing is sent while it is paused", || {
        !instance.replica("meanwhile").exists()
    });
    instance.call("Resume", &[]).succeeded();
    instance.in_sync(SOON);
    instance.wait_for_property("State", "idle");
}

pub fn one_paused_remote_does_not_hold_the_other(machine: &Machine) {
    let instance = Instance::prepare(machine, "half_paused");
    crate::receiver::set_module(machine, "half_paused_too", "/srv/half_paused/second", "");
    instance.configure(&["half_paused", "half_paused_too"]);
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    let second = instance
        .remotes()
        .into_iter()
        .find(|path| {
            let target = instance.remote_property(path, "Target");
            target.as_str().expect("text").contains("half_paused_too")
        })
        .expect("there is an object for the second remote");
    instance.call_at(&second, REMOTE, "Pause", &[]).succeeded();
    instance.carries("to the first");
    let there = machine.path("/srv/half_paused/second/to the first");
    stays(A_WHILE, "nothing is sent to the paused remote", || {
        !there.exists()
    });
    instance.call_at(&second, REMOTE, "Resume", &[]).succeeded();
    crate::wait::wait_until(SOON, "the resumed remote gets it", || there.exists());
}

pub fn a_resync_mends_the_replica_and_ends_in_a_signal(machine: &Machine) {
    let instance = Instance::start(machine, "resynced");
    // Somebody was at the receiver; nothing here tells of it.
    fs::write(instance.replica("not at the source"), "x").expect("the replica is writable");
    let signals = Signals::listen(&instance);
    let run = instance.answer("Resync", &["a{sv}", "0"]);
    assert!(run.as_u64() > Some(0), "{run}");
    let signal = signals.wait_for("RunFinished");
    assert!(signal.contains(&format!("[{run},true,")), "{signal}");
    assert_eq!(instance.differences(), [""; 0]);
}

pub fn a_resync_of_a_path_outside_of_the_source_is_refused(machine: &Machine) {
    let instance = Instance::start(machine, "resync_refused");
    let outside: &[&str] = &["a{sv}", "1", "path", "ay", "4", "47", "101", "116", "99"];
    let said = instance.call("Resync", outside).failed();
    assert!(!said.stderr.is_empty(), "{said}");
    let said = instance.call("Resync", &["a{sv}", "1", "colour", "s", "red"]);
    assert!(said.failed().says("colour"));
}

pub fn verify_lists_the_drift_and_changes_nothing(machine: &Machine) {
    let instance = Instance::start(machine, "verified");
    fs::write(instance.replica("extra"), "x").expect("the replica is writable");
    fs::remove_file(instance.replica(crate::instance::KEEP)).expect("it was mirrored");
    let signals = Signals::listen(&instance);
    let run = instance.answer("Verify", &["a{sv}", "0"]);
    let signal = signals.wait_for("RunFinished");
    assert!(signal.contains(&format!("[{run},false,")), "{signal}");
    assert!(instance.replica("extra").exists(), "verify has deleted");
    assert!(
        !instance.replica(crate::instance::KEEP).exists(),
        "verify has sent"
    );
    let drift = instance.answer("ListDrift", &["ttu", &run.to_string(), "0", "100"]);
    let mut kinds: Vec<String> = drift
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            let kind = entry[2].as_str().expect("text");
            format!("{kind}: {}", text(&entry[1]))
        })
        .collect();
    // The directory's own time may have drifted with them.
    kinds.retain(|kind| !kind.starts_with("attributes"));
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "extra: extra",
            &format!("missing: {}", crate::instance::KEEP)
        ]
    );
}

pub fn flush_returns_when_everything_has_arrived(machine: &Machine) {
    let instance = Instance::start(machine, "flushed");
    for round in 0..5 {
        let name = format!("round {round}");
        instance.write(&name, &name);
        let arrived = instance.answer("Flush", &["t", "20000000"]);
        assert_eq!(arrived, true);
        assert!(
            instance.replica(&name).exists(),
            "{name} was not there when flush returned"
        );
    }
    instance.call("Pause", &[]).succeeded();
    instance.write("while paused", "x");
    let said = instance.call("Flush", &["t", "20000000"]).failed();
    assert!(said.says("paused"), "{said}");
}

pub fn a_path_that_fails_is_listed_and_retried(machine: &Machine) {
    let instance = Instance::start(machine, "failing");
    instance.write("locked", "before\n");
    instance.in_sync(SOON);
    let locked = format!("{}/locked", instance.replica_path());
    machine.ok(["chattr", "+i", &locked]);
    instance.write("locked", "it cannot be replaced\n");
    instance.wait_for_property("Failed", 1);
    instance.wait_for_property("State", "degraded");
    let failed = instance.answer("ListFailed", &["tu", "0", "10"]);
    let entry = &failed[0];
    assert_eq!(text(&entry[2]), "locked", "{failed}");
    assert_eq!(entry[3], 23, "rsync's exit code: {failed}");
    assert_ne!(entry[4], "", "rsync's words: {failed}");
    assert!(entry[5].as_u64() >= Some(1), "attempts: {failed}");
    instance.carries_beside("another", "locked");
    machine.ok(["chattr", "-i", &locked]);
    assert_eq!(instance.answer("RetryFailed", &[]), 1);
    instance.in_sync(SOON);
    instance.wait_for_property("Failed", 0);
    instance.wait_for_property("State", "idle");
}

pub fn nobody_may_read_and_not_act(machine: &Machine) {
    let instance = Instance::start(machine, "guarded");
    let name = instance.bus_name();
    let as_nobody = |command: &[&str]| {
        let words: Vec<&str> = AS_NOBODY.iter().chain(command).copied().collect();
        machine.run(words)
    };
    let state = as_nobody(&[
        "busctl",
        "get-property",
        &name,
        MANAGER_PATH,
        MANAGER,
        "State",
    ]);
    assert!(state.says("s \""), "{state}");
    as_nobody(&["busctl", "introspect", &name, MANAGER_PATH]).succeeded();
    for (interface, member, arguments) in [
        ("Properties", "GetAll", &["s", MANAGER][..]),
        ("ObjectManager", "GetManagedObjects", &[]),
    ] {
        let interface = format!("org.freedesktop.DBus.{interface}");
        let mut command = vec!["busctl", "call", &name, MANAGER_PATH, &interface, member];
        command.extend(arguments);
        assert!(as_nobody(&command).succeeded().contains("\"State\" s \""));
    }
    for (method, arguments) in [
        ("Pause", &[][..]),
        ("Resync", &["a{sv}", "0"]),
        ("RetryFailed", &[]),
        ("ListFailed", &["tu", "0", "10"]),
        ("Reload", &[]),
    ] {
        let mut command = vec!["busctl", "call", &name, MANAGER_PATH, MANAGER, method];
        command.extend(arguments);
        let said = as_nobody(&command).failed();
        let refused = ["denied", "authori", "not allowed"];
        let words = said.stderr.to_lowercase();
        assert!(refused.iter().any(|word| words.contains(word)), "{said}");
    }
    assert_ne!(instance.property("State"), "paused");
    // It is polkit that refused, and not for want of knowing what was asked.
    if machine.run(["test", "-x", "/usr/bin/pkaction"]).code == 0 {
        machine.ok(["pkaction", "--action-id", "org.sersync1.control"]);
    }
    instance.carries("still mirrored");
}

pub fn nobody_else_can_take_the_name(machine: &Machine) {
    let instance = Instance::start(machine, "named");
    let before = instance.main_pid();
    let request = |name: &str, flags: &str| {
        let bus = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        [
            "busctl",
            "call",
            bus,
            path,
            bus,
            "RequestName",
            "su",
            name,
            flags,
        ]
        .map(ToOwned::to_owned)
    };
    // Root, with "replace the owner" and "do not queue": 3 says that the name is taken.
    let name = instance.bus_name();
    assert_eq!(machine.ok(request(&name, "6")).trim(), "u 3");
    for name in [&name, "org.sersync1", "org.sersync1.another"] {
        let nobody = AS_NOBODY.map(ToOwned::to_owned);
        let said = machine.run(nobody.into_iter().chain(request(name, "6")));
        assert!(said.failed().says("denied"), "{name}");
    }
    let second = machine.run(["sersync", "run", instance.name(), "--bus", "system"]);
    second.failed();
    assert_eq!(instance.main_pid(), before);
    let owner = machine.ok(["busctl", "status", &instance.bus_name()]);
    assert!(owner.contains(&format!("PID={before}\n")), "{owner}");
    instance.carries("still mirrored");
}

pub fn the_umbrella_name_lists_every_instance(machine: &Machine) {
    let first = Instance::start(machine, "below");
    let second = Instance::start(machine, "below_too");
    let mut owners = machine.ok([
        "busctl",
        "call",
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "ListQueuedOwners",
        "s",
        "org.sersync1",
    ]);
    for instance in [&first, &second] {
        let owner = machine.ok([
            "busctl",
            "call",
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "GetNameOwner",
            "s",
            &instance.bus_name(),
        ]);
        let owner = owner.trim().trim_start_matches("s ").to_owned();
        assert!(owners.contains(&owner), "{owner} is not in {owners}");
        owners = owners.replace(&owner, "");
    }
    let status = machine.ok(["sersync", "status"]);
    assert!(
        status.contains("below") && status.contains("below_too"),
        "{status}"
    );
}

/// The signals of an instance, as `busctl monitor` sees them.
struct Signals {
    lines: mpsc::Receiver<String>,
    _monitor: Running,
}

impl Signals {
    /// Returns when the monitor listens.
    #[track_caller]
    fn listen(instance: &Instance) -> Self {
        let mut monitor = instance
            .machine
            .spawn([
                "busctl",
                "--json=short",
                "--match=type='signal',interface='org.sersync1.Manager'",
                "--match=type='method_call',member='MonitorListens'",
                "monitor",
            ])
            .expect("busctl starts");
        let output = BufReader::new(monitor.stdout());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let signals = Self {
            lines,
            _monitor: monitor,
        };
        // It says nothing when it begins, so it is asked until it has heard a question.
        crate::wait::wait_until(SOON, "busctl monitor listens", || {
            instance.call("MonitorListens", &[]).failed();
            signals.lines.try_recv().is_ok()
        });
        signals
    }

    /// Waits for a signal and gives the line of it.
    #[track_caller]
    fn wait_for(&self, member: &str) -> String {
        let member = format!("\"member\":\"{member}\"");
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if line.contains(&member) => return line,
                Ok(_) => {}
                Err(error) => panic!("no {member} within {SOON:?}: {error}"),
            }
        }
    }
}
