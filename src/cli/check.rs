//! `sersync check`: everything that is wrong with a configuration file, or what it would do.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::exit;
use crate::config::{Backup, Config, FilterConfig, MirrorConfig, RemoteConfig, RulePlace, Target};
use crate::filter::Kind;
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

/// Says whether `path` is mirrored: to which targets, or by which rule it is not. It may be in several sources, one
/// within the other, and each mirrors it by itself. Exit status 0 if one does, 1 or 78.
#[must_use]
pub fn path(file: &Path, path: &Path) -> ExitCode {
    show(file, false, |config, out| {
        let absolute: PathBuf = std::path::absolute(path)?.components().collect();
        let shown = shown(&absolute);
        let holding = config.mirrors.iter().filter_map(|mirror| {
            let below = absolute.strip_prefix(&mirror.source).ok()?;
            Some((mirror, RelPath::of(below)?))
        });
        let holding: Vec<_> = holding.collect();
        if holding.is_empty() {
            writeln!(out, "{shown} is not mirrored: it is in no source")?;
        }
        let kind = kind_of(&absolute, path);
        let mut is_mirrored = false;
        for (mirror, below) in &holding {
            if let Some(filter) = &config.filter
                && let Some(excluded) = filter.compiled.reason(below, kind)
            {
                let rule = rule(file, filter, excluded.rule);
                // Which source it is about is plain where there is one.
                let from = match holding.len() {
                    1 => String::new(),
                    _ => format!(" from {}", mirror.display_source()),
                };
                let entry = if excluded.entry == *below {
                    "it".into()
                } else {
                    self::shown(&mirror.source.join(excluded.entry.as_path()))
                };
                writeln!(
                    out,
                    "{shown} is not mirrored{from}: {rule} excludes {entry}"
                )?;
                continue;
            }
            let link = link_on_the_way(&mirror.source, &absolute);
            is_mirrored |= mirrored(mirror, &shown, (below, kind), link, out)?;
        }
        Ok(if is_mirrored {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(exit::FAILED)
        })
    })
}

fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes()).to_string()
}

/// To which targets it goes, if to any.
fn mirrored(
    mirror: &MirrorConfig,
    shown: &str,
    (below, kind): (&RelPath, Kind),
    link: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<bool> {
    // Plugins alone are told of it.
    let mut goes_somewhere = mirror.remotes.is_empty();
    for remote in &mirror.remotes {
        let RemoteConfig { target, params, .. } = remote;
        if let Some(reason) = kept_back(mirror, remote, (below, kind), link) {
            writeln!(out, "{shown} is not mirrored to {target}: {reason}")?;
            continue;
        }
        goes_somewhere = true;
        let unless = if params.filtered() && params.rules().is_none() {
            ", unless a filter option in its `params` excludes it"
        } else {
            ""
        };
        writeln!(out, "{shown} is mirrored to {target}{unless}")?;
    }
    Ok(goes_somewhere)
}

/// Why something that no rule of the file excludes does not go to a remote.
fn kept_back(
    mirror: &MirrorConfig,
    RemoteConfig { params, backup, .. }: &RemoteConfig,
    (below, kind): (&RelPath, Kind),
    link: Option<&Path>,
) -> Option<String> {
    if let Some(link) = link.filter(|_| !params.follows_links()) {
        let link = shown(link);
        return Some(format!("{link} is a symbolic link, and none is followed"));
    }
    if let Some(dir) = backup.as_ref().and_then(Backup::inside)
        && below.is_within(dir)
    {
        let dir = shown(&mirror.source.join(dir.as_path()));
        return Some(format!("{dir} has the name of its backup directory"));
    }
    let rules = params.rules()?;
    let excluded = rules.reason(below, kind)?;
    let rule = rules.rule(excluded.rule)?;
    let entry = shown(&mirror.source.join(excluded.entry.as_path()));
    Some(format!("{rule} in its `params` excludes {entry}"))
}

/// The first symbolic link between a source and a path in it: what is behind that is not in the source.
fn link_on_the_way<'p>(source: &Path, path: &'p Path) -> Option<&'p Path> {
    let above = path.ancestors().skip(1);
    let between = above.take_while(|dir| *dir != source && dir.starts_with(source));
    between.filter(|dir| dir.is_symlink()).last()
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

/// A reader that has gone away (`sersync check FILE | head -1`) changes nothing about the answer.
struct Unread<W>(W);

impl<W: Write> Write for Unread<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self.0.write(text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(text.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
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
            let mut stdout = Unread(io::stdout().lock());
            let shown = what(&loaded.config, &mut stdout);
            match shown.and_then(|code| stdout.flush().map(|()| code)) {
                Ok(code) => code,
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
