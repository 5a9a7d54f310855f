//! Imports go one way: this reads what every file takes from `crate::…` and compares it with the layers that
//! `lib.rs` describes. A file may import from its own layer's group and from any below.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top; a module belongs to the longest prefix that fits.
const LAYERS: &[&[&str]] = &[
    &["path", "lasting", "change", "control", "message_id"],
    &["filter"],
    &["config"],
    &[
        "by_hand",
        "dirty",
        "fail_queue",
        "saved",
        "plugin::owed",
        "plugin::queue",
        "rsync::args",
        "rsync::confine",
        "rsync::ended",
        "rsync::itemized",
        "rsync::outcome",
        "rsync::progress",
        "rsync::rules",
        "rsync::skipped",
        "ssh::args",
    ],
    &["lane"],
    &[
        "links",
        "local_target",
        "mounts",
        "plugin",
        "resolve",
        "watch",
        "rsync",
        "ssh",
        "systemd",
        "sysctl",
        "dbus",
        "journal",
        "fail_log",
        "store",
    ],
    &[
        "lane::attempt",
        "lane::context",
        "lane::guard",
        "lane::preview",
        "lane::sample",
        "lane::transfer",
        "lane::verify",
    ],
    &["lane::task"],
    &["mirror"],
    &["daemon"],
    &["cli"],
];

fn layer_of(module: &str) -> usize {
    let module = module.split(" as ").next().unwrap_or(module);
    let fits = |name: &&&str| module == **name || module.starts_with(&format!("{name}::"));
    LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| {
            names
                .iter()
                .filter(fits)
                .map(move |name| (name.len(), layer))
        })
        .max()
        .unwrap_or_else(|| panic!("`{module}` is in no layer: give it one, here and in lib.rs"))
        .1
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `src/lane/task.rs` is `lane::task`.
fn module_of(file: &Path, src: &Path) -> String {
    let relative = file
        .strip_prefix(src)
        .expect("below src")
        .with_extension("");
    relative
        .to_str()
        .expect("our own names are text")
        .replace('/', "::")
}

/// The modules that a file imports by `use crate::…` or `use super::…`, without tests.
fn imports(text: &str, module: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for statement in code
        .split("use ")
        .skip(1)
        .filter_map(|rest| rest.split(';').next())
    {
        let (base, rest) = if let Some(rest) = statement.strip_prefix("crate::") {
            (String::new(), rest)
        } else if let Some(rest) = statement.strip_prefix("super::") {
            (
                if parent.is_empty() {
                    String::new()
                } else {
                    format!("{parent}::")
                },
                rest,
            )
        } else {
            continue;
        };
        let (path, list) = rest
            .split_once('{')
            .map_or((rest, ""), |(path, list)| (path, list));
        if list.is_empty() {
            found.push(format!("{base}{path}"));
        }
        for name in list
            .trim_end()
            .trim_end_matches('}')
            .split(',')
            .map(str::trim)
        {
            if !name.is_empty() {
                found.push(format!("{base}{path}{name}"));
            }
        }
    }
    found
}

/// The modules that a file names where it uses them, as `crate::…`, without tests and comments.
fn named(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with("//") && !line.starts_with("use "));
    let is_of_path = |letter: char| letter.is_alphanumeric() || "_:".contains(letter);
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.split(|letter| !is_of_path(letter))
                .next()
                .unwrap_or(rest)
        })
        .filter(|path| path.starts_with(char::is_lowercase))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_map_shows_every_layer() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let map = fs::read_to_string(lib).expect("src can be read");
    for module in LAYERS.iter().copied().flatten() {
        assert!(
            map.contains(&format!("`{module}`")),
            "{module} is not on the map"
        );
    }
}

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in all {
        let module = module_of(&file, &src);
        if matches!(module.as_str(), "lib" | "main") || module.ends_with("::tests") {
            continue;
        }
        let layer = layer_of(&module);
        let text = fs::read_to_string(&file).expect("src can be read");
        let imports = imports(&text, &module).into_iter();
        for import in imports.chain(named(&text)) {
            seen += 1;
            if layer_of(&import) > layer {
                wrong.push(format!("{module} imports {import}, which is above it"));
            }
        }
    }
    assert!(seen > 50, "the imports were not found: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_bus_knows_of_the_daemon_only_what_control_says() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![src.join("dbus.rs")];
    files(&src.join("dbus"), &mut all);
    for file in all {
        let module = module_of(&file, &src);
        let text = fs::read_to_string(&file).expect("src can be read");
        for import in imports(&text, &module) {
            let known = ["control", "dbus"];
            let is_known = known.iter().any(|name| import.starts_with(name));
            assert!(is_known, "{module} imports {import}");
        }
    }
}

#[test]
fn an_import_from_above_would_be_found() {
    let text = "use crate::daemon::run;\nuse super::{Job, transfer::Context};\n";
    let found = imports(text, "lane::task");
    assert_eq!(
        found,
        ["daemon::run", "lane::Job", "lane::transfer::Context"]
    );
    assert!(layer_of("daemon::run") > layer_of("lane::task"));
    assert!(layer_of("lane::transfer::Context") < layer_of("lane::task"));
}
