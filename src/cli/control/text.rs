//! Text for a terminal: nothing in it can move the cursor, lines are wrapped, times are relative.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Where the values of a list of entries begin, counted from the list's indentation.
const LABEL: usize = 14;

/// A file name on one line, without doubt: what is no printable UTF-8 becomes `\xNN`, and a backslash `\\`.
pub(in crate::cli) fn name(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => safe.push_str("\\\\"),
                c if is_hidden(c) => push_bytes(&mut safe, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => safe.push(c),
            }
        }
        push_bytes(&mut safe, chunk.invalid());
    }
    safe
}

/// Somebody else's sentence on one line.
pub(in crate::cli) fn sentence(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\t' => safe.push(' '),
            c if is_hidden(c) => push_bytes(&mut safe, c.encode_utf8(&mut [0; 4]).as_bytes()),
            c => safe.push(c),
        }
    }
    safe
}

fn push_bytes(safe: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(safe, "\\x{byte:02x}");
    }
}

/// Control characters, and those that are not seen but change how others are: direction, joining, line ends.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Appends `label` and `text`, which goes on below its own beginning. A word that is longer than a line stays whole, so
/// that it can be copied.
pub(super) fn entry(into: &mut String, indent: usize, label: &str, text: &str, width: usize) {
    let margin = indent + LABEL;
    let head = format!("{:indent$}{label:<LABEL$}", "");
    wrapped(into, &head, margin, text, width);
}

/// Appends `head` and `text`, which goes on `margin` columns from the left.
pub(super) fn wrapped(into: &mut String, head: &str, margin: usize, text: &str, width: usize) {
    let mut line = head.to_owned();
    let mut is_empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            into.push_str(&line);
            into.push('\n');
            line = " ".repeat(margin);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    into.push_str(line.trim_end());
    into.push('\n');
}

/// `3 s ago`.
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(since) if since >= Duration::from_secs(1) => format!("{} ago", span(since)),
        _ => "just now".into(),
    }
}

/// `in 12 s`.
pub(super) fn ahead(then: SystemTime, now: SystemTime) -> String {
    match then.duration_since(now) {
        Ok(until) if until >= Duration::from_secs(1) => format!("in {}", span(until)),
        _ => "now".into(),
    }
}

/// Without fractions, in the largest unit that leaves at least two of it, or in seconds.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `1 path`, `2 paths`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(name(b"a\x1b[2J\n\xffb\\"), r"a\x1b[2J\x0a\xffb\\");
        assert_eq!(name("图 é".as_bytes()), "图 é");
        assert_eq!(name("gpj.\u{202e}exe".as_bytes()), r"gpj.\xe2\x80\xaeexe");
    }

    #[test]
    fn a_sentence_stays_one_line() {
        assert_eq!(sentence(" two\nlines\x07 C:\\ \n"), r"two lines\x07 C:\");
    }

    #[test]
    fn text_goes_on_below_its_beginning() {
        let mut text = String::new();
        entry(&mut text, 2, "last error", "one two three four five", 26);
        assert_eq!(
            text,
            "  last error    one two\n                three four\n                five\n"
        );
    }

    #[test]
    fn a_word_longer_than_a_line_is_whole() {
        let mut text = String::new();
        wrapped(&mut text, "", 2, "see /a/very/long/path there", 10);
        assert_eq!(text, "see\n  /a/very/long/path\n  there\n");
    }

    #[test]
    fn times_are_told_from_now() {
        let now = SystemTime::now();
        let seconds = Duration::from_secs;
        assert_eq!(ago(now, now), "just now");
        assert_eq!(ago(now + seconds(5), now), "just now");
        assert_eq!(ago(now - seconds(3), now), "3 s ago");
        assert_eq!(ago(now - seconds(119), now), "119 s ago");
        assert_eq!(ago(now - seconds(120), now), "2 min ago");
        assert_eq!(ago(now - seconds(7_200), now), "2 h ago");
        assert_eq!(ago(now - seconds(200_000), now), "2 d ago");
        assert_eq!(ahead(now + seconds(12), now), "in 12 s");
        assert_eq!(ahead(now - seconds(12), now), "now");
    }
}
