//! The record of what failed: what stands in it can be tried by hand, and nobody can make it a trap.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::fake::Stage;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, stays, wait_until};
use crate::names::name;
use crate::sersync::has_words;

/// A name that means something to a shell, to printf and to a terminal.
const ODD: &[u8] = b"it's \"$(touch pwned)\" `x` 100%s \\n \xff\n\x1b[31m";

/// A mirror with a record at a place, and the stage of its rsync; sersync does not run yet.
fn with_record(at: &str) -> io::Result<(Mirror, Stage, PathBuf)> {
    let mut mirror = Mirror::prepare()?;
    let record = mirror.at(at);
    mirror.config.more = format!(
        "<failLog path=\"{}\" timeToExecute=\"60\"/>\n",
        record.display()
    );
    let stage = Stage::set_up(&mirror)?;
    Ok((mirror, stage, record))
}

/// Until the first push is over: had it listed a file that fails then, its end would be as good as the file's arrival.
fn run(mirror: &mut Mirror, stage: &Stage) -> io::Result<()> {
    mirror.run_by(stage.command(mirror))?;
    mirror.in_sync();
    mirror.is_known();
    Ok(())
}

/// What rsync says when it may not do something with a name; it says the same of each.
fn refused(kind: &str) -> serde_json::Value {
    json!({ "on": kind, "stderr": "rsync: [receiver] it is not to be: Operation not permitted (1)", "exit": 23 })
}

fn read(record: &PathBuf) -> String {
    fs::read_to_string(record).unwrap_or_default()
}

