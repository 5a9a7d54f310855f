//! sersync.xml(5): elements, attributes, examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use sersync::config::Config;

use crate::page::{after, read, section};
use crate::schema::Schema;

#[test]
fn every_element_and_attribute_is_in_the_manual() {
    let page = read("man/sersync.xml.5");
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut element = String::new();
    for line in section(&page, "ELEMENTS") {
        if let Some(path) = line.strip_prefix(".It Cm ") {
            element = path.split(' ').next().unwrap_or_default().to_owned();
            described.entry(element.clone()).or_default();
        }
        if line.starts_with(".It ") {
            let attributes = after(line, "Va").into_iter().map(ToOwned::to_owned);
            described
                .entry(element.clone())
                .or_default()
                .extend(attributes);
        }
    }
    let mut known = Schema::ask().elements;
    // What a plugin of a kind may hold is described, its only attribute once for all.
    known.retain(|path, _| !path.ends_with(']'));
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(described, known);
}

#[test]
fn the_configurations_in_the_manual_can_be_run() {
    let page = read("man/sersync.xml.5");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("example.xml");
    let examples = page.split(".Bd -literal").filter_map(|rest| {
        let (_, text) = rest.split_once('\n')?;
        let (text, _) = text.split_once("\n.Ed")?;
        text.starts_with('<').then_some(text)
    });
    let examples: Vec<_> = examples.collect();
    assert!(examples.len() > 1);
    for example in examples {
        fs::write(&file, example).expect("a file");
        let loaded = Config::load(&file).unwrap_or_else(|error| panic!("{error}:\n{example}"));
        assert_eq!(loaded.warnings, []);
    }
}
