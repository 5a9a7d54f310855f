//! The values of single attributes: switches, numbers, paths, names.
//!
//! Each parser returns what is wrong as the rest of a sentence that begins with the name of the attribute, for
//! instance "must be an absolute path, not `data`; write `/data`".

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::escape::Escaped;
use super::problem::{At, Problems};
use super::quote;
use super::xml::{Attribute, SwitchXml};

const MINUTES_PER_YEAR: u64 = 365 * 24 * 60;
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

impl Problems<'_> {
    /// The value of an attribute that is there.
    pub(super) fn value<T>(
        &mut self,
        attribute: &Attribute,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&attribute.value) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.error(attribute.at, format!("`{}` {reason}", attribute.name));
                None
            }
        }
    }

    /// The value of the attribute `name`, which the element at `at` must have, for instance `example`.
    ///
    /// In an element that is switched off it may be missing or empty.
    pub(super) fn required<T>(
        &mut self,
        at: At,
        name: &str,
        attribute: Option<&Attribute>,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.is_switched_off() && attribute.is_none_or(|attribute| attribute.value.is_empty()) {
            return None;
        }
        if attribute.is_none() {
            self.error(
                at,
                format!("missing attribute `{name}`; write {name}=\"{example}\""),
            );
        }
        self.value(attribute?, parse)
    }

    /// `start="true"` or `start="false"`; what is wrong counts as off.
    pub(super) fn start(&mut self, switch: &SwitchXml) -> bool {
        let Some(start) = &switch.start else {
            self.error(
                switch.at,
                "missing attribute `start`; write start=\"true\" or start=\"false\"",
            );
            return false;
        };
        self.value(start, boolean).unwrap_or(false)
    }
}

/// `true` or `false`, and no other word: the original takes every other word for `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("must be `true` or `false`, not {}", quote(text))),
    }
}

/// A TCP port.
pub(super) fn port(text: &str) -> Result<u16, String> {
    number(text, 1, u64::from(u16::MAX), "a port number").map(|number| number as u16)
}

/// A period that the file gives in minutes.
pub(super) fn minutes(text: &str) -> Result<Duration, String> {
    number(text, 1, MINUTES_PER_YEAR, "a number of minutes")
        .map(|minutes| Duration::from_secs(minutes * 60))
}

/// A time-out that the file gives in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 1, SECONDS_PER_DAY, "a number of seconds").map(Duration::from_secs)
}

/// How many of something, or none.
pub(super) fn count(text: &str) -> Result<u64, String> {
    number(text, 0, u64::from(u32::MAX), "a number")
}

fn number(text: &str, min: u64, max: u64, what: &str) -> Result<u64, String> {
    // `u64::from_str` also takes a leading `+`.
    let number = text.trim().parse().ok().filter(|_| !text.contains('+'));
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("must be {what} from {min} to {max}, not {}", quote(text)))
}

/// Any text but an empty one.
pub(super) fn text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    text_or_empty(text)
}

/// Any text.
pub(super) fn text_or_empty(text: &str) -> Result<String, String> {
    refuse_control_characters(text)?;
    Ok(text.to_owned())
}

/// An absolute path as a configuration file has it.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    refuse_control_characters(text)?;
    absolute_path(Path::new(text))
}

/// The absolute path of a directory at a receiver over ssh, as a configuration file has it.
pub(super) fn path_over_ssh(text: &str) -> Result<PathBuf, String> {
    refuse_control_characters(text)?;
    any_path_over_ssh(text)
}

/// As before, also with control characters.
pub(super) fn any_path_over_ssh(text: &str) -> Result<PathBuf, String> {
    if text.contains(['*', '?', '[', ']']) {
        return Err(format!(
            "must not hold wildcards, which the receiver would expand: {}",
            quote(text)
        ));
    }
    absolute_path(Path::new(text))
}

