//! The same with dbus-broker in place of dbus-daemon: another reader of our policy, and the bus of many distributions.
//!
//! It need not be installed here, where it would be the bus of the next boot: `make check` only fetches its package,
//! which is installed in the machine.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::instance::Instance;
use crate::machine::Machine;
use crate::wait::SOON;
use crate::{Case, bus, package};

/// There if dbus-broker is installed.
const LAUNCHER: &str = "/usr/bin/dbus-broker-launch";
/// Where the machine has the package of it.
const PACKAGE: &str = "/var/tmp/dbus-broker.deb";

/// What the choice of a bus could change.
const CASES: [(&str, Case); 6] = [
    (
        "introspection",
        bus::tree_and_introspection_show_the_manager_and_its_remotes,
    ),
    (
        "signals",
        bus::a_resync_mends_the_replica_and_ends_in_a_signal,
    ),
    ("rights", bus::nobody_may_read_and_not_act),
    ("ownership", bus::nobody_else_can_take_the_name),
    ("two instances", bus::the_umbrella_name_lists_every_instance),
    ("a killed bus", a_killed_bus_is_joined_again),
];

/// Whether there is a dbus-broker to be had.
pub fn is_there() -> bool {
    Path::new(LAUNCHER).exists() || fetched().is_some()
}

pub fn the_bus_may_be_dbus_broker(machine: &Machine) {
    if let Some(package) = fetched().filter(|_| !machine.path(LAUNCHER).exists()) {
        fs::copy(package, machine.path(PACKAGE)).expect("the machine has room for the package");
        machine.ok(["dpkg", "--install", PACKAGE]);
    }
    // It comes without our policy, as on a machine where sersync is installed later.
    machine.script("DEBIAN_FRONTEND=noninteractive apt-get remove --yes sersync");
    machine.ok(["systemctl", "enable", "dbus-broker"]);
    machine.reboot();
    let all = catch_unwind(AssertUnwindSafe(|| {
        let bus = machine.ok(["systemctl", "show", "--property=Id", "dbus.service"]);
        assert_eq!(bus, "Id=dbus-broker.service\n");
        package::reinstall(machine);
        all_that_a_bus_could_change("dbus-broker", machine);
        let said = machine.ok(["journalctl", "--boot", "--unit=dbus-broker"]);
        assert!(!said.contains("org.sersync1.conf"), "{said}");
    }));
    // Not before the reboot: a bus whose unit has changed its name starts nothing that a reboot asks for.
    machine.ok(["systemctl", "disable", "--no-reload", "dbus-broker"]);
    machine.reboot();
    if let Err(panic) = all {
        resume_unwind(panic);
    }
}

/// The cases in which this bus may not be as the usual one.
#[track_caller]
pub fn all_that_a_bus_could_change(bus: &str, machine: &Machine) {
    for (name, case) in CASES {
        println!("with {bus}: {name}");
        case(machine);
    }
}

fn a_killed_bus_is_joined_again(machine: &Machine) {
    let instance = Instance::start(machine, "rejoined");
    let pid = instance.main_pid();
    machine.ok(["systemctl", "kill", "--signal=KILL", "dbus.service"]);
    instance.wait_for_property_that(SOON, "State", "can be asked again", |_| true);
    assert_eq!(instance.main_pid(), pid, "it has been restarted");
    instance.carries("with another bus");
}

fn fetched() -> Option<PathBuf> {
    package::fetched("dbus-broker")
}
