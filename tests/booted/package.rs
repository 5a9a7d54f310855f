//! The package under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::Machine;

/// Where the machine has it.
pub const PACKAGE: &str = "/var/tmp/sersync.deb";

/// Installs it as the README says.
#[track_caller]
pub fn install(machine: &Machine) {
    let package = find();
    println!("package: {}", package.display());
    fs::copy(&package, machine.path(PACKAGE)).expect("the machine has room for the package");
    reinstall(machine);
}

/// Installs it once more, which is an upgrade where it is installed.
#[track_caller]
pub fn reinstall(machine: &Machine) {
    // There is no network: every dependency must be there, and `host` has asked for them.
    machine.script(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install --yes --reinstall --allow-downgrades {PACKAGE}"
    ));
}

/// The package `SERSYNC_DEB` names, or the newest that was built.
#[track_caller]
fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("SERSYNC_DEB") {
        return named.into();
    }
    // target/debug/sersync
    let target = Path::new(env!("CARGO_BIN_EXE_sersync"))
        .ancestors()
        .nth(2)
        .expect("a built program is below a profile's directory");
    let newest = fs::read_dir(target.join("debian"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .max_by_key(|path| fs::metadata(path).and_then(|found| found.modified()).ok());
    newest.unwrap_or_else(|| {
        panic!(
            "no package in {}: run `make deb` first",
            target.join("debian").display()
        )
    })
}

/// A package of another program that `make check` has fetched.
pub fn fetched(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_sersync"))
        .ancestors()
        .nth(2)?;
    let tools = fs::read_dir(target.join("tools")).ok()?;
    tools.flatten().map(|entry| entry.path()).find(|path| {
        let file = path.file_name().unwrap_or_default().as_encoded_bytes();
        let version = file.strip_prefix(name.as_bytes());
        version.is_some_and(|rest| rest.starts_with(b"_") && rest.ends_with(b".deb"))
    })
}

/// The files it has brought.
#[track_caller]
pub fn files(machine: &Machine) -> BTreeSet<String> {
    machine
        .ok(["dpkg", "--listfiles", "sersync"])
        .lines()
        .filter(|path| !machine.path(path).is_dir())
        .map(ToOwned::to_owned)
        .collect()
}
