//! `<crontab>`: full pushes by the clock, which mend what somebody changed at the receiver. The calendar form has
//! seconds, so nobody waits for minutes here.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Signal;

use crate::bus::Bus;
use crate::harness::{Mirror, SOON, stays, wait_until};
use crate::idle::Tmpfs;

/// Some pushes by [`EVERY_SECOND`].
const SOME_PUSHES: Duration = Duration::from_secs(4);
/// A full push each second.
pub const EVERY_SECOND: &str = r#"<crontab start="true" calendar="*:*:*"/>"#;
/// With files that these pushes leave alone: by name, and by a place in the source.
const FILTERED: &str = r#"<crontab start="true" calendar="*:*:*"><crontabfilter start="true">
    <exclude expression="*.php"/><exclude expression="/cache"/></crontabfilter></crontab>"#;

fn with_crontab(crontab: &str) -> io::Result<Mirror> {
    with_crontab_and_filter(crontab, &[])
}

fn with_crontab_and_filter(crontab: &str, expressions: &[&'static str]) -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.excludes = expressions.to_vec();
    crontab.clone_into(&mut mirror.config.more);
    for name in ["a", "b.php", "d/cache/a", "cache/a"] {
        let file = mirror.source(name);
        fs::create_dir_all(file.parent().expect("it is in a directory"))?;
        fs::write(file, "as it was\n")?;
    }
    fs::create_dir(mirror.source("empty"))?;
    mirror.run()?;
    mirror.in_sync();
    Ok(mirror)
}

/// Until a push has found everything equal: what differs from then on is nobody's change but the test's.
fn wait_for_rest(mirror: &Mirror) {
    wait_until(SOON, "a push has nothing to do", || {
        mirror.log().contains("nothing to send")
    });
}

/// Has the running process read the configuration with another `crontab`.
fn reload(mirror: &mut Mirror, crontab: &str) -> io::Result<()> {
    let reloads = |log: &str| log.matches("new configuration is in force").count();
    let before = reloads(&mirror.log());
    crontab.clone_into(&mut mirror.config.more);
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    wait_until(SOON, "it is read", || reloads(&mirror.log()) > before);
    Ok(())
}

#[test]
fn what_was_changed_behind_our_back_is_mended_and_said() -> io::Result<()> {
    let mut mirror = with_crontab(EVERY_SECOND)?;
    wait_for_rest(&mirror);
    fs::remove_file(mirror.replica("a"))?;
    fs::write(mirror.replica("b.php"), "changed there\n")?;
    fs::write(mirror.replica("stray"), "made there\n")?;
    mirror.in_sync();
    mirror.sersync().wait_for_problem(&["drift", "mended"]);
    mirror.finish()
}

#[test]
fn a_directory_that_somebody_removed_is_drift_too() -> io::Result<()> {
    let mut mirror = with_crontab(EVERY_SECOND)?;
    wait_for_rest(&mirror);
    fs::remove_dir(mirror.replica("empty"))?;
    mirror.in_sync();
    mirror
        .sersync()
        .wait_for_problem(&["drift", "1 entry sent"]);
    mirror.finish()
}

#[test]
fn where_one_removal_is_not_wanted_these_pushes_remove_nothing_and_still_send() -> io::Result<()> {
    for switch in ["delete", "moveFrom"] {
        let mut mirror = Mirror::prepare()?;
        mirror.config.switches = vec![(switch, false)];
        mirror.config.more = EVERY_SECOND.to_owned();
        fs::write(mirror.source("mended"), "as it was\n")?;
        mirror.run()?;
        mirror.in_sync();
        wait_for_rest(&mirror);
        let stray = mirror.replica("stray");
        fs::write(&stray, "made there\n")?;
        fs::remove_file(mirror.replica("mended"))?;
        wait_until(SOON, "a push sends what is missing", || {
            mirror.replica("mended").exists()
        });
        stays(SOME_PUSHES, "what is only there stays", || stray.exists());
        mirror.stop();
    }
    Ok(())
}

/// The patterns of these pushes come before the rules of the user, and not before those that leave the backup alone.
#[test]
fn what_the_crontabfilter_includes_does_not_reach_into_the_backup() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.rsync = "<backup start=\"true\" dir=\".replaced\"/>".into();
    mirror.config.more = r#"<crontab start="true" calendar="*:*:*"><crontabfilter start="true">
        <exclude expression="+ */"/><exclude expression="+ *.php"/><exclude expression="*"/>
        </crontabfilter></crontab>"#
        .into();
    fs::write(mirror.source("a.php"), "first\n")?;
    mirror.run()?;
    wait_until(SOON, "it arrives", || mirror.replica("a.php").exists());
    fs::write(mirror.source("a.php"), "and second\n")?;
    let kept = mirror.replica(".replaced/a.php");
    wait_until(SOON, "the first is kept", || kept.exists());
    fs::write(mirror.replica("stray.php"), "made there\n")?;
    wait_until(SOON, "a push removes what is only there", || {
        !mirror.replica("stray.php").exists()
    });
    stays(SOME_PUSHES, "the first is still kept", || kept.exists());
    mirror.stop();
    Ok(())
}

