//! What a configuration may hold, as the program tells it itself: whoever writes an unknown name is told the known ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use sersync::config::Config;

/// Every element by its path below `head`, with its attributes.
pub struct Schema {
    directory: tempfile::TempDir,
    pub elements: BTreeMap<String, BTreeSet<String>>,
}

impl Schema {
    /// Far from every name, or the program would guess.
    const UNKNOWN: &str = "thereisnothingofthisnameanywhere";
    const PLUGINS: [&str; 4] = ["command", "socket", "http", "refreshCDN"];

    pub fn ask() -> Self {
        let mut schema = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            elements: BTreeMap::new(),
        };
        schema.explore("head", &[("head", "")]);
        schema
    }

    /// Notes the attributes of the last of the elements `way`, which lie in each other, and explores what it holds.
    fn explore(&mut self, name: &str, way: &[(&str, &str)]) {
        let unknown = Self::UNKNOWN;
        let begin = |(name, attribute)| format!("<{name} {attribute}");
        let mut text = way.iter().copied().map(begin).collect::<Vec<_>>().join(">");
        let ends = way.iter().rev().map(|(element, _)| format!("</{element}>"));
        let ends: String = ends.collect();
        let _ = write!(text, " {unknown}='x'><{unknown}/>{ends}");
        let (attributes, children) = self.known(&text);
        let known = self.elements.entry(name.to_owned()).or_default();
        known.extend(attributes);
        for child in children {
            let is_definition = name == "head" && child == "plugin";
            let path = match name {
                "head" => child.clone(),
                _ => format!("{name}/{child}"),
            };
            if is_definition {
                self.elements.insert(path, ["name".to_owned()].into());
                for plugin in Self::PLUGINS {
                    let attribute = format!("name='{plugin}'");
                    self.explore_below(&format!("plugin[{plugin}]"), way, (&child, &attribute));
                }
            } else {
                self.explore_below(&path, way, (&child, ""));
            }
        }
    }

    fn explore_below(&mut self, name: &str, way: &[(&str, &str)], child: (&str, &str)) {
        let way: Vec<_> = way.iter().copied().chain([child]).collect();
        self.explore(name, &way);
    }

    /// What the program says of the unknown attribute and the unknown element in `text`.
    fn known(&self, text: &str) -> (Vec<String>, Vec<String>) {
        let file = self.directory.path().join("unknown.xml");
        fs::write(&file, text).expect("a file");
        let said = Config::load(&file).expect_err(text).to_string();
        let names = |what: &str| {
            let start = format!("unknown {what} `{}`", Self::UNKNOWN);
            let line = said.lines().find(|line| line.contains(&start));
            let line = line.unwrap_or_else(|| panic!("no word of the {what} in {text}:\n{said}"));
            let known = line
                .split_once("known here: ")
                .map_or("", |(_, known)| known);
            let known = known.split(", ").filter(|name| !name.is_empty());
            known
                .map(|name| name.trim_matches('`').to_owned())
                .collect()
        };
        (names("attribute"), names("element"))
    }
}
