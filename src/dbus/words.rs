//! Our words as the bus can carry them.

use std::time::{SystemTime, UNIX_EPOCH};

use zbus::{ObjectPath, OwnedObjectPath};

use super::MANAGER_PATH;

/// Text for the bus. A NUL, which only a strange receiver of ours would send, makes a message invalid, and the bus ends
/// the connection of who sends such.
pub(super) fn text(words: &str) -> String {
    words.replace('\0', "\u{fffd}")
}

/// Microseconds since the epoch, as systemd counts; 0 for never.
pub(super) fn usec(time: Option<SystemTime>) -> u64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Where the remote with this number is.
pub(super) fn object_path(remote: u32) -> OwnedObjectPath {
    let path = format!("{MANAGER_PATH}/remote/{remote}");
    ObjectPath::from_string_unchecked(path).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_for_the_bus_has_no_nul() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(text("déjà vu"), "déjà vu");
    }

    #[test]
    fn never_is_zero() {
        assert_eq!(usec(None), 0);
        assert_eq!(usec(Some(UNIX_EPOCH + Duration::from_micros(5))), 5);
        assert_eq!(usec(Some(UNIX_EPOCH - Duration::from_secs(1))), 0);
    }

    #[test]
    fn paths_of_remotes_are_well_formed() {
        for number in [0, 1, u32::MAX] {
            let path = object_path(number);
            assert_eq!(ObjectPath::try_from(path.as_str()).as_ref(), Ok(&*path));
        }
    }
}
