//! The files in `dist/systemd` as systemd itself reads them, and the promises that are made of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sersync::message_id;
use sersync::sysctl::Limits;
use tempfile::TempDir;

/// The highest exposure that `systemd-analyze security` may find, in tenths as it counts with `--threshold`.
const EXPOSURE: &str = "22";
/// The same for an instance that writes to a directory of this machine.
const EXPOSURE_OF_A_RECEIVER: &str = "29";

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/systemd")
}

fn read(name: &str) -> String {
    fs::read_to_string(dist().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The settings of a unit in their order, without comments: section, name, value.
fn settings(unit: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in read(unit).lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once('=')
            && !line.starts_with('#')
        {
            found.push((section.clone(), name.to_owned(), value.to_owned()));
        }
    }
    found
}

fn values(unit: &str, name: &str) -> Vec<String> {
    let all = settings(unit).into_iter();
    all.filter(|(_, other, _)| other == name)
        .map(|(_, _, value)| value)
        .collect()
}

/// Whether the tool is here; where it is not, that is said aloud.
fn has_systemd_analyze() -> bool {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if there.is_err() {
        eprintln!("NOT TESTED: systemd-analyze is missing (on Debian: apt-get install systemd)");
    }
    there.is_ok()
}

/// Units as they would be installed, with an instance `data` and the drop-ins that are named.
struct Installed {
    dir: TempDir,
}

impl Installed {
    fn with(drop_ins: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = dir.path().join("sersync");
        symlink(env!("CARGO_BIN_EXE_sersync"), &program).expect("the program");
        let program = program.to_str().expect("a path that is text");
        let units = dir.path().join("units");
        fs::create_dir(&units).expect("a directory");
        for unit in ["sersync.target", "system-sersync.slice"] {
            fs::copy(dist().join(unit), units.join(unit)).expect("a unit");
        }
        let service = read("sersync@.service").replace("/usr/bin/sersync", program);
        fs::write(units.join("sersync@.service"), service).expect("the service");
        symlink("sersync@.service", units.join("sersync@data.service")).expect("an instance");
        let conf = units.join("sersync@data.service.d");
        fs::create_dir(&conf).expect("a directory");
        for drop_in in drop_ins {
            fs::copy(dist().join(drop_in), conf.join(drop_in)).expect("a drop-in");
        }
        Self { dir }
    }

    fn units(&self) -> PathBuf {
        self.dir.path().join("units")
    }

    fn analyze(&self, arguments: &[&str]) -> Output {
        Command::new("systemd-analyze")
            .args(arguments)
            .current_dir(self.units())
            // Before the machine's own, which stay known for the sake of network.target and its like.
            .env("SYSTEMD_UNIT_PATH", format!("{}:", self.units().display()))
            .env("SYSTEMD_LOG_LEVEL", "warning")
            .output()
            .expect("systemd-analyze runs")
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

const DROP_INS: [&str; 3] = ["local-target.conf", "ssh.conf", "password-credential.conf"];

#[test]
fn systemd_has_no_complaint_about_any_unit() {
    if !has_systemd_analyze() {
        return;
    }
    for drop_ins in [&DROP_INS[..0], &DROP_INS] {
        let installed = Installed::with(drop_ins);
        for unit in [
            "sersync@data.service",
            "sersync.target",
            "system-sersync.slice",
        ] {
            let path = installed.units().join(unit);
            let path = path.to_str().expect("a path that is text");
            let output = installed.analyze(&["verify", "--man=no", path]);
            // Only what it says of ours: the machine's own units are not ours to mend.
            let complaints: Vec<_> = said(&output)
                .lines()
                .filter(|line| line.contains("sersync") || line.contains(".conf"))
                .map(str::to_owned)
                .collect();
            assert_eq!(complaints, [""; 0], "{unit} with {drop_ins:?}");
        }
    }
}

#[test]
fn a_mistake_in_a_unit_would_be_found() {
    if !has_systemd_analyze() {
        return;
    }
    let installed = Installed::with(&[]);
    let service = installed.units().join("sersync@.service");
    let text = read("sersync@.service").replace("WatchdogSec=", "WatchDogSec=");
    fs::write(service, text).expect("the service");
    let path = installed.units().join("sersync@data.service");
    let output = installed.analyze(&["verify", "--man=no", path.to_str().expect("text")]);
    assert!(said(&output).contains("WatchDogSec"), "{}", said(&output));
}

#[test]
fn the_sandbox_leaves_little_exposed() {
    if !has_systemd_analyze() {
        return;
    }
    for (drop_ins, threshold) in [
        (&[][..], EXPOSURE),
        (&["ssh.conf", "password-credential.conf"], EXPOSURE),
        (&["local-target.conf"], EXPOSURE_OF_A_RECEIVER),
    ] {
        let installed = Installed::with(drop_ins);
        let path = installed.units().join("sersync@data.service");
        let output = installed.analyze(&[
            "security",
            "--no-pager",
            "--offline=true",
            &format!("--threshold={threshold}"),
            path.to_str().expect("a path that is text"),
        ]);
        let text = said(&output);
        if text.contains("unrecognized option") {
            eprintln!("NOT TESTED: systemd-analyze is too old for --offline (systemd 250)");
            return;
        }
        assert!(output.status.success(), "with {drop_ins:?}: {text}");
    }
}

#[test]
fn every_setting_of_the_service_is_there_once_or_on_purpose() {
    let mut seen = BTreeMap::new();
    for (_, name, _) in settings("sersync@.service") {
        *seen.entry(name).or_insert(0) += 1;
    }
    seen.retain(|_, count| *count > 1);
    assert_eq!(seen, [("SystemCallFilter".to_owned(), 2)].into());
}

#[test]
fn the_service_restarts_for_ever_but_not_with_a_bad_configuration() {
    let one = |name| values("sersync@.service", name).concat();
    assert_eq!(one("StartLimitIntervalSec"), "0");
    assert_eq!(one("Restart"), "always");
    assert_eq!(one("RestartSec"), "1");
    let prevented = one("RestartPreventExitStatus");
    let codes: Vec<_> = prevented.split(' ').map(str::parse::<u8>).collect();
    let wanted = [sersync::cli::exit::USAGE, sersync::cli::exit::CONFIG];
    assert_eq!(codes, wanted.map(Ok));
}

#[test]
fn nothing_hides_what_may_be_mirrored() {
    let one = |name| values("sersync@.service", name).concat();
    assert_eq!(one("ProtectHome"), "read-only");
    assert_eq!(one("ProtectSystem"), "strict");
    for hides in [
        "PrivateTmp",
        "ProcSubset",
        "PrivateUsers",
        "DynamicUser",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "RootDirectory",
    ] {
        assert_eq!(one(hides), "", "{hides} hides sources");
    }
    assert_eq!(one("ReadWritePaths"), "-/proc/sys/fs/inotify");
}

#[test]
fn memory_that_is_shared_with_the_host_is_not_written() {
    let paths = values("sersync@.service", "ReadOnlyPaths").concat();
    // PrivateDevices= leaves the host's /dev/shm in place, and ProtectSystem= leaves /dev out.
    assert!(paths.split(' ').any(|path| path == "-/dev/shm"), "{paths}");
}

#[test]
fn a_receiver_may_make_the_nodes_of_all_devices_and_open_none() {
    let allowed = values("local-target.conf", "DeviceAllow");
    assert_eq!(allowed, ["block-* m", "char-* m"]);
    assert_eq!(values("local-target.conf", "DevicePolicy"), [""; 0]);
    assert_eq!(values("sersync@.service", "DevicePolicy"), ["closed"]);
}

/// A section, a comment, a setting or nothing.
#[test]
fn every_line_is_short_and_says_something() {
    for entry in fs::read_dir(dist()).expect("the directory") {
        let name = entry.expect("a file").file_name();
        let name = name.to_str().expect("our own names are text");
        let text = read(name);
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
        for (number, line) in (1..).zip(text.lines()) {
            let place = format!("{name}:{number}");
            assert!(line.chars().count() <= 120, "{place} is too long");
            assert_eq!(line.trim_end(), line, "{place} ends with a space");
            let is_unit = !name.ends_with(".catalog") && !name.ends_with(".preset");
            let fits = line.is_empty() || line.starts_with(['#', '[']) || line.contains('=');
            assert!(fits || !is_unit, "{place}: {line}");
        }
    }
}

#[test]
fn every_drop_in_says_how_it_is_used() {
    for name in DROP_INS {
        let text = read(name);
        assert!(text.starts_with("# For "), "{name}");
        let target = format!("sersync@data.service.d/{name}");
        assert!(text.contains(&target), "{name} does not say where it goes");
    }
}

#[test]
fn the_limits_in_the_example_are_those_of_the_service() {
    let text = read("50-sersync.conf");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(" = ") {
            assert!(
                line.starts_with('#'),
                "as it comes it must lower nothing: {line}"
            );
            found.insert(name.trim_start_matches("#fs.inotify."), value.parse());
        }
    }
    let Limits {
        watches,
        queued_events,
        instances,
    } = Limits::WANTED;
    assert_eq!(
        found,
        [
            ("max_user_watches", Ok(watches)),
            ("max_queued_events", Ok(queued_events)),
            ("max_user_instances", Ok(instances)),
        ]
        .into()
    );
}

/// An entry of the message catalog.
#[derive(Default)]
struct Entry {
    name: String,
    headers: BTreeMap<String, String>,
    text: String,
}

fn catalog() -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut name = String::new();
    let mut id = String::new();
    for line in read("sersync.catalog").lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            comment.clone_into(&mut name);
        } else if let Some(new) = line.strip_prefix("-- ") {
            new.clone_into(&mut id);
            let entry = Entry {
                name: name.clone(),
                ..Entry::default()
            };
            let other = entries.insert(id.clone(), entry);
            assert!(other.is_none(), "{id} is there twice");
        } else if let Some(entry) = entries.get_mut(&id) {
            match line.split_once(": ") {
                Some((header, value)) if entry.text.is_empty() => {
                    entry.headers.insert(header.into(), value.into());
                }
                _ => entry.text.extend([line, "\n"]),
            }
        }
    }
    entries
}

