//! The kernel's limits of inotify: raised where they are too low, never lowered.
//!
//! They are those of the whole machine (watches and instances count per user), so what another program or an
//! administrator has set higher stays. A container, or a process without the right, cannot raise them: that is said in
//! the [`Report`] and is no error.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Where the kernel keeps them.
pub const DIRECTORY: &str = "/proc/sys/fs/inotify";

/// What the kernel takes at most: it keeps these numbers as `int`.
const HIGHEST: u64 = i32::MAX as u64;

/// The limits of inotify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Directories that can be watched; the kernel takes its memory, about 1 KiB each, only when they are.
    pub watches: u64,
    /// Events that wait to be read; read by the kernel when an inotify descriptor is made, so it must stand before.
    pub queued_events: u64,
    /// inotify descriptors.
    pub instances: u64,
}

impl Limits {
    /// What the service starts with. Watches and events are what sersync has set for many years; the kernel's 128
    /// instances are those of all services of root together, and each mirror takes one.
    pub const WANTED: Self = Self {
        watches: 50_000_000,
        queued_events: 327_679,
        instances: 1024,
    };

    /// What a tree of so many directories needs, and never less than [`WANTED`](Self::WANTED).
    #[must_use]
    pub fn needed_for(directories: u64) -> Self {
        // Others of this user watch too, and the tree grows.
        let watches = directories.saturating_add(directories / 2);
        Self {
            watches: watches.clamp(Self::WANTED.watches, HIGHEST),
            ..Self::WANTED
        }
    }

    fn by_name(self) -> [(&'static str, u64); 3] {
        [
            (Limit::Watches.name(), self.watches),
            (Limit::QueuedEvents.name(), self.queued_events),
            (Limit::Instances.name(), self.instances),
        ]
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// See [`Limits::watches`].
    Watches,
    /// See [`Limits::queued_events`].
    QueuedEvents,
    /// See [`Limits::instances`].
    Instances,
}

impl Limit {
    /// Its name below `fs.inotify`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Watches => "max_user_watches",
            Self::QueuedEvents => "max_queued_events",
            Self::Instances => "max_user_instances",
        }
    }

    /// What to set it to, where `missing` more are needed than it allows now: for a person, with the number that it has
    /// in `directory`. Twice as many is the least that is worth the trouble.
    #[must_use]
    pub fn advice(self, directory: &Path, missing: u64) -> String {
        let name = self.name();
        match read(&directory.join(name)) {
            Ok(now) => {
                let wanted = now.saturating_add(missing.max(now)).min(HIGHEST);
                format!("set fs.inotify.{name} to at least {wanted}, it is {now}")
            }
            Err(_) => format!("raise fs.inotify.{name} by at least {missing}"),
        }
    }
}

/// What to do about an error of the call that makes an inotify descriptor, as the rest of a sentence; empty if it has
/// nothing to do with limits.
#[must_use]
pub fn advice_on(error: &io::Error, directory: &Path) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => format!(
            "; {}, if it is not this process that has too many files open",
            Limit::Instances.advice(directory, 1)
        ),
        _ => String::new(),
    }
}

/// What became of one limit.
#[derive(Debug)]
pub struct Report {
    /// Its name below `fs.inotify`.
    pub limit: &'static str,
    /// What it was; `None` if it could not be read.
    pub before: Option<u64>,
    /// What it is now.
    pub after: Option<u64>,
    /// What was wanted.
    pub wanted: u64,
    /// Why it could not be read or raised.
    pub error: Option<io::Error>,
}

impl Report {
    /// Whether it is higher than before.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.after > self.before
    }

    /// Whether it is lower than it should be.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.after.is_none_or(|after| after < self.wanted)
    }
}

/// A sentence for the log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, wanted, .. } = self;
        match (self.before, self.after) {
            (Some(before), Some(after)) if self.is_raised() => {
                write!(f, "raised fs.inotify.{limit} from {before} to {after}")?;
            }
            (_, Some(after)) => write!(f, "fs.inotify.{limit} is {after}")?,
            (_, None) => write!(f, "fs.inotify.{limit} is unknown")?,
        }
        if self.is_short() {
            write!(
                f,
                ", {wanted} is wanted: set it with sysctl, in a container on its host"
            )?;
        }
        match &self.error {
            Some(error) => write!(f, " ({error})"),
            None => Ok(()),
        }
    }
}

/// Raises what is lower than `wanted`, in `directory`, which is [`DIRECTORY`] but in tests.
#[must_use]
pub fn raise(directory: &Path, wanted: Limits) -> Vec<Report> {
    let limits = wanted.by_name().into_iter();
    limits
        .map(|(limit, wanted)| raise_one(&directory.join(limit), limit, wanted))
        .collect()
}

