//! The package: what it brings, what it does to running instances when it comes, is replaced and goes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::instance::Instance;
use crate::machine::Machine;
use crate::package;
use crate::readme;
use crate::said::Said;
use crate::wait::SOON;

pub fn the_package_is_whole_and_everything_is_in_its_place(machine: &Machine) {
    machine.ok(["dpkg", "--verify", "sersync"]);
    let brought = package::files(machine);
    for file in [
        "/usr/bin/sersync",
        "/usr/bin/sersync2",
        "/usr/lib/systemd/system/sersync@.service",
        "/usr/lib/systemd/system/sersync.target",
        "/usr/lib/systemd/catalog/sersync.catalog",
        "/usr/share/dbus-1/system.d/org.sersync1.conf",
        "/usr/share/dbus-1/interfaces/org.sersync1.Manager.xml",
        "/usr/share/polkit-1/actions/org.sersync1.policy",
        "/usr/share/bash-completion/completions/sersync",
        "/usr/share/zsh/vendor-completions/_sersync",
        "/usr/share/fish/vendor_completions.d/sersync.fish",
        "/usr/share/doc/sersync/examples/confxml.xml",
    ] {
        assert!(
            brought.contains(file),
            "{file} is not in the package: {brought:#?}"
        );
    }
    let directory = machine.ok(["stat", "-c", "%F %a %U", "/etc/sersync"]);
    assert_eq!(directory, "directory 755 root\n");
}

pub fn make_install_and_the_package_bring_the_same_and_uninstall_leaves_nothing(machine: &Machine) {
    let place = tempfile::tempdir().expect("there is room for a temporary directory");
    let make = |target: &str| {
        let mut command = Command::new("make");
        command
            .args([
                "--no-print-directory",
                "-C",
                env!("CARGO_MANIFEST_DIR"),
                target,
            ])
            .arg(format!("DESTDIR={}", place.path().display()))
            .args(["PREFIX=/usr", "UNITDIR=/usr/lib/systemd/system"])
            .arg("ZSHDIR=/usr/share/zsh/vendor-completions")
            // A jobserver of the make that runs the tests is not for this one.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        Said::of(&mut command).succeeded()
    };
    make("install");
    let mut installed = files_below(place.path());
    // Debian has a copyright file in place of the licence, its own change log beside ours, and compresses some.
    for ours in ["LICENSE", "CHANGELOG.md"] {
        assert!(installed.remove(&format!("/usr/share/doc/sersync/{ours}")));
    }
    let mut brought: BTreeSet<String> = package::files(machine)
        .into_iter()
        .map(|file| file.trim_end_matches(".gz").to_owned())
        .collect();
    for debians in ["copyright", "changelog", "changelog.Debian"] {
        assert!(brought.remove(&format!("/usr/share/doc/sersync/{debians}")));
    }
    let apart: Vec<&String> = installed.symmetric_difference(&brought).collect();
    assert_eq!(apart, [""; 0], "only one of the two brings these");
    make("uninstall");
    assert_eq!(files_below(place.path()), BTreeSet::new());
}

pub fn make_install_and_uninstall_on_a_running_system_do_as_the_package_does(machine: &Machine) {
    let target = Path::new(env!("CARGO_BIN_EXE_sersync")).ancestors().nth(2);
    let program = target.expect("it is built").join("release/sersync");
    let place = machine.path("/root/sersync");
    let parts = ["Makefile", "dist", "man", "LICENSE", "README.md"];
    fs::create_dir_all(place.join("target/release")).expect("the machine has room");
    let mut copy = Command::new("cp");
    copy.arg("-r")
        .args(parts.map(in_the_repository))
        .arg(&place);
    Said::of(&mut copy).succeeded();
    fs::copy(program, place.join("target/release/sersync")).expect("`make deb` has built it");
    let make = |target| {
        machine.ok([
            "make",
            "-C",
            "/root/sersync",
            "CARGO_TARGET_DIR=target",
            target,
        ]);
    };

    machine.script("DEBIAN_FRONTEND=noninteractive apt-get remove --yes sersync");
    let instance = Instance::prepare(machine, "made");
    let before = files_that_stay(machine);
    make("install");
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    let pid = instance.main_pid();
    make("install");
    instance.wait_for_restart(pid, SOON);
    instance.carries("after make install");
    make("uninstall");
    assert_eq!(
        instance.shows("MainPID"),
        "0",
        "its unit is gone, and it runs"
    );
    let after = files_that_stay(machine);
    let apart: Vec<&String> = before.symmetric_difference(&after).collect();
    assert_eq!(apart, [""; 0], "left behind, or taken along");

    package::reinstall(machine);
    instance.systemctl("start").succeeded();
    instance.carries("after the package was installed");
}

