//! sersync(8): commands, options, exit codes, and what goes to the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory as _;
use sersync::cli::Cli;
use sersync::message_id;

use crate::page::{after, at, files, items, read, section};

#[test]
fn every_command_is_in_the_manual_with_just_its_options() {
    let page = read("man/sersync.8");
    let mut described = BTreeMap::new();
    let mut lines = section(&page, "COMMANDS").into_iter();
    while lines.any(|line| line == ".It Xo") {
        let header: Vec<_> = lines.by_ref().take_while(|line| *line != ".Xc").collect();
        let header = header.join(" ");
        let command = after(&header, ".Cm")[0].to_owned();
        let options = after(&header, "Fl").into_iter();
        let options: BTreeSet<_> = options
            .filter_map(|option| option.strip_prefix('-'))
            .map(ToOwned::to_owned)
            .collect();
        described.insert(command, options);
    }
    let mut program = Cli::command();
    program.build();
    let commands = program.get_subcommands().map(|command| {
        let options = shown(command).filter_map(|arg| arg.get_long());
        let options = options.filter(|option| !matches!(*option, "help" | "version"));
        let options: BTreeSet<_> = options.map(ToOwned::to_owned).collect();
        (command.get_name().to_owned(), options)
    });
    assert_eq!(described, commands.collect());
}

/// What `--help` shows.
fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set())
}

#[test]
fn every_option_is_explained_with_its_letter() {
    let page = read("man/sersync.8");
    let lines = section(&page, "OPTIONS");
    let described: BTreeSet<(String, Option<char>)> = items(&lines, "Fl")
        .into_iter()
        .map(|item| {
            let names = after(item, "Fl");
            let letter = names.iter().copied().find(|name| !name.starts_with('-'));
            let long = names.iter().find_map(|name| name.strip_prefix('-'));
            let long = long.expect("every option has a long name");
            (long.into(), letter.and_then(|letter| letter.chars().next()))
        })
        .collect();
    let mut program = Cli::command();
    program.build();
    let all = program.get_subcommands().chain([&program]);
    let options = all.flat_map(shown);
    let known = options.filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_short())));
    assert_eq!(described, known.collect());
}

#[test]
fn every_exit_code_is_in_the_manual() {
    let page = read("man/sersync.8");
    let described: BTreeSet<u8> = section(&page, "EXIT STATUS")
        .iter()
        .filter_map(|line| line.strip_prefix(".It ")?.parse().ok())
        .collect();
    let source = read("src/cli.rs");
    let codes = source.lines().filter_map(|line| {
        let (_, code) = line.split_once(": u8 = ")?;
        code.trim_end_matches(';').parse().ok()
    });
    let known: BTreeSet<u8> = codes.chain([0]).collect();
    assert!(known.contains(&sersync::cli::exit::CONFIG), "{known:?}");
    assert_eq!(described, known);
}

#[test]
fn every_message_id_is_in_the_manual() {
    let page = read("man/sersync.8");
    let lines = section(&page, "JOURNAL");
    let described: BTreeSet<(&str, &str)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(".It Dv ")?.split_once(" No "))
        .collect();
    assert_eq!(described, message_id::ALL.into());
}

#[test]
fn every_field_of_the_journal_is_in_the_manual() {
    let page = read("man/sersync.8");
    let described: BTreeSet<String> = section(&page, "JOURNAL")
        .iter()
        .filter_map(|line| line.strip_prefix(".It Dv SERSYNC_"))
        .map(ToOwned::to_owned)
        .collect();
    let is_source = |file: &&PathBuf| !file.ends_with("tests.rs");
    let sources = files(&at("src"));
    let sources = sources
        .iter()
        .filter(is_source)
        .map(|file| fs::read_to_string(file).expect("a source"));
    let unit = read("dist/systemd/sersync@.service");
    let mut known = BTreeSet::new();
    for text in sources.chain([unit]) {
        for rest in text.split("SERSYNC_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_uppercase());
            let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
            if rest.starts_with(" = ") || rest.starts_with("=%i") {
                known.insert(name.to_owned());
            }
        }
    }
    assert_eq!(described, known);
}
