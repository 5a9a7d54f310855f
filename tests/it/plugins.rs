//! Plugins: each tells what it is to tell, of every name there is, and holds no file up.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::bus::Bus;
use crate::confxml::Remote;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, stays, wait_until};
use crate::rsync_daemon::free_port;

/// What is told over the network has ten seconds; whoever waited for it would take longer than this.
const A_NETWORK_HAS: Duration = Duration::from_secs(9);
/// Names that would do harm in a shell, a form, a URL or a list of lines.
const NAMES: [&str; 8] = [
    "plain.txt",
    "two words",
    "it's \"quoted\"",
    "$(touch hacked)",
    "`touch hacked`; touch hacked",
    "a&isdir=1?x=%41#b",
    "-rf",
    "Löwe\nzahn",
];

/// A server of one answer: it hears what comes over each connection and says `answer`.
pub struct Listener {
    pub port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Listener {
    /// Hears everything until the other end closes.
    pub fn raw() -> io::Result<Self> {
        Self::start(
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            |mut stream| {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).ok()?;
                Some(heard)
            },
        )
    }

    /// Hears HTTP requests.
    pub fn http(answer: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Self::http_on(listener, answer)
    }

    fn http_on(listener: TcpListener, answer: &'static str) -> io::Result<Self> {
        Self::start(listener, move |stream| {
            let request = read_request(&stream)?;
            let mut stream = stream;
            stream.write_all(answer.as_bytes()).ok()?;
            Some(request)
        })
    }

    fn start(
        listener: TcpListener,
        hear: impl Fn(TcpStream) -> Option<Vec<u8>> + Send + 'static,
    ) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        // It ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(new) = hear(stream) {
                    all.lock().expect("no test panics in it").push(new);
                }
            }
        });
        Ok(Self { port, heard })
    }

    pub fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("no test panics in it");
        let texts = heard
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        texts.collect()
    }

    #[track_caller]
    pub fn hears(&self, what: &str) {
        wait_until(
            SOON,
            &format!("{what:?} is heard, and not only {:?}", self.heard()),
            || self.heard().iter().any(|heard| heard.contains(what)),
        );
    }
}

