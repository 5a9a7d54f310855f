//! From the end of a child to what it means for its list. Pure; one table, [`judge`].
//!
//! rsync says on standard error which names failed. A name may imitate any message, so a line counts only if exactly
//! one name of the list explains it, compared in the escaped form in which rsync prints names. Whatever is in doubt
//! leaves the run undecided, and the lane halves the list until there is no doubt.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use self::public::Subject;
use super::args::{Forms, RunKind};
use super::ended::{Ended, Exit};
use crate::config::Target;
use crate::path::RelPath;

pub mod public;
pub mod ssh;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything listed is equal.
    Synced,
    /// These listed names need another look, the others are equal: they vanished or changed while they were sent.
    Again(Vec<RelPath>),
    /// These failed by themselves, the others are equal.
    Failed {
        /// The names with rsync's words for it. In tree runs, names below the listed ones.
        paths: Vec<(RelPath, String)>,
        /// Like [`Outcome::Again`], beside them.
        again: Vec<RelPath>,
        /// A tree run that kept all its deletions back.
        deletions_owed: bool,
    },
    /// Some failed, and it cannot be told which.
    Undecided {
        /// The line that nobody explains.
        message: String,
        /// Whether it speaks of a source that changed under the run: another look may help, before halving does.
        changed: bool,
    },
    /// The receiver's file system is full: what fits may still arrive.
    DiskFull(String),
    /// The receiver refused one of our options; without it, it works.
    Refused(RefusedForm),
    /// Nothing is known of the list: the remote could not be reached, or went away.
    Unreachable(String),
    /// As before, and it will stay so until somebody mends it: wrong password, unknown module, read-only module.
    Misconfigured(String),
}

/// An option of ours that a receiver does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedForm {
    /// `--delete-missing-args`
    DeleteByName,
    /// `--delete` in whatever form, in a tree run.
    DeleteInTrees,
    /// `--force`
    Force,
    /// Times with their fractions, which the `rrsync` of a receiver over ssh does not know.
    ExactTimes,
}

impl RefusedForm {
    /// The forms without this one; `None` if they did not have it.
    #[must_use]
    pub fn dropped_from(self, mut forms: Forms) -> Option<Forms> {
        let was_given = match self {
            Self::DeleteByName => std::mem::take(&mut forms.delete_by_name),
            Self::DeleteInTrees => std::mem::take(&mut forms.delete_in_trees),
            Self::Force => std::mem::take(&mut forms.force),
            Self::ExactTimes => forms.exact_times.replace(false) != Some(false),
        };
        was_given.then_some(forms)
    }
}

/// What the messages of a run may name.
#[derive(Debug)]
pub struct Names<'a> {
    /// The list.
    pub listed: &'a [RelPath],
    /// Absolute path of the source root, as the sender's messages have it.
    pub root: &'a Path,
    /// Where it goes: the receiver's messages are relative to its module, or absolute for a local target.
    pub target: &'a Target,
}

/// The outcome of a run: the one table from exit and messages to meaning.
#[must_use]
pub fn judge(kind: RunKind, ended: &Ended, names: &Names<'_>) -> Outcome {
    let lines = Lines::of(&ended.stderr);
    let cause = || lines.cause(&ended.exit);
    let code = match &ended.exit {
        Exit::Code(code) => *code,
        Exit::Stuck => return Outcome::Again(names.listed.to_vec()),
        Exit::Signal(_) | Exit::NotStarted(_) | Exit::Hung => return Outcome::Unreachable(cause()),
    };
    if matches!(names.target, Target::Ssh { .. })
        && let Some(outcome) = ssh::judge(kind, code, &lines)
    {
        return outcome;
    }
    match code {
        // Such a line, and one that was not kept could be such a line.
        0 if ended.stderr_cut
            || lines.any(|line| line.starts_with("cannot delete non-empty directory")) =>
        {
            partly(kind, &lines, ended, names)
        }
        0 => Outcome::Synced,
        23 | 25 => partly(kind, &lines, ended, names),
        24 => vanished(kind, &lines, ended, names),
        11 if lines.any(says_disk_full) => Outcome::DiskFull(cause()),
        2 if lines.any(|line| line.starts_with("invalid file mode 00")) => {
            Outcome::Refused(RefusedForm::DeleteByName)
        }
        // A listed name's parent went while the list was made: rsync 3.5 stops there.
        2 if lines.any(|line| line.starts_with("ABORTING due to invalid path from sender")) => {
            Outcome::Undecided {
                message: cause(),
                changed: true,
            }
        }
        1 | 2 | 4 => refused(kind, &lines).unwrap_or_else(|| Outcome::Misconfigured(cause())),
        3 | 6 => Outcome::Misconfigured(cause()),
        5 if !lines.any(says_busy) => Outcome::Misconfigured(cause()),
        _ => Outcome::Unreachable(cause()),
    }
}

