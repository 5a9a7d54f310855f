//! sersync as an administrator meets it: its package, installed on a booted systemd, with a receiver that is a real
//! `rsync.service`, and nothing but `systemctl`, `busctl`, `journalctl` and files to look at it.
//!
//! One machine is booted for all cases (`machine.rs` says how), and it is gone at the end. `make check` as root runs
//! them; by hand:
//!
//! ```text
//! make deb && SERSYNC_BOOTED=1 cargo test --test booted            # all
//! SERSYNC_BOOTED=1 cargo test --test booted -- bus::               # those with `bus::` in their names
//! make deb rpm && SERSYNC_BOOTED=1 cargo test --test booted -- rpm::
//! ```
//!
//! Without `SERSYNC_BOOTED=1` a plain `cargo test` leaves them out and says so: they want root, Debian's packages and
//! the built package, and they change the kernel's inotify limits while they run. With it, what is missing is an
//! error. `SERSYNC_DEB` names the package; otherwise it is the newest below the target directory.
//!
//! The harness is not libtest's, which has no end at which a machine could be powered off. The cases run one after
//! the other, each with an instance of its own; some take away the bus or the journal from all of them.

mod busctl;
mod host;
mod instance;
mod journal_entries;
mod machine;
mod package;
mod readme;
mod receiver;
mod said;
#[path = "../it/tree.rs"]
#[expect(
    dead_code,
    reason = "shared with the whole-process tests, which ask for more"
)]
mod tree;
mod wait;

mod basis;
mod broker;
mod bus;
mod dropins;
mod faults;
mod install;
mod journal;
mod lifecycle;
mod limits;
mod old_bus;
mod oldface;
mod rpm;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::machine::Machine;

/// A test: it panics or all is well.
type Case = fn(&Machine);

/// Names the functions of a module as cases.
macro_rules! cases {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        [$($((concat!(stringify!($module), "::", stringify!($case)), $module::$case as Case)),+),+]
    };
}

fn cases() -> Vec<(&'static str, Case)> {
    Vec::from(cases! {
        basis:
            a_systemd_is_process_1_and_at_rest,
            only_the_inotify_limits_can_be_written,
            the_rsync_unit_asks_for_a_password;
        install:
            the_package_is_whole_and_everything_is_in_its_place,
            make_install_and_the_package_bring_the_same_and_uninstall_leaves_nothing,
            make_install_and_uninstall_on_a_running_system_do_as_the_package_does,
            another_prefix_is_in_the_unit,
            systemd_finds_nothing_wrong_with_the_units,
            an_upgrade_restarts_what_runs_and_starts_nothing_else,
            the_readme_leads_to_a_running_mirror;
        lifecycle:
            a_started_instance_mirrors_and_says_so,
            a_stopped_instance_has_ended_well,
            a_restarted_instance_sends_what_changed_meanwhile,
            a_good_reload_takes_the_new_configuration_without_a_restart,
            a_bad_reload_fails_with_the_reason_and_the_old_configuration_stays,
            a_bad_configuration_ends_with_78_and_is_not_restarted,
            the_target_starts_and_stops_what_is_enabled,
            one_of_two_instances_ends_alone,
            an_enabled_instance_is_there_after_a_reboot;
        bus:
            tree_and_introspection_show_the_manager_and_its_remotes,
            properties_count_what_is_done,
            a_paused_instance_gathers_and_a_resumed_one_sends,
            one_paused_remote_does_not_hold_the_other,
            a_resync_mends_the_replica_and_ends_in_a_signal,
            a_resync_of_a_path_outside_of_the_source_is_refused,
            verify_lists_the_drift_and_changes_nothing,
            flush_returns_when_everything_has_arrived,
            a_path_that_fails_is_listed_and_retried,
            nobody_may_read_and_not_act,
            nobody_else_can_take_the_name,
            the_umbrella_name_lists_every_instance;
        journal:
            an_unreachable_remote_is_a_warning_and_its_return_is_told_once,
            a_path_that_fails_is_told_with_its_name_and_rsyncs_words,
            the_journal_explains_what_happened,
            the_log_level_can_be_changed_while_it_runs;
        oldface:
            d_leaves_a_running_service_that_systemctl_and_busctl_know,
            a_service_of_the_old_program_is_restarted_after_a_crash_and_gone_after_a_stop,
            an_init_script_of_old_starts_restarts_and_stops_it;
        dropins:
            a_target_on_this_machine_needs_its_drop_in_and_is_written_with_it,
            a_password_may_be_a_credential,
            ssh_keeps_the_keys_of_hosts_with_its_drop_in;
        limits:
            low_limits_are_raised_at_the_start,
            higher_limits_stay,
            it_goes_on_where_the_limits_cannot_be_raised,
            an_overflow_of_the_event_queue_is_told_and_loses_nothing,
            nothing_but_its_own_directories_and_these_limits_can_be_written,
            the_sandbox_is_rated_2_3_or_better;
        faults:
            a_killed_service_is_restarted_and_misses_nothing,
            a_fault_of_its_own_ends_the_service_with_its_cause_in_the_journal_and_it_is_restarted,
            a_killed_rsync_is_made_good,
            a_killed_bus_comes_back_with_the_name_and_mirroring_goes_on,
            a_stopped_journal_does_not_stop_mirroring,
            the_watchdog_restarts_a_service_that_hangs,
            the_watchdog_leaves_an_idle_service_alone,
            fifty_kills_do_not_leave_it_failed,
            a_source_that_is_not_mounted_empties_no_replica;
        broker:
            the_bus_may_be_dbus_broker;
        old_bus:
            the_bus_may_be_the_dbus_daemon_1_12;
        rpm:
            the_rpm_package_is_installed_upgraded_and_removed;
        // The last: it takes the package away for a while.
        install:
            a_removal_stops_what_runs_and_keeps_the_configuration;
    })
}