/// The head of a request and its body.
fn read_request(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        request.extend_from_slice(line.as_bytes());
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.extend(body);
    Some(request)
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A program that appends to the file `out` beside it what `write` writes.
fn script(mirror: &Mirror, name: &str, write: &str) -> io::Result<PathBuf> {
    let path = mirror.outside(name);
    let out = mirror.outside("out");
    fs::write(
        &path,
        format!("#!/bin/sh\nexec >> '{}'\n{write}\n", out.display()),
    )?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What the scripts have written, as a list that NULs divide.
fn written(mirror: &Mirror) -> Vec<String> {
    let text = fs::read(mirror.outside("out")).unwrap_or_default();
    let parts = text.split(|byte| *byte == 0);
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// Waits until the scripts have written this.
#[track_caller]
fn is_written(mirror: &Mirror, what: &str) {
    wait_until(
        SOON,
        &format!("{what:?} is written, not only {:?}", written(mirror)),
        || written(mirror).iter().any(|line| line == what),
    );
}

fn command(program: &Path, attributes: &str, filter: &str) -> (&'static str, String) {
    let program = program.display();
    (
        "command",
        format!("<param prefix=\"{program}\" {attributes}/>{filter}"),
    )
}

fn running(plugins: Vec<(&'static str, String)>, mut mirror: Mirror) -> io::Result<Mirror> {
    mirror.config.plugins = plugins;
    mirror.run()?;
    mirror.in_sync();
    Ok(mirror)
}

/// Has files written, each of which must be sent at once.
fn delays_no_file(mirror: &mut Mirror) -> io::Result<()> {
    for number in 0..50 {
        fs::write(mirror.source(format!("file {number}")), format!("{number}"))?;
        let took = mirror.in_sync();
        assert!(took < A_NETWORK_HAS, "{took:?}");
    }
    Ok(())
}

fn port_definition(element: &str, watch: &Path, hosts: &str) -> (&'static str, String) {
    let name = if element == "socket" {
        "socket"
    } else {
        "http"
    };
    let watch = watch.display();
    (
        name,
        format!("<localpath watch=\"{watch}\">{hosts}</localpath>"),
    )
}

#[test]
fn a_command_gets_each_path_as_one_argument_and_no_shell_sees_it() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    // In one piece, since several may run at once.
    let program = script(&mirror, "notify", r#"printf '%s|%s|%s|\0' "$@""#)?;
    let plugin = command(
        &program,
        "suffix=\"'behind it' -x\" ignoreError=\"false\"",
        "",
    );
    let mirror = running(vec![plugin], mirror)?;
    for name in NAMES {
        fs::write(mirror.source(name), name)?;
    }
    for name in NAMES {
        is_written(
            &mirror,
            &format!("{}|behind it|-x|", mirror.source(name).display()),
        );
    }
    let prefix = mirror.at("").display().to_string();
    assert!(
        written(&mirror)
            .iter()
            .all(|line| line.starts_with(&prefix)),
        "the path comes first"
    );
    assert!(!mirror.source("hacked").exists() && !Path::new("hacked").exists());
    assert!(
        !mirror.log().contains("the plugin command"),
        "nothing failed"
    );
    mirror.finish()
}

#[test]
fn a_command_runs_for_what_its_includes_match_and_for_what_is_deleted() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    let filter = "<filter start=\"true\"><include expression=\"(.*)\\.php\"/><include expression=\".*/conf/.*\"/></filter>";
    let mirror = running(vec![command(&program, "suffix=\"\"", filter)], mirror)?;
    fs::create_dir(mirror.source("conf"))?;
    let (wanted, other) = (["a.php", "conf/x"], ["b.php.bak", "c"]);
    for name in other.into_iter().chain(wanted) {
        fs::write(mirror.source(name), "new")?;
    }
    let path = |name: &str| mirror.source(name).display().to_string();
    for name in wanted {
        is_written(&mirror, &path(name));
    }
    let before = written(&mirror).len();
    fs::remove_file(mirror.source("a.php"))?;
    wait_until(SOON, "the command runs for what is deleted", || {
        let all = written(&mirror);
        all[before..].contains(&path("a.php")) && !mirror.replica("a.php").exists()
    });
    for name in other {
        assert!(!written(&mirror).contains(&path(name)), "{name}");
    }
    mirror.finish()
}

#[test]
fn a_command_can_have_a_batch_on_its_standard_input() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let program = script(&mirror, "notify", r#"cat; printf 'run %s\0' "$*""#)?;
    let plugin = command(&program, "suffix=\"last\" mode=\"batch\"", "");
    let mirror = running(vec![plugin], mirror)?;
    fs::create_dir(mirror.outside("many"))?;
    for number in 0..300 {
        fs::write(mirror.outside(format!("many/{number} $(x)")), "")?;
    }
    fs::rename(mirror.outside("many"), mirror.source("many"))?;
    for number in 0..300 {
        let path = mirror.source(format!("many/{number} $(x)"));
        is_written(&mirror, &path.display().to_string());
    }
    is_written(&mirror, "run last");
    let runs = written(&mirror)
        .iter()
        .filter(|line| *line == "run last")
        .count();
    assert!(runs < 30, "{runs} runs for 300 files");
    mirror.finish()
}

#[test]
fn the_first_push_and_a_comparison_tell_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.source("before"), "old")?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("after"), "new")?;
    is_written(&mirror, &mirror.source("after").display().to_string());
    let told = written(&mirror);
    assert_eq!(told, [mirror.source("after").display().to_string()]);
    mirror.finish()
}

#[test]
fn a_failure_is_in_the_journal_and_in_a_counter_unless_it_is_to_be_ignored() -> io::Result<()> {
    for is_ignored in [false, true] {
        fails(is_ignored)?;
    }
    Ok(())
}