fn says_disk_full(line: &str) -> bool {
    line.ends_with("No space left on device (28)") || line.ends_with("Disk quota exceeded (122)")
}

/// Whether all connections of the module were taken; a standby of ours may hold one.
#[must_use]
pub fn is_busy(ended: &Ended) -> bool {
    matches!(ended.exit, Exit::Code(5)) && Lines::of(&ended.stderr).any(says_busy)
}

fn says_busy(line: &str) -> bool {
    line.starts_with("@ERROR: max connections")
}

/// `The server is configured to refuse --OPTION`, or an option that the receiver's rsync does not know.
fn refused(kind: RunKind, lines: &Lines) -> Option<Outcome> {
    let option = lines.iter().find_map(|line| {
        let (_, option) = line
            .split_once("configured to refuse --")
            .or_else(|| line.strip_suffix(": unknown option")?.split_once("--"))?;
        Some(option.trim().to_owned())
    })?;
    match (option.as_str(), kind) {
        ("force", _) => Some(Outcome::Refused(RefusedForm::Force)),
        (option, RunKind::Tree { delete: true, .. }) if option.starts_with("delete") => {
            Some(Outcome::Refused(RefusedForm::DeleteInTrees))
        }
        ("delete-missing-args", RunKind::Delete { by_name: true }) => {
            Some(Outcome::Refused(RefusedForm::DeleteByName))
        }
        _ => None,
    }
}

/// Whether a parent that was not listed had gone away under a deletion by name: rsync then deletes below whatever has its
/// name at the receiver, also through a link.
#[must_use]
pub fn deleted_below_nothing(ended: &Ended) -> bool {
    const WARNING: &[u8] = b"WARNING: parent dir is absent in the file list: ";
    let mut lines = ended.stderr.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(WARNING))
}

/// Exit 24: what vanished is looked at again; all of it, if a line names nothing that is listed.
fn vanished(kind: RunKind, lines: &Lines, ended: &Ended, names: &Names<'_>) -> Outcome {
    let reader = NameReader::new(kind, names);
    let messages = lines.iter().filter(|line| !is_summary(line));
    let again: Option<Vec<RelPath>> = messages
        .map(|line| {
            if says_vanished(line) {
                reader.read(line)
            } else {
                None
            }
        })
        .collect();
    match again {
        Some(again) if !again.is_empty() && !ended.stderr_cut => Outcome::Again(again),
        _ => Outcome::Again(names.listed.to_vec()),
    }
}

fn says_vanished(line: &str) -> bool {
    line.starts_with("file has vanished: ") || line.starts_with("directory has vanished: ")
}

/// Whether a message is of a source, or a receiver's directory, that changed under the run: no such file, no directory,
/// a directory, too many links where a link came in a file's place, no data where a file was cut short.
fn says_changed(line: &str) -> bool {
    // These end with a name, which may end like anything.
    let ends_with_name = [
        "cannot delete non-empty directory: ",
        "could not make way for ",
    ];
    if ends_with_name.iter().any(|head| line.starts_with(head)) {
        return false;
    }
    let was_cut_short = line.contains("] read errors mapping ") && line.ends_with(" (61)");
    says_vanished(line)
        || was_cut_short
        || line.contains("failed verification -- update discarded")
        || [" (2)", " (20)", " (21)", " (40)"]
            .iter()
            .any(|errno| line.ends_with(errno))
}

