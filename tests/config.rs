//! Whole configuration files and every word that is said about them.
//!
//! Each `tests/fixtures/config/good/*.xml` can be run, each `bad/*.xml` cannot. The `.expected` beside it holds what
//! `sersync check` prints: the problems, without the directory of the file, then what is mirrored. With `BLESS=1` in
//! the environment the library's test writes these files anew; read the difference before you commit it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sersync::config::{Config, Schedule, Target};
use sersync::filter::Rule;

const EXIT_CONFIG: i32 = 78;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}

/// The XML files of a directory of fixtures, sorted.
fn files(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures().join(kind)).expect("the fixtures are there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the directory is readable").path())
        .filter(|path| path.extension() == Some(OsStr::new("xml")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {kind}");
    files
}

fn without_directory(text: &str, file: &Path) -> String {
    let directory = file.parent().expect("a fixture lies in a directory");
    text.replace(&format!("{}/", directory.display()), "")
}

/// What `sersync check` would print, and whether the file can be run.
fn check_by_library(file: &Path) -> (String, bool) {
    let mut printed = String::new();
    let checked = Config::load(file);
    let result = match &checked {
        Ok(loaded) => {
            for said in loaded.warnings.iter().chain(&loaded.notes) {
                writeln!(printed, "{said}").expect("a string takes everything");
            }
            let mirrors = loaded.config.mirrors.iter();
            let lines = mirrors.flat_map(|mirror| {
                let source = mirror.display_source();
                mirror
                    .remotes
                    .iter()
                    .map(move |remote| format!("{source} -> {}\n", remote.target))
            });
            lines.collect()
        }
        Err(error) => format!("{error}\n"),
    };
    printed.push_str(&result);
    (without_directory(&printed, file), checked.is_ok())
}

#[test]
fn every_file_gets_exactly_the_expected_words() {
    for (kind, can_be_run) in [("good", true), ("bad", false)] {
        for file in files(kind) {
            let (printed, is_ok) = check_by_library(&file);
            assert_eq!(is_ok, can_be_run, "{}\n{printed}", file.display());
            let expected = file.with_extension("expected");
            if std::env::var_os("BLESS").is_some() {
                fs::write(&expected, &printed).expect("the fixtures are writable");
            }
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(printed, expected, "{}", file.display());
        }
    }
}

#[test]
fn the_program_prints_the_same_and_ends_with_0_or_78() {
    for (kind, status) in [("good", 0), ("bad", EXIT_CONFIG)] {
        for file in files(kind) {
            let output = Command::new(env!("CARGO_BIN_EXE_sersync"))
                .arg("check")
                .arg(&file)
                .output()
                .expect("the program starts");
            let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
            let stdout = String::from_utf8(output.stdout).expect("messages are UTF-8");
            let expected = fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
            assert_eq!(
                without_directory(&stderr, &file) + &stdout,
                expected,
                "{}",
                file.display()
            );
            assert_eq!(output.status.code(), Some(status), "{}", file.display());
        }
    }
}

#[test]
fn an_element_left_out_means_what_the_stock_file_says() {
    let load = |name: &str| {
        Config::load(&fixtures().join("good").join(name))
            .expect(name)
            .config
    };
    let (stock, smallest) = (load("stock.xml"), load("smallest.xml"));
    assert_eq!(stock.mirrors[0].switches, smallest.mirrors[0].switches);
    assert_eq!(
        stock.mirrors[0].remotes[0].params,
        smallest.mirrors[0].remotes[0].params
    );
    assert_eq!(
        stock.mirrors[0].remotes[0].timeout,
        smallest.mirrors[0].remotes[0].timeout
    );
    assert_eq!(stock.retry_period, smallest.retry_period);
    let recorded = stock.fail_log_path.as_deref();
    assert_eq!(recorded, Some(Path::new("/tmp/rsync_fail_log.sh")));
    assert_eq!(smallest.fail_log_path, None);
    assert_eq!(
        (stock.debug, &stock.filter, &stock.crontab),
        (smallest.debug, &None, &None)
    );
    assert_eq!(stock.plugins.len(), 4);
    assert!(stock.started_plugins.is_empty());
}

#[test]
fn a_remote_has_the_settings_of_the_file_unless_it_has_its_own() {
    let file = fixtures().join("good/several.xml");
    let config = Config::load(&file).expect("a good file").config;
    assert_eq!(config.retry_period, Duration::from_secs(300));
    assert!(config.debug);
    let remotes = &config.mirrors[0].remotes;
    let login = |index: usize| match &remotes[index].target {
        Target::Daemon {
            port,
            user,
            password_file,
            ..
        } => (
            *port,
            user.as_deref(),
            password_file.as_deref().and_then(Path::to_str),
        ),
        other => panic!("{other} is no daemon"),
    };
    assert_eq!(
        login(0),
        (Some(874), Some("rsync_backup"), Some("/etc/rsync.password"))
    );
    assert_eq!(
        login(1),
        (Some(874), Some("other"), Some("/etc/rsync.other"))
    );
    assert_eq!(
        login(2),
        (
            Some(8730),
            Some("rsync_backup"),
            Some("/etc/rsync.password")
        )
    );
    assert_eq!(
        remotes[3].target,
        Target::Local {
            path: "/backup/www".into()
        }
    );
    assert_eq!(remotes[2].params.args(), ["-aH", "--bwlimit=2000"]);
    assert!(remotes[2].params.hard_links() && !remotes[2].params.filtered());
    assert_eq!(
        remotes[0].params.args(),
        ["-atuz", "--exclude=*.tmp", "--exclude=/cache"]
    );
    assert!(
        remotes
            .iter()
            .all(|remote| remote.timeout == Duration::from_secs(20))
    );
}

#[test]
fn remotes_over_ssh_and_others_stand_side_by_side() {
    let load = |name: &str| {
        let loaded = Config::load(&fixtures().join("good").join(name)).expect(name);
        loaded.config.mirrors[0].remotes.clone()
    };
    let remotes = load("ssh.xml");
    let Target::Ssh { options, .. } = &remotes[0].target else {
        panic!("{} is not over ssh", remotes[0].target);
    };
    assert_eq!(options.identity.as_deref(), Some("/root/.ssh/id_sersync"));
    assert_eq!(
        options.known_hosts.as_deref(),
        Some("/etc/sersync/known hosts")
    );
    let shown: Vec<String> = remotes.iter().map(|r| r.target.to_string()).collect();
    assert_eq!(
        shown,
        [
            "ssh://root@10.0.0.41:2222/backup/data",
            "ssh://backup@10.0.0.42:2223/backup/it's $(mine)",
            "10.0.0.43::m",
            "rsync://other@10.0.0.44:874/m",
        ],
        "the port of the file is ssh's, so it is not that of the daemons"
    );
    assert_eq!(remotes[3].params.args(), ["-aH"]);
    let shown: Vec<String> = load("ssh-for-one.xml")
        .iter()
        .map(|remote| remote.target.to_string())
        .collect();
    assert_eq!(
        shown,
        ["rsync://10.0.0.41:874/backup", "root@10.0.0.42:/backup"]
    );
}

#[test]
fn a_crontab_has_a_period_or_a_calendar_and_the_patterns_of_its_pushes() {
    let load = |name: &str| {
        let file = fixtures().join("good").join(name);
        let crontab = Config::load(&file).expect(name).config.crontab;
        crontab.expect("it is on")
    };
    let every = load("crontab.xml");
    let ten_hours = Duration::from_secs(600 * 60);
    assert_eq!(every.schedule, Schedule::Every(ten_hours));
    assert_eq!(every.excludes, ["*.php", "/cache"]);
    let by_calendar = load("calendar.xml");
    assert!(matches!(by_calendar.schedule, Schedule::Calendar(_)));
    assert!(by_calendar.excludes.is_empty());
}

#[test]
fn plugins_are_started_beside_remotes_over_ssh() {
    let loaded = Config::load(&fixtures().join("good/ssh-and-plugins.xml")).expect("a good file");
    let config = &loaded.config;
    assert_eq!(
        config.mirrors[0].remotes[0].target.to_string(),
        "root@10.0.0.41:/backup"
    );
    assert_eq!(config.started_plugins.len(), 2);
    assert!(
        !format!("{config:?}").contains("\"p\""),
        "a password does not show in a log"
    );
}

#[test]
fn a_filter_is_compiled_for_every_mirror_and_knows_where_its_expressions_stand() {
    let loaded = Config::load(&fixtures().join("good/filter.xml")).expect("the file is valid");
    let config = loaded.config;
    let filter = config.filter.expect("it is on");
    let rules = [r"(.*)\.svn", "cache/"].map(|text| Rule::Expression(text.into()));
    assert_eq!(filter.rules, rules);
    let lines: Vec<usize> = filter
        .places
        .iter()
        .map(|place| place.position.line)
        .collect();
    assert_eq!(lines, [4, 5]);
    assert!(
        config
            .mirrors
            .iter()
            .all(|mirror| mirror.filter.as_ref() == Some(&filter.compiled))
    );
}

#[test]
fn check_says_of_a_path_whether_it_is_mirrored_and_which_rule_says_no() {
    let file = fixtures().join("good/filter.xml");
    for (path, status, expected) in [
        (
            "/data/a/b",
            0,
            "/data/a/b is mirrored to 10.0.0.41::backup\n",
        ),
        (
            "/data/a/.svn/x",
            1,
            "/data/a/.svn/x is not mirrored: the expression `(.*)\\.svn` at filter.xml:4:18 excludes /data/a/.svn\n",
        ),
        (
            "/data/cache/",
            1,
            "/data/cache is not mirrored: the expression `cache/` at filter.xml:5:18 excludes it\n",
        ),
        (
            "/data/cache",
            0,
            "/data/cache is mirrored to 10.0.0.41::backup\n",
        ),
        (
            "/elsewhere",
            1,
            "/elsewhere is not mirrored: it is in no source\n",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sersync"))
            .args(["check", "--path", path])
            .arg(&file)
            .output()
            .expect("the program starts");
        let stdout = String::from_utf8(output.stdout).expect("messages are UTF-8");
        assert_eq!(without_directory(&stdout, &file), expected);
        assert_eq!(output.status.code(), Some(status), "{path}");
    }
}

/// What `check --path` says in a file of its own, and its exit code.
fn said_of(path: &str, file: &Path) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_sersync"))
        .args(["check", "--path", path])
        .arg(file)
        .output()
        .expect("the program starts");
    let stdout = String::from_utf8(output.stdout).expect("messages are UTF-8");
    let code = output.status.code().expect("it exits");
    (without_directory(&stdout, file), code)
}

#[test]
fn check_names_the_pattern_and_the_line_of_a_file_of_patterns() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("patterns"), b"# build\n+ /keep.o\n*.o\r\n\n/out/\n").expect("a file");
    let xml = format!(
        r#"<head><filter start="true"><include pattern="*.php"/><exclude pattern="/www/*"/>
        <excludeFrom path="{}"/></filter><sersync><localpath watch="/data">
        <remote ip="h" name="m"/><remote ip="h" name="n" params="-a --exclude=/other"/></localpath></sersync></head>"#,
        at("patterns").display()
    );
    fs::write(at("f.xml"), xml).expect("a file");
    let not = |path: &str, rule: &str| (format!("{path} is not mirrored: the pattern {rule}\n"), 1);
    for (path, expected) in [
        ("/data/www/x", not("/data/www/x", "`/www/*` at f.xml:1:63 excludes it")),
        ("/data/a.o", not("/data/a.o", "`*.o` at patterns:3 excludes it")),
        ("/data/out/x", not("/data/out/x", "`/out/` at patterns:5 excludes /data/out")),
        (
            "/data/keep.o",
            ("/data/keep.o is mirrored to h::m\n/data/keep.o is mirrored to h::n\n".into(), 0),
        ),
        (
            "/data/other/x",
            (
                "/data/other/x is mirrored to h::m\n/data/other/x is not mirrored to h::n: the pattern `/other` in its `params` excludes /data/other\n".into(),
                0,
            ),
        ),
    ] {
        assert_eq!(said_of(path, &at("f.xml")), expected);
    }
    fs::write(at("patterns"), b"a\n[b\n").expect("a file");
    let error = Config::load(&at("f.xml"))
        .expect_err("a bad pattern")
        .to_string();
    assert!(
        error.contains("line 2 of") && error.contains("`[b`"),
        "{error}"
    );
    fs::remove_file(at("patterns")).expect("a file");
    let error = Config::load(&at("f.xml")).expect_err("no file").to_string();
    assert!(error.contains("failed to read"), "{error}");
}

