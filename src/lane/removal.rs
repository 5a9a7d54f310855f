//! What of that which is only at a receiver may be removed, where a filter says what must stay. Pure.
//!
//! rsync cannot be told a regular expression, and what stands at a receiver is not known here. So rsync is asked first
//! what is only there, the filter picks from the answer, and then exactly the names that were picked may be removed
//! and every other name is protected. Nothing is removed for what it is not.

use std::collections::BTreeSet;
use std::ffi::OsString;

use crate::filter::{Filter, Kind};
use crate::path::RelPath;
use crate::rsync::rules::{Effect, PROTECT_THE_REST, rule};

/// Names of one run. rsync compares every name with every rule, so many short runs are cheaper than a long one.
pub const MOST_NAMES: usize = 500;
/// Bytes of rules of one run; the kernel takes about two million for a command line.
const MOST_BYTES: usize = 256 << 10;

/// Excluded entries that rsync is told of so that it need not list them; of more it hears in vain.
const MOST_EXCLUDED: usize = 1000;

/// An entry that is only at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraneous {
    /// Where.
    pub path: RelPath,
    /// What it is there.
    pub kind: Kind,
}

/// What is to be removed, and what stays for the filter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The entries to be removed, in order, a directory before what is in it.
    doomed: Vec<RelPath>,
    /// Directories that are not excluded, but hold what is, or what rsync's own rules protect.
    pub kept: BTreeSet<RelPath>,
    /// Everything that is only at the receiver.
    all: BTreeSet<RelPath>,
}

/// Of which names rsync must not see what the source has: it is excluded, or is not what the receiver has there.
///
/// That is asked for by kind, not for what stands there now: an excluded file may come and go while rsync looks, of
/// which nobody tells, and a directory of its name at the receiver would be taken for present.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hides<'a> {
    /// What it excludes is not seen.
    pub filter: Option<&'a Filter>,
    /// Names under which something that is no directory is to stand, and at the receiver a directory does.
    pub replaced: Option<&'a BTreeSet<RelPath>>,
}

impl Hides<'_> {
    /// Whether there is a rule for a name.
    #[must_use]
    pub fn has(&self, path: &RelPath) -> bool {
        self.rules(path).next().is_some()
    }

    /// The rules for a name, to come before any other.
    pub fn rules(&self, path: &RelPath) -> impl Iterator<Item = OsString> + use<> {
        let excludes = |kind| {
            self.filter
                .is_some_and(|filter| filter.excludes(path, kind))
        };
        let is_replaced = self.replaced.is_some_and(|names| names.contains(path));
        let rules = match (excludes(Kind::Directory), excludes(Kind::Other)) {
            _ if is_replaced => Self::but_directories(path),
            (false, true) => Self::but_directories(path),
            (true, false) => [Some(rule(Effect::Hide, path, true)), None],
            // Nothing is excluded, or nothing of that name is removed.
            (false, false) | (true, true) => [None, None],
        };
        rules.into_iter().flatten()
    }

    fn but_directories(path: &RelPath) -> [Option<OsString>; 2] {
        let show = rule(Effect::Show, path, true);
        [Some(show), Some(rule(Effect::Hide, path, false))]
    }
}

/// One run of rsync that removes.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Filter rules, to come before any other.
    pub rules: Vec<OsString>,
    /// The directories in which it is done.
    pub directories: Vec<RelPath>,
}

impl Removal {
    /// Picks from what is only at the receiver, all of it without a filter: with `within`, only what is at or below one
    /// of these names. `is_here` says of a directory above it whether the source has it.
    ///
    /// A directory in which rsync's own rules protect something is not listed, but what is in it beside that is. Such a
    /// directory is kept, and on the way to what is removed.
    #[must_use]
    pub fn pick(
        mut extraneous: Vec<Extraneous>,
        filter: Option<&Filter>,
        within: Option<&BTreeSet<RelPath>>,
        is_here: impl Fn(&RelPath) -> bool,
    ) -> Self {
        extraneous.sort_by(|a, b| a.path.cmp(&b.path));
        let is_meant = |path: &RelPath| {
            within.is_none_or(|names| {
                names.contains(path) || path.ancestors_below_root().any(|dir| names.contains(&dir))
            })
        };
        let (stay, go): (Vec<_>, Vec<_>) = extraneous
            .iter()
            .filter(|found| is_meant(&found.path))
            .partition(|found| filter.is_some_and(|filter| filter.covers(&found.path, found.kind)));
        let stays: BTreeSet<&RelPath> = stay.iter().map(|found| &found.path).collect();
        let kept: BTreeSet<RelPath> = stay
            .iter()
            .flat_map(|found| found.path.ancestors_below_root())
            .filter(|dir| !stays.contains(dir))
            .collect();
        let go = go.into_iter().map(|found| found.path.clone());
        let doomed: Vec<RelPath> = go.filter(|path| !kept.contains(path)).collect();
        let mut all: BTreeSet<RelPath> = extraneous.into_iter().map(|found| found.path).collect();
        let above = doomed.iter().flat_map(RelPath::ancestors_below_root);
        let unlisted = above.filter(|dir| !all.contains(dir) && !is_here(dir));
        let unlisted: BTreeSet<RelPath> = unlisted.collect();
        let mut kept = kept;
        kept.extend(unlisted.iter().cloned());
        all.extend(unlisted);
        Self { doomed, kept, all }
    }