/// Exits 23 and 25: every line must be explained.
fn partly(kind: RunKind, lines: &Lines, ended: &Ended, names: &Names<'_>) -> Outcome {
    if ended.stderr_cut {
        return undecided("more messages than are kept".into());
    }
    let reader = NameReader::new(kind, names);
    let mut failed: BTreeMap<RelPath, String> = BTreeMap::new();
    let mut again: Vec<RelPath> = Vec::new();
    let mut deletions_owed = ended.deletions_skipped;
    for line in lines.iter() {
        if is_summary(line) {
            continue;
        }
        if line.starts_with("IO error encountered -- skipping file deletion") {
            deletions_owed = true;
            continue;
        }
        let Some(path) = reader.read(line) else {
            return Outcome::Undecided {
                message: shortened(line),
                changed: says_changed(line),
            };
        };
        if says_changed(line) {
            again.push(path);
        } else {
            failed.entry(path).or_insert_with(|| line.to_owned());
        }
    }
    again.retain(|path| !failed.contains_key(path));
    match (failed.is_empty(), again.is_empty()) {
        // Its own summary says that something failed, and no line says what.
        (true, true) if !deletions_owed => undecided(lines.cause(&ended.exit)),
        // What kept the deletions back has changed, so the whole list deserves another look.
        (true, false) if deletions_owed => Outcome::Again(names.listed.to_vec()),
        (true, false) => Outcome::Again(again),
        _ => Outcome::Failed {
            paths: failed.into_iter().collect(),
            again,
            deletions_owed,
        },
    }
}

fn undecided(message: String) -> Outcome {
    Outcome::Undecided {
        message,
        changed: false,
    }
}

/// rsync's last line, which says nothing that the exit does not.
fn is_summary(line: &str) -> bool {
    (line.starts_with("rsync error: ") || line.starts_with("rsync warning: "))
        && line.ends_with(']')
        && line.contains(" (code ")
}

/// Standard error by lines: rsync escapes line ends in names, so a line is a message.
struct Lines<'a>(Vec<std::borrow::Cow<'a, str>>);

impl<'a> Lines<'a> {
    fn of(stderr: &'a [u8]) -> Self {
        let lines = stderr
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        Self(lines.map(String::from_utf8_lossy).collect())
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.iter().any(test)
    }

    /// The line that says most about why a run failed: mostly one about the remote. What was said of single files is
    /// older, and nothing to the purpose where a connection has ended.
    fn cause(&self, exit: &Exit) -> String {
        let messages = || self.iter().filter(|line| !is_summary(line));
        let has_files = |line: &&str| Subject::of(line) != Subject::File || may_be_a_file(exit);
        let told = messages()
            .find(|line| says_receiver_is_full(line))
            .or_else(|| {
                messages()
                    .filter(has_files)
                    .min_by_key(|line| Subject::of(line))
            })
            .or_else(|| self.iter().find(|line| is_summary(line)));
        match (told, exit) {
            (Some(line), _) => shortened(line),
            (None, exit) => exit.to_string(),
        }
    }
}

/// Whether a failure with one file can have ended a run like this.
fn may_be_a_file(exit: &Exit) -> bool {
    const SOCKET: i32 = 10;
    const STREAM: i32 = 12;
    const TIMEOUTS: [i32; 2] = [30, 35];
    match exit {
        Exit::Code(code) => {
            ![SOCKET, STREAM, ssh::FAILED].contains(code) && !TIMEOUTS.contains(code)
        }
        Exit::Signal(_) | Exit::NotStarted(_) | Exit::Stuck | Exit::Hung => false,
    }
}

/// Said of a file, and ends the run all the same: with 11, or with 12 where the connection went first.
fn says_receiver_is_full(line: &str) -> bool {
    let heads = ["rsync: [receiver] ", "rsync: [Receiver] "];
    heads.iter().any(|head| line.starts_with(head)) && says_disk_full(line)
}