#[test]
fn check_answers_for_every_source_that_holds_a_path() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("f.xml");
    let sources = r#"<head><filter start="true"><exclude pattern="/x"/></filter><sersync>
        <localpath watch="/data"><remote ip="a" name="m"/></localpath>
        <localpath watch="/data/www"><remote ip="b" name="m"/></localpath></sersync></head>"#;
    fs::write(&file, sources).expect("a file");
    for (path, lines, code) in [
        ("/data/y", &["/data/y is mirrored to a::m"][..], 0),
        (
            "/data/www/y",
            &[
                "/data/www/y is mirrored to a::m",
                "/data/www/y is mirrored to b::m",
            ],
            0,
        ),
        (
            "/data/www/x",
            &[
                "/data/www/x is mirrored to a::m",
                "/data/www/x is not mirrored from /data/www: the pattern `/x` at f.xml:1:37 excludes it",
            ],
            0,
        ),
        (
            "/data/x",
            &["/data/x is not mirrored: the pattern `/x` at f.xml:1:37 excludes it"],
            1,
        ),
    ] {
        assert_eq!(said_of(path, &file), (lines.join("\n") + "\n", code));
    }
    let xml = sources.replace(r#"pattern="/x""#, r#"pattern="z""#);
    fs::write(&file, xml).expect("a file");
    let (said, code) = said_of("/data/www/z", &file);
    assert_eq!((said.lines().count(), code), (2, 1), "{said}");
    for source in ["/data", "/data/www"] {
        let words = format!("is not mirrored from {source}: ");
        assert!(said.contains(&words), "{said}");
    }
}

