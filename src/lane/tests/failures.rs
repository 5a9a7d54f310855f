//! What fails is told apart, holds nothing else back, and is tried again.

use std::path::Path;

use super::*;
use crate::config::Target;

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
                cut_off(&job)
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
    // The others may have been under way.
    while lane.doubt.due().is_none() {
        let plan = lane.plan(now);
        now = plan.wake.unwrap_or(now).max(now);
        if plan.probe {
            lane.on_probed(Ok(()), now, 0.0);
        }
    }
    let in_doubt = lane.doubt.take_due(now + doubt::LOOK_AFTER);
    let in_doubt: Vec<String> = in_doubt
        .iter()
        .map(|dirty| dirty.path.to_string())
        .collect();
    assert_eq!(in_doubt, ["a", "b", "c"], "what fails waits as such");
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
        [Unswept {
            dir: path("d"),
            tree: Some(tree.since)
        }],
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
fn directories_that_a_killed_receiver_was_writing_to_are_swept_with_the_next_job() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("d/a")), now);
    let first = job(&mut lane, now);
    let report = Report {
        unswept: vec![Unswept::left_by_receiver(path("d"))],
        ..unreachable(&first)
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let probe_at = lane.plan(now).wake.expect("a time to probe");
    assert!(lane.plan(probe_at).probe);
    lane.on_probed(Ok(()), probe_at, 0.0);
    let swept = job(&mut lane, probe_at).unswept;
    assert_eq!(swept, [Unswept::left_by_receiver(path("d"))]);
}

#[test]
fn a_removal_that_failed_is_done_with_when_a_file_of_its_name_gets_through() {
    let now = Instant::now();
    let mut lane = lane();
    lane.on_change(Change::left(path("a")), now);
    let removal = job(&mut lane, now);
    let refused = removal.paths.iter().cloned();
    let report = Report {
        failed: refused
            .map(|dirty| (dirty, failure(4, "refused")))
            .collect(),
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    assert_eq!(lane.failed().len(), 1);
    let later = now + Duration::from_secs(1);
    lane.on_change(Change::written(path("a")), later);
    let sending = job(&mut lane, later + PERIOD);
    assert_eq!(sending.paths[0].extent, Extent::Name);
    lane.on_report(Route::Path, synced(&sending), later + PERIOD, 0.0);
    assert!(lane.failed().is_empty());
}

/// A report of a job that had begun when the remote went.
fn cut_off(job: &Job) -> Report {
    Report {
        cut_off: job.paths.clone(),
        ..unreachable(job)
    }
}

#[test]
fn what_was_under_way_when_the_remote_went_is_looked_at_again_some_time_after_it_is_back() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let cut = job(&mut lane, now);
    lane.on_report(Route::Path, cut_off(&cut), now, 0.0);
    let back = now + Duration::from_secs(1000);
    assert!(lane.plan(back).probe);
    lane.on_probed(Ok(()), back, 0.0);
    let again = job(&mut lane, back);
    lane.on_report(Route::Path, synced(&again), back, 0.0);
    assert_eq!(lane.pending(), 0, "as far as anybody knows, it is equal");
    let look = lane.plan(back).wake.expect("a time to look");
    assert_eq!(look, back + doubt::LOOK_AFTER);
    assert!(lane.plan(back).jobs.is_empty());
    let looked = job(&mut lane, look);
    assert_eq!(names(&looked), ["a"]);
    lane.on_report(Route::Path, synced(&looked), look, 0.0);
    assert_eq!(lane.plan(look).wake, None, "once is enough");
}

#[test]
fn what_was_refused_from_the_beginning_is_not_in_doubt() {
    let (mut lane, now) = (lane(), Instant::now());
    lane.on_change(Change::written(path("a")), now);
    let refused = job(&mut lane, now);
    lane.on_report(Route::Path, unreachable(&refused), now, 0.0);
    let back = now + Duration::from_secs(1000);
    assert!(lane.plan(back).probe);
    lane.on_probed(Ok(()), back, 0.0);
    let again = job(&mut lane, back);
    lane.on_report(Route::Path, synced(&again), back, 0.0);
    assert_eq!(lane.plan(back).wake, None);
}

/// What rsync says of a file of this name, and what a remote ends with.
const FULL: &str =
    "rsync: [receiver] write failed on \"plans/secret\" (in m): No space left on device (28)";

#[test]
fn what_everybody_is_told_of_a_remote_that_went_names_no_file() {
    let now = Instant::now();
    let ends = [
        End::Unreachable(failure(12, FULL)),
        End::Misconfigured(failure(11, FULL)),
    ];
    for end in ends {
        let (mut lane, tree) = lane_with_a_tree_run(now);
        let report = Report {
            again: tree.paths.clone(),
            end,
            ..Report::default()
        };
        let news = lane.on_report(Route::Tree, report, now, 0.0);
        let told = lane.condition().last_error;
        assert!(!told.contains("secret"), "{told}");
        assert!(told.contains("No space left"), "{told}");
        assert_eq!(lane.settled(now, true), Some(Settled::Unreachable(told)));
        // The journal is for those who may read it.
        assert!(
            matches!(&news[..], [News::Down { failure, .. }] if failure.message == FULL),
            "{news:?}"
        );
        let heard = news::tell(&lane_name(), news).expect("a failure");
        assert!(!heard.cause.contains("secret"), "{heard:?}");
    }
}

