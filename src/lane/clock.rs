//! A moment in both of its times, to turn the one into the other. Pure.

use std::time::{Instant, SystemTime};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    steady: Instant,
    civil: SystemTime,
}

impl Clock {
    /// From now on.
    #[must_use]
    pub fn now() -> Self {
        Self {
            steady: Instant::now(),
            civil: SystemTime::now(),
        }
    }

    /// What a clock on the wall showed then, had nobody touched it since.
    #[must_use]
    pub fn civil(&self, at: Instant) -> SystemTime {
        if at >= self.steady {
            self.civil + (at - self.steady)
        } else {
            self.civil - (self.steady - at)
        }
    }

    /// When that was. What lies in the future is taken for now.
    #[must_use]
    pub fn steady(&self, at: SystemTime) -> Instant {
        let ago = self.civil.duration_since(at).unwrap_or_default();
        self.steady.checked_sub(ago).unwrap_or(self.steady)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_comes_back_as_what_it_was() {
        let clock = Clock::now();
        let later = clock.steady + Duration::from_secs(5);
        assert_eq!(clock.civil(later), clock.civil + Duration::from_secs(5));
        let before = clock.civil - Duration::from_millis(3);
        assert_eq!(clock.civil(clock.steady(before)), before);
        let in_the_future = clock.civil + Duration::from_secs(60);
        assert_eq!(clock.steady(in_the_future), clock.steady);
    }
}
