//! `prefix` and `suffix` of the command plugin as words, without a shell.
//!
//! The original gave them to a shell, so they may hold what only a shell understands. Quotes and backslashes are taken
//! as a shell takes them. The usual redirections at the end say that nobody wants the output, and mean that here.
//! Everything else of a shell's is refused by name: as an argument it would do something, but not what was meant.

use super::quote;

/// The ends of a command line that throw its output away, the longer one first.
const REDIRECTIONS: [&str; 2] = [">/dev/null 2>&1", "2>&1"];
/// What a shell would act on, outside of quotes …
const OPERATORS: &str = "|&;<>()$`\n";
/// … and inside double quotes.
const OPERATORS_IN_QUOTES: &str = "$`";
/// What a shell would take for a pattern of file names, a home directory or a comment.
const EXPANDED: &str = "*?[~#";

/// A piece of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShellWords {
    pub(crate) words: Vec<String>,
    /// It ended in one of the redirections.
    pub(super) discards_output: bool,
    /// A character that a shell would expand; here it stands for itself.
    pub(super) unexpanded: Option<char>,
}

/// Splits at white space; `'…'`, `"…"` and `\` mean what they mean to a shell.
///
/// # Errors
/// What cannot be done without a shell, as the rest of a sentence that begins with the name of the attribute.
pub(crate) fn split(text: &str) -> Result<ShellWords, String> {
    let mut found = ShellWords::default();
    let mut text = text.trim_end();
    for redirection in REDIRECTIONS {
        if let Some(before) = text.strip_suffix(redirection)
            && (before.is_empty() || before.ends_with(char::is_whitespace))
        {
            found.discards_output = true;
            text = before;
            break;
        }
    }
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' => {
                let Some((literal, rest)) = characters.as_str().split_once('\'') else {
                    return Err(open(text, c));
                };
                word.get_or_insert_default().push_str(literal);
                characters = rest.chars();
            }
            '"' => in_quotes(text, &mut characters, word.get_or_insert_default())?,
            '\\' => {
                let escaped = characters.next().unwrap_or('\\');
                word.get_or_insert_default().push(escaped);
            }
            c if OPERATORS.contains(c) => return Err(not_without_a_shell(text, c)),
            c if c.is_whitespace() => found.words.extend(word.take()),
            c => {
                if EXPANDED.contains(c) {
                    found.unexpanded.get_or_insert(c);
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    found.words.extend(word);
    Ok(found)
}

fn in_quotes(
    text: &str,
    characters: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), String> {
    loop {
        match characters.next() {
            Some('"') => return Ok(()),
            Some('\\') => match characters.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err(open(text, '"')),
            },
            Some(c) if OPERATORS_IN_QUOTES.contains(c) => {
                return Err(not_without_a_shell(text, c));
            }
            Some(c) => word.push(c),
            None => return Err(open(text, '"')),
        }
    }
}

fn open(text: &str, quote_mark: char) -> String {
    format!("has a {quote_mark} that is not closed: {}", quote(text))
}

fn not_without_a_shell(text: &str, c: char) -> String {
    let instead = match c {
        '>' | '<' => {
            "output is never kept, so leave the redirection out, or write a script that redirects"
        }
        '$' | '`' => "write the value itself, or '…' around what is meant literally",
        _ => "write a script and name that in `prefix`",
    };
    format!(
        "holds {} in {}, which only a shell carries out, and none is used; {instead}",
        quote(&c.to_string()),
        quote(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).expect(text).words
    }

    #[test]
    fn words_are_split_and_quotes_taken_off_as_by_a_shell() {
        let text = r#" /bin/x  'a b' "c \"d\" \$e" f\ g '' "" h'i'"j" '$(k)' "#;
        let expected = ["/bin/x", "a b", "c \"d\" $e", "f g", "", "", "hij", "$(k)"];
        assert_eq!(words(text), expected);
        assert_eq!(words(" \t"), [""; 0]);
    }

    #[test]
    fn the_redirections_of_the_original_mean_that_nobody_wants_the_output() {
        for (text, rest) in [
            (">/dev/null 2>&1", vec![]),
            ("2>&1", vec![]),
            ("-x >/dev/null 2>&1 ", vec!["-x"]),
            ("-x 2>&1", vec!["-x"]),
        ] {
            let found = split(text).expect(text);
            assert!(found.discards_output, "{text}");
            assert_eq!(found.words, rest);
        }
        assert!(!split("-x '2>&1'").expect("quoted").discards_output);
    }

    #[test]
    fn what_only_a_shell_carries_out_is_refused_with_what_to_write_instead() {
        for text in [
            "a | b", "a; b", "a && b", "a > log", "a 2>&1 b", ">> log", "< x", "$HOME/x", "`x`",
            "\"$x\"", "(a)", "x2>&1",
        ] {
            let error = split(text).expect_err(text);
            assert!(error.contains("only a shell"), "{error}");
        }
        assert!(
            split("a > b")
                .expect_err("operator")
                .contains("leave the redirection out")
        );
    }

    #[test]
    fn what_a_shell_would_expand_stands_for_itself_and_is_noticed() {
        let found = split("--exclude=*.tmp '?'").expect("no operator");
        assert_eq!(found.words, ["--exclude=*.tmp", "?"]);
        assert_eq!(found.unexpanded, Some('*'));
        assert_eq!(split("'*' \\?").expect("quoted").unexpanded, None);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        for text in ["'a", "\"a", "\"a\\", "'", "a '"] {
            assert!(
                split(text).expect_err(text).contains("not closed"),
                "{text}"
            );
        }
    }
}
