//! `sersync2 -d`: a transient service.

use std::fs;
use std::time::Duration;

use crate::instance::Instance;
use crate::machine::Machine;
use crate::wait::{SOON, stays, wait_until};

/// A service that failed is started again after a second.
const AFTER_A_RESTART: Duration = Duration::from_secs(3);

/// A script as old machines have it in `/etc/init.d`. It must not be called `sersync2` itself: it would kill itself.
const INIT_SCRIPT: &str = "\
start() { sersync2 -rdo FILE; }
stop() { if command -v killall >/dev/null; then killall sersync2; else pkill -x sersync2; fi; }
case $1 in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
esac
";

/// The old program, for the configuration of an instance; the unit it has made.
fn start(instance: &Instance<'_>) -> String {
    let said = instance.machine.ok(["sersync2", "-rdo", &instance.file()]);
    let unit = format!("sersync2-{}.service", instance.name());
    assert!(said.contains(&format!("systemctl status {unit}")), "{said}");
    unit
}

fn shows(machine: &Machine, unit: &str, property: &str) -> String {
    let said = machine.ok(["systemctl", "show", "--value", "-p", property, unit]);
    said.trim_end().to_owned()
}

pub fn d_leaves_a_running_service_that_systemctl_and_busctl_know(machine: &Machine) {
    let instance = Instance::prepare(machine, "oldface");
    let unit = start(&instance);
    for (property, value) in [
        ("ActiveState", "active"),
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("Restart", "on-failure"),
        ("WatchdogUSec", "1min"),
        ("StatusErrno", "0"),
    ] {
        assert_eq!(shows(machine, &unit, property), value, "{property}");
    }
    instance.in_sync(SOON);
    instance.carries("new");
    let name = format!("org.sersync1.{}", instance.name());
    let asked = [
        "busctl",
        "get-property",
        &name,
        "/org/sersync1",
        "org.sersync1.Manager",
        "Instance",
    ];
    assert_eq!(machine.ok(asked), "s \"oldface\"\n");
    let status = machine.ok(["sersync", "status", instance.name()]);
    assert!(status.starts_with("oldface: "), "{status}");
    let again = machine.ok(["sersync2", "-rd", "-o", &instance.file()]);
    assert!(again.contains("is running already"), "{again}");
    machine.ok(["systemctl", "reload", &unit]);
    wait_until(SOON, "the journal has it", || {
        let journal = machine.ok(["journalctl", "-o", "cat", "SERSYNC_INSTANCE=oldface"]);
        journal.contains("the new configuration is in force")
    });
    machine.ok(["systemctl", "stop", &unit]);
}

pub fn a_service_of_the_old_program_is_restarted_after_a_crash_and_gone_after_a_stop(
    machine: &Machine,
) {
    let instance = Instance::prepare(machine, "oldcrash");
    let unit = start(&instance);
    let before = shows(machine, &unit, "MainPID");
    machine.ok([
        "systemctl",
        "kill",
        "--signal=KILL",
        "--kill-whom=main",
        &unit,
    ]);
    wait_until(SOON, "it is restarted", || {
        let now = shows(machine, &unit, "MainPID");
        now != "0" && now != before && shows(machine, &unit, "ActiveState") == "active"
    });
    instance.carries("after the crash");
    machine.ok(["systemctl", "stop", &unit]);
    assert_eq!(shows(machine, &unit, "LoadState"), "not-found");
    start(&instance);
    machine.ok(["systemctl", "stop", &unit]);
}

pub fn an_init_script_of_old_starts_restarts_and_stops_it(machine: &Machine) {
    let instance = Instance::prepare(machine, "oldinit");
    let unit = format!("sersync2-{}.service", instance.name());
    machine.write(
        "/root/oldinit",
        &INIT_SCRIPT.replace("FILE", &instance.file()),
    );
    let script = |verb: &str| machine.ok(["sh", "/root/oldinit", verb]);
    let said = script("start");
    assert!(said.contains("has been started"), "{said}");
    instance.in_sync(SOON);
    let before = shows(machine, &unit, "MainPID");
    let told = |name: &str| machine.ok(["cat", &format!("/proc/{before}/{name}")]);
    assert_eq!(told("comm"), "sersync2\n");
    let line = told("cmdline");
    assert!(line.contains("sersync2\0run\0"), "{line:?}");

    // What has changed in the file is in force after a restart.
    let file = machine.path(instance.file());
    let xml = fs::read_to_string(&file).expect("it was written");
    let filter = r#"<filter start="true"><exclude expression="(.*)\.log"/></filter>"#;
    let xml = xml.replace("<inotify>", &format!("{filter}\n  <inotify>"));
    fs::write(&file, xml).expect("the machine has room");
    let said = script("restart");
    assert!(said.contains("has been started"), "{said}");
    assert_ne!(shows(machine, &unit, "MainPID"), before);
    instance.write("x.log", "not sent\n");
    instance.carries_beside("new", "x.log");
    assert!(!instance.replica("x.log").exists());

    script("stop");
    wait_until(SOON, "it has stopped", || {
        shows(machine, &unit, "LoadState") == "not-found"
    });
    stays(AFTER_A_RESTART, "it does not come back", || {
        shows(machine, &unit, "ActiveState") == "inactive"
    });
}
