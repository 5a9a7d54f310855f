//! Sources and targets that get into each other's way.
//!
//! Two targets that are equal or nested would each delete what the other sends; a target inside a source would be
//! mirrored into itself. Compared is what is written: links and several names of one host are not looked through.

use std::path::Path;

use super::escape::Escaped;
use super::problem::{At, Problems};
use super::target::Target;

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

/// Reports every pair that must not be.
pub(super) fn check(
    sources: &[Placed<'_, Path>],
    targets: &[Placed<'_, Target>],
    problems: &mut Problems<'_>,
) {
    for (index, later) in sources.iter().enumerate() {
        for earlier in &sources[..index] {
            if let Some(relation) = of_paths(later.what, earlier.what) {
                problems.warning(
                    later.at,
                    format!(
                        "the source `{}` {} the source `{}`: each change in the common part is sent by both",
                        Escaped::path(later.what),
                        relation.words(),
                        Escaped::path(earlier.what)
                    ),
                );
            }
        }
    }
    for (index, later) in targets.iter().enumerate() {
        for earlier in &targets[..index] {
            if let Some(relation) = of_targets(later.what, earlier.what) {
                problems.error(
                    later.at,
                    format!(
                        "the target `{}` {} the target `{}`: each would delete what the other sends; give each its own directory",
                        later.what,
                        relation.words(),
                        earlier.what
                    ),
                );
            }
        }
        for source in sources {
            if let Target::Local { path } = later.what
                && let Some(relation) = of_paths(path, source.what)
            {
                problems.error(
                    later.at,
                    format!(
                        "the target `{}` {} the source `{}`: what is sent would be a change again; give it a directory outside",
                        later.what,
                        relation.words(),
                        Escaped::path(source.what)
                    ),
                );
            }
        }
    }
}

/// Reports what a directory lies in, or holds, that is to keep what is deleted and replaced.
pub(super) fn check_backup(
    backup: &Placed<'_, Target>,
    sources: &[Placed<'_, Path>],
    targets: &[Placed<'_, Target>],
    problems: &mut Problems<'_>,
) {
    let dir = backup.what;
    for target in targets {
        if let Some(relation) = of_targets(dir, target.what) {
            problems.error(
                backup.at,
                format!(
                    "the backup directory `{dir}` {} the target `{}`, which would delete it or mix with it; give it a directory beside, or a relative name, which is kept in the target",
                    relation.words(),
                    target.what
                ),
            );
        }
    }
    for source in sources {
        if let Target::Local { path } = dir
            && let Some(relation) = of_paths(path, source.what)
        {
            problems.error(
                backup.at,
                format!(
                    "the backup directory `{dir}` {} the source `{}`: what is kept would be mirrored; give it a directory outside",
                    relation.words(),
                    Escaped::path(source.what)
                ),
            );
        }
    }
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

fn of_targets(a: &Target, b: &Target) -> Option<Relation> {
    match (a, b) {
        (Target::Local { path: a }, Target::Local { path: b }) => of_paths(a, b),
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
        of_targets(&target(a), &target(b))
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
