//! A stage for an rsync that does as a test likes: scenes are laid out as files, and `fake/rsync.rs`, which stands in
//! front of the real rsync in `PATH`, plays them.
//!
//! | in a scene | |
//! |---|---|
//! | `on` | kinds of runs it is for, such as `send\|delete`: `send`, `delete`, `tree`, `probe`, `look`; all, if it is missing |
//! | `about` | a name that the run is to do something with |
//! | `removes` | a file or a directory that is gone before anything else happens |
//! | `real` | the real rsync does it first |
//! | `without` | as before, but for the name that it is about |
//! | `stdout` | a line that is printed then |
//! | `stderr` | a line that is said then |
//! | `garbage` | so many bytes that make no sense |
//! | `orphan` | a process that does not end at SIGTERM is left behind |
//! | `hang` | it does not end by itself |
//! | `signal`, `exit` | how it ends |
//! | `deaf` | it does not take its list |
//!
//! What is not for ever is played as often as it is laid out.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::Mirror;
use crate::sersync::Sersync;

/// See the module.
#[derive(Debug, Clone)]
pub struct Stage {
    dir: PathBuf,
}

/// A run of the fake rsync.
#[derive(Debug, Clone)]
pub struct Run {
    pub kind: String,
    pub scene: String,
    pub pid: i32,
    /// Milliseconds of the clock on the wall.
    pub began: u64,
    /// The same; `None` while it is not over, or if it was ended.
    pub ended: Option<u64>,
}

impl Stage {
    /// An empty stage in the directory of a mirror.
    pub fn set_up(mirror: &Mirror) -> io::Result<Self> {
        let stage = Self {
            dir: mirror.at("stage"),
        };
        fs::create_dir_all(stage.dir.join("scenes"))?;
        fs::create_dir_all(stage.dir.join("bin"))?;
        symlink(program(), stage.program())?;
        Ok(stage)
    }

    /// The rsync that sersync finds.
    pub fn program(&self) -> PathBuf {
        self.dir.join("bin/rsync")
    }

    /// `sersync run` with that rsync.
    pub fn command(&self, mirror: &Mirror) -> Command {
        self.command_on("none", mirror)
    }

    /// The same on a bus.
    pub fn command_on(&self, bus: &str, mirror: &Mirror) -> Command {
        let mut command = Sersync::command();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.dir.join("bin")).chain(std::env::split_paths(&path));
        command
            .args(["run", "--bus", bus, "--config"])
            .arg(&mirror.config.file)
            .arg("--state-dir")
            .arg(mirror.at("state"))
            // The stage is out of reach of what is confined.
            .args(["--confine", "no"])
            .env("PATH", std::env::join_paths(path).expect("no colon in it"))
            .env("SERSYNC_STAGE", &self.dir);
        command
    }

    /// `sersync run` with that rsync confined; each run that has a list asks at the socket what it is to do first.
    pub fn command_to_ask(&self, mirror: &Mirror, socket: &Path) -> Command {
        let mut command = self.command(mirror);
        command
            .args(["--confine", "yes"])
            .env("SERSYNC_ASK", socket);
        command
    }

    /// Lays a scene out that is played whenever it fits.
    pub fn lay(&self, name: &str, scene: Value) -> io::Result<()> {
        self.put(name, name, scene)
    }

    /// Lays a scene out that is played so many times.
    pub fn lay_times(&self, times: usize, name: &str, mut scene: Value) -> io::Result<()> {
        scene["times"] = times.into();
        (0..times).try_for_each(|number| self.put(&format!("{name}.{number}"), name, scene.clone()))
    }

    fn put(&self, file: &str, name: &str, mut scene: Value) -> io::Result<()> {
        scene["name"] = name.into();
        // It may be looked for while it is written.
        let new = self.dir.join("new scene");
        fs::write(&new, scene.to_string())?;
        fs::rename(new, self.dir.join("scenes").join(file))
    }

    /// Takes a scene away that was laid out for ever.
    pub fn clear(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join("scenes").join(name))
    }

    /// All runs so far, in order.
    pub fn runs(&self) -> Vec<Run> {
        let text = fs::read_to_string(self.dir.join("runs")).unwrap_or_default();
        let mut runs: Vec<Run> = Vec::new();
        // The last line may be half written.
        for line in text
            .lines()
            .map_while(|line| serde_json::from_str::<Value>(line).ok())
        {
            let pid = line["pid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok())
                .expect("a pid");
            if let Some(ended) = line["ended"].as_u64() {
                let run = runs.iter_mut().rfind(|run| run.pid == pid);
                run.expect("it began").ended = Some(ended);
            } else {
                runs.push(Run {
                    kind: line["kind"].as_str().expect("a kind").to_owned(),
                    scene: line["scene"].as_str().expect("a scene").to_owned(),
                    pid,
                    began: line["began"].as_u64().expect("a time"),
                    ended: None,
                });
            }
        }
        runs
    }

    /// The runs in which a scene was played.
    pub fn played(&self, scene: &str) -> Vec<Run> {
        self.runs()
            .into_iter()
            .filter(|run| run.scene == scene)
            .collect()
    }

    /// The process that a scene has left behind.
    pub fn orphan(&self) -> Option<i32> {
        fs::read_to_string(self.dir.join("orphan"))
            .ok()?
            .parse()
            .ok()
    }
}

/// The paths that a mirror keeps as failed, from the files in its state directory.
pub fn failed_paths(state: &Path) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    for file in fs::read_dir(state).into_iter().flatten().flatten() {
        if file
            .path()
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        for line in text
            .lines()
            .map_while(|line| serde_json::from_str::<Value>(line).ok())
        {
            if let Some(path) = line["failed"]["path"].as_str() {
                failed.insert(path.to_owned());
            } else if let Some(path) = line["synced"]["path"].as_str() {
                failed.remove(path);
            }
        }
    }
    failed
}

/// Built with the tests, unless only some of them were asked for.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("this is a program");
        let profile = test
            .parent()
            .and_then(Path::parent)
            .expect("target/PROFILE/deps");
        let program = profile.join("examples/fake-rsync");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fake/rsync.rs");
        let written = |file: &Path| fs::metadata(file).and_then(|file| file.modified()).ok();
        if written(&program) < written(&source) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args([
                "build",
                "--quiet",
                "--example",
                "fake-rsync",
                "--manifest-path",
            ]);
            cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
            cargo
                .arg("--target-dir")
                .arg(profile.parent().expect("target"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(
                cargo.status().is_ok_and(|status| status.success()),
                "no fake rsync"
            );
        }
        program
    })
}

/// A run that waits for what the test says.
pub struct Asked {
    pub kind: String,
    run: BufReader<UnixStream>,
}

impl Asked {
    pub fn next(listener: &UnixListener) -> io::Result<Self> {
        let mut run = BufReader::new(listener.accept()?.0);
        let mut kind = String::new();
        run.read_line(&mut kind)?;
        let kind = kind.trim_end().to_owned();
        Ok(Self { kind, run })
    }

    /// Whether it can `read` or `write` a path.
    pub fn can(&mut self, what: &str, path: impl AsRef<Path>) -> io::Result<bool> {
        writeln!(self.run.get_mut(), "{what} {}", path.as_ref().display())?;
        let mut answer = String::new();
        self.run.read_line(&mut answer)?;
        Ok(answer.trim_end() == "true")
    }
}

/// Lets all further runs go on at once.
pub fn let_go_on(listener: UnixListener) {
    std::thread::spawn(move || while Asked::next(&listener).is_ok() {});
}
