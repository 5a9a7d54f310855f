//! The options of `sersync2`, joined and apart as getopt(3) reads them: `-rdo FILE`, `-n10`, `-r -d -n 10 -oFILE`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::config::PluginKind;

/// The configuration that is read if none is named, in the current directory.
const STOCK_FILE: &str = "confxml.xml";
/// `-n` of the original, and of `sersync run`.
const STOCK_PROCESSES: u16 = 10;
const MOST_PROCESSES: u16 = 1000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// `-h`
    Help,
    /// `--version`, which is ours.
    Version,
    /// Anything else.
    Run(Arguments),
}

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `-r`: push everything before the changes are followed.
    pub first_push: bool,
    /// `-d`: in the background.
    pub daemon: bool,
    /// `-n`: at most so many rsync processes at once.
    pub processes: u16,
    /// `-o`
    pub config: PathBuf,
    /// `-m`: this plugin alone, and no rsync.
    pub plugin: Option<PluginKind>,
    /// Words that are no options: the original passes over them.
    pub ignored: Vec<OsString>,
}

/// Reads the words after the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut arguments = Arguments {
        first_push: false,
        daemon: false,
        processes: STOCK_PROCESSES,
        config: STOCK_FILE.into(),
        plugin: None,
        ignored: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--" => arguments.ignored.extend(words.by_ref()),
            b"--help" => return Ok(Asked::Help),
            b"--version" => return Ok(Asked::Version),
            [b'-', letters @ ..] if !letters.is_empty() => {
                if letters_are_help(letters, &mut arguments, &mut words)? {
                    return Ok(Asked::Help);
                }
            }
            _ => arguments.ignored.push(word),
        }
    }
    Ok(Asked::Run(arguments))
}

/// Reads the options of one word, `rdoFILE`. An option's value is the rest of its word, or the next word.
fn letters_are_help(
    letters: &[u8],
    arguments: &mut Arguments,
    words: &mut impl Iterator<Item = OsString>,
) -> Result<bool, String> {
    for (at, letter) in letters.iter().enumerate() {
        let mut value = || match &letters[at + 1..] {
            [] => words
                .next()
                .ok_or_else(|| format!("-{} wants a value", char::from(*letter))),
            rest => Ok(OsString::from_vec(rest.to_vec())),
        };
        match letter {
            b'h' => return Ok(true),
            b'r' => arguments.first_push = true,
            b'd' => arguments.daemon = true,
            b'n' => {
                arguments.processes = processes(&value()?)?;
                return Ok(false);
            }
            b'o' => {
                arguments.config = value()?.into();
                return Ok(false);
            }
            b'm' => {
                arguments.plugin = Some(plugin(&value()?)?);
                return Ok(false);
            }
            _ => {
                let word = OsStr::from_bytes(letters);
                return Err(format!("there is no such option: -{}", word.display()));
            }
        }
    }
    Ok(false)
}

fn processes(value: &OsStr) -> Result<u16, String> {
    let number = value.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MOST_PROCESSES).contains(number))
        .ok_or_else(|| {
            let value = value.display();
            format!("-n wants a number from 1 to {MOST_PROCESSES}, not `{value}`")
        })
}

fn plugin(value: &OsStr) -> Result<PluginKind, String> {
    PluginKind::from_name(&value.to_string_lossy()).map_err(|wrong| format!("-m {wrong}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn run(line: &str) -> Arguments {
        match read(line) {
            Ok(Asked::Run(arguments)) => arguments,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_joined_form_says_the_same() {
        let expected = Arguments {
            first_push: true,
            daemon: true,
            processes: 12,
            config: "/etc/c.xml".into(),
            plugin: None,
            ignored: Vec::new(),
        };
        for line in [
            "-r -d -n 12 -o /etc/c.xml",
            "-rd -n12 -o/etc/c.xml",
            "-rdn12 -o /etc/c.xml",
            "-drn 12 -o/etc/c.xml",
            "-n12 -rdo /etc/c.xml",
            "-n 12 -d -ro/etc/c.xml",
            "-o /tmp/other.xml -n 1 -rdn12 -o /etc/c.xml",
        ] {
            assert_eq!(run(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_in_the_original() {
        let arguments = run("");
        assert!(!arguments.first_push && !arguments.daemon);
        assert_eq!(arguments.processes, 10);
        assert_eq!(arguments.config, PathBuf::from("confxml.xml"));
        assert_eq!(run("-m http").plugin, Some(PluginKind::Http));
        assert_eq!(run("-mrefreshCDN").plugin, Some(PluginKind::RefreshCdn));
        assert_eq!(run("start -r -- -x").ignored, ["start", "-x"]);
        for line in ["-h", "-rh", "-rdh -x", "--help"] {
            assert_eq!(read(line), Ok(Asked::Help), "{line}");
        }
    }

    #[test]
    fn a_file_name_may_be_any_bytes() {
        let name = OsStr::from_bytes(b"\xff -r.xml");
        let words = ["-rdo".into(), name.to_owned()];
        let Ok(Asked::Run(arguments)) = parse(words) else {
            panic!("it is a file");
        };
        assert_eq!(arguments.config, name);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "-x", "-rx", "-n", "-n x", "-n0", "-n -5", "-n 5000", "-o", "-rdo", "-m ftp", "--run",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    proptest! {
        /// However the options are joined and ordered, they say the same.
        #[test]
        fn joining_changes_nothing(
            flags in proptest::collection::vec("[rd]", 0..4),
            number in 1..1000_u16,
            joined in any::<bool>(),
            apart in any::<bool>(),
        ) {
            let space = if apart { " " } else { "" };
            let mut words: Vec<String> = flags.iter().map(|flag| format!("-{flag}")).collect();
            if joined {
                words = vec![format!("-{}", flags.concat())];
            } else {
                words.push("-".into());
            }
            let line = format!("{}n{space}{number}", words.join(" "));
            let arguments = run(&line);
            prop_assert_eq!(arguments.first_push, flags.contains(&"r".to_owned()));
            prop_assert_eq!(arguments.daemon, flags.contains(&"d".to_owned()));
            prop_assert_eq!(arguments.processes, number);
        }
    }
}