/// Messages are kept with each failed path and shown in tables.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 300;
    line.char_indices()
        .nth(LONGEST)
        .map_or_else(|| line.to_owned(), |(at, _)| format!("{}…", &line[..at]))
}

/// Finds the one name a message is about.
struct NameReader<'a> {
    listed: HashMap<Vec<u8>, &'a RelPath>,
    /// Names below the listed ones may be meant as well.
    below: bool,
    /// Names below are given as they are; otherwise the listed one above them is.
    exact_below: bool,
    prefixes: Vec<Vec<u8>>,
}

impl<'a> NameReader<'a> {
    fn new(kind: RunKind, names: &Names<'a>) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let mut prefixes = vec![slashed(escape(names.root.as_os_str().as_bytes()))];
        match names.target {
            Target::Local { path } | Target::Ssh { path, .. } => {
                prefixes.push(slashed(escape(path.as_os_str().as_bytes())));
            }
            Target::Daemon { module, .. } => {
                if let Some((_, below)) = module.split_once('/') {
                    prefixes.push(slashed(escape(below.as_bytes())));
                    prefixes.push(slashed(escape(format!("/{below}").as_bytes())));
                }
            }
        }
        prefixes.push(b"/".to_vec());
        Self {
            listed: names
                .listed
                .iter()
                .map(|path| (escape(path.as_bytes()), path))
                .collect(),
            below: !matches!(kind, RunKind::Send { .. }),
            exact_below: matches!(kind, RunKind::Tree { .. }),
            prefixes,
        }
    }

    /// The listed name that explains a line, if there is exactly one.
    fn read(&self, line: &str) -> Option<RelPath> {
        // With one name there is nobody else to blame.
        if self.listed.len() == 1 && !self.exact_below {
            return self.listed.values().next().map(|path| (*path).clone());
        }
        if self.exact_below {
            return self.read_exact(line);
        }
        let mut found: Option<RelPath> = None;
        for candidate in candidates(line)? {
            for path in self.explain(candidate) {
                match &found {
                    Some(other) if *other != path => return None,
                    _ => found = Some(path),
                }
            }
        }
        found
    }

    /// The name in a message of a tree run. Anything may be below its directories, so only a line with one name in
    /// quotation marks, or with a temporary and a final one, is clear enough.
    fn read_exact(&self, line: &str) -> Option<RelPath> {
        let parts: Vec<&str> = line.split('"').collect();
        let name = match parts[..] {
            [_, name, _] => name,
            [_, _, between, name, _] if between.ends_with(" -> ") => name,
            [_] => candidates(line)?.into_iter().next()?,
            _ => return None,
        };
        let name = name.as_bytes();
        let mut prefixes = self.prefixes.iter().map(Vec::as_slice).chain([&b""[..]]);
        let below = prefixes.find_map(|prefix| name.strip_prefix(prefix))?;
        let below = final_name(below).unwrap_or_else(|| below.to_vec());
        self.is_below(&below)
            .then(|| RelPath::new(&unescape(&below)))?
    }

    fn is_below(&self, name: &[u8]) -> bool {
        let mut ends = (0..name.len())
            .filter(|at| name[*at] == b'/')
            .chain([name.len()]);
        self.listed.contains_key(&b""[..]) || ends.any(|end| self.listed.contains_key(&name[..end]))
    }

    /// Every name a part of a message may stand for.
    fn explain(&self, candidate: &str) -> Vec<RelPath> {
        let candidate = candidate.as_bytes();
        let stripped = self
            .prefixes
            .iter()
            .filter_map(|prefix| candidate.strip_prefix(&prefix[..]));
        let names: Vec<Vec<u8>> = stripped
            .chain([candidate])
            .flat_map(|name| [Some(name.to_vec()), final_name(name)])
            .flatten()
            .filter(|name| !name.is_empty())
            .collect();
        let listed: Vec<RelPath> = names
            .iter()
            .filter_map(|name| self.listed.get(name))
            .map(|path| (*path).clone())
            .collect();
        if listed.is_empty() && self.below {
            // Anything may be below the root; the longest prefix is the one that was meant.
            return names
                .iter()
                .find_map(|name| self.above(name))
                .into_iter()
                .collect();
        }
        listed
    }

