//! What a lane remembers of its source and its target, in its saved form: one JSON object. Pure.
//!
//! ```text
//!  {"sersync_known":1,"source":"/data","target":"rsync://backup/data",
//!   "was":{"kind":61267,"volume":7,"inode":2,"born_nsec":1700000000000000000,"mount":true},
//!   "target_was":{…},"compared":true,"volumes":[{"path":"vol","kind":…,"filled":true}]}
//! ```
//!
//! A number that a file system does not have is left out. Beside it there is the fail queue, see [`super`]; that is
//! appended to, this is written as a whole, so it is there or not, and never torn by us.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Key, Unreadable, object, path_in, path_of};
use crate::lasting::Lasting;
use crate::path::RelPath;

/// The version of the form that this program writes and reads.
const VERSION: u64 = 1;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The source root that the remote was last equal to, or that a person accepted.
    pub source: Option<Lasting>,
    /// The target, if it is a directory of this machine.
    pub target: Option<Lasting>,
    /// Whether everything was compared with the remote since: before that, it may have come from elsewhere.
    pub compared: bool,
    /// What was mounted below the source root, by mount point.
    pub volumes: BTreeMap<RelPath, Lasting>,
    /// Those of them that had an entry.
    pub filled: BTreeSet<RelPath>,
}

/// Reads the saved form.
///
/// # Errors
/// It is damaged, or not of this lane.
pub fn read(bytes: &[u8], key: &Key) -> Result<Known, Unreadable> {
    let map = object(bytes).ok_or(Unreadable::NoHead)?;
    match map.get("sersync_known").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => return Err(Unreadable::OtherVersion(other)),
        None => return Err(Unreadable::NoHead),
    }
    let head = head_of(key);
    if head
        .iter()
        .any(|(name, value)| map.get(name) != Some(value))
    {
        return Err(Unreadable::OtherLane);
    }
    parse(&map).ok_or(Unreadable::Damaged(1))
}

/// Writes it.
#[must_use]
pub fn written(known: &Known, key: &Key) -> Vec<u8> {
    let mut map = head_of(key);
    if let Some(source) = &known.source {
        map.insert("was".into(), Value::Object(lasting_of(source)));
    }
    if let Some(target) = &known.target {
        map.insert("target_was".into(), Value::Object(lasting_of(target)));
    }
    let volumes = known.volumes.iter().map(|(path, volume)| {
        let mut entry = path_of(path);
        entry.extend(lasting_of(volume));
        entry.insert("filled".into(), json!(known.filled.contains(path)));
        Value::Object(entry)
    });
    map.insert("volumes".into(), volumes.collect());
    map.insert("compared".into(), json!(known.compared));
    let mut bytes = Value::Object(map).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn head_of(key: &Key) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("sersync_known".into(), json!(VERSION));
    head.insert("source".into(), json!(key.source.to_string_lossy()));
    head.insert("target".into(), json!(key.target));
    head
}

fn lasting_of(lasting: &Lasting) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("kind".into(), json!(lasting.kind));
    map.insert("inode".into(), json!(lasting.inode));
    if let Some(volume) = lasting.volume {
        map.insert("volume".into(), json!(volume));
    }
    if let Some(born) = lasting.born {
        map.insert("born_nsec".into(), json!(born));
    }
    if let Some(is_mount) = lasting.is_mount {
        map.insert("mount".into(), json!(is_mount));
    }
    map
}

fn parse(map: &Map<String, Value>) -> Option<Known> {
    let mut known = Known::default();
    if let Some(source) = map.get("was") {
        known.source = Some(lasting_in(source)?);
    }
    if let Some(target) = map.get("target_was") {
        known.target = Some(lasting_in(target)?);
    }
    known.compared = map.get("compared")?.as_bool()?;
    for entry in map.get("volumes")?.as_array()? {
        let path = path_in(entry)?;
        if entry.get("filled")?.as_bool()? {
            known.filled.insert(path.clone());
        }
        known.volumes.insert(path, lasting_in(entry)?);
    }
    Some(known)
}

/// What may be left out must make sense where it is there.
fn lasting_in(value: &Value) -> Option<Lasting> {
    let mut lasting = Lasting {
        kind: value.get("kind")?.as_u64()?,
        inode: value.get("inode")?.as_u64()?,
        volume: None,
        born: None,
        is_mount: None,
    };
    if let Some(volume) = value.get("volume") {
        lasting.volume = Some(volume.as_u64()?);
    }
    if let Some(born) = value.get("born_nsec") {
        lasting.born = Some(born.as_i64()?);
    }
    if let Some(is_mount) = value.get("mount") {
        lasting.is_mount = Some(is_mount.as_bool()?);
    }
    Some(lasting)
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

    fn any_lasting() -> impl Strategy<Value = Lasting> {
        let number = any::<u64>;
        let volume = proptest::option::of(number());
        let born = proptest::option::of(any::<i64>());
        let mount = proptest::option::of(any::<bool>());
        (number(), volume, number(), born, mount).prop_map(
            |(kind, volume, inode, born, is_mount)| Lasting {
                kind,
                volume,
                inode,
                born,
                is_mount,
            },
        )
    }

    fn any_known() -> impl Strategy<Value = Known> {
        let name = proptest::collection::vec(any::<u8>(), 1..8);
        let path = proptest::collection::vec(name, 1..3)
            .prop_filter_map("not a path", |names| RelPath::new(&names.join(&b'/')));
        let volume = (any_lasting(), any::<bool>());
        let volumes = proptest::collection::btree_map(path, volume, 0..4);
        let one = || proptest::option::of(any_lasting());
        (one(), one(), any::<bool>(), volumes).prop_map(|(source, target, compared, volumes)| {
            let filled = volumes.iter().filter(|(_, (_, filled))| *filled);
            Known {
                source,
                target,
                compared,
                filled: filled.map(|(path, _)| path.clone()).collect(),
                volumes: volumes
                    .into_iter()
                    .map(|(path, (volume, _))| (path, volume))
                    .collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(known in any_known()) {
            prop_assert_eq!(read(&written(&known, &key()), &key()), Ok(known));
        }

        #[test]
        fn a_torn_form_is_refused(known in any_known(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&known, &key());
            // Without the line's end it is whole.
            let cut = cut.index(bytes.len() - 1);
            prop_assert!(read(&bytes[..cut], &key()).is_err());
        }

        #[test]
        fn any_other_bytes_are_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes, &key()).is_err());
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_reason() {
        let other = Key {
            source: "/other".into(),
            ..key()
        };
        let bytes = written(&Known::default(), &key());
        assert_eq!(read(&bytes, &other), Err(Unreadable::OtherLane));
        let newer = br#"{"sersync_known":2}"#;
        assert_eq!(read(newer, &key()), Err(Unreadable::OtherVersion(2)));
        assert_eq!(read(b"<xml/>\n", &key()), Err(Unreadable::NoHead));
        let text = String::from_utf8(bytes).expect("text");
        let damaged = text.replace("\"volumes\":[]", "\"volumes\":[{}]");
        assert_eq!(
            read(damaged.as_bytes(), &key()),
            Err(Unreadable::Damaged(1))
        );
    }
}
