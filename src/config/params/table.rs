//! Which of rsync's options `params` may hold, and why not the others.
//!
//! An allow-list: an option that is not here is refused. Each reason completes the sentence "`--option` …".

/// What happens to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Handed to rsync.
    Pass,
    /// Handed to rsync, with a warning.
    PassBut(&'static str),
    /// Left out without a word: it changes only rsync's output, or sersync says it itself.
    Drop,
    /// Left out, with a warning.
    DropBut(&'static str),
    /// An error.
    Refuse(&'static str),
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// `--archive`
    None,
    /// `--bwlimit=RATE`
    Text,
    /// A path that must be absolute: a relative one would lie in the source or in the replica.
    Path,
    /// A name without slashes.
    Name,
    /// A pattern of `--exclude` or `--include`.
    Pattern,
    /// A rule of `--filter`.
    Rule,
}

/// Whether `--no-OPTION` exists and may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Negation {
    /// rsync does not know it.
    Unknown,
    /// Treated as the option itself is.
    Allowed,
    /// Left out without a word: the option is never passed on anyway.
    Dropped,
}

/// One option of rsync.
#[derive(Debug)]
pub(super) struct Rule {
    /// The long name without `--`; of an option that has none, its letter.
    pub(super) long: &'static str,
    /// The letter, where it has one.
    pub(super) short: Option<char>,
    pub(super) value: Value,
    pub(super) negation: Negation,
    pub(super) verdict: Verdict,
}

impl Rule {
    /// The rule of a long option or of one of its aliases.
    pub(super) fn by_long_name(name: &str) -> Option<&'static Self> {
        let name = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, long)| long);
        RULES
            .iter()
            .find(|rule| rule.long == name && rule.long.len() > 1)
    }

    /// The rule of a letter.
    pub(super) fn by_letter(letter: char) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.short == Some(letter))
    }

    /// Every long name there is, for suggestions.
    pub(super) fn long_names() -> impl Iterator<Item = &'static str> {
        RULES
            .iter()
            .map(|rule| rule.long)
            .filter(|long| long.len() > 1)
    }
}

/// Other names of the same options.
const ALIASES: &[(&str, &str)] = &[
    ("cc", "checksum-choice"),
    ("del", "delete"),
    ("delete-after", "delete"),
    ("delete-before", "delete"),
    ("delete-delay", "delete"),
    ("delete-during", "delete"),
    ("i-d", "implied-dirs"),
    ("i-r", "inc-recursive"),
    ("ignore-non-existing", "existing"),
    ("log-format", "out-format"),
    ("old-d", "old-dirs"),
    ("protect-args", "secluded-args"),
    ("remove-sent-files", "remove-source-files"),
    ("time-limit", "stop-after"),
    ("zc", "compress-choice"),
    ("zl", "compress-level"),
    ("zt", "compress-threads"),
];

const PARTIAL: &str = "leaves a half-sent file in place of the whole one when a transfer breaks off; leave it out if readers matter more than restarts";
const LINKS: &str = "sends what a link points to, but a change there raises no event: it arrives with the next full push";
const PER_DIRECTORY: &str = "takes its rules from files inside the tree, which change while it is mirrored; write them as --exclude='…'";
const LIST: &str = "is how sersync tells rsync what changed; remove it";
const RELATIVE: &str =
    "decides under which names files arrive, and sersync needs that itself; remove it";
const SUBSET: &str = "leaves files different that a mirror must make equal; remove it";
const BY_SIZE: &str = "leaves files out by their size, and what is left out would be taken for gone; use --exclude='…'";
const OTHER_TREE: &str = "takes another directory for a part of the replica; remove it";
const APPEND: &str =
    "takes for granted that files only grow, and leaves the others wrong; remove it";
const BACKUP: &str = "belongs elsewhere; write <backup start=\"true\" dir=\"DIRECTORY\"/>, which keeps what is deleted or replaced";
const NO_TRANSFER: &str = "sends nothing to the receiver; remove it";
const STOP: &str = "ends transfers halfway; remove it";
const STDERR: &str = "changes the messages that sersync reads; remove it";

use Negation::{Allowed as NO, Dropped as NO_DROPPED, Unknown as __};
use Value::{Name, None as Flag, Path, Pattern, Rule as FilterRule, Text};
use Verdict::{Drop, DropBut, Pass, PassBut, Refuse};

