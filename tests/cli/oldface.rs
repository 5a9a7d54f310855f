//! `sersync2 -d` on a machine with systemd: a stand-in for the service manager on a private bus says what it is asked
//! for. The machine is made to look as if systemd ran it, in a mount namespace, which is for root alone.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, timeout};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, interface};

use crate::harness::{Bus, DEADLINE, Ended, program};

const MANAGER: &str = "/org/freedesktop/systemd1";

/// A unit as it was asked for.
#[derive(Debug, Clone)]
struct Asked {
    unit: String,
    mode: String,
    properties: HashMap<String, OwnedVariant>,
}

impl Asked {
    /// What a property was set to, as zbus writes values.
    fn shows(&self, name: &str) -> String {
        format!("{:?}", **self.properties.get(name).expect(name))
    }

    /// The words of a command line.
    fn words(&self, name: &str) -> Vec<String> {
        let value = self.properties.get(name).expect(name).try_clone();
        let command: Vec<(String, Vec<String>, bool)> =
            value.expect("no descriptor").try_into().expect("a(sasb)");
        assert_eq!(command.len(), 1, "{command:?}");
        assert_eq!(command[0].0, command[0].1[0], "its own name comes first");
        assert!(!command[0].2, "a failure is one");
        command[0].1.clone()
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchUnit(String),
}

/// The stand-in: every service is ready at once, or fails.
struct Manager {
    asked: Arc<Mutex<Vec<Asked>>>,
    states: States,
    result: &'static str,
}

/// What the next looks at a unit find: the last one is found from then on, and where there is none, `active`.
type States = Arc<Mutex<VecDeque<&'static str>>>;

struct Unit {
    description: String,
    states: States,
}

fn object_of(index: usize) -> OwnedObjectPath {
    let path = format!("{MANAGER}/unit/_{index}");
    path.try_into().expect("a path")
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[expect(clippy::unused_self, reason = "it is a method of the bus")]
    fn subscribe(&self) {}

    #[expect(clippy::unused_self, reason = "it is a method of the bus")]
    fn reset_failed_unit(&self, name: &str) -> Result<(), Refusal> {
        Err(Refusal::NoSuchUnit(format!("Unit {name} not loaded.")))
    }

    fn get_unit(&self, name: &str) -> Result<OwnedObjectPath, Refusal> {
        let asked = self.asked.lock().expect("nobody panicked");
        let at = asked.iter().position(|asked| asked.unit == name);
        at.map(object_of)
            .ok_or_else(|| Refusal::NoSuchUnit(format!("Unit {name} not loaded.")))
    }

    async fn start_transient_unit(
        &self,
        name: String,
        mode: String,
        properties: Vec<(String, OwnedVariant)>,
        more_units: Vec<(String, Vec<(String, OwnedVariant)>)>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        assert_eq!(more_units.len(), 0);
        let properties: HashMap<String, OwnedVariant> = properties.into_iter().collect();
        let description = properties["Description"].to_string();
        let unit = Unit {
            description: description.trim_matches('"').to_owned(),
            states: Arc::clone(&self.states),
        };
        let at = {
            let mut asked = self.asked.lock().expect("nobody panicked");
            asked.push(Asked {
                unit: name.clone(),
                mode,
                properties,
            });
            asked.len() - 1
        };
        connection.object_server().at(object_of(at), unit).await?;
        let job = ObjectPath::try_from(format!("{MANAGER}/job/{at}")).expect("a path");
        // A job of somebody else ends first.
        let other = ObjectPath::try_from(format!("{MANAGER}/job/4711")).expect("a path");
        Self::job_removed(&emitter, 4711, other, "x.service", "failed").await?;
        Self::job_removed(&emitter, at as u32, job.clone(), &name, self.result).await?;
        Ok(job.into())
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_state(&self) -> String {
        let mut states = self.states.lock().expect("nobody panicked");
        let now = states.front().copied().unwrap_or("active");
        if states.len() > 1 {
            states.pop_front();
        }
        now.into()
    }

    #[zbus(property)]
    fn description(&self) -> String {
        self.description.clone()
    }
}

/// A bus with the stand-in, and a directory with the program under its old name.
struct Stage {
    bus: Bus,
    asked: Arc<Mutex<Vec<Asked>>>,
    states: States,
    _manager: Connection,
    dir: TempDir,
}

impl Stage {
    async fn new(result: &'static str) -> Self {
        let bus = Bus::start().await;
        let asked = Arc::default();
        let states = States::default();
        let manager = Manager {
            asked: Arc::clone(&asked),
            states: Arc::clone(&states),
            result,
        };
        let manager = zbus::connection::Builder::address(bus.address().as_str())
            .serve_at(MANAGER, manager)
            .name("org.freedesktop.systemd1")
            .build()
            .await
            .expect("the bus runs");
        let dir = tempfile::tempdir().expect("a temporary directory");
        symlink(env!("CARGO_BIN_EXE_sersync"), dir.path().join("sersync2")).expect("our directory");
        Self {
            bus,
            asked,
            states,
            _manager: manager,
            dir,
        }
    }

    /// A file that is in order.
    fn config(&self, directory: &str) -> PathBuf {
        let directory = self.dir.path().join(directory);
        fs::create_dir_all(&directory).expect("our directory");
        let file = directory.join("confxml.xml");
        let xml = r#"<head version="2.5"><sersync><localpath watch="/data"><remote ip="10.0.0.41" name="m"/></localpath></sersync></head>"#;
        fs::write(&file, xml).expect("our directory");
        file
    }

    /// The old program in this directory, on a machine that systemd runs.
    async fn sersync2(&self, directory: &Path, arguments: &[&str]) -> Ended {
        let mut command = self.on_a_machine_with_systemd();
        command
            .arg(self.dir.path().join("sersync2"))
            .args(arguments);
        command.current_dir(directory);
        Ended::of(command).await
    }

    /// What runs the words that are added to it on a machine that systemd runs.
    fn on_a_machine_with_systemd(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c"]);
        command
            .arg(r#"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$0" "$@""#);
        command.kill_on_drop(true);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address());
        command
    }

    /// See [`States`].
    fn finds(&self, states: &[&'static str]) {
        let mut next = self.states.lock().expect("nobody panicked");
        *next = states.iter().copied().collect();
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can have a mount namespace");
    }
    is_root
}

#[tokio::test]
async fn the_configuration_becomes_a_transient_service_that_says_how_to_follow_it() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("$HOME 100%");
    let directory = config.parent().expect("a directory");
    let said = stage.sersync2(directory, &["-rdn", "5"]).await.answer();
    for words in [
        "systemctl status sersync2-confxml.service",
        "journalctl -u sersync2-confxml.service",
        "sersync status confxml",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let asked = stage.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let unit = &asked[0];
    assert_eq!(
        (&*unit.unit, &*unit.mode),
        ("sersync2-confxml.service", "fail")
    );
    let program = stage.dir.path().join("sersync2");
    let config = config.to_str().expect("text").replace('$', "$$");
    assert_eq!(
        unit.words("ExecStart"),
        [
            program.to_str().expect("text"),
            "run",
            "--config",
            &config,
            "--instance",
            "confxml",
            "--bus",
            "system",
            "--initial",
            "yes",
            "--processes",
            "5"
        ]
    );
    assert_eq!(
        unit.words("ExecReload")[1..],
        ["reload", "--bus", "system", "confxml"]
    );
    for (name, value) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("WatchdogUSec", "60000000"),
        ("NotifyAccess", "main"),
    ] {
        assert!(
            unit.shows(name).contains(value),
            "{name}: {}",
            unit.shows(name)
        );
    }
}

#[tokio::test]
async fn what_runs_already_is_left_alone_and_another_file_of_that_name_gets_its_own() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let (one, two) = (stage.config("one"), stage.config("two"));
    let start = async |config: &Path, more: &[&str]| {
        let file = config.to_str().expect("text");
        let arguments = [more, &["-o", file]].concat();
        stage.sersync2(Path::new("/"), &arguments).await.answer()
    };
    start(&one, &["-d"]).await;
    assert!(stage.asked()[0].words("ExecStart").ends_with(&[
        "no".into(),
        "--processes".into(),
        "10".into()
    ]));
    let again = start(&one, &["-rd"]).await;
    assert!(again.contains("running already"), "{again}");
    for how in [
        "systemctl reload sersync2-confxml.service",
        "systemctl restart sersync2-confxml.service",
    ] {
        assert!(again.contains(how), "{again}");
    }
    assert_eq!(stage.asked().len(), 1);
    let other = start(&two, &["-d"]).await;
    assert!(other.contains("sersync2-confxml_2.service"), "{other}");
    let again = start(&two, &["-d"]).await;
    assert!(
        again.contains("sersync2-confxml_2.service is running already"),
        "{again}"
    );
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test]
async fn what_the_service_runs_is_called_sersync2_and_ends_well_by_a_killall() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    let directory = config.parent().expect("a directory");
    stage.sersync2(directory, &["-d"]).await.answer();
    let words = stage.asked()[0].words("ExecStart");
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env("DBUS_SYSTEM_BUS_ADDRESS", stage.bus.address())
        .env("STATE_DIRECTORY", stage.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it is there");
    let pid = child.id().expect("it was not waited for");
    let called = format!("/proc/{pid}/comm");
    let start = Instant::now();
    while stage.bus.sersync("status confxml").await.code != 0 {
        assert!(start.elapsed() < DEADLINE, "it is not on the bus");
    }
    assert_eq!(fs::read_to_string(called).expect("it runs"), "sersync2\n");
    // `killall sersync2` finds it by that name.
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    let status = timeout(DEADLINE, child.wait()).await.expect("in time");
    assert_eq!(status.expect("our child").code(), Some(0));
}

#[tokio::test]
async fn the_name_by_which_the_path_has_it_found_is_looked_up_there() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    let bin = stage.dir.path().join("bin");
    fs::create_dir(&bin).expect("our directory");
    // Another of that name comes first, and is not the one that runs.
    symlink("/bin/true", bin.join("sersync2")).expect("our directory");
    let path = format!("{}:{}", bin.display(), stage.dir.path().display());
    let mut command = stage.on_a_machine_with_systemd();
    command.args(["bash", "-c", r#"PATH=$0; exec -a sersync2 "$@""#]);
    command.arg(path).arg(stage.dir.path().join("sersync2"));
    command.arg("-do").arg(&config);
    Ended::of(command).await.answer();
    let program = stage.dir.path().join("sersync2");
    assert_eq!(
        stage.asked()[0].words("ExecStart")[0],
        program.to_str().expect("text")
    );
}

#[tokio::test]
async fn a_service_that_is_stopping_is_waited_for_and_started_anew() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    let directory = config.parent().expect("a directory");
    stage.sersync2(directory, &["-d"]).await.answer();
    stage.finds(&["deactivating", "deactivating", "deactivating", "inactive"]);
    let said = stage.sersync2(directory, &["-rd"]).await.answer();
    assert!(said.contains("is stopping"), "{said}");
    assert!(said.contains("has been started"), "{said}");
    let asked = stage.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].unit, "sersync2-confxml.service");
    assert!(asked[1].words("ExecStart").contains(&"yes".to_owned()));
}

