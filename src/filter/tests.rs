use proptest::prelude::*;

use super::*;

fn expressions(expressions: &[&str]) -> Vec<Rule> {
    let rules = expressions
        .iter()
        .map(|&text| Rule::Expression(text.into()));
    rules.collect()
}

fn filter(texts: &[&str]) -> Filter {
    Filter::new(expressions(texts)).expect("expressions that can be used")
}

/// Patterns, as rsync takes them after `--exclude`.
fn patterns(texts: &[&str]) -> Filter {
    let rules = texts.iter().map(|text| Rule::of_exclude(text.as_bytes()));
    Filter::new(rules.collect()).expect("patterns that can be used")
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a valid path")
}

/// Whether a file is mirrored, and a directory of that name.
fn excluded(expressions: &[&str], name: &str) -> [bool; 2] {
    let filter = filter(expressions);
    [Kind::Other, Kind::Directory].map(|kind| filter.covers(&path(name), kind))
}

fn refused(expression: &str) -> Refused {
    dialect::translate(expression).expect_err(expression)
}

#[test]
fn the_expressions_of_the_stock_file_exclude_what_the_original_excludes() {
    let stock = [r"(.*)\.svn", r"(.*)\.gz", "^info/*", "^static/*"];
    for (name, expected) in [
        (".svn", true),
        ("a/b/.svn", true),
        ("a/.svn/entries", true),
        ("x.tar.gz", true),
        ("x.gz.txt", false),
        ("info", true),
        ("info/deep/file", true),
        ("information", false),
        ("a/info", false),
        ("static/x", true),
        ("statics", false),
    ] {
        assert_eq!(excluded(&stock, name), [expected; 2], "{name}");
    }
}

#[test]
fn any_of_the_three_spellings_counts() {
    assert_eq!(excluded(&["a/b"], "a/b"), [true; 2]);
    assert_eq!(excluded(&["/a/b"], "a/b"), [true; 2]);
    assert_eq!(excluded(&["/b"], "b"), [true; 2]);
    assert_eq!(
        excluded(&["a/b/"], "a/b"),
        [false, true],
        "a directory alone"
    );
    assert_eq!(
        excluded(&["/a/b/"], "a/b"),
        [false; 2],
        "nobody spells it so"
    );
    assert_eq!(
        excluded(&["b"], "a/b"),
        [false; 2],
        "the whole path must match"
    );
    assert_eq!(excluded(&["a"], "ab"), [false; 2]);
}

#[test]
fn the_root_is_never_excluded_and_an_excluded_directory_hides_all_below() {
    let all = filter(&[".*", "(.*)/"]);
    assert!(!all.covers(&RelPath::root(), Kind::Directory));
    let cache = filter(&["cache/"]);
    assert!(cache.hides(&path("cache/a/b")) && !cache.hides(&path("cache")));
    assert!(!cache.covers(&path("cache"), Kind::Other));
}

#[test]
fn the_reason_is_the_topmost_entry_and_the_first_expression() {
    let filter = filter(&[r"(.*)\.tmp", "a/b", "(.*)b"]);
    let reason = |name, kind| filter.reason(&path(name), kind);
    assert_eq!(
        reason("a/b/c.tmp", Kind::Other),
        Some(Excluded {
            entry: path("a/b"),
            rule: 1
        })
    );
    assert_eq!(reason("a/c", Kind::Other), None);
}

#[test]
fn a_path_is_bytes_and_a_dot_is_one_of_them() {
    let any = filter(&["a.b"]);
    let stray = RelPath::new(b"a\xFFb").expect("valid");
    assert!(any.excludes(&stray, Kind::Other));
    assert!(any.excludes(&path("a\nb"), Kind::Other), "a line end too");
    assert_eq!(excluded(&["a.b"], "aäb"), [false; 2], "two bytes");
    assert_eq!(excluded(&["图片/(.*)"], "图片/x"), [true; 2]);
}

#[test]
fn what_both_dialects_know_means_the_same() {
    for (expression, matches, others) in [
        ("a|b", &["a", "b"][..], &["ab", "c"][..]),
        ("(a|b)+c?", &["a", "abac"], &["c", "abd"]),
        (r"(.*)\.(log|tmp)", &["x.log", "d/y.tmp"], &["x.logs"]),
        ("x{2,3}", &["xx", "xxx"], &["x", "xxxx"]),
        ("[a-c]*?", &["abc"], &["abd"]),
        (r"\d+\w\s", &["12x "], &["x2x "]),
        ("(?i)readme", &["README", "ReadMe"], &["readm"]),
        ("(?:ab)+", &["abab"], &["aba"]),
        (r"\x41\x{42}", &["AB"], &["ab"]),
        ("^a$", &["a"], &["b"]),
        (r"[[:digit:]_]+", &["1_2"], &["a"]),
        (r"[^/]*\.bak", &["x.bak"], &["x.ba"]),
        // What the `regex` crate would take for operations on sets, or for a class in a class.
        ("[a&&b]", &["a", "&", "b"], &["c"]),
        ("[[a]", &["[", "a"], &["b"]),
        ("[]a]", &["]", "a"], &["b"]),
        ("[a~~b-]", &["~", "-"], &["c"]),
        (r"a\-b\_c\ d", &["a-b_c d"], &["ab"]),
        ("a}]", &["a}]"], &["a"]),
    ] {
        for name in matches {
            assert!(excluded(&[expression], name)[0], "{expression} {name}");
        }
        for name in others {
            assert!(!excluded(&[expression], name)[0], "{expression} {name}");
        }
    }
}

