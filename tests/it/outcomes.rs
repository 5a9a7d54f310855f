//! Every way a run can end, and what the mirror makes of it: a test for each row of the table of outcomes.
//!
//! Most ends are played by an rsync of the tests' own (`fake.rs`), since no real one can be made to end so when it is
//! wanted. Where the real one can, it does. The rows, and where each is shown, if not here by a name that says so:
//!
//! | rsync ends with | shown |
//! |---|---|
//! | 0 | everywhere |
//! | 0 with `cannot delete non-empty directory`; 24; 25 | here |
//! | 23, a path of many that cannot be read or written | here; `isolation.rs` for the receiver's side |
//! | 23, nobody knows of what; garbage; a name that imitates a message | here; `rsync/outcome.rs` line by line |
//! | 23 with `IO error encountered -- skipping file deletion` | here, by the fake and by the real one |
//! | 11 | here |
//! | 5, 10, 12, 14, 20-22, 30, 35, 124-127, 255, a signal, no rsync at all | here; `errors.rs` for a daemon that is down |
//! | 1, 2, 4, 6, wrong password, unknown module | here; `errors.rs` from the start on, with the real daemon |
//! | 2 with `invalid file mode 00` | `overrides.rs`, `safety.rs`: a daemon that refuses `--delete-missing-args` |
//! | 4, a refused deletion | `errors.rs` |
//! | no end at all | here |

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::fake::{Run, Stage, failed_paths};
use crate::harness::{AFTER_BACK_OFF, KEEP, MODULE, Mirror, SOON, grow, pause, stays, wait_until};
use crate::idle::Tmpfs;
use crate::isolation::Immutable;
use crate::rsync_daemon::Module;
use crate::sersync::{Sersync, has_words};
use crate::tree::Tree;

/// The shortest `timeout` that a slow machine keeps for a run of some files.
const TIMEOUT: u32 = 5;

/// What is said of a path that failed by itself.
const FAILED: &[&str] = &["failed on rsync://", "is tried again"];

/// The same when it fails no longer.
const RECOVERED: &[&str] = &["no longer fails on rsync://"];

/// A mirror and the stage of its rsync; sersync does not run yet.
fn staged() -> io::Result<(Mirror, Stage)> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.timeout = TIMEOUT;
    let stage = Stage::set_up(&mirror)?;
    Ok((mirror, stage))
}

/// The same, running and equal.
fn running() -> io::Result<(Mirror, Stage)> {
    let (mut mirror, stage) = staged()?;
    mirror.run_by(stage.command(&mirror))?;
    mirror.in_sync();
    mirror.is_known();
    // When the first push is over for sersync, too, there is a child that waits for more.
    wait_until(SOON, "it is at rest", || {
        stage.runs().iter().all(|run| run.ended.is_some())
            && !mirror.sersync().rsync_children().is_empty()
    });
    Ok((mirror, stage))
}

/// How often a line with these words was logged.
fn said(mirror: &Mirror, words: &[&str]) -> usize {
    mirror
        .log()
        .lines()
        .filter(|line| has_words(line, words))
        .count()
}

/// Makes changes until a problem is said: the first may still go to a child that waits, and knows nothing of it.
fn until_said(mirror: &Mirror, words: &[&str]) {
    let mut number = 0;
    wait_until(SOON, "it is said", || {
        number += 1;
        fs::write(mirror.source("again and again"), number.to_string()).expect("written");
        said(mirror, words) > 0
    });
}

fn failed(mirror: &Mirror) -> Vec<String> {
    failed_paths(&mirror.at("state")).into_iter().collect()
}

/// rsync's line for a file that it may not read.
fn unreadable(mirror: &Mirror, path: &str) -> String {
    let path = mirror.source(path);
    format!(
        "rsync: [sender] send_files failed to open \"{}\": Permission denied (13)",
        path.display()
    )
}

// --- 0, 24, 25: something of the list was not done.

#[test]
fn a_directory_that_was_not_removed_though_the_exit_is_0_is_removed_later() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    grow(&mirror.source("d"), 1, 2, 100)?;
    mirror.in_sync();
    let line = "cannot delete non-empty directory: d";
    stage.lay_times(1, "full", json!({ "on": "delete", "stderr": line }))?;
    fs::remove_dir_all(mirror.source("d"))?;
    mirror.sersync().wait_for_problem(&["d", "non-empty"]);
    assert_eq!(stage.played("full").len(), 1);
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn what_vanished_under_a_run_is_looked_at_again_and_is_no_failure() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    let line = format!(
        "file has vanished: \"{}\"",
        mirror.source("there again").display()
    );
    let scene = json!({ "on": "send", "about": "there again", "without": true, "stderr": line, "exit": 24 });
    stage.lay_times(1, "vanished", scene)?;
    for name in ["before", "there again", "zzz"] {
        fs::write(mirror.source(name), "content")?;
    }
    mirror.in_sync();
    assert_eq!(stage.played("vanished").len(), 1);
    assert_eq!(said(&mirror, FAILED), 0);
    mirror.finish()
}