#[test]
fn check_says_that_nothing_is_mirrored_through_a_link_unless_the_params_follow_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let source = at("source").display().to_string();
    fs::create_dir_all(at("source/real")).expect("our directory");
    fs::create_dir(at("elsewhere")).expect("our directory");
    fs::write(at("elsewhere/x"), "x").expect("our directory");
    symlink("../elsewhere", at("source/link")).expect("our directory");
    symlink("/nowhere", at("source/real/broken")).expect("our directory");
    let xml = format!(
        r#"<head><sersync><localpath watch="{source}"><remote ip="h" name="m"/>
        <remote ip="h" name="n" params="-aL"/></localpath></sersync></head>"#
    );
    fs::write(at("f.xml"), xml).expect("a file");
    // What is said is compared without the directory of the file.
    for (path, link) in [
        ("link/x", "link"),
        ("link/deep/not/there", "link"),
        ("real/broken/x", "real/broken"),
    ] {
        let expected = format!(
            "source/{path} is not mirrored to h::m: source/{link} is a symbolic link, and none is followed\n\
             source/{path} is mirrored to h::n\n"
        );
        let said = said_of(&format!("{source}/{path}"), &at("f.xml"));
        assert_eq!(said, (expected, 0));
    }
    // A link itself is an entry like others.
    for path in ["link", "real/broken", "real/x"] {
        let expected =
            format!("source/{path} is mirrored to h::m\nsource/{path} is mirrored to h::n\n");
        let said = said_of(&format!("{source}/{path}"), &at("f.xml"));
        assert_eq!(said, (expected, 0));
    }
    let xml = fs::read_to_string(at("f.xml")).expect("a file");
    fs::write(at("f.xml"), xml.replace("-aL", "-a")).expect("a file");
    let (said, code) = said_of(&format!("{source}/link/x"), &at("f.xml"));
    assert_eq!(code, 1, "{said}");
}

