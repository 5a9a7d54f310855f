//! What the other cases stand on.

use std::fs;

use crate::machine::Machine;
use crate::receiver;

pub fn a_systemd_is_process_1_and_at_rest(machine: &Machine) {
    assert_eq!(machine.read("/proc/1/comm"), "systemd\n");
    let jobs = machine.ok(["systemctl", "list-jobs", "--no-legend"]);
    assert_eq!(jobs, "", "jobs are waiting");
    for unit in ["dbus.socket", "systemd-journald.service", "rsync.service"] {
        machine.ok(["systemctl", "is-active", unit]);
    }
}

pub fn only_the_inotify_limits_can_be_written(machine: &Machine) {
    let queue = "/proc/sys/fs/inotify/max_queued_events";
    let value = machine.read(queue);
    fs::write(machine.path(queue), &value).expect("an inotify limit can be written");
    let said = machine.run(["test", "-w", "/proc/sys/kernel/pid_max"]);
    assert_eq!(
        said.code, 1,
        "the kernel of the host must be out of reach: {said}"
    );
}

pub fn the_rsync_unit_asks_for_a_password(machine: &Machine) {
    receiver::set_module(machine, "basis", "/srv/basis", "");
    let target = format!("{}@127.0.0.1::basis/", receiver::USER);
    let file = "/etc/hostname";
    let said = machine
        .run(["rsync", "--no-motd", file, &target, "--contimeout=10"])
        .failed();
    assert!(said.says("auth failed"), "{said}");
    let password = format!("--password-file={}", receiver::PASSWORD_FILE);
    machine.ok(["rsync", &password, file, &target]);
    assert!(machine.path("/srv/basis/hostname").exists());
}