#[test]
fn what_everybody_is_told_of_a_disk_that_is_full_names_no_file() {
    let now = Instant::now();
    let (mut lane, tree) = lane_with_a_tree_run(now);
    let report = Report {
        split: vec![Split {
            tree: tree.paths[0].clone(),
            children: vec![DirtyPath::now(path("plans"), Extent::Subtree)],
            deletes: false,
            failure: failure(11, FULL),
        }],
        end: End::DiskFull(failure(11, FULL)),
        ..Report::default()
    };
    lane.on_report(Route::Tree, report, now, 0.0);
    let told = lane.condition().last_error;
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("No space left"), "{told}");
}

#[test]
fn what_everybody_is_told_of_a_push_that_failed_names_no_file() {
    let news = vec![News::PushFailed(failure(11, FULL))];
    let heard = news::tell(&lane_name(), news).expect("a failure");
    assert_eq!(heard.exit, 11);
    assert!(!heard.cause.contains("secret"), "{heard:?}");
}

#[test]
fn a_path_that_failed_is_listed_with_all_that_rsync_said() {
    let now = Instant::now();
    let mut lane = lane();
    lane.on_change(Change::subtree(path("plans")), now);
    let first = job(&mut lane, now);
    let report = Report {
        failed: vec![(first.paths[0].clone(), failure(23, FULL))],
        ..Report::default()
    };
    lane.on_report(Route::Path, report, now, 0.0);
    let messages = lane
        .failed()
        .iter()
        .map(|(_, failed)| &failed.failure.message);
    assert_eq!(messages.collect::<Vec<_>>(), [FULL]);
}

/// A lane in which these paths have failed once, and the job that tries them again.
fn lane_with_failures(paths: &[&str], now: Instant) -> (LaneState, Job) {
    let mut lane = lane();
    for name in paths {
        lane.on_change(Change::entry(path(name)), now);
    }
    let first = job(&mut lane, now);
    let failed = first.paths.iter().cloned();
    let report = Report {
        failed: failed.map(|dirty| (dirty, failure(23, FULL))).collect(),
        ..Report::default()
    };
    let news = lane.on_report(Route::Path, report, now, 0.0);
    assert_eq!(news.len(), paths.len(), "{news:?}");
    let due = lane.failed().next_due().expect("tried again");
    let again = job(&mut lane, due);
    (lane, again)
}

#[test]
fn that_a_path_fails_no_longer_is_told_once() {
    let now = Instant::now();
    let (mut lane, again) = lane_with_failures(&["f5"], now);
    let news = lane.on_report(Route::Path, synced(&again), now, 0.0);
    assert_eq!(news, [News::PathRecovered(path("f5"), 1)]);
    let now = now + PERIOD;
    lane.on_change(Change::entry(path("f5")), now);
    let later = job(&mut lane, now);
    assert_eq!(lane.on_report(Route::Path, synced(&later), now, 0.0), []);
}

#[test]
fn a_path_that_fails_once_more_has_not_recovered_also_if_its_tree_got_through() {
    let now = Instant::now();
    let (mut lane, again) = lane_with_failures(&["d/locked"], now);
    let failed = again.paths.iter().cloned();
    let report = Report {
        synced: vec![DirtyPath::now(path("d"), Extent::Subtree)],
        failed: failed.map(|dirty| (dirty, failure(23, FULL))).collect(),
        ..Report::default()
    };
    assert_eq!(lane.on_report(Route::Path, report, now, 0.0), []);
    assert_eq!(lane.failed().len(), 1);
}

#[test]
fn all_paths_below_a_directory_that_got_through_have_recovered() {
    let now = Instant::now();
    let (mut lane, again) = lane_with_failures(&["d/a", "d/b"], now);
    let report = Report {
        synced: vec![DirtyPath::now(path("d"), Extent::Subtree)],
        again: again.paths.clone(),
        end: End::Reached,
        ..Report::default()
    };
    let news = lane.on_report(Route::Path, report, now, 0.0);
    let recovered = ["d/a", "d/b"].map(|name| News::PathRecovered(path(name), 1));
    assert_eq!(news, recovered);
}

#[test]
fn a_removal_that_was_only_owed_at_the_last_end_was_no_failure_and_is_no_recovery() {
    let now = Instant::now();
    let mut lane = lane();
    let gone = DirtyPath {
        removed: true,
        ..DirtyPath::now(path("gone"), Extent::Entry)
    };
    lane.failed.on_failed(&gone, failure(-1, REMOVAL_OWED), now);
    let due = lane.failed().next_due().expect("tried again");
    let again = job(&mut lane, due);
    assert_eq!(lane.on_report(Route::Path, synced(&again), now, 0.0), []);
    assert!(lane.failed().is_empty());
}

fn lane_name() -> news::LaneName {
    let path = "/target".into();
    news::LaneName::new(Path::new("/data"), &Target::Local { path })
}
