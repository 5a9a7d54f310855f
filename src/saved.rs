//! What a lane keeps between starts, in its saved form: JSON, a line each, to be read with `cat` and `jq`. Pure.
//!
//! ```text
//!  {"sersync":1,"source":"/data","target":"rsync://backup/data"}       the head
//!  {"failed":{"path":"a/b","tree":false,"exit":23,"message":"…","attempts":3,"first_usec":1795350141532133}}
//!  {"synced":{"path":"a/b"}}                                           takes back what was said of a/b
//! ```
//!
//! Later lines count. A last line that was not written to its end is ignored: it says of one path what the comparison
//! at the next start finds out again. Anything else that is not understood is not guessed at, see [`Unreadable`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::change::Extent;
use crate::fail_queue::Failure;
use crate::path::RelPath;

pub mod known;

/// The version of the form that this program writes and reads.
const VERSION: u64 = 1;

/// Which lane a saved state belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Absolute path of the source.
    pub source: PathBuf,
    /// Where it goes, as the configuration's target is shown.
    pub target: String,
}

/// A path that had failed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFailure {
    /// How far below the path.
    pub extent: Extent,
    /// See [`crate::change::Change::removed`].
    pub removed: bool,
    /// Tries so far.
    pub attempts: u32,
    /// The last failure.
    pub failure: Failure,
    /// When it failed first.
    pub first: SystemTime,
}

/// Something became otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A path failed, once more perhaps.
    Failed(RelPath, SavedFailure),
    /// A path is in the queue no more.
    Synced(RelPath),
}

/// Why a state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The head is missing, or of another program.
    #[error("line 1 is not the head of a state that sersync has saved")]
    NoHead,
    /// A newer program wrote it.
    #[error("it has the form {0}, and this program knows the form {VERSION} only")]
    OtherVersion(u64),
    /// It is the state of another source or target.
    #[error("it belongs to another source or target")]
    OtherLane,
    /// A line makes no sense.
    #[error("line {0} makes no sense")]
    Damaged(usize),
}

/// The failed paths of a lane.
pub type Saved = BTreeMap<RelPath, SavedFailure>;

/// Reads a saved state.
///
/// # Errors
/// It is damaged, or not the state of this lane.
pub fn read(bytes: &[u8], key: &Key) -> Result<Saved, Unreadable> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    let head = lines.next().and_then(|(_, line)| object(line));
    let head = head.ok_or(Unreadable::NoHead)?;
    match head.get("sersync").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => return Err(Unreadable::OtherVersion(other)),
        None => return Err(Unreadable::NoHead),
    }
    if head != head_of(key) {
        return Err(Unreadable::OtherLane);
    }
    let mut saved = Saved::new();
    for (number, line) in lines {
        match parse(line) {
            Some(line) => apply(&mut saved, line),
            None if !line.ends_with(b"\n") => {}
            None => return Err(Unreadable::Damaged(number + 1)),
        }
    }
    Ok(saved)
}

/// A state changes.
pub fn apply(saved: &mut Saved, line: Line) {
    match line {
        Line::Failed(path, failure) => {
            saved.insert(path, failure);
        }
        Line::Synced(path) => {
            saved.remove(&path);
        }
    }
}

/// A whole state, to be written anew.
#[must_use]
pub fn whole(saved: &Saved, key: &Key) -> Vec<u8> {
    let mut bytes = Value::Object(head_of(key)).to_string().into_bytes();
    bytes.push(b'\n');
    for (path, failure) in saved {
        bytes.extend(written(&Line::Failed(path.clone(), failure.clone())));
    }
    bytes
}

/// A line, to be appended.
#[must_use]
pub fn written(line: &Line) -> Vec<u8> {
    let value = match line {
        Line::Failed(path, saved) => {
            let first = saved.first.duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut failed = path_of(path);
            failed.insert("tree".into(), json!(saved.extent == Extent::Subtree));
            if saved.removed {
                failed.insert("removed".into(), json!(true));
            }
            failed.insert("exit".into(), json!(saved.failure.exit));
            failed.insert("message".into(), json!(saved.failure.message));
            failed.insert("attempts".into(), json!(saved.attempts));
            let micros = u64::try_from(first.as_micros()).unwrap_or(u64::MAX);
            failed.insert("first_usec".into(), json!(micros));
            json!({ "failed": failed })
        }
        Line::Synced(path) => json!({ "synced": path_of(path) }),
    };
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn head_of(key: &Key) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("sersync".into(), json!(VERSION));
    head.insert("source".into(), json!(key.source.to_string_lossy()));
    head.insert("target".into(), json!(key.target));
    head
}

