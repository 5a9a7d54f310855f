//! Jobs that overlap: what one did is looked at again where another may have undone it.

use super::*;

#[test]
fn a_directory_made_under_a_tree_job_is_compared_when_that_has_ended() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::made(path("d"), now), now);
    assert!(lane.plan(now).jobs.is_empty(), "not before");
    let ended = now + Duration::from_secs(9);
    lane.on_report(Route::Tree, synced(&tree), ended, 0.0);
    let again = job(&mut lane, ended);
    assert_eq!(names(&again), ["d"]);
    assert_eq!(again.paths[0].extent, Extent::Subtree);
    lane.on_report(Route::Path, synced(&again), ended, 0.0);
    // Of another it is told only then.
    lane.on_change(Change::made(path("told late"), now), ended);
    let told_late = job(&mut lane, ended + LONGEST_GATHERING);
    assert_eq!(names(&told_late), ["told late"]);
    assert_eq!(told_late.paths[0].extent, Extent::Subtree);
    lane.on_report(Route::Path, synced(&told_late), ended, 0.0);
    let after = ended + Duration::from_millis(1);
    lane.on_change(Change::made(path("made after it"), after), after);
    assert_eq!(lane.pending(), 0, "no job has seen that too early");
}

#[test]
fn a_lane_whose_own_job_has_the_only_connection_is_not_down_and_waits_for_it() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("a")), now);
    let small = job(&mut lane, now);
    let report = Report {
        crowded: true,
        ..unreachable(&small)
    };
    assert!(lane.on_report(Route::Path, report, now, 0.0).is_empty());
    let later = now + Duration::from_secs(60);
    let plan = lane.plan(later);
    assert!(plan.jobs.is_empty() && !plan.probe, "not beside the tree");
    lane.on_report(Route::Tree, synced(&tree), later, 0.0);
    assert_eq!(names(&job(&mut lane, later)), ["a"]);
}

#[test]
fn a_directory_made_under_a_tree_job_that_is_forgotten_is_compared() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    let later = now + Duration::from_secs(1);
    for at in 0..MOST_ENDED {
        let batch = Batch::new(&[DirtyPath::now(path(&format!("t{at}")), Extent::Subtree)]);
        lane.remember_tree(batch, later);
    }
    lane.on_change(Change::made(path("d"), now), later);
    assert_eq!(lane.pending(), 1, "the first is forgotten");
    lane.on_change(Change::made(path("e"), later), later);
    assert_eq!(lane.pending(), 1, "it was made after all that are");
}

#[test]
fn a_path_job_during_a_tree_job_has_its_paths_looked_at_again_in_the_end() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    assert_eq!(tree.route, Route::Tree);
    lane.on_change(Change::written(path("d/a")), now);
    let small = job(&mut lane, now);
    assert_eq!(names(&small), ["d/a"], "it does not wait for the tree");
    lane.on_report(Route::Path, synced(&small), now, 0.0);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    assert_eq!(
        names(&job(&mut lane, now)),
        ["d/a"],
        "the tree run may have undone it"
    );
}

#[test]
fn what_was_deleted_beside_a_tree_run_counts_as_a_directory_that_the_run_may_have_seen() {
    let now = Instant::now();
    let (mut lane, _tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::subtree(path("current")), now);
    let deletion = job(&mut lane, now);
    lane.on_report(Route::Path, synced(&deletion), now, 0.0);
    lane.on_change(Change::entry(path("current")), now);
    lane.on_change(Change::entry(path("other")), now);
    let next = job(&mut lane, now + Duration::from_secs(1));
    let extents: Vec<Extent> = next.paths.iter().map(|dirty| dirty.extent).collect();
    assert_eq!(extents, [Extent::Subtree, Extent::Entry]);
    assert!(matches!(&next.beside[..], [(Route::Tree, batch)] if batch.overlaps(&path("current"))));
}

#[test]
fn everything_is_compared_when_a_directory_at_work_became_a_link_beside_a_tree_job() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("current/a")), now);
    let small = job(&mut lane, now);
    lane.on_change(Change::subtree(path("current")), now);
    lane.on_change(Change::written(path("current")), now);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    assert_eq!(
        lane.plan(now),
        Plan::default(),
        "the other may still write through it"
    );
    lane.on_report(Route::Path, synced(&small), now, 0.0);
    let plan = lane.plan(now + LONGEST_GATHERING);
    assert!(plan.after_detour);
    assert_eq!(names(&plan.jobs[0])[0], ".");
    assert_eq!(plan.jobs[0].paths[0].extent, Extent::Subtree);
}

#[test]
fn nothing_is_swept_where_a_long_job_has_half_written_files() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("d/a")), now);
    let cut_off = job(&mut lane, now);
    let report = Report {
        unswept: vec![Unswept::left_by_receiver(path("d"))],
        ..synced(&cut_off)
    };
    lane.on_report(Route::Path, report, now, 0.0);
    lane.on_change(Change::written(path("d/b")), now);
    let beside = job(&mut lane, now);
    assert!(beside.unswept.is_empty());
    lane.on_report(Route::Path, synced(&beside), now, 0.0);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    let after = job(&mut lane, now);
    assert_eq!(after.unswept, [Unswept::left_by_receiver(path("d"))]);
}

