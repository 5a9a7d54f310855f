//! All of them together: well-formed, pointing to what exists, with commands that the program understands.

use std::fs;
use std::io::{self, Write as _};
use std::process::Command;

use clap::Parser as _;
use sersync::cli::Cli;

use crate::page::{at, files, read};

#[test]
fn pages_and_units_point_to_pages_that_exist() {
    let page_of = |name: &str, section: &str| at(&format!("man/{name}.{section}"));
    for file in files(&at("man")) {
        let text = fs::read_to_string(&file).expect("a page");
        for line in text.lines().filter(|line| line.starts_with(".Xr ")) {
            let words: Vec<_> = line.split(' ').collect();
            if words[1].contains("sersync") {
                let meant = page_of(words[1], words[2]);
                assert!(meant.exists(), "{}: {line}", file.display());
            }
        }
    }
    for file in files(&at("dist/systemd")) {
        let text = fs::read_to_string(&file).expect("a unit");
        for reference in text.split("man:").skip(1) {
            let end = reference.find(')').expect("man:NAME(SECTION)");
            let (name, section) = reference[..end].split_once('(').expect("man:NAME(SECTION)");
            if name.contains("sersync") {
                let meant = page_of(name, section);
                assert!(meant.exists(), "{}: {name}({section})", file.display());
            }
        }
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    let mut mandoc = Command::new("mandoc");
    mandoc.args(["-T", "lint", "-W", "warning"]);
    let Ok(said) = mandoc.args(files(&at("man"))).output() else {
        // Not by eprintln, which nobody sees of a test that passes.
        let notice = "NOT TESTED: mandoc is missing (on Debian: apt-get install mandoc)";
        writeln!(io::stderr(), "{notice}").expect("standard error is open");
        return;
    };
    let found = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{found}");
    assert_eq!(found, "");
}

/// The lines of a README or page that are typed in or shown, without their comments.
fn shown(text: &str) -> Vec<&str> {
    let mut is_fenced = false;
    let lines = text.lines().filter_map(move |line| {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            return None;
        }
        let is_page = [".Dl ", "# ", "$ "]
            .iter()
            .any(|start| line.starts_with(start));
        let is_shown = is_fenced || line.starts_with("    ") || (is_page && !text.starts_with('#'));
        is_shown.then(|| line.strip_prefix(".Dl ").unwrap_or(line).trim())
    });
    let lines = lines.map(|line| line.split("  #").next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_commands_that_are_shown_are_understood() {
    let pages = files(&at("man")).into_iter();
    let documents = pages.chain([at("README.md"), at("README.zh-CN.md")]);
    let mut count = 0;
    for file in documents {
        let text = fs::read_to_string(&file).expect("a document");
        for line in shown(&text) {
            let line = line.trim_start_matches(['#', '$', ' ']);
            let line = line.trim_start_matches("sudo ");
            for command in line
                .split(" && ")
                .filter(|line| line.starts_with("sersync "))
            {
                let words = command.split_whitespace();
                let words = words.take_while(|word| !matches!(*word, ">" | "|"));
                let parsed = Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{}: {command}: {parsed:?}", file.display());
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn both_readmes_show_the_same() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(shown(&english), shown(&chinese));
    let headings = |text: &str| text.lines().filter(|line| line.starts_with("##")).count();
    assert_eq!(headings(&english), headings(&chinese));
}

#[test]
fn debians_change_log_is_that_of_this_version() {
    let first = read("dist/deb/changelog");
    let first = first.lines().next().expect("an entry");
    let version = concat!("sersync (", env!("CARGO_PKG_VERSION"), "-1) ");
    assert!(first.starts_with(version), "{first}");
}
