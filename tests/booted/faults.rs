//! Whatever dies, stops or is missing: mirroring goes on, or resumes by itself, and ends equal.

use std::fs;
use std::time::{Duration, Instant};

use crate::instance::Instance;
use crate::journal_entries::wait_for_entry_within;
use crate::machine::Machine;
use crate::wait::{AFTER_BACK_OFF, SOON, stays, wait_until};

/// How long the journal is stopped.
const JOURNAL_IS_STOPPED: Duration = Duration::from_secs(5);
/// A script that undoes a fault when this is dropped, so that a case that fails leaves a whole machine to the next.
struct Undone<'a>(&'a Machine, &'static str);

impl Drop for Undone<'_> {
    fn drop(&mut self) {
        let said = self.0.run(["bash", "-c", self.1]);
        if said.code != 0 {
            eprintln!("not undone: {said}");
        }
    }
}

/// How often the service is killed.
const KILLS: usize = 50;

pub fn a_killed_service_is_restarted_and_misses_nothing(machine: &Machine) {
    let instance = Instance::start(machine, "killed");
    let before = instance.main_pid();
    instance.grow("before the kill", 50, 100);
    machine.ok(["kill", "-KILL", &before.to_string()]);
    instance.grow("after the kill", 50, 100);
    fs::remove_file(instance.source(crate::instance::KEEP)).expect("it is there");
    instance.wait_for_restart(before, SOON);
    instance.in_sync(SOON);
}

/// The kernel refuses to wait for two descriptors where only one is allowed, and without waiting the watcher is blind.
pub fn a_fault_of_its_own_ends_the_service_with_its_cause_in_the_journal_and_it_is_restarted(
    machine: &Machine,
) {
    let instance = Instance::start(machine, "faulty");
    let before = instance.main_pid();
    let pid = before.to_string();
    machine.ok(["prlimit", "--pid", &pid, "--nofile=1:1"]);
    instance.write("that wakes the watcher", "x");
    instance.wait_for_restart(before, SOON);
    instance.in_sync(SOON);
    instance.carries("after it");
    let unit = instance.unit();
    let fault = [
        "-u",
        &unit,
        "-p",
        "err",
        "-g",
        "a fault in sersync, please report it",
    ];
    let entry = wait_for_entry_within(SOON, machine, &fault);
    assert!(
        entry
            .message()
            .contains("the watcher cannot wait for events"),
        "{}",
        entry.message()
    );
    assert_ne!(instance.shows("NRestarts"), "0");
}

pub fn a_killed_rsync_is_made_good(machine: &Machine) {
    let instance = Instance::start(machine, "rsync_killed");
    let pid = instance.main_pid().to_string();
    for round in 0..5 {
        instance.grow(&format!("round {round}"), 100, 10_000);
        // There is always one: a run, or the standby for the next.
        wait_until(SOON, "an rsync is killed", || {
            machine.run(["pkill", "-KILL", "-P", &pid, "rsync"]).code == 0
        });
        instance.in_sync(AFTER_BACK_OFF);
    }
    assert_eq!(instance.main_pid().to_string(), pid);
    assert_eq!(instance.shows("NRestarts"), "0");
}

pub fn a_killed_bus_comes_back_with_the_name_and_mirroring_goes_on(machine: &Machine) {
    let instance = Instance::start(machine, "without_bus");
    let pid = instance.main_pid();
    let bus = Undone(
        machine,
        "systemctl --runtime unmask --quiet dbus.service
         systemctl reset-failed dbus.service dbus.socket
         systemctl restart dbus.socket
         systemctl start dbus.service",
    );
    // Held down: its socket would start it again at once.
    machine.script(
        "systemctl --runtime mask --quiet dbus.service
         systemctl kill --signal=KILL --kill-whom=main dbus.service",
    );
    wait_until(SOON, "there is no bus", || {
        machine.run(["busctl", "--timeout=1", "list"]).code != 0
    });
    // Without a bus systemctl talks to systemd itself, but the tests only look at the trees.
    instance.carries("without a bus");
    drop(bus);
    instance.wait_for_property_that(SOON, "State", "can be asked again", |_| true);
    assert_eq!(instance.main_pid(), pid, "it has been restarted");
    instance.carries("with the bus");
    instance.call("Pause", &[]).succeeded();
    instance.call("Resume", &[]).succeeded();
}