/// A name that is no text is written as its bytes, too: the text is for people then.
fn path_of(path: &RelPath) -> Map<String, Value> {
    let bytes = path.as_bytes();
    let mut map = Map::new();
    map.insert("path".into(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        map.insert("path_bytes".into(), json!(bytes));
    }
    map
}

fn object(line: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(line).ok()? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let map = object(line)?;
    if let Some(synced) = map.get("synced") {
        return Some(Line::Synced(path_in(synced)?));
    }
    let failed = map.get("failed")?;
    let number = |name: &str| failed.get(name)?.as_u64();
    let saved = SavedFailure {
        extent: if failed.get("tree")?.as_bool()? {
            Extent::Subtree
        } else {
            Extent::Entry
        },
        removed: failed.get("removed").is_some_and(|removed| removed == true),
        attempts: u32::try_from(number("attempts")?).ok()?,
        failure: Failure {
            exit: i32::try_from(failed.get("exit")?.as_i64()?).ok()?,
            message: failed.get("message")?.as_str()?.to_owned(),
        },
        first: UNIX_EPOCH.checked_add(Duration::from_micros(number("first_usec")?))?,
    };
    Some(Line::Failed(path_in(failed)?, saved))
}

fn path_in(value: &Value) -> Option<RelPath> {
    if let Some(bytes) = value.get("path_bytes") {
        let bytes = bytes.as_array()?.iter().map(Value::as_u64);
        let bytes: Option<Vec<u8>> = bytes.map(|byte| u8::try_from(byte?).ok()).collect();
        return RelPath::new(&bytes?);
    }
    RelPath::new(value.get("path")?.as_str()?.as_bytes())
}

impl Key {
    /// A name for its file: the target as far as it is plain, and a number that tells lanes apart.
    #[must_use]
    pub fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let target: String = self.target.chars().take(64).map(plain).collect();
        format!("{target}-{:016x}.jsonl", self.number())
    }

    /// FNV-1a: the same for ever, unlike the hashes of the standard library.
    fn number(&self) -> u64 {
        use std::os::unix::ffi::OsStrExt as _;
        let source = Path::as_os_str(&self.source).as_bytes().iter();
        let bytes = source.chain(&[0]).chain(self.target.as_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key {
            source: "/data".into(),
            target: "rsync://backup/data".into(),
        }
    }

    fn a_failure() -> impl Strategy<Value = SavedFailure> {
        (
            any::<bool>(),
            any::<bool>(),
            any::<u32>(),
            any::<i32>(),
            ".*",
            0..4_000_000_000_000_000_u64,
        )
            .prop_map(
                |(tree, removed, attempts, exit, message, micros)| SavedFailure {
                    extent: if tree { Extent::Subtree } else { Extent::Entry },
                    removed,
                    attempts,
                    failure: Failure { exit, message },
                    first: UNIX_EPOCH + Duration::from_micros(micros),
                },
            )
    }

    fn a_path() -> impl Strategy<Value = RelPath> {
        let name = proptest::collection::vec(any::<u8>(), 1..8);
        proptest::collection::vec(name, 0..3)
            .prop_filter_map("not a path", |names| RelPath::new(&names.join(&b'/')))
    }

    fn a_line() -> impl Strategy<Value = Line> {
        prop_oneof![
            (a_path(), a_failure()).prop_map(|(path, failure)| Line::Failed(path, failure)),
            a_path().prop_map(Line::Synced),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_whatever_the_names_hold(
            lines in proptest::collection::vec(a_line(), 0..20)
        ) {
            let mut saved = Saved::new();
            let mut bytes = whole(&saved, &key());
            for line in lines {
                bytes.extend(written(&line));
                apply(&mut saved, line);
            }
            prop_assert_eq!(read(&bytes, &key()), Ok(saved.clone()));
            prop_assert_eq!(read(&whole(&saved, &key()), &key()), Ok(saved));
        }

        #[test]
        fn a_torn_state_is_read_up_to_its_last_whole_line(
            lines in proptest::collection::vec(a_line(), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let head = whole(&Saved::new(), &key());
            let mut bytes = head.clone();
            for line in &lines {
                bytes.extend(written(line));
            }
            let cut = head.len() + cut.index(bytes.len() - head.len());
            prop_assert!(read(&bytes[..cut], &key()).is_ok());
        }

        #[test]
        fn a_damaged_state_is_read_or_refused_and_never_a_panic(
            lines in proptest::collection::vec(a_line(), 1..6),
            damages in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = whole(&Saved::new(), &key());
            for line in &lines {
                bytes.extend(written(line));
            }
            for (at, byte) in damages {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(saved) = read(&bytes, &key()) {
                prop_assert!(saved.keys().all(|path| RelPath::new(path.as_bytes()).is_some()));
            }
        }

        #[test]
        fn any_other_bytes_are_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes, &key()).is_err());
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_reason() {
        let whole = whole(&Saved::new(), &key());
        let other = Key {
            source: "/other".into(),
            ..key()
        };
        assert_eq!(read(&whole, &other), Err(Unreadable::OtherLane));
        let newer = b"{\"sersync\":2}\n";
        assert_eq!(read(newer, &key()), Err(Unreadable::OtherVersion(2)));
        assert_eq!(read(b"<xml/>\n", &key()), Err(Unreadable::NoHead));
        let damaged = [&whole[..], b"{\"failed\":{}}\n"].concat();
        assert_eq!(read(&damaged, &key()), Err(Unreadable::Damaged(2)));
    }

    #[test]
    fn each_lane_has_a_file_of_its_own_with_a_plain_name() {
        let name = key().file_name();
        assert!(name.starts_with("rsync___backup_data-"), "{name}");
        let mut other = key();
        other.source = "/data2".into();
        assert_ne!(other.file_name(), name);
        assert!(!name.contains('/'));
    }
}
