//! The random-operations tests: whatever is done to a source, and whatever happens to the daemon meanwhile, the
//! trees end equal.

use std::env;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bus::Bus;
use crate::generator::{Generator, Report};
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, pause, wait_in_sync_with_links, wait_until};
use crate::rsync_daemon::Module;

/// How long each writer works; `SERSYNC_RANDOM_SECONDS` changes it.
fn seconds() -> Duration {
    let seconds = env::var("SERSYNC_RANDOM_SECONDS")
        .ok()
        .and_then(|value| value.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(4.0))
}

/// One random-operations test.
struct Random {
    /// One writer for each, all in the same tree at the same time.
    seeds: Vec<u64>,
    /// Whether modes, owners and times change, and `attrib` is on.
    attributes: bool,
    /// `commonParams`.
    params: &'static str,
    /// What is special about the module.
    module: fn(Module) -> Module,
    /// What happens to the daemon while the writers work, again and again.
    meanwhile: Option<fn(&mut Mirror) -> io::Result<()>>,
}

impl Default for Random {
    fn default() -> Self {
        Self {
            seeds: vec![1],
            attributes: true,
            params: "-a",
            module: |module| module,
            meanwhile: None,
        }
    }
}

impl Random {
    fn ends_equal(mut self) -> io::Result<()> {
        if let Some(seed) = env::var("SERSYNC_RANDOM_SEED")
            .ok()
            .and_then(|value| value.parse().ok())
        {
            self.seeds[0] = seed;
        }
        let mut mirror = Mirror::prepare_with(self.module)?;
        self.params.clone_into(&mut mirror.config.params);
        mirror.config.switches = vec![("attrib", self.attributes)];
        let bus = Bus::start()?;
        mirror.run_with(&["--bus", &bus.address()])?;
        mirror.in_sync();
        let reports = self.work(&mut mirror)?;
        let is_shaken = self.meanwhile.is_some();
        let took = mirror.in_sync_within(if is_shaken { AFTER_BACK_OFF } else { SOON });
        if self.params.contains('H') {
            // What came apart in the storm is joined again, once nothing of it is under way that takes links apart.
            // A path that failed in it and is gone may have to be tried once more.
            wait_until(AFTER_BACK_OFF, "everything has arrived", || {
                bus.ask(&["flush"]).is_ok_and(|said| said.code == 0)
            });
            assert_eq!(bus.ask(&["resync"])?.code, 0);
            wait_in_sync_with_links(&mirror.source(""), &mirror.replica(""), SOON);
        }
        let operations: u64 = reports.iter().map(|report| report.operations).sum();
        let refused: u64 = reports.iter().map(|report| report.refused).sum();
        println!(
            "seeds {:?}: {operations} operations ({refused} of them refused), equal {took:?} after the last, {} connections",
            self.seeds,
            mirror.daemon.connections(),
        );
        mirror.finish()
    }

    /// Lets the writers work, and shakes the daemon until they are done.
    fn work(&self, mirror: &mut Mirror) -> io::Result<Vec<Report>> {
        let time = seconds();
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .seeds
                .iter()
                .map(|&seed| {
                    let (root, outside) = (mirror.source(""), mirror.outside(""));
                    scope.spawn(move || {
                        Generator::new(seed, root, outside, self.attributes).run(time)
                    })
                })
                .collect();
            if let Some(meanwhile) = self.meanwhile {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    pause(Duration::from_millis(400)); // interval between two shakes
                    meanwhile(mirror)?;
                }
            }
            Ok(writers
                .into_iter()
                .map(|writer| writer.join().expect("the writer went well"))
                .collect())
        })
    }
}

#[test]
fn random_operations_end_equal_with_seed_1() -> io::Result<()> {
    Random::default().ends_equal()
}

#[test]
fn random_operations_end_equal_with_seed_2() -> io::Result<()> {
    Random {
        seeds: vec![2],
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_with_the_usual_params() -> io::Result<()> {
    Random {
        seeds: vec![3],
        params: "-artuz",
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_with_hard_links_on() -> io::Result<()> {
    Random {
        seeds: vec![11],
        params: "-aH",
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_without_attribute_changes_end_equal_with_attrib_off() -> io::Result<()> {
    Random {
        seeds: vec![4],
        attributes: false,
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_of_two_writers_at_once_end_equal() -> io::Result<()> {
    Random {
        seeds: vec![5, 6],
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_while_sersync_is_stopped_and_started() -> io::Result<()> {
    let restart = |mirror: &mut Mirror| {
        mirror.stop();
        mirror.run()
    };
    Random {
        seeds: vec![7],
        meanwhile: Some(restart),
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_while_sersync_is_killed_and_started() -> io::Result<()> {
    let crash = |mirror: &mut Mirror| {
        mirror.kill();
        mirror.run()
    };
    Random {
        seeds: vec![8],
        meanwhile: Some(crash),
        ..Random::default()
    }
    .ends_equal()
}

/// What it hears of late, it hears of in other words: a directory has moved on by then.
#[test]
fn random_operations_end_equal_while_sersync_hangs_again_and_again() -> io::Result<()> {
    let hang = |mirror: &mut Mirror| {
        mirror.sersync().signal(Signal::STOP);
        pause(Duration::from_millis(300)); // interval in which events pile up
        mirror.sersync().signal(Signal::CONT);
        Ok(())
    };
    Random {
        seeds: vec![12],
        meanwhile: Some(hang),
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_while_the_rsync_daemon_comes_and_goes() -> io::Result<()> {
    let outage = |mirror: &mut Mirror| {
        // In turn, told by the number of connections.
        if mirror.daemon.connections().is_multiple_of(2) {
            mirror.daemon.stop();
        } else {
            mirror.daemon.kill();
        }
        pause(Duration::from_millis(100)); // interval without a daemon
        mirror.daemon.start()
    };
    Random {
        seeds: vec![9],
        meanwhile: Some(outage),
        ..Random::default()
    }
    .ends_equal()
}

#[test]
fn random_operations_end_equal_at_a_receiver_that_refuses_delete_missing_args() -> io::Result<()> {
    let module = |module: Module| module.line("refuse options = delete-missing-args");
    Random {
        seeds: vec![10],
        module,
        ..Random::default()
    }
    .ends_equal()
}