#[test]
fn what_would_mean_something_else_is_refused_with_its_place() {
    for (expression, character) in [
        ("*.php", 1),
        ("a|*b", 3),
        ("(?!x)y", 1),
        ("x(?<=a)", 2),
        ("(?>a)", 1),
        ("(?x)a b", 1),
        ("(?s)a", 1),
        (r"(a)\1", 4),
        ("a*+", 3),
        ("a**", 3),
        ("a{1}{2}", 5),
        ("a{,2}", 2),
        ("a{x", 2),
        (r"\Qa\E", 1),
        (r"\v", 1),
        (r"\`a", 1),
        ("a\\", 2),
        ("[a", 1),
        ("[äö]", 2),
        ("ä+", 2),
        ("[[:word:]]", 2),
        ("[[.a.]]", 2),
        (r"[\v]", 2),
        ("[z-a]", 5),
        (r"\xg1", 1),
        (r"\x{100}", 1),
        ("(a", 1),
        ("a(b(?:c)", 2),
        ("x(?i:a", 2),
        ("a)", 2),
        ("(a))b", 4),
        ("a)|(b", 2),
        ("((a{1000}){1000}){1000}", 1),
    ] {
        let refused = refused(expression);
        assert_eq!(refused.character, character, "{expression}: {refused}");
        assert!(!refused.reason.is_empty() && !refused.reason.contains('\n'));
    }
}

#[test]
fn every_expression_that_cannot_be_used_is_told() {
    let refused = Filter::new(expressions(&["a", "*", "b", "(?=c)"]));
    let refused = refused.expect_err("two are wrong");
    let places: Vec<usize> = refused.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, [1, 3]);
}