pub fn another_prefix_is_in_the_unit(_: &Machine) {
    let place = tempfile::tempdir().expect("there is room for a temporary directory");
    let mut command = Command::new("make");
    command
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "install",
            "PREFIX=/usr/local",
        ])
        .args(["UNITDIR=/usr/lib/systemd/system"])
        .arg(format!("DESTDIR={}", place.path().display()))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    Said::of(&mut command).succeeded();
    let unit = place.path().join("usr/lib/systemd/system/sersync@.service");
    let unit = fs::read_to_string(unit).expect("the unit is installed");
    assert!(
        unit.contains("ExecStart=/usr/local/bin/sersync run"),
        "{unit}"
    );
    assert!(!unit.contains("/usr/bin/sersync"), "{unit}");
    assert!(place.path().join("usr/local/bin/sersync").exists());
}

pub fn systemd_finds_nothing_wrong_with_the_units(machine: &Machine) {
    for unit in ["sersync@data.service", "sersync.target"] {
        let said = machine.run(["systemd-analyze", "verify", "--man=no", unit]);
        assert_eq!(
            (said.code, said.stdout.trim(), said.stderr.trim()),
            (0, "", ""),
            "{said}"
        );
    }
}

pub fn an_upgrade_restarts_what_runs_and_starts_nothing_else(machine: &Machine) {
    let running = Instance::start(machine, "upgraded");
    let stopped = Instance::prepare(machine, "upgraded_stopped");
    let before = running.main_pid();
    package::reinstall(machine);
    let after = running.wait_for_restart(before, SOON);
    assert_ne!(after, 0);
    running.carries("after the upgrade");
    assert_eq!(stopped.shows("ActiveState"), "inactive");
}

pub fn a_removal_stops_what_runs_and_keeps_the_configuration(machine: &Machine) {
    let instance = Instance::start(machine, "removed");
    machine.script("DEBIAN_FRONTEND=noninteractive apt-get remove --yes sersync");
    assert_eq!(instance.shows("MainPID"), "0");
    let left = machine.run(["pgrep", "-x", "sersync"]);
    assert_eq!(left.code, 1, "a process is left: {left}");
    assert!(machine.path(instance.file()).exists());
    assert!(
        !machine
            .path("/usr/lib/systemd/system/sersync@.service")
            .exists()
    );

    package::reinstall(machine);
    instance.systemctl("start").succeeded();
    instance.carries("after it was installed again");
}

pub fn the_readme_leads_to_a_running_mirror(machine: &Machine) {
    readme::follow(machine);
}

/// A file of the repository.
fn in_the_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Everything in the machine but directories, what is in memory, and what grows while it runs.
#[track_caller]
fn files_that_stay(machine: &Machine) -> BTreeSet<String> {
    let find = "find / -xdev -path /root/sersync -prune -o -path /var/log -prune -o -path /var/lib/sersync -prune \
                -o ! -type d -print";
    let found = machine.script(find);
    found.lines().map(ToOwned::to_owned).collect()
}

/// The files below a directory, as paths from there.
fn files_below(root: &Path) -> BTreeSet<String> {
    let found = Said::of(
        Command::new("find")
            .arg(root)
            .args(["!", "-type", "d", "-printf", "/%P\n"]),
    );
    found.succeeded().lines().map(ToOwned::to_owned).collect()
}
