//! `prefix` and `suffix` of the command plugin as words, without a shell.
//!
//! The original gave them to a shell, so they may hold what only a shell understands. Quotes and backslashes are taken
//! as a shell takes them. The usual redirections at the end say that nobody wants the output, and mean that here.
//! Everything else of a shell's is refused by name: as an argument it would do something, but not what was meant.

use super::escape::Escaped;
use super::quote;

/// What a shell would act on, outside of quotes …
const OPERATORS: &str = "|&;<>()$`\n";
/// … and inside double quotes.
const OPERATORS_IN_QUOTES: &str = "$`";
/// What a shell would take for a pattern of file names, a home directory or a comment.
const EXPANDED: &str = "*?[~#";
/// What a shell does by itself, or reads as the beginning of a sentence of its own.
const WORDS_OF_A_SHELL: [&str; 21] = [
    "!", ".", "[[", "alias", "case", "cd", "eval", "exec", "export", "for", "function", "if",
    "set", "source", "trap", "ulimit", "umask", "unset", "until", "while", "{",
];

/// A piece of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShellWords {
    pub(crate) words: Vec<String>,
    /// It ended in redirections that only throw output away.
    pub(super) redirects: bool,
    /// Standard error was among what they throw away, or was to go where standard output goes.
    pub(super) discards_messages: bool,
    /// A character that a shell would expand; here it stands for itself.
    pub(super) unexpanded: Option<char>,
}

/// Splits at white space; `'…'`, `"…"` and `\` mean what they mean to a shell.
///
/// # Errors
/// What cannot be done without a shell, as the rest of a sentence that begins with the name of the attribute.
pub(crate) fn split(text: &str) -> Result<ShellWords, String> {
    let mut found = ShellWords::default();
    let mut text = text;
    while let Some((before, has_messages)) = without_redirection(text) {
        found.redirects = true;
        found.discards_messages |= has_messages;
        text = before;
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

/// Splits a command line that begins with a program.
///
/// # Errors
/// As for [`split`]; also what begins with something else.
pub(super) fn command(text: &str) -> Result<ShellWords, String> {
    let found = split(text)?;
    let mut words = found.words.iter();
    let program = words.find(|word| !is_assignment(word));
    let Some(program) = program.filter(|program| !program.is_empty()) else {
        return Err("names no program".to_owned());
    };
    let shown = quote(program);
    if found.words.first() != Some(program) {
        return Err(format!(
            "sets a variable for {shown}, which only a shell does, and none is used; write `/usr/bin/env {}`",
            Escaped::text(text.trim())
        ));
    }
    if WORDS_OF_A_SHELL.contains(&program.as_str()) {
        return Err(format!(
            "begins with {shown}, which only a shell carries out, and none is used; write the path of an executable script"
        ));
    }
    Ok(found)
}

/// `NAME=value`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let mut bytes = name.bytes();
        bytes.next().is_some_and(is_letter)
            && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit())
    })
}

/// What stands before `>/dev/null`, `2>&1` and the like at the end, and whether that is about standard error too.
fn without_redirection(text: &str) -> Option<(&str, bool)> {
    let text = text.trim_end();
    let (before, has_messages) = if let Some(before) = text.strip_suffix("2>&1") {
        (before, true)
    } else {
        let operator = text.strip_suffix("/dev/null")?.trim_end();
        let operators = [
            ("2>>", true),
            ("&>>", true),
            ("1>>", false),
            (">>", false),
            ("2>", true),
            ("&>", true),
            (">&", true),
            ("1>", false),
            (">", false),
        ];
        operators
            .into_iter()
            .find_map(|(sign, has_messages)| Some((operator.strip_suffix(sign)?, has_messages)))?
    };
    let is_apart = before.is_empty() || before.ends_with(char::is_whitespace);
    is_apart.then_some((before, has_messages))
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
        for (text, rest, messages) in [
            (">/dev/null 2>&1", vec![], true),
            ("2>&1", vec![], true),
            ("-x >/dev/null 2>&1 ", vec!["-x"], true),
            ("-x > /dev/null 2>&1", vec!["-x"], true),
            ("-x 2>&1", vec!["-x"], true),
            ("-x 2>&1 >/dev/null", vec!["-x"], true),
            ("-x &>/dev/null", vec!["-x"], true),
            ("-x &> /dev/null", vec!["-x"], true),
            ("-x >& /dev/null", vec!["-x"], true),
            ("-x 2>/dev/null", vec!["-x"], true),
            ("-x >/dev/null 2>/dev/null", vec!["-x"], true),
            ("-x >/dev/null", vec!["-x"], false),
            ("-x >> /dev/null", vec!["-x"], false),
            ("-x 1>/dev/null", vec!["-x"], false),
            ("a\\ >/dev/null", vec!["a "], false),
        ] {
            let found = split(text).expect(text);
            assert!(found.redirects, "{text}");
            assert_eq!(found.discards_messages, messages, "{text}");
            assert_eq!(found.words, rest);
        }
        assert!(!split("-x '2>&1'").expect("quoted").redirects);
        assert_eq!(words("a /dev/null"), ["a", "/dev/null"]);
    }

    #[test]
    fn what_only_a_shell_carries_out_is_refused_with_what_to_write_instead() {
        for text in [
            "a | b",
            "a; b",
            "a && b",
            "a > log",
            "a 2>&1 b",
            ">> log",
            "< x",
            "$HOME/x",
            "`x`",
            "\"$x\"",
            "(a)",
            "x2>&1",
            "x >/dev/null y",
            "x >/dev/nulls",
            "x 2>/tmp/log",
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
    fn a_command_begins_with_a_program_and_not_with_what_a_shell_does_itself() {
        for (text, instead) in [
            (
                "LANG=C A= /bin/x -y",
                "write `/usr/bin/env LANG=C A= /bin/x -y`",
            ),
            (". /x.sh", "executable script"),
            ("source /x.sh", "executable script"),
            ("export LANG", "executable script"),
            ("cd /tmp", "executable script"),
            ("LANG=C", "names no program"),
            ("'' x", "names no program"),
            (" ", "names no program"),
            (">/dev/null", "names no program"),
        ] {
            let error = command(text).expect_err(text);
            assert!(error.contains(instead), "{text}: {error}");
        }
        for text in [
            "/usr/bin/env LANG=C /bin/x",
            "/a=b/x",
            "./x",
            "1=2",
            "sources /x",
        ] {
            command(text).expect(text);
        }
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
