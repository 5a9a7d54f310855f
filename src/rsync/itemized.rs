//! What a dry run would do, from what `--out-format=%i %n` prints. Pure.

use crate::control::DriftKind;
use crate::path::RelPath;

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What differs.
    pub path: RelPath,
    /// How.
    pub drift: DriftKind,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Reads the lines of standard output as they come.
#[derive(Debug, Default)]
pub struct Itemized {
    rest: Vec<u8>,
}

impl Itemized {
    /// More of the output came; returns what differs by the lines that are complete now.
    pub fn read(&mut self, chunk: &[u8]) -> Vec<Item> {
        self.rest.extend_from_slice(chunk);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let lines: Vec<u8> = self.rest.drain(..=end).collect();
        lines
            .split(|byte| *byte == b'\n')
            .filter_map(item)
            .collect()
    }
}

/// One line: eleven characters that say what differs, a blank, the name. See `--itemize-changes` in rsync(1).
fn item(line: &[u8]) -> Option<Item> {
    let (what, name) = line.split_at_checked(11)?;
    let name = name.strip_prefix(b" ")?;
    let [update, kind, ..] = *what else {
        return None;
    };
    let drift = match (update, kind) {
        (b'*', _) if what.starts_with(b"*deleting") => DriftKind::Extra,
        _ if !b"<>ch.".contains(&update) || !b"fdLDS".contains(&kind) => return None,
        _ if what[2..].iter().all(|flag| *flag == b'+') => DriftKind::Missing,
        _ if what[2..].iter().all(|flag| b". ".contains(flag)) => return None,
        (b'<' | b'>', b'f') => DriftKind::Content,
        _ => DriftKind::Attributes,
    };
    let name = unescaped(name);
    let name = name.strip_prefix(b"./").unwrap_or(&name);
    let is_directory = name.ends_with(b"/");
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let path = if name == b"." {
        RelPath::root()
    } else {
        RelPath::new(name)?
    };
    Some(Item {
        path,
        drift,
        is_directory,
    })
}

/// rsync prints a byte that is no text as `\#` with three octal digits, and such a text in a name likewise.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let octal = rest.strip_prefix(b"\\#").and_then(|rest| rest.get(..3));
        let byte = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte {
            plain.push(byte);
            rest = &rest[5..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, DriftKind)> {
        let items = Itemized::default().read(text.as_bytes());
        items
            .into_iter()
            .map(|item| (item.path.to_string(), item.drift))
            .collect()
    }

    #[test]
    fn each_line_says_what_differs() {
        let text = "*deleting   d/extra\n\
                    >f+++++++++ d/new\n\
                    cd+++++++++ fresh/\n\
                    >fcst...... changed\n\
                    .f...p..... mode\n\
                    .d..t...... ./\n\
                    cLc.t...... link\n\
                    .f          same\n\
                    hf+++++++++ other name\n\
                    \n\
                    Number of files: 3\n\
                    total size is 3  speedup is 0.1\n";
        let expected = [
            ("d/extra", DriftKind::Extra),
            ("d/new", DriftKind::Missing),
            ("fresh", DriftKind::Missing),
            ("changed", DriftKind::Content),
            ("mode", DriftKind::Attributes),
            (".", DriftKind::Attributes),
            ("link", DriftKind::Attributes),
            ("other name", DriftKind::Missing),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, kind)| ((*path).to_owned(), *kind))
            .collect();
        assert_eq!(read(text), expected);
    }

    #[test]
    fn names_come_out_as_the_bytes_they_are_and_lines_may_come_in_pieces() {
        let mut itemized = Itemized::default();
        assert!(itemized.read(b">f+++++++++ a\\#01").is_empty());
        let items = itemized.read(b"2b\\#134#012\\#377\n>f");
        assert_eq!(items[0].path.as_bytes(), b"a\nb\\#012\xff");
    }

    #[test]
    fn a_directory_is_told_from_a_file_of_its_name() {
        let items = Itemized::default().read(b"*deleting   d/\n*deleting   e\n");
        let kinds: Vec<bool> = items.iter().map(|item| item.is_directory).collect();
        assert_eq!(kinds, [true, false]);
    }
}