#[test]
fn deletions_that_a_limit_has_stopped_are_carried_out_later() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    grow(&mirror.source(""), 1, 5, 100)?;
    mirror.in_sync();
    let line = "Deletions stopped due to --max-delete limit (5 skipped)";
    stage.lay_times(
        1,
        "limit",
        json!({ "on": "delete", "stderr": line, "exit": 25 }),
    )?;
    fs::remove_dir_all(mirror.source("d00000"))?;
    wait_until(SOON, "the limit is met", || {
        !stage.played("limit").is_empty()
    });
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// More was there to go than the rehearsal had seen.
#[test]
fn deletions_that_max_delete_has_stopped_are_rehearsed_again_as_far_as_there_is_room()
-> io::Result<()> {
    stopped_by_max_delete(100, |mirror| {
        mirror.in_sync();
        assert!(!mirror.log().contains("held"));
    })
}

#[test]
fn deletions_that_max_delete_has_stopped_are_held_where_there_is_none() -> io::Result<()> {
    stopped_by_max_delete(6, |mirror| {
        mirror.sersync().wait_for_problem(&["held", "maxDelete"]);
        assert!(mirror.replica("d00000").exists());
        // What is held is asked for again by itself, and is no more than the limit.
        mirror.in_sync_within(AFTER_BACK_OFF);
    })
}

fn stopped_by_max_delete(limit: u64, ends: impl FnOnce(&mut Mirror)) -> io::Result<()> {
    let (mut mirror, stage) = staged()?;
    mirror.config.rsync = format!("<maxDelete start=\"true\" count=\"{limit}\"/>");
    grow(&mirror.source(""), 1, 5, 100)?;
    mirror.run_by(stage.command(&mirror))?;
    mirror.in_sync();
    mirror.is_known();
    let line = "Deletions stopped due to --max-delete limit (5 skipped)";
    let scene = json!({ "on": "delete", "stderr": line, "exit": 25 });
    stage.lay_times(1, "limit", scene)?;
    fs::remove_dir_all(mirror.source("d00000"))?;
    ends(&mut mirror);
    mirror.finish()
}

// --- 23: one of many.

/// All but one arrive, the one is kept as failed under its name, and arrives when it can be read again.
fn one_unreadable_among_5000(before_the_start: bool) -> io::Result<()> {
    let (mut mirror, stage) = staged()?;
    let path = if before_the_start {
        "d00031/f0042"
    } else {
        "storm/d00031/f0042"
    };
    let scene = json!({ "about": path, "on": "send|tree", "without": true, "stderr": unreadable(&mirror, path), "exit": 23 });
    if before_the_start {
        stage.lay("unreadable", scene.clone())?;
        grow(&mirror.source(""), 50, 100, 20)?;
    }
    mirror.run_by(stage.command(&mirror))?;
    if !before_the_start {
        mirror.in_sync();
        wait_until(SOON, "the first push is over", || {
            stage.runs().iter().all(|run| run.ended.is_some())
        });
        stage.lay("unreadable", scene)?;
        // It is there before the others are: what is sent of its directory before would fail for a file that is missing.
        let first = mirror.outside("storm/d00031");
        fs::create_dir_all(&first)?;
        fs::write(first.join("f0042"), "before the others")?;
        fs::rename(mirror.outside("storm"), mirror.source("storm"))?;
        grow(&mirror.source("storm"), 50, 100, 20)?;
    }
    let all = Tree::read(&mirror.source(""))?.len();
    let replica = mirror.replica("");
    wait_until(Duration::from_secs(60), "all but one arrive", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() == all - 1)
    });
    assert!(!mirror.replica(path).exists());
    wait_until(SOON, "it is kept as failed", || failed(&mirror) == [path]);
    mirror
        .sersync()
        .wait_for_problem(&[path, "permission denied"]);
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "later ones arrive", || {
        mirror.replica("later").exists()
    });
    assert_eq!(failed(&mirror), [path]);
    assert_eq!(said(&mirror, FAILED), 1, "one path, said once");
    stage.clear("unreadable")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "it is not kept as failed", || {
        failed(&mirror).is_empty()
    });
    mirror.finish()
}

#[test]
fn one_unreadable_file_among_5000_is_the_only_one_that_fails_in_a_storm() -> io::Result<()> {
    one_unreadable_among_5000(false)
}

#[test]
fn one_unreadable_file_among_5000_is_the_only_one_that_fails_in_a_first_push() -> io::Result<()> {
    one_unreadable_among_5000(true)
}

