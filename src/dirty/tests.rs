//! Tests of the dirty set.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1000;

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("a valid path")
}

fn take_all(set: &mut DirtySet, now: Instant) -> Vec<DirtyPath> {
    set.take(Route::Path, usize::MAX, now, |_| false)
}

fn names(taken: &[DirtyPath]) -> Vec<String> {
    taken.iter().map(|dirty| dirty.path.to_string()).collect()
}

#[test]
fn the_last_word_says_whether_a_removal_is_to_be_carried_out() {
    let now = Instant::now();
    let removed = |path: &str, removed| Change {
        removed,
        ..Change::entry(RelPath::new(path.as_bytes()).expect("a valid path"))
    };
    let mut set = DirtySet::new(100);
    set.insert(removed("x", true), now);
    set.insert(removed("x", false), now);
    set.insert(removed("y", false), now);
    set.insert(removed("y", true), now);
    set.insert(removed("d/z", true), now);
    set.insert(Change::subtree(RelPath::root()), now);
    let taken = set.take(Route::Path, 9, now, |_| false);
    let flags: Vec<_> = taken
        .iter()
        .map(|dirty| (dirty.path.to_string(), dirty.removed))
        .collect();
    let expected = [(".", false), ("d/z", true), ("y", true)];
    assert_eq!(flags, expected.map(|(path, flag)| (path.to_owned(), flag)));
    // What is put back is older than what has come since.
    set.insert(removed("y", false), now);
    set.put_back(taken[2].clone(), Route::Path);
    let again = set.take(Route::Path, 9, now + REST, |_| false);
    assert!(again.len() == 1 && !again[0].removed, "{again:?}");
}

#[test]
fn a_name_of_a_file_with_several_keeps_its_place_or_all_is_compared() {
    let now = Instant::now();
    let linked = |name: &str| Change {
        linked: Some(7),
        ..Change::entry(path(name))
    };
    let mut set = DirtySet::new(8);
    set.insert(linked("d/early"), now);
    set.insert(Change::subtree(path("d")), now);
    set.insert(linked("d/late"), now);
    assert_eq!(names(&take_all(&mut set, now)), ["d", "d/early", "d/late"]);
    for number in 0..9 {
        set.insert(linked(&format!("d/e/{number}")), now);
    }
    assert!(set.is_everything(), "the other names may be anywhere");
}

#[test]
fn a_subtree_subsumes_its_paths_but_not_what_was_written() {
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    set.insert(Change::entry(path("d/a")), now);
    set.insert(Change::written(path("d/w")), now);
    set.insert(Change::entry(path("d.x")), now);
    set.insert(Change::subtree(path("d")), now);
    set.insert(Change::entry(path("d/late")), now);
    assert_eq!(names(&take_all(&mut set, now)), ["d", "d/w", "d.x"]);
    assert!(set.is_empty());
}

#[test]
fn a_path_that_changes_all_the_time_goes_at_once_then_rarely_then_once_more_at_rest() {
    let start = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    let mut sent_at = Vec::new();
    let mut last_change = start;
    for millis in 0..12_000 {
        let now = start + Duration::from_millis(millis);
        if millis % 20 == 0 && millis <= 8_000 {
            set.insert(Change::written(path("log")), now);
            last_change = now;
        }
        if !take_all(&mut set, now).is_empty() {
            sent_at.push(now);
        }
    }
    assert_eq!(sent_at[0], start);
    assert!(sent_at.len() <= 20, "{} runs", sent_at.len());
    let last = *sent_at.last().expect("sent");
    assert!(last >= last_change && last <= last_change + REST);
    set.insert(
        Change::written(path("log")),
        start + Duration::from_secs(60),
    );
    assert!(
        !take_all(&mut set, start + Duration::from_secs(60)).is_empty(),
        "quiet again"
    );
}

#[test]
fn intervals_grow_with_the_length_of_a_run() {
    let mut set = DirtySet::new(LIMIT);
    set.note_run(Duration::from_millis(500));
    assert_eq!(set.longest_interval, Duration::from_secs(10));
    set.note_run(Duration::from_secs(600));
    assert_eq!(set.longest_interval, LONGEST_BOUND);
}

#[test]
fn a_path_that_changed_again_by_the_time_it_was_sent_has_not_failed() {
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    for (changes, tries) in [(false, 5), (true, 0)] {
        set.insert(Change::written(path("log")), now);
        for round in 1..=5 {
            let now = now + REST * round;
            let taken = take_all(&mut set, now).pop().expect("due");
            if changes {
                set.insert(Change::written(path("log")), now);
            }
            set.retry(taken, now);
        }
        let taken = take_all(&mut set, now + REST * 6).pop().expect("due");
        assert_eq!(taken.tries, tries);
    }
}

#[test]
fn a_busy_path_stays() {
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    set.insert(Change::written(path("big")), now);
    set.insert(Change::written(path("small")), now);
    let taken = set.take(Route::Path, 10, now, |other| *other == path("big"));
    assert_eq!(names(&taken), ["small"]);
    assert_eq!(set.len(), 1);
}

