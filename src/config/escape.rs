//! Names for human eyes: bytes that are not UTF-8 and control characters are escaped, so that one line stays one line.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Displays bytes as text; what is no printable UTF-8 becomes `\xNN`, a backslash `\\`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Escaped<'a>(&'a [u8]);

impl<'a> Escaped<'a> {
    pub(super) fn path(path: &'a Path) -> Self {
        Self(path.as_os_str().as_bytes())
    }

    pub(super) fn text(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() => {
                        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_one_unambiguous_line() {
        let path = Path::new(OsStr::from_bytes(b"/d/\xe5\x9b\xbe\xff\n\\x"));
        assert_eq!(Escaped::path(path).to_string(), r"/d/图\xff\x0a\\x");
    }
}
