//! The argument vector and the list of one run. Pure.
//!
//! Every run has the same shape: the user's options, then ours (rsync takes the later one where two speak of the same
//! thing), then `-- . TARGET/`, with the names on standard input: NUL-separated, each as `./name`, since rsync would
//! take a name that begins with `#` or `;` for a comment.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::rules::{Effect, rule, rule_below};
use crate::config::{Backup, RemoteConfig, Target};
use crate::path::RelPath;

/// The source, which is the working directory. Just this: from a relative path, as `./` is one, rsync makes an absolute one
/// with what getcwd told it at its start, and changes into that. If the source is unmounted between the two, it is in
/// the bare mount point then, and deletes everything (seen with 3.5.0). From `.` it does not change at all.
const HERE: &str = ".";

/// What a tree run with deletion would make and remove.
const FORESEEING: [&str; 4] = [
    "--dry-run",
    "--recursive",
    "--ignore-missing-args",
    "--delete",
];

/// Seconds to connect to a daemon. A host that drops packets must not keep a probe for minutes.
const CONNECT_SECONDS: u32 = 10;

/// Nothing is changed.
pub(super) const DRY_RUN: &str = "--dry-run";
const OUT_FORMAT: &str = "--out-format=%i %n";
/// Has a run print how far it is, as [`Progress`](super::Progress) reads it. rsync does so after each file: of small ones
/// a fifth of the time goes into that (300 000 files of 20 bytes by loopback: 6.9 s without, 8.6 with).
pub const PROGRESS: &str = "--info=progress2";
const END_OF_OPTIONS: &str = "--";

/// What a run is to do with its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunKind {
    /// Send the listed entries, and nothing below listed directories.
    Send {
        /// Also where size and time agree.
        ignore_times: bool,
    },
    /// Remove the listed names, which are missing at the source, in the form that the receiver takes.
    Delete {
        /// Whether the list holds the missing names themselves; else the directories they are missing from.
        by_name: bool,
    },
    /// Say what is only at the receiver in the listed directories, without doing anything.
    List {
        /// Also below them.
        recursive: bool,
    },
    /// Count which of the listed files differ, without doing anything.
    Ask {
        /// Compare times with all their digits instead of in whole seconds.
        exact: bool,
    },
    /// Make the listed directories equal with all their content.
    Tree {
        /// Also remove what is only at the receiver.
        delete: bool,
        /// Compare what agrees in size and time by its content.
        ignore_times: bool,
    },
    /// Count what a [`Tree`](Self::Tree) with deletion would make and remove, without doing anything.
    Foresee {
        /// Also what a run would not dare to remove, since not all of the source could be read.
        despite_errors: bool,
    },
    /// Say what differs in the listed directories by checksum, without doing anything.
    Verify {
        /// Also what is only at the receiver.
        delete: bool,
    },
}

impl RunKind {
    /// A comparison by size and time.
    #[must_use]
    pub const fn tree(delete: bool) -> Self {
        Self::Tree {
            delete,
            ignore_times: false,
        }
    }

    /// Whether nothing is at stake but what is listed.
    #[must_use]
    pub fn is_by_name(self) -> bool {
        matches!(
            self,
            Self::Send { .. } | Self::Ask { .. } | Self::Delete { by_name: true }
        )
    }
}

/// How long a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Some milliseconds. With `--timeout` the daemon greets with one more small packet and, by Nagle's algorithm, waits
    /// for its acknowledgement: 45 ms for a run of 8. So a brief run goes without, and is ended by us if need be.
    Brief,
    /// As long as it moves on.
    Long,
}

/// Which of our options a receiver has not refused so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forms {
    /// `--delete-missing-args`: receivers with certain security patches abort at it.
    pub delete_by_name: bool,
    /// `--force`.
    pub force: bool,
    /// `--delete` in tree runs.
    pub delete_in_trees: bool,
    /// Whether the receiver keeps the fractions of a second in times, once that is known. By itself rsync compares
    /// whole seconds, and takes a file that was written twice within one for equal if the size is. Where fractions are
    /// lost, comparing them would send everything again with each tree run.
    pub exact_times: Option<bool>,
}

