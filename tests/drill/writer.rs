//! The operations on the source: the generator of `tests/it`, and changes beside each canary.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;

use crate::canaries;
use crate::generator::Generator;
use crate::harness::pause;

/// Somebody who changes the source until told to rest.
pub struct Writer {
    orders: Option<Sender<Order>>,
    rested: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Work,
    Rest,
}

impl Writer {
    /// One that rests.
    pub fn start(seed: u64, source: PathBuf, outside: PathBuf) -> Self {
        let (orders, inbox) = channel();
        let (tell, rested) = channel();
        let thread = thread::spawn(move || {
            // A link that is made, written through and removed while nobody looks leaves no trace: see the limits in README.
            let mut generator =
                Generator::new(seed, source.clone(), outside, true).without_hard_links();
            let mut neighbours = Neighbours::new(seed, source);
            while let Ok(Order::Work) = inbox.recv() {
                let mut operations = 0;
                while matches!(inbox.try_recv(), Err(TryRecvError::Empty)) {
                    let steps = neighbours.rng.u64(1..60);
                    for _ in 0..steps {
                        generator.step();
                    }
                    operations += steps + neighbours.change();
                    let rest = neighbours.rng.u64(0..6_000);
                    pause(Duration::from_micros(rest)); // interval between bursts
                }
                if tell.send(operations).is_err() {
                    return;
                }
            }
        });
        Self {
            orders: Some(orders),
            rested,
            thread: Some(thread),
        }
    }

    /// Has it work from now on.
    pub fn work(&self) -> io::Result<()> {
        self.order(Order::Work)
    }

    /// Has it rest, and says how many operations it has done since it was told to work.
    pub fn rest(&self) -> io::Result<u64> {
        self.order(Order::Rest)?;
        self.rested.recv().map_err(|_| broken())
    }

    fn order(&self, order: Order) -> io::Result<()> {
        let orders = self.orders.as_ref().ok_or_else(broken)?;
        orders.send(order).map_err(|_| broken())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("the writer has met what it cannot deal with")
}

/// What comes and goes in the directories of the canaries.
struct Neighbours {
    rng: Rng,
    source: PathBuf,
}

impl Neighbours {
    fn new(seed: u64, source: PathBuf) -> Self {
        let rng = Rng::with_seed(seed.wrapping_add(1));
        Self { rng, source }
    }

    /// A few operations; says how many. The source may be away, so each may fail.
    fn change(&mut self) -> u64 {
        for _ in 0..3 {
            // All but the last, in which nothing ever happens.
            let at = self.rng.usize(..canaries::DIRECTORIES.len() - 1);
            let directory = self.source.join(canaries::DIRECTORIES[at]);
            let [one, other] = [(); 2].map(|()| {
                let number = self.rng.u32(0..6);
                directory.join(format!("neighbour {number}"))
            });
            let _ = match self.rng.u32(0..10) {
                0..4 => fs::write(&one, vec![b'n'; self.rng.usize(..2_000)]),
                4..6 => fs::remove_file(&one),
                6 => fs::create_dir(&one).and_then(|()| fs::write(one.join("inside"), "x")),
                7 => fs::remove_dir_all(&one),
                _ => fs::rename(&one, &other),
            };
        }
        3
    }
}