#[test]
fn a_set_that_is_too_full_collapses_to_the_deepest_directories() {
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    for at in 0..=LIMIT {
        set.insert(Change::entry(path(&format!("a/b{}/c{at}", at % 7))), now);
    }
    set.insert(Change::entry(path("a/other")), now);
    let taken = take_all(&mut set, now);
    let expected: Vec<String> = (0..7)
        .map(|b| format!("a/b{b}"))
        .chain(["a/other".into()])
        .collect();
    assert_eq!(names(&taken), expected);
    assert!(
        taken[..7]
            .iter()
            .all(|dirty| dirty.extent == Extent::Subtree)
    );
}

#[test]
fn a_removal_keeps_its_place_in_a_set_that_is_too_full() {
    let removal = |name: &str, extent| Change {
        removed: true,
        extent,
        ..Change::entry(path(name))
    };
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    for at in 0..10 {
        set.insert(removal(&format!("a/b/gone{at}"), Extent::Entry), now);
    }
    for at in 0..LIMIT {
        set.insert(Change::entry(path(&format!("a/b/c/d/e{at}"))), now);
    }
    // With what changed in it before.
    set.insert(removal("a/b/c/d", Extent::Subtree), now);
    set.insert(Change::entry(path("a/b/more")), now);
    for at in 0..LIMIT {
        set.insert(Change::entry(path(&format!("x/y{}/z{at}", at % 7))), now);
    }
    let taken = take_all(&mut set, now);
    let removed = taken.iter().filter(|dirty| dirty.removed);
    let names: Vec<String> = removed.map(|dirty| dirty.path.to_string()).collect();
    let expected: Vec<String> = std::iter::once("a/b/c/d".into())
        .chain((0..10).map(|at| format!("a/b/gone{at}")))
        .collect();
    assert_eq!(names, expected);
}

#[test]
fn a_route_is_forgotten_when_the_path_changes_again() {
    let now = Instant::now();
    let mut set = DirtySet::new(LIMIT);
    set.insert(Change::subtree(path("d")), now);
    for dirty in take_all(&mut set, now) {
        set.put_back(dirty, Route::Tree);
    }
    assert!(take_all(&mut set, now).is_empty());
    set.insert(Change::entry(path("d")), now);
    assert!(!take_all(&mut set, now).is_empty(), "it may be gone by now");
}

#[derive(Debug, Clone)]
enum Step {
    Insert(RelPath, Option<u64>, bool, bool),
    Take(usize),
    PutBack,
    Pass(u64),
}

fn a_path() -> impl Strategy<Value = RelPath> {
    proptest::collection::vec("[ab.]?[abc]", 0..4).prop_map(|names| path(&names.join("/")))
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (a_path(), prop::option::weighted(0.2, Just(7)), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(path, linked, written, subtree)| Step::Insert(path, linked, written, subtree)),
        1 => (0..20_usize).prop_map(Step::Take),
        1 => Just(Step::PutBack),
        1 => (0..2_000_u64).prop_map(Step::Pass),
    ]
}

/// Whether `dirty` makes good what was said of `path`.
fn covers(dirty: &DirtyPath, path: &RelPath, extent: Extent, linked: bool) -> bool {
    let is_everything = dirty.path.is_root() && dirty.extent == Extent::Subtree;
    if linked && !is_everything {
        return dirty.linked && dirty.path == *path && extent <= dirty.extent;
    }
    match dirty.extent {
        Extent::Subtree => path.is_within(&dirty.path),
        Extent::Entry | Extent::Name => extent <= dirty.extent && dirty.path == *path,
    }
}

proptest! {
    #[test]
    fn nothing_inserted_is_ever_lost(
        steps in proptest::collection::vec(a_step(), 1..200),
        limit in 1..40_usize,
    ) {
        let mut now = Instant::now();
        let mut set = DirtySet::new(limit);
        let mut owed: Vec<(RelPath, Extent, bool, Instant)> = Vec::new();
        let mut last: Vec<DirtyPath> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(path, linked, written, subtree) => {
                    let extent = if subtree { Extent::Subtree } else { Extent::Entry };
                    set.insert(Change { path: path.clone(), extent, written, linked, removed: false, kept: false, made: None, unseen: false }, now);
                    owed.push((path, extent, linked.is_some(), now));
                }
                Step::Take(most) => {
                    last = set.take(Route::Path, most, now, |_| false);
                    owed.retain(|(path, extent, linked, _)| {
                        !last.iter().any(|d| covers(d, path, *extent, *linked))
                    });
                }
                Step::PutBack => for dirty in std::mem::take(&mut last) {
                    owed.push((dirty.path.clone(), dirty.extent, dirty.linked, dirty.since));
                    set.put_back(dirty, Route::Path);
                },
                Step::Pass(millis) => now += Duration::from_millis(millis),
            }
            prop_assert!(set.len() <= limit.max(1), "{} entries", set.len());
            prop_assert_eq!(set.is_empty(), set.oldest().is_none());
            let oldest = owed.iter().map(|(_, _, _, since)| *since).min();
            prop_assert!(oldest.is_none_or(|oldest| set.oldest().is_some_and(|at| at <= oldest)));
        }
        let end = now + LONGEST_BOUND;
        let taken = set.take(Route::Path, usize::MAX, end, |_| false);
        for (path, extent, linked, _) in owed {
            prop_assert!(taken.iter().any(|d| covers(d, &path, extent, linked)), "lost {path:?}");
        }
        prop_assert!(set.is_empty() && set.next_due().is_none());
    }
}
