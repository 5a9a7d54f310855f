//! Full pushes by the clock, and scans.

use super::*;

#[test]
fn a_scheduled_push_is_not_taken_apart() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_schedule(Arc::new(["*.tmp".into()]), now);
    let push = job(&mut lane, now);
    let news = lane.on_report(Route::Tree, split_into(&push.paths[0], &["a"]), now, 0.0);
    assert!(matches!(news[..], [News::PushFailed(_)]), "{news:?}");
    assert_eq!(lane.pending(), 0);
}

/// An idle lane whose schedule has begun a push with a pattern.
fn lane_with_a_push(now: Instant) -> (LaneState, Job) {
    let mut lane = lane();
    lane.on_schedule(patterns(1), now);
    let push = job(&mut lane, now);
    assert_eq!(
        (push.route, names(&push)),
        (Route::Tree, vec![".".to_owned()])
    );
    assert_eq!(push.excludes, patterns(1));
    (lane, push)
}

#[test]
fn there_is_one_push_at_a_time_and_none_beside_another_comparison_of_everything() {
    let now = Instant::now();
    let (mut lane, push) = lane_with_a_push(now);
    lane.on_schedule(patterns(1), now);
    assert!(lane.plan(now).jobs.is_empty());
    lane.on_report(Route::Tree, synced(&push), now, 0.0);
    assert!(lane.plan(now).jobs.is_empty(), "the one that ran was it");
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_schedule(patterns(1), now);
    assert!(lane.plan(now).jobs.is_empty());
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    assert!(lane.plan(now).jobs.is_empty(), "so was that one");
}

#[test]
fn a_push_that_came_due_while_the_source_was_away_is_the_comparison_at_its_return() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_source(false);
    lane.on_schedule(patterns(1), now);
    assert!(lane.plan(now).jobs.is_empty());
    lane.on_source(true);
    lane.on_change(Change::subtree(RelPath::root()), now);
    let first = job(&mut lane, now);
    let report = Report {
        routed: vec![(first.paths[0].clone(), Route::Tree)],
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let tree = job(&mut lane, now);
    assert_eq!(tree.excludes, patterns(0));
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    assert_eq!(lane.plan(now), Plan::default(), "and not another one");
}

#[test]
fn a_push_that_did_not_reach_its_remote_begins_again_when_that_is_back() {
    let now = Instant::now();
    let (mut lane, push) = lane_with_a_push(now);
    lane.on_report(Route::Tree, unreachable(&push), now, 0.0);
    let probe_at = lane.plan(now).wake.expect("a time to probe");
    assert!(lane.plan(probe_at).probe);
    lane.on_probed(Ok(()), probe_at, 0.0);
    assert_eq!(job(&mut lane, probe_at).excludes, patterns(1));
}

