//! One test for each kind of row of the table, and the ways to write options.

use super::*;

fn check(text: &str) -> Checked {
    Params::check(text, false)
}

fn args(text: &str) -> Vec<String> {
    let Checked { params, remarks } = check(text);
    assert!(
        remarks.iter().all(|r| r.severity == Severity::Warning),
        "{text}: {remarks:?}"
    );
    params
        .args()
        .iter()
        .map(|arg| arg.to_str().unwrap().to_owned())
        .collect()
}

fn errors(text: &str) -> Vec<String> {
    let remarks = check(text).remarks.into_iter();
    remarks
        .filter(|r| r.severity == Severity::Error)
        .map(|r| r.text)
        .collect()
}

fn warnings(text: &str) -> Vec<String> {
    let remarks = check(text).remarks.into_iter();
    remarks
        .filter(|r| r.severity == Severity::Warning)
        .map(|r| r.text)
        .collect()
}

#[test]
fn the_stock_params_keep_all_but_r_and_u_with_one_warning() {
    assert_eq!(args("-artuz"), ["-atz"]);
    let warnings = warnings("-artuz");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("`-u` is dropped"), "{warnings:?}");
}

#[test]
fn keep_update_keeps_update() {
    let checked = Params::check("-au", true);
    assert_eq!(checked.params.args(), ["-au"]);
    assert!(checked.remarks.is_empty());
}

#[test]
fn output_options_vanish_without_a_word() {
    assert_eq!(args("-avz --progress --stats --info=progress2 -h"), ["-az"]);
    assert!(warnings("-avzhiq --progress").is_empty());
}

#[test]
fn values_may_stand_behind_the_letter_in_the_next_word_or_after_an_equals_sign() {
    let expected = ["-az", "--temp-dir=/tmp"];
    assert_eq!(args("-azT/tmp"), expected);
    assert_eq!(args("-azT /tmp"), expected);
    assert_eq!(args("-az --temp-dir=/tmp"), expected);
    assert_eq!(args("-az --temp-dir /tmp"), expected);
    assert_eq!(args("-az --bwlimit 100 -x"), ["-az", "--bwlimit=100", "-x"]);
}

#[test]
fn an_option_that_breaks_mirroring_is_refused_by_name_inside_a_cluster_too() {
    assert_eq!(
        errors("-artuzn"),
        ["`-n` sends nothing to the receiver; remove it"]
    );
    assert_eq!(
        errors("-a --remove-source-files"),
        ["`--remove-source-files` deletes the source; remove it"]
    );
    for option in [
        "--delete-excluded",
        "--ignore-errors",
        "--files-from=/x",
        "-0",
        "-R",
        "-d",
        "--daemon",
        "--rsync-path=x",
        "--append",
        "--append-verify",
        "--existing",
        "--ignore-existing",
        "--size-only",
        "--max-size=1",
        "--min-size=1",
        "-b",
        "--backup-dir=/b",
        "--link-dest=/x",
        "--copy-dest=/x",
        "--compare-dest=/x",
        "--list-only",
        "--write-batch=x",
        "--read-batch=x",
        "-m",
        "--iconv=utf8",
        "-8",
        "--max-delete=3",
        "-F",
        "-C",
        "--mkpath",
        "--no-implied-dirs",
        "--stop-after=3",
        "-M--x",
        "--old-args",
        "--remove-sent-files",
    ] {
        assert_eq!(errors(&format!("-a {option}")).len(), 1, "{option}");
    }
}

#[test]
fn what_has_an_element_of_its_own_is_sent_there() {
    assert!(errors("-a -e ssh")[0].contains("<ssh start=\"true\"/>"));
    for option in ["-b", "--backup", "--backup-dir=/b", "--suffix=.old"] {
        assert!(errors(&format!("-a {option}"))[0].contains("<backup start=\"true\" dir="));
    }
    assert!(errors("-a --max-delete=3")[0].contains("<maxDelete start=\"true\" count="));
    assert!(
        errors("-ae ssh").len() == 1,
        "`ssh` is the value of -e, not a word of its own"
    );
    assert!(errors("-a --password-file=/p")[0].contains("<auth "));
    assert!(errors("-a --port=874")[0].contains("<userDefinedPort "));
    assert!(errors("-a --timeout=3")[0].contains("<timeout "));
}

#[test]
fn deletion_options_are_dropped_with_a_warning_because_deleting_is_our_work() {
    for option in [
        "--delete",
        "--del",
        "--delete-before",
        "--delete-during",
        "--delete-delay",
        "--delete-after",
    ] {
        assert_eq!(args(&format!("-a {option}")), ["-a"]);
        assert_eq!(warnings(&format!("-a {option}")).len(), 1, "{option}");
    }
    assert_eq!(args("-a --force"), ["-a"]);
}