/// A mirror that runs as somebody who may not read everything; `None` where nobody can become that.
fn as_nobody(mirror: &mut Mirror) -> io::Result<bool> {
    const NOBODY: u32 = 65534;
    let program = mirror.at("sersync");
    let built = env!("CARGO_BIN_EXE_sersync");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // The directory of the build may be in one that is root's alone.
        // By another process: while a file is open for writing, and be it in a child of another test, it cannot be run.
        let copied = Command::new("cp").arg(built).arg(&program).status()?;
        assert!(copied.success());
        fs::set_permissions(mirror.at(""), Permissions::from_mode(0o755))?;
        chown(mirror.at("state"), Some(NOBODY), Some(NOBODY))?;
    }
    let mut command = Sersync::command_called(if is_root {
        program.as_path()
    } else {
        Path::new(built)
    });
    command
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file);
    command.arg("--state-dir").arg(mirror.at("state"));
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    mirror.run_by(command)?;
    Ok(is_root)
}

#[test]
fn a_real_file_among_5000_that_may_not_be_read_is_the_only_one_that_fails() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 50, 100, 20)?;
    let path = "d00031/f0042";
    fs::set_permissions(mirror.source(path), Permissions::from_mode(0o0))?;
    as_nobody(&mut mirror)?;
    let all = Tree::read(&mirror.source(""));
    let replica = mirror.replica("");
    wait_until(Duration::from_secs(60), "all but one arrive", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() == 5051 - 1)
    });
    drop(all);
    wait_until(SOON, "it is kept as failed", || failed(&mirror) == [path]);
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "later ones arrive", || {
        mirror.replica("later").exists()
    });
    fs::set_permissions(mirror.source(path), Permissions::from_mode(0o644))?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "it is not kept as failed", || {
        failed(&mirror).is_empty()
    });
    mirror.finish()
}

// --- 23 with `IO error encountered -- skipping file deletion`

/// A daemon's rsync says it so that it is printed among the statistics.
#[test]
fn deletions_that_were_skipped_for_an_error_are_carried_out_later() -> io::Result<()> {
    deletions_skipped_as_said_on("stdout")
}

#[test]
fn deletions_that_were_skipped_are_carried_out_later_wherever_that_was_said() -> io::Result<()> {
    deletions_skipped_as_said_on("stderr")
}

fn deletions_skipped_as_said_on(stream: &str) -> io::Result<()> {
    let (mut mirror, stage) = staged()?;
    grow(&mirror.source("d"), 2, 2, 100)?;
    fs::write(mirror.replica("extra"), "only there")?;
    let opendir = format!(
        "rsync: [sender] opendir \"{}\" failed: Permission denied (13)",
        mirror.source("d/d00001").display()
    );
    let skipping = "IO error encountered -- skipping file deletion";
    let mut scene = json!({ "on": "tree", "stderr": opendir, "exit": 23 });
    match stream {
        "stderr" => scene["stderr"] = format!("{opendir}\n{skipping}").into(),
        _ => scene[stream] = skipping.into(),
    }
    stage.lay_times(1, "skipped", scene)?;
    mirror.run_by(stage.command(&mirror))?;
    wait_until(SOON, "it is said", || !stage.played("skipped").is_empty());
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_real_directory_that_may_not_be_read_puts_deletions_off_and_loses_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 3, 3, 100)?;
    let locked = mirror.source("d00001");
    fs::create_dir(mirror.replica("d00001"))?;
    fs::write(mirror.replica("d00001/f0001"), "from an earlier day")?;
    fs::write(mirror.replica("extra"), "only there")?;
    fs::set_permissions(&locked, Permissions::from_mode(0o0))?;
    as_nobody(&mut mirror)?;
    wait_until(SOON, "what can be read arrives", || {
        mirror.replica("d00002/f0002").exists()
    });
    mirror.sersync().wait_for_problem(&["d00001"]);
    stays(Duration::from_secs(3), "what may be in it is kept", || {
        mirror.replica("d00001/f0001").exists()
    });
    wait_until(SOON, "what is gone elsewhere is deleted", || {
        !mirror.replica("extra").exists()
    });
    fs::set_permissions(&locked, Permissions::from_mode(0o755))?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn where_errors_may_not_be_ignored_a_first_push_sends_what_can_be_read() -> io::Result<()> {
    let mut mirror = Mirror::prepare_with(|module| module.line("refuse options = ignore-errors"))?;
    grow(&mirror.source(""), 3, 3, 100)?;
    let locked = mirror.source("d00001");
    fs::write(mirror.replica("extra"), "only there")?;
    fs::set_permissions(&locked, Permissions::from_mode(0o0))?;
    as_nobody(&mut mirror)?;
    wait_until(SOON, "what can be read arrives", || {
        mirror.replica("d00002/f0002").exists()
    });
    assert!(mirror.replica("extra").exists(), "it refuses to delete so");
    fs::set_permissions(&locked, Permissions::from_mode(0o755))?;
    wait_until(AFTER_BACK_OFF, "the rest arrives", || {
        mirror.replica("d00001/f0002").exists()
    });
    mirror.stop();
    Ok(())
}

