//! When the full pushes of `<crontab>` are due. Asleep until then; a reload may change it at any time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{Calendar, CrontabConfig, Schedule};

/// What is due by the clock on the wall is looked up again this often, since that clock may be set.
const CLOCK_CHECK: Duration = Duration::from_secs(60 * 60);

/// What the mirrors of an instance are told of `<crontab>`.
pub type Crontab = Option<Arc<CrontabConfig>>;

/// See the module.
#[derive(Debug)]
pub struct Timetable {
    crontab: watch::Receiver<Crontab>,
    planned: Option<(Arc<CrontabConfig>, Next)>,
}

/// When it is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    At(Instant),
    On(SystemTime),
    Never,
}

impl Timetable {
    /// The timetable of a crontab that may change. A period begins when it is first asked, or the change is seen.
    pub fn new(crontab: watch::Receiver<Crontab>) -> Self {
        Self {
            crontab,
            planned: None,
        }
    }

    /// Comes back when a push is due, with the patterns that hold in it. What is planned stays if this is dropped.
    pub async fn due(&mut self) -> Arc<[String]> {
        loop {
            let told = self.crontab.borrow_and_update().clone();
            let Some(crontab) = told else {
                self.planned = None;
                self.changed().await;
                continue;
            };
            let next = self.planned_for(&crontab);
            if next.is_due() {
                let excludes = Arc::from(crontab.excludes.as_slice());
                self.planned = None;
                self.planned_for(&crontab);
                return excludes;
            }
            tokio::select! {
                () = self.changed() => {}
                () = next.wait() => if !next.is_due() {
                    self.planned = None;
                }
            }
        }
    }

    fn planned_for(&mut self, crontab: &Arc<CrontabConfig>) -> Next {
        match &self.planned {
            Some((planned, next)) if Arc::ptr_eq(planned, crontab) => *next,
            _ => {
                let next = Next::of(&crontab.schedule);
                self.planned = Some((Arc::clone(crontab), next));
                next
            }
        }
    }

    async fn changed(&mut self) {
        if self.crontab.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Next {
    fn of(schedule: &Schedule) -> Self {
        match schedule {
            Schedule::Every(period) => Self::At(Instant::now() + *period),
            Schedule::Calendar(calendar) => Self::by(calendar),
        }
    }

    fn by(calendar: &Calendar) -> Self {
        let next = calendar.next(SystemTime::now(), &TimeZone::system());
        next.map_or(Self::Never, Self::On)
    }

    fn is_due(self) -> bool {
        match self {
            Self::At(at) => at <= Instant::now(),
            Self::On(time) => time <= SystemTime::now(),
            Self::Never => false,
        }
    }

    /// Until it is due, or the clock is to be looked at again.
    async fn wait(self) {
        match self {
            Self::At(at) => tokio::time::sleep_until(at.into()).await,
            Self::On(time) => {
                let left = time.duration_since(SystemTime::now()).unwrap_or_default();
                sleep(left.min(CLOCK_CHECK)).await;
            }
            Self::Never => sleep(CLOCK_CHECK).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn every(period: Duration, exclude: &str) -> Arc<CrontabConfig> {
        Arc::new(CrontabConfig {
            schedule: Schedule::Every(period),
            excludes: vec![exclude.into()],
        })
    }

    #[tokio::test]
    async fn the_first_push_is_a_period_after_the_start_and_the_next_a_period_after_it() {
        let (_sender, crontab) = watch::channel(Some(every(MINUTE, "*.php")));
        let mut timetable = Timetable::new(crontab);
        let start = Instant::now();
        assert!(
            tokio::time::timeout(Duration::ZERO, timetable.due())
                .await
                .is_err()
        );
        let Some((planned, Next::At(first))) = timetable.planned.clone() else {
            panic!("nothing is planned");
        };
        assert!(first >= start + MINUTE && first <= Instant::now() + MINUTE);
        timetable.planned = Some((planned, Next::At(start)));
        assert_eq!(*timetable.due().await, ["*.php".to_owned()]);
        let (_, next) = timetable.planned.clone().expect("the next");
        assert!(
            matches!(next, Next::At(next) if next >= start + MINUTE),
            "{next:?}"
        );
    }

    #[tokio::test]
    async fn a_reload_that_changes_the_crontab_is_followed_and_one_that_ends_it() {
        let (sender, crontab) = watch::channel(Some(every(MINUTE, "a")));
        let mut timetable = Timetable::new(crontab);
        assert!(
            tokio::time::timeout(Duration::ZERO, timetable.due())
                .await
                .is_err()
        );
        sender.send_replace(Some(every(Duration::from_millis(1), "b")));
        assert_eq!(*timetable.due().await, ["b".to_owned()]);
        sender.send_replace(None);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), timetable.due())
                .await
                .is_err()
        );
        assert!(timetable.planned.is_none());
    }
}
