//! The same with the dbus-daemon of Debian 11: 1.12 is the oldest that reads our policy.
//!
//! `make check` fetches its packages; nothing but the machine has them, beside its own.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::machine::Machine;
use crate::{broker, package};

/// The packages: the daemon and the library of the same version.
const PACKAGES: [&str; 2] = ["dbus", "libdbus-1-3"];
/// Where the machine has what is in them.
const ROOT: &str = "/opt/dbus-1.12";
/// Puts it in the place of the other.
const DROP_IN: &str = "/etc/systemd/system/dbus.service.d/old.conf";

/// Whether it can be had.
pub fn is_there() -> bool {
    cfg!(target_arch = "x86_64") && PACKAGES.iter().all(|name| package::fetched(name).is_some())
}

pub fn the_bus_may_be_the_dbus_daemon_1_12(machine: &Machine) {
    for name in PACKAGES {
        let there = format!("/var/tmp/old-{name}.deb");
        let package = package::fetched(name).expect("it is there");
        fs::copy(package, machine.path(&there)).expect("the machine has room for the package");
        machine.ok(["dpkg-deb", "--extract", &there, ROOT]);
    }
    // It comes without our policy, as on a machine where sersync is installed later.
    machine.script("DEBIAN_FRONTEND=noninteractive apt-get remove --yes sersync");
    machine.script(&format!(
        "mkdir -p {}",
        DROP_IN.trim_end_matches("/old.conf")
    ));
    machine.write(
        DROP_IN,
        &format!(
            "[Service]\n\
             Type=simple\n\
             Environment=LD_LIBRARY_PATH={ROOT}/lib/x86_64-linux-gnu\n\
             ExecStart=\n\
             ExecStart={ROOT}/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile \
             --systemd-activation --syslog-only\n"
        ),
    );
    machine.reboot();
    let all = catch_unwind(AssertUnwindSafe(|| {
        let pid = machine.ok(["systemctl", "show", "--property=MainPID", "--value", "dbus"]);
        let program = machine.ok(["readlink", &format!("/proc/{}/exe", pid.trim())]);
        assert_eq!(program.trim(), format!("{ROOT}/usr/bin/dbus-daemon"));
        package::reinstall(machine);
        broker::all_that_a_bus_could_change("dbus-daemon 1.12", machine);
        let said = machine.ok(["journalctl", "--boot", "--unit=dbus"]);
        assert!(!said.contains("org.sersync1.conf"), "{said}");
    }));
    machine.ok(["rm", DROP_IN]);
    machine.reboot();
    if let Err(panic) = all {
        resume_unwind(panic);
    }
}
