//! A test for each end.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::rsync::ended::Stats;

const SEND: RunKind = RunKind::Send { ignore_times: true };
const DELETE: RunKind = RunKind::Delete { by_name: true };
const TREE: RunKind = RunKind::tree(true);
const SUMMARY: &str = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394) [sender=3.5.0]";

fn path(name: &[u8]) -> RelPath {
    RelPath::new(name).expect("a valid path")
}

fn run(kind: RunKind, exit: Exit, lines: &[&str], listed: &[&[u8]]) -> Outcome {
    let listed: Vec<RelPath> = listed.iter().map(|name| path(name)).collect();
    let target = Target::Daemon {
        host: "h".into(),
        module: "m/sub".into(),
        port: None,
        user: None,
        password_file: None,
    };
    let root = PathBuf::from("/data/src");
    let ended = Ended {
        exit,
        stderr: lines.join("\n").into_bytes(),
        stderr_cut: false,
        deletions_skipped: false,
        stats: Stats::default(),
        took: Duration::ZERO,
    };
    judge(
        kind,
        &ended,
        &Names {
            listed: &listed,
            root: &root,
            target: &target,
        },
    )
}

fn failed(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Failed { paths, .. } => paths.iter().map(|(path, _)| path.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn exit_0_is_synced() {
    assert_eq!(run(SEND, Exit::Code(0), &[], &[b"a"]), Outcome::Synced);
    assert_eq!(
        run(SEND, Exit::Code(0), &["some banner"], &[b"a", b"b"]),
        Outcome::Synced
    );
}

#[test]
fn a_directory_that_could_not_be_removed_is_not_synced_though_the_exit_is_0() {
    let line = "cannot delete non-empty directory: d";
    assert_eq!(
        failed(&run(DELETE, Exit::Code(0), &[line], &[b"d", b"e"])),
        ["d"]
    );
}

#[test]
fn a_name_that_imitates_a_cause_does_not_make_a_directory_in_the_way_a_change() {
    for line in [
        "could not make way for new regular file: x failed (2)",
        "cannot delete non-empty directory: x failed (2)",
    ] {
        let paths: &[&[u8]] = &[b"x failed (2)", b"other"];
        let names = failed(&run(SEND, Exit::Code(23), &[line, SUMMARY], paths));
        assert_eq!(names, ["x failed (2)"], "{line}");
    }
}

#[test]
fn exit_23_blames_the_named_paths_alone() {
    for line in [
        "rsync: [sender] send_files failed to open \"/data/src/d/x\": Permission denied (13)",
        "rsync: [receiver] rename \"sub/d/.x.JaxxWt\" (in m) -> \"sub/d/x\": Operation not permitted (1)",
        "rsync: [receiver] mkstemp \"/sub/d/.x.JaxxWt\" (in m) failed: Permission denied (13)",
        "rsync: [receiver] mkstemp \"/d/.x.JaxxWt\" (in m) failed: Permission denied (13)",
    ] {
        let outcome = run(
            SEND,
            Exit::Code(23),
            &[line, SUMMARY],
            &[b"a", b"d/x", b"x"],
        );
        assert_eq!(failed(&outcome), ["d/x"], "{line}");
    }
}

#[test]
fn odd_names_are_compared_as_rsync_prints_them() {
    let line = "rsync: [sender] send_files failed to open \"/data/src/a\\#012b\\#377\": Permission denied (13)";
    let outcome = run(SEND, Exit::Code(23), &[line, SUMMARY], &[b"a\nb\xFF", b"a"]);
    assert_eq!(failed(&outcome), ["a\\nb\\xFF"]);
    assert_eq!(unescape(&escape(b"\\#012\n\xFF\\")), b"\\#012\n\xFF\\");
}

#[test]
fn a_name_that_imitates_a_message_leaves_the_run_undecided() {
    let line = "rsync: [sender] send_files failed to open \"/data/src/x\" -> \"victim\": Permission denied (13)";
    let listed: &[&[u8]] = &[b"x\" -> \"victim", b"victim"];
    assert!(matches!(
        run(SEND, Exit::Code(23), &[line, SUMMARY], listed),
        Outcome::Undecided { .. }
    ));
    let alone = run(SEND, Exit::Code(23), &[line, SUMMARY], &listed[..1]);
    assert_eq!(failed(&alone).len(), 1);
}

#[test]
fn a_line_that_nobody_explains_leaves_the_run_undecided() {
    let outcome = run(
        SEND,
        Exit::Code(23),
        &["what is this", SUMMARY],
        &[b"a", b"b"],
    );
    assert!(matches!(outcome, Outcome::Undecided { .. }));
    let outcome = run(SEND, Exit::Code(23), &[SUMMARY], &[b"a", b"b"]);
    assert!(matches!(outcome, Outcome::Undecided { .. }));
}

#[test]
fn exit_24_looks_again_at_what_vanished() {
    let lines = [
        "file has vanished: \"/data/src/d/x\"",
        "rsync warning: some files vanished before they could be transferred (code 24) at main.c(1394) [sender=3.5.0]",
    ];
    let outcome = run(SEND, Exit::Code(24), &lines, &[b"a", b"d/x"]);
    assert_eq!(outcome, Outcome::Again(vec![path(b"d/x")]));
}

#[test]
fn a_source_that_changed_under_the_run_is_looked_at_again() {
    for line in [
        "rsync: [sender] send_files failed to open \"/data/src/x\": Too many levels of symbolic links (40)",
        "rsync: [receiver] mkstemp \"/sub/.x.JaxxWt\" (in m) failed: No such file or directory (2)",
        "ERROR: x failed verification -- update discarded.",
        "rsync: [sender] read errors mapping \"/data/src/x\": No data available (61)",
    ] {
        let outcome = run(SEND, Exit::Code(23), &[line, SUMMARY], &[b"a", b"x"]);
        assert_eq!(outcome, Outcome::Again(vec![path(b"x")]), "{line}");
    }
}

#[test]
fn a_run_that_was_stuck_says_nothing_of_its_list() {
    assert_eq!(
        run(SEND, Exit::Stuck, &[], &[b"a"]),
        Outcome::Again(vec![path(b"a")])
    );
}

#[test]
fn a_parent_that_went_away_under_a_deletion_has_all_of_it_looked_at_again() {
    let line = "WARNING: parent dir is absent in the file list: s/3";
    let outcome = run(DELETE, Exit::Code(24), &[line], &[b"s/3/3", b"s/4"]);
    assert_eq!(outcome, Outcome::Again(vec![path(b"s/3/3"), path(b"s/4")]));
}

#[test]
fn a_failed_deletion_below_a_missing_directory_belongs_to_that_directory() {
    let line = "rsync: [generator] delete_file: unlink(d/e/x) failed: Operation not permitted (1)";
    assert_eq!(
        failed(&run(
            DELETE,
            Exit::Code(23),
            &[line, SUMMARY],
            &[b"d", b"z"]
        )),
        ["d"]
    );
}

#[test]
fn a_tree_run_names_the_paths_below() {
    let lines = [
        "rsync: [sender] opendir \"/data/src/d/locked\" failed: Permission denied (13)",
        "IO error encountered -- skipping file deletion",
        SUMMARY,
    ];
    match run(TREE, Exit::Code(23), &lines, &[b""]) {
        Outcome::Failed {
            paths,
            deletions_owed: true,
            ..
        } => {
            assert_eq!(paths[0].0, path(b"d/locked"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tree_run_that_cannot_replace_a_file_names_the_file_and_not_its_temporary_name() {
    let line = "rsync: [receiver] rename \"sub/d/.x.JaxxWt\" (in m) -> \"sub/d/x\": Operation not permitted (1)";
    assert_eq!(
        failed(&run(TREE, Exit::Code(23), &[line, SUMMARY], &[b""])),
        ["d/x"]
    );
    let line =
        "rsync: [receiver] mkstemp \"/sub/d/.x.JaxxWt\" (in m) failed: Permission denied (13)";
    assert_eq!(
        failed(&run(TREE, Exit::Code(23), &[line, SUMMARY], &[b"d"])),
        ["d/x"]
    );
    let line = "cannot delete non-empty directory: d/y";
    assert_eq!(
        failed(&run(TREE, Exit::Code(23), &[line, SUMMARY], &[b"d"])),
        ["d/y"]
    );
    let line = "rsync: [sender] opendir \"/data/src/a\"b\" failed: Permission denied (13)";
    let outcome = run(TREE, Exit::Code(23), &[line, SUMMARY], &[b""]);
    assert!(
        matches!(outcome, Outcome::Undecided { .. }),
        "a name with a quotation mark is not clear"
    );
}

#[test]
fn a_full_disk_is_told_from_other_failures_to_write() {
    let full = "rsync: [receiver] write failed on \"big\" (in full): No space left on device (28)";
    assert!(matches!(
        run(SEND, Exit::Code(11), &[full], &[b"a"]),
        Outcome::DiskFull(_)
    ));
    let other = "rsync: [Receiver] mkdir \"/x\" failed: Read-only file system (30)";
    assert!(matches!(
        run(SEND, Exit::Code(11), &[other], &[b"a"]),
        Outcome::Unreachable(_)
    ));
}

#[test]
fn exit_2_with_a_mode_of_0_is_a_receiver_that_cannot_delete_by_name() {
    let line = "invalid file mode 00 for p/1 [Receiver]";
    let outcome = run(DELETE, Exit::Code(2), &[line], &[b"p/1"]);
    assert_eq!(outcome, Outcome::Refused(RefusedForm::DeleteByName));
}

#[test]
fn exit_2_for_a_parent_that_went_under_the_run_is_a_source_that_changed() {
    let line = "ABORTING due to invalid path from sender: p/1";
    let outcome = run(DELETE, Exit::Code(2), &[line], &[b"p/1"]);
    assert!(matches!(outcome, Outcome::Undecided { changed: true, .. }));
}

#[test]
fn refused_options_change_the_form() {
    let refused = |kind, option: &str| {
        let line = format!("rsync: The server is configured to refuse --{option}");
        run(kind, Exit::Code(4), &[&line], &[b"a"])
    };
    assert_eq!(refused(SEND, "force"), Outcome::Refused(RefusedForm::Force));
    assert_eq!(
        refused(TREE, "delete"),
        Outcome::Refused(RefusedForm::DeleteInTrees)
    );
    assert!(matches!(
        refused(DELETE, "delete"),
        Outcome::Misconfigured(_)
    ));
}

#[test]
fn what_a_person_must_mend_is_misconfigured() {
    for (code, line) in [
        (5, "@ERROR: auth failed on module ok"),
        (5, "@ERROR: Unknown module 'none'"),
        (5, "@ERROR: chdir failed"),
        (1, "ERROR: module is read only"),
        (4, "rsync: not supported"),
    ] {
        assert_eq!(
            run(SEND, Exit::Code(code), &[line], &[b"a"]),
            Outcome::Misconfigured(line.into())
        );
    }
}

#[test]
fn a_remote_that_is_away_is_unreachable() {
    for code in [10, 12, 14, 20, 21, 22, 30, 35, 124, 125, 126, 127, 255] {
        let outcome = run(SEND, Exit::Code(code), &[], &[b"a"]);
        assert_eq!(
            outcome,
            Outcome::Unreachable(format!("rsync exited with {code}"))
        );
    }
    let busy = "@ERROR: max connections (1) reached -- try again later";
    assert_eq!(
        run(SEND, Exit::Code(5), &[busy], &[b"a"]),
        Outcome::Unreachable(busy.into())
    );
    let hung = run(SEND, Exit::Hung, &[], &[b"a"]);
    assert_eq!(
        hung,
        Outcome::Unreachable("rsync hung and was ended".into())
    );
    let killed = run(SEND, Exit::Signal(9), &[], &[b"a"]);
    assert_eq!(
        killed,
        Outcome::Unreachable("rsync was ended by signal 9".into())
    );
}

const CLOSED: &str = "rsync: connection unexpectedly closed (120 bytes received so far) [sender]";
const VANISHED: &str = "file has vanished: \"/data/src/d/secret\"";
const UNREADABLE: &str =
    "rsync: [sender] send_files failed to open \"/data/src/secret\": Permission denied (13)";

#[test]
fn a_connection_that_drops_is_not_put_down_to_a_file_that_failed_before() {
    let dropped =
        "rsync error: error in rsync protocol data stream (code 12) at io.c(228) [sender=3.5.0]";
    for before in [
        VANISHED,
        UNREADABLE,
        "cannot delete non-empty directory: secret",
    ] {
        let outcome = run(TREE, Exit::Code(12), &[before, CLOSED, dropped], &[b""]);
        assert_eq!(outcome, Outcome::Unreachable(CLOSED.into()));
        let outcome = run(TREE, Exit::Code(12), &[before, dropped], &[b""]);
        assert_eq!(outcome, Outcome::Unreachable(dropped.into()));
        let hung = run(TREE, Exit::Hung, &[before], &[b""]);
        assert_eq!(
            hung,
            Outcome::Unreachable("rsync hung and was ended".into())
        );
    }
    let reset = "rsync: [sender] read error: Connection reset by peer (104)";
    let outcome = run(
        TREE,
        Exit::Code(12),
        &[UNREADABLE, CLOSED, reset, dropped],
        &[b""],
    );
    assert_eq!(outcome, Outcome::Unreachable(reset.into()), "it says why");
    let refused = "@ERROR: auth failed on module m";
    let outcome = run(TREE, Exit::Code(5), &[VANISHED, refused], &[b""]);
    assert_eq!(outcome, Outcome::Misconfigured(refused.into()));
}

#[test]
fn a_receiver_that_goes_for_lack_of_room_is_said_to() {
    let full = "rsync: [receiver] write failed on \"big\" (in m): No space left on device (28)";
    let lines = [VANISHED, full, CLOSED];
    let outcome = run(TREE, Exit::Code(12), &lines, &[b""]);
    assert_eq!(outcome, Outcome::Unreachable(full.into()));
    let outcome = run(TREE, Exit::Code(11), &lines, &[b""]);
    assert_eq!(outcome, Outcome::DiskFull(full.into()));
}

#[test]
fn where_nothing_but_a_file_is_told_the_file_is_the_cause() {
    let line = "rsync: [Receiver] mkdir \"/x\" failed: Read-only file system (30)";
    let outcome = run(SEND, Exit::Code(11), &[line], &[b"a"]);
    assert_eq!(outcome, Outcome::Unreachable(line.into()));
}
