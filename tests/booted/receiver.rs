//! The receiver: Debian's own rsync.service, with a password on every module.

use std::fs;

use crate::machine::Machine;
use crate::wait::{SOON, wait_until};

/// Who may write to every module.
pub const USER: &str = "rsync_backup";
/// With this password.
const PASSWORD: &str = "correct horse battery staple";
/// Where the sender has it.
pub const PASSWORD_FILE: &str = "/etc/rsync.password";

/// Its log; not the journal, or it would wait for that where a case stops it.
pub const LOG: &str = "/var/log/rsyncd.log";

/// One file a module, so that tests come and go; the daemon reads them anew for each connection.
const MODULES: &str = "/etc/rsyncd.d";

/// Configures the daemon, without a module, and starts it.
pub fn prepare(machine: &Machine) {
    machine.write(
        "/etc/rsyncd.conf",
        &format!(
            "uid = root\ngid = root\nlog file = {LOG}\nmunge symlinks = no\nreverse lookup = no\n\
             auth users = {USER}\nsecrets file = /etc/rsync.secrets\nread only = no\n&include {MODULES}\n"
        ),
    );
    machine.write("/etc/rsync.secrets", &format!("{USER}:{PASSWORD}\n"));
    machine.write(PASSWORD_FILE, &format!("{PASSWORD}\n"));
    machine.script(&format!(
        "chmod 600 /etc/rsync.secrets {PASSWORD_FILE}; mkdir -p {MODULES}"
    ));
    start(machine);
}

/// Adds or replaces a module; `more` are lines of it.
pub fn set_module(machine: &Machine, name: &str, path: &str, more: &str) {
    let directory = machine.path(path);
    fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    // A connection may read the file meanwhile: let it find the old or the new one.
    let (new, file) = (
        format!("{MODULES}/{name}.new"),
        format!("{MODULES}/{name}.conf"),
    );
    machine.write(&new, &format!("[{name}]\npath = {path}\n{more}"));
    fs::rename(machine.path(new), machine.path(file)).expect("both are in one directory");
}

/// Starts the daemon and waits until it listens.
pub fn start(machine: &Machine) {
    machine.ok(["systemctl", "start", "rsync"]);
    wait_until(SOON, "the rsync daemon listens", || {
        fs::read_to_string(machine.path("/proc/1/net/tcp"))
            .is_ok_and(|table| table.contains(":0369 00000000:0000 0A"))
    });
}

/// Ends the daemon and its connections.
pub fn stop(machine: &Machine) {
    machine.ok(["systemctl", "stop", "rsync"]);
}
