//! What can be wrong with a remote or a configuration: it is said plainly, nothing ends, and all is well once it is
//! mended.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::confined::command;
use crate::harness::{AFTER_BACK_OFF, MODULE, Mirror, SOON, grow, wait_until};
use crate::rsync_daemon::{Module, write_private};
use crate::sersync::{Sersync, has_words};

/// A mirror to a module that wants a password, which the password file holds or not.
fn with_password(password: &str) -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare_with(|module| module.secret("user", "the right one"))?;
    let file = mirror.at("password");
    write_private(&file, password)?;
    mirror.config.auth = Some(("user".to_owned(), file));
    Ok(mirror)
}

/// Expects a problem in words that name the remote, and sersync alive; then mends it and expects both trees equal.
#[track_caller]
fn said_and_mended(
    mut mirror: Mirror,
    words: &[&str],
    mend: impl FnOnce(&mut Mirror) -> io::Result<()>,
) -> io::Result<()> {
    fs::write(mirror.source("file"), "content")?;
    mirror.run()?;
    mirror.sersync().wait_for_problem(words);
    fs::write(
        mirror.source("meanwhile"),
        "changed while nothing could be sent",
    )?;
    assert!(mirror.sersync().is_running(), "sersync has ended");
    mend(&mut mirror)?;
    let took = mirror.in_sync_within(AFTER_BACK_OFF);
    println!("equal {took:?} after it was mended");
    mirror.finish()
}

#[test]
fn a_password_that_is_asked_for_and_not_given_is_said_and_nobody_is_asked() -> io::Result<()> {
    let mut mirror = Mirror::prepare_with(|module| module.secret("user", "secret"))?;
    mirror.run()?;
    let said = mirror.sersync().wait_for_problem(&[MODULE, "auth failed"]);
    assert!(!said.contains("Password:"), "{said}");
    mirror.stop();
    Ok(())
}

#[test]
fn a_wrong_password_is_said_and_tried_again() -> io::Result<()> {
    said_and_mended(
        with_password("the wrong one\n")?,
        &[MODULE, "password|auth"],
        |mirror| {
            let module = Module::new(MODULE, &mirror.replica("")).secret("user", "the wrong one");
            mirror.daemon.set_modules(&[module])
        },
    )
}

#[test]
fn a_password_file_that_others_can_read_is_said_and_tried_again() -> io::Result<()> {
    let mirror = with_password("the right one\n")?;
    let file = mirror.at("password");
    fs::set_permissions(&file, Permissions::from_mode(0o644))?;
    said_and_mended(mirror, &["password"], |_| {
        fs::set_permissions(&file, Permissions::from_mode(0o600))
    })
}

#[test]
fn an_unknown_module_is_said_and_tried_again() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    mirror.daemon.set_modules(&[])?;
    said_and_mended(mirror, &[MODULE, "unknown module"], |mirror| {
        mirror
            .daemon
            .set_modules(&[Module::new(MODULE, &mirror.replica(""))])
    })
}

#[test]
fn a_module_without_its_directory_is_said_and_tried_again() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    fs::remove_dir(mirror.replica(""))?;
    said_and_mended(mirror, &[MODULE], |mirror| {
        fs::create_dir(mirror.replica(""))
    })
}

#[test]
fn a_read_only_module_is_said_and_tried_again() -> io::Result<()> {
    let mirror = Mirror::prepare_with(|module| module.line("read only = yes"))?;
    said_and_mended(mirror, &[MODULE, "read only|read-only"], |mirror| {
        mirror
            .daemon
            .set_modules(&[Module::new(MODULE, &mirror.replica(""))])
    })
}

#[test]
fn a_daemon_that_is_down_at_the_start_is_said_and_tried_again() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.daemon.stop();
    said_and_mended(
        mirror,
        &["127.0.0.1", "refused|connect|unreachable"],
        |mirror| mirror.daemon.start(),
    )
}

#[test]
fn what_changes_while_the_daemon_is_down_arrives_when_it_is_back() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source("old"), 20, 20, 100)?;
    mirror.run()?;
    mirror.in_sync();
    mirror.daemon.stop();
    grow(&mirror.source("new"), 50, 40, 100)?;
    fs::remove_dir_all(mirror.source("old"))?;
    mirror
        .sersync()
        .wait_for_problem(&["127.0.0.1", "refused|connect|unreachable"]);
    mirror.daemon.start()?;
    println!(
        "2 000 files of an outage: {:?} after its end",
        mirror.in_sync_within(AFTER_BACK_OFF)
    );
    mirror.finish()
}

#[test]
fn a_module_that_refuses_deletions_still_gets_its_files() -> io::Result<()> {
    gets_its_files(Vec::new())
}

#[test]
fn beside_a_filter_a_module_that_refuses_deletions_still_gets_its_files() -> io::Result<()> {
    gets_its_files(vec![r"(.*)\.tmp"])
}

