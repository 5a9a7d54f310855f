//! What `journalctl` tells of a mirror, and `systemctl service-log-level` changes of it.

use std::collections::BTreeSet;

use sersync::message_id;

use crate::instance::Instance;
use crate::journal_entries::{entries, wait_for_entry};
use crate::machine::Machine;
use crate::receiver;
use crate::wait::{AFTER_BACK_OFF, SOON, wait_until};

pub fn an_unreachable_remote_is_a_warning_and_its_return_is_told_once(machine: &Machine) {
    let instance = Instance::start(machine, "reported");
    receiver::stop(machine);
    instance.write("while it is down", "x");
    let unit = instance.unit();
    let down = format!("MESSAGE_ID={}", message_id::REMOTE_DOWN);
    let entry = wait_for_entry(machine, &["-u", &unit, "-p", "warning", &down]);
    assert!(
        entry.field("SERSYNC_REMOTE").contains("reported"),
        "{entry:?}"
    );
    assert_ne!(entry.field("SERSYNC_EXIT"), "", "{entry:?}");
    assert_ne!(entry.field("SERSYNC_EXIT"), "0", "{entry:?}");
    assert_eq!(entry.field("SERSYNC_INSTANCE"), "reported", "{entry:?}");
    assert!(entry.message().contains("refused"), "no cause: {entry:?}");

    receiver::start(machine);
    instance.in_sync(AFTER_BACK_OFF);
    let back = format!("MESSAGE_ID={}", message_id::REMOTE_BACK);
    let remote = format!("SERSYNC_REMOTE={}", entry.field("SERSYNC_REMOTE"));
    wait_for_entry(machine, &["-u", &unit, &remote, &back]);
    instance.carries("and goes on");
    assert_eq!(entries(machine, &["-u", &unit, &remote, &back]).len(), 1);
}

pub fn a_path_that_fails_is_told_with_its_name_and_rsyncs_words(machine: &Machine) {
    let instance = Instance::start(machine, "told");
    instance.write("locked", "before\n");
    instance.in_sync(SOON);
    let locked = format!("{}/locked", instance.replica_path());
    machine.ok(["chattr", "+i", &locked]);
    instance.write("locked", "it cannot be replaced\n");
    let id = format!("MESSAGE_ID={}", message_id::PATH_FAILED);
    let entry = wait_for_entry(machine, &["-u", &instance.unit(), "-p", "warning", &id]);
    assert!(entry.field("SERSYNC_PATH").contains("locked"), "{entry:?}");
    assert!(entry.field("SERSYNC_REMOTE").contains("told"), "{entry:?}");
    let source = instance.source_path();
    assert_eq!(entry.field("SERSYNC_MIRROR"), source, "{entry:?}");
    assert_eq!(entry.field("SERSYNC_EXIT"), "23", "{entry:?}");
    let words = entry.message();
    assert!(words.contains("Operation not permitted"), "{words}");
    machine.ok(["chattr", "-i", &locked]);
    instance.call("RetryFailed", &[]).succeeded();
    instance.in_sync(SOON);
    let id = format!("MESSAGE_ID={}", message_id::PATH_RECOVERED);
    let matches = ["-u", &instance.unit(), "-p", "info", &id];
    let entry = wait_for_entry(machine, &matches);
    assert!(entry.field("SERSYNC_PATH").contains("locked"), "{entry:?}");
    assert!(entry.field("SERSYNC_REMOTE").contains("told"), "{entry:?}");
    instance.carries("locked");
    assert_eq!(entries(machine, &matches).len(), 1);
}

pub fn the_journal_explains_what_happened(machine: &Machine) {
    let listed = machine.ok(["journalctl", "--list-catalog"]);
    let known: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for (name, id) in message_id::ALL {
        assert!(
            known.contains(id),
            "{name}, {id}, is not in the installed catalog"
        );
    }
}

pub fn the_log_level_can_be_changed_while_it_runs(machine: &Machine) {
    let instance = Instance::start(machine, "talkative");
    let level = || {
        let level = machine.ok(["systemctl", "service-log-level", &instance.unit()]);
        level.trim_end().to_owned()
    };
    assert_eq!(level(), "info");
    let unit = instance.unit();
    let details = || entries(machine, &["-u", &unit, "-p", "debug..debug"]);
    assert_eq!(details().len(), 0);
    machine.ok(["systemctl", "service-log-level", &unit, "debug"]);
    assert_eq!(level(), "debug");
    instance.carries("a detail");
    wait_until(SOON, "details are logged", || !details().is_empty());
    machine.ok(["systemctl", "service-log-level", &unit, "info"]);
    assert_eq!(level(), "info");
}