fn fails(is_ignored: bool) -> io::Result<()> {
    let bus = Bus::start()?;
    let mut mirror = Mirror::prepare()?;
    let write = "printf 'ran\\0'; echo 'no such cache' >&2; exit 3";
    let program = script(&mirror, "notify", write)?;
    let ignore_error = format!("ignoreError=\"{is_ignored}\"");
    mirror.config.plugins = vec![command(&program, &ignore_error, "")];
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    fs::write(mirror.source("a b"), "new")?;
    is_written(&mirror, "ran");
    let failures = || {
        let output = Command::new("busctl")
            .arg(format!("--address={}", bus.address()))
            .args(["get-property", "org.sersync1.confxml", "/org/sersync1"])
            .args(["org.sersync1.Manager", "PluginFailures"])
            .output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if is_ignored {
        let is_silent = || {
            !mirror.log().contains("plugin command") && failures().is_ok_and(|said| said == "t 0")
        };
        stays(Duration::from_secs(1), "nothing is said of it", is_silent);
        return mirror.finish();
    }
    let words = ["plugin command", "a b", "no such cache", "exit"];
    let said = mirror.sersync().wait_for_problem(&words);
    assert!(said.contains('3'), "{said}");
    wait_until(SOON, "the failure is counted", || {
        failures().is_ok_and(|said| said == "t 1")
    });
    mirror.finish()
}

#[test]
fn a_command_that_hangs_delays_no_file_and_ends_with_the_service() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let program = script(
        &mirror,
        "hang",
        r#"printf 'begun\0'; sh -c 'sleep 1000; :' "$0""#,
    )?;
    let mut mirror = running(vec![command(&program, "", "")], mirror)?;
    fs::write(mirror.source("first"), "")?;
    is_written(&mirror, "begun");
    delays_no_file(&mut mirror)?;
    mirror.stop();
    let hanging = mirror.outside("hang").display().to_string();
    wait_until(SOON, "the hanging command is gone", || {
        !is_running(&hanging)
    });
    Ok(())
}

#[test]
fn what_a_command_leaves_in_the_background_is_left_alone_and_waited_for_by_nobody() -> io::Result<()>
{
    let mirror = Mirror::prepare()?;
    let behind = "(sleep 2; echo 'much later' >&2; printf 'behind %s\\0' \"$1\"; exec sleep 90) &";
    let program = script(
        &mirror,
        "notify",
        &format!("{behind}\nprintf 'over %s\\0' \"$1\""),
    )?;
    let plugin = command(&program, "ignoreError=\"false\"", "");
    let mirror = running(vec![plugin], mirror)?;
    // More than run at once.
    let paths = ["a", "b", "c", "d", "e", "f"].map(|name| mirror.source(name));
    for path in &paths {
        fs::write(path, "new")?;
    }
    for word in ["over", "behind"] {
        for path in &paths {
            is_written(&mirror, &format!("{word} {}", path.display()));
        }
    }
    assert!(
        !mirror.log().contains("the plugin command"),
        "nothing failed"
    );
    mirror.finish()
}

/// Whether a process has this among its arguments.
fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.into_iter().any(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        arguments.any(|found| found == argument.as_bytes())
    })
}

#[test]
fn a_socket_gets_the_bytes_of_each_path_below_its_directory() -> io::Result<()> {
    let (listener, other) = (Listener::raw()?, Listener::raw()?);
    let mirror = Mirror::prepare()?;
    fs::create_dir(mirror.source("www"))?;
    let host = |port| format!("<deshost ip=\"127.0.0.1\" port=\"{port}\"/>");
    let hosts = host(listener.port) + &host(other.port);
    let plugin = port_definition("socket", &mirror.source("www"), &hosts);
    let mirror = running(vec![plugin], mirror)?;
    fs::write(mirror.source("elsewhere"), "")?;
    for name in NAMES {
        fs::write(mirror.source("www").join(name), name)?;
    }
    for listener in [&listener, &other] {
        wait_until(SOON, "every path is heard, alone", || {
            let heard = listener.heard();
            NAMES.iter().all(|name| {
                let path = mirror.source("www").join(name);
                heard.iter().any(|one| *one == path.display().to_string())
            })
        });
        assert!(
            !listener
                .heard()
                .iter()
                .any(|heard| heard.ends_with("elsewhere"))
        );
    }
    mirror.finish()
}