    /// What a name below a listed one stands for.
    fn above(&self, name: &[u8]) -> Option<RelPath> {
        let above = (0..name.len())
            .rev()
            .filter(|at| name[*at] == b'/')
            .find_map(|at| self.listed.get(&name[..at]))
            .or_else(|| self.listed.get(b"".as_slice()))?;
        Some((*above).clone())
    }
}

/// Every part of a message that may be a name: between any two quotation marks, in brackets, behind a colon.
/// `None` if there are more than is sane.
fn candidates(line: &str) -> Option<Vec<&str>> {
    const MOST: usize = 12;
    let mut parts = Vec::new();
    let quotes: Vec<usize> = line.match_indices('"').map(|(at, _)| at).collect();
    if quotes.len() > MOST {
        return None;
    }
    for (nth, from) in quotes.iter().enumerate() {
        for to in &quotes[nth + 1..] {
            parts.push(&line[from + 1..*to]);
        }
    }
    for call in ["unlink(", "rmdir(", "unlinkat(", "chmod("] {
        if let Some(rest) = behind_words(line, call) {
            parts.extend(
                rest.match_indices(')')
                    .take(MOST)
                    .map(|(at, _)| &rest[..at]),
            );
        }
    }
    for phrase in ["non-empty directory: ", "could not make way for "] {
        if let Some(rest) = behind_words(line, phrase) {
            parts.push(rest);
            parts.extend(rest.split_once(": ").map(|(_, name)| name));
        }
    }
    if let Some(rest) = ["ERROR: ", "WARNING: "]
        .iter()
        .find_map(|head| line.strip_prefix(head))
    {
        parts.extend(
            rest.rsplit_once(" failed verification")
                .map(|(name, _)| name),
        );
    }
    Some(parts)
}

/// What follows a phrase of rsync's, if only words of rsync's stand before it: in a name it means nothing.
fn behind_words<'a>(line: &'a str, phrase: &str) -> Option<&'a str> {
    let (before, rest) = line.split_once(phrase)?;
    let is_said = |c: char| c.is_ascii_alphabetic() || "_ :[]".contains(c);
    before.chars().all(is_said).then_some(rest)
}

/// `dir/.name.AbC123` is what rsync calls `dir/name` while it is written.
fn final_name(temporary: &[u8]) -> Option<Vec<u8>> {
    let (dir, name) = match temporary.iter().rposition(|byte| *byte == b'/') {
        Some(at) => temporary.split_at(at + 1),
        None => (&b""[..], temporary),
    };
    let rest = name.strip_prefix(b".")?;
    let (name, suffix) = rest.split_at(rest.len().checked_sub(7)?);
    let is_suffix =
        suffix.first() == Some(&b'.') && suffix[1..].iter().all(u8::is_ascii_alphanumeric);
    (is_suffix && !name.is_empty()).then(|| [dir, name].concat())
}

fn slashed(mut prefix: Vec<u8>) -> Vec<u8> {
    if prefix.last() != Some(&b'/') {
        prefix.push(b'/');
    }
    prefix
}

/// A name as rsync prints it in the C locale: what is not printable ASCII as `\#ooo`, and a backslash too where it
/// would look like such an escape.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for (at, byte) in name.iter().enumerate() {
        let looks_escaped = *byte == b'\\'
            && name.get(at + 1) == Some(&b'#')
            && name
                .get(at + 2..at + 5)
                .is_some_and(|rest| rest.iter().all(u8::is_ascii_digit));
        let printable = matches!(byte, b' '..=b'~' | b'\t');
        if looks_escaped || !printable {
            out.extend_from_slice(format!("\\#{byte:03o}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, tail)) = rest.split_first() {
        let code = rest
            .strip_prefix(b"\\#")
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(code) = code {
            out.push(code);
            rest = &rest[5..];
        } else {
            out.push(*byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests;
