//! The RPM package, installed by rpm on this Debian: its files and its scripts. What they depend on is not in rpm's
//! database here, so it is not asked for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::instance::Instance;
use crate::machine::Machine;
use crate::package;
use crate::wait::SOON;

/// Where the machine has it.
const PACKAGE: &str = "/var/tmp/sersync.rpm";

/// Whether `make rpm` has been run since the program was built, and there is an rpm to install it with.
pub fn is_there() -> bool {
    Path::new("/usr/bin/rpm").exists() && find().is_some()
}

pub fn the_rpm_package_is_installed_upgraded_and_removed(machine: &Machine) {
    let package = find().expect("it is there");
    fs::copy(package, machine.path(PACKAGE)).expect("the machine has room for the package");
    machine.script("DEBIAN_FRONTEND=noninteractive apt-get remove --yes sersync");
    let before = files(machine);
    // An instance brings its file and, enabled, its links: they are taken away before the last look.
    let rpm = |action: &str| machine.script(&format!("rpm --nodeps {action} 2>&1"));

    rpm(&format!("--install {PACKAGE}"));
    rpm("--verify sersync");
    assert_eq!(
        machine.ok(["readlink", "/usr/bin/sersync2"]).trim(),
        "sersync"
    );
    assert_eq!(
        machine
            .ok(["systemctl", "is-enabled", "sersync.target"])
            .trim(),
        "enabled"
    );
    let instance = Instance::start(machine, "from_rpm");
    let explained = "bc245bb3dfa4476a931bddc2d03cc3be";
    machine.ok(["journalctl", "--list-catalog", explained]);
    instance.call("Pause", &[]).succeeded();
    instance.call("Resume", &[]).succeeded();

    let stopped = Instance::prepare(machine, "from_rpm_stopped");
    let pid = instance.main_pid();
    rpm(&format!("--upgrade --force {PACKAGE}"));
    instance.wait_for_restart(pid, SOON);
    instance.carries("after the upgrade");
    assert_eq!(stopped.shows("ActiveState"), "inactive");
    assert_eq!(
        machine.ok(["readlink", "/usr/bin/sersync2"]).trim(),
        "sersync",
        "an upgrade removes the old package after the new one is there"
    );

    rpm("--erase sersync");
    assert_eq!(instance.shows("MainPID"), "0");
    assert!(machine.path(instance.file()).exists());
    drop((instance, stopped));
    machine.script("rm --force /etc/systemd/system/multi-user.target.wants/sersync.target");
    let after = files(machine);
    let apart: Vec<&str> = after
        .lines()
        .filter(|file| !before.lines().any(|other| other == *file))
        .collect();
    assert_eq!(apart, [""; 0], "left behind");
    package::reinstall(machine);
}

/// Everything called sersync where packages put files.
#[track_caller]
fn files(machine: &Machine) -> String {
    machine.script("find /usr /etc -xdev -name '*sersync*' | sort")
}

fn find() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_sersync"))
        .ancestors()
        .nth(2)?;
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let program = changed(&target.join("release/sersync"));
    fs::read_dir(target.join("generate-rpm"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.extension().is_some_and(|extension| extension == "rpm") && changed(path) >= program
        })
}
