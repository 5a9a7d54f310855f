//! Patterns of rsync's in `<filter>`, `<crontabfilter>` and `params`: what our own matcher says of a name is what rsync
//! says of it, on events, in full pushes and after a reload alike.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sersync::filter::{Filter, Kind, Rule};
use sersync::path::RelPath;
use sersync::rsync::rules::DIRECTORIES_ALONE;
use tempfile::TempDir;

use crate::generator::Generator;
use crate::harness::{Mirror, SOON, grow, pause, stays, wait_until};
use crate::tree::Tree;

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(400);

fn has(mirror: &Mirror, path: &str) -> bool {
    mirror.replica(path).symlink_metadata().is_ok()
}

/// Makes files with their directories.
fn make(root: &Path, files: &[&str]) -> io::Result<()> {
    for file in files {
        let file = root.join(file);
        fs::create_dir_all(file.parent().expect("it is in a directory"))?;
        fs::write(file, "as it was\n")?;
    }
    Ok(())
}

/// What rsync finds below `root` with these rules, directories with a slash behind.
fn found_by_rsync(root: &Path, empty: &Path, rules: &[(bool, String)]) -> BTreeSet<String> {
    let mut command = Command::new("rsync");
    command.env("LC_ALL", "C");
    command.args(["-r", "--dry-run", "--out-format=%n"]);
    for (includes, pattern) in rules {
        let option = if *includes { "include" } else { "exclude" };
        command.arg(format!("--{option}={pattern}"));
    }
    command.arg(format!("{}/", root.display())).arg(empty);
    let output = command.output().expect("rsync starts");
    assert!(output.status.success(), "{output:?} {rules:?}");
    let text = String::from_utf8(output.stdout).expect("the names are ASCII");
    let names = text.lines().filter(|line| *line != "./");
    names.map(ToOwned::to_owned).collect()
}

