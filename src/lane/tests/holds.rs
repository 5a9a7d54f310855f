//! Holds, and deletions that are withheld.

use super::*;

const FIRST_CONTACT: Hold = Hold::FirstContact {
    deletions: 200,
    entries: 201,
};

fn left(job: &Job) -> u64 {
    let budget = job.budget.as_ref().expect("a limit");
    budget.left(Instant::now())
}

#[test]
fn a_held_lane_does_nothing_until_its_guard_lets_it() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(path("d")), now);
    let first = job(&mut lane, now);
    let end = End::Held(Hold::SourceReplaced);
    let held = Report {
        again: first.paths.clone(),
        end,
        ..Report::default()
    };
    assert_eq!(
        lane.on_report(Route::Path, held, now, 0.0),
        [News::Held(Hold::SourceReplaced)]
    );
    let plan = lane.plan(now);
    assert!(plan.jobs.is_empty());
    let again = job(&mut lane, plan.wake.expect("a time to look again"));
    assert_eq!(
        lane.on_report(Route::Path, synced(&again), now, 0.0),
        [News::Released]
    );
}

#[test]
fn withheld_deletions_are_shown_and_counted_and_hold_back_nothing_else() {
    let (mut lane, now) = (lane().with_max_delete(Some(10)), Instant::now());
    lane.on_change(Change::subtree(path("old")), now);
    let deletion = job(&mut lane, now);
    assert_eq!(left(&deletion), 10);
    let news = lane.on_report(Route::Path, report(&deletion, Fate::Withheld), now, 0.0);
    let hold = Hold::TooManyDeletions {
        count: 20,
        limit: 10,
    };
    assert_eq!(news, [News::Held(hold.clone())]);
    let condition = lane.condition();
    assert_eq!((condition.state, condition.pending), (State::Held, 1));
    assert_eq!(condition.last_error, hold.to_string());
    assert_eq!(lane.waits_for(), None, "a verification need not wait");
    let told = Some(Settled::Held(hold.to_string()));
    assert_eq!(
        (lane.settled(now, false), lane.settled(now, true)),
        (told.clone(), told)
    );
    lane.on_change(Change::written(path("new")), now);
    let other = job(&mut lane, now);
    assert_eq!((names(&other), left(&other)), (vec!["new".into()], 0));
    assert_eq!(lane.on_report(Route::Path, synced(&other), now, 0.0), []);
    assert_eq!(lane.accept_deletions(now), 20);
    let accepted = job(&mut lane, now);
    assert_eq!(
        (names(&accepted), left(&accepted)),
        (vec!["old".into()], 30)
    );
    let news = lane.on_report(Route::Path, synced(&accepted), now, 0.0);
    assert_eq!(news, [News::Released]);
    assert!(lane.is_equal() && lane.condition().state == State::Idle);
}

#[test]
fn what_goes_while_accepted_deletions_are_at_work_is_not_what_was_accepted() {
    let (mut lane, now) = (lane().with_max_delete(Some(10)), Instant::now());
    lane.on_change(Change::subtree(path("old")), now);
    let deletion = job(&mut lane, now);
    lane.on_report(Route::Path, report(&deletion, Fate::Withheld), now, 0.0);
    lane.accept_deletions(now);
    let later = now + Duration::from_secs(1);
    lane.on_change(Change::entry(path("other")), later);
    // Both are dirty now, and each goes by itself.
    let looks = job(&mut lane, later);
    assert_eq!(names(&looks), ["old"]);
    lane.on_report(Route::Path, routed(&looks, Route::Tree), later, 0.0);
    let later = later + LONGEST_GATHERING;
    let jobs = lane.plan(later).jobs;
    let [other, accepted] = jobs.as_slice() else {
        panic!("{jobs:?}");
    };
    assert_eq!((names(other), left(other)), (vec!["other".into()], 10));
    assert_eq!((names(accepted), left(accepted)), (vec!["old".into()], 30));
    // What is withheld of the one holds up nothing of the other.
    let news = lane.on_report(Route::Path, report(other, Fate::Withheld), later, 0.0);
    assert!(matches!(news[..], [News::Held(_)]), "{news:?}");
    assert_eq!((left(other), left(accepted)), (0, 20));
}

#[test]
fn nobody_waits_for_what_is_paused_but_a_comparison_waits_for_what_is_held() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(RelPath::root()), now);
    lane.on_source(false);
    assert_eq!(lane.settled(now, true), None);
    lane.on_source(true);
    lane.on_pause(true);
    for patient in [false, true] {
        assert_eq!(lane.settled(now, patient), Some(Settled::Paused));
    }
    lane.on_pause(false);
    assert_eq!(lane.settled(now, true), None, "it is still to be compared");
}

#[test]
fn withheld_deletions_are_asked_for_again_by_themselves_and_by_a_retry() {
    let (mut lane, now) = (lane().with_max_delete(Some(10)), Instant::now());
    lane.on_change(Change::subtree(path("old")), now);
    let deletion = job(&mut lane, now);
    lane.on_report(Route::Path, report(&deletion, Fate::Withheld), now, 0.0);
    let due = lane.plan(now).wake.expect("a time to ask again");
    assert!(due > now);
    let again = job(&mut lane, due);
    let news = lane.on_report(Route::Path, report(&again, Fate::Withheld), due, 0.0);
    assert_eq!(news, [], "it was told");
    assert!(lane.plan(due).jobs.is_empty());
    lane.retry_failed(due);
    let put_back = job(&mut lane, due);
    let news = lane.on_report(Route::Path, synced(&put_back), due, 0.0);
    assert_eq!(news, [News::Released]);
}

