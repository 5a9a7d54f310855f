//! What kinds of events have a name of their own: a `MESSAGE_ID` each, by which `journalctl MESSAGE_ID=…` finds them and
//! `journalctl -x` explains them. The explanations are in `dist/systemd/sersync.catalog`.
//!
//! ```
//! # use sersync::message_id;
//! # let remote = "backup::data";
//! tracing::warn!(MESSAGE_ID = message_id::REMOTE_DOWN, SERSYNC_REMOTE = remote, "{remote} is unreachable");
//! ```
//!
//! An id never changes its meaning and is never used again.

/// A path could not be brought to a remote; it is tried again by itself.
pub const PATH_FAILED: &str = "719ac8e9fd1a44b19fb904306892e202";
/// A path that could not be brought to a remote got through, or is gone.
pub const PATH_RECOVERED: &str = "a7900e8edeb44863b2fef04d7a0d6fba";
/// A remote cannot be reached; changes are kept.
pub const REMOTE_DOWN: &str = "bc245bb3dfa4476a931bddc2d03cc3be";
/// A remote answers but does not take files until somebody mends something.
pub const REMOTE_NEEDS_MENDING: &str = "d43456f64810483885d18553ba3df90b";
/// A remote takes files again.
pub const REMOTE_BACK: &str = "af690b153eac406286dabb7ca24acc33";
/// The kernel dropped events; the whole tree is compared.
pub const OVERFLOWED: &str = "e95e5a76e57b46488990ebe65b569cce";
/// The inotify limits were raised.
pub const LIMITS_RAISED: &str = "24bd3ab05b19435f88245858d5bf6a10";
/// Directories are not watched for lack of watches.
pub const LIMIT_REACHED: &str = "32c34413bf0141a5bd93a927566fb7d6";
/// A guard stopped a remote: nothing is sent or deleted until a person decides.
pub const HELD: &str = "1f710f34474a4fa587e30580444e1591";
/// The guard has let go.
pub const RELEASED: &str = "80f5da4738284595af776908f8a027e5";
/// The source directory is missing or another one.
pub const SOURCE_MISSING: &str = "0f308045a9134e599971516d799ee4c1";
/// A file system below the source is missing or another one; what a remote has of it is left as it is.
pub const VOLUME_MISSING: &str = "02c99445b6ff4d9a830198223da00940";
/// The source is on a file system to which others may write too: it is compared every so often.
pub const SOURCE_SHARED: &str = "3efb6450393846cfa245e67c09501608";
/// A verification found differences.
pub const DRIFT_FOUND: &str = "c48339951a9c40b781b75f60451e95b6";
/// A configuration is not in order; after a reload the old one stays in force.
pub const CONFIGURATION_REJECTED: &str = "fb2d4bd2ba80446886a7170b9f4e4a64";
/// The journal did not take messages in time, and some were lost.
pub const JOURNAL_STALLED: &str = "9bb46599f9124548b6c8cf8f8add4707";
/// A plugin could not be told of a path, or failed at it; mirroring is not affected.
pub const PLUGIN_FAILED: &str = "dfbcc10fd73a4f96ae84f254921bc6d9";

/// Each with its name.
pub const ALL: [(&str, &str); 17] = [
    ("PATH_FAILED", PATH_FAILED),
    ("PATH_RECOVERED", PATH_RECOVERED),
    ("REMOTE_DOWN", REMOTE_DOWN),
    ("REMOTE_NEEDS_MENDING", REMOTE_NEEDS_MENDING),
    ("REMOTE_BACK", REMOTE_BACK),
    ("OVERFLOWED", OVERFLOWED),
    ("LIMITS_RAISED", LIMITS_RAISED),
    ("LIMIT_REACHED", LIMIT_REACHED),
    ("HELD", HELD),
    ("RELEASED", RELEASED),
    ("SOURCE_MISSING", SOURCE_MISSING),
    ("VOLUME_MISSING", VOLUME_MISSING),
    ("SOURCE_SHARED", SOURCE_SHARED),
    ("DRIFT_FOUND", DRIFT_FOUND),
    ("CONFIGURATION_REJECTED", CONFIGURATION_REJECTED),
    ("JOURNAL_STALLED", JOURNAL_STALLED),
    ("PLUGIN_FAILED", PLUGIN_FAILED),
];
