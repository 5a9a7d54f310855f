//! The answers of `--json`: one object on one line. Keys are only ever added.
//!
//! | command | keys |
//! |---|---|
//! | `status` | `instances`: list of *instance*; with `--watch` one such line for each change |
//! | `pause`, `resume` | `instance`, `remote` (number or null), `state` (`paused` or `resumed`), `accepted` (true) after `--accept-source` |
//! | `resume --accept-deletions` | `instance`, `remote`, `accepted` (entries) |
//! | `resync` | `instance`, `run`; unless `--no-wait`: `ok`, `detail` |
//! | `verify` | as `resync`, and unless `--no-wait`: `drift`: list of `remote`, `kind`, *path* |
//! | `flush` | `instance`, `flushed` |
//! | `failed` | `instance`, `failed`: list of `id`, `remote`, `target`, *path*, `exit`, `message`, `attempts`, `first_usec`, `next_try_usec` |
//! | `retry` | `instance`, `remote`, `retried` |
//! | `reload` | `instance`, `reloaded` |
//! | `log-level` | `instance`, `level` |
//!
//! *instance*: `instance`, `version`, `config_file`, `state`, `status`, `pending`, `failed`, `watches`, `unwatched`,
//! `overflows`, `percent`, `oldest_pending_usec`, `last_sync_usec`, `remotes`: list of `number`, `source` (as a *path*),
//! `target`, `state`, `pending`, `failed`, `runs`, `paths_sent`, `paths_deleted`, `bytes_sent`, `percent`,
//! `oldest_pending_usec`, `last_success_usec`, `last_error`, `next_try_usec`.
//!
//! *path*: `path` as text and, only if it is not UTF-8, `path_bytes`, the list of its bytes. Times are microseconds since
//! the epoch, or null for never.

use std::os::unix::ffi::OsStrExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::control::FailedPath;
use crate::dbus::client::{DriftFound, InstanceStatus, RemoteStatus};

/// Instances as `status` shows them.
pub(super) fn statuses(statuses: &[InstanceStatus]) -> Value {
    let instances: Vec<_> = statuses.iter().map(instance).collect();
    json!({ "instances": instances })
}

fn instance(status: &InstanceStatus) -> Value {
    let remotes: Vec<_> = status.remotes.iter().map(remote).collect();
    json!({
        "instance": status.instance,
        "version": status.version,
        "config_file": status.config_file,
        "state": status.state,
        "status": status.status,
        "pending": status.pending,
        "failed": status.failed,
        "watches": status.watches,
        "unwatched": status.unwatched,
        "overflows": status.overflows,
        "percent": status.percent,
        "oldest_pending_usec": time(status.oldest_pending),
        "last_sync_usec": time(status.last_sync),
        "remotes": remotes,
    })
}

fn remote(remote: &RemoteStatus) -> Value {
    let shown = json!({
        "number": remote.number,
        "target": remote.target,
        "state": remote.state,
        "pending": remote.pending,
        "failed": remote.failed,
        "runs": remote.runs,
        "paths_sent": remote.paths_sent,
        "paths_deleted": remote.paths_deleted,
        "bytes_sent": remote.bytes_sent,
        "percent": remote.percent,
        "oldest_pending_usec": time(remote.oldest_pending),
        "last_success_usec": time(remote.last_success),
        "last_error": remote.last_error,
        "next_try_usec": time(remote.next_try),
    });
    with_path(shown, "source", remote.mirror.as_os_str().as_bytes())
}

/// A failed path as `failed` lists it.
pub(super) fn failed(failed: &FailedPath, target: Option<&str>) -> Value {
    let shown = json!({
        "id": failed.id,
        "remote": failed.remote,
        "target": target,
        "exit": failed.exit,
        "message": failed.message,
        "attempts": failed.attempts,
        "first_usec": time(Some(failed.first)),
        "next_try_usec": time(failed.next_try),
    });
    with_path(shown, "path", &failed.path)
}

/// A difference as `verify` lists it.
pub(super) fn drift(drift: &DriftFound) -> Value {
    let shown = json!({ "remote": drift.remote, "kind": drift.kind });
    with_path(shown, "path", &drift.path)
}

/// Adds a path under `key`, so that nothing of it is lost.
pub(in crate::cli) fn with_path(mut object: Value, key: &str, path: &[u8]) -> Value {
    object[key] = String::from_utf8_lossy(path).into();
    if std::str::from_utf8(path).is_err() {
        object[format!("{key}_bytes")] = path.into();
    }
    object
}

fn time(time: Option<SystemTime>) -> Option<u64> {
    let since = time?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros())
        .ok()
        .filter(|&usec| usec != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_text_comes_with_its_bytes() {
        assert_eq!(
            with_path(json!({}), "path", "图".as_bytes()),
            json!({ "path": "图" })
        );
        assert_eq!(
            with_path(json!({}), "path", b"a\xff"),
            json!({ "path": "a\u{fffd}", "path_bytes": [97, 255] })
        );
    }
}