fn raise_one(file: &Path, limit: &'static str, wanted: u64) -> Report {
    let (before, error) = match read(file) {
        Ok(before) if before >= wanted => (Some(before), None),
        Ok(before) => (Some(before), fs::write(file, wanted.to_string()).err()),
        Err(error) => (None, Some(error)),
    };
    Report {
        limit,
        before,
        // What the kernel made of it, not what it was told.
        after: before.and_then(|_| read(file).ok()),
        wanted,
        error,
    }
}

fn read(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The limits as a kernel would show them.
    fn kernel(watches: &str, events: &str, instances: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, value) in [
            ("max_user_watches", watches),
            ("max_queued_events", events),
            ("max_user_instances", instances),
        ] {
            fs::write(dir.path().join(name), format!("{value}\n")).expect("a limit");
        }
        dir
    }

    fn values(reports: &[Report]) -> Vec<(Option<u64>, Option<u64>)> {
        let each = reports.iter();
        each.map(|report| (report.before, report.after)).collect()
    }

    #[test]
    fn low_limits_are_raised_to_what_is_wanted() {
        let kernel = kernel("8192", "16384", "128");
        let reports = raise(kernel.path(), Limits::WANTED);
        assert_eq!(
            values(&reports),
            [
                (Some(8192), Some(50_000_000)),
                (Some(16_384), Some(327_679)),
                (Some(128), Some(1024)),
            ]
        );
        assert!(reports.iter().all(Report::is_raised));
        assert!(!reports.iter().any(Report::is_short));
        assert_eq!(
            reports[0].to_string(),
            "raised fs.inotify.max_user_watches from 8192 to 50000000"
        );
    }

    #[test]
    fn a_limit_that_is_higher_stays_as_it_is() {
        let kernel = kernel("60000000", "16384", "99999");
        let reports = raise(kernel.path(), Limits::WANTED);
        assert_eq!(
            values(&reports),
            [
                (Some(60_000_000), Some(60_000_000)),
                (Some(16_384), Some(327_679)),
                (Some(99_999), Some(99_999)),
            ]
        );
        let file = fs::read_to_string(kernel.path().join("max_user_watches"));
        assert_eq!(file.expect("the limit"), "60000000\n");
    }

    #[test]
    fn a_refusal_is_reported_and_the_others_are_still_raised() {
        let kernel = kernel("8192", "16384", "128");
        let watches = kernel.path().join("max_user_watches");
        // Root may write to what is read-only, but to no directory.
        fs::remove_file(&watches).expect("the limit");
        fs::create_dir(&watches).expect("a directory");
        fs::set_permissions(&watches, fs::Permissions::from_mode(0o500)).expect("its mode");
        let reports = raise(kernel.path(), Limits::WANTED);
        assert!(reports[0].error.is_some() && reports[0].is_short());
        assert!(!reports[0].is_raised());
        let sentence = reports[0].to_string();
        assert!(
            sentence.starts_with("fs.inotify.max_user_watches is unknown, 50000000 is wanted"),
            "{sentence}"
        );
        assert_eq!(reports[1].after, Some(327_679));
        assert_eq!(reports[2].after, Some(1024));
    }

    #[test]
    fn a_limit_that_cannot_be_written_says_what_it_is() {
        let report = Report {
            limit: "max_user_watches",
            before: Some(8192),
            after: Some(8192),
            wanted: 50_000_000,
            error: Some(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)),
        };
        assert!(report.is_short());
        assert_eq!(
            report.to_string(),
            "fs.inotify.max_user_watches is 8192, 50000000 is wanted: \
             set it with sysctl, in a container on its host (read-only filesystem or storage medium)"
        );
    }

    #[test]
    fn the_advice_has_the_limit_and_a_number_to_set() {
        let kernel = kernel("8192", "16384", "128");
        let advice = |limit: Limit, missing| limit.advice(kernel.path(), missing);
        assert_eq!(
            advice(Limit::Watches, 100_000),
            "set fs.inotify.max_user_watches to at least 108192, it is 8192"
        );
        assert_eq!(
            advice(Limit::QueuedEvents, 1),
            "set fs.inotify.max_queued_events to at least 32768, it is 16384"
        );
        let full = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        assert_eq!(
            advice_on(&full, kernel.path()),
            "; set fs.inotify.max_user_instances to at least 256, it is 128, \
             if it is not this process that has too many files open"
        );
        assert_eq!(advice_on(&io::Error::other("x"), kernel.path()), "");
        let nowhere = Path::new("/nonexistent");
        assert_eq!(
            Limit::Watches.advice(nowhere, 5),
            "raise fs.inotify.max_user_watches by at least 5"
        );
    }

    #[test]
    fn a_tree_that_is_larger_than_usual_gets_room_to_grow() {
        assert_eq!(Limits::needed_for(0), Limits::WANTED);
        assert_eq!(Limits::needed_for(1_000_000), Limits::WANTED);
        assert_eq!(Limits::needed_for(60_000_000).watches, 90_000_000);
        assert_eq!(Limits::needed_for(u64::MAX).watches, HIGHEST);
    }
}
