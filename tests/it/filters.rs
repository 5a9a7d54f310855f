//! Filters: what is excluded is neither sent nor removed at the receiver, whichever way it came to be excluded.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::crontab::EVERY_SECOND;
use crate::generator::Generator;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, grow, pause, stays, wait_until};
use crate::tree::Tree;

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(400);

/// What [`EXPRESSIONS`] exclude, said once more.
fn is_excluded(path: &Path, is_directory: bool) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b".tmp")
        || bytes == b"logs"
        || bytes == b"a/secret"
        || is_directory && bytes.ends_with(b"cache")
}

const EXPRESSIONS: [&str; 4] = [r"(.*)\.tmp", "^logs/*", "^a/secret", "(.*)cache/"];

/// A mirror with these expressions, not yet running.
fn filtered() -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.excludes = EXPRESSIONS.to_vec();
    Ok(mirror)
}

/// In what the replica is not what it should be, leaving aside what is excluded there.
fn differences(mirror: &Mirror) -> io::Result<Vec<String>> {
    let read = |name| Ok::<_, io::Error>(Tree::read(&mirror.at(name))?.without(is_excluded));
    read("source")?.differences(&read("replica")?)
}

#[track_caller]
fn wait_until_as_it_should_be(mirror: &Mirror, within: Duration) {
    let mut last = Vec::new();
    let start = Instant::now();
    loop {
        let found = differences(mirror).expect("both trees can be read");
        if found.is_empty() {
            return;
        }
        last.clone_from(&found);
        assert!(start.elapsed() < within, "not within {within:?}: {last:#?}");
        pause(Duration::from_millis(10)); // poll
    }
}

/// Paths of the replica that are excluded, and should not have come there.
fn leaked(mirror: &Mirror) -> io::Result<Vec<String>> {
    // One look: what is sent once more looks different in the next.
    let all = Tree::read(&mirror.at("replica"))?;
    let mirrored = all.clone().without(is_excluded);
    mirrored.differences(&all.without(|_, _| false))
}

fn has(mirror: &Mirror, path: &str) -> bool {
    mirror.replica(path).symlink_metadata().is_ok()
}

/// How many directories the kernel watches for it.
fn watches(mirror: &mut Mirror) -> io::Result<usize> {
    let pid = mirror.sersync().pid().as_raw_nonzero();
    let mut count = 0;
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may be closed by now.
        let said = fs::read_to_string(descriptor?.path()).unwrap_or_default();
        count += said.matches("inotify wd:").count();
    }
    Ok(count)
}

#[track_caller]
fn watches_so_many(mirror: &mut Mirror, directories: usize) {
    let what = format!("{directories} directories are watched");
    let is_so = || watches(mirror).is_ok_and(|found| found == directories);
    wait_until(SOON, &what, is_so);
}

#[test]
fn what_is_excluded_is_not_watched() -> io::Result<()> {
    let mut mirror = filtered()?;
    for directory in ["logs/deep", "d/cache/deep", "d/e/f", "x.tmp/deep"] {
        fs::create_dir_all(mirror.source(directory))?;
    }
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    // The source, `d`, `d/e` and `d/e/f`.
    watches_so_many(&mut mirror, 4);
    for directory in ["new/cache/deep", "y.tmp/deep", "logs/new"] {
        fs::create_dir_all(mirror.source(directory))?;
    }
    fs::create_dir_all(mirror.outside("in/z.tmp/deep"))?;
    fs::rename(mirror.outside("in"), mirror.source("in"))?;
    wait_until_as_it_should_be(&mirror, SOON);
    // With `new` and `in`.
    watches_so_many(&mut mirror, 6);
    fs::rename(mirror.source("d/e"), mirror.source("d/e.tmp"))?;
    watches_so_many(&mut mirror, 4);
    fs::rename(mirror.source("d/e.tmp"), mirror.source("d/e"))?;
    watches_so_many(&mut mirror, 6);
    mirror.stop();
    Ok(())
}

