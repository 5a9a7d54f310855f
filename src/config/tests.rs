//! What no file can show. Whole files are in `tests/config.rs`.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[test]
fn a_file_that_cannot_be_read_is_a_problem_like_any_other() {
    let message = |path| Config::load(Path::new(path)).unwrap_err().to_string();
    let missing = message("/does/not/exist.xml");
    assert!(
        missing.starts_with("/does/not/exist.xml: error: failed to read the file: No such"),
        "{missing}"
    );
    assert!(message("/").contains("directory"));
    assert!(message("/dev/zero").contains("no regular file"));
    let log = tempfile::NamedTempFile::new().unwrap();
    log.as_file().set_len(MAX_FILE_BYTES + 1).unwrap();
    let error = Config::load(log.path()).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn a_damaged_file_is_reported_and_never_a_panic() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config");
    for kind in ["good", "bad"] {
        for entry in std::fs::read_dir(directory.join(kind)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for at in (0..bytes.len()).step_by(7) {
                let _ = Config::from_bytes(Path::new("f"), bytes[..at].to_vec());
                for replacement in [b'\0', b'"', b'<', b'/', 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] = replacement;
                    let _ = Config::from_bytes(Path::new("f"), damaged);
                }
            }
        }
    }
}

#[test]
fn a_deep_file_is_no_way_to_overflow_the_stack() {
    let deep = "<a>".repeat(200_000) + &"</a>".repeat(200_000);
    let file = format!("<head><sersync>{deep}</sersync></head>");
    let error = Config::from_bytes(Path::new("f"), file.into_bytes()).unwrap_err();
    assert!(error.to_string().contains("unknown element `a`"), "{error}");
}

#[test]
fn a_target_that_a_link_leads_into_a_source_or_a_target_is_refused() {
    let room = tempfile::tempdir().unwrap();
    let room = room.path().canonicalize().unwrap();
    let at = |name: &str| room.join(name).display().to_string();
    std::fs::create_dir_all(room.join("data/www")).unwrap();
    std::fs::create_dir_all(room.join("replica")).unwrap();
    for (link, end) in [("in", "data/www"), ("mirror", "replica"), ("to", "data")] {
        std::os::unix::fs::symlink(end, room.join(link)).unwrap();
    }
    let load = |source: &str, targets: &[&str]| {
        let remotes = targets.iter().map(|target| at(target));
        let remotes = remotes.map(|path| format!(r#"<remote path="{path}"/>"#));
        let remotes = remotes.collect::<Vec<_>>().concat();
        let source = at(source);
        let file = format!(
            r#"<head><sersync><localpath watch="{source}">{remotes}</localpath></sersync></head>"#
        );
        let loaded = Config::from_bytes(Path::new("f"), file.into_bytes());
        loaded
            .map(|_| ())
            .map_err(|error| error.to_string().replace(&at(""), ""))
    };
    for (source, targets, words) in [
        (
            "data",
            &["in/copy"][..],
            "the target `in/copy` (a link leads to `data/www/copy`) lies inside the source `data`:",
        ),
        (
            "to",
            &["data/copy"],
            "the target `data/copy` lies inside the source `to` (a link leads to `data`):",
        ),
        (
            "data",
            &["replica", "mirror/a"],
            "the target `mirror/a` (a link leads to `replica/a`) lies inside the target `replica`:",
        ),
    ] {
        let error = load(source, targets).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(load("to", &["mirror"]), Ok(()));
}

#[test]
fn a_quoted_word_is_short_and_on_one_line() {
    assert_eq!(quote("a\nb"), r"`a\x0ab`");
    assert!(quote(&"x".repeat(1000)).chars().count() < 90);
}

/// Values that mean something to rsync, ssh, a shell, XML or a terminal.
const HOSTILE: &[&str] = &[
    "",
    "-e sh",
    "--rsh=sh",
    "--rsync-path=sh -c x",
    "-oProxyCommand=sh",
    "host -oProxyCommand=sh",
    "/",
    "/data",
    "//data//x/",
    "/data/../etc",
    "../x",
    "x/../../y",
    "a\u{202e}b",
    "`x`",
    "$(x)",
    "a;b",
    "a b",
    "&#0;",
    "&#10;",
    "&lt;",
    "&bogus;",
    "m::n",
    "[::1]",
    "host:",
    "rsync://h/m",
    "-artuz",
    "-a --delete --server --daemon",
    "--files-from=/etc/shadow",
    "-avz --exclude-from /etc/shadow",
    "--password-file=-",
    "-aM--log-file=/x",
    "0",
    "-1",
    "65536",
    "18446744073709551616",
    "true",
    "(a+)+$",
    "(((((((((((a{99}){99}){99}){99}",
];

fn a_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(HOSTILE).prop_map(str::to_owned),
        1 => proptest::collection::vec(select(HOSTILE), 1..3).prop_map(|values| values.concat()),
        1 => "[^<&\"]{0,20}",
    ]
}

proptest! {
    #[test]
    fn whatever_values_a_file_holds_what_is_taken_can_do_no_harm(values in proptest::collection::vec(a_value(), 11)) {
        let [watch, ip, name, path, params, user, password, port, time, exclude, log] = &values[..] else { unreachable!() };
        let xml = format!(
            r#"<head><filter start="true"><exclude expression="{exclude}"/></filter><sersync>
            <localpath watch="{watch}"><remote ip="{ip}" name="{name}"/><remote path="{path}"/></localpath>
            <rsync><commonParams params="{params}"/><auth start="true" users="{user}" passwordfile="{password}"/>
            <userDefinedPort start="true" port="{port}"/><timeout start="true" time="{time}"/></rsync>
            <failLog path="{log}" timeToExecute="{time}"/></sersync></head>"#
        );
        let Ok(loaded) = Config::from_bytes(Path::new("f"), xml.into_bytes()) else {
            return Ok(());
        };
        for mirror in &loaded.config.mirrors {
            prop_assert!(mirror.source.is_absolute());
            for remote in &mirror.remotes {
                let args = remote.params.args().iter().map(|arg| arg.to_string_lossy());
                for arg in args {
                    for refused in ["--rsh", "-e", "--rsync-path", "--server", "--daemon", "--files-from", "--password-file"] {
                        prop_assert!(!arg.starts_with(refused), "{}", arg);
                    }
                }
                match &remote.target {
                    Target::Daemon { host, module, user, .. } => {
                        prop_assert!(!host.starts_with('-') && !host.contains(['/', ' ', '`', '$', ';']), "{}", host);
                        prop_assert!(!module.split('/').any(|part| part == ".."), "{}", module);
                        prop_assert!(user.as_ref().is_none_or(|user| !user.starts_with('-')), "{:?}", user);
                    }
                    Target::Local { path } | Target::Ssh { path, .. } => prop_assert!(path.is_absolute()),
                }
            }
        }
        prop_assert!(loaded.config.fail_log_path.is_none_or(|path| path.is_absolute()));
    }
}