pub fn a_stopped_journal_does_not_stop_mirroring(machine: &Machine) {
    let instance = Instance::start(machine, "unheard");
    let pid = instance.main_pid();
    // Every change is a message now.
    machine.ok(["systemctl", "service-log-level", &instance.unit(), "debug"]);
    let journal = Undone(
        machine,
        "systemctl kill --signal=CONT systemd-journald.service",
    );
    machine.ok([
        "systemctl",
        "kill",
        "--signal=STOP",
        "systemd-journald.service",
    ]);
    let start = Instant::now();
    let mut files = 0;
    while start.elapsed() < JOURNAL_IS_STOPPED {
        instance.carries(&format!("file {files}"));
        files += 1;
    }
    drop(journal);
    println!("{files} files, one after the other, while the journal was stopped");
    assert_eq!(instance.main_pid(), pid);
    instance.carries("after it");
}

pub fn the_watchdog_restarts_a_service_that_hangs(machine: &Machine) {
    let instance = Instance::prepare(machine, "hanging");
    // As shipped but for the patience.
    instance.drop_in("[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n");
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    let before = instance.main_pid();
    machine.ok(["kill", "-STOP", &before.to_string()]);
    instance.write("while it hangs", "x");
    instance.wait_for_restart(before, Duration::from_secs(40));
    instance.in_sync(SOON);
    wait_for_entry_within(
        SOON,
        machine,
        &["-u", "init.scope", "-g", "Watchdog timeout"],
    );
}

pub fn the_watchdog_leaves_an_idle_service_alone(machine: &Machine) {
    let instance = Instance::prepare(machine, "resting");
    instance.drop_in("[Service]\nWatchdogSec=3\n");
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    let pid = instance.main_pid();
    stays(Duration::from_secs(9), "it is not restarted", || {
        instance.main_pid() == pid
    });
}

pub fn fifty_kills_do_not_leave_it_failed(machine: &Machine) {
    let instance = Instance::prepare(machine, "stubborn");
    // As shipped but for the pause, which makes it fifty kills in a minute and not in ten.
    instance.drop_in("[Service]\nRestartSec=50ms\n");
    instance.systemctl("start").succeeded();
    let mut pid = instance.main_pid();
    for kill in 0..KILLS {
        instance.write("which kill", &kill.to_string());
        machine.ok(["kill", "-KILL", &pid.to_string()]);
        pid = instance.wait_for_restart(pid, SOON);
    }
    instance.carries("after all");
    let restarts: usize = instance.shows("NRestarts").parse().expect("a number");
    assert!(restarts >= KILLS, "{restarts} restarts");
}

pub fn a_source_that_is_not_mounted_empties_no_replica(machine: &Machine) {
    let instance = Instance::prepare(machine, "mounted");
    let (disk, source) = ("/srv/mounted/disk", instance.source_path());
    machine.script(&format!(
        "mkdir {disk}; mount --bind {disk} '{source}'; echo precious > '{source}/precious'"
    ));
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    instance.systemctl("stop").succeeded();
    machine.ok(["umount", &source]);
    fs::remove_file(instance.source(crate::instance::KEEP)).expect("it is below the mount point");

    // READY in spite of it: otherwise this would wait and fail.
    instance.systemctl("start").succeeded();
    instance.wait_for_property("State", "held");
    instance.wait_for_show("StatusText", "held");
    stays(Duration::from_secs(2), "the replica is as it was", || {
        instance.replica("precious").exists()
    });
    machine.script(&format!(
        "mount --bind {disk} '{source}'; echo more > '{source}/more'"
    ));
    instance.in_sync(AFTER_BACK_OFF);
    instance.wait_for_property("State", "idle");
    instance.systemctl("stop").succeeded();
    machine.ok(["umount", &source]);
}