impl Forms {
    /// What is tried first. With a filter among the user's options missing names cannot be listed: that form removes
    /// what a filter protects below a missing directory.
    #[must_use]
    pub fn of(remote: &RemoteConfig) -> Self {
        Self {
            delete_by_name: !remote.params.filtered(),
            force: true,
            delete_in_trees: true,
            exact_times: None,
        }
    }

    /// The same where rsync does not know all that must stay at the receiver: neither option may remove a directory
    /// with its content.
    #[must_use]
    pub fn without_content(self) -> Self {
        Self {
            delete_by_name: false,
            force: false,
            ..self
        }
    }
}

/// The arguments of a run, without the program's name.
#[must_use]
pub fn arguments(remote: &RemoteConfig, kind: RunKind, forms: Forms, pace: Pace) -> Vec<OsString> {
    let mut args = leaving_the_backup_alone(remote);
    args.extend_from_slice(remote.params.args());
    args.extend(keeping(remote, kind));
    args.extend(removing_nothing(remote, kind));
    let mut ours = |option: &str| args.push(option.into());
    match kind {
        RunKind::Send { .. } => {
            for option in ["--no-r", "--dirs", "--ignore-missing-args"] {
                ours(option);
            }
        }
        RunKind::Ask { .. } => {
            for option in [DRY_RUN, "--no-r", "--dirs", "--ignore-missing-args"] {
                ours(option);
            }
        }
        RunKind::Delete { by_name: true } => {
            // Nothing new is made. Without `--ignore-existing` a link that still stands at the receiver for a parent is
            // replaced first; with it, rsync would delete through the link.
            for option in ["--no-r", "--dirs", "--existing", "--delete-missing-args"] {
                ours(option);
            }
        }
        RunKind::Delete { by_name: false } => {
            // Nothing is sent: a half-written sibling stays as it is.
            for option in [
                "--no-r",
                "--dirs",
                "--existing",
                "--ignore-existing",
                "--delete",
            ] {
                ours(option);
            }
        }
        RunKind::List { recursive } => listing(recursive).into_iter().for_each(&mut ours),
        RunKind::Foresee { despite_errors } => {
            FORESEEING.into_iter().for_each(&mut ours);
            if despite_errors {
                ours("--ignore-errors");
            }
        }
        RunKind::Verify { delete } => {
            for option in [
                DRY_RUN,
                "--recursive",
                "--checksum",
                OUT_FORMAT,
                "--ignore-missing-args",
            ] {
                ours(option);
            }
            if delete {
                ours("--delete");
            }
        }
        RunKind::Tree { delete, .. } => {
            ours("--recursive");
            ours("--ignore-missing-args");
            if delete {
                ours("--delete");
            }
            if remote.params.hard_links() {
                // With its incremental recursion, rsync 3.5.0 waits for itself for ever when the first name of a group
                // of hard links vanishes under the run.
                ours("--no-inc-recursive");
            }
        }
    }
    comparing(remote, kind, forms)
        .into_iter()
        .for_each(&mut ours);
    if forms.force {
        ours("--force");
    }
    for option in [
        "--files-from=-",
        "--from0",
        "--stats",
        "--no-human-readable",
    ] {
        ours(option);
    }
    if pace == Pace::Long || !matches!(remote.target, Target::Daemon { .. }) {
        ours(&format!("--timeout={}", remote.timeout.as_secs().max(1)));
    }
    args.extend(for_a_daemon(&remote.target));
    args.extend([
        END_OF_OPTIONS.into(),
        HERE.into(),
        destination(&remote.target),
    ]);
    args
}

/// The same run, which tells how far it is.
#[must_use]
pub fn telling_progress(mut args: Vec<OsString>) -> Vec<OsString> {
    let end = args.iter().rposition(|arg| arg == END_OF_OPTIONS);
    let end = end.unwrap_or(args.len());
    args.insert(end, PROGRESS.into());
    args
}

/// The same run, which removes no more than so many entries with what it stops at.
#[must_use]
pub fn limited(mut args: Vec<OsString>, most: u64) -> Vec<OsString> {
    let end = args.iter().rposition(|arg| arg == END_OF_OPTIONS);
    let end = end.unwrap_or(args.len());
    args.insert(end, format!("--max-delete={most}").into());
    args
}

