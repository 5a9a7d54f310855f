//! An rsync for tests. For each run it looks for a scene that fits and plays it; else it passes on to the real rsync,
//! the next one in `PATH`. `tests/it/fake.rs` lays the scenes out and says what may stand in them.
//!
//! It always takes its list first: a child that was started ahead of its list plays what is laid out when it gets it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Where the scenes are.
const STAGE: &str = "SERSYNC_STAGE";
/// The socket of a test that asks a run what it can do before it is made.
const ASK: &str = "SERSYNC_ASK";
/// This is a process that a scene has left behind.
const ORPHAN: &str = "SERSYNC_ORPHAN";
/// What rsync says at the end of a run in which some paths failed.
const SUMMARY: &str = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]\n";

fn main() -> io::Result<()> {
    if std::env::var_os(ORPHAN).is_some() {
        return stay_alive();
    }
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let (Some(socket), Some(kind)) = (std::env::var_os(ASK), kind_of(&args)) {
        return be_asked(Path::new(&socket), kind, &args);
    }
    let stage = std::env::var_os(STAGE).map(PathBuf::from);
    let (Some(stage), Some(kind)) = (stage, kind_of(&args)) else {
        return Err(real(&args)?.exec());
    };
    let deaf = claim(&stage, |scene| scene["deaf"] == true && is_on(scene, kind));
    let mut list = Vec::new();
    if deaf.is_none() {
        io::stdin().read_to_end(&mut list)?;
    }
    let kind = kind_with(kind, &args, &list);
    let names = names_of(&list);
    let scene = deaf.or_else(|| {
        claim(&stage, |scene| {
            scene["deaf"] != true && is_on(scene, kind) && is_about(scene, kind, &names)
        })
    });
    let (name, scene) = match scene {
        Some((name, scene)) => (name, scene),
        None => (String::new(), json!({ "real": true })),
    };
    note(&stage, kind, &name, "began")?;
    let code = play(&scene, &stage, kind, args, &names)?;
    note(&stage, kind, &name, "ended")?;
    std::process::exit(code)
}

/// Answers what paths it can open, until it is told to go on. A confined run has no stage in reach, but sockets.
fn be_asked(socket: &Path, kind: &str, args: &[OsString]) -> io::Result<()> {
    let mut list = Vec::new();
    io::stdin().read_to_end(&mut list)?;
    let mut test = BufReader::new(UnixStream::connect(socket)?);
    writeln!(test.get_mut(), "{}", kind_with(kind, args, &list))?;
    loop {
        let mut question = String::new();
        test.read_line(&mut question)?;
        let answer = match question.trim_end().split_once(' ') {
            Some(("read", path)) => fs::metadata(path).and_then(|found| {
                if found.is_dir() {
                    fs::read_dir(path).map(drop)
                } else {
                    fs::File::open(path).map(drop)
                }
            }),
            Some(("write", path)) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(drop),
            _ => break,
        };
        writeln!(test.get_mut(), "{}", answer.is_ok())?;
    }
    std::process::exit(pass_on(args, &names_of(&list))?)
}

fn has(args: &[OsString], test: impl Fn(&str) -> bool) -> bool {
    args.iter().filter_map(|arg| arg.to_str()).any(test)
}

/// What a run is for; `None` if it has no list.
fn kind_of(args: &[OsString]) -> Option<&'static str> {
    let said = |option: &str| has(args, |arg| arg == option);
    if !said("--files-from=-") {
        None
    } else if said("--dry-run") {
        Some("look")
    } else if said("--recursive") {
        Some("tree")
    } else if said("--existing") {
        Some("delete")
    } else {
        Some("send")
    }
}

/// What a run is for, now that its list is known.
fn kind_with<'a>(kind: &'a str, args: &[OsString], list: &[u8]) -> &'a str {
    let is_standby = has(args, |arg| arg.starts_with("--timeout="));
    match kind {
        "send" if list.is_empty() && is_standby => "dismissed",
        "send" if list.is_empty() => "probe",
        kind => kind,
    }
}

fn names_of(list: &[u8]) -> Vec<Vec<u8>> {
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| name.strip_prefix(b"./").unwrap_or(name).to_vec())
        .collect()
}

fn is_on(scene: &Value, kind: &str) -> bool {
    // A child that is not needed any more is let go.
    kind != "dismissed"
        && scene["on"]
            .as_str()
            .is_none_or(|on| on.split('|').any(|on| on == kind))
}

/// Whether the run is to do something with the name of the scene, if it has one.
fn is_about(scene: &Value, kind: &str, names: &[Vec<u8>]) -> bool {
    let Some(about) = scene["about"].as_str().map(str::as_bytes) else {
        return true;
    };
    let is_above = |name: &Vec<u8>| {
        kind == "tree" && (name.is_empty() || about.starts_with(&[name, &b"/"[..]].concat()))
    };
    names.iter().any(|name| name == about || is_above(name))
}

