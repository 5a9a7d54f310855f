//! The options of `Resync` and `Verify`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use zbus::OwnedVariant;

use crate::control::{ControlError, Scope, Selection};

/// What the options of a call select. One that is not known might have narrowed it, so it is an error.
pub(super) fn selection(options: HashMap<String, OwnedVariant>) -> Result<Selection, ControlError> {
    let mut selection = Selection {
        scope: Scope::All,
        path: None,
    };
    for (option, value) in options {
        match option.as_str() {
            "path" => selection.path = Some(absolute_path(value)?),
            "remote" => selection.scope = Scope::Remote(number(value)?),
            _ => {
                return Err(invalid(format!(
                    "no option `{option}`; there are `path` and `remote`"
                )));
            }
        }
    }
    Ok(selection)
}

fn absolute_path(value: OwnedVariant) -> Result<PathBuf, ControlError> {
    let bytes = Vec::<u8>::try_from(value)
        .map_err(|_| invalid("the option `path` is an array of bytes (ay)"))?;
    let path = PathBuf::from(OsString::from_vec(bytes));
    if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(invalid(
            "the option `path` is an absolute path without NUL bytes",
        ));
    }
    Ok(path)
}

fn number(value: OwnedVariant) -> Result<u32, ControlError> {
    u32::try_from(value).map_err(|_| invalid("the option `remote` is a number (u)"))
}

fn invalid(words: impl Into<String>) -> ControlError {
    ControlError::InvalidArgument(words.into())
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn select<'a>(
        options: impl IntoIterator<Item = (&'a str, Variant<'a>)>,
    ) -> Result<Selection, ControlError> {
        let owned = |(option, value): (&str, Variant<'a>)| {
            let value = OwnedVariant::try_from(value).expect("no descriptors");
            (option.to_owned(), value)
        };
        selection(options.into_iter().map(owned).collect())
    }

    #[test]
    fn no_options_select_everything() {
        let everything = Selection {
            scope: Scope::All,
            path: None,
        };
        assert_eq!(select([]), Ok(everything));
    }

    #[test]
    fn options_narrow_to_a_path_of_any_bytes_and_a_remote() {
        let path = b"/srv/\xff".to_vec();
        let narrow = select([("path", Variant::from(path)), ("remote", 7_u32.into())]);
        let expected = Selection {
            scope: Scope::Remote(7),
            path: Some(OsString::from_vec(b"/srv/\xff".to_vec()).into()),
        };
        assert_eq!(narrow, Ok(expected));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (option, value) in [
            ("paht", Variant::from(b"/srv".to_vec())),
            ("path", Variant::from(b"srv".to_vec())),
            ("path", Variant::from(b"/srv\0".to_vec())),
            ("path", Variant::from(7_u32)),
            ("remote", Variant::from("7")),
        ] {
            let refused = select([(option, value)]);
            assert!(
                matches!(refused, Err(ControlError::InvalidArgument(_))),
                "{option}: {refused:?}"
            );
        }
    }
}
