//! From the bytes of a configuration file to text.
//!
//! Nearly every `confxml.xml` says `encoding="ISO-8859-1"`, because the stock file does, and nearly every one with
//! Chinese names in it is UTF-8 all the same. So the bytes have the first word, the declaration only the second.
//!
//! One case is the other way round. Some GBK words are valid UTF-8 by accident: the four bytes of 图片, a likely name
//! for a directory, read as two Cyrillic-looking characters. Nobody writes `encoding="GBK"` without a reason, and
//! Chinese in UTF-8 has characters far beyond U+07FF; where a multi-byte encoding is declared and none is there, the
//! declaration wins.

use encoding_rs::{Encoding, UTF_8};

use super::problem::{At, Cursor, Position};

/// How much of the file is searched for its XML declaration.
const DECLARATION_BYTES: usize = 256;

/// The text of a file, without byte order mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// What the user should know about it.
    pub(super) warning: Option<String>,
    /// Whether the bytes were not UTF-8. File names in it are then other bytes than the file shows.
    pub(super) converted: bool,
}

/// A file that is no text in any encoding we were told of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DecodeError {
    pub(super) position: Position,
    pub(super) text: String,
}

/// Decodes the bytes of a configuration file.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Decoded, DecodeError> {
    if let Some((encoding, bom_length)) = Encoding::for_bom(&bytes)
        && encoding != UTF_8
    {
        return convert(&bytes[bom_length..], encoding, "its byte order mark");
    }
    let label = declared_label(&bytes);
    match String::from_utf8(bytes) {
        Ok(text) => match label
            .as_deref()
            .and_then(|label| Some((better_than_utf8(&text, label)?, label)))
        {
            Some((encoding, label)) => convert(text.as_bytes(), encoding, &by_label(label)),
            None => Ok(decoded_utf8(text, label.as_deref())),
        },
        Err(error) => {
            let bad_at = error.utf8_error().valid_up_to();
            convert_as_declared(&error.into_bytes(), bad_at, label.as_deref())
        }
    }
}

/// The declared encoding of a text that is UTF-8 only by accident.
fn better_than_utf8(text: &str, label: &str) -> Option<&'static Encoding> {
    /// The last character that UTF-8 writes with two bytes.
    const LAST_OF_TWO_BYTES: char = '\u{7ff}';
    let encoding = Encoding::for_label(label.as_bytes())?;
    let is_multi_byte =
        encoding != UTF_8 && encoding.is_ascii_compatible() && !encoding.is_single_byte();
    let has_no_bom = !text.starts_with('\u{feff}');
    let by_accident = !text.is_ascii() && text.chars().all(|c| c <= LAST_OF_TWO_BYTES);
    (is_multi_byte && has_no_bom && by_accident).then_some(encoding)
}

fn decoded_utf8(text: String, label: Option<&str>) -> Decoded {
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    let false_label = label
        .filter(|label| !text.is_ascii() && Encoding::for_label(label.as_bytes()) != Some(UTF_8));
    let warning = false_label.map(|label| {
        format!("the file says encoding=\"{label}\", but it is UTF-8 and read as that; write encoding=\"UTF-8\"")
    });
    Decoded {
        text,
        warning,
        converted: false,
    }
}

fn convert_as_declared(
    bytes: &[u8],
    bad_at: usize,
    label: Option<&str>,
) -> Result<Decoded, DecodeError> {
    let valid = String::from_utf8_lossy(&bytes[..bad_at]);
    let refuse = |text| DecodeError {
        position: Cursor::new(&valid).advance_to(At(valid.len())),
        text,
    };
    let bad_byte = bytes[bad_at];
    let Some(label) = label else {
        return Err(refuse(format!(
            "byte 0x{bad_byte:02X} is not UTF-8; save the file as UTF-8, or name its encoding in the first line: <?xml version=\"1.0\" encoding=\"GBK\"?>"
        )));
    };
    match Encoding::for_label(label.as_bytes()) {
        None => Err(refuse(format!(
            "byte 0x{bad_byte:02X} is not UTF-8, and encoding=\"{label}\" is not known; save the file as UTF-8"
        ))),
        Some(encoding) if encoding == UTF_8 => Err(refuse(format!(
            "byte 0x{bad_byte:02X} is not UTF-8, though the file says so; save it as UTF-8, or name its real encoding, for instance encoding=\"GBK\""
        ))),
        Some(encoding) => convert(bytes, encoding, &by_label(label)),
    }
}