#[test]
fn a_source_that_may_not_be_read_is_held_and_goes_on_when_it_may() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 3, 3, 100)?;
    as_nobody(&mut mirror)?;
    mirror.in_sync();
    mirror.is_known();
    let source = mirror.source("");
    fs::set_permissions(&source, Permissions::from_mode(0o0))?;
    fs::write(mirror.source("d00001/f0001"), "changed")?;
    if rustix::process::geteuid().is_root() {
        mirror.sersync().wait_for_problem(&["held", "missing"]);
    }
    stays(Duration::from_secs(3), "nothing is deleted", || {
        mirror.replica("d00002/f0002").exists()
    });
    fs::set_permissions(&source, Permissions::from_mode(0o755))?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// Makes directories below a directory until the path of a file in them is longer than any rsync takes.
pub fn too_deep(top: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let name = "d".repeat(250);
    let mode = Mode::from_raw_mode(0o755);
    fs::create_dir(top)?;
    let mut at = openat(CWD, top, OFlags::PATH, Mode::empty())?;
    for _ in 0..20 {
        mkdirat(&at, &*name, mode)?;
        at = openat(&at, &*name, OFlags::PATH, Mode::empty())?;
    }
    openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, mode)?;
    Ok(())
}

/// A tree that is too deep for the tests' own means is taken away by the shell's.
pub fn remove_deep(top: &Path) {
    let status = Command::new("rm").arg("-rf").arg(top).status();
    assert!(status.is_ok_and(|status| status.success()), "not removed");
}

#[test]
fn a_path_that_is_too_long_is_parked_and_holds_nothing_else_back() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 3, 3, 100)?;
    too_deep(&mirror.source("deep"))?;
    fs::write(mirror.replica("extra"), "only there")?;
    mirror.run()?;
    wait_until(SOON, "the others arrive", || {
        mirror.replica("d00002/f0002").exists()
    });
    wait_until(AFTER_BACK_OFF, "what is only there goes", || {
        !mirror.replica("extra").exists()
    });
    wait_until(SOON, "it is kept as failed", || !failed(&mirror).is_empty());
    let parked = failed(&mirror);
    assert!(
        parked.iter().all(|path| path.starts_with("deep")),
        "{parked:?}"
    );
    fs::remove_dir_all(mirror.source("d00001"))?;
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "later changes arrive", || {
        mirror.replica("later").exists() && !mirror.replica("d00001").exists()
    });
    remove_deep(&mirror.source("deep"));
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "nothing is kept as failed", || {
        failed(&mirror).is_empty()
    });
    mirror.finish()
}

// --- 23, and it is not clear of what.

#[test]
fn names_that_imitate_messages_put_no_blame_on_others() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    fs::create_dir(mirror.source("locked"))?;
    mirror.in_sync();
    let Some(locked) = Immutable::make(mirror.replica("locked")) else {
        return Ok(());
    };
    let names = [
        "locked/x\" -> \"victim",
        "locked/x\" (in replica) failed: Permission denied (13)",
        "locked/send_files failed to open \"victim\": Permission denied (13)",
        "locked/file has vanished: \"victim\"",
        "locked/victim failed verification -- update discarded.",
        "locked/cannot delete non-empty directory: victim",
        "locked/rsync error: some files vanished (code 24) at main.c(1) [sender=3.5.0]",
    ];
    for name in names.into_iter().chain(["victim", "zzz"]) {
        fs::write(mirror.source(name), "content")?;
    }
    wait_until(SOON, "the others arrive", || {
        mirror.replica("victim").exists() && mirror.replica("zzz").exists()
    });
    wait_until(SOON, "each is kept as failed", || {
        let failed = failed(&mirror);
        names
            .iter()
            .all(|name| failed.iter().any(|path| path == name))
    });
    wait_until(AFTER_BACK_OFF, "no other is", || {
        failed(&mirror).len() == names.len()
    });
    drop(locked);
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_run_that_says_garbage_is_not_believed() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    // More than is kept; less, which is read line by line; and an end that says that all went well.
    for (number, scene) in [
        json!({ "on": "send|tree", "garbage": 2_000_000, "exit": 23 }),
        json!({ "on": "send|tree", "garbage": 20_000, "exit": 23 }),
        json!({ "on": "send|tree", "garbage": 20_000, "exit": 24 }),
        json!({ "on": "send|tree", "garbage": 20_000, "exit": 11 }),
        json!({ "on": "send|tree", "real": true, "garbage": 2_000_000, "exit": 0 }),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("garbage {number}");
        stage.lay_times(1, &name, scene)?;
        for file in 0..20 {
            fs::write(mirror.source(format!("{number} {file}")), "content")?;
        }
        wait_until(SOON, "it is played", || !stage.played(&name).is_empty());
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    mirror.finish()
}

