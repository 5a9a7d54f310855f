//! The original's regular expressions (Boost's Perl syntax), written for the `regex` crate. Pure.
//!
//! What means the same in both is copied, what is written differently is rewritten, and everything else is refused:
//! an expression never comes to mean something else. The original compares bytes, and so do we: `.` is one byte, a
//! line end included.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// What cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which character of the expression, from 1.
    pub character: usize,
    /// Why, and what to write instead.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.character, self.reason)
    }
}

/// The names of character classes that both know, as in `[[:digit:]]`.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit",
];

/// The expression for the `regex` crate, to be compiled without Unicode; it matches whole texts only.
///
/// # Errors
/// The first thing that cannot be carried over as it is.
pub fn translate(expression: &str) -> Result<String, Refused> {
    let body = carried_over(expression)?;
    tried(format!(r"\A(?:{body})\z"))
}

/// The same to be found anywhere in a text.
///
/// # Errors
/// The first thing that cannot be carried over as it is.
pub fn translate_anywhere(expression: &str) -> Result<String, Refused> {
    tried(carried_over(expression)?)
}

/// As all expressions are compiled.
///
/// # Errors
/// It is none for the `regex` crate, or too large.
pub fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
}

fn carried_over(expression: &str) -> Result<String, Refused> {
    let mut translator = Translator {
        characters: expression.chars().collect(),
        at: 0,
        out: String::new(),
        last: Last::Nothing,
        open: Vec::new(),
    };
    while translator.peek(0).is_some() {
        translator.step()?;
    }
    if let Some(open) = translator.open.pop() {
        translator.at = open;
        return translator.refuse("`(` is not closed; write `\\(` for the character");
    }
    Ok(translator.out)
}

fn tried(pattern: String) -> Result<String, Refused> {
    match compile(&pattern) {
        Ok(_) => Ok(pattern),
        Err(regex::Error::CompiledTooBig(_)) => Err(Refused {
            character: 1,
            reason: "it is too large when compiled; lower the counts in braces".into(),
        }),
        Err(error) => {
            // The last line says what is wrong; those before it draw where, in a pattern that nobody wrote.
            let shown = error.to_string();
            let reason = shown.lines().last().unwrap_or_default();
            Err(Refused {
                character: 1,
                reason: reason.trim_start_matches("error: ").into(),
            })
        }
    }
}

/// What was read last: a quantifier behind it may mean different things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing that can be repeated.
    Nothing,
    Atom,
    /// A character of several bytes, of which the original would repeat the last.
    LongCharacter,
    /// `*`, `+`, `?` or braces.
    Quantifier,
    /// A quantifier with `?` behind it.
    LazyQuantifier,
}

struct Translator {
    characters: Vec<char>,
    at: usize,
    out: String,
    last: Last,
    /// Where the groups begin that are not closed yet.
    open: Vec<usize>,
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Refused> {
        Err(Refused {
            character: self.at + 1,
            reason: reason.into(),
        })
    }

    /// Copies so many characters.
    fn copy(&mut self, count: usize, last: Last) {
        self.out.extend(&self.characters[self.at..self.at + count]);
        self.at += count;
        self.last = last;
    }