#[test]
fn a_web_server_gets_a_form_for_each_path() -> io::Result<()> {
    let server = Listener::http(OK)?;
    let mirror = Mirror::prepare()?;
    let source = mirror.at("source");
    let host = format!(
        "<deshost url=\"http://127.0.0.1:{}/changed?k=1\" port=\"80\"/>",
        server.port
    );
    let mirror = running(vec![port_definition("http", &source, &host)], mirror)?;
    fs::write(mirror.source("a&isdir=1 b"), "new")?;
    let root = source.display();
    server.hears(&format!(
        "\r\n\r\nwatchroot={root}&isdir=0&inotifyPath={root}/a%26isdir%3D1%20b&mask=8"
    ));
    server.hears("POST /changed?k=1 HTTP/1.1\r\n");
    server.hears("Content-Type: application/x-www-form-urlencoded");
    fs::create_dir(mirror.source("d"))?;
    server.hears(&format!("&isdir=1&inotifyPath={root}/d&mask=1073742080"));
    fs::remove_dir(mirror.source("d"))?;
    server.hears(&format!("&isdir=1&inotifyPath={root}/d&mask=1073742336"));
    fs::remove_file(mirror.source("a&isdir=1 b"))?;
    server.hears("b&mask=512");
    mirror.finish()
}

#[test]
fn a_webhook_gets_a_batch_as_json_and_one_that_is_down_delays_no_file() -> io::Result<()> {
    let port = free_port();
    let mirror = Mirror::prepare()?;
    let source = mirror.at("source");
    let host = format!("<deshost url=\"http://localhost/hook\" port=\"{port}\" format=\"json\"/>");
    let mut mirror = running(vec![port_definition("http", &source, &host)], mirror)?;
    for name in NAMES {
        fs::write(mirror.source(name), name)?;
        mirror.in_sync();
    }
    mirror
        .sersync()
        .wait_for_problem(&["plugin http", "tried again", "refused"]);
    // It comes up, and hears of everything that happened meanwhile.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let server = Listener::http_on(listener, OK)?;
    wait_until(Duration::from_secs(60), "every path is told", || {
        let told = paths_in(&server.heard());
        NAMES
            .iter()
            .all(|name| told.contains(&source.join(name).display().to_string()))
    });
    wait_until(SOON, "it is said that it can be told again", || {
        mirror.log().contains("can be told again")
    });
    mirror.finish()
}

#[test]
fn a_webhook_is_told_of_many_paths_by_few_documents() -> io::Result<()> {
    let server = Listener::http(OK)?;
    let mirror = Mirror::prepare()?;
    let source = mirror.at("source");
    let port = server.port;
    let host = format!("<deshost url=\"http://localhost/hook\" port=\"{port}\" format=\"json\"/>");
    let mirror = running(vec![port_definition("http", &source, &host)], mirror)?;
    fs::create_dir(mirror.outside("many"))?;
    for number in 0..300 {
        fs::write(mirror.outside(format!("many/{number}")), "")?;
    }
    fs::rename(mirror.outside("many"), mirror.source("many"))?;
    wait_until(SOON, "every path is told", || {
        let told: BTreeSet<String> = paths_in(&server.heard()).into_iter().collect();
        let path = |number| source.join(format!("many/{number}")).display().to_string();
        (0..300).all(|number: u32| told.contains(&path(number)))
    });
    let documents = server.heard().len();
    assert!(documents < 30, "{documents} documents for 300 files");
    mirror.finish()
}