/// A row of [`RULES`]; a blank letter stands for none.
const fn row(
    long: &'static str,
    letter: char,
    value: Value,
    negation: Negation,
    verdict: Verdict,
) -> Rule {
    Rule {
        long,
        short: if letter == ' ' { None } else { Some(letter) },
        value,
        negation,
        verdict,
    }
}

#[rustfmt::skip]
static RULES: &[Rule] = &[
    // What is kept of a file.
    row("archive",            'a', Flag, __, Pass),
    row("links",              'l', Flag, NO, Pass),
    row("perms",              'p', Flag, NO, Pass),
    row("executability",      'E', Flag, __, Pass),
    row("chmod",              ' ', Text, __, Pass),
    row("acls",               'A', Flag, NO, Pass),
    row("xattrs",             'X', Flag, NO, Pass),
    row("owner",              'o', Flag, NO, Pass),
    row("group",              'g', Flag, NO, Pass),
    row("D",                  'D', Flag, NO, Pass),
    row("devices",            ' ', Flag, NO, Pass),
    row("specials",           ' ', Flag, NO, Pass),
    row("times",              't', Flag, NO, Pass),
    row("omit-dir-times",     'O', Flag, NO, Pass),
    row("omit-link-times",    'J', Flag, NO, Pass),
    row("atimes",             'U', Flag, NO, Pass),
    row("open-noatime",       ' ', Flag, NO, Pass),
    row("hard-links",         'H', Flag, NO, Pass),
    row("sparse",             'S', Flag, NO, Pass),
    row("super",              ' ', Flag, NO, Pass),
    row("fake-super",         ' ', Flag, __, Pass),
    row("numeric-ids",        ' ', Flag, NO, Pass),
    row("usermap",            ' ', Text, __, Pass),
    row("groupmap",           ' ', Text, __, Pass),
    row("chown",              ' ', Text, __, Pass),
    row("munge-links",        ' ', Flag, NO, Pass),
    row("crtimes",            'N', Flag, NO_DROPPED, Refuse("cannot work on Linux, where creation times cannot be set; remove it")),

    // How it is sent.
    row("recursive",          'r', Flag, NO_DROPPED, Drop),
    row("inc-recursive",      ' ', Flag, NO, Pass),
    row("one-file-system",    'x', Flag, NO, Pass),
    row("whole-file",         'W', Flag, NO, Pass),
    row("checksum",           'c', Flag, NO, PassBut("reads every file in full at both ends on each full push, which is slow")),
    row("checksum-choice",    ' ', Text, __, Pass),
    row("checksum-seed",      ' ', Text, __, Pass),
    row("block-size",         'B', Text, __, Pass),
    row("fuzzy",              'y', Flag, NO, Pass),
    row("ignore-times",       'I', Flag, __, Pass),
    row("modify-window",      '@', Text, __, PassBut("makes rsync take files for equal whose times differ by that much: a quick second change may not arrive")),
    row("compress",           'z', Flag, NO, Pass),
    row("compress-choice",    ' ', Text, __, Pass),
    row("compress-level",     ' ', Text, __, Pass),
    row("compress-threads",   ' ', Text, __, Pass),
    row("new-compress",       ' ', Flag, __, Pass),
    row("old-compress",       ' ', Flag, __, Pass),
    row("skip-compress",      ' ', Text, __, Pass),
    row("bwlimit",            ' ', Text, __, Pass),
    row("max-alloc",          ' ', Text, __, Pass),
    row("secluded-args",      's', Flag, NO, Pass),
    row("ipv4",               '4', Flag, __, Pass),
    row("ipv6",               '6', Flag, __, Pass),
    row("address",            ' ', Text, __, Pass),
    row("blocking-io",        ' ', Flag, NO, Pass),
    row("motd",               ' ', Flag, NO_DROPPED, Drop),
    row("protocol",           ' ', Text, __, Pass),

    // How it is written.
    row("temp-dir",           'T', Path, __, PassBut("names a directory of the receiver; it must exist there and lie outside the replica")),
    row("preallocate",        ' ', Flag, __, Pass),
    row("fsync",              ' ', Flag, __, Pass),
    row("inplace",            ' ', Flag, NO, PassBut("writes into the files that readers have open, and into every other name of a hard-linked one")),
    row("delay-updates",      ' ', Flag, NO, PassBut("shows no file before its whole run has ended")),
    row("partial",            ' ', Flag, NO, PassBut(PARTIAL)),
    row("partial-dir",        ' ', Name, __, PassBut("keeps half-sent files in directories of that name, and never sends one of that name from the source")),
    row("keep-dirlinks",      'K', Flag, __, PassBut("writes through a link at the receiver, to wherever it points")),
    row("copy-links",         'L', Flag, __, PassBut(LINKS)),
    row("copy-dirlinks",      'k', Flag, __, PassBut(LINKS)),
    row("copy-unsafe-links",  ' ', Flag, __, PassBut(LINKS)),
    row("safe-links",         ' ', Flag, __, PassBut("leaves out links that point outside the tree")),

    // Filters.
    row("exclude",            ' ', Pattern, __, Pass),
    row("include",            ' ', Pattern, __, Pass),
    row("filter",             'f', FilterRule, __, Pass),
    row("exclude-from",       ' ', Path, __, Pass),
    row("include-from",       ' ', Path, __, Pass),
    row("F",                  'F', Flag, __, Refuse(PER_DIRECTORY)),
    row("cvs-exclude",        'C', Flag, __, Refuse(PER_DIRECTORY)),
    row("prune-empty-dirs",   'm', Flag, NO_DROPPED, Refuse("leaves out empty directories, which a mirror must have too; remove it")),

    // Only rsync's own output.
    row("verbose",            'v', Flag, NO_DROPPED, Drop),
    row("quiet",              'q', Flag, __, Drop),
    row("human-readable",     'h', Flag, NO_DROPPED, Drop),
    row("itemize-changes",    'i', Flag, NO_DROPPED, Drop),
    row("progress",           ' ', Flag, NO_DROPPED, Drop),
    row("stats",              ' ', Flag, __, Drop),
    row("info",               ' ', Text, __, Drop),
    row("debug",              ' ', Text, __, Drop),
    row("outbuf",             ' ', Text, __, Drop),
    row("out-format",         ' ', Text, __, Drop),
    row("log-file",           ' ', Text, __, DropBut("is dropped: what was sent is in the journal")),
    row("log-file-format",    ' ', Text, __, Drop),
    row("stderr",             ' ', Text, __, Refuse(STDERR)),
    row("msgs2stderr",        ' ', Flag, NO_DROPPED, Refuse(STDERR)),
    row("8-bit-output",       '8', Flag, NO_DROPPED, Refuse(STDERR)),

    // What sersync does itself.
    row("update",             'u', Flag, __, DropBut("is dropped: a mirror must carry a file that is older than the receiver's too (a restored one, `cp -p`, `tar x`); keepUpdate=\"true\" beside `params` keeps it")),
    row("delete",             ' ', Flag, __, DropBut("is dropped: sersync deletes what <inotify> says, when it is gone from the source")),
    row("force",              ' ', Flag, NO_DROPPED, Drop),
    row("sockopts",           ' ', Text, __, DropBut("is dropped: sersync sets TCP_NODELAY")),
    row("timeout",            ' ', Text, NO_DROPPED, Refuse("belongs elsewhere; write <timeout start=\"true\" time=\"SECONDS\"/>")),
    row("contimeout",         ' ', Text, NO_DROPPED, Refuse("belongs elsewhere; write <timeout start=\"true\" time=\"SECONDS\"/>")),
    row("password-file",      ' ', Text, __, Refuse("belongs elsewhere; write <auth start=\"true\" users=\"USER\" passwordfile=\"FILE\"/>")),
    row("port",               ' ', Text, __, Refuse("belongs elsewhere; write <userDefinedPort start=\"true\" port=\"NUMBER\"/>")),
    row("rsh",                'e', Text, __, Refuse("belongs elsewhere; write <ssh start=\"true\"/>")),
    row("rsync-path",         ' ', Text, __, Refuse("could run any command at the receiver; remove it")),
    row("remote-option",      'M', Text, __, Refuse("hides options of the receiver from these checks; remove it")),
    row("files-from",         ' ', Text, __, Refuse(LIST)),
    row("from0",              '0', Flag, NO_DROPPED, Refuse(LIST)),
    row("ignore-missing-args",' ', Flag, __, Refuse(LIST)),
    row("delete-missing-args",' ', Flag, __, Refuse(LIST)),
    row("relative",           'R', Flag, NO_DROPPED, Refuse(RELATIVE)),
    row("dirs",               'd', Flag, NO_DROPPED, Refuse(RELATIVE)),
    row("old-dirs",           ' ', Flag, __, Refuse(RELATIVE)),
    row("implied-dirs",       ' ', Flag, __, Refuse(RELATIVE)),
    row("no-implied-dirs",    ' ', Flag, __, Refuse(RELATIVE)),
    row("mkpath",             ' ', Flag, NO_DROPPED, Refuse("makes a target that is not there, for instance a disk that is not mounted; make the directory once by hand")),

    // What would break mirroring.
    row("dry-run",            'n', Flag, __, Refuse(NO_TRANSFER)),
    row("list-only",          ' ', Flag, __, Refuse(NO_TRANSFER)),
    row("write-batch",        ' ', Text, __, Refuse("writes a batch file for another receiver on each run; remove it")),
    row("only-write-batch",   ' ', Text, __, Refuse(NO_TRANSFER)),
    row("read-batch",         ' ', Text, __, Refuse(NO_TRANSFER)),
    row("version",            'V', Flag, __, Refuse(NO_TRANSFER)),
    row("help",               ' ', Flag, __, Refuse(NO_TRANSFER)),
    row("daemon",             ' ', Flag, __, Refuse(NO_TRANSFER)),
    row("remove-source-files",' ', Flag, __, Refuse("deletes the source; remove it")),
    row("delete-excluded",    ' ', Flag, __, Refuse("deletes at the receiver what a filter protects there; remove it")),
    row("ignore-errors",      ' ', Flag, NO_DROPPED, Refuse("deletes at the receiver what could only not be read here; remove it")),
    row("max-delete",         ' ', Text, __, Refuse("belongs elsewhere; write <maxDelete start=\"true\" count=\"NUMBER\"/>, which asks a person before it deletes more")),
    row("existing",           ' ', Flag, __, Refuse(SUBSET)),
    row("ignore-existing",    ' ', Flag, __, Refuse(SUBSET)),
    row("size-only",          ' ', Flag, __, Refuse(SUBSET)),
    row("max-size",           ' ', Text, __, Refuse(BY_SIZE)),
    row("min-size",           ' ', Text, __, Refuse(BY_SIZE)),
    row("append",             ' ', Flag, NO_DROPPED, Refuse(APPEND)),
    row("append-verify",      ' ', Flag, __, Refuse(APPEND)),
    row("backup",             'b', Flag, NO_DROPPED, Refuse(BACKUP)),
    row("backup-dir",         ' ', Text, __, Refuse(BACKUP)),
    row("suffix",             ' ', Text, __, Refuse(BACKUP)),
    row("link-dest",          ' ', Text, __, Refuse(OTHER_TREE)),
    row("copy-dest",          ' ', Text, __, Refuse(OTHER_TREE)),
    row("compare-dest",       ' ', Text, __, Refuse(OTHER_TREE)),
    row("stop-after",         ' ', Text, __, Refuse(STOP)),
    row("stop-at",            ' ', Text, __, Refuse(STOP)),
    row("iconv",              ' ', Text, NO_DROPPED, Refuse("gives files other names at the receiver than sersync would delete there; remove it")),
    row("copy-devices",       ' ', Flag, __, Refuse("reads whole devices as files; remove it")),
    row("write-devices",      ' ', Flag, NO_DROPPED, Refuse("writes into devices at the receiver; remove it")),
    row("old-args",           ' ', Flag, NO_DROPPED, Refuse("lets a shell at the receiver split names; remove it")),
    row("copy-as",            ' ', Text, __, Refuse("needs root at the receiver for another user's files; set `uid` in the module instead")),
    row("early-input",        ' ', Text, __, Refuse("reads a file of its own on each connection; remove it")),
    row("trust-sender",       ' ', Flag, __, Drop),
    // `-P` is `--partial --progress`; the second is only output.
    row("P",                  'P', Flag, __, PassBut(PARTIAL)),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_and_no_letter_stands_for_two_options() {
        let mut names = HashSet::new();
        let mut letters = HashSet::new();
        for rule in RULES {
            assert!(names.insert(rule.long), "{}", rule.long);
            assert!(
                rule.short.is_none_or(|letter| letters.insert(letter)),
                "{}",
                rule.long
            );
        }
        for (alias, long) in ALIASES {
            assert!(names.insert(alias), "{alias}");
            assert!(
                Rule::by_long_name(alias).is_some_and(|rule| rule.long == *long),
                "{alias}"
            );
        }
    }

    #[test]
    fn what_is_dropped_or_refused_has_no_negation_that_passes() {
        for rule in RULES
            .iter()
            .filter(|rule| rule.negation == Negation::Allowed)
        {
            assert!(matches!(rule.verdict, Pass | PassBut(_)), "{}", rule.long);
        }
    }
}