/// The same by our own filter.
fn found_by_us(root: &Path, filter: &Filter) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![RelPath::root()];
    while let Some(dir) = pending.pop() {
        let entries = fs::read_dir(root.join(dir.as_path())).expect("ours");
        for entry in entries.map(|entry| entry.expect("ours")) {
            let path = dir.join(entry.file_name().as_encoded_bytes());
            let is_directory = entry.file_type().expect("ours").is_dir();
            if filter.excludes(&path, Kind::directory_if(is_directory)) {
                continue;
            }
            let name = String::from_utf8(path.as_bytes().to_vec()).expect("ASCII");
            if is_directory {
                found.insert(name + "/");
                pending.push(path);
            } else {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn our_matcher_and_rsyncs_find_the_same_in_random_trees() -> io::Result<()> {
    const NO_CLASS: &str = "a `/` is matched by no class";
    let temp = TempDir::with_prefix("sersync-patterns-")?;
    let (root, empty) = (temp.path().join("root"), temp.path().join("empty"));
    fs::create_dir(&empty)?;
    make(
        &root,
        &[
            "a",
            "b",
            "ab",
            "a.b",
            "-",
            "!",
            "]",
            "[",
            "a*",
            "a\\b",
            "d/a",
            "d/b",
            "d/ab",
            "d/d/a",
            "d/d/b",
            "d/a.b",
            "ad/a",
            "ad/b/a",
            "da/d/d/ab",
            "a.d/a",
            "d/ad/b",
            "x/a/a",
            "x/d/ad/a",
            "d/-",
            "x/]",
            "x/a*b",
        ],
    )?;
    fs::create_dir_all(root.join("d/empty"))?;
    let piece = prop_oneof![
        6 => "[abd]",
        3 => Just("/".to_owned()),
        3 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => Just("***".to_owned()),
        2 => Just("?".to_owned()),
        1 => "\\[[!^]?[\\]abd.-]{1,3}\\]",
        1 => Just("[[:alpha:]]".to_owned()),
        1 => Just("\\".to_owned()),
        1 => "[\\]\\[.!-]",
    ];
    let pattern = proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    let rule = (proptest::bool::weighted(0.35), pattern);
    let rules = proptest::collection::vec(rule, 1..5);
    let mut config = Config::with_cases(cases());
    config.failure_persistence = None;
    let (compared, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    let result = TestRunner::new(config).run(&rules, |rules| {
        // These two clear the list, which is nothing for a rule of ours.
        prop_assume!(rules.iter().all(|(_, pattern)| pattern != "!"));
        // rsync reads a pattern that none of ours can be; it must match nothing there.
        let mut usable = Vec::new();
        for (includes, pattern) in rules {
            match Filter::new(vec![rule_of(includes, &pattern)]) {
                Ok(_) => usable.push((includes, pattern)),
                // That is refused for what it means to who writes it; the rest of the class would match.
                Err(refused) if refused.iter().any(|(_, it)| it.reason.contains(NO_CLASS)) => {}
                Err(_) => {
                    refused.set(refused.get() + 1);
                    let alone = [(false, pattern)];
                    let all = found_by_us(&root, &Filter::new(Vec::new()).expect("no rule"));
                    prop_assert_eq!(found_by_rsync(&root, &empty, &alone), all, "{:?}", alone);
                }
            }
        }
        let ours = usable
            .iter()
            .map(|(includes, pattern)| rule_of(*includes, pattern));
        let filter = Filter::new(ours.collect()).expect("each is usable");
        let theirs = found_by_rsync(&root, &empty, &usable);
        compared.set(compared.get() + 1);
        prop_assert_eq!(found_by_us(&root, &filter), theirs, "{:?}", usable);
        Ok(())
    });
    println!(
        "{} lists of rules compared, {} patterns refused",
        compared.get(),
        refused.get()
    );
    result.expect("the same");
    Ok(())
}

fn rule_of(includes: bool, pattern: &str) -> Rule {
    if includes {
        Rule::Include(pattern.into())
    } else {
        Rule::Exclude(pattern.into())
    }
}

/// Each is a run of rsync of some milliseconds.
fn cases() -> u32 {
    let set = std::env::var("SERSYNC_PATTERN_CASES").ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(300)
}

#[test]
fn the_rule_for_directories_alone_lets_no_file_through() -> io::Result<()> {
    let temp = TempDir::with_prefix("sersync-alone-")?;
    let (root, replica) = (temp.path().join("root"), temp.path().join("replica"));
    fs::create_dir(&replica)?;
    make(&root, &["d/e/a", "was-a-directory"])?;
    fs::write(temp.path().join("list"), b"./d\0./d/e\0./was-a-directory\0")?;
    let mut command = Command::new("rsync");
    command
        .arg(DIRECTORIES_ALONE)
        .args(["-a", "--no-r", "--dirs", "--from0"]);
    command.arg(format!(
        "--files-from={}",
        temp.path().join("list").display()
    ));
    command.arg(format!("{}/", root.display())).arg(&replica);
    assert!(command.status()?.success());
    assert!(replica.join("d/e").is_dir() && !replica.join("d/e/a").exists());
    assert!(!replica.join("was-a-directory").exists());
    Ok(())
}

#[test]
fn patterns_hold_for_the_first_push_for_events_and_for_what_is_only_at_the_receiver()
-> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.at("patterns"), "# objects\n+ keep.o\n*.o\n")?;
    mirror.config.rules = format!(
        "<include pattern=\"/logs/today/\"/><exclude pattern=\"/logs/*\"/>\
         <excludeFrom path=\"{}\"/><exclude pattern=\"cache/\"/>",
        mirror.at("patterns").display()
    );
    let (sent, not_sent) = (
        ["keep.o", "d/keep.o", "logs/today/a", "d/cache", "plain"],
        ["a.o", "d/a.o", "logs/a", "logs/old/a", "e/cache/a"],
    );
    make(&mirror.at("source"), &sent)?;
    make(&mirror.at("source"), &not_sent)?;
    make(
        &mirror.at("replica"),
        &[
            "theirs.o",
            "cache/theirs",
            "logs/theirs",
            "stray",
            "old/stray",
            "old/x.o",
        ],
    )?;
    mirror.run()?;
    wait_until(
        SOON,
        "what is mirrored arrives, and what is only there goes",
        || {
            sent.iter().all(|path| has(&mirror, path))
                && !has(&mirror, "stray")
                && !has(&mirror, "old/stray")
        },
    );
    let later_sent = ["later/keep.o", "logs/today/b", "logs/today/c/d"];
    let later_not = ["later/b.o", "logs/b", "logs/new/b", "later/cache/b"];
    make(&mirror.at("source"), &later_not)?;
    make(&mirror.at("source"), &later_sent)?;
    wait_until(SOON, "changes arrive", || {
        later_sent.iter().all(|path| has(&mirror, path))
    });
    let nothing_leaks = |mirror: &Mirror| {
        let excluded = not_sent.iter().chain(&later_not);
        excluded.into_iter().all(|path| !has(mirror, path))
    };
    stays(A_WHILE, "nothing excluded arrives", || {
        nothing_leaks(&mirror)
    });
    fs::rename(mirror.source("logs/today"), mirror.source("logs/yesterday"))?;
    fs::rename(mirror.source("a.o"), mirror.source("a.c"))?;
    wait_until(
        SOON,
        "it goes where it is excluded now, and comes where it is not",
        || !has(&mirror, "logs/today") && has(&mirror, "a.c"),
    );
    for theirs in ["theirs.o", "cache/theirs", "logs/theirs", "old/x.o"] {
        assert!(has(&mirror, theirs), "{theirs}");
    }
    mirror.stop();
    assert!(nothing_leaks(&mirror));
    Ok(())
}

/// Files whose name ends with 2, in whatever directories.
const TWOS: &str = "<include pattern=\"*/\"/><include pattern=\"*2\"/><exclude pattern=\"*\"/>";

fn is_no_two(path: &Path, is_directory: bool) -> bool {
    !is_directory && !path.as_os_str().as_encoded_bytes().ends_with(b"2")
}

fn random_operations_end_as_the_patterns_say(
    seed: u64,
    params: &str,
    meanwhile: fn(&mut Mirror) -> io::Result<()>,
) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.rules = TWOS.into();
    params.clone_into(&mut mirror.config.params);
    make(
        &mirror.at("replica"),
        &["theirs", "stray/theirs", "stray/2"],
    )?;
    fs::write(mirror.source("first2"), "content")?;
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
    let is_excluded =
        |path: &Path, is_directory| path.starts_with("stray") || is_no_two(path, is_directory);
    let read = |name| Ok::<_, io::Error>(Tree::read(&mirror.at(name))?.without(is_excluded));
    let start = std::time::Instant::now();
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
    assert!(has(&mirror, "theirs") && has(&mirror, "stray/theirs"));
    assert!(!has(&mirror, "stray/2"), "it is mirrored, so it goes");
    mirror.stop();
    let leaked =
        |path: &Path, is_directory| !path.ends_with("theirs") && is_no_two(path, is_directory);
    // The receiver of a run that was cut off takes its temporary file away a little later.
    wait_until(SOON, &format!("seed {seed}: no more is there"), || {
        let all = Tree::read(&mirror.at("replica")).expect("it can be read");
        let rightful = all.clone().without(leaked);
        let left = rightful.differences(&all.without(|_, _| false));
        left.is_ok_and(|left| left.is_empty())
    });
    Ok(())
}

#[test]
fn random_operations_where_files_are_excluded_and_directories_are_not() -> io::Result<()> {
    random_operations_end_as_the_patterns_say(31, "-a", |_| Ok(()))
}

#[test]
fn random_operations_where_files_are_excluded_and_directories_are_not_and_restarts()
-> io::Result<()> {
    random_operations_end_as_the_patterns_say(32, "-artuz", |mirror| {
        mirror.stop();
        mirror.run()
    })
}

#[test]
fn random_operations_while_the_rules_are_read_again() -> io::Result<()> {
    random_operations_end_as_the_patterns_say(33, "-a", |mirror| {
        let other = "<exclude pattern=\"*4\"/><exclude pattern=\"*5/\"/>";
        mirror.config.rules = format!("{TWOS}{other}");
        mirror.reload()?;
        pause(Duration::from_millis(100)); // interval between two reloads
        mirror.config.rules = format!("<exclude pattern=\"*6/\"/>{TWOS}");
        mirror.reload()?;
        mirror.config.rules = TWOS.into();
        mirror.reload()
    })
}

#[test]
fn a_file_takes_the_place_of_a_directory_of_an_excluded_name_and_the_other_way_round()
-> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.rules = TWOS.into();
    make(&mirror.at("source"), &["d/2", "e/f/2", "x"])?;
    mirror.run()?;
    wait_until(SOON, "files are sent", || {
        has(&mirror, "d/2") && has(&mirror, "e/f/2")
    });
    // An excluded file takes the place of a mirrored directory.
    fs::remove_dir_all(mirror.source("d"))?;
    fs::write(mirror.source("d"), "excluded")?;
    wait_until(SOON, "the directory goes", || !has(&mirror, "d"));
    // A mirrored directory takes the place of an excluded file.
    fs::remove_file(mirror.source("x"))?;
    make(&mirror.at("source"), &["x/2"])?;
    wait_until(SOON, "the directory comes", || has(&mirror, "x/2"));
    mirror.stop();
    // The same while nobody looks.
    fs::remove_dir_all(mirror.source("e"))?;
    fs::write(mirror.source("e"), "excluded")?;
    mirror.run()?;
    wait_until(SOON, "the directory goes", || !has(&mirror, "e"));
    assert!(!has(&mirror, "d"));
    mirror.stop();
    Ok(())
}