/// The paths in the JSON documents among the requests.
fn paths_in(requests: &[String]) -> Vec<String> {
    let bodies = requests
        .iter()
        .filter_map(|request| request.split_once("\r\n\r\n"));
    let documents =
        bodies.map(|(_, body)| serde_json::from_str::<serde_json::Value>(body).expect("JSON"));
    documents
        .flat_map(|document| document["paths"].as_array().expect("a list").clone())
        .map(|path| path["path"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn a_webhook_that_never_answers_delays_no_file() -> io::Result<()> {
    // Connections are taken by the kernel, and nobody reads them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mirror = Mirror::prepare()?;
    let host = format!(
        "<deshost url=\"http://127.0.0.1/\" port=\"{}\"/>",
        silent.local_addr()?.port()
    );
    let plugin = port_definition("http", &mirror.at("source"), &host);
    let mut mirror = running(vec![plugin], mirror)?;
    delays_no_file(&mut mirror)?;
    mirror
        .sersync()
        .wait_for_problem(&["plugin http", "no answer"]);
    mirror.finish()
}

fn refresh_cdn(watch: &Path, port: u16, regex: &str) -> (&'static str, String) {
    let definition = format!(
        "<localpath watch=\"{}\"><cdninfo domainname=\"127.0.0.1\" port=\"{port}\" username=\"me\" passwd=\"p&amp;w\"/>\
         <sendurl base=\"http://pictures.example.com/cms\"/>{regex}</localpath>",
        watch.display()
    );
    ("refreshCDN", definition)
}

#[test]
fn a_network_is_told_the_url_of_what_changed() -> io::Result<()> {
    let api = Listener::http("HTTP/1.0 200 OK\r\nwhatsup: content=\"succeed\"\r\n\r\n")?;
    let mirror = Mirror::prepare()?;
    let regex = "<regexurl regex=\"false\" match=\"x\"/>";
    let plugin = refresh_cdn(&mirror.at("source"), api.port, regex);
    let mirror = running(vec![plugin], mirror)?;
    fs::create_dir(mirror.source("d"))?;
    fs::write(mirror.source("d/a b&c.gif"), "new")?;
    let call = "HEAD /index.jsp?user=me&pswd=p%26w&ok=ok";
    let base = "http://pictures.example.com/cms";
    api.hears(&format!("{call}&urls={base}/d/a%20b%26c.gif HTTP/1.0\r\n"));
    api.hears(&format!("{call}&dirs={base}/d/ HTTP/1.0\r\n"));
    api.hears("Host: 127.0.0.1");
    assert!(
        !mirror.log().contains("the plugin refreshCDN"),
        "nothing failed"
    );
    mirror.finish()
}

#[test]
fn a_network_is_told_what_the_expression_captures_and_what_follows() -> io::Result<()> {
    let api = Listener::http("HTTP/1.0 200 OK\r\nwhatsup: error, no such user\r\n\r\n")?;
    let mirror = Mirror::prepare()?;
    fs::create_dir_all(mirror.source("site/news/images"))?;
    let regex = "<regexurl regex=\"true\" match=\"site([/a-zA-Z0-9]*)/images\"/>";
    let plugin = refresh_cdn(&mirror.at("source"), api.port, regex);
    let mut mirror = running(vec![plugin], mirror)?;
    fs::write(mirror.source("other"), "new")?;
    fs::write(mirror.source("site/news/images/a.gif"), "new")?;
    api.hears("&urls=http://pictures.example.com/cms/news/a.gif HTTP/1.0");
    assert!(!api.heard().iter().any(|heard| heard.contains("other")));
    mirror
        .sersync()
        .wait_for_problem(&["refreshcdn", "a.gif", "no such user"]);
    mirror.finish()
}

#[test]
fn a_network_that_never_answers_delays_no_file() -> io::Result<()> {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mirror = Mirror::prepare()?;
    let plugin = refresh_cdn(&mirror.at("source"), silent.local_addr()?.port(), "");
    let mut mirror = running(vec![plugin], mirror)?;
    delays_no_file(&mut mirror)?;
    mirror
        .sersync()
        .wait_for_problem(&["plugin refreshCDN", "no answer"]);
    mirror.finish()
}

#[test]
fn a_socket_that_nobody_has_delays_no_file() -> io::Result<()> {
    let port = free_port();
    let mirror = Mirror::prepare()?;
    let host = format!("<deshost ip=\"127.0.0.1\" port=\"{port}\"/>");
    let plugin = port_definition("socket", &mirror.at("source"), &host);
    let mut mirror = running(vec![plugin], mirror)?;
    delays_no_file(&mut mirror)?;
    mirror
        .sersync()
        .wait_for_problem(&["plugin socket", "tried again", "refused"]);
    mirror.finish()
}

#[test]
fn a_path_is_told_when_the_last_remote_has_it() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let late = mirror.at("late");
    mirror.config.mirrors[0]
        .remotes
        .push(Remote::Local(late.clone()));
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("a"), "new")?;
    mirror.in_sync();
    stays(
        Duration::from_secs(1),
        "nothing is told while a remote lacks it",
        || written(&mirror).is_empty(),
    );
    fs::create_dir(&late)?;
    let path = mirror.source("a").display().to_string();
    wait_until(
        Duration::from_secs(60),
        "it is told when all have it",
        || written(&mirror).contains(&path),
    );
    assert!(late.join("a").exists());
    mirror.finish()
}

#[test]
fn a_reload_starts_a_plugin_and_ends_it() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    let path = |name: &str| mirror.source(name).display().to_string();
    let (with, without) = (path("with"), path("without"));
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    wait_until(SOON, "a new file is told", || {
        fs::write(&with, "new").is_ok() && written(&mirror).contains(&with)
    });
    mirror.config.plugins.clear();
    mirror.config.write()?;
    mirror.sersync().signal(Signal::HUP);
    wait_until(SOON, "the second configuration is in force", || {
        mirror
            .log()
            .matches("the new configuration is in force")
            .count()
            == 2
    });
    fs::write(&without, "new")?;
    mirror.in_sync();
    assert!(!written(&mirror).contains(&without));
    mirror.finish()
}

