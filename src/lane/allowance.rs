//! What would remove more entries at a receiver than `maxDelete` allows, until a person is asked. Pure.
//!
//! Whatever removes is rehearsed first, and done only if the [`Budget`] has as many left. A tree that is removed at the
//! source arrives in slices, so what was removed in the last minute counts too, and while something is withheld nothing
//! else is removed either. What is withheld is asked for again now and then: the source may have been put right.
//!
//! ```text
//!  job ─ rehearsal: more than is left ─► withheld ── due, or accepted ──► dirty set ─► job
//!                                                └─ a person accepts the number that was told
//! ```

use std::time::{Duration, Instant};

use super::budget::{Budget, Spent};
use super::{Hold, MOST_DIRTY, News};
use crate::dirty::{DirtyPath, DirtySet, Route};

/// What is withheld is asked for again after this time, then at growing intervals: each costs a rehearsal.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// The longest such interval.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    budget: Option<Budget>,
    withheld: DirtySet,
    /// What removing what is withheld would remove.
    counted: u64,
    held: Option<Held>,
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
    /// At most so many in a minute; `None` for any number.
    pub fn new(limit: Option<u64>) -> Self {
        Self {
            budget: limit.map(Budget::new),
            withheld: DirtySet::new(MOST_DIRTY),
            counted: 0,
            held: None,
        }
    }

    /// What a job with these paths takes from; `None` for any number of entries.
    pub fn budget(&self, paths: &[DirtyPath]) -> Option<Budget> {
        let budget = self.budget.as_ref()?;
        let newest = paths.iter().map(|dirty| dirty.since).max();
        Some(budget.since(newest))
    }

    /// What came after a person accepted deletions goes by itself, where both are among these: it is not what was
    /// accepted.
    pub fn set_apart(&self, paths: &mut Vec<DirtyPath>) -> Vec<DirtyPath> {
        let Some(at) = self.budget.as_ref().and_then(Budget::granted_at) else {
            return Vec::new();
        };
        if paths.iter().all(|dirty| dirty.since > at) {
            return Vec::new();
        }
        paths.extract_if(.., |dirty| dirty.since > at).collect()
    }

    /// A job ended that had taken and removed so many entries, and withheld these paths, which would have removed `would`.
    pub fn on_report(
        &mut self,
        (spent, removed): (Spent, u64),
        withheld: Vec<DirtyPath>,
        would: u64,
        now: Instant,
    ) -> Option<News> {
        let budget = self.budget.as_ref()?;
        budget.settle(spent, removed, now);
        if withheld.is_empty() {
            return None;
        }
        budget.hold(true);
        let limit = budget.limit();
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
        let limit = self.budget.as_ref()?.limit();
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
        let (Some(held), Some(budget)) = (&mut self.held, &self.budget) else {
            return (0, Vec::new());
        };
        held.accepted = true;
        let count = self.counted.max(held.told);
        budget.grant(count, now);
        (count, self.take(now))
    }

    fn take(&mut self, now: Instant) -> Vec<DirtyPath> {
        let (Some(held), Some(budget)) = (&mut self.held, &self.budget) else {
            return Vec::new();
        };
        budget.hold(false);
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
        if let Some(budget) = &self.budget {
            budget.release();
        }
        Some(News::Released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Extent;
    use crate::path::RelPath;

    const NOTHING: (Spent, u64) = (Spent::NOTHING, 0);

    fn dirty(name: &str, since: Instant) -> DirtyPath {
        let path = RelPath::new(name.as_bytes()).expect("a valid path");
        DirtyPath {
            since,
            ..DirtyPath::now(path, Extent::Entry)
        }
    }

    fn too_many(count: u64, limit: u64) -> News {
        News::Held(Hold::TooManyDeletions { count, limit })
    }

    /// What a job with this path has left.
    fn left(some: &Allowance, dirty: &DirtyPath, now: Instant) -> u64 {
        let budget = some.budget(std::slice::from_ref(dirty));
        budget.expect("a limit").left(now)
    }

    /// A job with this path removes so many.
    fn remove(some: &mut Allowance, dirty: &DirtyPath, count: u64, now: Instant) {
        let budget = some.budget(std::slice::from_ref(dirty)).expect("a limit");
        let spent = budget.take(count, now).expect("that many are left");
        assert_eq!(some.on_report((spent, count), Vec::new(), 0, now), None);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let (mut any, now) = (Allowance::new(None), Instant::now());
        assert_eq!(any.budget(&[dirty("a", now)]), None);
        let removed = (Spent::NOTHING, 1_000_000);
        assert_eq!(any.on_report(removed, Vec::new(), 0, now), None);
        assert_eq!(any.hold(), None);
    }

    #[test]
    fn what_is_withheld_keeps_all_other_deletions_back_however_long_it_takes() {
        let (mut some, now) = (Allowance::new(Some(100)), Instant::now());
        let a = dirty("a", now);
        remove(&mut some, &a, 60, now);
        let news = some.on_report(NOTHING, vec![a.clone()], 70, now);
        assert_eq!(news, Some(too_many(70, 100)));
        assert_eq!((left(&some, &a, now), some.hold().is_some()), (0, true));
        // It is asked for again, and what had been removed just before still counts.
        let later = now + LONGEST_WAIT;
        assert_eq!(some.take_due(later).len(), 1);
        assert_eq!(left(&some, &a, later), 40);
        let again = some.on_report(NOTHING, vec![a.clone()], 70, later);
        assert_eq!(again, None, "told once");
        assert_eq!(left(&some, &a, later), 0);
        some.on_report(NOTHING, vec![a], 70, later);
        assert_eq!(some.counted, 70, "the same once more");
        assert!(some.due().is_some_and(|due| due > later));
    }

    #[test]
    fn it_goes_on_when_what_was_withheld_is_dealt_with() {
        let (mut some, now) = (Allowance::new(Some(1)), Instant::now());
        some.on_report(NOTHING, vec![dirty("a", now)], 2, now);
        assert_eq!(some.on_oldest(None), None, "it is still withheld");
        let later = now + FIRST_WAIT;
        let again = some.take_due(later);
        assert_eq!(
            some.on_oldest(Some(again[0].since)),
            None,
            "it is on its way"
        );
        assert_eq!(
            some.on_oldest(Some(later + FIRST_WAIT)),
            Some(News::Released)
        );
        assert_eq!((some.hold(), left(&some, &again[0], later)), (None, 1));
    }

    #[test]
    fn a_person_accepts_the_number_that_was_told_and_once() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        assert_eq!(some.accept(now), (0, Vec::new()));
        some.on_report(NOTHING, vec![dirty("a", now)], 500, now);
        let (count, again) = some.accept(now);
        assert_eq!((count, again.len()), (500, 1));
        assert_eq!(left(&some, &again[0], now), 510);
        remove(&mut some, &again[0], 500, now);
        assert_eq!(some.on_oldest(None), Some(News::Released));
        let b = dirty("b", now);
        assert_eq!(left(&some, &b, now), 10);
        some.on_report(NOTHING, vec![b.clone()], 500, now);
        assert_eq!(left(&some, &b, now), 0, "the next time is another one");
    }

    #[test]
    fn what_has_come_since_a_person_accepted_something_is_something_else() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        some.on_report(NOTHING, vec![dirty("a", now)], 500, now);
        let (_, again) = some.accept(now);
        // The accepted job is still at work when the other begins.
        let later = now + Duration::from_millis(1);
        let b = dirty("b", later);
        let mut both = [again.clone(), vec![b.clone()]].concat();
        assert_eq!(some.set_apart(&mut both), std::slice::from_ref(&b));
        assert_eq!(both, again);
        assert!(some.set_apart(&mut vec![b.clone()]).is_empty());
        assert_eq!(left(&some, &b, later), 10);
        // However many times it comes, it uses nothing of what was accepted.
        remove(&mut some, &b, 10, later);
        assert_eq!(
            (left(&some, &b, later), left(&some, &again[0], later)),
            (0, 500)
        );
        let news = some.on_report(NOTHING, vec![b.clone()], 20, later);
        assert_eq!(news, Some(too_many(20, 10)));
        remove(&mut some, &again[0], 500, later);
        assert_eq!(some.on_oldest(None), None, "the other one is withheld");
        assert_eq!(some.accept(later).0, 20);
    }

    #[test]
    fn more_than_was_accepted_is_withheld_again() {
        let (mut some, now) = (Allowance::new(Some(10)), Instant::now());
        some.on_report(NOTHING, vec![dirty("a", now)], 20, now);
        let (_, again) = some.accept(now);
        let budget = some.budget(&again).expect("a limit");
        assert_eq!(budget.take(5000, now), None);
        let news = some.on_report(NOTHING, again, 5000, now);
        assert_eq!(news, Some(too_many(5000, 10)));
    }
}
