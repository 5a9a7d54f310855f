//! Tests of the lane state: scenes, and random orders of changes, reports and probes.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::change::Extent;

const PERIOD: Duration = Duration::from_secs(600);
const FORMS: Forms = Forms {
    delete_by_name: true,
    force: true,
    delete_in_trees: true,
    exact_times: None,
};

fn path(name: &str) -> RelPath {
    RelPath::new(name.as_bytes()).expect("a valid path")
}

fn lane() -> LaneState {
    LaneState::new(FORMS, PERIOD, false)
}

fn failure(exit: i32, message: &str) -> Failure {
    let message = message.into();
    Failure { exit, message }
}

/// The only job of a plan.
fn job(lane: &mut LaneState, now: Instant) -> Job {
    let mut jobs = lane.plan(now).jobs;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

fn names(job: &Job) -> Vec<String> {
    job.paths
        .iter()
        .map(|dirty| dirty.path.to_string())
        .collect()
}

fn synced(job: &Job) -> Report {
    Report {
        synced: job.paths.clone(),
        ..Report::default()
    }
}

fn unreachable(job: &Job) -> Report {
    let end = End::Unreachable(failure(10, "connection refused"));
    Report {
        again: job.paths.clone(),
        end,
        ..Report::default()
    }
}

#[test]
fn a_lone_change_goes_at_once_and_changes_during_its_run_gather() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let first = job(&mut lane, now);
    for name in ["b", "c"] {
        lane.on_change(Change::written(path(name)), now);
        assert!(lane.plan(now).jobs.is_empty());
    }
    lane.on_report(Route::Path, synced(&first), now, 0.0);
    let plan = lane.plan(now);
    assert!(plan.jobs.is_empty(), "they gather a little longer");
    let wake = plan.wake.expect("a time to go on");
    assert!(wake <= now + LONGEST_GATHERING);
    assert_eq!(names(&job(&mut lane, wake)), ["b", "c"]);
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

/// A lane whose tree slot compares everything.
fn lane_with_a_tree_run(now: Instant) -> (LaneState, Job) {
    let mut lane = lane();
    lane.on_change(Change::subtree(RelPath::root()), now);
    let first = job(&mut lane, now);
    let report = Report {
        routed: vec![(first.paths[0].clone(), Route::Tree)],
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let tree = job(&mut lane, now);
    (lane, tree)
}

#[test]
fn a_path_that_fails_again_when_everything_is_compared_keeps_its_history() {
    let now = Instant::now();
    let mut lane = lane();
    let later = now + Duration::from_secs(60);
    for at in [now, later] {
        lane.on_change(Change::subtree(RelPath::root()), at);
        let first = job(&mut lane, at);
        let report = Report {
            routed: vec![(first.paths[0].clone(), Route::Tree)],
            ..Report::default()
        };
        lane.on_report(Route::Path, report, at, 0.0);
        let tree = lane.plan(at).jobs.swap_remove(0);
        let dirty = DirtyPath {
            since: at,
            ..DirtyPath::now(path("d/locked"), Extent::Subtree)
        };
        let report = Report {
            failed: vec![(dirty, failure(23, "Operation not permitted (1)"))],
            ..synced(&tree)
        };
        lane.on_report(Route::Tree, report, at, 0.0);
    }
    let failed: Vec<_> = lane.failed().iter().collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].1.attempts, 2, "it has failed twice");
    assert_eq!(failed[0].1.first, now, "the first time was long ago");
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
fn nothing_is_swept_where_a_long_job_has_half_written_files() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    lane.on_change(Change::written(path("d/a")), now);
    let cut_off = job(&mut lane, now);
    let report = Report {
        unswept: vec![path("d")],
        ..synced(&cut_off)
    };
    lane.on_report(Route::Path, report, now, 0.0);
    lane.on_change(Change::written(path("d/b")), now);
    let beside = job(&mut lane, now);
    assert!(beside.unswept.is_empty());
    lane.on_report(Route::Path, synced(&beside), now, 0.0);
    lane.on_report(Route::Tree, synced(&tree), now, 0.0);
    let after = job(&mut lane, now);
    assert_eq!(after.unswept, [path("d")]);
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

/// A report that leaves all paths of a job to another slot.
fn routed(job: &Job, route: Route) -> Report {
    Report {
        routed: job
            .paths
            .iter()
            .map(|dirty| (dirty.clone(), route))
            .collect(),
        ..Report::default()
    }
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
fn to_be_stopped_again_and_again_is_no_failure() {
    let mut now = Instant::now();
    let (mut lane, mut tree) = lane_with_a_tree_run(now);
    for _ in 0..20 {
        lane.on_pause(true);
        let report = Report {
            again: tree.paths.clone(),
            end: End::Stopped,
            ..Report::default()
        };
        assert_eq!(lane.on_report(Route::Tree, report, now, 0.0), []);
        assert!(lane.plan(now).jobs.is_empty());
        lane.on_pause(false);
        now += Duration::from_secs(1);
        let looked = job(&mut lane, now);
        lane.on_report(Route::Path, routed(&looked, Route::Tree), now, 0.0);
        tree = job(&mut lane, now);
    }
    assert!(lane.failed().is_empty());
}

#[test]
fn trees_that_failed_together_are_tried_one_by_one_and_not_at_once() {
    let now = Instant::now();
    let mut lane = lane();
    for name in ["a", "b"] {
        lane.on_change(Change::subtree(path(name)), now);
    }
    let first = job(&mut lane, now);
    let routed = first.paths.iter().map(|dirty| (dirty.clone(), Route::Tree));
    let report = Report {
        routed: routed.clone().collect(),
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let together = job(&mut lane, now);
    assert_eq!(names(&together), ["a", "b"]);
    let report = Report {
        again: together.paths.clone(),
        ..Report::default()
    };
    lane.on_report(Route::Tree, report, now, 0.0);
    let plan = lane.plan(now);
    assert!(plan.jobs.is_empty(), "not at once");
    let later = plan.wake.expect("a time") + Duration::from_secs(1);
    let looked = job(&mut lane, later);
    let report = Report {
        routed: looked
            .paths
            .iter()
            .map(|d| (d.clone(), Route::Tree))
            .collect(),
        ..Report::default()
    };
    lane.on_report(Route::Path, report, later, 0.0);
    assert_eq!(job(&mut lane, later).paths.len(), 1);
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

#[test]
fn a_remote_that_is_away_is_probed_and_gets_its_batch_when_it_is_back() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let first = job(&mut lane, now);
    let news = lane.on_report(Route::Path, unreachable(&first), now, 1.0);
    assert!(matches!(
        news[..],
        [News::Down {
            needs_mending: false,
            ..
        }]
    ));
    let plan = lane.plan(now);
    assert!(plan.jobs.is_empty() && !plan.probe);
    let wake = plan.wake.expect("a time to probe");
    assert!(wake - now <= Duration::from_secs(1));
    let plan = lane.plan(wake);
    assert!(plan.probe && plan.jobs.is_empty());
    assert!(!lane.plan(wake).probe, "one probe at a time");
    assert!(
        lane.on_probed(Ok(()), wake, 1.0).is_empty(),
        "it is back when something got through"
    );
    let second = job(&mut lane, wake);
    assert_eq!(names(&second), ["a"]);
    let news = lane.on_report(Route::Path, synced(&second), wake, 1.0);
    assert!(matches!(news[..], [News::Back(_)]));
    assert_eq!(lane.pending(), 0);
}

#[test]
fn a_remote_that_stays_away_is_probed_more_and_more_rarely() {
    let (mut lane, mut now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let first = job(&mut lane, now);
    lane.on_report(Route::Path, unreachable(&first), now, 1.0);
    let (start, mut probes) = (now, 0);
    while now - start < Duration::from_secs(3600) {
        now = lane.plan(now).wake.expect("a time to probe");
        assert!(lane.plan(now).probe);
        probes += 1;
        let news = lane.on_probed(Err(End::Unreachable(failure(10, "refused"))), now, 1.0);
        assert!(news.is_empty(), "it was told already");
    }
    assert!(
        (90..160).contains(&probes),
        "{probes} probes in the first hour"
    );
}

#[test]
fn a_failing_group_is_halved_until_one_path_stands_alone() {
    let (mut lane, mut now) = (lane(), Instant::now());
    for at in 0..100 {
        lane.on_change(Change::written(path(&format!("f{at:02}"))), now);
    }
    let mut jobs = 0;
    while lane.failed().is_empty() || lane.pending() > 0 {
        let plan = lane.plan(now);
        now = plan.wake.unwrap_or(now).max(now);
        for job in plan.jobs {
            jobs += 1;
            let report = if names(&job).contains(&"f42".to_owned()) {
                let failure = failure(23, "riddle");
                Report {
                    undecided: Some((job.paths, failure)),
                    ..Report::default()
                }
            } else {
                synced(&job)
            };
            lane.on_report(Route::Path, report, now, 0.0);
        }
    }
    let failed: Vec<String> = lane
        .failed()
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(failed, ["f42"]);
    assert!(jobs <= 16, "{jobs} jobs");
}

#[test]
fn a_batch_that_ends_every_connection_is_halved_too() {
    let (mut lane, mut now) = (lane(), Instant::now());
    for name in ["a", "b", "poison", "c"] {
        lane.on_change(Change::written(path(name)), now);
    }
    while lane.failed().is_empty() || lane.pending() > 0 {
        let plan = lane.plan(now);
        now = plan.wake.unwrap_or(now).max(now);
        if plan.probe {
            lane.on_probed(Ok(()), now, 0.0);
        }
        for job in plan.jobs {
            let poisoned = names(&job).contains(&"poison".to_owned());
            let report = if poisoned {
                unreachable(&job)
            } else {
                synced(&job)
            };
            lane.on_report(Route::Path, report, now, 0.0);
        }
    }
    let failed: Vec<String> = lane
        .failed()
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(failed, ["poison"]);
}

#[test]
fn a_full_disk_is_not_tried_path_by_path() {
    let (mut lane, mut now) = (lane(), Instant::now());
    for at in 0..4000 {
        lane.on_change(Change::written(path(&format!("f{at}"))), now);
    }
    let mut jobs = 0;
    while lane.failed().len() < 4000 {
        let plan = lane.plan(now);
        now = plan.wake.unwrap_or(now).max(now);
        for job in plan.jobs {
            jobs += 1;
            let failure = failure(11, "No space left on device (28)");
            let end = End::DiskFull(failure.clone());
            let report = Report {
                undecided: Some((job.paths, failure)),
                end,
                ..Report::default()
            };
            lane.on_report(Route::Path, report, now, 0.0);
        }
    }
    assert!(jobs <= 40, "{jobs} jobs");
}

#[test]
fn a_path_that_fails_again_in_a_comparison_is_no_news_and_waits_longer() {
    let (mut lane, mut now) = (lane(), Instant::now());
    let bad = DirtyPath::now(path("d/bad"), Extent::Entry);
    let mut waits = Vec::new();
    for round in 0..3 {
        let tree = DirtyPath::now(path("d"), Extent::Subtree);
        let report = Report {
            synced: vec![tree],
            failed: vec![(bad.clone(), failure(23, "Permission denied (13)"))],
            ..Report::default()
        };
        let news = lane.on_report(Route::Tree, report, now, 0.0);
        assert_eq!(news.len(), usize::from(round == 0), "{news:?}");
        let due = lane.failed().next_due().expect("it is tried again");
        waits.push(due - now);
        now = due;
    }
    assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
    let fine = Report {
        synced: vec![DirtyPath::now(path("d"), Extent::Subtree)],
        ..Report::default()
    };
    lane.on_report(Route::Tree, fine, now, 0.0);
    assert!(lane.failed().is_empty());
}

/// A report of a tree that could not be made equal as a whole.
fn split_into(tree: &DirtyPath, children: &[&str]) -> Report {
    let children = children
        .iter()
        .map(|name| DirtyPath::now(path(name), Extent::Subtree));
    Report {
        split: vec![Split {
            tree: tree.clone(),
            children: children.collect(),
            deletes: true,
            failure: failure(23, "filename overflows max-path len"),
        }],
        ..Report::default()
    }
}

#[test]
fn a_tree_that_cannot_be_equal_as_a_whole_becomes_so_entry_by_entry() {
    let (mut lane, mut now) = (lane(), Instant::now());
    let tree = DirtyPath::now(path("d"), Extent::Subtree);
    // It failed before, and is tried again.
    lane.failed.on_failed(&tree, failure(23, "before"), now);
    now += PERIOD;
    let first = job(&mut lane, now);
    assert_eq!(names(&first), ["d"]);
    let report = Report {
        routed: first
            .paths
            .iter()
            .cloned()
            .map(|dirty| (dirty, Route::Tree))
            .collect(),
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let as_a_whole = job(&mut lane, now);
    assert_eq!(as_a_whole.route, Route::Tree);
    let news = lane.on_report(Route::Tree, split_into(&tree, &["d/a", "d/b"]), now, 0.0);
    assert_eq!(news, [], "nothing has failed for good");
    assert!(lane.failed().is_empty(), "its entries stand for it");
    let entries = job(&mut lane, now);
    assert_eq!(names(&entries), ["d", "d/a", "d/b"]);
    assert_eq!(entries.paths[0].extent, Extent::Entry);
    assert_eq!(
        entries.unswept,
        [path("d")],
        "what is only at the receiver goes"
    );
    lane.on_report(Route::Path, synced(&entries), now, 0.0);
    assert!(lane.is_equal());
}

#[test]
fn a_full_disk_is_not_tried_tree_by_tree() {
    let (mut lane, mut now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(path("d")), now);
    let mut jobs = 0;
    while lane.pending() > 0 && jobs < 1000 {
        let plan = lane.plan(now);
        now = plan.wake.unwrap_or(now).max(now);
        for Job { route, paths, .. } in plan.jobs {
            jobs += 1;
            if route == Route::Path {
                let routed = paths.into_iter().map(|dirty| (dirty, Route::Tree));
                let report = Report {
                    routed: routed.collect(),
                    ..Report::default()
                };
                lane.on_report(route, report, now, 0.0);
                continue;
            }
            let failure = failure(11, "No space left on device (28)");
            let name = paths[0].path.to_string();
            let mut report = match paths.len() {
                // There is always more below.
                1 => split_into(&paths[0], &[&format!("{name}/a"), &format!("{name}/b")]),
                _ => Report {
                    undecided: Some((paths, failure.clone())),
                    ..Report::default()
                },
            };
            report.end = End::DiskFull(failure);
            lane.on_report(route, report, now, 0.0);
        }
    }
    assert!(jobs < 200, "{jobs} jobs");
    assert!(!lane.failed().is_empty());
}

#[test]
fn a_tree_without_entries_to_blame_fails_as_a_whole() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::subtree(RelPath::root()), now);
    let first = job(&mut lane, now);
    lane.on_report(Route::Path, split_into(&first.paths[0], &[]), now, 0.0);
    assert_eq!(lane.failed().len(), 1);
}

#[test]
fn a_scheduled_push_is_not_taken_apart() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_schedule(Arc::new(["*.tmp".into()]), now);
    let push = job(&mut lane, now);
    let news = lane.on_report(Route::Tree, split_into(&push.paths[0], &["a"]), now, 0.0);
    assert!(matches!(news[..], [News::PushFailed(_)]), "{news:?}");
    assert_eq!(lane.pending(), 0);
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
fn directories_that_a_killed_receiver_was_writing_to_are_swept_with_the_next_job() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("d/a")), now);
    let first = job(&mut lane, now);
    let report = Report {
        unswept: vec![path("d")],
        ..unreachable(&first)
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let probe_at = lane.plan(now).wake.expect("a time to probe");
    assert!(lane.plan(probe_at).probe);
    lane.on_probed(Ok(()), probe_at, 0.0);
    assert_eq!(job(&mut lane, probe_at).unswept, [path("d")]);
}

/// Patterns of a push.
fn patterns(count: usize) -> Arc<[String]> {
    vec!["*.php".to_owned(); count].into()
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
fn withheld_deletions_are_shown_and_counted_and_hold_back_nothing_else() {
    let (mut lane, now) = (lane().with_max_delete(Some(10)), Instant::now());
    lane.on_change(Change::subtree(path("old")), now);
    let deletion = job(&mut lane, now);
    assert_eq!(deletion.may_delete, Some(10));
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
    assert_eq!(
        (names(&other), other.may_delete),
        (vec!["new".into()], Some(0))
    );
    assert_eq!(lane.on_report(Route::Path, synced(&other), now, 0.0), []);
    assert_eq!(lane.accept_deletions(now), 20);
    let accepted = job(&mut lane, now);
    assert_eq!(
        (names(&accepted), accepted.may_delete),
        (vec!["old".into()], Some(30))
    );
    let news = lane.on_report(Route::Path, synced(&accepted), now, 0.0);
    assert_eq!(news, [News::Released]);
    assert!(lane.is_equal() && lane.condition().state == State::Idle);
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
fn hours_of_changes_while_paused_or_without_the_remote_are_bounded() {
    let now = Instant::now();
    let (mut paused, mut away) = (lane(), lane());
    paused.on_pause(true);
    away.on_change(Change::written(path("a")), now);
    let first = job(&mut away, now);
    away.on_report(Route::Path, unreachable(&first), now, 0.0);
    for number in 0..200_000 {
        let path = path(&format!("d{}/e{}/f{number}", number % 300, number % 7));
        for lane in [&mut paused, &mut away] {
            lane.on_change(Change::written(path.clone()), now);
        }
    }
    for lane in [&mut paused, &mut away] {
        assert!(lane.pending() <= MOST_DIRTY, "{}", lane.pending());
        assert!(lane.plan(now).jobs.is_empty());
    }
}

/// How a job of the random test ends.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Synced,
    Again,
    Failed,
    Undecided,
    Unreachable,
    Routed,
    Withheld,
}

fn a_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Synced),
        1 => Just(Fate::Again),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Undecided),
        1 => Just(Fate::Unreachable),
        1 => Just(Fate::Routed),
        1 => Just(Fate::Withheld),
    ]
}

