//! How many entries may be removed at a receiver in a while: one number for all jobs of a lane. Pure, but for its lock.
//!
//! How much a job would remove is known when it has rehearsed that, and others are at work meanwhile. So it takes from
//! the budget at that moment. By its report it gives back what it did not remove, and the minute of what it did begins.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was removed so long ago does not count any more.
const WINDOW: Duration = Duration::from_secs(60);

/// A way to the number, which its clones share.
#[derive(Debug, Clone)]
pub struct Budget {
    accounts: Arc<Mutex<Accounts>>,
    /// Since when what it is for has differed, the newest of it. What differed when a person accepted deletions may use
    /// the number that was accepted as well.
    newest: Option<Instant>,
}

/// What a job has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Of the limit.
    limit: u64,
    /// Of what a person accepted.
    granted: u64,
}

#[derive(Debug)]
struct Accounts {
    limit: u64,
    /// What jobs removed that have ended, and when they did.
    recent: VecDeque<(Instant, u64)>,
    /// What jobs have taken of the limit that are at work.
    at_work: u64,
    grant: Option<Grant>,
    /// Something is withheld, so nothing else is removed either but what was accepted.
    closed: bool,
    /// Something is or was withheld and is not dealt with: what was removed before still counts.
    held: bool,
}

/// What a person has accepted.
#[derive(Debug)]
struct Grant {
    /// So many entries, or what is left of them.
    count: u64,
    /// Nobody was asked about what differs since later.
    at: Instant,
}

impl Spent {
    /// Nothing was taken.
    #[cfg(test)]
    pub const NOTHING: Self = Self {
        limit: 0,
        granted: 0,
    };
}

impl Budget {
    /// At most so many in a minute.
    pub fn new(limit: u64) -> Self {
        let accounts = Accounts {
            limit,
            recent: VecDeque::new(),
            at_work: 0,
            grant: None,
            closed: false,
            held: false,
        };
        Self {
            accounts: Arc::new(Mutex::new(accounts)),
            newest: None,
        }
    }

    /// How many entries may be removed in a minute.
    pub fn limit(&self) -> u64 {
        self.accounts().limit
    }

    /// The same for paths that have all differed since `newest` at the latest; `None` for what nobody was asked about.
    #[must_use]
    pub fn since(&self, newest: Option<Instant>) -> Self {
        let accounts = Arc::clone(&self.accounts);
        Self { accounts, newest }
    }

    /// When a person accepted what is not yet dealt with.
    pub fn granted_at(&self) -> Option<Instant> {
        self.accounts().grant.as_ref().map(|grant| grant.at)
    }

    /// Takes so many, if there are.
    pub fn take(&self, count: u64, now: Instant) -> Option<Spent> {
        let mut accounts = self.accounts();
        let (limit, granted) = accounts.left(self.newest, now);
        if limit.saturating_add(granted) < count {
            return None;
        }
        let spent = Spent {
            granted: granted.min(count),
            limit: count - granted.min(count),
        };
        accounts.at_work += spent.limit;
        if let Some(grant) = &mut accounts.grant {
            grant.count -= spent.granted;
        }
        Some(spent)
    }

    /// How many there are.
    pub fn left(&self, now: Instant) -> u64 {
        let (limit, granted) = self.accounts().left(self.newest, now);
        limit.saturating_add(granted)
    }

    /// A job is over that took some, and removed so many.
    pub fn settle(&self, spent: Spent, removed: u64, now: Instant) {
        let mut accounts = self.accounts();
        accounts.at_work -= spent.limit;
        let granted = removed.min(spent.granted);
        if removed > granted {
            accounts.recent.push_back((now, removed - granted));
        }
        if let Some(grant) = &mut accounts.grant {
            grant.count += spent.granted - granted;
        }
    }

    /// A person accepts so many entries of what differs now. What was removed before counts no more.
    pub fn grant(&self, count: u64, now: Instant) {
        let mut accounts = self.accounts();
        accounts.recent.clear();
        accounts.grant = Some(Grant { count, at: now });
    }

    /// Something is withheld, or is being asked for again.
    pub fn hold(&self, closed: bool) {
        let mut accounts = self.accounts();
        (accounts.closed, accounts.held) = (closed, true);
    }