#[test]
fn nothing_is_pushed_while_paused() -> io::Result<()> {
    let bus = Bus::start()?;
    let mut mirror = Mirror::prepare()?;
    mirror.config.more = EVERY_SECOND.to_owned();
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    assert_eq!(bus.ask(&["pause"])?.code, 0);
    let stray = mirror.replica("stray");
    fs::write(&stray, "made there\n")?;
    stays(SOME_PUSHES, "nobody looks at the receiver", || {
        stray.exists()
    });
    assert_eq!(bus.ask(&["resume"])?.code, 0);
    wait_until(SOON, "the push that waited removes it", || !stray.exists());
    mirror.finish()
}

/// The original made no such push at all then.
#[test]
fn with_a_filter_and_no_crontabfilter_the_pushes_obey_the_filter() -> io::Result<()> {
    let mirror = with_crontab_and_filter(EVERY_SECOND, &[r"(.*)\.tmp", "(.*)hidden/"])?;
    wait_for_rest(&mirror);
    let at_the_source = ["here.tmp", "d/hidden/here"].map(|name| mirror.source(name));
    let at_the_replica = ["there.tmp", "d/hidden/there"].map(|name| mirror.replica(name));
    fs::create_dir(mirror.source("d/hidden"))?;
    fs::create_dir(mirror.replica("d/hidden"))?;
    for file in at_the_source.iter().chain(&at_the_replica) {
        fs::write(file, "excluded\n")?;
    }
    fs::remove_file(mirror.replica("d/cache/a"))?;
    fs::write(mirror.replica("stray"), "made there\n")?;
    wait_until(SOON, "what is not excluded is mended", || {
        mirror.replica("d/cache/a").exists() && !mirror.replica("stray").exists()
    });
    let is_left_alone = || {
        at_the_replica.iter().all(|file| file.exists())
            && !mirror.replica("here.tmp").exists()
            && !mirror.replica("d/hidden/here").exists()
    };
    stays(SOME_PUSHES, "what is excluded stays", is_left_alone);
    for tree in ["source", "replica"].map(|name| mirror.at(name)) {
        fs::remove_dir_all(tree.join("d/hidden"))?;
    }
    fs::remove_file(mirror.source("here.tmp"))?;
    fs::remove_file(mirror.replica("there.tmp"))?;
    mirror.finish()
}

#[test]
fn what_the_crontabfilter_excludes_is_neither_mended_nor_deleted_by_these_pushes_and_still_follows_its_own_changes()
-> io::Result<()> {
    leave_alone_what_the_crontabfilter_excludes(with_crontab(FILTERED)?)
}

