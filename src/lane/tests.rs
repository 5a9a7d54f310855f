//! Tests of the lane state, by scenes; those of `random` by random orders.

use std::time::{Duration, Instant};

use super::reports::*;
use super::*;
use crate::change::Extent;
use crate::control::State;
use crate::lasting::Difference;

mod beside;
mod failures;
mod holds;
mod pushes;
mod random;

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

/// How a job of the random test ends.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Synced,
    Again,
    Failed,
    Undecided,
    Unreachable,
    Stopped,
    Routed,
    Withheld,
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
        Fate::Stopped => Report {
            cut_off: paths.clone(),
            again: paths,
            end: End::Stopped,
            ..Report::default()
        },
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

/// Patterns of a push.
fn patterns(count: usize) -> Arc<[String]> {
    vec!["*.php".to_owned(); count].into()
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