#[test]
fn a_reload_sends_what_the_rules_uncover_and_compares_nothing_else() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.rules = "<exclude pattern=\"/hidden/\"/><exclude pattern=\"*.o\"/>".into();
    grow(&mirror.source("plain"), 3, 20, 10)?;
    grow(&mirror.source("hidden"), 3, 20, 10)?;
    make(&mirror.at("source"), &["a.o", "plain/b.o"])?;
    make(&mirror.at("replica"), &["early stray"])?;
    mirror.run()?;
    wait_until(SOON, "the first push is over", || {
        has(&mirror, "plain/d00002/f0019") && !has(&mirror, "early stray")
    });
    wait_until(SOON, "no job runs", || {
        mirror.sersync().rsync_children().len() <= 1
    });
    // What a comparison of everything would remove.
    make(&mirror.at("replica"), &["stray", "plain/stray"])?;
    mirror.config.rules = "<exclude pattern=\"*.o\"/><exclude pattern=\"/plain/\"/>".into();
    mirror.reload()?;
    wait_until(SOON, "what was hidden arrives", || {
        has(&mirror, "hidden/d00002/f0019")
    });
    fs::write(mirror.source("hidden/d00002/later"), "watched")?;
    fs::write(mirror.source("plain/d00000/later"), "excluded now")?;
    wait_until(SOON, "it is watched", || {
        has(&mirror, "hidden/d00002/later")
    });
    stays(
        A_WHILE,
        "what is excluded now stays as it was, and nothing else is compared",
        || {
            has(&mirror, "stray")
                && has(&mirror, "plain/stray")
                && has(&mirror, "plain/d00000/f0000")
                && !has(&mirror, "plain/d00000/later")
                && !has(&mirror, "a.o")
        },
    );
    mirror.config.rules = "<exclude pattern=\"/plain/\"/>".into();
    mirror.reload()?;
    wait_until(SOON, "a file that was hidden arrives", || {
        has(&mirror, "a.o")
    });
    assert!(has(&mirror, "stray") && !has(&mirror, "plain/b.o"));
    assert_eq!(mirror.log().matches("no longer mirroring").count(), 0);
    mirror.stop();
    Ok(())
}