fn ignoring_times(remote: &RemoteConfig) -> &'static str {
    if remote.backup.is_some() {
        // A file that is sent once more as it is would take the place of the version that is kept.
        "--checksum"
    } else {
        "--ignore-times"
    }
}

/// With `maxDelete`, what only sends removes no directory with content for a file that is to stand in its place.
fn removing_nothing(remote: &RemoteConfig, kind: RunKind) -> Option<OsString> {
    let only_sends = matches!(
        kind,
        RunKind::Send { .. } | RunKind::Tree { delete: false, .. }
    );
    (only_sends && remote.max_delete.is_some()).then(|| "--max-delete=0".into())
}

/// What keeps the backup directory in a target out of every run. First, so that no rule of the user's takes it away.
fn leaving_the_backup_alone(remote: &RemoteConfig) -> Vec<OsString> {
    let dir = remote.backup.as_ref().and_then(Backup::inside);
    dir.map_or_else(Vec::new, |dir| {
        vec![
            rule(Effect::Exclude, dir, false),
            rule_below(Effect::Exclude, dir),
        ]
    })
}

/// What keeps the entries that a run deletes or replaces.
fn keeping(remote: &RemoteConfig, kind: RunKind) -> Vec<OsString> {
    match (&remote.backup, kind) {
        (Some(backup), RunKind::Send { .. } | RunKind::Delete { .. } | RunKind::Tree { .. }) => {
            vec!["--backup".into(), backup.as_option(&remote.target)]
        }
        _ => Vec::new(),
    }
}

fn for_a_daemon(target: &Target) -> Vec<OsString> {
    let Target::Daemon {
        port,
        password_file,
        ..
    } = target
    else {
        return Vec::new();
    };
    // Nagle's algorithm costs a lone change two times 40 ms. A standby's dead connection is noticed by keepalive.
    let mut args: Vec<OsString> = vec![
        "--sockopts=TCP_NODELAY,SO_KEEPALIVE".into(),
        format!("--contimeout={CONNECT_SECONDS}").into(),
        "--no-motd".into(),
    ];
    args.extend(port.map(|port| format!("--port={port}").into()));
    if let Some(file) = password_file {
        let mut option = OsString::from("--password-file=");
        option.push(file);
        args.push(option);
    }
    args
}

/// The same run as a rehearsal: it says what it would do, an entry a line as [`Itemized`](super::Itemized) reads them,
/// and does nothing.
#[must_use]
pub fn rehearsed(mut args: Vec<OsString>) -> Vec<OsString> {
    let end = args.iter().rposition(|arg| arg == END_OF_OPTIONS);
    let end = end.unwrap_or(args.len());
    args.splice(end..end, [DRY_RUN.into(), OUT_FORMAT.into()]);
    args
}

/// Puts rules before those of the user, since of several rules the first that fits counts, and after those that leave the
/// backup alone.
pub fn put_rules(args: &mut Vec<OsString>, remote: &RemoteConfig, rules: Vec<OsString>) {
    let own = leaving_the_backup_alone(remote);
    let first = args.iter().position(|arg| own.first() == Some(arg));
    let at = first.map_or(0, |first| first + own.len());
    args.splice(at..at, rules);
}

/// The options that leave out what these patterns name.
pub fn excluding(patterns: &[String]) -> impl Iterator<Item = OsString> {
    patterns
        .iter()
        .map(|pattern| format!("--exclude={pattern}").into())
}

/// Says what it would remove, and neither does that nor looks at what could be sent.
fn listing(recursive: bool) -> [&'static str; 7] {
    let [depth, how] = if recursive {
        ["--recursive", "--ignore-missing-args"]
    } else {
        ["--no-r", "--dirs"]
    };
    [
        depth,
        how,
        DRY_RUN,
        "--existing",
        "--ignore-existing",
        "--delete",
        OUT_FORMAT,
    ]
}