    /// All that was withheld has been dealt with.
    pub fn release(&self) {
        let mut accounts = self.accounts();
        (accounts.closed, accounts.held) = (false, false);
        accounts.grant = None;
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        // Each change is whole by itself.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Budget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.accounts, &other.accounts) && self.newest == other.newest
    }
}

impl Eq for Budget {}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, more: Self) {
        self.limit += more.limit;
        self.granted += more.granted;
    }
}

impl Accounts {
    /// What is left of the limit, and of what was granted.
    fn left(&mut self, newest: Option<Instant>, now: Instant) -> (u64, u64) {
        if !self.held {
            self.recent.retain(|(at, _)| *at + WINDOW > now);
        }
        let recent: u64 = self.recent.iter().map(|(_, count)| count).sum();
        let limit = if self.closed {
            0
        } else {
            self.limit.saturating_sub(recent + self.at_work)
        };
        let grant = self.grant.as_ref();
        let grant = grant.filter(|grant| newest.is_some_and(|newest| newest <= grant.at));
        (limit, grant.map_or(0, |grant| grant.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slices_of_a_removal_add_up_for_a_minute() {
        let (budget, now) = (Budget::new(100), Instant::now());
        let spent = budget.take(60, now).expect("that many are left");
        // However long it is at work.
        let end = now + 3 * WINDOW;
        assert_eq!(budget.left(end), 40);
        budget.settle(spent, 60, end);
        assert_eq!(budget.left(end + WINDOW / 2), 40);
        assert_eq!(budget.left(end + WINDOW), 100);
    }

    #[test]
    fn jobs_at_the_same_time_share_it() {
        let (budget, now) = (Budget::new(100), Instant::now());
        let (one, other) = (budget.since(Some(now)), budget.since(Some(now)));
        let spent = one.take(90, now).expect("that many are left");
        assert_eq!(other.take(90, now), None);
        // The one was cut off before it had removed most of it.
        one.settle(spent, 10, now);
        assert!(other.take(90, now).is_some());
        assert_eq!(one.left(now), 0);
    }

    #[test]
    fn what_was_removed_unforeseen_counts_as_well() {
        let (budget, now) = (Budget::new(100), Instant::now());
        let spent = budget.take(10, now).expect("that many are left");
        budget.settle(spent, 30, now);
        assert_eq!(budget.left(now), 70);
    }

    #[test]
    fn what_was_accepted_is_not_kept_back_by_what_came_later() {
        let (budget, now) = (Budget::new(10), Instant::now());
        budget.hold(true);
        budget.grant(50, now);
        let (accepted, later) = (budget.since(Some(now)), now + Duration::from_secs(1));
        let other = budget.since(Some(later));
        assert_eq!((accepted.left(later), other.left(later)), (50, 0));
        let spent = accepted.take(50, later).expect("they were accepted");
        accepted.settle(spent, 50, later);
        budget.release();
        assert_eq!((accepted.left(later), other.left(later)), (10, 10));
    }

    proptest! {
        /// Whatever jobs take and remove in one minute, in whichever order they end, it is never more than the limit
        /// and what was accepted.
        #[test]
        fn no_more_is_removed_than_is_allowed(
            limit in 0..50_u64,
            grant in prop::option::of(0..50_u64),
            wanted in prop::collection::vec((0..40_u64, any::<bool>(), 0..=100_u64), 1..20),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let (budget, now) = (Budget::new(limit), Instant::now());
            if let Some(count) = grant {
                budget.grant(count, now);
            }
            let (mut running, mut removed) = (Vec::new(), 0);
            for ((count, is_old, percent), end) in wanted.into_iter().zip(ends) {
                let since = if is_old { now } else { now + Duration::from_secs(1) };
                let job = budget.since(Some(since));
                if let Some(spent) = job.take(count, now) {
                    running.push((job, spent, count * percent / 100));
                }
                if !running.is_empty() && count % 2 == 0 {
                    let (job, spent, done) = running.swap_remove(end.index(running.len()));
                    job.settle(spent, done, now);
                    removed += done;
                }
            }
            removed += running.iter().map(|(_, _, done)| done).sum::<u64>();
            prop_assert!(removed <= limit + grant.unwrap_or(0), "{removed}");
        }
    }
}