#[test]
fn a_rule_that_comes_by_a_reload_protects_at_once() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.rules = "<exclude pattern=\"*.o\"/>".into();
    make(&mirror.at("source"), &["d/a", "d/b"])?;
    mirror.run()?;
    wait_until(SOON, "it is sent", || {
        has(&mirror, "d/a") && has(&mirror, "d/b")
    });
    mirror.config.rules = "<exclude pattern=\"/d/a\"/>".into();
    mirror.reload()?;
    fs::remove_dir_all(mirror.source("d"))?;
    wait_until(SOON, "what is not excluded goes", || !has(&mirror, "d/b"));
    stays(A_WHILE, "what is excluded stays", || has(&mirror, "d/a"));
    mirror.stop();
    Ok(())
}

#[test]
fn what_is_in_a_directory_that_params_exclude_is_neither_sent_nor_removed_when_it_changes()
-> io::Result<()> {
    for filter in ["", "<exclude pattern=\"*.tmp\"/>"] {
        let mut mirror = Mirror::prepare()?;
        mirror.config.rules = filter.into();
        mirror.config.params = "-a --include=/cache/ --exclude=cache/ --exclude='/d/*/deep'".into();
        let hidden = ["e/cache/a", "e/cache/b/c", "d/x/deep/a", "d/x/deep/b/c"];
        make(&mirror.at("source"), &hidden)?;
        make(&mirror.at("source"), &["cache/a", "d/x/a"])?;
        make(
            &mirror.at("replica"),
            &["e/cache/b/theirs", "d/x/deep/b/theirs"],
        )?;
        mirror.run()?;
        wait_until(SOON, "it is sent", || {
            has(&mirror, "cache/a") && has(&mirror, "d/x/a")
        });
        make(
            &mirror.at("source"),
            &[
                "e/cache/b/theirs",
                "d/x/deep/b/theirs",
                "e/cache/new/deep/a",
                "d/x/deep/new",
                "d/x/b",
            ],
        )?;
        fs::remove_file(mirror.source("e/cache/b/theirs"))?;
        fs::remove_dir_all(mirror.source("d/x/deep/b"))?;
        wait_until(SOON, "a change beside it arrives", || has(&mirror, "d/x/b"));
        stays(A_WHILE, "what is hidden is left alone", || {
            ["e/cache/b/theirs", "d/x/deep/b/theirs"]
                .iter()
                .all(|theirs| has(&mirror, theirs))
                && !["e/cache/new", "d/x/deep/new", "e/cache/a"]
                    .iter()
                    .any(|path| has(&mirror, path))
        });
        fs::rename(mirror.source("e/cache"), mirror.source("e/open"))?;
        wait_until(SOON, "what is renamed out of it is sent", || {
            has(&mirror, "e/open/new/deep/a")
        });
        mirror.stop();
        assert!(has(&mirror, "e/cache/b/theirs"), "{filter:?}");
    }
    Ok(())
}

