//! Random orders of changes, reports and probes.

use proptest::prelude::*;

use super::*;

fn a_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Synced),
        1 => Just(Fate::Again),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Undecided),
        1 => Just(Fate::Unreachable),
        1 => Just(Fate::Stopped),
        1 => Just(Fate::Routed),
        1 => Just(Fate::Withheld),
    ]
}

proptest! {
    /// Whatever happens on the way, each change is followed by a job that covers it and gets through.
    #[test]
    fn every_change_gets_through_in_the_end(
        steps in proptest::collection::vec((0..9_u8, 0..6_u8, 0..3000_u64, a_fate()), 1..120)
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
                        Extent::Entry | Extent::Name => dirty.path == *path,
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
                    lane.on_change(Change::made(path.clone(), now), now);
                    let change = match which {
                        1 => Change::subtree(path.clone()),
                        _ if millis % 2 == 0 => Change::entry(path.clone()),
                        _ => Change::written(path.clone()),
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
                7 => lane.on_pause(which % 2 == 0),
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
        lane.on_pause(false);
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