fn gets_its_files(excludes: Vec<&'static str>) -> io::Result<()> {
    let mut mirror = Mirror::prepare_with(|module| module.line("refuse options = delete"))?;
    mirror.config.excludes = excludes;
    fs::write(mirror.source("old"), "content")?;
    mirror.run()?;
    let arrives = |mirror: &Mirror, name: &str| {
        let took = wait_until(AFTER_BACK_OFF, "a file arrives", || {
            mirror.replica(name).exists()
        });
        println!("{name} arrived after {took:?}");
    };
    arrives(&mirror, "old");
    fs::rename(mirror.source("old"), mirror.source("new"))?;
    arrives(&mirror, "new");
    mirror
        .sersync()
        .wait_for_problem(&[MODULE, "delete|refuse"]);
    mirror
        .daemon
        .set_modules(&[Module::new(MODULE, &mirror.replica(""))])?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// `sersync run` for a mirror, with a script in the place of rsync.
fn with_rsync(mirror: &Mirror, script: &str) -> io::Result<Command> {
    let program = mirror.at("bin/rsync");
    fs::create_dir(mirror.at("bin"))?;
    let written = mirror.at("bin/written");
    fs::write(&written, script)?;
    fs::set_permissions(&written, Permissions::from_mode(0o755))?;
    // By another process: a child of another test may have it open for writing, and nobody can run it then.
    let copied = Command::new("cp").arg(&written).arg(&program).status()?;
    assert!(copied.success());
    let mut command = command(mirror);
    command.env("PATH", mirror.at("bin"));
    Ok(command)
}

#[test]
fn an_rsync_that_is_too_old_is_refused_with_the_version_to_have() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let old = "#!/bin/sh\necho 'rsync  version 3.0.9  protocol version 30'\n";
    let command = with_rsync(&mirror, old)?;
    mirror.run_by(command)?;
    let status = mirror.sersync().wait(SOON);
    assert_eq!(status.code(), Some(1));
    let log = mirror.log();
    assert!(log.contains("3.0.9 is too old; install rsync 3"), "{log}");
    Ok(())
}

/// An alias of popt may make every run a dry one, and variables of rsync's own may send it elsewhere.
#[test]
fn the_environment_that_it_was_started_in_is_not_rsyncs() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.at(".popt"), "rsync alias -a --archive --dry-run\n")?;
    fs::write(mirror.source("file"), "content")?;
    let mut command = command(&mirror);
    command
        .env("HOME", mirror.at(""))
        .env("RSYNC_PROXY", "127.0.0.1:1")
        .env("RSYNC_RSH", "false")
        .env("LC_ALL", "de_DE.UTF-8");
    mirror.run_by(command)?;
    mirror.in_sync();
    fs::remove_file(mirror.source("file"))?;
    mirror.finish()
}

#[test]
fn a_configuration_with_mistakes_ends_with_78_and_names_all_of_them() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let file = mirror.at("bad.xml");
    let text = format!(
        "<head version=\"2.5\">\n  <sersync>\n    <localpath watch=\"{}\">\n      <remote ip=\"127.0.0.1\" name=\"m\"/>\n    \
         </localpath>\n    <rsync>\n      <comonParams params=\"-a\"/>\n      <timeout start=\"perhaps\" time=\"100\"/>\n    \
         </rsync>\n  </sersync>\n</head>\n",
        mirror.source("").display(),
    );
    fs::write(&file, text)?;
    let mut sersync = Sersync::run(&file, &mirror.at("state"), &mirror.log_file(), &[])?;
    let status = sersync.wait(SOON);
    assert_eq!(status.code(), Some(78), "{}", mirror.log());
    for (place, word) in [
        ("bad.xml:7:", "comonParams"),
        ("bad.xml:8:", "perhaps|start"),
    ] {
        let log = mirror.log();
        assert!(
            log.lines().any(|line| has_words(line, &[place, word])),
            "no line with {place} and {word}: {log}"
        );
    }
    let checked = Sersync::command().arg("check").arg(&file).output()?;
    assert_eq!(checked.status.code(), Some(78), "`check` sees the same");
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_is_named() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let mut sersync = Sersync::run(
        &mirror.at("absent.xml"),
        &mirror.at("state"),
        &mirror.log_file(),
        &[],
    )?;
    assert!(!sersync.wait(SOON).success());
    assert!(mirror.log().contains("absent.xml"), "{}", mirror.log());
    Ok(())
}

#[test]
fn a_good_configuration_is_found_good() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    mirror.config.write()?;
    let checked = Sersync::command()
        .arg("check")
        .arg(&mirror.config.file)
        .output()?;
    assert_eq!(
        checked.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    Ok(())
}

#[test]
fn without_an_rsync_in_the_path_it_says_so_and_ends() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    mirror.config.write()?;
    let mut command = Sersync::command();
    command
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file);
    command
        .arg("--state-dir")
        .arg(mirror.at("state"))
        .env("PATH", mirror.outside(""));
    let mut sersync = Sersync::spawn(command, &mirror.log_file())?;
    assert!(!sersync.wait(Duration::from_secs(15)).success());
    let log = mirror.log();
    assert!(
        log.lines()
            .any(|line| has_words(line, &["rsync", "install|path|found"])),
        "no clear error: {log}"
    );
    Ok(())
}
