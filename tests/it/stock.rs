//! The stock `confxml.xml` of 2.5.4 (`tests/fixtures/config/good/stock.xml`), with paths, addresses and ports of the test:
//! as it stands, and with every switch on. What each of its elements does is shown by:
//!
//! | element | test |
//! |---|---|
//! | `host` | here: nobody listens there |
//! | `debug` | here: the log at either value |
//! | `fileSystem` | here: either value mirrors the same; `bad`/`good` fixtures of `tests/config.rs` for its words |
//! | `filter`, `exclude` | here; `filters.rs`, `patterns.rs` |
//! | `inotify`, each of the eight | here; `switches.rs` |
//! | `localpath`, `remote` | here; `first_push.rs` for several, `overrides.rs` for what a remote has of its own |
//! | `commonParams` | here: the options of the children; `changes.rs`, `patterns.rs` for what they do |
//! | `auth` | here; `errors.rs` for what can be wrong with it |
//! | `userDefinedPort` | here: the daemon listens there and nowhere else; `ssh.rs` for that of ssh |
//! | `timeout` | here: a receiver that stands still is given up by then |
//! | `ssh` | here: the switch alone makes the difference; `ssh.rs` for all else |
//! | `failLog path` | here: a record of what failed is written there; `fail_log.rs` for what it says; `timeToExecute`: here, by the time of the next try |
//! | `crontab`, `crontabfilter` | here by the minute; `crontab.rs`, `patterns.rs` |
//! | `plugin start`, `command` with `filter` | here; `plugins.rs` |
//! | `socket`, `http`, `refreshCDN` | here; `plugins.rs` |
//! | `crontab` beside a plugin | here: what it mends is told nobody |

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::bus::Bus;
use crate::harness::{KEEP, Mirror, SOON, stays, wait_until};
use crate::isolation::Immutable;
use crate::plugins::{Listener, OK};
use crate::rsync_daemon::{Module, RsyncDaemon, free_port, listens, write_private};
use crate::sersync::Sersync;
use crate::sshd::Sshd;

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(600);
/// A file that stays open is sent after two seconds even if no switch wants it at once.
const BEFORE_THAT: Duration = Duration::from_millis(1_800);
/// A `schedule` of one minute, and what it does then.
const A_MINUTE_AND_MORE: Duration = Duration::from_secs(90);
/// The stock file leaves the daemon's own port, which can be had only at an address of the test's own.
fn address() -> Ipv4Addr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, 83, high, low)
}
const RSYNC_PORT: u16 = 873;

/// A source, a replica, and the stock file for them.
struct Stock {
    // The process is dropped first, the trees last.
    sersync: Option<Sersync>,
    daemon: Option<RsyncDaemon>,
    xml: String,
    temp: TempDir,
}