    /// Number of entries to be removed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.doomed.len() as u64
    }

    /// The topmost entries on the way to what is to be removed that are taken for missing, in order.
    #[must_use]
    pub fn topmost(&self) -> Vec<RelPath> {
        let topmost = self.doomed.iter().map(|path| {
            let mut above = path.ancestors_below_root();
            above
                .find(|dir| self.all.contains(dir))
                .unwrap_or_else(|| path.clone())
        });
        let topmost: BTreeSet<RelPath> = topmost.collect();
        topmost.into_iter().collect()
    }

    /// What is to be removed, in order.
    pub fn doomed(&self) -> impl ExactSizeIterator<Item = &RelPath> {
        self.doomed.iter()
    }

    /// The runs that carry it out.
    ///
    /// rsync removes what is missing from the directories of its list, and goes into a directory that is missing only
    /// as far as rules let it. So the directories of a run are those above the topmost missing entries.
    pub fn runs<'a>(&'a self, hides: Hides<'a>) -> impl Iterator<Item = Run> + 'a {
        let mut rest = &self.doomed[..];
        std::iter::from_fn(move || {
            let (run, count) = self.run(rest, hides)?;
            rest = &rest[count..];
            Some(run)
        })
    }

    /// A run for the first of some names, and for how many of them.
    fn run(&self, names: &[RelPath], hides: Hides<'_>) -> Option<(Run, usize)> {
        let mut risked = BTreeSet::new();
        let mut directories = BTreeSet::new();
        let (mut count, mut bytes) = (0, 0);
        for path in names.iter().take(MOST_NAMES) {
            let above = path.ancestors_below_root();
            let missing = above.filter(|dir| self.all.contains(dir));
            let way: Vec<RelPath> = missing.chain([path.clone()]).collect();
            let fresh = way.iter().filter(|path| !risked.contains(*path));
            bytes += fresh.map(|path| path.as_bytes().len() + 16).sum::<usize>();
            if bytes > MOST_BYTES && count > 0 {
                break;
            }
            count += 1;
            directories.extend(way.first().and_then(RelPath::parent));
            risked.extend(way);
        }
        let hides = risked.iter().flat_map(|path| hides.rules(path));
        let risks = risked.iter().map(|path| rule(Effect::Risk, path, false));
        let run = Run {
            rules: hides
                .chain(risks)
                .chain([PROTECT_THE_REST.into()])
                .collect(),
            directories: directories.into_iter().collect(),
        };
        (count > 0).then_some((run, count))
    }
}

