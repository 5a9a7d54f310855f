//! How a lane stands, for whoever asks or waits.

use std::time::Instant;

use super::slot::{Batch, Slot};
use super::{Condition, LaneState, Settled};
use crate::control::State;

impl LaneState {
    /// Since when the oldest path that is not known to be equal has differed.
    #[must_use]
    pub fn oldest_owed(&self) -> Option<Instant> {
        let running = self.slots().into_iter().filter_map(Slot::oldest);
        let suspects = self.suspects.iter().flatten().map(|dirty| dirty.since);
        let ended = self.ended_meanwhile.iter().filter_map(Batch::oldest);
        let known = running.chain(suspects).chain(ended);
        let known = known.chain(self.detours.met());
        known.chain(self.dirty.oldest()).min()
    }

    /// How it stands with whatever differed at `at` or before: `None` while it is on its way. Nobody waits while it is
    /// paused. With `patient`, what is held is waited for too, and failed paths count in the end; but not for a remote
    /// that was found away since.
    #[must_use]
    pub fn settled(&self, at: Instant, patient: bool) -> Option<Settled> {
        let failed = self.failed.len() as u64;
        if self.paused {
            return Some(Settled::Paused);
        }
        if !patient {
            if let Some(cause) = self.hold() {
                return Some(Settled::Held(cause));
            }
            if failed > 0 {
                return Some(Settled::Failed(failed));
            }
        }
        let is_done = self.oldest_owed().is_none_or(|oldest| oldest > at);
        if let Some(down) = &self.down
            && patient
            && !is_done
            && !down.probing
            && down.next_try > at
        {
            return Some(Settled::Unreachable(self.last_error.clone()));
        }
        match failed {
            _ if !is_done => None,
            _ if self.allowance.len() > 0 => self.hold().map(Settled::Held),
            0 => Some(Settled::Equal),
            _ => Some(Settled::Failed(failed)),
        }
    }

    fn hold(&self) -> Option<String> {
        match &self.held {
            _ if !self.source_present => Some("the source is not there".into()),
            Some((hold, _)) => Some(hold.to_string()),
            None => self.allowance.hold().map(|hold| hold.to_string()),
        }
    }

    /// Why nothing goes on before a person, or a guard, lets it.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.paused {
            return Some("it is paused: resume it first".into());
        }
        // What is sent goes on while deletions are withheld.
        self.hold()
            .filter(|_| !self.source_present || self.held.is_some())
    }

    /// Whether everything is at the receiver, as far as anybody knows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.pending() == 0 && self.failed.is_empty()
    }

    /// What it is doing.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let hold = self.hold();
        let state = if hold.is_some() {
            State::Held
        } else if self.paused {
            State::Paused
        } else if self.down.is_some() || !self.failed.is_empty() {
            State::Degraded
        } else if self.owes_everything() {
            State::Scanning
        } else if self.pending() > 0 {
            State::Syncing
        } else {
            State::Idle
        };
        Condition {
            state,
            pending: self.pending() as u64,
            failed: self.failed.len() as u64,
            oldest: self
                .oldest_owed()
                .into_iter()
                .chain(self.allowance.oldest())
                .min(),
            next_try: self.down.as_ref().map(|down| down.next_try),
            last_error: hold.unwrap_or_else(|| self.last_error.clone()),
        }
    }
}