fn report(job: &Job, fate: Fate) -> Report {
    let paths = job.paths.clone();
    let failure = Failure {
        exit: 23,
        message: "no".into(),
    };
    match fate {
        Fate::Again => Report {
            again: paths,
            ..Report::default()
        },
        Fate::Failed => {
            let failed = paths
                .into_iter()
                .map(|dirty| (dirty, failure.clone()))
                .collect();
            Report {
                failed,
                ..Report::default()
            }
        }
        Fate::Undecided => Report {
            undecided: Some((paths, failure)),
            ..Report::default()
        },
        Fate::Unreachable => unreachable(job),
        Fate::Withheld => Report {
            withheld: paths,
            would_delete: 20,
            ..Report::default()
        },
        Fate::Routed if job.route == Route::Path => {
            let routed = paths
                .into_iter()
                .map(|dirty| (dirty, Route::Tree))
                .collect();
            Report {
                routed,
                ..Report::default()
            }
        }
        Fate::Synced | Fate::Routed => synced(job),
    }
}

proptest! {
    /// Whatever happens on the way, each change is followed by a job that covers it and gets through.
    #[test]
    fn every_change_gets_through_in_the_end(
        steps in proptest::collection::vec((0..7_u8, 0..6_u8, 0..3000_u64, a_fate()), 1..120)
    ) {
        let (mut lane, mut now) = (lane().with_max_delete(Some(10)), Instant::now());
        let mut owed: Vec<RelPath> = Vec::new();
        let mut running: Vec<(Job, Vec<RelPath>)> = Vec::new();
        let finish = |lane: &mut LaneState,
                          owed: &mut Vec<RelPath>,
                          (job, changed): (Job, Vec<RelPath>),
                          fate: Fate,
                          now: Instant| {
            let gets_through =
                matches!(fate, Fate::Synced) || matches!(fate, Fate::Routed) && job.route != Route::Path;
            // Of what its patterns exclude a push says nothing.
            if gets_through && job.excludes.is_empty() {
                // What changed again after the job had begun is still owed.
                owed.retain(|path| {
                    changed.contains(path) || !job.paths.iter().any(|dirty| match dirty.extent {
                        Extent::Subtree => path.is_within(&dirty.path),
                        Extent::Entry => dirty.path == *path,
                    })
                });
            }
            lane.on_report(job.route, report(&job, fate), now, 0.5);
        };
        for (what, which, millis, fate) in steps {
            now += Duration::from_millis(millis);
            match what {
                0..3 => {
                    let path = path(["a", "d", "d/a", "d/b", "d/e/a", "z"][usize::from(which)]);
                    let change = if which == 1 {
                        Change::subtree(path.clone())
                    } else {
                        Change::written(path.clone())
                    };
                    lane.on_change(change, now);
                    for (_, changed) in &mut running {
                        changed.push(path.clone());
                    }
                    owed.push(path);
                }
                3 if !running.is_empty() => {
                    let at = usize::from(which) % running.len();
                    finish(&mut lane, &mut owed, running.remove(at), fate, now);
                }
                4 => lane.on_schedule(patterns(usize::from(which % 2)), now),
                _ => {
                    let plan = lane.plan(now);
                    running.extend(plan.jobs.into_iter().map(|job| (job, Vec::new())));
                    let routes: Vec<Route> = running.iter().map(|(job, _)| job.route).collect();
                    for route in [Route::Path, Route::Large, Route::Tree] {
                        prop_assert!(routes.iter().filter(|other| **other == route).count() <= 1);
                    }
                    if plan.probe {
                        lane.on_probed(Ok(()), now, 0.5);
                    }
                }
            }
        }
        for _ in 0..2000 {
            for job in std::mem::take(&mut running) {
                finish(&mut lane, &mut owed, job, Fate::Synced, now);
            }
            let plan = lane.plan(now);
            if plan.jobs.is_empty() && !plan.probe && plan.wake.is_none() {
                break;
            }
            if plan.jobs.is_empty() && !plan.probe {
                now = plan.wake.unwrap_or(now).max(now);
            }
            running.extend(plan.jobs.into_iter().map(|job| (job, Vec::new())));
            if plan.probe {
                lane.on_probed(Ok(()), now, 0.5);
            }
        }
        prop_assert_eq!(owed, Vec::<RelPath>::new());
        prop_assert_eq!(lane.pending(), 0);
        prop_assert!(lane.failed().is_empty());
    }
}

const FIRST_CONTACT: Hold = Hold::FirstContact {
    deletions: 200,
    entries: 201,
};

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