#[test]
fn garbage_without_an_end_is_ended_and_costs_no_memory() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    let before = mirror.sersync().status_figure("RssAnon");
    stage.lay_times(1, "garbage", json!({ "on": "send", "garbage": u64::MAX }))?;
    fs::write(mirror.source("file"), "content")?;
    wait_until(SOON, "it is played", || !stage.played("garbage").is_empty());
    mirror.in_sync_within(AFTER_BACK_OFF);
    let after = mirror.sersync().status_figure("RssAnon");
    assert!(
        after < before + 4096,
        "{before} KiB before, {after} KiB after"
    );
    mirror.finish()
}

// --- 11

#[test]
fn what_fits_on_a_full_disk_arrives_and_the_rest_when_there_is_room() -> io::Result<()> {
    full_disk(false)
}

#[test]
fn what_fits_on_a_full_disk_arrives_in_a_first_push_too() -> io::Result<()> {
    full_disk(true)
}

fn full_disk(before_the_start: bool) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let Some(disk) = Tmpfs::mount_of_size(mirror.replica(""), "4m") else {
        return Ok(());
    };
    if !before_the_start {
        mirror.run()?;
        mirror.in_sync();
    }
    // In rsync's order: before it, it, and behind it, in a directory too.
    let small: Vec<String> = (0..10)
        .flat_map(|n| [format!("a {n}"), format!("z {n}"), format!("zz/{n}")])
        .collect();
    fs::create_dir(mirror.source("zz"))?;
    fs::write(mirror.source("big"), vec![7; 8 << 20])?;
    for name in &small {
        fs::write(mirror.source(name), vec![1; 20_000])?;
    }
    if before_the_start {
        mirror.run()?;
    }
    wait_until(AFTER_BACK_OFF, "what fits arrives", || {
        small.iter().all(|name| mirror.replica(name).exists())
    });
    mirror.sersync().wait_for_problem(&["no space"]);
    wait_until(SOON, "it is kept as failed", || !failed(&mirror).is_empty());
    fs::write(mirror.source("later"), "content")?;
    wait_until(SOON, "later ones arrive", || {
        mirror.replica("later").exists()
    });
    disk.resize("64m");
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "nothing is kept as failed", || {
        failed(&mirror).is_empty()
    });
    mirror.stop();
    Ok(())
}

// --- The remote is away.

/// The ends of which each means that the remote cannot be reached now.
fn away() -> Vec<(String, Value)> {
    let codes = [10, 12, 14, 20, 21, 22, 30, 35, 124, 125, 126, 127, 255];
    let codes = codes.map(|code| {
        (
            format!("exit {code}"),
            json!({ "exit": code, "stderr": "some words" }),
        )
    });
    let signals = [1, 6, 9, 11, 15];
    let signals = signals.map(|signal| (format!("signal {signal}"), json!({ "signal": signal })));
    let line = "@ERROR: max connections (1) reached -- try again later";
    let busy = ("busy".to_owned(), json!({ "exit": 5, "stderr": line }));
    codes.into_iter().chain(signals).chain([busy]).collect()
}

/// Mirrors that run at once, each with several processes.
const AT_ONCE: usize = 5;

/// Plays each end in a mirror of its own, some at once.
fn side_by_side(ends: Vec<(String, Value)>, play: impl Fn(&str, Value) -> io::Result<()> + Sync) {
    let (ends, wrong) = (Mutex::new(ends.into_iter()), Mutex::new(Vec::new()));
    let next = || ends.lock().expect("nobody panics with it").next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, scene)) = next() {
                    let cause = match catch_unwind(AssertUnwindSafe(|| play(&name, scene))) {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "see above".into(),
                    };
                    let mut wrong = wrong.lock().expect("nobody panics with it");
                    wrong.push(format!("{name}: {cause}"));
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "not as it should be: {wrong:?}");
}

#[test]
fn an_end_that_says_that_the_remote_is_away_keeps_the_batch_and_one_probe_at_a_time_is_made() {
    side_by_side(away(), |name, scene| {
        let (mut mirror, stage) = running()?;
        stage.lay("away", scene)?;
        fs::write(mirror.source("changed"), "content")?;
        fs::remove_file(mirror.source(KEEP))?;
        mirror.sersync().wait_for_problem(&[MODULE, "unreachable"]);
        fs::write(mirror.source("meanwhile"), "content")?;
        wait_until(SOON * 2, "it is tried again", || probes(&stage).len() >= 3);
        one_at_a_time(&stage);
        assert_eq!(
            said(&mirror, &["unreachable"]),
            1,
            "{name}: it is said once"
        );
        stage.clear("away")?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        wait_until(SOON, "it is back", || said(&mirror, &["is back after"]) > 0);
        assert_eq!(said(&mirror, FAILED), 0, "{name}: no path is to blame");
        mirror.finish()
    });
}

