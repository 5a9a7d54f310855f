//! What failed, as an entry of the record that `failLog path` names: comments that say what and why, then the run as a
//! person can try it by hand. Pure.
//!
//! ```text
//!  # 2026-11-22T14:05:09Z /data -> rsync://backup/data
//!  # "a/b" failed with exit 23: rsync: [sender] send_files failed to open …
//!  cd -- /data && test "$(stat -c %d:%i .)" = 64768:131 && printf './a/b\000' | rsync -a … -- . backup::data/
//! ```
//!
//! A command is for any POSIX shell, by copy and paste: it is printable text, whatever a name holds. What is not
//! printable becomes an octal escape of `printf`; `$'…'` would be shorter, and is not known to every shell. It begins
//! only in the directory that was the source when it failed: in a mount point whose file system is gone, it would find
//! everything missing and delete it at the receiver.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::fail_queue::Failure;
use crate::path::{Identity, RelPath, escaped};

/// What stands at the beginning of a record.
pub const HEAD: &str =
    "# What sersync could not mirror, and what to try by hand. Nothing runs this file.\n";

/// A path that failed.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When.
    pub at: SystemTime,
    /// Absolute path of the source.
    pub source: &'a Path,
    /// Where it goes, as the configuration's target is shown.
    pub target: &'a str,
    /// What failed.
    pub path: &'a RelPath,
    /// Why.
    pub failure: &'a Failure,
    /// What to try, or why there is nothing.
    pub attempt: Result<Attempt, &'static str>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which directory the source was.
    pub identity: Identity,
    /// Arguments of rsync.
    pub args: Vec<OsString>,
    /// Its standard input.
    pub list: Vec<u8>,
}

impl Entry<'_> {
    /// As it stands in the record: an empty line, and whole lines.
    #[must_use]
    pub fn render(&self) -> String {
        let time = Timestamp::try_from(self.at).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ");
        let source = escaped(self.source.as_os_str().as_bytes());
        let Failure { exit, message } = self.failure;
        let target = escaped(self.target.as_bytes());
        let message = escaped(message.as_bytes());
        let mut text = format!("\n# {time} {source} -> {target}\n# {} failed", self.path);
        if *exit >= 0 {
            let _ = write!(text, " with exit {exit}");
        }
        let _ = writeln!(text, ": {message}");
        match &self.attempt {
            Ok(attempt) => {
                text.push_str(&attempt.command(self.source));
                text.push('\n');
            }
            Err(reason) => {
                let _ = writeln!(text, "# {reason}; `sersync retry` tries it at once");
            }
        }
        text
    }
}

impl Attempt {
    /// The run as a command line.
    #[must_use]
    pub fn command(&self, source: &Path) -> String {
        let Identity { device, inode } = self.identity;
        let mut line = format!(
            "cd -- {} && test \"$(stat -c %d:%i .)\" = {device}:{inode} && printf '{}' | rsync",
            word(source.as_os_str().as_bytes()),
            format_of_printf(&self.list)
        );
        for arg in &self.args {
            line.push(' ');
            line.push_str(&word(arg.as_bytes()));
        }
        line
    }
}

/// A word of a POSIX shell that stands for these bytes.
#[must_use]
pub fn word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        Ok(text) if text.chars().all(is_printable) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            // What a shell takes from a command loses the line ends it closes with.
            let last = bytes.iter().rposition(|byte| *byte != b'\n');
            let kept = last.map_or(0, |at| at + 1);
            let (text, ends) = bytes.split_at(kept);
            let mut word = format!("\"$(printf '{}')\"", format_of_printf(text));
            if !ends.is_empty() {
                let _ = write!(word, "'{}'", "\n".repeat(ends.len()));
            }
            word
        }
    }
}

/// Whether no shell makes anything of it.
fn is_plain(text: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-+./,:@%=".contains(c);
    // zsh takes a word that begins with `=` for the name of a program.
    !text.is_empty() && !text.starts_with('=') && text.chars().all(harmless)
}

/// Whether it can be seen, and is what it looks like when it is copied.
fn is_printable(c: char) -> bool {
    let turns_or_hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !turns_or_hides
}