/// By what a run tells which files differ.
fn comparing(remote: &RemoteConfig, kind: RunKind, forms: Forms) -> Option<&'static str> {
    let (ignore_times, exact) = match kind {
        RunKind::Send { ignore_times } => (ignore_times, forms.exact_times == Some(true)),
        // As long as nothing is known, there was nothing at the receiver to lose by it.
        RunKind::Tree { ignore_times, .. } => (ignore_times, forms.exact_times != Some(false)),
        RunKind::Ask { exact } => (false, exact),
        RunKind::Verify { .. } => (false, false),
        RunKind::Delete { .. } | RunKind::List { .. } | RunKind::Foresee { .. } => return None,
    };
    let sends = matches!(kind, RunKind::Send { .. } | RunKind::Tree { .. });
    let sends_what_is_equal = remote.params.sends_what_is_equal() && remote.backup.is_some();
    if ignore_times || (sends && sends_what_is_equal) {
        Some(ignoring_times(remote))
    } else {
        modify_window(remote, exact)
    }
}

/// How exactly times are compared, unless the params say it: a receiver's file system may keep but even seconds.
fn modify_window(remote: &RemoteConfig, exact: bool) -> Option<&'static str> {
    let ours = if exact {
        "--modify-window=-1"
    } else {
        "--modify-window=0"
    };
    (!remote.params.modify_window()).then_some(ours)
}

/// The target as rsync takes it, with the slash that makes it a directory.
fn destination(target: &Target) -> OsString {
    let login = |user: &Option<String>, host: &str| {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let user = user
            .as_ref()
            .map(|user| format!("{user}@"))
            .unwrap_or_default();
        format!("{user}{host}")
    };
    match target {
        Target::Daemon {
            host, module, user, ..
        } => format!("{}::{module}/", login(user, host)).into(),
        Target::Ssh {
            host, path, user, ..
        } => {
            let mut target = OsString::from(login(user, host));
            target.push(":");
            if path.parent().is_some() {
                target.push(path);
            }
            // rsync would make the directory, and a disk may not be mounted there. It does not make a `.` in it.
            target.push("/./");
            target
        }
        Target::Local { path } => {
            let mut path = path.clone().into_os_string();
            path.push("/");
            path
        }
    }
}

/// The names of a run as its standard input.
#[must_use]
pub fn list<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut list = Vec::new();
    for path in paths {
        list.extend_from_slice(b"./");
        list.extend_from_slice(path.as_bytes());
        list.push(0);
    }
    list
}

/// Whether a list holds a single path.
#[must_use]
pub fn names_one(list: &[u8]) -> bool {
    let end = list.iter().position(|byte| *byte == 0);
    end.is_some_and(|end| end + 1 == list.len())
}

/// Missing names, and the directories above them, as the list of a [`RunKind::Delete`] that is by name.
///
/// A directory that is only implied, and has vanished by the time that rsync looks, is warned of and not sent, and rsync
/// deletes below its name all the same: through a link, if that is what the receiver has there. One that is listed is missing
/// like the others then, and is removed before anything below it (rsync 3.5.0).
#[must_use]
pub fn missing_list<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut all: BTreeSet<RelPath> = BTreeSet::new();
    for path in paths {
        for above in path.ancestors_below_root() {
            all.insert(above);
        }
        all.insert(path.clone());
    }
    list(&all)
}

/// The directories that missing names are missing from, as the list of a [`RunKind::Delete`] that is not by name.
#[must_use]
pub fn parents_list<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut parents: Vec<RelPath> = paths.into_iter().filter_map(RelPath::parent).collect();
    parents.sort();
    parents.dedup();
    directories_list(&parents)
}

/// Directories with their direct content, as the list of a [`RunKind::Delete`] that is not by name.
#[must_use]
pub fn directories_list(dirs: &[RelPath]) -> Vec<u8> {
    let mut list = Vec::new();
    for dir in dirs {
        list.extend_from_slice(b"./");
        list.extend_from_slice(dir.as_bytes());
        if !dir.is_root() {
            list.push(b'/');
        }
        list.push(0);
    }
    list
}

/// The arguments on one line of a log. Never to be run: a name may hold anything.
#[must_use]
pub fn shown(args: &[OsString]) -> String {
    let mut line = String::from("rsync");
    for arg in args {
        line.push(' ');
        line.push_str(&crate::path::escaped(OsStr::as_bytes(arg)).to_string());
    }
    line
}
