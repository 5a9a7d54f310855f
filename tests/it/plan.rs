//! `sersync check --plan`: what a first push would do is told, and nothing of it is done.

use std::fs;
use std::io;
use std::process::Output;
use std::time::SystemTime;

use crate::harness::{KEEP, Mirror};
use crate::sersync::Sersync;
use crate::tree::Tree;

/// Asks for the plan of a mirror that does not run.
fn plan(mirror: &Mirror, more: &[&str]) -> io::Result<Output> {
    mirror.config.write()?;
    Sersync::command()
        .args(["check", "--plan"])
        .args(more)
        .arg(&mirror.config.file)
        .output()
}

/// The lines on standard output, and the exit code.
#[track_caller]
fn told(output: &Output) -> (Vec<String>, Option<i32>) {
    let text = String::from_utf8(output.stdout.clone()).expect("names are escaped");
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (
        text.lines().map(ToOwned::to_owned).collect(),
        output.status.code(),
    )
}

/// A source with a new file, a changed one and an equal one, and a replica with two directories of its own.
fn differing() -> io::Result<Mirror> {
    let mirror = Mirror::prepare()?;
    fs::copy(mirror.source(KEEP), mirror.replica(KEEP))?;
    let time = fs::metadata(mirror.source(KEEP))?.modified()?;
    fs::File::options()
        .write(true)
        .open(mirror.replica(KEEP))?
        .set_modified(time)?;
    fs::write(mirror.source("new"), "12345")?;
    fs::write(mirror.source("changed"), "longer than it was")?;
    fs::write(mirror.replica("changed"), "short")?;
    fs::create_dir_all(mirror.replica("old/deep"))?;
    fs::write(mirror.replica("old/deep/file"), "x")?;
    fs::write(mirror.replica("extra.tmp"), "x")?;
    Ok(mirror)
}

#[test]
fn a_plan_tells_what_a_first_push_would_do_and_changes_nothing() -> io::Result<()> {
    let mirror = differing()?;
    let before = Tree::read(&mirror.replica(""))?;
    let dir_time = fs::metadata(mirror.replica(""))?.modified()?;
    let (lines, code) = told(&plan(&mirror, &[])?);
    assert_eq!(code, Some(0));
    assert!(
        lines[0].contains(": would delete 4 entries, send 2 entries (23 bytes)"),
        "{lines:?}"
    );
    let mut deleted: Vec<_> = lines[1..5].to_vec();
    deleted.sort();
    assert_eq!(
        deleted,
        [
            "delete extra.tmp",
            "delete old",
            "delete old/deep",
            "delete old/deep/file"
        ]
    );
    assert_eq!(&lines[5..], ["send changed", "send new"]);
    let after = Tree::read(&mirror.replica(""))?;
    assert_eq!(before.differences(&after)?, Vec::<String>::new());
    assert_eq!(fs::metadata(mirror.replica(""))?.modified()?, dir_time);
    Ok(())
}

#[test]
fn what_a_plan_told_is_what_the_first_push_does() -> io::Result<()> {
    let mut mirror = differing()?;
    let told_before = told(&plan(&mirror, &[])?).0;
    assert_eq!(told_before.len(), 7);
    mirror.run()?;
    mirror.in_sync();
    mirror.stop();
    let (lines, code) = told(&plan(&mirror, &[])?);
    assert_eq!(code, Some(0));
    assert!(
        lines[0].contains(": would delete 0 entries, send 0 entries (0 bytes)"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 1);
    Ok(())
}

#[test]
fn a_plan_with_a_filter_deletes_nothing_that_is_excluded() -> io::Result<()> {
    let mut mirror = differing()?;
    mirror.config.excludes = vec![r"(.*)\.tmp", "old/deep/(.*)"];
    fs::write(mirror.source("not.tmp"), "x")?;
    fs::write(mirror.replica("old/beside"), "x")?;
    let before = Tree::read(&mirror.replica(""))?;
    let (lines, code) = told(&plan(&mirror, &[])?);
    let after = Tree::read(&mirror.replica(""))?;
    assert_eq!(before.differences(&after)?, Vec::<String>::new());
    assert_eq!(code, Some(0));
    let listed: Vec<_> = lines[1..].iter().map(String::as_str).collect();
    assert_eq!(listed, ["delete old/beside", "send changed", "send new"]);
    Ok(())
}

#[test]
fn a_plan_shows_the_first_paths_or_all() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    for number in 0..50 {
        fs::write(mirror.replica(format!("extra {number}")), "x")?;
    }
    let deletes = |lines: &[String]| {
        let deletes = lines.iter().filter(|line| line.starts_with("delete "));
        deletes.count()
    };
    let (lines, _) = told(&plan(&mirror, &[])?);
    assert_eq!(deletes(&lines), 20);
    assert!(lines.contains(&"delete: 30 more; --all shows them".to_owned()));
    let (lines, _) = told(&plan(&mirror, &["--all"])?);
    assert_eq!(deletes(&lines), 50);
    Ok(())
}

#[test]
fn a_plan_in_json_keeps_every_byte_of_a_name() -> io::Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mirror = Mirror::prepare()?;
    fs::write(mirror.replica(OsStr::from_bytes(b"a\nb\xff")), "x")?;
    let (lines, code) = told(&plan(&mirror, &["--json"])?);
    assert_eq!(code, Some(0));
    let answer: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!(answer["delete"], 1);
    let bytes: Vec<_> = b"a\nb\xff".to_vec();
    assert_eq!(answer["deletes"][0]["path_bytes"], serde_json::json!(bytes));
    Ok(())
}

#[test]
fn a_plan_of_an_empty_source_says_that_nothing_would_be_done() -> io::Result<()> {
    let mirror = differing()?;
    fs::remove_dir_all(mirror.source(""))?;
    fs::create_dir(mirror.source(""))?;
    let (lines, code) = told(&plan(&mirror, &[])?);
    assert_eq!(code, Some(1));
    assert!(lines[0].contains("the source is empty"), "{lines:?}");
    Ok(())
}

#[test]
fn a_plan_of_a_remote_that_is_away_says_so() -> io::Result<()> {
    let mut mirror = differing()?;
    mirror.daemon.stop();
    let began = SystemTime::now();
    let (lines, code) = told(&plan(&mirror, &[])?);
    assert_eq!(code, Some(1));
    assert!(lines[0].contains("failed to connect"), "{lines:?}");
    assert!(began.elapsed().is_ok_and(|took| took.as_secs() < 60));
    Ok(())
}

#[test]
fn a_plan_for_a_module_that_refuses_to_delete_says_so() -> io::Result<()> {
    let mirror = Mirror::prepare_with(|module| module.line("refuse options = delete"))?;
    fs::write(mirror.replica("extra"), "x")?;
    let (lines, code) = told(&plan(&mirror, &[])?);
    assert_eq!(code, Some(0));
    assert!(lines[0].contains("would delete 0 entries"), "{lines:?}");
    assert_eq!(lines[1], "note: the receiver refuses to delete");
    Ok(())
}