#[test]
fn what_is_excluded_is_sent_neither_by_the_first_push_nor_by_events() -> io::Result<()> {
    let mut mirror = filtered()?;
    fs::create_dir_all(mirror.source("logs/deep"))?;
    fs::create_dir_all(mirror.source("d/cache/deep"))?;
    fs::create_dir_all(mirror.source("e"))?;
    for file in [
        "logs/deep/x",
        "d/cache/x",
        "d/x.tmp",
        "d/x",
        "e/cache",
        "x.tmp",
    ] {
        fs::write(mirror.source(file), file)?;
    }
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(
        has(&mirror, "e/cache"),
        "only directories of that name are excluded"
    );
    for file in ["logs/y", "d/y.tmp", "d/cache/y", "d/cache/deep/z", "y.tmp"] {
        fs::write(mirror.source(file), file)?;
    }
    fs::create_dir_all(mirror.source("new/cache/deep"))?;
    fs::create_dir_all(mirror.source("new/x.tmp/deep"))?;
    fs::write(mirror.source("new/file"), "sent")?;
    wait_until_as_it_should_be(&mirror, SOON);
    stays(A_WHILE, "nothing excluded is at the replica", || {
        leaked(&mirror).is_ok_and(|leaked| leaked.is_empty())
    });
    mirror.stop();
    assert_eq!(leaked(&mirror)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_is_renamed_into_the_filter_is_removed_and_what_is_renamed_out_of_it_is_sent()
-> io::Result<()> {
    let mut mirror = filtered()?;
    fs::create_dir_all(mirror.source("d/cache/deep"))?;
    fs::create_dir_all(mirror.source("plain/deep"))?;
    for file in [
        "file",
        "hidden.tmp",
        "d/cache/deep/x",
        "plain/deep/x",
        "plain/y.tmp",
    ] {
        fs::write(mirror.source(file), file)?;
    }
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    let rename = |from: &str, to: &str| fs::rename(mirror.source(from), mirror.source(to));
    rename("file", "file.tmp")?;
    rename("hidden.tmp", "hidden")?;
    rename("d/cache", "d/open")?;
    rename("plain", "cache")?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(!has(&mirror, "file") && has(&mirror, "hidden"));
    assert!(has(&mirror, "d/open/deep/x") && !has(&mirror, "plain"));
    // What came out of the filter is watched, and what went into it is not.
    fs::write(mirror.source("d/open/deep/later"), "sent")?;
    fs::write(mirror.source("cache/deep/later"), "not sent")?;
    wait_until_as_it_should_be(&mirror, SOON);
    rename("cache", "plain")?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(has(&mirror, "plain/deep/later") && !has(&mirror, "plain/y.tmp"));
    mirror.stop();
    assert_eq!(leaked(&mirror)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_rule_holds_for_a_path_and_not_for_the_directory_that_once_had_it() -> io::Result<()> {
    let mut mirror = filtered()?;
    fs::create_dir_all(mirror.source("a/secret/deep"))?;
    fs::create_dir_all(mirror.source("b/secret"))?;
    fs::write(mirror.source("a/secret/deep/x"), "x")?;
    fs::write(mirror.source("b/secret/y"), "y")?;
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    fs::rename(mirror.source("a"), mirror.source("c"))?;
    fs::rename(mirror.source("b"), mirror.source("a"))?;
    wait_until_as_it_should_be(&mirror, SOON);
    fs::write(mirror.source("c/secret/deep/later"), "sent")?;
    fs::write(mirror.source("a/secret/later"), "not sent")?;
    fs::write(mirror.source("a/later"), "sent")?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(has(&mirror, "c/secret/deep/later") && !has(&mirror, "a/secret/later"));
    mirror.stop();
    Ok(())
}

#[test]
fn what_is_excluded_and_only_at_the_receiver_stays_whatever_is_removed_around_it() -> io::Result<()>
{
    let mut mirror = filtered()?;
    fs::create_dir_all(mirror.source("d/deep/deeper"))?;
    grow(&mirror.source("d"), 3, 400, 10)?;
    fs::write(mirror.source("d/deep/x"), "x")?;
    let theirs = [
        "kept.tmp",
        "d/deep/deeper/kept.tmp",
        "old/kept.tmp/x",
        "logs/x",
        "cache/y",
    ];
    for file in theirs {
        let file = mirror.replica(file);
        fs::create_dir_all(file.parent().expect("it has one"))?;
        fs::write(file, "of the receiver")?;
    }
    for file in ["old/extra", "extra", "old/gone/with/all"] {
        let file = mirror.replica(file);
        fs::create_dir_all(file.parent().expect("it has one"))?;
        fs::write(file, "extra")?;
    }
    let all_stay = |mirror: &Mirror| theirs.iter().all(|file| has(mirror, file));
    mirror.run()?;
    wait_until(SOON, "the first push has removed what is extra", || {
        !has(&mirror, "extra") && !has(&mirror, "old/extra") && !has(&mirror, "old/gone")
    });
    assert!(all_stay(&mirror));
    wait_until(SOON, "all is sent", || {
        has(&mirror, "d/d00002/f0399") && has(&mirror, "d/deep/x")
    });
    fs::remove_dir_all(mirror.source("d"))?;
    wait_until(SOON, "the directory is emptied", || {
        !has(&mirror, "d/deep/x") && !has(&mirror, "d/d00000") && !has(&mirror, "d/d00002")
    });
    stays(A_WHILE, "what is excluded stays", || all_stay(&mirror));
    mirror.stop();
    assert!(all_stay(&mirror));
    Ok(())
}

#[test]
fn a_directory_gives_way_to_a_file_unless_it_holds_what_is_excluded() -> io::Result<()> {
    let mut mirror = filtered()?;
    for dir in ["plain/deep", "holding/deep", "linked/deep"] {
        fs::create_dir_all(mirror.source(dir))?;
        fs::write(mirror.source(dir).join("x"), "x")?;
    }
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    fs::write(mirror.replica("holding/deep/kept.tmp"), "of the receiver")?;
    for dir in ["plain", "holding", "linked"] {
        fs::remove_dir_all(mirror.source(dir))?;
    }
    fs::write(mirror.source("plain"), "a file now")?;
    fs::write(mirror.source("holding"), "a file now")?;
    symlink("plain", mirror.source("linked"))?;
    wait_until(SOON, "files stand in their places", || {
        mirror.replica("plain").is_file() && mirror.replica("linked").is_symlink()
    });
    let kept = |mirror: &Mirror| has(mirror, "holding/deep/kept.tmp");
    stays(A_WHILE, "what is excluded stays", || kept(&mirror));
    // When somebody removes it there, the file arrives.
    fs::remove_file(mirror.replica("holding/deep/kept.tmp"))?;
    wait_until_as_it_should_be(&mirror, AFTER_BACK_OFF);
    mirror.stop();
    Ok(())
}

#[test]
fn a_file_whose_name_becomes_an_excluded_directory_is_removed_and_comes_back() -> io::Result<()> {
    let mut mirror = filtered()?;
    fs::write(mirror.source("cache"), "a file")?;
    fs::create_dir(mirror.source("d"))?;
    fs::write(mirror.source("d/cache"), "a file")?;
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    fs::remove_file(mirror.source("cache"))?;
    fs::create_dir(mirror.source("cache"))?;
    fs::write(mirror.source("cache/x"), "not sent")?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(!has(&mirror, "cache"));
    // The same by a full push.
    mirror.stop();
    fs::remove_file(mirror.source("d/cache"))?;
    fs::create_dir(mirror.source("d/cache"))?;
    fs::remove_dir_all(mirror.source("cache"))?;
    fs::write(mirror.source("cache"), "a file again")?;
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(has(&mirror, "cache") && !has(&mirror, "d/cache"));
    mirror.stop();
    Ok(())
}

#[test]
fn a_restart_finds_what_was_renamed_into_the_filter_and_out_of_it_meanwhile() -> io::Result<()> {
    let mut mirror = filtered()?;
    grow(&mirror.source("d"), 3, 20, 10)?;
    grow(&mirror.source("cache"), 3, 20, 10)?;
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    mirror.stop();
    fs::rename(mirror.source("d/d00000"), mirror.source("d/d.tmp"))?;
    fs::rename(mirror.source("cache"), mirror.source("open"))?;
    fs::rename(mirror.source("d/d00001/f0001"), mirror.source("logs"))?;
    mirror.run()?;
    wait_until_as_it_should_be(&mirror, SOON);
    assert!(has(&mirror, "open/d00002/f0019") && !has(&mirror, "d/d00000"));
    mirror.stop();
    assert_eq!(leaked(&mirror)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn odd_names_are_removed_and_protected_as_they_are() -> io::Result<()> {
    let mut mirror = filtered()?;
    let odd = [
        "*",
        "a*b[c]?",
        "back\\slash",
        "wild\\*",
        "new\nline",
        " blank ",
        "[",
        "#x",
        "-x",
        "\\#012",
    ];
    for name in odd {
        fs::create_dir_all(mirror.replica("d").join(name).join(name))?;
        fs::write(mirror.replica("d").join(name).join("x"), "extra")?;
        fs::write(
            mirror.replica("d").join(name).join("kept.tmp"),
            "of the receiver",
        )?;
        fs::write(mirror.replica("d").join(format!("{name} too")), "extra")?;
    }
    fs::create_dir(mirror.source("d"))?;
    // More than a first comparison may remove by itself.
    mirror.run_with(&["--accept-source"])?;
    wait_until_as_it_should_be_but_for_directories(&mirror);
    for name in odd {
        let dir = mirror.replica("d").join(name);
        assert!(dir.join("kept.tmp").exists(), "{name:?}");
        assert!(
            !dir.join("x").exists() && !dir.join(name).exists(),
            "{name:?}"
        );
    }
    mirror.stop();
    Ok(())
}

/// Directories that hold what is excluded stay where all else goes.
#[track_caller]
fn wait_until_as_it_should_be_but_for_directories(mirror: &Mirror) {
    wait_until(SOON, "only directories are left", || {
        let found = differences(mirror).expect("both trees can be read");
        found
            .iter()
            .all(|difference| difference.ends_with("is only at the replica (Directory)"))
            && !found.iter().any(|difference| difference.contains("/x\""))
            && found.len() <= 10
    });
}

/// In the random test: entries whose name ends so, and directories alone that end with 1.
fn is_excluded_at_random(path: &Path, is_directory: bool) -> bool {
    let name = path.as_os_str().as_bytes();
    name.ends_with(b"0") || is_directory && name.ends_with(b"1")
}

fn random_operations_end_as_the_rule_says(
    seed: u64,
    params: &str,
    more: &str,
    meanwhile: fn(&mut Mirror) -> io::Result<()>,
) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.excludes = vec!["(.*)0", "(.*)1/"];
    params.clone_into(&mut mirror.config.params);
    more.clone_into(&mut mirror.config.more);
    fs::create_dir_all(mirror.replica("theirs1/deep"))?;
    fs::write(mirror.replica("theirs1/deep/x"), "of the receiver")?;
    fs::write(mirror.replica("theirs0"), "of the receiver")?;
    fs::write(mirror.source("first"), "content")?;
    mirror.run()?;
    mirror.is_known();
    let (root, outside) = (mirror.source(""), mirror.outside(""));
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let generator = Generator::new(seed, root, outside, true).without_hard_links();
            generator.run(Duration::from_secs(4))
        });
        while !writer.is_finished() {
            pause(Duration::from_millis(400)); // interval between two disturbances
            meanwhile(&mut mirror)?;
        }
        Ok::<_, io::Error>(())
    })?;
    let read =
        |name| Ok::<_, io::Error>(Tree::read(&mirror.at(name))?.without(is_excluded_at_random));
    let start = Instant::now();
    loop {
        let found = read("source")?.differences(&read("replica")?)?;
        if found.is_empty() {
            break;
        }
        assert!(
            start.elapsed() < SOON * 2,
            "seed {seed}: {found:#?}\n{}",
            mirror.log()
        );
        pause(Duration::from_millis(20)); // poll
    }
    assert!(has(&mirror, "theirs1/deep/x") && has(&mirror, "theirs0"));
    mirror.stop();
    let theirs = |path: &Path, is_directory| {
        !path.starts_with("theirs1")
            && !path.starts_with("theirs0")
            && is_excluded_at_random(path, is_directory)
    };
    // The receiver of a run that was cut off takes its temporary file away a little later.
    wait_until(SOON, &format!("seed {seed}: no more is there"), || {
        let all = Tree::read(&mirror.at("replica")).expect("it can be read");
        let rightful = all.clone().without(theirs);
        let left = rightful.differences(&all.without(|_, _| false));
        left.is_ok_and(|left| left.is_empty())
    });
    Ok(())
}

#[test]
fn random_operations_with_a_filter_end_as_the_rule_says() -> io::Result<()> {
    random_operations_end_as_the_rule_says(21, "-a", "", |_| Ok(()))
}

#[test]
fn random_operations_with_a_filter_and_restarts_end_as_the_rule_says() -> io::Result<()> {
    random_operations_end_as_the_rule_says(22, "-artuz", "", |mirror| {
        mirror.stop();
        mirror.run()
    })
}

#[test]
fn random_operations_with_a_filter_and_crashes_end_as_the_rule_says() -> io::Result<()> {
    random_operations_end_as_the_rule_says(23, "-aH", "", |mirror| {
        mirror.kill();
        mirror.run()
    })
}

#[test]
fn random_operations_with_a_filter_and_full_pushes_by_the_clock_end_as_the_rule_says()
-> io::Result<()> {
    random_operations_end_as_the_rule_says(24, "-a", EVERY_SECOND, |mirror| {
        assert!(mirror.sersync().is_running());
        Ok(())
    })
}

/// Directories whose content is old, and which are replaced one after the other by others of the same names.
fn replaced(rules: &str, replace: fn(&Mirror, &str) -> io::Result<()>) -> io::Result<()> {
    const COUNT: usize = 60;
    let mut mirror = Mirror::prepare()?;
    mirror.config.rules = rules.into();
    for number in 0..COUNT {
        for below in 0..5 {
            let dir = mirror.source(format!("d{number}/a{below}"));
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("old.php"), "old")?;
        }
    }
    mirror.run()?;
    wait_until(SOON, "all of it arrives", || {
        mirror
            .replica(format!("d{}/a4/old.php", COUNT - 1))
            .exists()
    });
    // A first comparison that is made again would take what was sent by it for the receiver's own.
    mirror.is_known();
    let mut rng = fastrand::Rng::with_seed(1);
    for number in 0..COUNT {
        replace(&mirror, &format!("d{number}"))?;
        pause(Duration::from_millis(rng.u64(0..40))); // interval between two
    }
    let stale = || {
        let files = (0..COUNT * 5).map(|at| format!("d{}/a{}/old.php", at / 5, at % 5));
        let files = files.filter(|file| mirror.replica(file).exists());
        files.collect::<Vec<String>>()
    };
    let start = Instant::now();
    while !stale().is_empty() {
        assert!(start.elapsed() < SOON, "left: {:?}", stale());
        pause(Duration::from_millis(50)); // poll
    }
    mirror.stop();
    Ok(())
}

#[test]
fn beside_a_filter_a_directory_that_is_replaced_keeps_nothing_of_the_old_one() -> io::Result<()> {
    replaced("<exclude pattern=\"*.tmp\"/>", |mirror, name| {
        fs::rename(mirror.source(name), mirror.outside(name))?;
        for below in 0..5 {
            fs::create_dir_all(mirror.source(format!("{name}/a{below}")))?;
            pause(Duration::from_millis(fastrand::u64(0..15))); // interval between two
        }
        Ok(())
    })
}

#[test]
fn a_directory_whose_name_an_excluded_file_had_meanwhile_keeps_nothing_of_the_old_one()
-> io::Result<()> {
    let rules = "<include pattern=\"*/\"/><include pattern=\"*.php\"/><exclude pattern=\"*\"/>";
    replaced(rules, |mirror, name| {
        fs::rename(mirror.source(name), mirror.outside(name))?;
        fs::write(mirror.source(name), "no directory")?;
        pause(Duration::from_millis(fastrand::u64(0..5))); // interval in which it may be seen
        fs::remove_file(mirror.source(name))?;
        fs::create_dir(mirror.source(name))
    })
}
