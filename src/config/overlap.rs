//! Sources and targets that get into each other's way.
//!
//! Two targets that are equal or nested would each delete what the other sends; a target inside a source would be
//! mirrored into itself. Compared is what is written, and for directories of this machine where it leads through
//! symbolic links. Several names of one host are not looked through.

use std::path::Path;

use super::escape::Escaped;
use super::problem::{At, Problems};
use super::target::Target;

mod links;

use links::Links;

/// A source or a target and its place in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a, T: ?Sized> {
    pub(super) at: At,
    pub(super) what: &'a T,
}

/// How one place lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Same,
    Inside,
    Around,
}

impl Relation {
    fn words(self) -> &'static str {
        match self {
            Self::Same => "is the same as",
            Self::Inside => "lies inside",
            Self::Around => "holds",
        }
    }
}

/// How a place lies to another, and what they are called in a message.
struct Found {
    relation: Relation,
    /// In backquotes; with the end where it took a link to find this.
    one: String,
    other: String,
}

/// Reports every pair that must not be.
pub(super) fn check(
    sources: &[Placed<'_, Path>],
    targets: &[Placed<'_, Target>],
    problems: &mut Problems<'_>,
) {
    let links = Links::of(paths_of(sources, targets));
    for (index, later) in sources.iter().enumerate() {
        for earlier in first_of_each(&sources[..index]) {
            if let Some(found) = paths(later.what, earlier.what, &links) {
                problems.warning(
                    later.at,
                    format!(
                        "the source {} {} the source {}: each change in the common part is sent by both",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
    }
    for (index, later) in targets.iter().enumerate() {
        for earlier in &targets[..index] {
            if let Some(found) = targets_of(later.what, earlier.what, &links) {
                problems.error(
                    later.at,
                    format!(
                        "the target {} {} the target {}: each would delete what the other sends; give each its own directory",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
        for source in first_of_each(sources) {
            if let Target::Local { path } = later.what
                && let Some(found) = paths(path, source.what, &links)
            {
                problems.error(
                    later.at,
                    format!(
                        "the target {} {} the source {}: what is sent would be a change again; give it a directory outside",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
    }
}

/// Reports what each directory lies in, or holds, that is to keep what is deleted and replaced.
pub(super) fn check_backups(
    backups: &[Placed<'_, Target>],
    sources: &[Placed<'_, Path>],
    targets: &[Placed<'_, Target>],
    problems: &mut Problems<'_>,
) {
    if backups.is_empty() {
        return;
    }
    let dirs = backups.iter().filter_map(|backup| local(backup.what));
    let links = Links::of(paths_of(sources, targets).chain(dirs));
    for (index, backup) in backups.iter().enumerate() {
        for earlier in &backups[..index] {
            if let Some(found) = targets_of(backup.what, earlier.what, &links) {
                problems.error(
                    backup.at,
                    format!(
                        "the backup directory {} {} the backup directory {}: what one keeps would take the place of what the other does; give each its own",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
        for target in targets {
            if let Some(found) = targets_of(backup.what, target.what, &links) {
                problems.error(
                    backup.at,
                    format!(
                        "the backup directory {} {} the target {}, which would delete it or mix with it; give it a directory beside, or a relative name, which is kept in the target",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
        for source in first_of_each(sources) {
            if let Target::Local { path } = backup.what
                && let Some(found) = paths(path, source.what, &links)
            {
                problems.error(
                    backup.at,
                    format!(
                        "the backup directory {} {} the source {}: what is kept would be mirrored; give it a directory outside",
                        found.one,
                        found.relation.words(),
                        found.other
                    ),
                );
            }
        }
    }
}

/// Two of the same name would be two of the same complaint.
fn first_of_each<'p, 's>(
    sources: &'s [Placed<'p, Path>],
) -> impl Iterator<Item = &'s Placed<'p, Path>> {
    let is_first = |(index, source): &(usize, &Placed<'p, Path>)| {
        let mut earlier = sources[..*index].iter();
        earlier.all(|earlier| earlier.what != source.what)
    };
    let numbered = sources.iter().enumerate().filter(is_first);
    numbered.map(|(_, source)| source)
}

/// Everything on this machine.
fn paths_of<'p>(
    sources: &[Placed<'p, Path>],
    targets: &[Placed<'p, Target>],
) -> impl Iterator<Item = &'p Path> {
    let sources = sources.iter().map(|source| source.what);
    sources.chain(targets.iter().filter_map(|target| local(target.what)))
}

fn local(target: &Target) -> Option<&Path> {
    match target {
        Target::Local { path } => Some(path),
        Target::Daemon { .. } | Target::Ssh { .. } => None,
    }
}

/// What is written comes first: it is what the reader sees.
fn paths(one: &Path, other: &Path, links: &Links) -> Option<Found> {
    let quoted = |path: &Path| format!("`{}`", Escaped::path(path));
    if let Some(relation) = of_paths(one, other) {
        let (one, other) = (quoted(one), quoted(other));
        return Some(Found {
            relation,
            one,
            other,
        });
    }
    let end_of = |path| links.end_of(path).unwrap_or(path);
    let with_end = |path| match links.end_of(path) {
        Some(end) => format!("{} (a link leads to {})", quoted(path), quoted(end)),
        None => quoted(path),
    };
    of_paths(end_of(one), end_of(other)).map(|relation| Found {
        relation,
        one: with_end(one),
        other: with_end(other),
    })
}

fn targets_of(one: &Target, other: &Target, links: &Links) -> Option<Found> {
    if let (Some(one), Some(other)) = (local(one), local(other)) {
        return paths(one, other, links);
    }
    of_remote_targets(one, other).map(|relation| Found {
        relation,
        one: format!("`{one}`"),
        other: format!("`{other}`"),
    })
}

fn of_paths(a: &Path, b: &Path) -> Option<Relation> {
    if a == b {
        Some(Relation::Same)
    } else if a.starts_with(b) {
        Some(Relation::Inside)
    } else if b.starts_with(a) {
        Some(Relation::Around)
    } else {
        None
    }
}

/// Two of the same kind on other machines.
fn of_remote_targets(a: &Target, b: &Target) -> Option<Relation> {
    match (a, b) {
        (
            Target::Daemon {
                host, module, port, ..
            },
            Target::Daemon {
                host: other_host,
                module: other_module,
                port: other_port,
                ..
            },
        ) if is_same_host(host, other_host) && port == other_port => {
            of_paths(Path::new(module), Path::new(other_module))
        }
        (
            Target::Ssh {
                host, path, port, ..
            },
            Target::Ssh {
                host: other_host,
                path: other_path,
                port: other_port,
                ..
            },
        ) if is_same_host(host, other_host) && port == other_port => of_paths(path, other_path),
        _ => None,
    }
}

fn is_same_host(a: &str, b: &str) -> bool {
    let address = |host: &str| host.parse::<std::net::IpAddr>().ok();
    a.to_lowercase() == b.to_lowercase() || (address(a).is_some() && address(a) == address(b))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn relation(a: &str, b: &str) -> Option<Relation> {
        let target = |text| Target::from_argument(OsStr::new(text)).unwrap();
        targets_of(&target(a), &target(b), &Links::default()).map(|found| found.relation)
    }

    #[test]
    fn targets_are_compared_by_names_not_by_letters() {
        assert_eq!(relation("/backup/a", "/backup/ab"), None);
        assert_eq!(relation("/backup/a", "/backup"), Some(Relation::Inside));
        assert_eq!(relation("/backup", "/backup/a/b"), Some(Relation::Around));
        assert_eq!(relation("host::m", "host::m2"), None);
        assert_eq!(relation("host::m/a", "host::m"), Some(Relation::Inside));
    }

    #[test]
    fn a_host_is_the_same_in_any_case_and_for_any_user_but_not_on_another_port() {
        assert_eq!(relation("a@HOST::m", "b@host::m"), Some(Relation::Same));
        assert_eq!(relation("rsync://host:874/m", "host::m"), None);
        assert_eq!(
            relation("rsync://host:873/m", "host::m"),
            Some(Relation::Same)
        );
        assert_eq!(relation("[::1]::m", "[0:0::1]::m"), Some(Relation::Same));
        assert_eq!(relation("host::M", "host::m"), None);
    }
}
