//! What is not mirrored: the rules of `<filter>`, compiled once for the watcher and all lanes. Pure.
//!
//! The rules are in the order of the file, and the first that matches an entry decides; what none matches is mirrored.
//! An excluded directory hides everything below it.
//!
//! An expression (`exclude expression`) is the original's, which tests one entry in up to three spellings, depending on
//! when it meets it: `dir/name`, `/dir/name`, and `dir/name/` for a directory. It must match the whole of a spelling,
//! and an entry that it matches in any of them is excluded. So what it excludes as a file it excludes as a directory
//! too, but not the other way round. A pattern (`exclude pattern`, `include pattern`) is rsync's; with an `include`,
//! what is excluded as a file may be mirrored as a directory.
//!
//! Several filters may hold at once (that of the file, the rules among the options of a remote): each of them is a
//! layer, and what one layer excludes is excluded.

use std::fmt;

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::path::RelPath;

pub mod dialect;
pub mod pattern;

use dialect::Refused;

/// Compiled rules may take so much memory.
const MOST_COMPILED: usize = 16 << 20;

/// What an entry is, as far as a filter cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, no link to one.
    Directory,
    /// Anything else.
    Other,
}

impl Kind {
    /// Of an entry that is a directory, or is not.
    #[must_use]
    pub fn directory_if(is_directory: bool) -> Self {
        if is_directory {
            Self::Directory
        } else {
            Self::Other
        }
    }
}

/// What decides about an entry.
#[derive(Clone, PartialEq, Eq)]
pub enum Rule {
    /// A regular expression of the original's for what is left out.
    Expression(String),
    /// A pattern of rsync's for what is left out.
    Exclude(Vec<u8>),
    /// A pattern of rsync's for what is mirrored, whatever comes behind it.
    Include(Vec<u8>),
}

impl Rule {
    /// A line of a file of patterns as rsync reads them, or a value of `--exclude`: it excludes unless it begins with
    /// `+ `. `None` if it says nothing.
    #[must_use]
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let is_comment = line.first().is_none_or(|first| b"#;".contains(first));
        if is_comment {
            return None;
        }
        Some(Self::of_exclude(line))
    }

    /// The value of `--exclude`, which may say that it is none.
    #[must_use]
    pub fn of_exclude(value: &[u8]) -> Self {
        match (value.strip_prefix(b"+ "), value.strip_prefix(b"- ")) {
            (Some(pattern), _) => Self::Include(pattern.to_vec()),
            (_, Some(pattern)) => Self::Exclude(pattern.to_vec()),
            _ => Self::Exclude(value.to_vec()),
        }
    }

    /// The value of `--include`, which may say that it is none.
    #[must_use]
    pub fn of_include(value: &[u8]) -> Self {
        match Self::of_exclude(value) {
            Self::Exclude(pattern) if pattern == value => Self::Include(pattern),
            other => other,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::path::escaped;
        match self {
            Self::Expression(expression) => write!(f, "the expression `{expression}`"),
            Self::Exclude(pattern) | Self::Include(pattern) => {
                write!(f, "the pattern `{}`", escaped(pattern))
            }
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See the module. Two are equal that have the same rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    layers: Vec<Layer>,
}

/// Why a path is not mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// The path, or the directory above it that is excluded.
    pub entry: RelPath,
    /// Which rule excludes it, counted from 0.
    pub rule: usize,
}

impl Filter {
    /// Compiles rules, the first that matches being the one that counts.
    ///
    /// # Errors
    /// Each that cannot be used, by its place in the list, and why.
    pub fn new(rules: Vec<Rule>) -> Result<Self, Vec<(usize, Refused)>> {
        let layers = vec![Layer::new(rules)?];
        Ok(Self { layers })
    }

    /// Excludes what either of two excludes.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let layers = self.layers.iter().chain(&other.layers).cloned();
        Self {
            layers: layers.collect(),
        }
    }

    /// Whether a rule excludes this entry itself. The root never is.
    #[must_use]
    pub fn excludes(&self, path: &RelPath, kind: Kind) -> bool {
        !path.is_root() && self.layers.iter().any(|layer| layer.excludes(path, kind))
    }

    /// Whether nothing of this name is mirrored, whatever it is.
    #[must_use]
    pub fn excludes_any(&self, path: &RelPath) -> bool {
        self.excludes(path, Kind::Other) && self.excludes(path, Kind::Directory)
    }

    /// Whether a directory above this path is excluded.
    #[must_use]
    pub fn hides(&self, path: &RelPath) -> bool {
        path.ancestors_below_root()
            .any(|dir| self.excludes(&dir, Kind::Directory))
    }

    /// Whether this path is not mirrored, for whatever reason.
    #[must_use]
    pub fn covers(&self, path: &RelPath, kind: Kind) -> bool {
        self.excludes(path, kind) || self.hides(path)
    }

    /// Whether an entry may be mirrored as a directory and excluded otherwise.
    #[must_use]
    pub fn includes_directories(&self) -> bool {
        self.layers.iter().any(|layer| layer.has_includes)
    }

    /// A rule by its place in the list that the first layer was made of.
    #[must_use]
    pub fn rule(&self, at: usize) -> Option<&Rule> {
        self.layers.first()?.rules.get(at)
    }

    /// Why this path is not mirrored; `None` if it is. Of several layers the first speaks.
    #[must_use]
    pub fn reason(&self, path: &RelPath, kind: Kind) -> Option<Excluded> {
        let above = path
            .ancestors_below_root()
            .map(|dir| (dir, Kind::Directory));
        above
            .chain([(path.clone(), kind)])
            .filter(|(entry, _)| !entry.is_root())
            .find_map(|(entry, kind)| {
                let excluding = |layer: &Layer| {
                    let rule = layer.first_match(&entry, kind)?;
                    (!layer.includes(rule)).then_some(rule)
                };
                let rule = self.layers.iter().find_map(excluding)?;
                Some(Excluded { entry, rule })
            })
    }
}

