//! How many entries may be removed at a receiver before a person is asked: `maxDelete`. Pure.
//!
//! Whatever removes is rehearsed first, and done only if it removes no more than is left. A tree that is removed at the
//! source arrives in slices, so what was removed in the last minute counts too, and while something is withheld nothing
//! else is removed either. What is withheld is asked for again now and then: the source may have been put right.
//!
//! ```text
//!  job ─ rehearsal: more than is left ─► withheld ── due, or accepted ──► dirty set ─► job
//!                                                └─ a person accepts the number that was told
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Hold, MOST_DIRTY, News};
use crate::dirty::{DirtyPath, DirtySet, Route};

/// What was removed so long ago does not count any more.
const WINDOW: Duration = Duration::from_secs(60);
/// What is withheld is asked for again after this time, then at growing intervals: each costs a rehearsal.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest such interval.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    limit: Option<u64>,
    recent: VecDeque<(Instant, u64)>,
    granted: Option<Grant>,
    withheld: DirtySet,
    /// What removing what is withheld would remove.
    counted: u64,
    held: Option<Held>,
}

/// What a person has accepted.
#[derive(Debug)]
struct Grant {
    /// So many entries more, or what is left of them.
    count: u64,
    /// Nobody was asked about what differs since later.
    at: Instant,
}

#[derive(Debug)]
struct Held {
    /// The number that was told.
    told: u64,
    wait: Duration,
    due: Instant,
    /// What was withheld at this time is being asked for again.
    asked: Option<Instant>,
    /// A person has accepted it, so what is withheld from now on is something else.
    accepted: bool,
}

