//! `backup`: what is deleted or replaced at a receiver is kept there, and nothing ever touches it again.

use std::fs;
use std::io;

use crate::confxml::Remote;
use crate::harness::{Mirror, SOON, grow, wait_until};
use crate::rsync_daemon::Module;
use crate::sersync::Sersync;

const INSIDE: &str = "<backup start=\"true\" dir=\".replaced\"/>";

/// Waits until a file below the replica holds this.
#[track_caller]
fn holds(mirror: &Mirror, path: &str, text: &str) {
    let file = mirror.replica(path);
    wait_until(SOON, &format!("{path} holds {text}"), || {
        fs::read_to_string(&file).is_ok_and(|found| found == text)
    });
}

#[track_caller]
fn is_gone(mirror: &Mirror, path: &str) {
    let file = mirror.replica(path);
    wait_until(SOON, &format!("{path} is gone"), || !file.exists());
}

/// Replaces and deletes in each form, restarts, and finds all of it kept.
fn everything_is_kept(mut mirror: Mirror) -> io::Result<()> {
    mirror.config.rsync = INSIDE.into();
    fs::write(mirror.source("replaced"), "first")?;
    fs::write(mirror.source("deleted"), "was there")?;
    grow(&mirror.source("tree"), 2, 3, 20)?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("replaced"), "and second")?;
    holds(&mirror, ".replaced/replaced", "first");
    holds(&mirror, "replaced", "and second");
    fs::remove_file(mirror.source("deleted"))?;
    is_gone(&mirror, "deleted");
    holds(&mirror, ".replaced/deleted", "was there");
    fs::remove_dir_all(mirror.source("tree"))?;
    is_gone(&mirror, "tree");
    assert!(mirror.replica(".replaced/tree/d00001/f0002").exists());
    // A push of everything deletes what only the receiver has, but nothing that is kept.
    mirror.stop();
    fs::write(mirror.replica("extra"), "of the receiver")?;
    mirror.run()?;
    is_gone(&mirror, "extra");
    holds(&mirror, ".replaced/extra", "of the receiver");
    holds(&mirror, ".replaced/replaced", "first");
    assert!(mirror.replica(".replaced/tree/d00001/f0002").exists());
    // What the source has under that name is not mirrored.
    // Each of these arrives in a run of its own, or with the next: whichever it is.
    for round in 0..5 {
        fs::create_dir(mirror.source(".replaced"))?;
        fs::write(mirror.source(".replaced/deleted"), "of the source")?;
        fs::write(mirror.source("last"), format!("{round} there"))?;
        holds(&mirror, "last", &format!("{round} there"));
        holds(&mirror, ".replaced/deleted", "was there");
        fs::remove_dir_all(mirror.source(".replaced"))?;
        fs::write(mirror.source("last"), format!("{round} gone"))?;
        holds(&mirror, "last", &format!("{round} gone"));
        holds(&mirror, ".replaced/deleted", "was there");
    }
    mirror.stop();
    // A plan does not see it.
    let plan = Sersync::command()
        .args(["check", "--plan"])
        .arg(&mirror.config.file)
        .output()?;
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("would delete 0 entries, send 0 "), "{plan}");
    Ok(())
}

#[test]
fn what_a_module_deletes_and_replaces_is_kept_in_it() -> io::Result<()> {
    everything_is_kept(Mirror::prepare()?)
}

#[test]
fn a_receiver_that_does_not_take_names_keeps_it_alike() -> io::Result<()> {
    let refuse = |module: Module| module.line("refuse options = delete-missing-args");
    everything_is_kept(Mirror::prepare_with(refuse)?)
}

#[test]
fn with_a_filter_it_is_kept_alike() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.excludes = vec![r"(.*)\.tmp"];
    everything_is_kept(mirror)
}

#[test]
fn a_local_target_keeps_it_alike() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.mirrors[0].remotes = vec![Remote::Local(mirror.at("replica"))];
    everything_is_kept(mirror)
}

/// Each comparison sends what has not changed once more.
#[test]
fn with_i_a_comparison_does_not_replace_what_is_kept() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-aI".into();
    mirror.config.rsync = INSIDE.into();
    fs::write(mirror.source("replaced"), "first")?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.outside("replaced"), "and second")?;
    fs::rename(mirror.outside("replaced"), mirror.source("replaced"))?;
    holds(&mirror, ".replaced/replaced", "first");
    mirror.stop();
    fs::write(mirror.replica("extra"), "of the receiver")?;
    mirror.run()?;
    is_gone(&mirror, "extra");
    holds(&mirror, ".replaced/replaced", "first");
    mirror.stop();
    Ok(())
}

#[test]
fn a_local_target_may_keep_it_beside_itself() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let kept = mirror.at("kept");
    mirror.config.mirrors[0].remotes = vec![Remote::Local(mirror.at("replica"))];
    mirror.config.rsync = format!("<backup start=\"true\" dir=\"{}\"/>", kept.display());
    fs::write(mirror.source("file"), "first")?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("file"), "and second")?;
    mirror.in_sync();
    fs::remove_file(mirror.source("file"))?;
    mirror.in_sync();
    wait_until(SOON, "it is kept", || {
        fs::read_to_string(kept.join("file")).is_ok_and(|found| found == "and second")
    });
    mirror.finish()
}