#[test]
fn risky_options_pass_with_a_warning() {
    for option in [
        "-c",
        "--inplace",
        "-L",
        "-k",
        "-K",
        "--safe-links",
        "--partial",
        "-P",
        "--partial-dir=.p",
        "-@1",
    ] {
        let text = format!("-a {option}");
        assert!(!args(&text).is_empty());
        assert_eq!(warnings(&text).len(), 1, "{option}");
    }
    assert_eq!(args("-aP"), ["-a", "--partial"]);
}

#[test]
fn harmless_options_pass_without_a_word() {
    let text = "-aHAXSWxIOJsy4 --numeric-ids --fake-super --chown=a:b --chmod=D755 --skip-compress=gz --zl=3";
    assert!(warnings(text).is_empty());
    assert_eq!(
        args(text),
        [
            "-aHAXSWxIOJsy4",
            "--numeric-ids",
            "--fake-super",
            "--chown=a:b",
            "--chmod=D755",
            "--skip-compress=gz",
            "--compress-level=3"
        ]
    );
}

#[test]
fn what_the_engine_must_know_is_noted_and_taken_back() {
    let params = |text: &str| text.parse::<Params>().unwrap();
    let all = params("-aHx --inplace --exclude='*.log'");
    assert!(all.hard_links() && all.one_file_system() && all.inplace() && all.filtered());
    let none = params("-aHx --inplace --no-H --no-one-file-system --no-inplace");
    assert!(!none.hard_links() && !none.one_file_system() && !none.inplace() && !none.filtered());
    assert!(params("-a --include-from /etc/list").filtered());
    assert!(params("-a -f'- x'").filtered());
    assert_eq!(Params::default().args().len(), 0);
}

#[test]
fn negations_of_allowed_options_pass_and_those_of_ours_vanish() {
    assert_eq!(
        args("-a --no-o --no-group --no-perms --no-z"),
        ["-a", "--no-o", "--no-group", "--no-perms", "--no-z"]
    );
    assert_eq!(args("-a --no-r --no-v --no-d --no-relative"), ["-a"]);
    assert_eq!(errors("-a --no-archive").len(), 1);
    assert_eq!(errors("-a --no-owner=x").len(), 1);
}

#[test]
fn patterns_keep_their_spaces_and_their_order() {
    assert_eq!(
        args("-a --include='keep me/' --exclude=\"*.log\" --filter='- /x y'"),
        [
            "-a",
            "--include=keep me/",
            "--exclude=*.log",
            "--filter=- /x y"
        ]
    );
    assert_eq!(errors("-a --filter='R *'").len(), 1);
    assert_eq!(errors("-a --exclude-from=list").len(), 1);
    assert_eq!(errors("-a --partial-dir=/p").len(), 1);
}

#[test]
fn whatever_is_unknown_is_an_error_that_names_a_neighbour() {
    assert_eq!(
        errors("-a --exlude=x"),
        ["`--exlude` is unknown or not allowed; did you mean `--exclude`?"]
    );
    assert_eq!(
        errors("-a --remove-source-files;"),
        [
            "`--remove-source-files;` is unknown or not allowed, and `--remove-source-files` deletes the source; remove it"
        ]
    );
    assert!(errors("-a --passwordfile=/x")[0].contains("write <auth"));
    assert_eq!(errors("-aQ"), ["`-Q` is unknown or not allowed; remove it"]);
    assert_eq!(errors("--archive=yes"), ["`--archive` takes no value"]);
    assert_eq!(
        errors("-a --bwlimit"),
        ["`--bwlimit` needs a value: --bwlimit=…"]
    );
    assert_eq!(errors("-a /data").len(), 1);
    assert_eq!(errors("-a -- -").len(), 2);
    assert_eq!(errors("-a --exclude='x"), ["the quote ' is not closed"]);
}

#[test]
fn what_rsync_refuses_together_is_refused_here() {
    assert_eq!(errors("-a --inplace --partial-dir=.p").len(), 1);
    assert_eq!(errors("-a --delay-updates --inplace").len(), 1);
    assert_eq!(errors("-a --delay-updates --inplace --no-inplace").len(), 0);
}

#[test]
fn all_errors_come_at_once() {
    assert_eq!(errors("-an --append --frob -R").len(), 4);
}

#[test]
fn leaving_links_or_times_out_is_worth_a_warning() {
    assert_eq!(warnings("-rz").len(), 2);
    assert_eq!(warnings("-rlt").len(), 0);
    assert_eq!(warnings("-a --no-t").len(), 1);
    assert_eq!(warnings("").len(), 2);
}

#[test]
fn a_rule_that_protects_leaves_the_others_known_and_stays_where_somebody_else_sees_to_them() {
    let params = parsed("-a --exclude=/conf/ --filter='P /keep'");
    assert!(params.filtered() && params.rules().is_some());
    let without = params.without_rules();
    assert_eq!(without.args(), ["-a", "--filter=P /keep"]);
    assert!(without.filtered());
    assert!(!parsed("-a --exclude=x").without_rules().filtered());
    assert!(parsed("-a --filter='P /keep'").rules().is_none());
}

fn parsed(text: &str) -> Params {
    text.parse().expect("these are options")
}
