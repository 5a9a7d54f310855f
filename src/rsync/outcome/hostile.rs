//! Messages as rsync writes them, about names that were made up to mislead: whatever they hold, no name that failed is
//! taken for equal.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Names, Outcome, escape, judge};
use crate::config::{SshOptions, Target};
use crate::path::RelPath;
use crate::rsync::args::RunKind;
use crate::rsync::ended::{Ended, Exit, Stats};

const ROOT: &str = "/data/src";
const SUMMARY: &str = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]";

/// What names are put together from: other names, and pieces of messages.
const PIECES: &[&str] = &[
    "a",
    "b",
    "dir",
    "/",
    " ",
    "\"",
    "\\",
    "\\#012",
    "\n",
    "\t",
    "\u{ff}",
    ": ",
    "(",
    ")",
    " (2)",
    " (13)",
    " -> ",
    "\" -> \"",
    "/data/src/",
    "sub/",
    ".a.AbCdEf",
    ".",
    "file has vanished: ",
    "cannot delete non-empty directory: ",
    "could not make way for new regular file: ",
    " failed verification -- update discarded.",
    "ERROR: ",
    "rsync: [sender] send_files failed to open ",
    "unlink(a) failed",
    "rsync error: ",
    " (code 23) at main.c(1) [sender]",
    "IO error encountered -- skipping file deletion",
    "\" failed: No such file or directory (2)",
    " (in m)",
];

fn a_name() -> impl Strategy<Value = RelPath> {
    let pieces = proptest::collection::vec(select(PIECES), 1..5);
    let bytes = proptest::collection::vec(any::<u8>(), 0..3);
    (pieces, bytes).prop_filter_map("not a path", |(pieces, bytes)| {
        RelPath::new(&[pieces.concat().into_bytes(), bytes].concat())
    })
}

fn a_list() -> impl Strategy<Value = Vec<RelPath>> {
    let names = proptest::collection::btree_set(a_name(), 1..6);
    names.prop_map(|names| names.into_iter().collect())
}

/// rsync's words for the failure of a name, and whether they are of a run with deletions.
fn message(name: &RelPath, which: usize, target: &Target) -> String {
    let escaped = String::from_utf8(escape(name.as_bytes())).expect("ASCII");
    let (dir, last) = escaped
        .rsplit_once('/')
        .map_or(("", &escaped[..]), |(dir, last)| (dir, last));
    let slash = if dir.is_empty() { "" } else { "/" };
    let temporary = format!("{dir}{slash}.{last}.JaxxWt");
    let (there, module) = match target {
        Target::Daemon { .. } => ("sub/", " (in m)"),
        _ => ("/backup/", ""),
    };
    match which {
        0 => format!(
            "rsync: [sender] send_files failed to open \"{ROOT}/{escaped}\": Permission denied (13)"
        ),
        1 => format!(
            "rsync: [receiver] rename \"{there}{temporary}\"{module} -> \"{there}{escaped}\": Operation not permitted (1)"
        ),
        2 => format!(
            "rsync: [receiver] mkstemp \"{there}{temporary}\"{module} failed: Permission denied (13)"
        ),
        3 => format!("cannot delete non-empty directory: {escaped}"),
        4 => format!("could not make way for new regular file: {escaped}"),
        5 => format!(
            "rsync: [generator] delete_file: unlink({escaped}) failed: Operation not permitted (1)"
        ),
        6 => format!("ERROR: {escaped} failed verification -- update discarded."),
        _ => format!("file has vanished: \"{ROOT}/{escaped}\""),
    }
}

fn targets() -> [Target; 3] {
    [
        Target::Daemon {
            host: "h".into(),
            module: "m/sub".into(),
            port: None,
            user: None,
            password_file: None,
        },
        Target::Local {
            path: "/backup".into(),
        },
        Target::Ssh {
            host: "h".into(),
            path: "/backup".into(),
            user: None,
            port: None,
            options: SshOptions::default(),
        },
    ]
}

fn ended(exit: Exit, stderr: Vec<u8>) -> Ended {
    Ended {
        exit,
        stderr,
        stderr_cut: false,
        deletions_skipped: false,
        stats: Stats::default(),
        took: Duration::ZERO,
    }
}

fn a_kind() -> impl Strategy<Value = RunKind> {
    select(vec![
        RunKind::Send { ignore_times: true },
        RunKind::Delete { by_name: true },
        RunKind::Delete { by_name: false },
        RunKind::tree(true),
        RunKind::tree(false),
    ])
}

/// The names that are not taken for equal; `None` if that is none of them.
fn doubted(outcome: &Outcome) -> Option<BTreeSet<RelPath>> {
    match outcome {
        Outcome::Synced => Some(BTreeSet::new()),
        Outcome::Again(paths) => Some(paths.iter().cloned().collect()),
        Outcome::Failed {
            paths,
            again,
            deletions_owed: false,
        } => {
            let failed = paths.iter().map(|(path, _)| path);
            Some(failed.chain(again).cloned().collect())
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_name_that_failed_is_taken_for_equal(
        listed in a_list(), failing in proptest::collection::vec((any::<Index>(), 0..8_usize), 1..4), target in select(targets().to_vec())
    ) {
        let failing: Vec<(&RelPath, usize)> = failing.iter().map(|(at, which)| (&listed[at.index(listed.len())], *which)).collect();
        let lines: Vec<String> = failing.iter().map(|(name, which)| message(name, *which, &target)).chain([SUMMARY.to_owned()]).collect();
        let ended = ended(Exit::Code(23), lines.join("\n").into_bytes());
        let names = Names { listed: &listed, root: Path::new(ROOT), target: &target };
        let outcome = judge(RunKind::Send { ignore_times: true }, &ended, &names);
        prop_assert_ne!(&outcome, &Outcome::Synced);
        if let Some(doubted) = doubted(&outcome) {
            for (name, _) in failing {
                prop_assert!(doubted.contains(name), "{} is taken for equal: {:?}\n{:?}", name, outcome, lines);
            }
            for name in doubted {
                prop_assert!(listed.contains(&name), "{} is none of the list", name);
            }
        }
    }

    #[test]
    fn whatever_a_run_says_is_judged_without_a_panic_and_a_failure_is_no_success(
        kind in a_kind(), code in -1..130_i32, cut in any::<bool>(), listed in a_list(), target in select(targets().to_vec()),
        lines in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            proptest::collection::vec(select(PIECES), 0..6).prop_map(|pieces| pieces.concat().into_bytes()),
        ], 0..6)
    ) {
        let ended = Ended { stderr_cut: cut, ..ended(Exit::Code(code), lines.join(&b'\n')) };
        let names = Names { listed: &listed, root: Path::new(ROOT), target: &target };
        let outcome = judge(kind, &ended, &names);
        prop_assert!((code == 0 && !cut) || outcome != Outcome::Synced, "{:?}", outcome);
        if let Some(doubted) = doubted(&outcome) {
            prop_assert!(code == 0 || !doubted.is_empty(), "nothing is in doubt: {:?}", outcome);
        }
    }
}