/// What `printf` is to be given, between single quotes, to print these bytes.
fn format_of_printf(bytes: &[u8]) -> String {
    let mut format = String::with_capacity(bytes.len());
    let escape = |format: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(format, "\\{byte:03o}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => format.push_str(r"\\"),
                '%' => format.push_str("%%"),
                // A first one would be an option of printf's.
                '-' if format.is_empty() => escape(&mut format, b"-"),
                '\'' => escape(&mut format, b"'"),
                c if is_printable(c) => format.push(c),
                c => escape(&mut format, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape(&mut format, chunk.invalid());
    }
    format
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::config::shell_words;

    /// What a shell makes of words: each argument, ended by NUL.
    fn in_a_shell(shell: &str, words: &str) -> Vec<u8> {
        let script = format!("printf '%s\\0' {words}");
        let output = Command::new(shell).args(["-c", &script]).output();
        output.expect("a shell").stdout
    }

    /// Those of them that are here.
    fn shells() -> impl Iterator<Item = &'static str> {
        let is_there = |shell: &&str| Command::new(shell).args(["-c", ":"]).output().is_ok();
        ["sh", "dash", "bash", "zsh", "ksh", "mksh"]
            .into_iter()
            .filter(is_there)
    }

    fn attempt() -> Attempt {
        Attempt {
            identity: Identity {
                device: 64768,
                inode: 131,
            },
            args: ["-a", "--rsh=ssh -o 'a b'", "--", ".", "backup::data/"]
                .map(OsString::from)
                .into(),
            list: b"./it's 100%\\\n\xFF\0".to_vec(),
        }
    }

    #[test]
    fn an_entry_says_what_failed_and_how_to_try_it() {
        let path = RelPath::new(b"it's 100%\\\n\xFF").expect("a path");
        let failure = Failure {
            exit: 23,
            message: "rsync: no\nway".into(),
        };
        let entry = Entry {
            at: SystemTime::UNIX_EPOCH,
            source: Path::new("/data"),
            target: "rsync://backup/data",
            path: &path,
            failure: &failure,
            attempt: Ok(attempt()),
        };
        let expected = r#"
# 1970-01-01T00:00:00Z /data -> rsync://backup/data
# it's 100%\\\n\xFF failed with exit 23: rsync: no\nway
cd -- /data && test "$(stat -c %d:%i .)" = 64768:131 && printf './it\047s 100%%\\\012\377\000' | rsync -a '--rsh=ssh -o '\''a b'\''' -- . backup::data/
"#;
        assert_eq!(entry.render(), expected);
        let failure = Failure {
            exit: -1,
            message: "too long".into(),
        };
        let entry = Entry {
            failure: &failure,
            attempt: Err("no single run does it"),
            ..entry
        };
        assert!(entry.render().ends_with(
            "failed: too long\n# no single run does it; `sersync retry` tries it at once\n"
        ));
    }

    #[test]
    fn every_byte_gets_through_every_shell() {
        let all: Vec<u8> = (1..=u8::MAX).collect();
        let mut words: Vec<Vec<u8>> = vec![
            all.clone(),
            b"-\n\xFF\n\n".to_vec(),
            Vec::new(),
            b"\n".to_vec(),
            b" \n \n".to_vec(),
        ];
        words.extend(all.iter().map(|byte| vec![b'a', *byte]));
        words.extend(all.iter().map(|byte| vec![*byte, b'7']));
        let line: Vec<String> = words.iter().map(|bytes| word(bytes)).collect();
        let expected: Vec<u8> = words
            .iter()
            .flat_map(|bytes| [&bytes[..], b"\0"].concat())
            .collect();
        for shell in shells() {
            assert_eq!(in_a_shell(shell, &line.join(" ")), expected, "{shell}");
        }
    }

    #[test]
    fn the_list_reaches_rsync_as_it_was() {
        let mut list: Vec<u8> = (1..=u8::MAX)
            .filter(|byte| *byte != b'/')
            .flat_map(|byte| [b'.', b'/', byte, b'7', 0])
            .collect();
        list.extend_from_slice(b"./-x\0./new\nline\n\0");
        for shell in shells() {
            let script = format!("printf '{}'", format_of_printf(&list));
            let output = Command::new(shell)
                .args(["-c", &script])
                .output()
                .expect("a shell");
            assert_eq!(output.stdout, list, "{shell}");
        }
    }

    #[test]
    fn nothing_is_run_in_a_directory_that_is_not_the_source() {
        let here = tempfile::tempdir().expect("a directory");
        let command = attempt().command(here.path());
        let (before, _) = command.split_once(" && printf").expect("a command");
        let status = Command::new("sh")
            .args(["-c", before])
            .status()
            .expect("a shell");
        assert!(!status.success(), "{before}");
        let stat = rustix::fs::stat(here.path()).expect("it is there");
        let attempt = Attempt {
            identity: Identity::of(&stat),
            ..attempt()
        };
        let command = attempt.command(here.path());
        let (before, _) = command.split_once(" && printf").expect("a command");
        let status = Command::new("sh")
            .args(["-c", before])
            .status()
            .expect("a shell");
        assert!(status.success(), "{before}");
    }

    proptest! {
        #[test]
        fn a_word_is_one_printable_word_of_the_same_text(text in "\\PC{0,40}") {
            let word = word(text.as_bytes());
            prop_assert!(word.chars().all(is_printable));
            if text.chars().all(is_printable) {
                let split = shell_words::split(&word).map(|split| split.words);
                prop_assert_eq!(split, Ok(vec![text]));
            }
        }

        #[test]
        fn an_entry_is_of_printable_lines_whatever_the_names_hold(
            name in proptest::collection::vec(any::<u8>(), 1..40), message in ".{0,40}"
        ) {
            let Some(path) = RelPath::new(&name) else { return Ok(()); };
            let failure = Failure { exit: 23, message };
            let list = crate::rsync::args::list([&path]);
            let entry = Entry {
                at: SystemTime::UNIX_EPOCH,
                source: Path::new("/data"),
                target: "rsync://backup/data",
                path: &path,
                failure: &failure,
                attempt: Ok(Attempt { list, ..attempt() }),
            };
            let text = entry.render();
            prop_assert_eq!(text.lines().count(), 4);
            prop_assert!(text.lines().all(|line| !line.chars().any(char::is_control)));
        }
    }
}
