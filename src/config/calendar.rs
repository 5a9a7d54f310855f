//! Points in time as systemd.time(7) writes them, in local time: `daily`, `Mon..Fri 02:30`, `*-*-1,15 4:00`.
//!
//! What is taken is a part of that language, with its meaning:
//!
//! ```text
//!  minutely | hourly | daily | weekly | monthly
//!  [WEEKDAYS] [*-MONTHS-DAYS | MONTHS-DAYS] [HOURS:MINUTES[:SECONDS]]
//! ```
//!
//! A list names single values and ranges `A..B`, each with a step `/N` if need be; `*` is every value, and `A/N` every
//! Nth from A on. Years, time zones and the last days of a month (`~`) are refused by name, not read as something else.

use std::time::SystemTime;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::quote;

/// A 29 February that is a certain weekday comes once in 28 years, or in 40 where a century has no leap day.
const MOST_DAYS: usize = 41 * 366;
/// Clocks are put forward or back by less than this, so an hour that there is twice or never lies within it.
const LONGEST_SHIFT: SignedDuration = SignedDuration::from_hours(3);
/// In the order of their numbers here.
const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    weekdays: Numbers,
    months: Numbers,
    days: Numbers,
    hours: Numbers,
    minutes: Numbers,
    seconds: Numbers,
}

impl Calendar {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let calendar = Self::read(text).map_err(|wrong| {
            format!(
                "is no time that sersync knows: {wrong}, in {}; write `daily`, `Mon..Fri 02:30` or `*-*-1,15 4:00`",
                quote(text)
            )
        })?;
        if calendar.next(SystemTime::now(), &TimeZone::UTC).is_none() {
            return Err(format!("never comes: {}", quote(text)));
        }
        Ok(calendar)
    }

    fn read(text: &str) -> Result<Self, String> {
        let full = match text.trim().to_ascii_lowercase().as_str() {
            "minutely" => "*:*".into(),
            "hourly" => "*:0".into(),
            "daily" => "0:0".into(),
            "weekly" => "mon 0:0".into(),
            "monthly" => "*-*-1 0:0".into(),
            other => other.to_owned(),
        };
        let mut calendar = Self {
            weekdays: Numbers::all(0, 6),
            months: Numbers::all(1, 12),
            days: Numbers::all(1, 31),
            hours: Numbers::only(0),
            minutes: Numbers::only(0),
            seconds: Numbers::only(0),
        };
        let mut words = full.split_ascii_whitespace().peekable();
        if words.peek().is_none() {
            return Err("it is empty".into());
        }
        if let Some(word) =
            words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            calendar.weekdays = Numbers::read(word, 0, 6, weekday)?;
        }
        if let Some(word) = words.next_if(|word| !word.contains(':')) {
            calendar.read_date(word)?;
        }
        if let Some(word) = words.next() {
            calendar.read_time(word)?;
        }
        match words.next() {
            None => Ok(calendar),
            Some(word) => Err(format!("{} is too much", quote(word))),
        }
    }

    fn read_date(&mut self, word: &str) -> Result<(), String> {
        let parts: Vec<&str> = word.split('-').collect();
        let (months, days) = match parts[..] {
            ["*", months, days] | [months, days] => (months, days),
            [_, _, _] => return Err("a year must be `*`".into()),
            _ => return Err(format!("{} is no date", quote(word))),
        };
        self.months = Numbers::read(months, 1, 12, number)?;
        self.days = Numbers::read(days, 1, 31, number)?;
        Ok(())
    }

    fn read_time(&mut self, word: &str) -> Result<(), String> {
        let parts: Vec<&str> = word.split(':').collect();
        let (hours, minutes, seconds) = match parts[..] {
            [hours, minutes] => (hours, minutes, "0"),
            [hours, minutes, seconds] => (hours, minutes, seconds),
            _ => return Err(format!("{} is no time of day", quote(word))),
        };
        self.hours = Numbers::read(hours, 0, 23, number)?;
        self.minutes = Numbers::read(minutes, 0, 59, number)?;
        self.seconds = Numbers::read(seconds, 0, 59, number)?;
        Ok(())
    }

    /// The first such time after `after`. A time that the clocks leave out comes as much later as they were put
    /// forward; one that there is twice comes the first time.
    #[must_use]
    pub fn next(&self, after: SystemTime, zone: &TimeZone) -> Option<SystemTime> {
        let after = Timestamp::try_from(after).ok()?;
        let from = zone.to_datetime(after).checked_sub(LONGEST_SHIFT).ok()?;
        days_from(from.date())
            .take(MOST_DAYS)
            .filter(|day| self.has_day(*day))
            .flat_map(|day| self.times_of(day))
            .filter(|time| *time >= from)
            .filter_map(|time| Some(zone.to_ambiguous_zoned(time).compatible().ok()?.timestamp()))
            .find(|time| *time > after)
            .map(SystemTime::from)
    }

    fn has_day(&self, day: Date) -> bool {
        self.months.has(day.month())
            && self.days.has(day.day())
            && self.weekdays.has(day.weekday().to_monday_zero_offset())
    }

    fn times_of(&self, day: Date) -> impl Iterator<Item = DateTime> {
        self.hours.iter().flat_map(move |hour| {
            self.minutes.iter().flat_map(move |minute| {
                self.seconds
                    .iter()
                    .map(move |second| day.at(hour, minute, second, 0))
            })
        })
    }
}