impl Allowance {
    /// At most so many; `None` for any number.
    pub fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            recent: VecDeque::new(),
            granted: None,
            withheld: DirtySet::new(MOST_DIRTY),
            counted: 0,
            held: None,
        }
    }

    /// How many entries a job may remove that begins at `now`, and of whose paths the oldest has differed since `since`;
    /// `None` for any number.
    pub fn left(&mut self, since: Instant, now: Instant) -> Option<u64> {
        let limit = self.limit?;
        if !self.withheld.is_empty() {
            return Some(0);
        }
        if self.held.is_none() {
            let is_old = |(at, _): &(Instant, u64)| *at + WINDOW <= now;
            self.recent.retain(|entry| !is_old(entry));
        }
        let recent: u64 = self.recent.iter().map(|(_, count)| count).sum();
        let granted = self.granted.as_ref().filter(|grant| since <= grant.at);
        let granted = granted.map_or(0, |grant| grant.count);
        Some(limit.saturating_sub(recent).saturating_add(granted))
    }

    /// A job ended that removed so many entries, and withheld these paths, which would have removed `would`.
    pub fn on_report(
        &mut self,
        removed: u64,
        withheld: Vec<DirtyPath>,
        would: u64,
        now: Instant,
    ) -> Option<News> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let accepted = self.granted.as_mut().map_or(0, |grant| {
            let accepted = grant.count.min(removed);
            grant.count -= accepted;
            accepted
        });
        if self.limit.is_some() && removed > accepted {
            self.recent.push_back((now, removed - accepted));
        }
        if withheld.is_empty() {
            return None;
        }
        let before = self.withheld.len();
        for dirty in withheld {
            self.withheld.put_back(dirty, Route::Path);
        }
        // What is withheld already is counted already.
        if self.withheld.len() > before {
            self.counted = self.counted.saturating_add(would);
        }
        let count = self.counted;
        let held = self.held.get_or_insert(Held {
            told: 0,
            wait: FIRST_WAIT,
            due: now + FIRST_WAIT,
            asked: None,
            accepted: false,
        });
        let is_another = std::mem::take(&mut held.accepted);
        if held.asked.take().is_some() {
            held.due = now + held.wait;
        }
        // Twice as many are worth telling again.
        if !is_another && held.told > 0 && count < held.told.saturating_mul(2) {
            return None;
        }
        held.told = count;
        Some(News::Held(Hold::TooManyDeletions { count, limit }))
    }

    /// Why deletions wait, if they do.
    pub fn hold(&self) -> Option<Hold> {
        let held = self.held.as_ref()?;
        let limit = self.limit.unwrap_or(u64::MAX);
        let count = self.counted.max(held.told);
        Some(Hold::TooManyDeletions { count, limit })
    }

    /// Paths that are withheld.
    pub fn len(&self) -> usize {
        self.withheld.len()
    }

    /// Those that were seen to be removed.
    pub fn removals(&self) -> impl Iterator<Item = DirtyPath> {
        self.withheld.removals()
    }

    /// Since when the oldest of them has differed.
    pub fn oldest(&self) -> Option<Instant> {
        self.withheld.oldest()
    }

    /// When what is withheld is to be asked for again.
    pub fn due(&self) -> Option<Instant> {
        let held = self.held.as_ref().filter(|_| !self.withheld.is_empty())?;
        Some(held.due)
    }

    /// Somebody has put something right: it is asked for now.
    pub fn hurry(&mut self, now: Instant) {
        if let Some(held) = &mut self.held {
            held.due = held.due.min(now);
            held.wait = FIRST_WAIT;
        }
    }

    /// What is withheld, if it is time: it is dirty again.
    pub fn take_due(&mut self, now: Instant) -> Vec<DirtyPath> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.take(now)
    }

    /// A person accepts the number that was told, once: how many, and what is dirty again by that.
    pub fn accept(&mut self, now: Instant) -> (u64, Vec<DirtyPath>) {
        let Some(held) = &mut self.held else {
            return (0, Vec::new());
        };
        held.accepted = true;
        let count = self.counted.max(held.told);
        self.granted = Some(Grant { count, at: now });
        self.recent.clear();
        (count, self.take(now))
    }

    fn take(&mut self, now: Instant) -> Vec<DirtyPath> {
        let Some(held) = &mut self.held else {
            return Vec::new();
        };
        held.asked = Some(now);
        held.wait = (held.wait * 2).min(LONGEST_WAIT);
        self.counted = 0;
        let mut withheld = std::mem::replace(&mut self.withheld, DirtySet::new(MOST_DIRTY));
        withheld.take(Route::Path, usize::MAX, now, |_| false)
    }

    /// `oldest` is since when the oldest path has differed that is not withheld: deletions are held no longer when all
    /// that was withheld has been dealt with.
    pub fn on_oldest(&mut self, oldest: Option<Instant>) -> Option<News> {
        let asked = self.held.as_ref()?.asked?;
        if !self.withheld.is_empty() || oldest.is_some_and(|oldest| oldest <= asked) {
            return None;
        }
        self.held = None;
        self.granted = None;
        Some(News::Released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Extent;
    use crate::path::RelPath;

    fn dirty(name: &str, since: Instant) -> DirtyPath {
        let path = RelPath::new(name.as_bytes()).expect("a valid path");
        DirtyPath {
            since,
            ..DirtyPath::now(path, Extent::Entry)
        }
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let (mut any, now) = (Allowance::new(None), Instant::now());
        assert_eq!(any.left(now, now), None);
        assert_eq!(any.on_report(1_000_000, Vec::new(), 0, now), None);
        assert_eq!((any.recent.len(), any.hold()), (0, None));
    }

    #[test]
    fn slices_of_a_removal_add_up_for_a_minute() {
        let (mut some, now) = (Allowance::new(Some(100)), Instant::now());
        assert_eq!(some.left(now, now), Some(100));
        some.on_report(60, Vec::new(), 0, now);
        assert_eq!(some.left(now, now + WINDOW / 2), Some(40));
        assert_eq!(some.left(now, now + WINDOW), Some(100));
    }

    #[test]
    fn what_is_withheld_keeps_all_other_deletions_back_however_long_it_takes() {
        let (mut some, now) = (Allowance::new(Some(100)), Instant::now());
        some.on_report(60, Vec::new(), 0, now);
        let news = some.on_report(0, vec![dirty("a", now)], 70, now);
        let hold = Hold::TooManyDeletions {
            count: 70,
            limit: 100,
        };
        assert_eq!(news, Some(News::Held(hold.clone())));
        assert_eq!((some.left(now, now), some.hold()), (Some(0), Some(hold)));
        // It is asked for again, and what had been removed just before still counts.
        let later = now + LONGEST_WAIT;
        assert_eq!(some.take_due(later).len(), 1);
        assert_eq!(some.left(now, later), Some(40));
        assert!(
            some.on_report(0, vec![dirty("a", now)], 70, later)
                .is_none(),
            "told once"
        );
        assert_eq!(some.left(now, later), Some(0));
        some.on_report(0, vec![dirty("a", now)], 70, later);
        assert_eq!(some.counted, 70, "the same once more");
        assert!(some.due().is_some_and(|due| due > later));
    }

    #[test]
    fn it_goes_on_when_what_was_withheld_is_dealt_with() {
        let (mut some, now) = (Allowance::new(Some(1)), Instant::now());
        some.on_report(0, vec![dirty("a", now)], 2, now);
        assert_eq!(some.on_oldest(None), None, "it is still withheld");
        let later = now + FIRST_WAIT;
        let again = some.take_due(later);
        assert_eq!(
            some.on_oldest(Some(again[0].since)),
            None,
            "it is on its way"
        );
        assert_eq!(some.on_oldest(Some(later + WINDOW)), Some(News::Released));
        assert_eq!((some.hold(), some.left(now, later)), (None, Some(1)));
    }

    #[test]
    fn a_person_accepts_the_number_that_was_told_and_once() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        assert_eq!(some.accept(now), (0, Vec::new()));
        some.on_report(0, vec![dirty("a", now)], 500, now);
        let (count, again) = some.accept(now);
        assert_eq!((count, again.len()), (500, 1));
        assert_eq!(some.left(now, now), Some(510));
        some.on_report(500, Vec::new(), 0, now);
        assert_eq!(some.on_oldest(None), Some(News::Released));
        assert_eq!(some.left(now, now), Some(10));
        some.on_report(0, vec![dirty("b", now)], 500, now);
        assert_eq!(some.left(now, now), Some(0), "the next time is another one");
    }

    #[test]
    fn what_has_changed_since_a_person_accepted_something_is_something_else() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        some.on_report(0, vec![dirty("a", now)], 500, now);
        let accepted = now + WINDOW;
        some.accept(accepted);
        // The accepted job is still at work when the other begins.
        let later = accepted + Duration::from_millis(1);
        assert_eq!(some.left(later, later), Some(10));
        assert_eq!(
            some.left(now, later),
            Some(510),
            "a part that is done again"
        );
        some.on_report(10, Vec::new(), 0, later);
        some.on_report(500, Vec::new(), 0, later);
        assert_eq!(some.on_oldest(Some(later)), Some(News::Released));
        assert_eq!(some.left(later, later), Some(0), "ten were not accepted");
    }

    #[test]
    fn what_is_withheld_after_a_person_has_accepted_something_is_told_however_little() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        some.on_report(0, vec![dirty("a", now)], 500, now);
        some.accept(now);
        // The one is not yet dealt with when the other comes.
        some.on_report(500, Vec::new(), 0, now);
        let news = some.on_report(0, vec![dirty("b", now)], 20, now);
        let hold = Hold::TooManyDeletions {
            count: 20,
            limit: 10,
        };
        assert_eq!(news, Some(News::Held(hold.clone())));
        assert_eq!(some.hold(), Some(hold));
        assert_eq!(some.accept(now).0, 20);
    }

    #[test]
    fn more_than_was_accepted_is_withheld_again() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        some.on_report(0, vec![dirty("a", now)], 20, now);
        some.accept(now);
        assert!(some.left(now, now).is_some_and(|left| left < 5000));
        let news = some.on_report(0, vec![dirty("a", now)], 5000, now);
        assert!(matches!(
            news,
            Some(News::Held(Hold::TooManyDeletions { count: 5000, .. }))
        ));
    }
}