#[tokio::test]
async fn a_service_that_was_told_to_end_and_has_not_said_so_yet_is_started_anew() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    let directory = config.parent().expect("a directory");
    stage.sersync2(directory, &["-d"]).await.answer();
    for states in [
        &["active", "deactivating", "inactive"][..],
        &["active", "inactive"],
    ] {
        let before = stage.asked().len();
        stage.finds(states);
        let said = stage.sersync2(directory, &["-d"]).await.answer();
        assert!(said.contains("has been started"), "{said}");
        assert_eq!(stage.asked().len(), before + 1);
    }
}

#[tokio::test]
async fn a_service_that_does_not_get_ready_is_a_failure() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("failed").await;
    let config = stage.config("one");
    let ended = stage
        .sersync2(config.parent().expect("a directory"), &["-d"])
        .await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("journalctl -u"), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_configuration_is_no_service() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    fs::write(&config, "<head><sersyn/></head>").expect("our directory");
    let ended = stage
        .sersync2(config.parent().expect("a directory"), &["-rd"])
        .await;
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.err.contains("confxml.xml:1:7: error"), "{ended:?}");
    assert!(stage.asked().is_empty());
}

#[tokio::test]
async fn a_plugin_alone_is_a_service_of_its_own_beside_that_of_its_file() {
    if !is_root() {
        return;
    }
    let stage = Stage::new("done").await;
    let config = stage.config("one");
    let xml = fs::read_to_string(&config).expect("our file");
    let plugin = r#"<plugin name="command"><param prefix="/bin/true" suffix=""/></plugin></head>"#;
    fs::write(&config, xml.replace("</head>", plugin)).expect("our directory");
    let file = config.to_str().expect("text");
    let start = async |arguments: &[&str]| stage.sersync2(Path::new("/"), arguments).await;
    start(&["-d", "-o", file]).await.answer();
    let said = start(&["-dm", "command", "-o", file]).await.answer();
    assert!(said.contains("sersync2-confxml_2.service"), "{said}");
    let again = start(&["-dmcommand", "-o", file]).await.answer();
    assert!(again.contains("running already"), "{again}");
    let asked = stage.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let words = asked[1].words("ExecStart");
    assert!(words.ends_with(&["--only-plugin".into(), "command".into()]));
    let missing = start(&["-d", "-m", "http", "-o", file]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    assert!(missing.err.contains("no plugin `http`"), "{missing:?}");
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test]
async fn what_makes_no_sense_ends_with_64_and_a_file_that_is_not_there_with_78() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let link = dir.path().join("sersync2");
    symlink(env!("CARGO_BIN_EXE_sersync"), &link).expect("our directory");
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(&link);
        command.args(arguments).current_dir(dir.path());
        Ended::of(command).await
    };
    let help = run(&["-h"]).await.answer();
    assert!(help.contains("-o FILE"), "{help}");
    let complaint = run(&["-x"]).await.complaint(64);
    assert!(
        complaint.contains("-x") && complaint.contains("-o FILE"),
        "{complaint}"
    );
    let missing = run(&[]).await;
    assert_eq!(missing.code, 78, "{missing:?}");
    let file = dir.path().join("confxml.xml");
    assert!(
        missing.err.contains(file.to_str().expect("text")),
        "{missing:?}"
    );
    // Under its own name it is what it was.
    assert_eq!(Ended::of(program("-rdo x")).await.code, 64);
}
