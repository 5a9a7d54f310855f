//! Start, stop, restart, reload, enable: what `systemctl` does with an instance.

use std::fs;

use crate::instance::{Instance, wait_equal};
use crate::machine::Machine;
use crate::receiver;
use crate::said::Said;
use crate::wait::{SOON, wait_until};

pub fn a_started_instance_mirrors_and_says_so(machine: &Machine) {
    let instance = Instance::start(machine, "started");
    assert_eq!(instance.shows("ActiveState"), "active");
    assert_eq!(instance.shows("Type"), "notify");
    instance.carries("directory/a file");
    fs::remove_file(instance.source("directory/a file")).expect("it is there");
    instance.in_sync(SOON);
    let status = instance.wait_for_show("StatusText", "0 pending");
    assert!(
        status.starts_with("mirroring") && status.contains(&instance.source_path()),
        "{status}"
    );
}

pub fn a_stopped_instance_has_ended_well(machine: &Machine) {
    let instance = Instance::start(machine, "stopped");
    instance.systemctl("stop").succeeded();
    assert_eq!(instance.shows("ActiveState"), "inactive");
    assert_eq!(instance.shows("Result"), "success");
    assert_eq!(instance.shows("ExecMainStatus"), "0");
    let left = machine.run(["pgrep", "--exact", "--list-full", "sersync"]);
    assert_eq!(left.code, 1, "a process is left: {left}");
}

pub fn a_restarted_instance_sends_what_changed_meanwhile(machine: &Machine) {
    let instance = Instance::start(machine, "restarted");
    let before = instance.main_pid();
    instance.systemctl("restart").succeeded();
    assert_ne!(instance.main_pid(), before);
    instance.carries("after the restart");
    instance.systemctl("stop").succeeded();
    instance.grow("while it was stopped", 20, 10);
    fs::remove_file(instance.source("after the restart")).expect("it is there");
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
}

pub fn a_good_reload_takes_the_new_configuration_without_a_restart(machine: &Machine) {
    let instance = Instance::start(machine, "reloaded");
    let before = instance.main_pid();
    receiver::set_module(machine, "reloaded_too", "/srv/reloaded/second", "");
    instance.configure(&["reloaded", "reloaded_too"]);
    instance.systemctl("reload").succeeded();
    assert_eq!(instance.main_pid(), before);
    let second = machine.path("/srv/reloaded/second");
    wait_equal(&instance.source(""), &second, SOON);
    instance.carries("to both");
    wait_equal(&instance.source(""), &second, SOON);
}

pub fn a_bad_reload_fails_with_the_reason_and_the_old_configuration_stays(machine: &Machine) {
    let instance = Instance::start(machine, "badly_reloaded");
    let before = instance.main_pid();
    break_configuration(&instance);
    instance.systemctl("reload").failed();
    wait_until(SOON, "the status names the line and the column", || {
        let status = status_of(machine, &instance);
        names_the_place(&status, &instance) && status.says("remot")
    });
    assert_eq!(instance.shows("ActiveState"), "active");
    assert_eq!(instance.main_pid(), before);
    instance.carries("still mirrored");
}

pub fn a_bad_configuration_ends_with_78_and_is_not_restarted(machine: &Machine) {
    let instance = Instance::prepare(machine, "misconfigured");
    break_configuration(&instance);
    instance.systemctl("start").failed();
    assert_eq!(instance.shows("ActiveState"), "failed");
    assert_eq!(instance.shows("ExecMainStatus"), "78");
    assert_eq!(instance.shows("NRestarts"), "0");
    wait_until(SOON, "the status names the line and the column", || {
        names_the_place(&status_of(machine, &instance), &instance)
    });
}

fn status_of(machine: &Machine, instance: &Instance) -> Said {
    let unit = instance.unit();
    machine.run(["systemctl", "status", "--full", "--lines=20", &unit])
}

pub fn the_target_starts_and_stops_what_is_enabled(machine: &Machine) {
    let first = Instance::prepare(machine, "enabled");
    let second = Instance::prepare(machine, "enabled_too");
    for instance in [&first, &second] {
        instance.systemctl("enable").succeeded();
    }
    let listed = machine.ok([
        "systemctl",
        "list-dependencies",
        "--plain",
        "sersync.target",
    ]);
    for instance in [&first, &second] {
        assert!(listed.contains(&instance.unit()), "{listed}");
    }
    machine.ok(["systemctl", "start", "sersync.target"]);
    for instance in [&first, &second] {
        assert_eq!(instance.shows("ActiveState"), "active");
        instance.carries("both run at once");
    }
    machine.ok(["systemctl", "stop", "sersync.target"]);
    for instance in [&first, &second] {
        // The target itself is stopped at once, and does not wait for what is a part of it.
        instance.wait_for_show("ActiveState", "inactive");
    }
}

pub fn one_of_two_instances_ends_alone(machine: &Machine) {
    let first = Instance::start(machine, "one");
    let second = Instance::start(machine, "the_other");
    first.systemctl("stop").succeeded();
    second.carries("still mirrored");
    assert_eq!(second.shows("NRestarts"), "0");
}

pub fn an_enabled_instance_is_there_after_a_reboot(machine: &Machine) {
    let instance = Instance::prepare_below("/opt", machine, "rebooted");
    instance.systemctl("enable").succeeded();
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    machine.reboot();
    receiver::start(machine);
    instance.wait_for_show("ActiveState", "active");
    instance.carries("after the reboot");
}

/// Whether `FILE:7:COLUMN:` is said, of the line on which [`break_configuration`] put an element that does not exist.
fn names_the_place(said: &Said, instance: &Instance) -> bool {
    let line = format!("{}:7:", instance.file());
    said.stdout.split(&line).skip(1).any(|rest| {
        let column = rest.split(|c: char| !c.is_ascii_digit()).next();
        column.is_some_and(|digits| !digits.is_empty() && rest[digits.len()..].starts_with(':'))
    })
}

/// Puts an element into the configuration that does not exist, on line 7.
fn break_configuration(instance: &Instance) {
    let good = instance.machine.read(&instance.file());
    instance
        .machine
        .write(&instance.file(), &good.replacen("<remote ", "<remot ", 1));
}
