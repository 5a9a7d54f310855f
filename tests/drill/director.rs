//! Which faults happen when, and whether all is well afterwards.
//!
//! A drill is a row of acts. In each, the source is changed all the time while a few faults happen, one after the other
//! or at once; then all comes to rest, and both replicas must become equal by themselves.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::canaries;
use crate::faults::{End, Fault, Part};
use crate::harness::pause;
use crate::room::Room;
use crate::sersync::read_log;
use crate::stage::{Stage, Which};
use crate::table::Table;
use crate::writer::Writer;

/// After the last fault and the last operation, all must be equal within this. The longest waits of sersync itself are
/// a minute.
const EQUAL_WITHIN: Duration = Duration::from_secs(90);
/// What is told of a log if something went wrong.
const LAST_LINES: usize = 40;

/// Has faults happen for `time`.
///
/// # Errors
/// What was lost, deleted by mistake or grew, or what else went wrong, and the seed.
pub fn drill(room: Room, time: Duration, seed: u64) -> Result<(), String> {
    println!("drill: {} s with seed {seed}", time.as_secs());
    let mut table = Table::new(time);
    let result = Stage::set(room).and_then(|mut stage| {
        let result = Director::new(&mut stage, seed, &mut table)?.play();
        table.overflows = Which::BOTH
            .map(|which| overflows(&read_log(stage.side(which).log())))
            .iter()
            .sum();
        result.map_err(|error| io::Error::other(format!("{error}\n{}", last_words(&mut stage))))
    });
    println!("{table}");
    let mut complaints = table.complaints();
    complaints.extend(result.err().map(|error| error.to_string()));
    if complaints.is_empty() {
        return Ok(());
    }
    complaints.push(format!(
        "to do it again: make drill SECONDS={} SEED={seed}",
        time.as_secs()
    ));
    Err(complaints.join("\n"))
}

fn overflows(log: &str) -> usize {
    log.matches("the kernel dropped events").count()
}

/// How they are, and the ends of the logs.
fn last_words(stage: &mut Stage) -> String {
    let mut words = String::new();
    for which in Which::BOTH {
        let file = stage.side(which).log().to_path_buf();
        let log = read_log(&file);
        words.push_str("\n--- the status of ");
        words.push_str(&file.display().to_string());
        words.push_str(":\n");
        words.push_str(&stage.side(which).status());
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        words.push_str("\n--- the end of ");
        words.push_str(&file.display().to_string());
        words.push_str(":\n");
        words.push_str(&last.join("\n"));
    }
    words
}

struct Director<'a> {
    stage: &'a mut Stage,
    table: &'a mut Table,
    rng: Rng,
    writer: Writer,
    start: Instant,
}

/// A fault of an act, and when it is.
struct Planned {
    fault: Fault,
    which: Which,
    begin: Duration,
    end: Duration,
}

impl<'a> Director<'a> {
    fn new(stage: &'a mut Stage, seed: u64, table: &'a mut Table) -> io::Result<Self> {
        let writer = Writer::start(seed, stage.source(), stage.beside("outside"));
        for side in stage.sides() {
            side.start()?;
        }
        Ok(Self {
            stage,
            table,
            rng: Rng::with_seed(seed),
            writer,
            start: Instant::now(),
        })
    }

    fn play(&mut self) -> io::Result<()> {
        self.become_equal("the first push")?;
        let replicas: Vec<PathBuf> = self
            .stage
            .sides()
            .iter()
            .map(|side| side.replica.clone())
            .collect();
        let watch = canaries::Watch::over(replicas);
        self.start = Instant::now();
        let mut result = Ok(());
        while result.is_ok() && self.start.elapsed() < self.table.time && watch.missed().is_empty()
        {
            let plan = self.plan();
            result = self.act(plan);
        }
        self.table.wrongly_deleted = watch.missed();
        self.table.looks = watch.end();
        result?;
        for which in Which::BOTH {
            self.stage.side(which).stop()?;
        }
        let left = self.stage.differences()?;
        self.table.lost.extend(left);
        Ok(())
    }