/// The first scene that fits. One that is not for ever is a file for each time, which is taken away.
fn claim(stage: &Path, fits: impl Fn(&Value) -> bool) -> Option<(String, Value)> {
    let mut files: Vec<PathBuf> = fs::read_dir(stage.join("scenes"))
        .ok()?
        .flatten()
        .map(|file| file.path())
        .collect();
    files.sort();
    files.into_iter().find_map(|file| {
        let scene: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let is_ours = fits(&scene) && (scene["times"].is_null() || fs::remove_file(&file).is_ok());
        is_ours.then(|| (scene["name"].as_str().unwrap_or_default().to_owned(), scene))
    })
}

fn note(stage: &Path, kind: &str, scene: &str, what: &str) -> io::Result<()> {
    let at = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_err(io::Error::other)?
        .as_millis();
    let at = u64::try_from(at).map_err(io::Error::other)?;
    let mut line =
        json!({ "kind": kind, "scene": scene, what: at, "pid": std::process::id() }).to_string();
    line.push('\n');
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(stage.join("runs"))?;
    file.write_all(line.as_bytes())
}

/// The exit code.
fn play(
    scene: &Value,
    stage: &Path,
    kind: &str,
    mut args: Vec<OsString>,
    names: &[Vec<u8>],
) -> io::Result<i32> {
    let about = scene["about"].as_str().unwrap_or_default().as_bytes();
    if scene["orphan"] == true {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env(ORPHAN, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let orphan = command.spawn()?;
        fs::write(stage.join("orphan"), orphan.id().to_string())?;
    }
    if let Some(file) = scene["removes"].as_str() {
        fs::remove_file(file).or_else(|_| fs::remove_dir_all(file))?;
    }
    let mut code = 0;
    if scene["real"] == true {
        code = pass_on(&args, names)?;
    } else if scene["without"] == true {
        let rest: Vec<Vec<u8>> = names
            .iter()
            .filter(|name| *name != about)
            .cloned()
            .collect();
        if kind == "tree" {
            args.insert(
                0,
                OsStr::from_bytes(&[b"--exclude=/", about].concat()).to_owned(),
            );
        }
        if !rest.is_empty() {
            code = pass_on(&args, &rest)?;
        }
    }
    if let Some(text) = scene["stdout"].as_str() {
        io::stdout().write_all(text.as_bytes())?;
        io::stdout().write_all(b"\n")?;
        io::stdout().flush()?;
    }
    if let Some(text) = scene["stderr"].as_str() {
        io::stderr().write_all(text.as_bytes())?;
        io::stderr().write_all(b"\n")?;
    }
    garbage(scene["garbage"].as_u64().unwrap_or(0))?;
    if scene["exit"] == 23 {
        io::stderr().write_all(SUMMARY.as_bytes())?;
    }
    if let Some(signal) = scene["signal"].as_i64() {
        let signal = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
        let signal = signal.ok_or(io::ErrorKind::InvalidInput)?;
        // The first SIGSEGV only takes away the handler that Rust has for it.
        for _ in 0..2 {
            kill_process(rustix::process::getpid(), signal)?;
        }
        hang();
    }
    if scene["hang"] == true {
        hang();
    }
    Ok(scene["exit"]
        .as_i64()
        .map_or(code, |code| i32::try_from(code).unwrap_or(1)))
}

/// Bytes that are no text, with line ends, and with pieces of messages among them.
fn garbage(bytes: u64) -> io::Result<()> {
    let mut number = 1_u64;
    let mut written = 0;
    while written < bytes {
        let mut chunk = Vec::with_capacity(4096);
        while chunk.len() < 4000 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            chunk.extend_from_slice(&number.to_be_bytes());
            if number.is_multiple_of(17) {
                chunk.extend_from_slice(b"\nfile has vanished: \"");
            }
        }
        io::stderr().write_all(&chunk)?;
        written += chunk.len() as u64;
    }
    Ok(())
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Does not end at SIGTERM.
fn stay_alive() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        std::future::pending::<io::Result<()>>().await
    })
}

fn real(args: &[OsString]) -> io::Result<Command> {
    let own = fs::canonicalize(std::env::current_exe()?)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::env::split_paths(&path).map(|dir| dir.join("rsync"));
    let mut others =
        programs.filter(|program| fs::canonicalize(program).is_ok_and(|program| program != own));
    let program = others.next().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

/// Has the real rsync do it, and ends as that does if it is by a signal.
fn pass_on(args: &[OsString], names: &[Vec<u8>]) -> io::Result<i32> {
    let mut child = real(args)?.stdin(Stdio::piped()).spawn()?;
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [b"./", &name[..], b"\0"].concat())
        .collect();
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended early says why by its exit.
        let _ = stdin.write_all(&list);
    }
    let status = child.wait()?;
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        kill_process(
            Pid::from_raw(std::process::id().cast_signed()).ok_or(io::ErrorKind::Other)?,
            signal,
        )?;
    }
    Ok(status.code().unwrap_or(1))
}