impl Stock {
    fn prepare() -> io::Result<Self> {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/good/stock.xml");
        let temp = TempDir::with_prefix("sersync-stock-")?;
        for name in ["source", "replica", "state"] {
            fs::create_dir(temp.path().join(name))?;
        }
        fs::write(temp.path().join("source").join(KEEP), "kept\n")?;
        let mut stock = Self {
            sersync: None,
            daemon: None,
            xml: fs::read_to_string(file)?,
            temp,
        };
        for (theirs, ours) in [
            ("/srv/data", "source"),
            ("/srv/www/site/", "source/site/"),
            ("/etc/rsync.pas", "password"),
            ("/tmp/rsync_fail_log.sh", "rsync_fail_log.sh"),
        ] {
            let ours = stock.at(ours).display().to_string();
            stock.put(theirs, &ours);
        }
        Ok(stock)
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    fn source(&self, name: &str) -> PathBuf {
        self.at("source").join(name)
    }

    fn replica(&self, name: &str) -> PathBuf {
        self.at("replica").join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.replica(name).symlink_metadata().is_ok()
    }

    /// Puts something into the place of a part of the file, wherever it is.
    #[track_caller]
    fn put(&mut self, old: &str, new: &str) {
        assert!(self.xml.contains(old), "there is no {old} in the file");
        self.xml = self.xml.replace(old, new);
    }

    fn run(&mut self, more: &[&str]) -> io::Result<()> {
        fs::write(self.at("confxml.xml"), &self.xml)?;
        let (file, state, log) = (self.at("confxml.xml"), self.at("state"), self.at("log"));
        self.sersync = Some(Sersync::run(&file, &state, &log, more)?);
        Ok(())
    }

    fn sersync(&mut self) -> &mut Sersync {
        self.sersync.as_mut().expect("sersync runs")
    }

    fn log(&self) -> String {
        crate::sersync::read_log(&self.at("log"))
    }

    #[track_caller]
    fn comes(&self, name: &str) {
        wait_until(SOON, &format!("{name} arrives"), || self.has(name));
    }

    #[track_caller]
    fn goes(&self, name: &str) {
        wait_until(SOON, &format!("{name} goes"), || !self.has(name));
    }

    /// The arguments of the rsync that waits for the next batch.
    fn arguments_of_a_child(&mut self) -> Vec<String> {
        let mut arguments = Vec::new();
        wait_until(SOON, "an rsync waits for the next batch", || {
            let children = self.sersync().rsync_children();
            let line = children.first().and_then(|child| {
                fs::read(format!("/proc/{}/cmdline", child.as_raw_nonzero())).ok()
            });
            let line = line.unwrap_or_default();
            let words = line.split(|byte| *byte == 0);
            arguments = words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            arguments.iter().any(|word| word == "--files-from=-")
        });
        arguments
    }

    #[track_caller]
    fn stop(&mut self) {
        self.sersync.take().expect("sersync runs").stop();
    }
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

#[test]
fn the_stock_file_runs_as_it_is() -> io::Result<()> {
    if !geteuid().is_root() {
        eprintln!("NOT TESTED: only root can listen on port {RSYNC_PORT}");
        return Ok(());
    }
    let mut stock = Stock::prepare()?;
    let module = Module::new("data1", &stock.replica(""));
    let mut daemon = RsyncDaemon::prepare_at(address(), RSYNC_PORT, &[module])?;
    daemon.start()?;
    stock.daemon = Some(daemon);
    stock.put("192.0.2.41", &address().to_string());
    fs::write(stock.source("before"), "there before")?;
    fs::write(stock.source("a.gz"), "the filter is off")?;
    fs::create_dir(stock.source("info"))?;
    let somebody_listens = listens(Ipv4Addr::LOCALHOST, 8008);
    stock.run(&[])?;

    // The push at the start, with a filter that is off.
    for name in ["before", "a.gz", "info"] {
        stock.comes(name);
    }
    // createFolder, closeWrite, moveTo and moveFrom, delete; and what is made and never closed.
    fs::create_dir(stock.source("empty"))?;
    fs::write(stock.source("x.svn"), "written")?;
    symlink("before", stock.source("link"))?;
    for name in ["empty", "x.svn", "link"] {
        stock.comes(name);
    }
    fs::rename(stock.source("x.svn"), stock.source("renamed"))?;
    stock.comes("renamed");
    stock.goes("x.svn");
    fs::remove_dir(stock.source("empty"))?;
    stock.goes("empty");
    // A mirror carries what is older than the receiver's, too: `-u` is left out, and `-z` is not.
    let restored = stock.at("restored");
    fs::write(&restored, "an old one")?;
    File::options()
        .write(true)
        .open(&restored)?
        .set_modified(long_ago())?;
    fs::rename(&restored, stock.source("before"))?;
    wait_until(SOON, "the older file arrives", || {
        fs::read(stock.replica("before")).is_ok_and(|text| text == b"an old one")
    });
    let arguments = stock.arguments_of_a_child();
    assert!(arguments.iter().any(|word| word == "-atz"), "{arguments:?}");
    assert!(
        !arguments
            .iter()
            .any(|word| word.starts_with("--password-file"))
    );
    // attrib and modify are off.
    fs::set_permissions(stock.source("renamed"), Permissions::from_mode(0o600))?;
    let mut open = File::options().append(true).open(stock.source("renamed"))?;
    open.write_all(b", and more")?;
    stays(A_WHILE, "modes and what is not closed wait", || {
        let shown = stock.replica("renamed").metadata();
        shown.is_ok_and(|shown| shown.len() == 7 && shown.permissions().mode() & 0o777 != 0o600)
    });
    drop(open);
    wait_until(SOON, "the closed file arrives", || {
        fs::read(stock.replica("renamed")).is_ok_and(|text| text == b"written, and more")
    });
    // host, debug, failLog, and nothing of a plugin.
    assert_eq!(listens(Ipv4Addr::LOCALHOST, 8008), somebody_listens);
    assert!(!stock.at("rsync_fail_log.sh").exists());
    let log = stock.log();
    assert!(!log.lines().any(|line| line.starts_with("<7>")), "{log}");
    assert!(
        log.contains("`-u`") && !log.contains("has no effect"),
        "{log}"
    );
    assert!(!log.contains("plugin command"));
    stock.stop();
    Ok(())
}

/// The stock file with every switch on but that of ssh, which is another way altogether.
fn all_on(stock: &mut Stock, plugins: [&Listener; 3]) -> io::Result<()> {
    let port = free_port();
    let module = Module::new("data1", &stock.replica("")).secret("root", "the word");
    let mut daemon = RsyncDaemon::prepare_at(Ipv4Addr::LOCALHOST, port, &[module])?;
    daemon.start()?;
    stock.daemon = Some(daemon);
    write_private(&stock.at("password"), "the word\n")?;
    let [socket, http, cdn] = plugins.map(|listener| listener.port.to_string());
    stock.put("start=\"false\"", "start=\"true\"");
    stock.put("<ssh start=\"true\"/>", "<ssh start=\"false\"/>");
    stock.put("xfs=\"false\"", "xfs=\"true\"");
    stock.put("ip=\"192.0.2.41\"", "ip=\"127.0.0.1\"");
    stock.put("port=\"874\"", &format!("port=\"{port}\""));
    stock.put(
        "ip=\"192.0.2.50\" port=\"8009\"",
        &format!("ip=\"127.0.0.1\" port=\"{socket}\""),
    );
    stock.put(
        "http://192.0.2.51/changed\" port=\"80\"",
        &format!("http://127.0.0.1/changed\" port=\"{http}\""),
    );
    stock.put(
        "\"cdn.example.com\" port=\"80\"",
        &format!("\"127.0.0.1\" port=\"{cdn}\""),
    );
    // One of them is named in the file; all are defined.
    let started = "<plugin start=\"true\" name=\"command\"/>";
    let others = ["socket", "http", "refreshCDN"].map(|name| started.replace("command", name));
    stock.put(started, &format!("{started}{}", others.concat()));
    // Ten hours are too long for a test.
    stock.put("schedule=\"600\"", "schedule=\"1\"");
    stock.put("timeToExecute=\"60\"", "timeToExecute=\"1\"");
    Ok(())
}

#[test]
fn with_every_switch_on_each_element_shows_its_effect() -> io::Result<()> {
    let mut stock = Stock::prepare()?;
    let socket = Listener::raw()?;
    let http = Listener::http(OK)?;
    let cdn = Listener::http("HTTP/1.0 200 OK\r\nwhatsup: content=\"succeed\"\r\n\r\n")?;
    all_on(&mut stock, [&socket, &http, &cdn])?;
    for name in ["plain", "a.php", "old.gz", "d/info/x", "info/x", "static/x"] {
        let file = stock.source(name);
        fs::create_dir_all(file.parent().expect("it has one"))?;
        fs::write(file, "as it was\n")?;
    }
    fs::create_dir(stock.source("site"))?;
    fs::write(stock.replica("theirs.gz"), "excluded, so it stays")?;
    stock.run(&[])?;

    // filter: in the push at the start, which the original left out with a filter.
    for name in ["plain", "a.php", "d/info/x"] {
        stock.comes(name);
    }
    shows_rsync(&mut stock);
    shows_inotify(&stock)?;
    // filter: on events, renamed into it and out of it.
    fs::rename(stock.source("old.gz"), stock.source("old"))?;
    stock.comes("old");
    fs::write(stock.source("new.gz"), "excluded")?;
    fs::write(stock.source("static/new"), "excluded")?;
    shows_plugins(&stock, [&socket, &http, &cdn])?;
    // debug, fileSystem, failLog, host.
    let log = stock.log();
    assert!(
        log.lines().any(|line| line.starts_with("<7>")),
        "debug is on: {log}"
    );
    assert!(log.contains("`xfs` has no effect"), "{log}");
    assert!(!log.contains("the word"), "the password is in the log");
    shows_crontab(&stock, &socket)?;
    // What was excluded all along never came, and what was there stayed.
    for name in ["old.gz", "new.gz", "info", "static"] {
        assert!(!stock.has(name), "{name}");
    }
    assert!(stock.has("theirs.gz") && !stock.at("rsync_fail_log.sh").exists());
    stock.stop();
    Ok(())
}

/// userDefinedPort, auth, commonParams, timeout: what the waiting child was told, who got in by that.
#[track_caller]
fn shows_rsync(stock: &mut Stock) {
    let arguments = stock.arguments_of_a_child();
    let port = stock
        .daemon
        .as_ref()
        .map(RsyncDaemon::port)
        .expect("it runs");
    for word in [
        "-atz".to_owned(),
        format!("--port={port}"),
        format!("--password-file={}", stock.at("password").display()),
        "--timeout=100".to_owned(),
        "root@127.0.0.1::data1/".to_owned(),
    ] {
        assert!(arguments.contains(&word), "{word} in {arguments:?}");
    }
}

/// createFile, modify, attrib.
fn shows_inotify(stock: &Stock) -> io::Result<()> {
    // A file is followed while it is held open: one of some, since the machine may be busy.
    let mut is_followed = false;
    for name in ["open", "open 2", "open 3", "open 4", "open 5"] {
        let mut open = File::create(stock.source(name))?;
        let made = wait_until(SOON, "a new file arrives", || stock.has(name));
        open.write_all(b"more")?;
        let written = wait_until(SOON, "what is written arrives", || {
            fs::read(stock.replica(name)).is_ok_and(|text| text == b"more")
        });
        println!("before its close: {made:?}, {written:?}");
        is_followed = made.max(written) < BEFORE_THAT;
        if is_followed {
            break;
        }
    }
    assert!(is_followed, "a file is sent when it is closed");
    fs::set_permissions(stock.source("plain"), Permissions::from_mode(0o640))?;
    wait_until(SOON, "a mode follows", || {
        let shown = stock.replica("plain").metadata();
        shown.is_ok_and(|shown| shown.permissions().mode() & 0o777 == 0o640)
    });
    Ok(())
}

/// The plugins are told when the remote has it; command runs what it is told of, by its include.
fn shows_plugins(stock: &Stock, [socket, http, cdn]: [&Listener; 3]) -> io::Result<()> {
    let ran = stock.at("ran");
    let script = stock.source("site/hello.sh");
    fs::write(&script, format!("echo \"$0\" >> '{}'\n", ran.display()))?;
    wait_until(SOON, "the command runs", || {
        fs::read_to_string(&ran).is_ok_and(|ran| ran.contains("hello.sh"))
    });
    let path = script.display().to_string();
    socket.hears(&path);
    http.hears(&format!("&isdir=0&inotifyPath={path}&mask=8"));
    cdn.hears("HEAD /index.jsp?user=xxxx&pswd=xxxx&ok=ok&urls=http://pictures.example.com/cms/hello.sh HTTP/1.0");
    for listener in [socket, http, cdn] {
        let heard = listener.heard().concat();
        assert!(
            !heard.contains(".gz") && !heard.contains("static"),
            "{heard}"
        );
    }
    Ok(())
}

/// crontab and crontabfilter: by the minute, what somebody changed is mended but for what these exclude.
fn shows_crontab(stock: &Stock, socket: &Listener) -> io::Result<()> {
    let plain = stock.source("plain").display().to_string();
    let told_of_plain = || {
        socket
            .heard()
            .iter()
            .filter(|heard| **heard == plain)
            .count()
    };
    let told = told_of_plain();
    for name in ["plain", "a.php", "d/info/x"] {
        fs::write(stock.replica(name), "changed behind our back\n")?;
    }
    fs::write(stock.replica("stray"), "made behind our back")?;
    wait_until(A_MINUTE_AND_MORE, "the push by the clock mends it", || {
        fs::read(stock.replica("plain")).is_ok_and(|text| text == b"as it was\n")
            && !stock.has("stray")
    });
    stays(A_WHILE, "what the crontabfilter excludes is left", || {
        let is_theirs =
            |name| fs::read(stock.replica(name)).is_ok_and(|text| text.starts_with(b"changed"));
        is_theirs("a.php") && is_theirs("d/info/x")
    });
    assert_eq!(
        told_of_plain(),
        told,
        "what a push by the clock mends is told nobody"
    );
    Ok(())
}

#[test]
fn a_receiver_that_stands_still_is_given_up_after_the_timeout() -> io::Result<()> {
    let mut stock = Stock::prepare()?;
    let port = free_port();
    let module = Module::new("data1", &stock.replica(""));
    let mut daemon = RsyncDaemon::prepare_at(Ipv4Addr::LOCALHOST, port, &[module])?;
    daemon.start()?;
    stock.put("ip=\"192.0.2.41\"", "ip=\"127.0.0.1\"");
    stock.put(
        "start=\"false\" port=\"874\"",
        &format!("start=\"true\" port=\"{port}\""),
    );
    stock.put("start=\"false\" time=\"100\"", "start=\"true\" time=\"2\"");
    stock.run(&[])?;
    stock.comes(KEEP);
    daemon.freeze();
    fs::write(stock.source("new"), "new")?;
    stock.sersync().wait_for_problem(&["unreachable"]);
    daemon.thaw();
    wait_until(
        crate::harness::AFTER_BACK_OFF,
        "it arrives after all",
        || stock.has("new"),
    );
    stock.stop();
    Ok(())
}

/// Without it an older file arrives, see above.
#[test]
fn with_keep_update_a_file_that_is_newer_at_the_receiver_stays() -> io::Result<()> {
    let mut stock = Stock::prepare()?;
    let replica = stock.replica("");
    stock.put(
        "<remote ip=\"192.0.2.41\" name=\"data1\"/>",
        &format!("<remote path=\"{}\"/>", replica.display()),
    );
    stock.put("params=\"-artuz\"", "params=\"-artuz\" keepUpdate=\"true\"");
    let old = stock.source("old");
    fs::write(&old, "an old one")?;
    File::options()
        .write(true)
        .open(&old)?
        .set_modified(long_ago())?;
    fs::write(stock.replica("old"), "a newer one")?;
    stock.run(&[])?;
    stock.comes(KEEP);
    fs::set_permissions(&old, Permissions::from_mode(0o600))?;
    fs::rename(&old, stock.source("moved"))?;
    fs::rename(stock.source("moved"), &old)?;
    fs::write(stock.source("later"), "later")?;
    stock.comes("later");
    stays(A_WHILE, "the newer one stays", || {
        fs::read(stock.replica("old")).is_ok_and(|text| text == b"a newer one")
    });
    stock.stop();
    Ok(())
}

#[test]
fn what_failed_is_tried_again_within_the_time_of_the_fail_log() -> io::Result<()> {
    const A_MINUTE: u128 = 60_000_000;
    let bus = Bus::start()?;
    let mut mirror = Mirror::prepare()?;
    let fail_log = mirror.at("rsync_fail_log.sh");
    mirror.config.more = format!(
        "<failLog path=\"{}\" timeToExecute=\"1\"/>",
        fail_log.display()
    );
    fs::create_dir(mirror.source("locked"))?;
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    let Some(locked) = Immutable::make(mirror.replica("locked")) else {
        return Ok(());
    };
    fs::write(mirror.source("locked/new"), "cannot be made")?;
    let failed = || {
        let said = bus.ask(&["failed", "--json"]).ok()?;
        let answer: serde_json::Value = serde_json::from_str(&said.out).ok()?;
        let first = answer["failed"].get(0)?.clone();
        Some((
            first["attempts"].as_u64()?,
            first["next_try_usec"].as_u64()?,
        ))
    };
    wait_until(SOON, "it is listed", || failed().is_some());
    mirror.stop();
    // As if it had failed for hours: the next wait would be half a year without the bound.
    for state in fs::read_dir(mirror.at("state"))? {
        let state = state?.path();
        let text = fs::read_to_string(&state)?;
        let attempts = |line: &str| {
            let (before, rest) = line.split_once("\"attempts\":").unwrap_or((line, ""));
            let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if rest.is_empty() {
                line.to_owned()
            } else {
                format!("{before}\"attempts\":24{rest}")
            }
        };
        let lines: Vec<String> = text.lines().map(attempts).collect();
        fs::write(&state, lines.join("\n") + "\n")?;
    }
    mirror.run_with(&["--bus", &bus.address(), "--initial", "no"])?;
    let mut next = 0;
    wait_until(SOON, "it has failed once more", || {
        failed().is_some_and(|(attempts, at)| {
            next = at;
            attempts > 24
        })
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970").as_micros();
    let wait = u128::from(next).saturating_sub(now);
    assert!((A_MINUTE / 2..=A_MINUTE).contains(&wait), "{wait} µs");
    assert!(fail_log.exists(), "what failed is written there");
    drop(locked);
    assert_eq!(bus.ask(&["retry"])?.code, 0);
    mirror.finish()
}

#[test]
fn the_switch_of_ssh_alone_sends_the_same_file_another_way() -> io::Result<()> {
    let Some(sshd) = Sshd::start()? else {
        return Ok(());
    };
    let mut stock = Stock::prepare()?;
    let replica = stock.replica("").display().to_string();
    stock.put(
        "ip=\"192.0.2.41\" name=\"data1\"",
        &format!("ip=\"127.0.0.1\" name=\"{replica}\""),
    );
    let on = format!(
        "<ssh start=\"true\" identity=\"{}\" knownHosts=\"{}\"/>",
        sshd.identity().display(),
        sshd.known_hosts().display()
    );
    stock.put("<ssh start=\"false\"/>", &on);
    stock.put(
        "start=\"false\" port=\"874\"",
        &format!("start=\"true\" port=\"{}\"", sshd.port()),
    );
    stock.run(&[])?;
    stock.comes(KEEP);
    fs::write(stock.source("new"), "new")?;
    stock.comes("new");
    assert_eq!(sshd.log_ins(), 1, "one log-in for all runs");
    stock.stop();
    Ok(())
}

#[test]
fn what_a_push_by_the_clock_mends_is_told_nobody_and_what_changes_meanwhile_is() -> io::Result<()> {
    let listener = Listener::raw()?;
    let mut mirror = Mirror::prepare()?;
    let definition = format!(
        "<localpath watch=\"{}\"><deshost ip=\"127.0.0.1\" port=\"{}\"/></localpath>",
        mirror.at("source").display(),
        listener.port
    );
    mirror.config.plugins = vec![("socket", definition)];
    mirror.config.more = "<crontab start=\"true\" calendar=\"*:*:*\"/>".into();
    fs::write(mirror.source("a"), "as it was\n")?;
    mirror.run()?;
    mirror.in_sync();
    for round in 0..3 {
        fs::write(mirror.replica("a"), "changed behind our back\n")?;
        mirror.in_sync();
        let name = format!("new {round}");
        fs::write(mirror.source(&name), "new")?;
        listener.hears(&mirror.source(&name).display().to_string());
    }
    let mended = mirror.source("a").display().to_string();
    assert!(
        !listener.heard().contains(&mended),
        "{:?}",
        listener.heard()
    );
    mirror.finish()
}