/// Rules that keep excluded entries out of a listing: they may be large, or not readable, which would forbid deletions.
/// What is `hidden` would be mirrored if it were a directory, so one of its name is listed.
#[must_use]
pub fn left_out(excluded: &[(RelPath, Kind)], hidden: &[RelPath]) -> Vec<OsString> {
    let is_directory = |(_, kind): &&(RelPath, Kind)| *kind == Kind::Directory;
    // Directories are what costs.
    let (directories, others): (Vec<_>, Vec<_>) = excluded.iter().partition(is_directory);
    let exclude =
        |(path, kind): &(RelPath, Kind)| rule(Effect::Exclude, path, *kind == Kind::Directory);
    let hides = hidden.iter().map(|path| rule(Effect::Hide, path, false));
    let mut bytes = 0;
    directories
        .into_iter()
        .map(exclude)
        .chain(hides)
        .chain(others.into_iter().map(exclude))
        .take(MOST_EXCLUDED)
        .take_while(|rule| {
            bytes += rule.len();
            bytes <= MOST_BYTES
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Rule;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn paths(texts: &[&str]) -> BTreeSet<RelPath> {
        texts.iter().map(|text| path(text)).collect()
    }

    fn filter() -> Filter {
        let expressions = [r"(.*)\.tmp", "cache/"].map(|text| Rule::Expression(text.into()));
        Filter::new(expressions.to_vec()).expect("good expressions")
    }

    /// A name with a slash behind it is a directory.
    fn found(names: &[&str]) -> Vec<Extraneous> {
        let found = names.iter().map(|name| Extraneous {
            path: path(name.trim_end_matches('/')),
            kind: Kind::directory_if(name.ends_with('/')),
        });
        found.collect()
    }

    fn shown(run: &Run) -> (Vec<String>, Vec<String>) {
        let rules = run.rules.iter().map(|rule| {
            let rule = rule.to_str().expect("text");
            rule.trim_start_matches("--filter=").to_owned()
        });
        let directories = run.directories.iter().map(ToString::to_string);
        (rules.collect(), directories.collect())
    }

    #[test]
    fn what_is_excluded_stays_with_the_directories_above_it_and_all_else_goes() {
        let found = found(&[
            "d/", "d/x", "d/y.tmp", "d/e/", "d/e/z", "cache/", "cache/x", "f",
        ]);
        let removal = Removal::pick(found, Some(&filter()), None, |_| false);
        assert_eq!(removal.kept, paths(&["d"]));
        let runs: Vec<_> = removal
            .runs(Hides::default())
            .map(|run| shown(&run))
            .collect();
        let rules = ["R /d", "R /d/e", "R /d/e/z", "R /d/x", "R /f", "P *"];
        let expected = (rules.map(str::to_owned).to_vec(), vec![".".to_owned()]);
        assert_eq!(runs, [expected]);
    }

    #[test]
    fn a_file_where_a_directory_is_excluded_goes_and_the_directory_at_the_source_is_hidden() {
        let names = paths(&["cache"]);
        let filter = filter();
        let hides = Hides {
            filter: Some(&filter),
            ..Hides::default()
        };
        let names_found = found(&["cache", "other"]);
        let removal = Removal::pick(names_found, Some(&filter), Some(&names), |_| true);
        let runs: Vec<_> = removal.runs(hides).map(|run| shown(&run).0).collect();
        assert_eq!(runs, [["H /cache/", "R /cache", "P *"]]);
        let directory = found(&["cache/"]);
        let directory = Removal::pick(directory, Some(&filter), Some(&names), |_| true);
        assert_eq!(directory.runs(hides).next(), None);
    }

    #[test]
    fn an_excluded_file_hides_no_directory_of_its_name_that_is_to_go() {
        let rules = [Rule::Include("*/".into()), Rule::Exclude("*".into())];
        let filter = Filter::new(rules.to_vec()).expect("good rules");
        let hides = Hides {
            filter: Some(&filter),
            ..Hides::default()
        };
        let removal = Removal::pick(found(&["d/"]), Some(&filter), None, |_| true);
        let runs: Vec<_> = removal.runs(hides).map(|run| shown(&run).0).collect();
        assert_eq!(runs, [["S /d/", "H /d", "R /d", "P *"]]);
        assert!(hides.has(&path("d")) && !Hides::default().has(&path("d")));
    }

    #[test]
    fn what_is_to_be_replaced_is_seen_only_once_it_is_a_directory() {
        let names = paths(&["d"]);
        let hides = Hides {
            filter: None,
            replaced: Some(&names),
        };
        let removal = Removal::pick(found(&["d/"]), None, Some(&names), |_| true);
        let runs: Vec<_> = removal.runs(hides).map(|run| shown(&run).0).collect();
        assert_eq!(runs, [["S /d/", "H /d", "R /d", "P *"]]);
    }

    #[test]
    fn only_what_is_meant_goes() {
        let found = found(&["a/b", "a/c/", "a/c/d", "x"]);
        let removal = Removal::pick(found, Some(&filter()), Some(&paths(&["a/c"])), |_| true);
        let runs: Vec<_> = removal
            .runs(Hides::default())
            .map(|run| shown(&run))
            .collect();
        let rules = ["R /a/c", "R /a/c/d", "P *"].map(str::to_owned).to_vec();
        assert_eq!(runs, [(rules, vec!["a".to_owned()])]);
    }

    #[test]
    fn a_directory_that_is_not_listed_is_on_the_way_and_kept() {
        let found = found(&["a/old/deep/", "a/old/deep/x", "a/old/y"]);
        let is_here = |dir: &RelPath| *dir == path("a");
        let removal = Removal::pick(found, Some(&filter()), None, is_here);
        assert_eq!(removal.kept, paths(&["a/old"]));
        assert_eq!(removal.topmost(), [path("a/old")]);
        let runs: Vec<_> = removal
            .runs(Hides::default())
            .map(|run| shown(&run))
            .collect();
        let rules = [
            "R /a/old",
            "R /a/old/deep",
            "R /a/old/deep/x",
            "R /a/old/y",
            "P *",
        ];
        let expected = (rules.map(str::to_owned).to_vec(), vec!["a".to_owned()]);
        assert_eq!(runs, [expected]);
    }

    #[test]
    fn many_names_go_in_several_runs_each_with_the_directories_on_its_way() {
        let names: Vec<String> = (0..1200).map(|number| format!("d/{number:04}")).collect();
        let names: Vec<&str> = ["d/"]
            .into_iter()
            .chain(names.iter().map(String::as_str))
            .collect();
        let removal = Removal::pick(found(&names), Some(&filter()), None, |_| true);
        let runs: Vec<_> = removal.runs(Hides::default()).collect();
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run.rules[0] == "--filter=R /d"));
        assert!(runs.iter().all(|run| run.directories == [RelPath::root()]));
        let risked: usize = runs.iter().map(|run| run.rules.len() - 1).sum();
        assert_eq!(risked, 1201 + 2, "the directory in each of them");
    }
}