/// Removes two files, by a means each; then gives what the server has heard of that, by a means each.
fn removals_told(delete: bool, move_from: bool, arguments: &[&str]) -> io::Result<[bool; 2]> {
    let server = Listener::http(OK)?;
    let mut mirror = Mirror::prepare()?;
    let names = ["deleted", "moved"];
    for name in names {
        fs::write(mirror.source(name), name)?;
    }
    let host = format!(
        "<deshost url=\"http://127.0.0.1:{}/\" port=\"80\"/>",
        server.port
    );
    mirror.config.plugins = vec![port_definition("http", &mirror.at("source"), &host)];
    mirror.config.switches = vec![("delete", delete), ("moveFrom", move_from)];
    mirror.run_with(arguments)?;
    wait_until(SOON, "the source is watched", || {
        mirror.log().contains("watching")
    });
    if arguments.is_empty() {
        mirror.in_sync();
    }
    fs::remove_file(mirror.source("deleted"))?;
    fs::rename(mirror.source("moved"), mirror.outside("moved"))?;
    let is_on = [delete, move_from];
    for (name, _) in names.into_iter().zip(is_on).filter(|(_, is_on)| *is_on) {
        server.hears(&format!("/{name}&mask=512"));
    }
    for marker in ["marker", "second marker"] {
        fs::write(mirror.source(marker), marker)?;
        server.hears(&format!("/{}&mask=8", marker.replace(' ', "%20")));
    }
    if arguments.is_empty() {
        let left = names.map(|name| mirror.replica(name).exists());
        assert_eq!(left, is_on.map(|is_on| !is_on), "{is_on:?}");
    }
    mirror.stop();
    let heard = server.heard();
    Ok(names.map(|name| heard.iter().any(|one| one.contains(&format!("/{name}&")))))
}

#[test]
fn a_removal_that_a_switch_does_not_let_through_is_not_told() -> io::Result<()> {
    for (delete, move_from) in [(false, true), (true, false), (false, false), (true, true)] {
        for arguments in [&[][..], &["--only-plugin", "http"]] {
            let told = removals_told(delete, move_from, arguments)?;
            assert_eq!(told, [delete, move_from], "{arguments:?}");
        }
    }
    Ok(())
}