#[test]
fn a_removal_that_is_withheld_outlives_an_end() {
    let (mut lane, now) = (lane().with_max_delete(Some(10)), Instant::now());
    lane.on_change(
        Change {
            removed: true,
            ..Change::subtree(path("old"))
        },
        now,
    );
    let deletion = job(&mut lane, now);
    lane.on_report(Route::Path, report(&deletion, Fate::Withheld), now, 0.0);
    lane.keep_removals(now);
    let kept: Vec<_> = lane.failed().iter().collect();
    assert!(kept.len() == 1 && kept[0].1.removed, "{kept:?}");
}

fn held(job: &Job, hold: Hold) -> Report {
    Report {
        again: job.paths.clone(),
        end: End::Held(hold),
        runs: 1,
        ..Report::default()
    }
}

#[test]
fn a_first_contact_stays_held_whatever_paths_get_through_until_a_person_accepts_it() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_schedule(Arc::default(), now);
    let push = job(&mut lane, now);
    let news = lane.on_report(Route::Tree, held(&push, FIRST_CONTACT), now, 0.0);
    assert_eq!(news, [News::Held(FIRST_CONTACT)]);
    lane.on_change(Change::written(path("a")), now);
    let plan = lane.plan(now);
    assert_eq!(
        (plan.jobs, plan.wake),
        (vec![], Some(now + COSTLY_HOLD_CHECK))
    );
    let later = now + COSTLY_HOLD_CHECK;
    let paths = job(&mut lane, later);
    assert_eq!(names(&paths), ["a"]);
    let sent = Report {
        runs: 1,
        ..synced(&paths)
    };
    assert_eq!(lane.on_report(Route::Path, sent, later, 0.0), []);
    assert_eq!(lane.condition().state, State::Held);
    lane.on_accepted(later);
    let mut jobs = lane.plan(later).jobs;
    assert_eq!(
        names(&jobs.remove(0)),
        ["."],
        "everything is compared at once"
    );
}

#[test]
fn a_lane_whose_first_push_is_held_looks_again_with_nothing_but_everything() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(RelPath::root()), now);
    let first = job(&mut lane, now);
    let held = Report {
        again: first.paths.clone(),
        end: End::Held(FIRST_CONTACT),
        ..Report::default()
    };
    lane.on_report(Route::Path, held, now, 0.0);
    lane.on_change(Change::written(path("a")), now);
    let later = now + COSTLY_HOLD_CHECK;
    let again = job(&mut lane, later);
    assert_eq!(names(&again), ["."]);
    let routed = Report {
        routed: again
            .paths
            .iter()
            .cloned()
            .map(|dirty| (dirty, Route::Tree))
            .collect(),
        ..Report::default()
    };
    lane.on_report(Route::Path, routed, later, 0.0);
    let trees = job(&mut lane, later);
    assert_eq!(
        (trees.route, names(&trees)),
        (Route::Tree, vec![".".to_owned()])
    );
    assert!(lane.plan(later).jobs.is_empty());
    // What a person has accepted holds up nothing.
    lane.on_accepted(later);
    let paths = job(&mut lane, later + Duration::from_secs(1));
    assert!(names(&paths).contains(&"a".to_owned()), "{paths:?}");
}

#[test]
fn a_missing_volume_is_told_once_and_releases_nothing() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(path("vol")), now);
    let first = job(&mut lane, now);
    let left = |job: &Job| Report {
        failed: job
            .paths
            .iter()
            .map(|dirty| (dirty.clone(), failure(VOLUME_MISSING, "not mounted")))
            .collect(),
        ..Report::default()
    };
    let news = lane.on_report(Route::Path, left(&first), now, 0.0);
    let told = News::VolumeMissing(path("vol"), "not mounted".into());
    assert_eq!(news, [told]);
    assert_eq!(lane.condition().state, State::Degraded);
    assert_eq!(lane.retry_failed(now), 1);
    let other = job(&mut lane, now);
    lane.on_report(Route::Path, held(&other, Hold::SourceEmpty), now, 0.0);
    let later = now + HOLD_CHECK;
    let again = job(&mut lane, later);
    assert_eq!(lane.on_report(Route::Path, left(&again), later, 0.0), []);
    assert_eq!(lane.condition().state, State::Held);
}

#[test]
fn a_target_that_is_back_is_compared_as_a_whole() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let first = job(&mut lane, now);
    let hold = Hold::OtherTarget(Difference::Unmounted);
    let report = held(&first, hold.clone());
    let news = lane.on_report(Route::Path, report, now, 0.0);
    assert_eq!(news, [News::Held(hold)]);
    let later = now + HOLD_CHECK;
    let again = job(&mut lane, later);
    assert_eq!(names(&again), [".", "a"]);
}