    fn step(&mut self) -> Result<(), Refused> {
        let Some(c) = self.peek(0) else {
            return Ok(());
        };
        match c {
            '\\' => self.escape(),
            '[' => self.class(),
            '(' => self.open_group(),
            ')' => self.close_group(),
            '*' | '+' | '?' => self.quantifier(c),
            '{' => self.count(),
            '|' | '^' | '$' => {
                self.copy(1, Last::Nothing);
                Ok(())
            }
            _ => {
                let last = if c.is_ascii() {
                    Last::Atom
                } else {
                    Last::LongCharacter
                };
                self.copy(1, last);
                Ok(())
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refused> {
        match self.peek(1) {
            None => self.refuse("a single `\\` at the end; write `\\\\` for the character"),
            Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'a' | 'f' | 'n' | 'r' | 't') => {
                self.copy(2, Last::Atom);
                Ok(())
            }
            Some('b' | 'B' | '<' | '>' | 'A' | 'z') => {
                self.copy(2, Last::Nothing);
                Ok(())
            }
            Some('x') => self.hexadecimal(),
            Some('`' | '\'') => self.refuse(
                "the anchors \\` and \\' are not known here; an expression always matches from the beginning to the end",
            ),
            Some(c) if c.is_ascii_punctuation() || c == ' ' => {
                self.out.push_str(&literal(c as u8));
                self.at += 2;
                self.last = Last::Atom;
                Ok(())
            }
            Some('0'..='9') => self.refuse("references to groups cannot be carried over"),
            Some(c) => self.refuse(format!("`\\{c}` cannot be carried over")),
        }
    }

    /// `\x41` and `\x{41}`: one byte.
    fn hexadecimal(&mut self) -> Result<(), Refused> {
        let digits: String = if self.peek(2) == Some('{') {
            let rest = self.characters[self.at + 3..].iter();
            rest.take_while(|c| **c != '}').collect()
        } else {
            let rest = self.characters[self.at + 2..].iter();
            rest.take(2).collect()
        };
        let is_valid = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
        let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| is_valid);
        let length = if self.peek(2) == Some('{') {
            digits.chars().count() + 4
        } else {
            4
        };
        match byte {
            Some(byte)
                if self.at + length <= self.characters.len()
                    && (length > 4 || digits.len() == 2) =>
            {
                self.out.push_str(&literal(byte));
                self.at += length;
                self.last = Last::Atom;
                Ok(())
            }
            _ => self.refuse("write a byte as `\\x` with two hexadecimal digits"),
        }
    }

    fn open_group(&mut self) -> Result<(), Refused> {
        if self.peek(1) != Some('?') {
            if self.peek(1) == Some('*') {
                return self.refuse("verbs such as `(*…)` cannot be carried over");
            }
            self.open.push(self.at);
            self.copy(1, Last::Nothing);
            return Ok(());
        }
        let heads = ["(?:", "(?i:", "(?-i:", "(?i)", "(?-i)"];
        if let Some(head) = heads.iter().find(|head| self.looking_at(head)) {
            if !head.ends_with(')') {
                self.open.push(self.at);
            }
            self.copy(head.chars().count(), Last::Nothing);
            return Ok(());
        }
        let assertion = ["(?=", "(?!", "(?<=", "(?<!"];
        if assertion.iter().any(|head| self.looking_at(head)) {
            return self.refuse(
                "looking ahead or behind cannot be carried over; say what is excluded, in several expressions if need be",
            );
        }
        self.refuse(
            "this kind of group cannot be carried over; known are `(…)`, `(?:…)` and `(?i)`",
        )
    }

    fn close_group(&mut self) -> Result<(), Refused> {
        if self.open.pop().is_none() {
            return self.refuse("`)` closes nothing; write `\\)` for the character");
        }
        self.copy(1, Last::Atom);
        Ok(())
    }

    fn quantifier(&mut self, c: char) -> Result<(), Refused> {
        match (self.last, c) {
            (Last::Nothing, _) => self.refuse(format!(
                "nothing stands before `{c}` that could be repeated; this is no pattern of a shell: write `(.*)\\.php` for `*.php`"
            )),
            (Last::LongCharacter, _) => self.refuse(format!(
                "`{c}` would repeat the last byte of the character before it; put the character in round brackets"
            )),
            (Last::Quantifier, '+') => {
                self.refuse("repetition without going back (`*+`, `++`, `?+`) cannot be carried over")
            }
            (Last::Quantifier, '?') => {
                self.copy(1, Last::LazyQuantifier);
                Ok(())
            }
            (Last::Quantifier | Last::LazyQuantifier, _) => {
                self.refuse(format!("`{c}` repeats a repetition; put that in round brackets"))
            }
            (Last::Atom, _) => {
                self.copy(1, Last::Quantifier);
                Ok(())
            }
        }
    }

    /// `{2}`, `{2,}` or `{2,5}`.
    fn count(&mut self) -> Result<(), Refused> {
        let inner: String = self.characters[self.at + 1..]
            .iter()
            .take_while(|c| **c != '}')
            .collect();
        let (least, most) = inner.split_once(',').unwrap_or((&inner, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let length = inner.chars().count() + 2;
        if !is_number(least)
            || !(most.is_empty() || is_number(most))
            || self.at + length > self.characters.len()
        {
            return self
                .refuse("write a count as `{2}`, `{2,}` or `{2,5}`, and the character as `\\{`");
        }
        if self.last != Last::Atom {
            // Says why in the same words as for the other quantifiers.
            return self.quantifier('{');
        }
        self.copy(length, Last::Quantifier);
        Ok(())
    }

    /// Written anew, since `[`, `&&`, `--` and `~~` inside have a meaning of their own in the `regex` crate.
    fn class(&mut self) -> Result<(), Refused> {
        let start = self.at;
        self.at += 1;
        self.out.push('[');
        if self.peek(0) == Some('^') {
            self.out.push('^');
            self.at += 1;
        }
        let mut is_first = true;
        loop {
            match self.peek(0) {
                None => {
                    self.at = start;
                    return self.refuse("`[` is not closed; write `\\[` for the character");
                }
                Some(']') if !is_first => break,
                Some('[') if matches!(self.peek(1), Some(':' | '.' | '=')) => self.named_class()?,
                Some('\\') if matches!(self.peek(1), Some('d' | 'D' | 'w' | 'W' | 's' | 'S')) => {
                    self.copy(2, Last::Nothing);
                }
                Some(_) => self.range()?,
            }
            is_first = false;
        }
        self.at += 1;
        self.out.push(']');
        self.last = Last::Atom;
        Ok(())
    }

    /// `[:digit:]` within a class.
    fn named_class(&mut self) -> Result<(), Refused> {
        let rest: String = self.characters[self.at..].iter().collect();
        let name = rest
            .strip_prefix("[:")
            .and_then(|rest| rest.split_once(":]"))
            .map(|(name, _)| name);
        let Some(name) = name else {
            return self.refuse("`[.` and `[=` in a class cannot be carried over; write `\\[`");
        };
        let positive = name.strip_prefix('^').unwrap_or(name);
        if !CLASSES.contains(&positive) {
            return self.refuse(format!("there is no class `[:{name}:]` here"));
        }
        self.copy(name.chars().count() + 4, Last::Nothing);
        Ok(())
    }

    /// One byte of a class, or two with a hyphen between.
    fn range(&mut self) -> Result<(), Refused> {
        let first = self.class_byte()?;
        self.out.push_str(&literal(first));
        if self.peek(0) == Some('-') && self.peek(1).is_some_and(|next| next != ']') {
            self.at += 1;
            if self.peek(0) == Some('[')
                || self.looking_at("\\d")
                || self.looking_at("\\w")
                || self.looking_at("\\s")
            {
                return self.refuse(
                    "a range in a class ends with a character; write `\\-` for the hyphen",
                );
            }
            let last = self.class_byte()?;
            if last < first {
                return self.refuse("this range in a class runs backwards");
            }
            self.out.push('-');
            self.out.push_str(&literal(last));
        }
        Ok(())
    }

    fn class_byte(&mut self) -> Result<u8, Refused> {
        let (byte, length) = match (self.peek(0), self.peek(1)) {
            (Some('\\'), Some('n')) => (b'\n', 2),
            (Some('\\'), Some('t')) => (b'\t', 2),
            (Some('\\'), Some('r')) => (b'\r', 2),
            (Some('\\'), Some('f')) => (0x0C, 2),
            (Some('\\'), Some('a')) => (0x07, 2),
            (Some('\\'), Some(c)) if c.is_ascii_punctuation() || c == ' ' => (c as u8, 2),
            (Some('\\'), _) => {
                return self.refuse("this escape in a class cannot be carried over");
            }
            (Some(c), _) if c.is_ascii() => (c as u8, 1),
            _ => {
                return self.refuse(
                    "the original takes a class for single bytes, which no such character is; write `(ä|ö)` for `[äö]`",
                );
            }
        };
        self.at += length;
        Ok(byte)
    }
}

/// A byte that stands for itself.
fn literal(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() {
        char::from(byte).to_string()
    } else {
        format!("\\x{byte:02X}")
    }
}
