//! Filter rules for names as they are: anchored at the root of the transfer, with nothing in them that stands for
//! anything else. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::path::RelPath;

/// What is not named by a rule before this one stays at the receiver.
pub const PROTECT_THE_REST: &str = "--filter=P *";

/// Nothing in the root is touched.
pub const THE_ROOT_ALONE: &str = "--filter=- /*";

/// What is no directory is left out.
pub const DIRECTORIES_ALONE: &str = "--filter=-! */";

/// What a rule does with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// As if it were at neither side.
    Exclude,
    /// As if it were not at the source.
    Hide,
    /// As it is at the source, whatever hides it after this.
    Show,
    /// It may be removed at the receiver.
    Risk,
    /// It may not be removed at the receiver.
    Protect,
}

/// The option that says so of an entry; of a directory, if it is to be none other.
#[must_use]
pub fn rule(effect: Effect, path: &RelPath, directories_alone: bool) -> OsString {
    written(effect, path, if directories_alone { "/" } else { "" })
}

/// The option that says so of everything below a directory.
#[must_use]
pub fn rule_below(effect: Effect, path: &RelPath) -> OsString {
    written(effect, path, "/**")
}

fn written(effect: Effect, path: &RelPath, end: &str) -> OsString {
    let letter = match effect {
        Effect::Exclude => '-',
        Effect::Hide => 'H',
        Effect::Show => 'S',
        Effect::Risk => 'R',
        Effect::Protect => 'P',
    };
    let mut option = format!("--filter={letter} /").into_bytes();
    let name = path.as_bytes();
    // Only in a pattern with one of these is the backslash anything but itself.
    let is_wild = name
        .iter()
        .chain(end.as_bytes())
        .any(|byte| b"*?[".contains(byte));
    for byte in name {
        if is_wild && b"*?[\\".contains(byte) {
            option.push(b'\\');
        }
        option.push(*byte);
    }
    option.extend_from_slice(end.as_bytes());
    OsString::from_vec(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_itself_whatever_it_holds() {
        let shown = |name: &str, alone| {
            let path = RelPath::new(name.as_bytes()).expect("a valid path");
            rule(Effect::Risk, &path, alone)
                .into_string()
                .expect("text")
        };
        assert_eq!(shown("a/b c", false), "--filter=R /a/b c");
        assert_eq!(shown("a\\b", false), "--filter=R /a\\b");
        assert_eq!(shown("a\\*[x]?", true), "--filter=R /a\\\\\\*\\[x]\\?/");
        let path = RelPath::new(b"a\\b").expect("a valid path");
        let below = rule_below(Effect::Protect, &path);
        assert_eq!(below, "--filter=P /a\\\\b/**");
        let path = RelPath::new(b"a\\b*").expect("a valid path");
        assert_eq!(
            rule_below(Effect::Exclude, &path),
            "--filter=- /a\\\\b\\*/**"
        );
    }
}