#[test]
fn a_push_with_patterns_leaves_the_fail_queue_as_it_is_and_takes_nothing_further_than_it_was_named()
{
    let (mut lane, now) = (lane(), Instant::now());
    let failure = |message: &str| Failure {
        exit: 23,
        message: message.into(),
    };
    lane.on_change(Change::written(path("a.php")), now);
    let first = job(&mut lane, now);
    let report = Report {
        failed: vec![(first.paths[0].clone(), failure("no"))],
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    lane.on_schedule(patterns(1), now);
    let push = job(&mut lane, now);
    let named = |name| DirtyPath::now(path(name), Extent::Subtree);
    let report = Report {
        again: vec![named("d")],
        failed: vec![(
            named("old"),
            failure("cannot delete non-empty directory: old"),
        )],
        ..synced(&push)
    };
    let news = lane.on_report(Route::Tree, report, now, 0.0);
    assert!(matches!(news[..], [News::Pushed { alone: false, .. }]));
    assert_eq!(
        lane.failed().len(),
        1,
        "a.php was not looked at, old is kept"
    );
    let again = job(&mut lane, now);
    assert_eq!(
        (names(&again), again.paths[0].extent),
        (vec!["d".into()], Extent::Entry)
    );
}

#[test]
fn what_a_push_sends_is_drift_only_if_nothing_had_changed() {
    let now = Instant::now();
    for disturbed in [false, true] {
        let (mut lane, push) = lane_with_a_push(now);
        if disturbed {
            lane.on_change(Change::written(path("a")), now);
        }
        let report = Report {
            files_sent: 2,
            ..synced(&push)
        };
        let news = News::Pushed {
            sent: 2,
            deleted: 0,
            alone: !disturbed,
        };
        assert_eq!(lane.on_report(Route::Tree, report, now, 0.0), [news]);
    }
}

#[test]
fn a_push_of_a_source_that_is_never_the_same_is_given_up_until_the_next_time() {
    let now = Instant::now();
    let (mut lane, mut push) = lane_with_a_push(now);
    let mut then = now;
    for _ in 1..MOST_TRIES {
        let report = Report {
            again: push.paths,
            ..Report::default()
        };
        assert_eq!(lane.on_report(Route::Tree, report, then, 0.0), []);
        then = lane.plan(then).wake.expect("a time to try again");
        push = job(&mut lane, then);
    }
    let report = Report {
        again: push.paths,
        ..Report::default()
    };
    let news = lane.on_report(Route::Tree, report, then, 0.0);
    assert!(matches!(&news[..], [News::PushFailed(_)]), "{news:?}");
    assert_eq!(lane.plan(then), Plan::default());
}

#[test]
fn a_push_with_patterns_that_would_delete_too_much_is_given_up_and_leaves_nothing_withheld() {
    let now = Instant::now();
    let mut lane = lane().with_max_delete(Some(10));
    lane.on_schedule(patterns(1), now);
    let push = job(&mut lane, now);
    let news = lane.on_report(Route::Tree, report(&push, Fate::Withheld), now, 0.0);
    assert!(matches!(&news[..], [News::PushFailed(_)]), "{news:?}");
    assert!(lane.is_equal());
}

#[test]
fn a_scan_compares_everything_and_the_next_one_waits_where_that_took_long() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_scan(now);
    lane.on_scan(now);
    let look = job(&mut lane, now);
    lane.on_report(Route::Path, routed(&look, Route::Tree), now, 0.0);
    let scan = job(&mut lane, now);
    lane.on_scan(now);
    let took = Duration::from_secs(100);
    let ended = now + took;
    let report = Report {
        took,
        ..synced(&scan)
    };
    lane.on_report(Route::Tree, report, ended, 0.0);
    lane.on_scan(ended + took);
    assert!(lane.is_equal(), "not so soon again");
    lane.on_scan(ended + took * SCAN_PAUSE);
    assert_eq!(lane.pending(), 1);
}

#[test]
fn a_push_waits_for_the_end_of_a_pause_and_then_runs_once() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_pause(true);
    for minutes in 0..3 {
        let then = now + Duration::from_secs(60 * minutes);
        lane.on_schedule(patterns(1), then);
        assert!(lane.plan(then).jobs.is_empty());
    }
    lane.on_pause(false);
    let later = now + PERIOD;
    let push = job(&mut lane, later);
    lane.on_report(Route::Tree, synced(&push), later, 0.0);
    assert!(lane.plan(later).jobs.is_empty());
}

#[test]
fn a_held_push_runs_once_when_the_guard_lets_it() {
    let now = Instant::now();
    let (mut lane, push) = lane_with_a_push(now);
    let report = Report {
        again: push.paths,
        end: End::Held(Hold::SourceEmpty),
        ..Report::default()
    };
    lane.on_report(Route::Tree, report, now, 0.0);
    lane.on_schedule(patterns(1), now);
    let plan = lane.plan(now);
    assert!(plan.jobs.is_empty());
    let then = plan.wake.expect("a time to look again");
    let again = job(&mut lane, then);
    assert_eq!(again.excludes, patterns(1));
    let news = lane.on_report(Route::Tree, synced(&again), then, 0.0);
    assert!(news.contains(&News::Released), "{news:?}");
    assert_eq!(lane.plan(then), Plan::default());
}
