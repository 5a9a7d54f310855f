//! What is not mirrored: `<filter><exclude expression="…"/>`, compiled once for the watcher and all lanes. Pure.
//!
//! The original tests one entry in up to three spellings, depending on when it meets it: `dir/name`, `/dir/name`, and
//! `dir/name/` for a directory. An expression must match the whole of a spelling, and an entry that is excluded in any
//! of them is excluded. So what is excluded as a file is excluded as a directory too, but not the other way round.
//! An excluded directory hides everything below it.

use std::fmt;

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::path::RelPath;

pub mod dialect;

use dialect::Refused;

/// Compiled expressions may take so much memory; only a counted repetition of another one gets there.
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

/// See the module. Two are equal that have the same expressions.
#[derive(Clone)]
pub struct Filter {
    expressions: Vec<String>,
    set: RegexSet,
}

/// Why a path is not mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// The path, or the directory above it that is excluded.
    pub entry: RelPath,
    /// Which expression excludes it, counted from 0: the first that does.
    pub expression: usize,
}

impl Filter {
    /// Compiles expressions.
    ///
    /// # Errors
    /// Each that cannot be used, by its place in the list, and why.
    pub fn new(expressions: &[String]) -> Result<Self, Vec<(usize, Refused)>> {
        let mut translated = Vec::new();
        let mut refused = Vec::new();
        for (at, expression) in expressions.iter().enumerate() {
            match dialect::translate(expression) {
                Ok(pattern) => translated.push(pattern),
                Err(error) => refused.push((at, error)),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let set = RegexSetBuilder::new(translated)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(MOST_COMPILED)
            .build();
        match set {
            Ok(set) => Ok(Self {
                expressions: expressions.to_vec(),
                set,
            }),
            Err(_) => Err(vec![(
                expressions.len().saturating_sub(1),
                Refused {
                    character: 1,
                    reason: "all expressions together are too large; lower the counts in braces"
                        .into(),
                },
            )]),
        }
    }

    /// The expressions, as written.
    #[must_use]
    pub fn expressions(&self) -> &[String] {
        &self.expressions
    }

    /// Whether an expression excludes this entry itself. The root never is.
    #[must_use]
    pub fn excludes(&self, path: &RelPath, kind: Kind) -> bool {
        let is_match = |spelling: &[u8]| self.set.is_match(spelling);
        !path.is_root()
            && (is_match(path.as_bytes())
                || is_match(&with_slash_before(path))
                || kind == Kind::Directory && is_match(&with_slash_behind(path)))
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

    /// Why this path is not mirrored; `None` if it is.
    #[must_use]
    pub fn reason(&self, path: &RelPath, kind: Kind) -> Option<Excluded> {
        let above = path
            .ancestors_below_root()
            .map(|dir| (dir, Kind::Directory));
        above
            .chain([(path.clone(), kind)])
            .find_map(|(entry, kind)| {
                let expression = self.first_match(&entry, kind)?;
                Some(Excluded { entry, expression })
            })
    }

    fn first_match(&self, path: &RelPath, kind: Kind) -> Option<usize> {
        if path.is_root() {
            return None;
        }
        let mut spellings = vec![path.as_bytes().to_vec(), with_slash_before(path)];
        if kind == Kind::Directory {
            spellings.push(with_slash_behind(path));
        }
        spellings
            .iter()
            .flat_map(|spelling| self.set.matches(spelling))
            .min()
    }
}

fn with_slash_before(path: &RelPath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

fn with_slash_behind(path: &RelPath) -> Vec<u8> {
    [path.as_bytes(), b"/"].concat()
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expressions == other.expressions
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.expressions).finish()
    }
}

#[cfg(test)]
mod tests;
