//! A manual page as it is read here: mdoc(7) source. What is compared stands in `.It` lines, whose words are macros and
//! names.

use std::fs;
use std::path::{Path, PathBuf};

pub fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a directory and below it, sorted.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut found: Vec<_> = paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect();
    found.sort();
    found
}

/// The lines of a page from `.Sh heading` to the next section.
pub fn section<'p>(page: &'p str, heading: &str) -> Vec<&'p str> {
    let lines: Vec<_> = page
        .lines()
        .skip_while(|line| line.strip_prefix(".Sh ") != Some(heading))
        .skip(1)
        .take_while(|line| !line.starts_with(".Sh "))
        .collect();
    assert!(!lines.is_empty(), "there is no section {heading}");
    lines
}

/// What follows each macro `name` among the words of a line.
pub fn after<'l>(line: &'l str, name: &str) -> Vec<&'l str> {
    let words: Vec<_> = line.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == name);
    pairs.map(|pair| pair[1]).collect()
}

/// The `.It` lines that begin with a macro.
pub fn items<'p>(lines: &[&'p str], name: &str) -> Vec<&'p str> {
    let start = format!(".It {name} ");
    let lines = lines.iter().copied();
    lines.filter(|line| line.starts_with(&start)).collect()
}