fn probes(stage: &Stage) -> Vec<Run> {
    stage
        .played("away")
        .into_iter()
        .filter(|run| run.kind == "probe")
        .collect()
}

/// From the first probe on there are no other runs, and time passes between them.
fn one_at_a_time(stage: &Stage) {
    let runs = stage.played("away");
    let first = runs
        .iter()
        .position(|run| run.kind == "probe")
        .expect("a probe");
    assert!(
        runs[first..].iter().all(|run| run.kind == "probe"),
        "{runs:?}"
    );
    for pair in runs[first..].windows(2) {
        let gap = pair[1].began - pair[0].began;
        assert!(gap >= 600, "{gap} ms between two probes");
    }
}

#[test]
fn an_rsync_that_is_gone_for_a_while_loses_nothing() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    let aside = mirror.at("rsync aside");
    fs::rename(stage.program(), &aside)?;
    fs::write(mirror.source("changed"), "content")?;
    fs::write(mirror.source(KEEP), "changed as well")?;
    let words = [MODULE, "could not be started"];
    until_said(&mirror, &words);
    fs::rename(&aside, stage.program())?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_a_file_loses_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-a --bwlimit=20m".into();
    mirror.run()?;
    mirror.in_sync();
    for (round, megabytes) in [(0, 16), (1, 48)] {
        let name = format!("big {round}");
        let content: Vec<u8> = (0..megabytes << 20)
            .map(|at: u32| (at / 977) as u8)
            .collect();
        fs::write(mirror.source(&name), content)?;
        let temporary = format!(".{name}.");
        wait_until(SOON, "it is half written", || {
            let entries = fs::read_dir(mirror.replica(""))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .map(|entry| entry.file_name())
                .any(|name| name.to_string_lossy().starts_with(&temporary))
        });
        mirror.daemon.stop();
        fs::write(mirror.source("meanwhile"), format!("in round {round}"))?;
        mirror.daemon.start()?;
        // Equal means that no temporary file is left, too.
        mirror.in_sync_within(AFTER_BACK_OFF);
    }
    mirror.finish()
}

// --- Somebody must mend something.

#[test]
fn an_end_that_somebody_must_mend_is_said_and_tried_less_and_less_often() {
    let rows = [
        (1, "rsync: --no-such-option: unknown option", ""),
        (1, "ERROR: module is read only", "read only = no"),
        (
            2,
            "protocol version mismatch -- is your shell clean?",
            "address and port",
        ),
        (3, "rsync: [sender] change_dir failed", ""),
        (
            4,
            "rsync: [Receiver] The server is configured to refuse --times",
            "refuse options",
        ),
        (5, "@ERROR: auth failed on module replica", "auth users"),
        (5, "@ERROR: Unknown module 'replica'", "rsyncd.conf"),
        (5, "@ERROR: chdir failed", "path"),
        (6, "rsync error: daemon unable to append to log-file", ""),
    ];
    let ends = rows.map(|(code, line, mend)| {
        (
            format!("{code} {line}"),
            json!({ "exit": code, "stderr": line, "mend": mend }),
        )
    });
    side_by_side(ends.into(), |name, scene| {
        let (mut mirror, stage) = running()?;
        let (line, mend) = (scene["stderr"].clone(), scene["mend"].clone());
        stage.lay("away", scene)?;
        fs::write(mirror.source("changed"), "content")?;
        let words = [
            line.as_str().unwrap_or_default(),
            mend.as_str().unwrap_or_default(),
            "does not take files",
        ];
        mirror.sersync().wait_for_problem(&words);
        wait_until(SOON * 2, "it is tried again", || probes(&stage).len() >= 3);
        one_at_a_time(&stage);
        let began: Vec<u64> = probes(&stage).iter().map(|run| run.began).collect();
        // Of 4 and 8 seconds, up to a quarter less.
        assert!(
            began[1] - began[0] >= 3_000 && began[2] - began[1] >= 6_000,
            "{name}: {began:?}"
        );
        stage.clear("away")?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        assert_eq!(said(&mirror, FAILED), 0, "{name}: no path is to blame");
        mirror.finish()
    });
}