#[test]
fn what_a_deletion_by_listing_may_have_undone_is_compared_again_after_a_tree_run_that_began_meanwhile()
 {
    let now = Instant::now();
    let mut lane = lane();
    lane.on_change(Change::subtree(path("d")), now);
    let first = job(&mut lane, now);
    let report = Report {
        routed: vec![(first.paths[0].clone(), Route::Tree)],
        ..Report::default()
    };
    lane.on_change(Change::entry(path("gone")), now);
    lane.on_report(Route::Path, report, now, 0.0);
    let later = now + LONGEST_GATHERING;
    let jobs = lane.plan(later).jobs;
    let [deletion, tree] = &jobs[..] else {
        panic!("{jobs:?}");
    };
    let report = Report {
        emptied: vec![RelPath::root()],
        ..synced(deletion)
    };
    lane.on_report(deletion.route, report, later, 0.0);
    lane.on_report(tree.route, synced(tree), later, 0.0);
    let again = job(&mut lane, later + LONGEST_GATHERING);
    assert_eq!(names(&again), ["d"]);
    assert_eq!(again.paths[0].extent, Extent::Subtree);
}

/// A large file on its way.
fn large_job(lane: &mut LaneState, name: &str, now: Instant) -> Job {
    lane.on_change(Change::written(path(name)), now);
    let looked = job(lane, now);
    lane.on_report(Route::Path, routed(&looked, Route::Large), now, 0.0);
    let large = job(lane, now);
    assert_eq!(large.route, Route::Large);
    large
}

#[test]
fn a_large_file_sent_beside_a_tree_run_is_looked_at_again_when_that_ends() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    let large = large_job(&mut lane, "big", now);
    lane.on_report(Route::Large, synced(&large), now, 0.0);
    assert_eq!(lane.settled(now, false), None);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    assert_eq!(
        names(&job(&mut lane, now)),
        ["big"],
        "the tree run may have undone it"
    );
}

#[test]
fn a_link_that_waited_for_one_long_job_waits_for_the_other_too() {
    let now = Instant::now();
    let (mut lane, _tree) = lane_with_a_tree_run(now);
    let large = large_job(&mut lane, "p/big", now);
    lane.on_change(Change::subtree(path("p")), now);
    let looked = job(&mut lane, now);
    assert_eq!(looked.beside.len(), 2);
    lane.on_report(Route::Path, routed(&looked, Route::Large), now, 0.0);
    lane.on_report(Route::Large, synced(&large), now, 0.0);
    let next = job(&mut lane, now);
    assert_eq!(next.route, Route::Large);
    assert!(matches!(&next.beside[..], [(Route::Tree, batch)] if batch.overlaps(&path("p"))));
}

#[test]
fn a_refused_connection_beside_a_long_job_does_not_stop_other_changes_until_that_ends() {
    let now = Instant::now();
    let (mut lane, _tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("a")), now);
    let refused = job(&mut lane, now);
    lane.on_report(Route::Path, unreachable(&refused), now, 0.0);
    let later = now + Duration::from_secs(2);
    let plan = lane.plan(later);
    assert!(plan.probe && plan.jobs.is_empty());
    lane.on_probed(Ok(()), later, 0.0);
    assert_eq!(names(&job(&mut lane, later)), ["a"]);
}

#[test]
fn what_is_emptied_under_a_tree_run_is_as_old_as_that() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    let asked = now + Duration::from_secs(1);
    let later = now + Duration::from_secs(2);
    lane.on_change(Change::entry(path("x")), later);
    let small = job(&mut lane, later);
    let report = Report {
        emptied: vec![path("d/sub")],
        ..synced(&small)
    };
    lane.on_report(Route::Path, report, later, 0.0);
    lane.on_report(Route::Tree, synced(&tree), later, 0.0);
    assert_eq!(lane.settled(asked, false), None);
}

#[test]
fn a_path_job_that_outlasts_a_tree_job_has_its_paths_looked_at_again_too() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("d/a")), now);
    let small = job(&mut lane, now);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    lane.on_report(Route::Path, synced(&small), now, 0.0);
    let later = now + LONGEST_GATHERING;
    assert_eq!(names(&job(&mut lane, later)), ["d/a"]);
}

#[test]
fn a_large_file_on_its_way_holds_back_nothing_but_itself() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("big")), now);
    let first = job(&mut lane, now);
    let routed = vec![(first.paths[0].clone(), Route::Large)];
    lane.on_report(
        Route::Path,
        Report {
            routed,
            ..Report::default()
        },
        now,
        0.0,
    );
    let big = job(&mut lane, now);
    assert_eq!(big.route, Route::Large);
    let later = now + Duration::from_secs(10);
    lane.on_change(Change::written(path("big")), later);
    lane.on_change(Change::written(path("small")), later);
    assert_eq!(names(&job(&mut lane, later)), ["small"]);
}
