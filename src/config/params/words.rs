//! Splits `params` into words, as the shell that the original ran them through would have done.

/// A quote that is opened and not closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OpenQuote(pub(super) char);

/// Splits at white space; `'…'`, `"…"` and `\` mean what they mean to a shell, nothing else does.
pub(super) fn split(text: &str) -> Result<Vec<String>, OpenQuote> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(OpenQuote('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => match characters.next() {
                            Some(c @ ('"' | '\\')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(OpenQuote('"')),
                        },
                        Some(c) => word.push(c),
                        None => return Err(OpenQuote('"')),
                    }
                }
            }
            '\\' => {
                // A backslash at the very end stands for itself.
                let escaped = characters.next().unwrap_or('\\');
                word.get_or_insert_default().push(escaped);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_and_quotes_taken_off_as_by_a_shell() {
        let words =
            split(r#" -artuz  --exclude='*.log x' --include="a\"b\*" --exclude=\*.tmp '' "#)
                .unwrap();
        assert_eq!(
            words,
            [
                "-artuz",
                "--exclude=*.log x",
                r#"--include=a"b\*"#,
                "--exclude=*.tmp",
                ""
            ]
        );
        assert_eq!(split(" \t\n"), Ok(Vec::new()));
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert_eq!(split("--exclude='*.log"), Err(OpenQuote('\'')));
        assert_eq!(split("\"x\\"), Err(OpenQuote('"')));
    }
}
