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
    use proptest::prelude::*;
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

    /// Values of many types.
    fn a_value() -> impl Strategy<Value = OwnedVariant> {
        let owned = |value: Variant<'_>| OwnedVariant::try_from(value).expect("no descriptors");
        prop_oneof![
            any::<u32>().prop_map(move |value| owned(value.into())),
            any::<i64>().prop_map(move |value| owned(value.into())),
            any::<bool>().prop_map(move |value| owned(value.into())),
            ".{0,9}".prop_map(move |value| owned(Variant::from(value))),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(move |value| owned(value.into())),
            proptest::collection::vec(any::<u32>(), 0..9)
                .prop_map(move |value| owned(value.into())),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_it_is_a_path_of_the_root_or_refused(
            options in proptest::collection::hash_map(
                prop_oneof![Just("path".to_owned()), Just("remote".to_owned()), ".{0,5}"], a_value(), 0..4
            )
        ) {
            let count = options.len();
            if let Ok(Selection { scope, path }) = selection(options) {
                let named = usize::from(scope != Scope::All) + usize::from(path.is_some());
                prop_assert_eq!(named, count, "an option was passed over");
                prop_assert!(path.is_none_or(|path| path.is_absolute()));
            }
        }
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