#[test]
fn on_a_volume_below_the_source_the_crontabfilter_excludes_the_same() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::create_dir(mirror.source("disk"))?;
    let Some(_disk) = Tmpfs::mount(mirror.source("disk")) else {
        return Ok(());
    };
    FILTERED.clone_into(&mut mirror.config.more);
    fs::write(mirror.source("disk/a"), "as it was\n")?;
    mirror.run()?;
    mirror.in_sync();
    wait_for_rest(&mirror);
    for name in ["disk/stray", "disk/stray.php"] {
        fs::write(mirror.replica(name), "made there\n")?;
    }
    wait_until(SOON, "what is not excluded is removed", || {
        !mirror.replica("disk/stray").exists()
    });
    stays(SOME_PUSHES, "what is excluded stays", || {
        mirror.replica("disk/stray.php").exists()
    });
    mirror.stop();
    Ok(())
}

#[test]
fn beside_a_filter_the_crontabfilter_excludes_the_same() -> io::Result<()> {
    let mirror = with_crontab_and_filter(FILTERED, &[r"(.*)\.tmp"])?;
    wait_for_rest(&mirror);
    leave_alone_what_the_crontabfilter_excludes(mirror)
}

#[test]
fn beside_a_filter_what_neither_excludes_is_removed_from_among_what_one_of_them_does()
-> io::Result<()> {
    let mirror = with_crontab_and_filter(FILTERED, &[r"(.*)\.tmp"])?;
    wait_for_rest(&mirror);
    fs::create_dir_all(mirror.replica("old/older"))?;
    let names = ["a.php", "a.tmp", "a", "older/a"].map(|name| mirror.replica("old").join(name));
    for name in &names {
        fs::write(name, "made there\n")?;
    }
    wait_until(SOON, "what nobody excludes is removed", || {
        !names[2].exists() && !mirror.replica("old/older").exists()
    });
    stays(SOME_PUSHES, "what is excluded stays", || {
        names[0].exists() && names[1].exists()
    });
    fs::remove_dir_all(mirror.replica("old"))?;
    mirror.finish()
}

fn leave_alone_what_the_crontabfilter_excludes(mirror: Mirror) -> io::Result<()> {
    for name in ["b.php", "cache/a", "stray.php", "cache/stray"] {
        fs::write(mirror.replica(name), "changed there\n")?;
    }
    fs::remove_file(mirror.replica("a"))?;
    fs::remove_file(mirror.replica("d/cache/a"))?;
    wait_until(SOON, "what is not excluded is mended", || {
        mirror.replica("a").exists() && mirror.replica("d/cache/a").exists()
    });
    stays(SOME_PUSHES, "what is excluded stays as it is there", || {
        let is_kept =
            |name| fs::read(mirror.replica(name)).is_ok_and(|is| is == b"changed there\n");
        ["b.php", "cache/a", "stray.php", "cache/stray"]
            .into_iter()
            .all(is_kept)
    });
    fs::write(mirror.source("b.php"), "changed here\n")?;
    wait_until(SOON, "a change of its own arrives", || {
        fs::read(mirror.replica("b.php")).is_ok_and(|is| is == b"changed here\n")
    });
    for stray in ["stray.php", "cache/stray"] {
        fs::remove_file(mirror.replica(stray))?;
    }
    fs::write(mirror.source("cache/a"), "changed here\n")?;
    mirror.finish()
}

#[test]
fn a_reload_begins_and_ends_the_pushes_without_comparing_everything() -> io::Result<()> {
    let mut mirror = with_crontab("")?;
    let stray = mirror.replica("stray");
    fs::write(&stray, "made there\n")?;
    reload(&mut mirror, EVERY_SECOND)?;
    wait_until(SOON, "a push removes what is only there", || {
        !stray.exists()
    });
    reload(&mut mirror, "")?;
    let pushes = |mirror: &Mirror| mirror.log().matches("scheduled push").count();
    let before = pushes(&mirror);
    stays(SOME_PUSHES, "at most the push that ran is said", || {
        pushes(&mirror) <= before + 1
    });
    mirror.finish()
}