fn convert(
    bytes: &[u8],
    encoding: &'static Encoding,
    reason: &str,
) -> Result<Decoded, DecodeError> {
    let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes) else {
        return Err(DecodeError {
            position: Position { line: 1, column: 1 },
            text: format!("the file is neither UTF-8 nor what {reason} says; save it as UTF-8"),
        });
    };
    Ok(Decoded {
        text: text.into_owned(),
        warning: Some(format!(
            "the file is not UTF-8 and read as {} because of {reason}; better save it as UTF-8",
            encoding.name()
        )),
        converted: true,
    })
}

fn by_label(label: &str) -> String {
    format!("encoding=\"{label}\"")
}

/// The value of `encoding` in the XML declaration.
fn declared_label(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(DECLARATION_BYTES)]);
    let declaration = head.trim_start_matches('\u{feff}').trim_start();
    let declaration = declaration.strip_prefix("<?xml")?;
    let (declaration, _) = declaration.split_once("?>")?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (label, _) = value[1..].split_once(quote)?;
    // Names of encodings are plain; anything else would only garble messages.
    label
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
        .then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_label(label: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = format!("<?xml version=\"1.0\" encoding='{label}'?>\n").into_bytes();
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn plain_ascii_needs_no_warning_whatever_it_says() {
        let decoded = decode(with_label("ISO-8859-1", b"<head/>")).unwrap();
        assert_eq!(decoded.warning, None);
        assert!(!decoded.converted);
    }

    #[test]
    fn utf8_wins_over_a_false_label() {
        let decoded = decode(with_label("ISO-8859-1", "图片".as_bytes())).unwrap();
        assert!(decoded.text.ends_with("图片"));
        assert!(decoded.warning.unwrap().contains("ISO-8859-1"));
        assert!(!decoded.converted);
    }

    #[test]
    fn gbk_and_latin1_are_read_by_their_label() {
        let gbk = decode(with_label("GB2312", b"\xca\xfd\xbe\xdd")).unwrap();
        assert!(gbk.text.ends_with("数据") && gbk.converted);
        let latin1 = decode(with_label("ISO-8859-1", b"caf\xe9")).unwrap();
        assert!(latin1.text.ends_with("café") && latin1.converted);
    }

    #[test]
    fn a_gbk_word_that_is_utf8_by_accident_is_read_by_its_label() {
        let pictures = b"\xcd\xbc\xc6\xac";
        assert!(std::str::from_utf8(pictures).is_ok());
        let labelled = decode(with_label("GBK", pictures)).unwrap();
        assert!(labelled.text.ends_with("图片") && labelled.converted);
        let falsely_labelled = decode(with_label("GBK", "图片".as_bytes())).unwrap();
        assert!(falsely_labelled.text.ends_with("图片") && !falsely_labelled.converted);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(decode(b"\xef\xbb\xbf<a/>".to_vec()).unwrap().text, "<a/>");
        let utf16: Vec<u8> = b"\xff\xfe<\0a\0/\0>\0".to_vec();
        assert_eq!(decode(utf16).unwrap().text, "<a/>");
    }

    #[test]
    fn a_byte_that_fits_nothing_is_shown_with_its_place() {
        let error = decode(b"<a>\n\xca\xfd".to_vec()).unwrap_err();
        assert_eq!(error.position, Position { line: 2, column: 1 });
        assert!(error.text.starts_with("byte 0xCA is not UTF-8"));
        assert!(decode(with_label("UTF-8", b"\xff")).is_err());
        assert!(decode(with_label("KLINGON", b"\xff")).is_err());
        assert!(decode(with_label("GBK", b"\xff")).is_err());
    }
}
