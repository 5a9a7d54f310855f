//! `sersync2 -d` on a machine with systemd: a stand-in for the service manager on a private bus says what it is asked
//! for. The machine is made to look as if systemd ran it, in a mount namespace, which is for root alone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::process::Command;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, interface};

use crate::harness::{Bus, Ended, program};

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
    result: &'static str,
}

struct Unit {
    description: String,
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
    #[expect(clippy::unused_self, reason = "it is a property of the bus")]
    fn active_state(&self) -> String {
        "active".into()
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
    _manager: Connection,
    dir: TempDir,
}

impl Stage {
    async fn new(result: &'static str) -> Self {
        let bus = Bus::start().await;
        let asked = Arc::default();
        let manager = Manager {
            asked: Arc::clone(&asked),
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
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c"]);
        command
            .arg(r#"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$0" "$@""#);
        command
            .arg(self.dir.path().join("sersync2"))
            .args(arguments);
        command.current_dir(directory).kill_on_drop(true);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address());
        Ended::of(command).await
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
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_sersync")).expect("it was built");
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
