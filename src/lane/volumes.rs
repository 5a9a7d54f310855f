//! File systems mounted below the source: which of those that a remote was equal to are gone, or others. Pure.
//!
//! A bare mount point says nothing of what is at the remote. So what is there is left as it is until the same file
//! system is mounted again, or a person accepts that it is gone; also if the mount point itself was removed, as removable
//! disks have theirs removed with them. One that was mounted elsewhere below the source since has moved.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::lasting::{Difference, Lasting};
use crate::path::RelPath;
use crate::rsync::rules::{Effect, rule};

/// Mount points by path.
pub type Volumes = BTreeMap<RelPath, Lasting>;

/// The mount points whose file system is gone or another one: the topmost, each with what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps(BTreeMap<RelPath, Gap>);

/// What is wrong with a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Nothing is mounted there.
    Unmounted,
    /// Another file system is.
    Other(Difference),
    /// What is mounted there has no entry, as a disk that was lost has not, or one that was mounted over what was there.
    Empty,
}

impl Gap {
    /// In words that name no path, and what to do.
    #[must_use]
    pub fn words(self) -> String {
        let what = match self {
            Self::Unmounted => "its file system is not mounted".to_owned(),
            Self::Other(difference) => {
                format!("another file system is mounted there than before: {difference}")
            }
            Self::Empty => {
                return "the file system that is mounted there is empty; what the remote has of it is kept until it has \
                        an entry, or until `sersync resume --accept-source` says that it is meant to be empty"
                    .to_owned();
            }
        };
        format!(
            "{what}; what the remote has of it is kept until it is mounted again, \
             or until `sersync resume --accept-source` says that it is gone for good"
        )
    }
}

impl Gaps {
    /// What is missing of what was known.
    #[must_use]
    pub fn between(known: &Volumes, present: &Volumes) -> Self {
        let is_new = |path: &RelPath| !known.contains_key(path);
        let has_moved = |was: &Lasting| {
            was.is_certain()
                && present
                    .iter()
                    .any(|(path, now)| is_new(path) && was.differs(now).is_none())
        };
        let mut gaps = Self::default();
        for (path, was) in known {
            let gap = match present.get(path) {
                Some(now) => was.differs(now).map(Gap::Other),
                None => Some(Gap::Unmounted),
            };
            if let Some(gap) = gap
                && !has_moved(was)
                && gaps.around(path).is_none()
            {
                gaps.0.insert(path.clone(), gap);
            }
        }
        gaps
    }

    /// Both.
    pub fn extend(&mut self, other: Self) {
        for (path, gap) in other.0 {
            self.add(path, gap);
        }
    }

    /// One more; what is below it is part of it.
    pub fn add(&mut self, path: RelPath, gap: Gap) {
        if self.around(&path).is_none() {
            self.0.retain(|below, _| !below.is_within(&path));
            self.0.insert(path, gap);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mount points, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, Gap)> {
        self.0.iter().map(|(path, gap)| (path, *gap))
    }

    /// The mount point that a path is, or is below of.
    #[must_use]
    pub fn around(&self, path: &RelPath) -> Option<(&RelPath, Gap)> {
        self.iter().find(|(gap, _)| path.is_within(gap))
    }

    /// Whether there is one below a path.
    #[must_use]
    pub fn is_below(&self, path: &RelPath) -> bool {
        self.0.keys().any(|gap| gap != path && gap.is_within(path))
    }

    /// Whether what is at a path may be removed without a thought for these.
    #[must_use]
    pub fn spare(&self, path: &RelPath) -> bool {
        self.around(path).is_none() && !self.is_below(path)
    }

    /// Options by which nothing is sent or removed there. The directories above stay, too, if the source has none of
    /// that name any more.
    #[must_use]
    pub fn rules(&self) -> Vec<OsString> {
        let mut rules = Vec::new();
        for path in self.0.keys() {
            rules.push(rule(Effect::Exclude, path, false));
            let above = path.ancestors_below_root();
            rules.extend(above.map(|dir| rule(Effect::Protect, &dir, false)));
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn volume(born: i64) -> Lasting {
        Lasting {
            kind: 1,
            volume: None,
            inode: 1,
            born: Some(born),
            is_mount: Some(true),
        }
    }

    fn volumes(list: &[(&str, i64)]) -> Volumes {
        list.iter()
            .map(|(name, born)| (path(name), volume(*born)))
            .collect()
    }

    fn shown(gaps: &Gaps) -> Vec<(String, Gap)> {
        gaps.iter()
            .map(|(path, gap)| (path.to_string(), gap))
            .collect()
    }

    #[test]
    fn a_volume_that_is_gone_or_another_one_is_a_gap_and_what_is_there_as_it_was_is_none() {
        let known = volumes(&[("a", 1), ("b/c", 2), ("d", 3)]);
        let gaps = Gaps::between(&known, &volumes(&[("a", 1), ("d", 4), ("e", 5)]));
        let other = Gap::Other(Difference::Born);
        let expected = [("b/c".into(), Gap::Unmounted), ("d".into(), other)];
        assert_eq!(shown(&gaps), expected);
        assert!(gaps.around(&path("b/c/x")).is_some());
        assert!(gaps.around(&path("b")).is_none() && gaps.is_below(&path("b")));
        assert!(gaps.spare(&path("b/other")) && !gaps.spare(&path("b")));
        assert!(gaps.is_below(&RelPath::root()));
        let rules = ["--filter=- /b/c", "--filter=P /b", "--filter=- /d"];
        assert_eq!(gaps.rules(), rules.map(OsString::from));
    }

    #[test]
    fn what_is_below_a_gap_is_part_of_it() {
        let known = volumes(&[("a", 1), ("a/b", 2)]);
        let gaps = Gaps::between(&known, &volumes(&[]));
        assert_eq!(shown(&gaps), [("a".into(), Gap::Unmounted)]);
        let mut both = Gaps::between(&volumes(&[("a/b", 2)]), &volumes(&[]));
        both.extend(gaps.clone());
        assert_eq!(both, gaps);
    }

    #[test]
    fn a_volume_that_is_mounted_at_another_place_now_has_moved() {
        let known = volumes(&[("a", 1), ("b", 1)]);
        let moved = volumes(&[("b", 1), ("c", 1)]);
        assert!(Gaps::between(&known, &moved).is_empty());
        // The other place was there before.
        let gone = volumes(&[("b", 1)]);
        assert!(!Gaps::between(&known, &gone).is_empty());
    }

    fn any_volumes() -> impl Strategy<Value = Volumes> {
        let name = prop_oneof![
            Just("a"),
            Just("a/b"),
            Just("a/b/c"),
            Just("d"),
            Just("d/e")
        ];
        proptest::collection::btree_map(name.prop_map(path), (1..3_i64).prop_map(volume), 0..5)
    }

    proptest! {
        #[test]
        fn every_known_volume_is_there_as_it_was_or_in_a_gap_or_has_moved(
            known in any_volumes(), present in any_volumes(),
        ) {
            let gaps = Gaps::between(&known, &present);
            for (path, was) in &known {
                let is_there = present.get(path).is_some_and(|now| was.differs(now).is_none());
                let has_moved = present.iter().any(|(at, now)| {
                    !known.contains_key(at) && was.differs(now).is_none()
                });
                prop_assert!(is_there || has_moved || gaps.around(path).is_some());
            }
            prop_assert!(Gaps::between(&known, &known).is_empty());
        }
    }
}