fn days_from(first: Date) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(first), |day| day.checked_add(1.day()).ok())
}

/// A set of numbers below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers(u64);

impl Numbers {
    fn only(number: i8) -> Self {
        Self(1 << number)
    }

    fn all(first: i8, last: i8) -> Self {
        Self::every(1, first, last)
    }

    fn every(step: usize, first: i8, last: i8) -> Self {
        let numbers = (first..=last).step_by(step);
        Self(numbers.fold(0, |set, number| set | 1 << number))
    }

    fn has(self, number: i8) -> bool {
        self.0 & 1 << number != 0
    }

    fn iter(self) -> impl Iterator<Item = i8> {
        (0..60).filter(move |number| self.has(*number))
    }

    /// A list of values from `min` to `max`, each of which `read` reads.
    fn read(
        list: &str,
        min: i8,
        max: i8,
        read: impl Fn(&str) -> Option<i8>,
    ) -> Result<Self, String> {
        let value = |word: &str| {
            read(word)
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| format!("{} does not belong there", quote(word)))
        };
        let mut all = 0;
        for item in list.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, number(step)),
                None => (item, Some(1)),
            };
            let step = step
                .filter(|step| *step > 0)
                .ok_or_else(|| format!("{} has no step", quote(item)))?;
            let (first, end) = match range.split_once("..") {
                _ if range == "*" => (min, max),
                Some((first, end)) => (value(first)?, value(end)?),
                None if item.contains('/') => (value(range)?, max),
                None => (value(range)?, value(range)?),
            };
            if first > end {
                return Err(format!("{} ends before it begins", quote(range)));
            }
            all |= Self::every(step.unsigned_abs().into(), first, end).0;
        }
        Ok(Self(all))
    }
}

fn number(word: &str) -> Option<i8> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| is_number)
}

/// A weekday by its name, or the first three letters of it.
fn weekday(word: &str) -> Option<i8> {
    let at = WEEKDAYS
        .iter()
        .position(|name| word == *name || word == &name[..3])?;
    i8::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::posix(name).expect("a time zone")
    }

    /// The times that follow `after`, in UTC.
    fn following(text: &str, after: &str, zone: &TimeZone, count: usize) -> Vec<String> {
        let calendar = Calendar::parse(text).expect(text);
        let after: Timestamp = after.parse().expect("a time");
        let first = calendar.next(after.into(), zone);
        let all = std::iter::successors(first, |time| calendar.next(*time, zone));
        let text = |time| Timestamp::try_from(time).expect("a time").to_string();
        all.take(count).map(text).collect()
    }

    #[test]
    fn the_next_time_is_the_first_that_fits_and_never_now() {
        let after = "2026-11-20T02:30:00Z"; // a Friday
        for (text, expected) in [
            ("Mon..Fri 02:30", "2026-11-23T02:30:00Z"),
            ("fri 2:30:01", "2026-11-20T02:30:01Z"),
            ("Sat,Sunday 0/6:15", "2026-11-21T00:15:00Z"),
            ("*:0/20", "2026-11-20T02:40:00Z"),
            ("hourly", "2026-11-20T03:00:00Z"),
            ("daily", "2026-11-21T00:00:00Z"),
            ("weekly", "2026-11-23T00:00:00Z"),
            ("monthly", "2026-12-01T00:00:00Z"),
            ("*-*-1,15 4:00", "2026-12-01T04:00:00Z"),
            ("2-29", "2028-02-29T00:00:00Z"),
            ("Mon 2-29", "2044-02-29T00:00:00Z"),
            ("*:*:0/2", "2026-11-20T02:30:02Z"),
        ] {
            assert_eq!(
                following(text, after, &TimeZone::UTC, 1),
                [expected],
                "{text}"
            );
        }
    }

    #[test]
    fn the_clock_of_the_place_counts_also_where_it_is_put_forward_or_back() {
        let berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(
            following("daily", "2026-07-01T12:00:00Z", &berlin, 1),
            ["2026-07-01T22:00:00Z"]
        );
        // On 29 March there is no 2:30, on 25 October there are two.
        assert_eq!(
            following("2:30", "2026-03-28T12:00:00Z", &berlin, 2),
            ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            following("2:30", "2026-03-29T01:00:00Z", &berlin, 1),
            ["2026-03-29T01:30:00Z"],
            "asked when the clocks have just been put forward"
        );
        assert_eq!(
            following("2:30", "2026-10-24T12:00:00Z", &berlin, 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_read_as_something_else() {
        for text in [
            "",
            "often",
            "25:00",
            "2:60",
            "2:30:61",
            "2026-11-20 2:30",
            "*-*~1",
            "Mon..Fri 2:30 UTC",
            "Fri..Mon 2:30",
            "2:0/0",
            "2:0/",
            "2:+5",
            "*-13-1",
            "*-2-30",
            "1:2:3:4",
            "Mon-Fri 2:30",
        ] {
            assert!(Calendar::parse(text).is_err(), "{text}");
        }
    }
}