#[test]
fn a_pattern_means_what_it_means_to_rsync() {
    // Whether a file is excluded, and a directory of that name.
    for (pattern, name, expected) in [
        ("*.o", "a.o", [true; 2]),
        ("*.o", "d/a.o", [true; 2]),
        ("*.o", "a.o.c", [false; 2]),
        ("/a", "a", [true; 2]),
        ("/a", "d/a", [false; 2]),
        ("a/", "a", [false, true]),
        ("a/", "d/a", [false, true]),
        ("d/a", "d/a", [true; 2]),
        ("d/a", "x/d/a", [true; 2]),
        ("d/a", "xd/a", [false; 2]),
        ("/d/a", "x/d/a", [false; 2]),
        ("d/*/a", "x/d/y/a", [true; 2]),
        ("d/*/a", "d/y/z/a", [false; 2]),
        ("d/**/a", "d/y/z/a", [true; 2]),
        ("d/**/a", "d/a", [false; 2]),
        ("**/a", "a", [true; 2]),
        ("**/a", "d/e/a", [true; 2]),
        ("**/a", "d/ba", [false; 2]),
        ("**a", "d/ba", [true; 2]),
        ("/**/a", "a", [false; 2]),
        ("d/**", "d", [false; 2]),
        ("d/***", "d", [false, true]),
        ("/d/***", "d", [false, true]),
        ("/d/***", "x/d", [false; 2]),
        ("?", "a", [true; 2]),
        ("?", "ab", [false; 2]),
        ("[a-c]x", "bx", [true; 2]),
        ("[!a-c]x", "bx", [false; 2]),
        ("[^a]x", "bx", [true; 2]),
        ("[]a]", "]", [true; 2]),
        ("[a\\-c]", "b", [false; 2]),
        ("[[:digit:]_]", "7", [true; 2]),
        ("[[:digit:]_]", "_", [true; 2]),
        ("[[:digit:]_]", "d", [false; 2]),
        ("a\\*", "a*", [true; 2]),
        ("a\\*", "ab", [false; 2]),
        ("a\\b", "a\\b", [true; 2]),
        ("a.b", "aXb", [false; 2]),
        ("图*", "图片", [true; 2]),
    ] {
        let filter = patterns(&[pattern]);
        let found = [Kind::Other, Kind::Directory].map(|kind| filter.excludes(&path(name), kind));
        assert_eq!(found, expected, "{pattern} {name}");
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_a_directory_still_hides() {
    let php = patterns(&["+ */", "+ *.php", "*"]);
    assert!(php.includes_directories());
    assert!(!php.covers(&path("a/b/x.php"), Kind::Other));
    assert!(php.covers(&path("a/b/x.txt"), Kind::Other));
    assert!(!php.excludes_any(&path("a/b")) && php.excludes(&path("a/b"), Kind::Other));
    assert_eq!(
        php.reason(&path("a/x.txt"), Kind::Other)
            .map(|why| why.rule),
        Some(2)
    );
    let below = patterns(&["+ /logs/keep", "/logs"]);
    assert!(
        below.covers(&path("logs/keep"), Kind::Other),
        "as with rsync"
    );
    let late = patterns(&["*.tmp", "+ /keep.tmp"]);
    assert!(late.covers(&path("keep.tmp"), Kind::Other));
}

#[test]
fn an_include_comes_before_an_expression_as_it_stands_in_the_file() {
    let rules = vec![
        Rule::Include(b"/logs/".to_vec()),
        Rule::Include(b"keep.log".to_vec()),
        Rule::Expression("^logs/*".into()),
        Rule::Expression(r"(.*)\.log".into()),
    ];
    let filter = Filter::new(rules).expect("good rules");
    assert!(!filter.covers(&path("logs"), Kind::Directory));
    assert!(filter.covers(&path("logs"), Kind::Other));
    assert!(!filter.covers(&path("logs/keep.log"), Kind::Other));
    assert!(filter.covers(&path("logs/x.log"), Kind::Other));
}

#[test]
fn what_one_layer_excludes_no_other_includes() {
    let both = patterns(&["+ *"]).and(&patterns(&["*.tmp"]));
    assert!(both.excludes_any(&path("a.tmp")) && !both.covers(&path("a"), Kind::Other));
}

#[test]
fn a_pattern_that_would_match_nothing_is_refused_with_its_place() {
    for (pattern, character) in [
        ("[a", 1),
        ("/x[a-", 3),
        ("x[a/b]", 4),
        ("x[[:none:]]", 3),
        ("*\\", 2),
        ("/", 1),
        ("!", 1),
        ("+ a", 1),
        ("- a", 1),
    ] {
        let refused = pattern::translate(pattern.as_bytes()).expect_err(pattern);
        assert_eq!(refused.character, character, "{pattern}: {refused}");
    }
}

#[test]
fn a_file_of_patterns_is_read_as_rsync_reads_it() {
    let rules = |line: &str| Rule::of_line(line.as_bytes());
    assert_eq!(rules("# a comment"), None);
    assert_eq!(rules("; another"), None);
    assert_eq!(rules(""), None);
    assert_eq!(rules("+ a b"), Some(Rule::Include(b"a b".to_vec())));
    assert_eq!(rules("- a"), Some(Rule::Exclude(b"a".to_vec())));
    assert_eq!(rules(" a"), Some(Rule::Exclude(b" a".to_vec())));
    assert_eq!(Rule::of_include(b"- a"), Rule::Exclude(b"a".to_vec()));
    assert_eq!(Rule::of_include(b"a"), Rule::Include(b"a".to_vec()));
}

proptest! {
    #[test]
    fn no_pattern_whatever_panics(pattern in proptest::collection::vec(0u8.., 0..12)) {
        let _ = pattern::translate(&pattern);
    }

    #[test]
    fn no_string_that_looks_like_a_pattern_panics(pattern in r"[\[\]a-c\\!^*?/:=\-digt]{0,12}") {
        let _ = Filter::new(vec![Rule::of_exclude(pattern.as_bytes())]);
    }

    #[test]
    fn what_is_excluded_as_a_file_is_excluded_as_a_directory_without_includes(
        rules in proptest::collection::vec("[ab*/?]{1,5}", 1..4),
        name in "[ab]{1,2}(/[ab]{1,2}){0,2}",
    ) {
        let rules = rules.iter().map(|rule| Rule::Exclude(rule.clone().into_bytes()));
        let Ok(filter) = Filter::new(rules.collect()) else { return Ok(()) };
        let name = path(&name);
        prop_assert!(!filter.excludes(&name, Kind::Other) || filter.excludes(&name, Kind::Directory));
        prop_assert!(!filter.includes_directories());
    }
}

proptest! {
    #[test]
    fn no_expression_whatever_panics(expression in r"[\[\]a-c\\{}()*+?|^$.:=,\-0-9xdä&~]{0,12}") {
        let _ = dialect::translate(&expression);
    }

    #[test]
    fn a_quoted_name_excludes_itself_and_nothing_else(name in "[ -.0-~]{1,8}", other in "[ -.0-~]{1,8}") {
        prop_assume!(name != "." && name != ".." && other != "." && other != "..");
        let quoted: String = name
            .chars()
            .flat_map(|c| match c {
                // Behind a backslash these are anchors, by themselves they are nothing special.
                '<' | '>' | '`' | '\'' => vec![c],
                c if c.is_ascii_alphanumeric() => vec![c],
                c => vec!['\\', c],
            })
            .collect();
        let filter = filter(&[&quoted]);
        prop_assert!(filter.excludes(&path(&name), Kind::Other));
        prop_assert_eq!(filter.excludes(&path(&other), Kind::Other), name == other);
    }
}