#[test]
fn every_message_id_has_an_entry_in_the_catalog_and_the_other_way_round() {
    let named = catalog().into_iter().map(|(id, entry)| (entry.name, id));
    let known = message_id::ALL.map(|(name, id)| (name.to_owned(), id.to_owned()));
    assert_eq!(named.collect::<BTreeMap<_, _>>(), known.into());
}

#[test]
fn every_id_in_the_source_is_in_the_list() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/message_id.rs");
    let text = fs::read_to_string(source).expect("the source");
    let constants = text.lines().filter(|line| line.starts_with("pub const "));
    let ids = constants.filter(|line| line.contains(": &str ="));
    assert_eq!(ids.count(), message_id::ALL.len());
}

#[test]
fn every_entry_says_what_happened_and_what_to_do() {
    for (id, entry) in catalog() {
        let Entry {
            name,
            headers,
            text,
        } = entry;
        for header in ["Subject", "Defined-By", "Documentation"] {
            assert!(headers.contains_key(header), "{name} has no {header}");
        }
        assert_eq!(headers["Defined-By"], "sersync");
        assert!(
            text.starts_with('\n'),
            "{id}: a blank line ends the headers"
        );
        let text = text.trim();
        assert!(!text.is_empty(), "{name} says nothing");
        let has_advice = text.contains("\n\n") || text.contains("nothing to do");
        assert!(has_advice, "{name} does not say what to do");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        for field in text.split('@').skip(1).step_by(2) {
            let known = ["MIRROR", "REMOTE", "PATH", "EXIT", "PLUGIN"];
            let field = field.strip_prefix("SERSYNC_");
            assert!(field.is_some_and(|field| known.contains(&field)), "{name}");
        }
    }
}

#[test]
fn journald_takes_the_catalog() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&dir).expect("a directory");
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).expect("a directory");
    fs::copy(dist().join("sersync.catalog"), dir.join("sersync.catalog")).expect("the catalog");
    let journalctl = |arguments: &[&str]| {
        Command::new("journalctl")
            .arg(format!("--root={}", root.path().display()))
            .args(arguments)
            .output()
    };
    let Ok(update) = journalctl(&["--update-catalog"]) else {
        return eprintln!("NOT TESTED: journalctl is missing (on Debian: apt-get install systemd)");
    };
    assert!(update.status.success(), "{}", said(&update));
    let list = journalctl(&["--list-catalog"]).expect("journalctl runs");
    let list = said(&list);
    for (name, id) in message_id::ALL {
        assert!(list.contains(id), "{name} is not in {list}");
    }
}
