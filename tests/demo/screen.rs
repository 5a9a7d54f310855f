//! How the demonstration looks: aligned rows, and the two trees beside each other.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

const LEFT: usize = 46;
const RIGHT: usize = 22;

/// A directory with more files than this is shown as their number.
const LISTED_FILES: usize = 6;

/// Lines of a log that are shown when something went wrong.
const LAST_LINES: usize = 20;

/// One row of the table.
pub fn print_row(left: &str, right: &str) {
    println!("  {left:<LEFT$}{right:>RIGHT$}");
}

/// The line under the table's head.
pub fn print_rule() {
    println!("  {}", "-".repeat(LEFT + RIGHT));
}

/// A time as it is shown in the table.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// Both trees side by side, long directories as a number of files.
pub fn print_trees(left: &Path, right: &Path) -> io::Result<()> {
    let left_lines = lines_of(left)?;
    let right_lines = lines_of(right)?;
    for number in 0..left_lines.len().max(right_lines.len()) {
        let line = |lines: &[String]| lines.get(number).cloned().unwrap_or_default();
        println!("  {:<LEFT$}{}", line(&left_lines), line(&right_lines));
    }
    Ok(())
}

/// The last lines of a log file, for somebody who has to find out why the demonstration failed.
pub fn print_end_of(log: &Path) {
    let Ok(text) = fs::read_to_string(log) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("the end of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        eprintln!("  {line}");
    }
}

fn lines_of(root: &Path) -> io::Result<Vec<String>> {
    let name = root.file_name().unwrap_or_default().display();
    let mut lines = vec![format!("{name}/")];
    add_lines(root, 1, &mut lines)?;
    Ok(lines)
}

fn add_lines(directory: &Path, depth: usize, lines: &mut Vec<String>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    let indent = "  ".repeat(depth);
    let mut files = Vec::new();
    for entry in entries {
        let name = printable(&entry.file_name());
        if entry.file_type()?.is_dir() {
            lines.push(format!("{indent}{name}/"));
            add_lines(&entry.path(), depth + 1, lines)?;
        } else {
            files.push(format!("{indent}{name}  {} B", entry.metadata()?.len()));
        }
    }
    if files.len() > LISTED_FILES {
        lines.push(format!("{indent}{} files", files.len()));
    } else {
        lines.append(&mut files);
    }
    Ok(())
}

/// A name in one line: control characters as `\n` or `\u{7}`.
fn printable(name: &OsStr) -> String {
    let name = name.display().to_string();
    let mut shown = String::new();
    for letter in name.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}
