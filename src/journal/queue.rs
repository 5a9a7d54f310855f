//! What keeps the daemon from waiting for the journal: a bounded queue that never blocks who puts something in.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Record;

/// More is dropped and counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Records on their way to the writer.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
    /// Something is to be done by the writer.
    filled: Condvar,
    /// The writer has done something.
    progressed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    records: VecDeque<Record>,
    bytes: usize,
    lost: u64,
    /// The writer is busy with what it took last.
    writing: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// There is no writer: whoever has something to write does it himself.
    #[default]
    Direct,
    /// The writer takes it.
    Queued,
    /// The writer takes what is left, and ends.
    Closing,
    /// The writer never came back: nothing more is taken.
    Deaf,
}

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Write this.
    Write(Record),
    /// Everything is written, but so many were dropped before there was room again.
    Lost(u64),
    /// The time is there.
    Wake,
    /// There is nothing any more.
    End,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            filled: Condvar::new(),
            progressed: Condvar::new(),
        }
    }

    /// A writer is there from now on.
    pub(super) fn open(&self) {
        self.state().mode = Mode::Queued;
    }

    /// Gives a record to the writer; back if there is none. It is dropped if too many wait already.
    pub(super) fn push(&self, record: Record) -> Option<Record> {
        let mut state = self.state();
        match state.mode {
            Mode::Direct => return Some(record),
            Mode::Deaf => return None,
            Mode::Queued | Mode::Closing => {}
        }
        let size = record.size();
        let has_room = state.records.len() < self.bounds.records
            && state.bytes.saturating_add(size) <= self.bounds.bytes;
        if has_room {
            state.bytes += size;
            state.records.push_back(record);
            self.filled.notify_one();
        } else {
            state.lost += 1;
        }
        None
    }

    /// For the writer: waits for something to do, until `wake` at the latest. What it took before is done now.
    pub(super) fn take(&self, wake: Option<Instant>) -> Task {
        let mut state = self.state();
        state.writing = false;
        self.progressed.notify_all();
        loop {
            if let Some(record) = state.records.pop_front() {
                state.bytes -= record.size();
                state.writing = true;
                return Task::Write(record);
            }
            if state.lost > 0 {
                state.writing = true;
                return Task::Lost(std::mem::take(&mut state.lost));
            }
            if state.mode != Mode::Queued {
                return Task::End;
            }
            state = match wake.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => {
                    state.writing = true;
                    return Task::Wake;
                }
                Some(left) => match self.filled.wait_timeout(state, left) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// For the writer, when it has written its very last: whoever comes from now on writes by himself. `false` if
    /// something came meanwhile.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.state();
        if !state.records.is_empty() {
            return false;
        }
        if state.mode != Mode::Deaf {
            state.mode = Mode::Direct;
        }
        state.writing = false;
        self.progressed.notify_all();
        true
    }

    /// Waits until everything is written, but not longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let is_busy = |state: &State| state.writing || !state.records.is_empty();
        drop(self.wait_while(patience, is_busy));
    }

    /// Lets the writer end. If it does not within `patience`, nothing more is taken: who is about to end must not wait
    /// for a journal that stands still.
    pub(super) fn close(&self, patience: Duration) {
        {
            let mut state = self.state();
            if state.mode != Mode::Queued {
                return;
            }
            state.mode = Mode::Closing;
            self.filled.notify_one();
        }
        let mut state = self.wait_while(patience, |state| state.mode == Mode::Closing);
        if state.mode == Mode::Closing {
            state.mode = Mode::Deaf;
        }
    }

    fn wait_while(
        &self,
        patience: Duration,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let state = self.state();
        match self
            .progressed
            .wait_timeout_while(state, patience, |state| condition(state))
        {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is half done when a panic comes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