#[test]
fn a_module_that_changes_under_a_running_mirror_is_said_and_waited_for() -> io::Result<()> {
    type Change = fn(&Mirror) -> io::Result<()>;
    let gone: Change = |mirror| mirror.daemon.set_modules(&[]);
    let read_only: Change = |mirror| {
        let module = Module::new(MODULE, &mirror.replica("")).line("read only = yes");
        mirror.daemon.set_modules(&[module])
    };
    let moved: Change = |mirror| fs::rename(mirror.replica(""), mirror.at("moved"));
    for (change, words) in [
        (gone, "unknown module"),
        (read_only, "read only"),
        (moved, "chdir failed|chroot failed"),
    ] {
        let mut mirror = Mirror::start()?;
        change(&mirror)?;
        fs::write(mirror.source("changed"), "content")?;
        fs::remove_file(mirror.source(KEEP))?;
        until_said(&mirror, &[MODULE, words]);
        if mirror.at("moved").exists() {
            fs::rename(mirror.at("moved"), mirror.replica(""))?;
        }
        mirror
            .daemon
            .set_modules(&[Module::new(MODULE, &mirror.replica(""))])?;
        mirror.in_sync_within(AFTER_BACK_OFF);
        mirror.finish()?;
    }
    Ok(())
}

// --- No end at all.

/// Whether a process is at work; one that nobody has waited for is not.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// A run of this kind hangs, and leaves a process behind that hangs, too: both are ended in time.
fn a_hung_child(kind: &str, change: impl FnOnce(&Mirror) -> io::Result<()>) -> io::Result<()> {
    let scene = json!({ "on": kind, "orphan": true, "hang": true });
    let (mut mirror, stage) = staged()?;
    grow(&mirror.source("old"), 2, 2, 100)?;
    if kind == "tree" {
        stage.lay_times(1, "hung", scene.clone())?;
    }
    mirror.run_by(stage.command(&mirror))?;
    if kind != "tree" {
        mirror.in_sync();
        stage.lay_times(1, "hung", scene)?;
    }
    change(&mirror)?;
    wait_until(SOON, "it hangs", || !stage.played("hung").is_empty());
    let hung = stage.played("hung")[0].pid;
    wait_until(SOON, "it leaves one behind", || stage.orphan().is_some());
    let orphan = stage.orphan().expect("it is left behind");
    let took = mirror.in_sync_within(Duration::from_secs(60));
    println!("{kind}: equal after {took:?}");
    assert!(!is_alive(hung), "the child is still there");
    wait_until(SOON, "what it left is ended", || !is_alive(orphan));
    mirror.finish()
}

#[test]
fn a_child_that_hangs_is_ended_in_time_with_what_it_has_started() -> io::Result<()> {
    a_hung_child("send", |mirror| fs::write(mirror.source("file"), "content"))
}

#[test]
fn a_deletion_that_hangs_is_ended_in_time() -> io::Result<()> {
    a_hung_child("delete", |mirror| fs::remove_dir_all(mirror.source("old")))
}

#[test]
fn a_comparison_that_hangs_is_ended_in_time() -> io::Result<()> {
    a_hung_child("tree", |_| Ok(()))
}

#[test]
fn a_child_that_is_stopped_for_ever_is_ended_in_time() -> io::Result<()> {
    let (mut mirror, stage) = staged()?;
    grow(&mirror.source(""), 3, 3, 100)?;
    // As by a debugger, or by somebody who forgot it.
    stage.lay_times(1, "stopped", json!({ "on": "tree", "signal": 19 }))?;
    mirror.run_by(stage.command(&mirror))?;
    wait_until(SOON, "it is stopped", || {
        !stage.played("stopped").is_empty()
    });
    mirror.in_sync_within(Duration::from_secs(60));
    mirror.finish()
}

#[test]
fn a_child_that_ends_without_taking_its_list_is_no_reason_to_stop() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    stage.lay_times(2, "deaf", json!({ "deaf": true, "exit": 12 }))?;
    // A list that no pipe holds.
    fs::create_dir(mirror.source("long"))?;
    for number in 0..2_000 {
        fs::write(
            mirror.source(format!("long/{number} {}", "n".repeat(200))),
            "content",
        )?;
    }
    wait_until(SOON, "it is played", || stage.played("deaf").len() == 2);
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

// --- A path that fails for ever.

/// A running mirror in which one path fails, and is listed.
fn one_that_fails() -> io::Result<(Mirror, Stage)> {
    let (mirror, stage) = running()?;
    let scene = json!({ "about": "bad", "on": "send|tree", "without": true, "stderr": unreadable(&mirror, "bad"), "exit": 23 });
    stage.lay("bad", scene)?;
    fs::write(mirror.source("bad"), "content")?;
    fs::write(mirror.source("good"), "content")?;
    wait_until(SOON, "it is listed", || failed(&mirror) == ["bad"]);
    wait_until(SOON, "the other arrives", || {
        mirror.replica("good").exists()
    });
    Ok((mirror, stage))
}