/// An absolute path without `.`, `..`, doubled and trailing slashes.
pub(super) fn absolute_path(path: &Path) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err("is empty; write an absolute path such as `/data`".to_owned());
    }
    if bytes[0] != b'/' {
        let shown = Escaped::path(path).to_string();
        return Err(format!(
            "must be an absolute path, not `{shown}`; write `/{}`",
            shown.trim_start().trim_start_matches("./")
        ));
    }
    let mut normal = Vec::with_capacity(bytes.len());
    for component in components(bytes) {
        let component = component.map_err(|dots| {
            format!(
                "must not hold `{dots}`, in `{}`; write the path it leads to",
                Escaped::path(path)
            )
        })?;
        normal.push(b'/');
        normal.extend_from_slice(component);
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    Ok(OsString::from_vec(normal).into())
}

/// A module of an rsync daemon, or a path below one: `backup`, `backup/www`.
pub(super) fn module(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; write the name of the rsync daemon's module".to_owned());
    }
    refuse_control_characters(text)?;
    if text.starts_with('/') {
        return Err(format!(
            "must begin with the name of a module, not with `/`: {}; a path needs <ssh start=\"true\"/>, a directory of this machine <remote path=\"/…\"/>",
            quote(text)
        ));
    }
    if text.contains(['*', '?', '[', ']']) {
        return Err(format!(
            "must not hold wildcards, which the daemon would expand: {}",
            quote(text)
        ));
    }
    let components: Result<Vec<&str>, &str> = components(text.as_bytes())
        .map(|component| {
            component.map(|component| std::str::from_utf8(component).unwrap_or_default())
        })
        .collect();
    match components {
        Ok(components) => Ok(components.join("/")),
        Err(dots) => Err(format!("must not hold `{dots}`, in {}", quote(text))),
    }
}

/// The names between slashes; `Err` is a `.` or `..`.
fn components(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    bytes
        .split(|byte| *byte == b'/')
        .filter(|component| !component.is_empty())
        .map(|component| match component {
            b"." => Err("."),
            b".." => Err(".."),
            component => Ok(component),
        })
}

pub(super) fn refuse_control_characters(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("holds a control character: {}", quote(text)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn only_true_and_false_are_switches() {
        assert_eq!(boolean("true"), Ok(true));
        assert_eq!(boolean("false"), Ok(false));
        for word in ["True", "yes", "1", "", "start", " true"] {
            assert!(boolean(word).is_err(), "{word}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        assert_eq!(port("873"), Ok(873));
        assert_eq!(port(" 65535 "), Ok(65535));
        for word in [
            "0",
            "65536",
            "-1",
            "+1",
            "",
            "8x",
            "99999999999999999999999",
        ] {
            assert!(port(word).is_err(), "{word}");
        }
        assert_eq!(minutes("60"), Ok(Duration::from_secs(3600)));
        assert!(seconds("0").is_err());
    }

    #[test]
    fn a_path_loses_its_surplus_slashes_and_nothing_else() {
        assert_eq!(path("/data/"), Ok("/data".into()));
        assert_eq!(path("//data///www//"), Ok("/data/www".into()));
        assert_eq!(path("/"), Ok("/".into()));
        assert_eq!(path("/a b/.hidden/..."), Ok("/a b/.hidden/...".into()));
        let bytes = Path::new(OsStr::from_bytes(b"/\xff/"));
        assert_eq!(
            absolute_path(bytes),
            Ok(Path::new(OsStr::from_bytes(b"/\xff")).into())
        );
    }

    #[test]
    fn a_path_that_can_mean_two_things_is_refused() {
        for word in [
            "",
            "data",
            "./data",
            "/data/../etc",
            "/data/.",
            "/da\nta",
            "/da\0ta",
        ] {
            assert!(path(word).is_err(), "{word:?}");
        }
        assert_eq!(
            path("data").unwrap_err(),
            "must be an absolute path, not `data`; write `/data`"
        );
    }

    #[test]
    fn a_module_may_have_a_path_behind_it() {
        assert_eq!(module("nfsbackup"), Ok("nfsbackup".to_owned()));
        assert_eq!(module("backup//www/"), Ok("backup/www".to_owned()));
        for word in ["", "/backup", "backup/..", "./backup", "b*", "b\nx"] {
            assert!(module(word).is_err(), "{word:?}");
        }
    }
}
