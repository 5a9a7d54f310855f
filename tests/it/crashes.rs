//! Crashes: whatever it is doing when it ends, the next start makes it right; and a fault of its own ends it at all.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::bus::Bus;
use crate::generator::Generator;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, differences, pause, wait_until};
use crate::isolation::Immutable;
use crate::sersync::has_words;

/// How often it is killed.
const KILLS: u64 = 50;

#[test]
fn after_each_of_fifty_kills_of_a_busy_mirror_all_is_equal_and_what_failed_is_known()
-> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let bus = Bus::start()?;
    let address = bus.address();
    let arguments = ["--bus", &address];
    fs::create_dir(mirror.source("locked"))?;
    mirror.run_with(&arguments)?;
    mirror.in_sync();
    // One path fails by itself all the time, where the file system can do that.
    let locked = Immutable::make(mirror.replica("locked"));
    fs::write(mirror.source("locked/new"), "cannot be made")?;
    let failed_first = || {
        let said = bus.ask(&["failed", "--json"]).ok()?;
        let said: Value = serde_json::from_str(&said.out).ok()?;
        let mut failed = said["failed"].as_array()?.iter();
        let one = failed.find(|one| one["path"] == "locked/new")?;
        one["first_usec"].as_u64()
    };
    let mut first = None;
    if locked.is_some() {
        wait_until(SOON, "the failure is listed", || {
            first = failed_first();
            first.is_some()
        });
    }
    let mut rng = Rng::with_seed(KILLS);
    let mut generator = Generator::new(KILLS, mirror.source(""), mirror.outside(""), true);
    for kill in 0..KILLS {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    generator.step();
                    pause(Duration::from_micros(200)); // interval between two operations
                }
            });
            pause(Duration::from_millis(rng.u64(1..250))); // interval until the kill
            mirror.kill();
            let restarted = mirror.run_with(&arguments);
            pause(Duration::from_millis(rng.u64(0..100))); // interval of work while it starts
            is_over.store(true, Relaxed);
            writer.join().expect("the writer went well");
            restarted
        })?;
        let (source, replica) = (mirror.source(""), mirror.replica(""));
        let mut left = Vec::new();
        wait_until(AFTER_BACK_OFF, &format!("equal after kill {kill}"), || {
            left = differences(&source, &replica).unwrap_or_default();
            left.retain(|what| locked.is_none() || !what.contains("\"locked"));
            left.is_empty()
        });
        if locked.is_some() {
            wait_until(SOON, "what failed is listed as before", || {
                failed_first() == first
            });
        }
    }
    drop(locked);
    // After so many failures its next try is far away.
    assert_eq!(bus.ask(&["retry"])?.code, 0);
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

/// The kernel refuses to wait for two descriptors where only one is allowed, and without waiting the watcher is blind:
/// a fault that no program survives, and the only one that can be made from outside.
#[test]
fn a_fault_in_the_watcher_ends_the_whole_process_with_its_cause_in_the_log() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let one = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    prlimit(Some(mirror.sersync().pid()), Resource::Nofile, one)?;
    fs::write(mirror.source("that wakes it"), "content")?;
    let status = mirror.ends_by_itself();
    assert!(!status.success(), "it ended well: {status}");
    let log = mirror.log();
    let cause = log
        .lines()
        .find(|line| has_words(line, &["a fault in", "please report"]));
    let cause = cause.expect("the fault is logged");
    println!("said: {cause}");
    assert!(log.contains("cannot wait for events"), "{log}");
    // What a service manager does.
    fs::write(mirror.source("meanwhile"), "content")?;
    mirror.run()?;
    mirror.finish()
}