#[test]
fn beside_a_filter_a_directory_only_there_is_emptied_of_all_that_no_option_protects()
-> io::Result<()> {
    for params in [
        "-a --exclude=*.bak",
        "-a --filter='P *.bak'",
        "-a --filter='P *.bak' --exclude=x",
    ] {
        let mut mirror = Mirror::prepare()?;
        mirror.config.excludes = vec![r"(.*)\.tmp"];
        params.clone_into(&mut mirror.config.params);
        make(&mirror.at("source"), &["d/a", "e/f/a"])?;
        make(
            &mirror.at("replica"),
            &[
                "old/a",
                "old/deep/keep.bak",
                "old/deep/a",
                "old/gone/a",
                "old/keep.tmp",
            ],
        )?;
        mirror.run()?;
        wait_until(SOON, "a full push empties it", || {
            has(&mirror, "e/f/a")
                && !has(&mirror, "old/a")
                && !has(&mirror, "old/deep/a")
                && !has(&mirror, "old/gone")
        });
        make(
            &mirror.at("replica"),
            &["e/f/keep.bak", "e/f/g/keep.bak", "e/f/g/a"],
        )?;
        fs::remove_dir_all(mirror.source("e"))?;
        wait_until(SOON, "so does a deletion", || {
            !has(&mirror, "e/f/a") && !has(&mirror, "e/f/g/a")
        });
        for kept in [
            "old/deep/keep.bak",
            "old/keep.tmp",
            "e/f/keep.bak",
            "e/f/g/keep.bak",
        ] {
            assert!(has(&mirror, kept), "{params}: {kept}");
        }
        mirror.stop();
    }
    Ok(())
}

#[test]
fn a_crontabfilter_includes_as_rsync_does() -> io::Result<()> {
    let crontab = r#"<crontab start="true" calendar="*:*:*"><crontabfilter start="true">
        <exclude expression="+ keep.php"/><exclude expression="*.php"/>
        <exclude expression="+ /logs/in"/><exclude expression="/logs"/></crontabfilter></crontab>"#;
    for filter in ["", "<exclude pattern=\"*.tmp\"/>"] {
        let mut mirror = Mirror::prepare()?;
        mirror.config.rules = filter.into();
        crontab.clone_into(&mut mirror.config.more);
        let files = [
            "keep.php",
            "a.php",
            "d/keep.php",
            "d/a.php",
            "logs/in",
            "logs/a",
        ];
        make(&mirror.at("source"), &files)?;
        mirror.run()?;
        mirror.in_sync();
        wait_until(SOON, "a push has nothing to do", || {
            mirror.log().contains("nothing to send")
        });
        for file in files {
            fs::write(mirror.replica(file), "changed behind our back\n")?;
        }
        let is_mended =
            |file: &str| fs::read(mirror.replica(file)).is_ok_and(|text| text == b"as it was\n");
        wait_until(SOON, "what is included is mended", || {
            is_mended("keep.php") && is_mended("d/keep.php")
        });
        stays(
            Duration::from_secs(3),
            "what is excluded is not, nor what it hides",
            || {
                !["a.php", "d/a.php", "logs/in", "logs/a"]
                    .into_iter()
                    .any(is_mended)
            },
        );
        mirror.stop();
    }
    Ok(())
}