    /// A few faults that can be had together.
    fn plan(&mut self) -> Vec<Planned> {
        let mut plan: Vec<Planned> = Vec::new();
        let mut taken: Vec<Part> = Vec::new();
        for _ in 0..self.rng.u32(1..=4) {
            // Kinds that were had seldom come first, so that each has its turn.
            let possible = Fault::ALL
                .into_iter()
                .filter(|fault| fault.is_possible(self.stage));
            let count = |fault: &Fault| self.table.faults.get(fault).copied().unwrap_or(0);
            let mut kinds: Vec<(u32, u32, Fault)> = possible
                .map(|fault| (count(&fault) + self.rng.u32(0..4), self.rng.u32(..), fault))
                .collect();
            kinds.sort_unstable();
            for (_, _, fault) in kinds {
                let which = fault.side(&mut self.rng);
                let needs = fault.needs(which);
                if needs.iter().any(|part| taken.contains(part)) {
                    continue;
                }
                taken.extend(needs);
                let begin = Duration::from_millis(self.rng.u64(50..700));
                let end = begin + Duration::from_millis(self.rng.u64(20..1_500));
                plan.push(Planned {
                    fault,
                    which,
                    begin,
                    end,
                });
                break;
            }
        }
        plan
    }

    /// Carries it out while the source is changed, and waits until all is equal.
    fn act(&mut self, plan: Vec<Planned>) -> io::Result<()> {
        let names: Vec<&str> = plan.iter().map(|planned| planned.fault.name()).collect();
        let what = names.join(", ");
        let is_quiet = plan.iter().any(|planned| planned.fault.wants_rest());
        self.writer.work()?;
        if is_quiet {
            // It has left something to do all the same.
            pause(Duration::from_millis(50)); // interval of operations
            self.table.operations += self.writer.rest()?;
        }
        let mut faults = plan.iter().map(|planned| planned.fault);
        let wants_a_restart = faults.any(Fault::wants_a_restart);
        let result = self.carry_out(plan);
        if !is_quiet {
            self.table.operations += self.writer.rest()?;
        }
        result.map_err(|error| io::Error::other(format!("in {what}: {error}")))?;
        self.become_equal(&what)?;
        if wants_a_restart {
            let side = self.stage.side(Which::Mortal);
            side.stop()?;
            side.start()?;
        }
        Ok(())
    }

    fn carry_out(&mut self, plan: Vec<Planned>) -> io::Result<()> {
        let mut to_begin = plan;
        to_begin.sort_by_key(|planned| std::cmp::Reverse(planned.begin));
        let mut to_end: Vec<(Duration, End)> = Vec::new();
        let start = Instant::now();
        loop {
            let now = start.elapsed();
            if let Some(at) = to_end.iter().position(|(end, _)| *end <= now) {
                let (_, end) = to_end.swap_remove(at);
                end(self.stage)?;
            } else if to_begin.last().is_some_and(|next| next.begin <= now) {
                let Some(next) = to_begin.pop() else { continue };
                let begun = next.fault.begin(next.which, self.stage, &mut self.rng)?;
                if let Some(end) = begun {
                    *self.table.faults.entry(next.fault).or_default() += 1;
                    to_end.push((next.end, end));
                }
            } else if to_begin.is_empty() && to_end.is_empty() {
                return Ok(());
            } else {
                pause(Duration::from_millis(2)); // until the next is due
            }
        }
    }

    /// Waits until both replicas are equal; fails if that takes too long.
    fn become_equal(&mut self, after: &str) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let asked = Instant::now();
            let left = self.stage.differences()?;
            if left.is_empty() {
                break;
            }
            if start.elapsed() > EQUAL_WITHIN {
                let count = left.len();
                self.table.lost.extend(left);
                return Err(io::Error::other(format!(
                    "{count} differences {EQUAL_WITHIN:?} after {after}"
                )));
            }
            pause((asked.elapsed() * 2).max(Duration::from_millis(10))); // poll
        }
        let took = start.elapsed();
        for which in Which::BOTH {
            if !self.stage.side(which).sersync().is_running() {
                return Err(io::Error::other(format!(
                    "{which:?} has ended by itself after {after}"
                )));
            }
        }
        let memory = self
            .stage
            .side(Which::Lasting)
            .sersync()
            .status_figure("VmRSS");
        self.table.memory.push((self.start.elapsed(), memory));
        self.table.equal += 1;
        if took > self.table.longest {
            self.table.longest = took;
        }
        if took > Duration::from_secs(5) {
            println!("  equal {:.1} s after {after}", took.as_secs_f64());
        }
        Ok(())
    }
}
