//! The program under its old name, as a script of ten years ago calls it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Mirror, SOON, stays, wait_until};
use crate::sersync::Sersync;

const LATER: Duration = Duration::from_secs(2);

/// A mirror with a file, and `sersync2` called in its directory, where `confxml.xml` is.
fn called_with(arguments: &[&str]) -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.source("old"), "there before\n")?;
    mirror.run_by(command(&mirror, arguments)?)?;
    wait_until(SOON, "everything is watched", || {
        mirror.log().contains("watching")
    });
    Ok(mirror)
}

fn command(mirror: &Mirror, arguments: &[&str]) -> io::Result<Command> {
    let link = mirror.at("sersync2");
    symlink(env!("CARGO_BIN_EXE_sersync"), &link)?;
    let mut command = Sersync::command_called(link);
    command.args(arguments).current_dir(mirror.at(""));
    // Whoever looks for a bus here finds none.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    Ok(command)
}

#[test]
fn it_pushes_everything_and_follows_the_changes() -> io::Result<()> {
    let mut mirror = called_with(&["-rn", "4", "-oconfxml.xml"])?;
    mirror.in_sync();
    assert!(mirror.log().contains("at most 4 rsync processes"));
    fs::write(mirror.source("new"), "new\n")?;
    mirror.finish()
}

#[test]
fn without_r_only_what_changes_is_sent() -> io::Result<()> {
    let mut mirror = called_with(&[])?;
    assert!(mirror.log().contains("without -r nothing is pushed first"));
    fs::write(mirror.source("new"), "new\n")?;
    wait_until(SOON, "the change arrives", || {
        mirror.replica("new").exists()
    });
    stays(LATER, "nothing else does", || {
        !mirror.replica("old").exists()
    });
    mirror.stop();
    Ok(())
}

#[test]
fn with_m_the_plugin_is_told_and_nothing_is_sent() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let told = mirror.at("told");
    let program = mirror.at("notify");
    fs::write(
        &program,
        format!("#!/bin/sh\necho \"$1\" >> '{}'\n", told.display()),
    )?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let param = format!("<param prefix=\"{}\"/>", program.display());
    mirror.config.plugins = vec![("command", param)];
    let command = command(&mirror, &["-m", "command", "-o", "confxml.xml"])?;
    mirror.run_by(command)?;
    wait_until(SOON, "everything is watched", || {
        mirror.log().contains("watching")
    });
    let new = mirror.source("new");
    fs::write(&new, "new\n")?;
    wait_until(SOON, "the plugin is told", || {
        fs::read_to_string(&told).is_ok_and(|told| told.contains(&new.display().to_string()))
    });
    assert!(!mirror.replica("new").exists());
    assert_eq!(mirror.daemon.connections(), 0);
    mirror.stop();
    Ok(())
}

#[test]
fn without_systemd_d_stays_in_the_foreground_and_says_so() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can have a mount namespace");
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.source("old"), "there before\n")?;
    let old = command(&mirror, &["-rdo", "confxml.xml"])?;
    // Nothing is in this /run, whoever runs the machine.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c"]);
    command.arg(r#"mount -t tmpfs tmpfs /run && exec "$0" "$@""#);
    command.arg(old.get_program()).args(old.get_args());
    command.current_dir(mirror.at(""));
    mirror.run_by(command)?;
    mirror.in_sync();
    assert!(mirror.log().contains("-d has no systemd here"));
    mirror.finish()
}
