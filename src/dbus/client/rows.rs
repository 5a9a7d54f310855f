//! What goes over the bus as it is written there, and our words for it.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zbus::{OwnedObjectPath, Variant};

use super::proxies::remote_number;
use super::{ClientError, Result, Selection};
use crate::control::FailedPath;

/// Number, remote object, path, exit, message, attempts, first failure, next try.
pub(super) type FailedRow = (u64, OwnedObjectPath, Vec<u8>, i32, String, u32, u64, u64);

/// Remote object, path, kind.
pub(super) type DriftRow = (OwnedObjectPath, Vec<u8>, String);

/// A difference that a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftFound {
    /// Number of the remote.
    pub remote: u32,
    /// Relative to the source of its mirror.
    pub path: Vec<u8>,
    /// What differs, in the service's word: one of those of [`DriftKind`](crate::control::DriftKind), or a newer one.
    pub kind: String,
}

pub(super) fn failed(row: FailedRow) -> Result<FailedPath> {
    let (id, remote, path, exit, message, attempts, first, next_try) = row;
    Ok(FailedPath {
        id,
        remote: number(&remote)?,
        path,
        exit,
        message,
        attempts,
        first: time(first).unwrap_or(UNIX_EPOCH),
        next_try: time(next_try),
    })
}

pub(super) fn drift((remote, path, kind): DriftRow) -> Result<DriftFound> {
    Ok(DriftFound {
        remote: number(&remote)?,
        path,
        kind,
    })
}

fn number(object: &OwnedObjectPath) -> Result<u32> {
    remote_number(object.as_str()).ok_or(ClientError::Bus(zbus::Error::InvalidObjectPath))
}

/// Microseconds since the epoch, where 0 stands for never.
pub(super) fn time(microseconds: u64) -> Option<SystemTime> {
    (microseconds != 0).then(|| UNIX_EPOCH + Duration::from_micros(microseconds))
}

/// The options of `Resync` and `Verify`.
pub(super) fn options(what: Selection<'_>) -> HashMap<&'static str, Variant<'_>> {
    let mut options = HashMap::new();
    if let Some(path) = what.path {
        options.insert("path", Variant::from(path.as_os_str().as_bytes()));
    }
    if let Some(remote) = what.remote {
        options.insert("remote", Variant::from(remote));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_never() {
        assert_eq!(time(0), None);
        assert_eq!(
            time(1_500_000),
            Some(UNIX_EPOCH + Duration::from_millis(1500))
        );
    }
}