#[test]
fn check_says_that_the_name_of_the_backup_directory_is_not_mirrored() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("f.xml");
    for (dir, is_mirrored) in [(".replaced", false), ("/kept", true)] {
        let xml = format!(
            r#"<head><sersync><localpath watch="/data"><remote path="/copy"/></localpath>
            <rsync><backup start="true" dir="{dir}"/></rsync></sersync></head>"#
        );
        fs::write(&file, xml).expect("a file");
        for path in ["/data/.replaced", "/data/.replaced/x/y"] {
            let expected = if is_mirrored {
                (format!("{path} is mirrored to /copy\n"), 0)
            } else {
                let reason = "/data/.replaced has the name of its backup directory";
                (format!("{path} is not mirrored to /copy: {reason}\n"), 1)
            };
            assert_eq!(said_of(path, &file), expected);
        }
        let (said, code) = said_of("/data/x/.replaced", &file);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fifo = directory.path().join("fifo.xml");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo starts").success());
    for (file, reason) in [
        (fifo.as_path(), "it is no regular file"),
        (directory.path(), "it is a directory"),
        (Path::new("/dev/zero"), "it is no regular file"),
    ] {
        let error = Config::load(file).expect_err("no file").to_string();
        assert!(error.contains(reason), "{error}");
    }
}
