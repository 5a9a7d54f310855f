//! `sersync check`: everything that is wrong with a configuration file, or what it would do.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

use super::exit;
use crate::config::{Config, Target};

/// Checks `file`: problems go to standard error, one line each, and after them what will differ from the original if
/// the file was written for that; if it can be run, what it mirrors goes to standard output, one line for each target.
/// Exit status 0 or 78.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    show(file, true, |config, out| {
        for mirror in &config.mirrors {
            for remote in &mirror.remotes {
                writeln!(out, "{} -> {}", mirror.display_source(), remote.target)?;
            }
        }
        Ok(())
    })
}

/// Prints a drop-in for the unit of the instance: with it, systemd starts the service after the file systems of its
/// sources and local targets are mounted. Without it the service waits for them by itself.
#[must_use]
pub fn mounts(file: &Path) -> ExitCode {
    show(file, false, |config, out| {
        writeln!(
            out,
            "# Made by `sersync check --mounts`; make it again when the paths change.\n[Unit]"
        )?;
        for path in local_paths(config) {
            out.write_all(b"RequiresMountsFor=")?;
            out.write_all(&in_a_unit_file(path))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

fn show(
    file: &Path,
    notes: bool,
    what: impl FnOnce(&Config, &mut dyn Write) -> io::Result<()>,
) -> ExitCode {
    let mut stderr = io::stderr().lock();
    let checked = Config::load(file).and_then(|loaded| {
        let notes = loaded.notes.iter().filter(|_| notes);
        for said in loaded.warnings.iter().chain(notes) {
            let _ = writeln!(stderr, "{said}");
        }
        loaded.into_runnable()
    });
    match checked {
        Ok((config, _)) => {
            // A reader that has gone away (`sersync check FILE | head -1`) changes nothing about the answer.
            let _ = what(&config, &mut io::stdout().lock());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr, "{error}");
            ExitCode::from(exit::CONFIG)
        }
    }
}

fn local_paths(config: &Config) -> BTreeSet<&Path> {
    let sources = config.mirrors.iter().map(|mirror| mirror.source.as_path());
    let remotes = config.mirrors.iter().flat_map(|mirror| &mirror.remotes);
    let targets = remotes.filter_map(|remote| match &remote.target {
        Target::Local { path } => Some(path.as_path()),
        Target::Daemon { .. } | Target::Ssh { .. } => None,
    });
    sources.chain(targets).collect()
}

/// A path as one word of a unit file: see "Quoting" in systemd.syntax(7), and "Specifiers" in systemd.unit(5).
fn in_a_unit_file(path: &Path) -> Vec<u8> {
    let mut word = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => word.extend([b'\\', *byte]),
            b'%' => word.extend(b"%%"),
            0..0x20 | 0x7f => word.extend(format!("\\x{byte:02x}").bytes()),
            _ => word.push(*byte),
        }
    }
    word.push(b'"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_unit_file_whatever_it_holds() {
        let path = Path::new("/a b/100%/\"x\\y\n");
        assert_eq!(
            String::from_utf8_lossy(&in_a_unit_file(path)),
            "\"/a b/100%%/\\\"x\\\\y\\x0a\""
        );
    }
}
