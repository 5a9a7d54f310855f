//! `sersync check`: everything that is wrong with a configuration file, or what it would do.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::exit;
use crate::config::{Config, FilterConfig, MirrorConfig, RemoteConfig, RulePlace, Target};
use crate::filter::{Filter, Kind};
use crate::path::{RelPath, escaped};

pub mod plan;

/// Checks `file`: problems go to standard error, one line each, and after them what will differ from the original if
/// the file was written for that; if it is in order, what it mirrors goes to standard output, one line for each target.
/// Exit status 0 or 78.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    show(file, true, |config, out| {
        for mirror in &config.mirrors {
            for remote in &mirror.remotes {
                writeln!(out, "{} -> {}", mirror.display_source(), remote.target)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Says whether `path` is mirrored: to which targets, or by which rule it is not. Exit status 0, 1 or 78.
#[must_use]
pub fn path(file: &Path, path: &Path) -> ExitCode {
    show(file, false, |config, out| {
        let absolute: PathBuf = std::path::absolute(path)?.components().collect();
        let shown = escaped(absolute.as_os_str().as_bytes()).to_string();
        let found = config.mirrors.iter().find_map(|mirror| {
            let below = absolute.strip_prefix(&mirror.source).ok()?;
            Some((mirror, RelPath::of(below)?))
        });
        let Some((mirror, below)) = found else {
            writeln!(out, "{shown} is not mirrored: it is in no source")?;
            return Ok(ExitCode::from(exit::FAILED));
        };
        let kind = kind_of(&absolute, path);
        if let Some(filter) = &config.filter
            && let Some(excluded) = filter.compiled.reason(&below, kind)
        {
            let rule = rule(file, filter, excluded.rule);
            let entry = mirror.source.join(excluded.entry.as_path());
            if excluded.entry == below {
                writeln!(out, "{shown} is not mirrored: {rule} excludes it")?;
            } else {
                let entry = escaped(entry.as_os_str().as_bytes()).to_string();
                writeln!(out, "{shown} is not mirrored: {rule} excludes {entry}")?;
            }
            return Ok(ExitCode::from(exit::FAILED));
        }
        mirrored(mirror, &shown, (&below, kind), out)
    })
}

/// To which targets it goes.
fn mirrored(
    mirror: &MirrorConfig,
    shown: &str,
    (below, kind): (&RelPath, Kind),
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let mut goes_nowhere = !mirror.remotes.is_empty();
    for RemoteConfig { target, params, .. } in &mirror.remotes {
        let rules = params.rules();
        let reason = |rules: &Arc<Filter>| {
            let excluded = rules.reason(below, kind)?;
            Some((rules.rule(excluded.rule)?.to_string(), excluded.entry))
        };
        if let Some((rule, entry)) = rules.and_then(reason) {
            let entry = mirror.source.join(entry.as_path());
            let entry = escaped(entry.as_os_str().as_bytes()).to_string();
            writeln!(
                out,
                "{shown} is not mirrored to {target}: {rule} in its `params` excludes {entry}"
            )?;
            continue;
        }
        goes_nowhere = false;
        let unless = if params.filtered() && rules.is_none() {
            ", unless a filter option in its `params` excludes it"
        } else {
            ""
        };
        writeln!(out, "{shown} is mirrored to {target}{unless}")?;
    }
    Ok(if goes_nowhere {
        ExitCode::from(exit::FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// What stands there; for what does not exist, what the slash behind it says.
fn kind_of(absolute: &Path, given: &Path) -> Kind {
    let says_directory = given.as_os_str().as_bytes().ends_with(b"/");
    // A slash behind a link would have it followed, and this path has none.
    let stands = absolute.symlink_metadata();
    Kind::directory_if(stands.map_or(says_directory, |found| found.is_dir()))
}

/// A rule, and where it stands.
fn rule(file: &Path, filter: &FilterConfig, at: usize) -> String {
    let place = filter.places.get(at).map(
        |RulePlace {
             file: other,
             position,
         }| {
            let column = position.column;
            match other {
                // A pattern is the whole line there.
                Some(other) => format!("{}:{}", other.display(), position.line),
                None => format!("{}:{}:{column}", file.display(), position.line),
            }
        },
    );
    format!("{} at {}", filter.rules[at], place.unwrap_or_default())
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
        Ok(ExitCode::SUCCESS)
    })
}

fn show(
    file: &Path,
    notes: bool,
    what: impl FnOnce(&Config, &mut dyn Write) -> io::Result<ExitCode>,
) -> ExitCode {
    let mut stderr = io::stderr().lock();
    match Config::load(file) {
        Ok(loaded) => {
            let notes = loaded.notes.iter().filter(|_| notes);
            for said in loaded.warnings.iter().chain(notes) {
                let _ = writeln!(stderr, "{said}");
            }
            let mut stdout = io::stdout().lock();
            let shown = what(&loaded.config, &mut stdout);
            match shown.and_then(|code| stdout.flush().map(|()| code)) {
                Ok(code) => code,
                // A reader that has gone away (`sersync check FILE | head -1`) changes nothing about the answer.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                Err(error) => {
                    let _ = writeln!(stderr, "failed to write the answer: {error}");
                    ExitCode::from(exit::FAILED)
                }
            }
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