/// The modules that lack what they need beside the machine. They are named aloud.
fn left_out() -> Vec<&'static str> {
    let needs = [
        ("broker", broker::is_there(), "dbus-broker"),
        ("old_bus", old_bus::is_there(), "dbus-daemon 1.12"),
        ("rpm", rpm::is_there(), "package of `make rpm`, or no rpm"),
    ];
    let mut left_out = Vec::new();
    for (module, is_there, what) in needs {
        if !is_there {
            eprintln!("\n*** The cases of `{module}::` are LEFT OUT: there is no {what}.\n");
            left_out.push(module);
        }
    }
    left_out
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The cases share the machine, and some of them stop what the others need.
    arguments.test_threads = Some(1);

    let asked = std::env::var_os("SERSYNC_BOOTED").is_some_and(|value| value == "1");
    if !asked || arguments.list {
        if !arguments.list {
            eprintln!(
                "\n*** The tests in a booted systemd are LEFT OUT: `make check` as root runs them, or SERSYNC_BOOTED=1.\n"
            );
        }
        let ignored = cases()
            .into_iter()
            .map(|(name, _)| Trial::test(name, || Ok(())).with_ignored_flag(true));
        return libtest_mimic::run(&arguments, ignored.collect()).exit_code();
    }
    let missing = host::what_is_missing();
    if !missing.is_empty() {
        eprintln!(
            "booted: SERSYNC_BOOTED=1, but there is no {}",
            missing.join(", no ")
        );
        return ExitCode::FAILURE;
    }
    let left_out = left_out();
    let machine = match Machine::boot() {
        Ok(machine) => Arc::new(machine),
        Err(error) => {
            eprintln!("booted: no machine: {error}");
            return ExitCode::FAILURE;
        }
    };
    receiver::prepare(&machine);
    package::install(&machine);
    let trials = cases().into_iter().map(|(name, case)| {
        let machine = Arc::clone(&machine);
        let trial = Trial::test(name, move || {
            case(&machine);
            Ok(())
        });
        let module = name.split("::").next().unwrap_or(name);
        trial.with_ignored_flag(left_out.contains(&module))
    });
    // The trials, and with them their hold of the machine, are gone when this returns: the machine ends before us.
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