#[test]
fn what_no_remote_got_before_it_went_is_not_told_where_removals_are_not_let_through()
-> io::Result<()> {
    let server = Listener::http(OK)?;
    let mut mirror = Mirror::prepare()?;
    let host = format!(
        "<deshost url=\"http://127.0.0.1:{}/\" port=\"80\"/>",
        server.port
    );
    let plugin = port_definition("http", &mirror.at("source"), &host);
    mirror.config.switches = vec![("delete", false), ("moveFrom", false)];
    let mut mirror = running(vec![plugin], mirror)?;
    mirror.daemon.stop();
    fs::write(mirror.source("marker"), "old")?;
    mirror.sersync().wait_for_problem(&["unreachable"]);
    // No run is made before the receiver is back.
    fs::write(mirror.source("short-lived"), "new")?;
    fs::remove_file(mirror.source("short-lived"))?;
    fs::write(mirror.source("marker"), "new")?;
    mirror.daemon.start()?;
    for marker in ["marker", "another"] {
        fs::write(mirror.source(marker), "new")?;
        wait_until(AFTER_BACK_OFF, "what is there is told", || {
            let heard = server.heard();
            heard
                .iter()
                .any(|one| one.contains(&format!("/{marker}&mask=8")))
        });
    }
    let heard = server.heard();
    let told = heard.iter().any(|one| one.contains("short-lived"));
    assert!(!told, "{heard:?}");
    mirror.finish()
}

#[test]
fn a_plugin_alone_is_told_of_every_change_and_nothing_is_sent() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.run_with(&["--only-plugin", "command"])?;
    wait_until(SOON, "the source is watched", || {
        mirror.log().contains("watching")
    });
    fs::write(mirror.source("a b"), "new")?;
    is_written(&mirror, &mirror.source("a b").display().to_string());
    fs::remove_file(mirror.source("a b"))?;
    wait_until(SOON, "the deletion is told", || written(&mirror).len() >= 2);
    assert_eq!(fs::read_dir(mirror.at("replica"))?.count(), 0);
    assert_eq!(mirror.daemon.connections(), 0);
    mirror.stop();
    Ok(())
}

#[test]
fn a_plugin_alone_is_not_told_of_what_the_filter_excludes() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.config.excludes = vec![r"(.*)\.tmp"];
    mirror.run_with(&["--only-plugin", "command"])?;
    wait_until(SOON, "the source is watched", || {
        mirror.log().contains("watching")
    });
    let excluded = mirror.source("a.tmp");
    fs::write(&excluded, "new")?;
    fs::write(mirror.source("b"), "new")?;
    is_written(&mirror, &mirror.source("b").display().to_string());
    assert!(!written(&mirror).contains(&excluded.display().to_string()));
    mirror.stop();
    Ok(())
}

#[test]
fn of_a_directory_that_is_moved_in_nothing_is_told_that_the_filter_excludes() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let program = script(&mirror, "notify", r#"printf '%s\0' "$1""#)?;
    mirror.config.plugins = vec![command(&program, "", "")];
    mirror.config.excludes = vec![r"(.*)\.svn", r"(.*)\.gz"];
    mirror.run()?;
    mirror.in_sync();
    fs::create_dir_all(mirror.outside("d/secret.svn"))?;
    for name in ["d/secret.svn/in.php", "d/x.gz", "d/z.php"] {
        fs::write(mirror.outside(name), "content")?;
    }
    fs::rename(mirror.outside("d"), mirror.source("d"))?;
    is_written(&mirror, &mirror.source("d/z.php").display().to_string());
    let told = written(&mirror);
    let excluded = |path: &String| path.contains(".svn") || path.contains(".gz");
    assert!(!told.iter().any(excluded), "{told:?}");
    mirror.stop();
    Ok(())
}

#[test]
fn a_plugin_alone_watches_its_own_directory() -> io::Result<()> {
    let listener = Listener::raw()?;
    let mut mirror = Mirror::prepare()?;
    let host = format!("<deshost ip=\"127.0.0.1\" port=\"{}\"/>", listener.port);
    mirror.config.plugins = vec![port_definition("socket", &mirror.at("outside"), &host)];
    mirror.run_with(&["--only-plugin", "socket"])?;
    wait_until(SOON, "the directory is watched", || {
        mirror.log().contains("watching")
    });
    fs::write(mirror.outside("x"), "new")?;
    listener.hears(&mirror.outside("x").display().to_string());
    mirror.stop();
    Ok(())
}