/// Runs the last command of a record as a person would who copies it into a shell.
fn try_by_hand(mirror: &Mirror, record: &PathBuf, shell: &str) -> io::Result<()> {
    let text = read(record);
    let command = text
        .lines()
        .rfind(|line| !line.is_empty() && !line.starts_with('#'));
    let command = command.expect("a command");
    assert!(!command.chars().any(char::is_control), "{command:?}");
    let output = Command::new(shell)
        .args(["-c", command])
        .current_dir(mirror.outside(""))
        .output()?;
    assert!(
        output.status.success(),
        "{shell} -c {command}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(fs::read_dir(mirror.outside(""))?.count(), 0, "{command}");
    Ok(())
}

#[test]
fn what_failed_is_recorded_with_a_command_that_does_it() -> io::Result<()> {
    let (mut mirror, stage, record) = with_record("rsync_fail_log.sh")?;
    fs::write(&record, "# the script of the original\n")?;
    fs::set_permissions(&record, fs::Permissions::from_mode(0o777))?;
    run(&mut mirror, &stage)?;
    stage.lay("refused", refused("send|delete"))?;
    for (round, shell) in ["sh", "bash"].into_iter().enumerate() {
        fs::write(mirror.source(name(ODD)), format!("content {round}"))?;
        let entries = |record| read(record).matches(" failed with exit 23: ").count();
        wait_until(SOON, "it is recorded", || entries(&record) == 1 + round * 2);
        assert!(read(&record).starts_with("# the script of the original\n"));
        assert_eq!(fs::metadata(&record)?.permissions().mode() & 0o7777, 0o600);
        assert!(!mirror.replica(name(ODD)).exists());
        try_by_hand(&mirror, &record, shell)?;
        assert_eq!(
            fs::read(mirror.replica(name(ODD)))?,
            format!("content {round}").as_bytes()
        );
        stage.clear("refused")?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        wait_until(AFTER_BACK_OFF, "it is dropped", || {
            crate::fake::failed_paths(&mirror.at("state")).is_empty()
        });
        stage.lay("refused", refused("send|delete"))?;
        fs::remove_file(mirror.source(name(ODD)))?;
        wait_until(SOON, "it is recorded", || entries(&record) == 2 + round * 2);
        assert!(mirror.replica(name(ODD)).exists());
        try_by_hand(&mirror, &record, shell)?;
        assert!(!mirror.replica(name(ODD)).exists());
        stage.clear("refused")?;
        wait_until(AFTER_BACK_OFF, "it is dropped", || {
            crate::fake::failed_paths(&mirror.at("state")).is_empty()
        });
        stage.lay("refused", refused("send|delete"))?;
    }
    stage.clear("refused")?;
    mirror.finish()
}

#[test]
fn a_command_does_nothing_where_another_directory_has_taken_the_place_of_the_source()
-> io::Result<()> {
    let (mut mirror, stage, record) = with_record("record")?;
    fs::write(mirror.source("file"), "content")?;
    run(&mut mirror, &stage)?;
    stage.lay("refused", refused("delete"))?;
    fs::remove_file(mirror.source("file"))?;
    wait_until(SOON, "it is recorded", || {
        read(&record).contains(" failed with exit 23: ")
    });
    mirror.kill();
    // As a mount point whose file system is gone.
    fs::rename(mirror.source(""), mirror.at("away"))?;
    fs::create_dir(mirror.source(""))?;
    let text = read(&record);
    let command = text.lines().last().expect("a command");
    assert!(command.contains("--delete-missing-args"), "{command}");
    let output = Command::new("sh").args(["-c", command]).output()?;
    assert!(!output.status.success());
    assert!(
        mirror.replica("file").exists(),
        "it was deleted by {command}"
    );
    Ok(())
}

/// The record is elsewhere then, and one warning says so, however much fails.
fn is_elsewhere(mut mirror: Mirror, stage: &Stage, why: &str) -> io::Result<()> {
    run(&mut mirror, stage)?;
    stage.lay("refused", refused("send"))?;
    let other = mirror.at("state/confxml.fail.log");
    for number in 1..4 {
        fs::write(mirror.source(format!("file {number}")), "content")?;
        wait_until(SOON, "it is recorded", || {
            read(&other).matches(" failed with exit 23: ").count() == number
        });
    }
    let words = ["confxml.fail.log", "cannot be written", why];
    mirror.sersync().wait_for_problem(&words);
    let said = || {
        mirror
            .log()
            .lines()
            .filter(|line| has_words(line, &words))
            .count()
    };
    assert_eq!(said(), 1);
    assert_eq!(fs::metadata(&other)?.permissions().mode() & 0o7777, 0o600);
    stage.clear("refused")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_record_that_is_a_link_is_not_followed() -> io::Result<()> {
    let (mirror, stage, record) = with_record("record")?;
    let victim = mirror.at("victim");
    fs::write(&victim, "kept")?;
    symlink(&victim, &record)?;
    is_elsewhere(mirror, &stage, "symbolic link")?;
    Ok(())
}

#[test]
fn a_record_that_cannot_be_made_is_kept_with_the_state() -> io::Result<()> {
    let (mirror, stage, _) = with_record("no such directory/record")?;
    is_elsewhere(mirror, &stage, "no such file")
}

#[test]
fn a_record_that_is_a_pipe_holds_nobody_up() -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let (mirror, stage, record) = with_record("record")?;
    mknodat(CWD, &record, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    is_elsewhere(mirror, &stage, "regular file")
}

#[test]
fn a_record_nowhere_costs_one_warning_and_nothing_else() -> io::Result<()> {
    let (mut mirror, stage, record) = with_record("record")?;
    // Both places are directories.
    fs::create_dir(&record)?;
    fs::create_dir_all(mirror.at("state/confxml.fail.log"))?;
    run(&mut mirror, &stage)?;
    stage.lay("refused", refused("send"))?;
    for number in 0..3 {
        fs::write(mirror.source(format!("file {number}")), "content")?;
    }
    let words = ["recorded neither in"];
    mirror.sersync().wait_for_problem(&words);
    stays(std::time::Duration::from_secs(2), "it is said once", || {
        mirror
            .log()
            .lines()
            .filter(|line| has_words(line, &words))
            .count()
            == 1
    });
    stage.clear("refused")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn without_a_place_in_the_configuration_nothing_is_recorded() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let stage = Stage::set_up(&mirror)?;
    run(&mut mirror, &stage)?;
    stage.lay("refused", refused("send"))?;
    fs::write(mirror.source("file"), "content")?;
    mirror.sersync().wait_for_problem(&["failed on"]);
    stage.clear("refused")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    assert!(!mirror.at("state/confxml.fail.log").exists());
    mirror.finish()
}
