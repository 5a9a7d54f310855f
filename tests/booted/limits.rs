//! The inotify limits, and everything else that the service may not write to.

use std::fs;

use sersync::message_id;

use crate::instance::Instance;
use crate::journal_entries::{Entry, entries, wait_for_entry};
use crate::machine::Machine;
use crate::wait::{SOON, wait_until};

/// The limits, what is too low for a service, and what it raises them to at least.
const LOWERED: [(&str, u64, u64); 3] = [
    ("max_user_watches", 10_000, 50_000_000),
    ("max_queued_events", 2_000, 327_679),
    ("max_user_instances", 100, 1_024),
];

/// Lets the service find the limits as they are.
const UNRAISED: &str = "[Service]\nReadWritePaths=\nReadOnlyPaths=/proc/sys/fs/inotify\n";

pub fn low_limits_are_raised_at_the_start(machine: &Machine) {
    let _saved = Saved::of(machine);
    for (name, low, _) in LOWERED {
        set(machine, name, low);
    }
    let instance = Instance::start(machine, "raising");
    for (name, _, at_least) in LOWERED {
        let now = limit(machine, name);
        assert!(now >= at_least, "{name} is {now}");
    }
    instance.carries("with new limits");
}

pub fn higher_limits_stay(machine: &Machine) {
    let high = [
        ("max_user_watches", 60_000_000),
        ("max_queued_events", 400_000),
        ("max_user_instances", 5_000),
    ];
    let _saved = Saved::of(machine);
    for (name, value) in high {
        set(machine, name, value);
    }
    let instance = Instance::start(machine, "content");
    for (name, value) in high {
        assert_eq!(limit(machine, name), value, "{name}");
    }
    instance.carries("with the old limits");
}

pub fn it_goes_on_where_the_limits_cannot_be_raised(machine: &Machine) {
    let _saved = Saved::of(machine);
    let instance = Instance::prepare(machine, "unprivileged");
    instance.drop_in(UNRAISED);
    for (name, low, _) in LOWERED {
        set(machine, name, low);
    }
    instance.systemctl("start").succeeded();
    instance.carries("with low limits");
    let id = format!("MESSAGE_ID={}", message_id::LIMIT_REACHED);
    let matches = ["-u", &instance.unit(), "-p", "warning", &id];
    wait_until(SOON, "each limit is told", || {
        entries(machine, &matches).len() >= LOWERED.len()
    });
    let told = entries(machine, &matches);
    for (name, low, wanted) in LOWERED {
        assert_eq!(limit(machine, name), low, "{name}");
        let told = told.iter().filter(|entry| {
            entry
                .message()
                .contains(&format!("fs.inotify.{name} is {low}, "))
        });
        let told: Vec<&str> = told.map(Entry::message).collect();
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(
            told[0].contains(&format!("{wanted} is wanted: set it with sysctl")),
            "{told:?}"
        );
    }
}

pub fn nothing_but_its_own_directories_and_these_limits_can_be_written(machine: &Machine) {
    let instance = Instance::start(machine, "confined");
    let neighbour = Instance::start(machine, "confined_too");
    let states = ["confined", "confined_too"].map(|name| format!("/var/lib/sersync/{name}"));
    for state in &states {
        assert!(machine.path(state).is_dir(), "{state} is missing");
    }
    let pid = instance.main_pid().to_string();
    let writable = |path: &str| {
        let command = [
            "nsenter", "--target", &pid, "--mount", "--", "test", "-w", path,
        ];
        machine.run(command).code == 0
    };
    for own in [
        "/proc/sys/fs/inotify/max_user_watches",
        "/var/lib/sersync/confined",
        "/run/sersync/confined",
    ] {
        assert!(writable(own), "{own} cannot be written");
    }
    for other in [
        "/",
        "/etc",
        "/etc/sersync",
        "/usr",
        "/usr/bin/sersync",
        "/boot",
        "/root",
        "/home",
        "/opt",
        "/srv",
        &instance.source_path(),
        "/tmp",
        "/var/tmp",
        "/var/lib",
        "/var/lib/sersync",
        &states[1],
        &neighbour.source_path(),
        "/var/log",
        "/run",
        "/run/systemd",
        "/proc/sys/kernel/pid_max",
        "/proc/sys/vm/swappiness",
        "/proc/sys/fs/file-max",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/shm",
    ] {
        assert!(!writable(other), "{other} can be written");
    }
}

pub fn the_sandbox_is_rated_2_3_or_better(machine: &Machine) {
    let instance = Instance::start(machine, "rated");
    let said = machine.run([
        "systemd-analyze",
        "security",
        "--no-pager",
        "--threshold=23",
        &instance.unit(),
    ]);
    println!("{}", said.stdout.lines().last().unwrap_or_default());
    said.succeeded();
}

/// The kernel keeps a bounded number of events for a process that does not read them, then drops the rest.
pub fn an_overflow_of_the_event_queue_is_told_and_loses_nothing(machine: &Machine) {
    let _saved = Saved::of(machine);
    let instance = Instance::prepare(machine, "overflowing");
    instance.drop_in(UNRAISED);
    set(machine, "max_queued_events", 100);
    instance.systemctl("start").succeeded();
    instance.grow("before", 20, 100);
    instance.in_sync(SOON);
    let pid = instance.main_pid().to_string();
    machine.ok(["kill", "-STOP", &pid]);
    // Events are of what is watched already.
    instance.grow("before", 1_000, 10);
    instance.grow("many", 20, 10);
    fs::remove_dir_all(instance.source("before")).expect("the source is writable here");
    machine.ok(["kill", "-CONT", &pid]);
    instance.in_sync(SOON);
    wait_for_entry(machine, &["-u", &instance.unit(), "-g", "dropped events"]);
    assert!(instance.property("Overflows").as_u64() >= Some(1));
    // What was made unseen is watched.
    instance.carries("many/later");
}

/// The limits of a moment. Dropped, they are in force again: they are those of the whole host, others work with them.
struct Saved<'a> {
    machine: &'a Machine,
    limits: [(&'static str, u64); 3],
}

impl<'a> Saved<'a> {
    fn of(machine: &'a Machine) -> Self {
        let limits = LOWERED.map(|(name, ..)| (name, limit(machine, name)));
        Self { machine, limits }
    }
}

impl Drop for Saved<'_> {
    fn drop(&mut self) {
        for (name, value) in self.limits {
            set(self.machine, name, value);
        }
    }
}

fn limit(machine: &Machine, name: &str) -> u64 {
    let text = machine.read(&format!("/proc/sys/fs/inotify/{name}"));
    text.trim_end().parse().expect("a limit is a number")
}

fn set(machine: &Machine, name: &str, value: u64) {
    let file = machine.path(format!("/proc/sys/fs/inotify/{name}"));
    fs::write(file, value.to_string()).expect("the limits are writable in the machine");
}