#[test]
fn a_path_that_fails_for_ever_is_tried_at_growing_intervals_and_dropped_when_it_is_fine()
-> io::Result<()> {
    let (mut mirror, stage) = one_that_fails()?;
    let tries = || -> Vec<u64> { stage.played("bad").iter().map(|run| run.began).collect() };
    let before = tries().len();
    wait_until(AFTER_BACK_OFF, "it is tried again", || {
        tries().len() >= before + 3
    });
    let tries = tries();
    // What changes while it is sent is tried once more at once.
    let gaps: Vec<u64> = tries[before - 1..]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .skip_while(|gap| *gap < 1_000)
        .collect();
    assert!(gaps.len() >= 2, "{tries:?}");
    let mut least = (0..).map(|try_| 2_000 << try_);
    assert!(
        gaps.iter()
            .all(|gap| least.next().is_some_and(|least| *gap >= least)),
        "{gaps:?}"
    );
    assert_eq!(failed(&mirror), ["bad"]);
    assert_eq!(
        said(&mirror, FAILED),
        1,
        "the tries after the first are no news"
    );
    assert_eq!(said(&mirror, RECOVERED), 0, "it still fails");
    stage.clear("bad")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "it is dropped", || failed(&mirror).is_empty());
    wait_until(SOON, "that is said", || said(&mirror, RECOVERED) > 0);
    fs::write(mirror.source("bad"), "other content")?;
    mirror.in_sync();
    assert_eq!(said(&mirror, RECOVERED), 1, "once");
    mirror.finish()
}

#[test]
fn a_path_that_fails_for_ever_is_dropped_when_it_is_gone() -> io::Result<()> {
    let (mut mirror, _stage) = one_that_fails()?;
    fs::remove_file(mirror.source("bad"))?;
    wait_until(SOON, "it is dropped", || failed(&mirror).is_empty());
    wait_until(SOON, "that is said", || said(&mirror, RECOVERED) > 0);
    mirror.in_sync();
    assert_eq!(said(&mirror, RECOVERED), 1, "once");
    mirror.finish()
}

#[test]
fn many_paths_that_fail_no_longer_are_told_by_some_names_and_their_number() -> io::Result<()> {
    const PATHS: usize = 60;
    let mut mirror = Mirror::prepare()?;
    fs::create_dir(mirror.source("locked"))?;
    for number in 0..PATHS {
        fs::write(mirror.source(format!("locked/{number}")), "content")?;
    }
    fs::create_dir_all(mirror.replica("locked"))?;
    let Some(locked) = Immutable::make(mirror.replica("locked")) else {
        return Ok(());
    };
    mirror.run()?;
    wait_until(SOON, "they are listed", || failed(&mirror).len() >= PATHS);
    drop(locked);
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "they are dropped", || failed(&mirror).is_empty());
    let more = || said(&mirror, &["more paths no longer fail on rsync://"]);
    wait_until(SOON, "their number is told", || more() > 0);
    let named = said(&mirror, RECOVERED);
    assert!(
        named > 0 && named <= PATHS / 2,
        "{named} of {PATHS} are named"
    );
    mirror.finish()
}

#[test]
fn a_path_that_fails_for_ever_is_still_listed_after_a_crash() -> io::Result<()> {
    let (mut mirror, stage) = one_that_fails()?;
    mirror.kill();
    mirror.run_by(stage.command(&mirror))?;
    stays(Duration::from_secs(4), "it is listed", || {
        failed(&mirror) == ["bad"]
    });
    stage.clear("bad")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    wait_until(SOON, "it is dropped", || failed(&mirror).is_empty());
    mirror.finish()
}

// --- 0, though nothing was done: what was to be sent had gone by then, and was to come again.

#[test]
fn a_name_that_was_a_file_for_a_moment_has_nothing_of_the_directory_before() -> io::Result<()> {
    let (mut mirror, stage) = running()?;
    let (name, other) = (mirror.source("name"), mirror.source("other"));
    for round in 0..8 {
        fs::create_dir(&name)?;
        fs::write(name.join("stale"), "of the directory before")?;
        fs::write(&other, "a file")?;
        mirror.in_sync();
        // The run that is to send the file finds nothing.
        let scene = format!("nothing there {round}");
        let removes = name.display().to_string();
        let gone = json!({ "on": "send", "about": "name", "removes": removes, "real": true });
        stage.lay_times(1, &scene, gone)?;
        renameat_with(CWD, &other, CWD, &name, RenameFlags::EXCHANGE)?;
        let is_over = || stage.played(&scene).iter().any(|run| run.ended.is_some());
        let asked = Instant::now();
        while !is_over() {
            assert!(asked.elapsed() < SOON, "no run is about it");
            pause(Duration::from_millis(1)); // poll
        }
        // Nor does the look after it, and the next one finds another directory.
        pause(Duration::from_millis(3 + round)); // in between
        fs::create_dir(&name)?;
        mirror.in_sync();
        fs::remove_dir(&name)?;
        fs::remove_dir_all(&other)?;
    }
    mirror.finish()
}