/// Rules of which the first that matches counts.
#[derive(Clone)]
struct Layer {
    rules: Vec<Rule>,
    has_includes: bool,
    /// Expressions, for each spelling of an entry.
    spelled: Set,
    /// Patterns for all entries, with a slash before them.
    entries: Set,
    /// Patterns for directories, with a slash before them.
    directories: Set,
    /// Patterns for directories, with a slash on either side.
    contents: Set,
}

impl Layer {
    fn new(rules: Vec<Rule>) -> Result<Self, Vec<(usize, Refused)>> {
        let mut refused = Vec::new();
        let (mut spelled, mut entries) = (Vec::new(), Vec::new());
        let (mut directories, mut contents) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            let pattern = match rule {
                Rule::Expression(expression) => {
                    match dialect::translate(expression) {
                        Ok(regex) => spelled.push((at, regex)),
                        Err(error) => refused.push((at, error)),
                    }
                    continue;
                }
                Rule::Exclude(pattern) | Rule::Include(pattern) => pattern,
            };
            match pattern::translate(pattern) {
                Ok(pattern) => {
                    if pattern.with_slash_behind {
                        contents.push((at, pattern.regex.clone()));
                    }
                    let list = if pattern.directories_alone {
                        &mut directories
                    } else {
                        &mut entries
                    };
                    list.push((at, pattern.regex));
                }
                Err(error) => refused.push((at, error)),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let last = rules.len().saturating_sub(1);
        let too_large = |_| {
            let reason = "all rules together are too large; lower the counts in braces".into();
            let character = 1;
            vec![(last, Refused { character, reason })]
        };
        Ok(Self {
            has_includes: rules.iter().any(|rule| matches!(rule, Rule::Include(_))),
            rules,
            spelled: Set::new(spelled).map_err(too_large)?,
            entries: Set::new(entries).map_err(too_large)?,
            directories: Set::new(directories).map_err(too_large)?,
            contents: Set::new(contents).map_err(too_large)?,
        })
    }

    fn includes(&self, rule: usize) -> bool {
        matches!(self.rules.get(rule), Some(Rule::Include(_)))
    }

    fn excludes(&self, path: &RelPath, kind: Kind) -> bool {
        if self.has_includes {
            let first = self.first_match(path, kind);
            return first.is_some_and(|rule| !self.includes(rule));
        }
        self.compared(path, kind, |set, text| set.set.is_match(text).then_some(()))
            .is_some()
    }

    fn first_match(&self, path: &RelPath, kind: Kind) -> Option<usize> {
        let mut first = None;
        self.compared(path, kind, |set, text| {
            let matching = set.set.matches(text).into_iter().map(|at| set.rules[at]);
            first = matching.chain(first).min();
            None::<()>
        });
        first
    }

    /// Compares each spelling of an entry with the rules for it, until an answer is found.
    fn compared<T>(
        &self,
        path: &RelPath,
        kind: Kind,
        mut compare: impl FnMut(&Set, &[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut compare = |set: &Set, text: &[u8]| {
            if set.rules.is_empty() {
                return None;
            }
            compare(set, text)
        };
        let with_slash = [b"/", path.as_bytes()].concat();
        if let Some(found) = compare(&self.spelled, path.as_bytes())
            .or_else(|| compare(&self.spelled, &with_slash))
            .or_else(|| compare(&self.entries, &with_slash))
        {
            return Some(found);
        }
        if kind != Kind::Directory {
            return None;
        }
        let on_either_side = [&with_slash[..], b"/"].concat();
        compare(&self.spelled, &on_either_side[1..])
            .or_else(|| compare(&self.directories, &with_slash))
            .or_else(|| compare(&self.contents, &on_either_side))
    }
}

impl PartialEq for Layer {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Layer {}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

/// Expressions that are compared with the same text, and the rules they are.
#[derive(Clone)]
struct Set {
    set: RegexSet,
    rules: Vec<usize>,
}

impl Set {
    fn new(expressions: Vec<(usize, String)>) -> Result<Self, regex::Error> {
        let (rules, expressions): (Vec<_>, Vec<_>) = expressions.into_iter().unzip();
        let set = RegexSetBuilder::new(expressions)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(MOST_COMPILED)
            .build()?;
        Ok(Self { set, rules })
    }
}

#[cfg(test)]
mod tests;
