//! rsync's patterns, as `--exclude` and `--include` take them, written for the `regex` crate. Pure.
//!
//! A pattern is compared with `/dir/name`, the path below the source with a slash before it. Without a slash in it, or
//! `**`, it stands for a name; else for the end of a path, or from its beginning if it begins with a slash. A slash at
//! its end has it mean directories alone. `*` and `?` do not match a slash, `**` does, and `dir/***` means a directory
//! with all that is in it. Only in a pattern with `*`, `?` or `[` does a backslash take the next byte for itself.

use std::fmt::Write as _;

use super::dialect::Refused;

/// A pattern, to be compiled without Unicode and with `.` for every byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The expression for `/dir/name`.
    pub regex: String,
    /// It means directories and nothing else.
    pub directories_alone: bool,
    /// It is compared with `/dir/name/` as well, if that is a directory.
    pub with_slash_behind: bool,
}

/// Reads a pattern.
///
/// # Errors
/// What would never match anything, as rsync reads it, and what is no pattern.
pub fn translate(pattern: &[u8]) -> Result<Pattern, Refused> {
    if pattern == b"!" {
        return refuse(0, "it would clear all rules before it; remove it");
    }
    for (head, instead) in [(b"+ ", "include"), (b"- ", "exclude")] {
        if pattern.starts_with(head) {
            return refuse(0, format!("say `{instead}` by the name of the element"));
        }
    }
    let (body, directories_alone) = match pattern.strip_suffix(b"/") {
        Some(body) if !body.is_empty() => (body, true),
        _ => (pattern, false),
    };
    let rest = body.strip_prefix(b"/");
    if rest.unwrap_or(body).is_empty() {
        return refuse(0, "it names nothing; the source itself is always mirrored");
    }
    let is_wild = body.iter().any(|byte| b"*?[".contains(byte));
    let crosses_slashes = body.windows(2).any(|pair| pair == b"**");
    let from = match rest {
        Some(_) => r"\A/",
        None if body.starts_with(b"**") => r"\A",
        None => "/",
    };
    let mut reader = Reader {
        bytes: rest.unwrap_or(body),
        offset: usize::from(rest.is_some()),
        at: 0,
        out: String::from(from),
    };
    if is_wild {
        reader.wild()?;
    } else {
        reader
            .out
            .extend(reader.bytes.iter().map(|byte| literal(*byte)));
    }
    Ok(Pattern {
        regex: reader.out + r"\z",
        directories_alone,
        with_slash_behind: crosses_slashes && body.ends_with(b"***"),
    })
}

fn refuse<T>(at: usize, reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        character: at + 1,
        reason: reason.into(),
    })
}

/// A byte that stands for itself.
fn literal(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() {
        char::from(byte).to_string()
    } else {
        format!("\\x{byte:02x}")
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Of the pattern, before `bytes`.
    offset: usize,
    at: usize,
    out: String,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn refuse<T>(&self, at: usize, reason: &str) -> Result<T, Refused> {
        refuse(self.offset + at, reason)
    }

    fn wild(&mut self) -> Result<(), Refused> {
        while let Some(byte) = self.next() {
            match byte {
                b'*' if self.peek() == Some(b'*') => {
                    while self.peek() == Some(b'*') {
                        self.at += 1;
                    }
                    self.out.push_str(".*");
                }
                b'*' => self.out.push_str("[^/]*"),
                b'?' => self.out.push_str("[^/]"),
                b'[' => self.class()?,
                b'\\' => {
                    let Some(byte) = self.next() else {
                        let why = "a single `\\` at the end matches nothing; write `\\\\` for the character";
                        return self.refuse(self.at - 1, why);
                    };
                    self.out.push_str(&literal(byte));
                }
                byte => self.out.push_str(&literal(byte)),
            }
        }
        Ok(())
    }

    /// What stands in square brackets: one byte out of some, and never a slash.
    fn class(&mut self) -> Result<(), Refused> {
        const SLASH: &str = "a `/` is matched by no class; remove it there";
        const OPEN: &str =
            "`[` is not closed, so it would match nothing; write `\\[` for the character";
        let start = self.at - 1;
        let is_negated = matches!(self.peek(), Some(b'!' | b'^'));
        self.at += usize::from(is_negated);
        let mut is_in = [false; 256];
        let mut before = None;
        let mut is_first = true;
        loop {
            let Some(mut byte) = self.next() else {
                return self.refuse(start, OPEN);
            };
            if byte == b']' && !is_first {
                break;
            }
            is_first = false;
            if byte == b'/' {
                return self.refuse(self.at - 1, SLASH);
            }
            if byte == b'[' && self.peek() == Some(b':') {
                if self.named_class(&mut is_in)? {
                    before = None;
                    continue;
                }
            } else if byte == b'-'
                && let Some(first) = before
                && self.peek().is_some_and(|next| next != b']')
            {
                let mut last = self.next();
                if last == Some(b'\\') {
                    last = self.next();
                }
                match last {
                    None => return self.refuse(start, OPEN),
                    Some(b'/') => {
                        let at = self.at - 1;
                        return self.refuse(at, SLASH);
                    }
                    Some(last) => (first..=last).for_each(|byte| is_in[usize::from(byte)] = true),
                }
                before = None;
                continue;
            } else if byte == b'\\' {
                match self.next() {
                    Some(b'/') => {
                        let at = self.at - 1;
                        return self.refuse(at, SLASH);
                    }
                    Some(next) => byte = next,
                    None => return self.refuse(start, OPEN),
                }
            }
            is_in[usize::from(byte)] = true;
            before = Some(byte);
        }
        self.out.push_str(&one_of(&is_in, is_negated));
        Ok(())
    }

    /// `[:digit:]`; `false` if it is none of these, and the bracket stands for itself.
    fn named_class(&mut self, is_in: &mut [bool; 256]) -> Result<bool, Refused> {
        let rest = &self.bytes[self.at + 1..];
        let Some(end) = rest.iter().position(|byte| *byte == b']') else {
            return self.refuse(self.at - 1, "this class is not closed");
        };
        let Some(name) = rest[..end].strip_suffix(b":") else {
            return Ok(false);
        };
        let belongs: fn(u8) -> bool = match name {
            b"alnum" => |byte| byte.is_ascii_alphanumeric(),
            b"alpha" => |byte| byte.is_ascii_alphabetic(),
            b"blank" => |byte| matches!(byte, b' ' | b'\t'),
            b"cntrl" => |byte| byte.is_ascii_control(),
            b"digit" => |byte| byte.is_ascii_digit(),
            b"graph" => |byte| byte.is_ascii_graphic(),
            b"lower" => |byte| byte.is_ascii_lowercase(),
            b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
            b"punct" => |byte| byte.is_ascii_punctuation(),
            b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
            b"upper" => |byte| byte.is_ascii_uppercase(),
            b"xdigit" => |byte| byte.is_ascii_hexdigit(),
            _ => return self.refuse(self.at - 1, "there is no class of this name"),
        };
        (0..=u8::MAX)
            .filter(|byte| belongs(*byte))
            .for_each(|byte| is_in[usize::from(byte)] = true);
        self.at += 1 + end + 1;
        Ok(true)
    }
}

/// The class of the bytes that are in, or are not.
fn one_of(is_in: &[bool; 256], is_negated: bool) -> String {
    let members =
        (0..=u8::MAX).filter(|byte| *byte != b'/' && is_in[usize::from(*byte)] != is_negated);
    let mut class = String::from("[");
    for byte in members {
        // A String takes everything.
        let _ = write!(class, "\\x{byte:02x}");
    }
    if class.len() == 1 {
        // Matches nothing.
        return r"[^\x00-\xff]".into();
    }
    class.push(']');
    class
}
