//! What of a message may be told to everybody: the signals and properties on the bus and the status line are heard by
//! all users of a machine, and the names of files are nobody's business but those who may ask for them.
//!
//! Only words that are known to hold no name are passed on, our own and those of a remote about itself. Of everything else
//! there remain the exit and the number of the error, from which the words are made again. So a message that nobody has
//! foreseen says too little and never too much.

use std::io;

/// Beginnings of what we say ourselves, of an end or a path, without naming any.
const OURS: [&str; 18] = [
    "an option was refused",
    "it had changed each time",
    "it refuses an option",
    "it was stopped",
    "it would have deleted ",
    "more messages than are kept",
    "rsync could not be started: ",
    "rsync exited with ",
    "rsync hung and was ended",
    "rsync removed nothing, since ",
    "rsync was ended by signal ",
    "rsync was stuck in a pipe",
    "the path is longer than rsync can take",
    "the source could not be looked at: ",
    "the source had changed each time",
    "the target directory ",
    "what is there changed while ",
    NOT_SURE,
];

/// It may be followed by rsync's words for the reason.
const NOT_SURE: &str = "nothing is deleted in a directory that could not be sent";

/// Beginnings of what rsync says of a connection, or of a remote as a whole: behind its name and its role.
const OF_A_REMOTE: [&str; 29] = [
    "@ERROR",
    "ERROR: module is ",
    "ERROR: password file ",
    "ERROR: The remote path must ",
    "The server is configured to refuse --",
    "auth failed on module ",
    "could not open password file ",
    "did not see server greeting",
    "error in socket",
    "error reading from socket",
    "error waiting for",
    "error writing to socket",
    "failed to bind",
    "failed to connect to ",
    "getaddrinfo: ",
    "io timeout after ",
    "io timeout --",
    "on remote machine: --",
    "password file must ",
    "protocol version mismatch",
    "read error: ",
    "read errors from ",
    "safe_read failed to read ",
    "safe_write failed to write ",
    "server sent ",
    "unable to connect to ",
    "unexpected tag ",
    "write error: ",
    "writefd_unbuffered failed to write ",
];

/// The end of a connection, of which another line mostly says why.
const CLOSED: &str = "connection unexpectedly closed";

/// The same of ssh, and of what it finds at the receiver.
const OF_SSH: [&str; 25] = [
    "Bad configuration option",
    "Bad owner or permissions on ",
    "Connection closed by ",
    "Connection reset by ",
    "Connection timed out",
    "Connection to ",
    "Disconnected from ",
    "Host key for ",
    "Host key verification failed",
    "Permission denied (",
    "Permission denied, please try again",
    "Received disconnect from ",
    "This account is currently not available",
    "Timeout, server ",
    "Too many authentication failures",
    "Unable to negotiate with ",
    "client_loop: ",
    "command-line line 0: ",
    "kex_exchange_identification: ",
    "packet_write_wait: ",
    "ssh could not be started: ",
    "ssh: ",
    "ssh_dispatch_run_fatal: ",
    "the connection over ssh broke off",
    "the log-in by ssh was not over ",
];

/// Beginnings of messages that are about one file, in whatever form they name it.
const OF_A_FILE: [&str; 11] = [
    "ABORTING due to invalid path from sender",
    "IO error encountered",
    "WARNING: ",
    "cannot delete non-empty directory",
    "could not make way for ",
    "delete_file: ",
    "directory has vanished: ",
    "file has vanished: ",
    "invalid file mode ",
    "skipping ",
    "symlink has no referent: ",
];

/// What a message is about, as far as it matters for the choice among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The remote, or the way to it: why it went.
    Remote,
    /// Nothing that we know.
    Unknown,
    /// The way to it: that it went.
    End,
    /// A file.
    File,
}

impl Subject {
    pub(super) fn of(line: &str) -> Self {
        let words = without_role(line);
        let begins = |heads: &[&str]| heads.iter().any(|head| words.starts_with(head));
        if words.starts_with(CLOSED) {
            Self::End
        } else if begins(&OF_A_REMOTE)
            || begins(&OF_SSH)
            || is_refused_log_in(words)
            || is_unknown_host(words)
            || is_unknown_option(words)
        {
            Self::Remote
        } else if begins(&OF_A_FILE)
            || words.contains('"')
            || words.contains(" failed verification")
            || words.contains("unlink(")
        {
            Self::File
        } else {
            Self::Unknown
        }
    }
}

/// A message and its exit code in words that name no file.
#[must_use]
pub fn words(exit: i32, message: &str) -> String {
    if let Some(reason) = message.strip_prefix(NOT_SURE) {
        let reason = reason.strip_prefix(": ");
        return reason.map_or_else(
            || NOT_SURE.to_owned(),
            |reason| format!("{NOT_SURE}: {}", words(exit, reason)),
        );
    }
    if OURS.iter().any(|head| message.starts_with(head)) {
        return message.to_owned();
    }
    for said in [super::ssh::NO_RSYNC, "the identity file cannot be read"] {
        if message.starts_with(said) {
            return said.to_owned();
        }
    }
    match Subject::of(message) {
        Subject::Remote | Subject::End => without_paths(message),
        Subject::File | Subject::Unknown => match errno(message) {
            Some(error) => format!("{}: {error}", meaning(exit)),
            None => meaning(exit),
        },
    }
}

/// `rsync: [sender] words` are the words.
fn without_role(line: &str) -> &str {
    let line = line.strip_prefix("rsync: ").unwrap_or(line);
    let role = |c: char| c.is_ascii_alphanumeric() || "=.".contains(c);
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(name, _)| name.chars().all(role))
        .map_or(line, |(_, words)| words)
}

/// `user@host: Permission denied (publickey).`
fn is_refused_log_in(line: &str) -> bool {
    line.split_once(": Permission denied (")
        .is_some_and(|(who, _)| who.contains('@') && !who.contains([' ', '/', '"', '(']))
}

/// `No ED25519 host key is known for h and you have requested strict checking.`
fn is_unknown_host(line: &str) -> bool {
    let kind = |(kind, _): (&str, &str)| kind.chars().all(|c| c.is_ascii_alphanumeric());
    line.strip_prefix("No ")
        .and_then(|rest| rest.split_once(" host key is known for "))
        .is_some_and(kind)
}

/// `--option: unknown option`
fn is_unknown_option(line: &str) -> bool {
    line.starts_with("--") && line.ends_with(": unknown option")
}

/// Configurations and keys have paths too: a word with a slash is none of the words that matter.
fn without_paths(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let is_path = word.contains('/');
        if is_path { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The system's words for the number at the end of a message of rsync's.
fn errno(line: &str) -> Option<String> {
    /// Linux has no higher ones.
    const HIGHEST: i32 = 133;
    if !line.starts_with("rsync: ") {
        return None;
    }
    let (_, number) = line.strip_suffix(')')?.rsplit_once(" (")?;
    let number = number.parse().ok()?;
    (1..=HIGHEST).contains(&number).then(|| {
        let words = io::Error::from_raw_os_error(number).to_string();
        words.replace("(os error ", "(")
    })
}

/// What rsync(1) says of its exits.
fn meaning(exit: i32) -> String {
    let meaning = match exit {
        1 => "syntax, or the receiver forbids it",
        2 => "protocols do not fit",
        3 => "a file or directory that was given is not in order",
        4 => "the receiver does not do it",
        5 => "the client-server protocol could not begin",
        10 => "socket I/O",
        11 => "file I/O",
        12 => "the data stream of the protocol",
        13 => "diagnostics",
        14 => "communication between processes",
        22 => "out of memory",
        23 => "some of it was not transferred",
        24 => "some of it vanished",
        25 => "too many deletions",
        30 => "the remote did not answer in time",
        35 => "the daemon did not answer in time",
        255 => "the connection over ssh",
        ..=0 => return "rsync failed".into(),
        _ => return format!("rsync exited with {exit}"),
    };
    format!("rsync exited with {exit} ({meaning})")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[test]
    fn what_a_remote_says_of_itself_is_told_as_it_is() {
        for line in [
            "@ERROR: auth failed on module ok",
            "@ERROR: Unknown module 'none'",
            "@ERROR: max connections (1) reached -- try again later",
            "ERROR: module is read only",
            "rsync: The server is configured to refuse --delete",
            "rsync: [sender] failed to connect to h (10.0.0.1): Connection refused (111)",
            "rsync: getaddrinfo: h 873: Name or service not known",
            "rsync: connection unexpectedly closed (0 bytes received so far) [sender]",
            "rsync: [sender] read error: Connection reset by peer (104)",
            "[sender] io timeout after 60 seconds -- exiting",
            "ssh: connect to host h port 22: Connection refused",
            "root@h: Permission denied (publickey).",
            "Host key verification failed.",
            "No ED25519 host key is known for h and you have requested strict checking.",
            "rsync: --no-such: unknown option",
            "rsync hung and was ended",
            "the target directory does not exist; make or mount it",
            "nothing is deleted in a directory that could not be sent: rsync exited with 23",
        ] {
            assert_eq!(words(5, line), line);
        }
    }

    #[test]
    fn of_a_message_about_a_file_everybody_hears_the_exit_and_the_error() {
        let full =
            "rsync: [receiver] write failed on \"big\" (in full): No space left on device (28)";
        assert_eq!(
            words(11, full),
            "rsync exited with 11 (file I/O): No space left on device (28)"
        );
        let kept = "cannot delete non-empty directory: d";
        assert_eq!(
            words(23, kept),
            "rsync exited with 23 (some of it was not transferred)"
        );
        assert_eq!(
            words(-1, "file has vanished: \"/data/src/d/x\""),
            "rsync failed"
        );
    }

    #[test]
    fn paths_of_keys_and_programs_are_not_told() {
        let line = "Bad owner or permissions on /root/.ssh/config";
        assert_eq!(words(255, line), "Bad owner or permissions on …");
        let line = "there is no rsync at the receiver: bash: /opt/rsync: No such file or directory";
        assert_eq!(words(127, line), "there is no rsync at the receiver");
    }

    /// Every form in which rsync names a file.
    fn forms(name: &str) -> Vec<String> {
        let quoted = [
            "rsync: [sender] send_files failed to open",
            "rsync: [sender] link_stat",
            "rsync: [sender] readlink_stat",
            "rsync: [sender] opendir",
            "rsync: [sender] read errors mapping",
            "rsync: [receiver] write failed on",
            "rsync: [receiver] mkstemp",
            "rsync: [receiver] chown",
            "rsync: [receiver] failed to set times on",
            "rsync: [receiver] rsync_xal_set: lsetxattr(",
            "rsync: [generator] recv_generator: mkdir",
            "rsync: [generator] failed to set permissions on",
            "rsync: [Receiver] mkdir",
            "skipping non-regular file",
            "file has vanished:",
            "directory has vanished:",
            "symlink has no referent:",
        ];
        let ends = [
            "",
            " failed: Permission denied (13)",
            " (in m) failed: No such file or directory (2)",
            " (in m): No space left on device (28)",
        ];
        let quoted = quoted.iter().flat_map(|head| {
            ends.iter()
                .map(move |end| format!("{head} \"/data/{name}\"{end}"))
        });
        let others = [
            format!(
                "rsync: [receiver] rename \"d/.{name}.JaxxWt\" (in m) -> \"d/{name}\": Operation not permitted (1)"
            ),
            format!(
                "rsync: [generator] symlink \"d/{name}\" -> \"{name}\" failed: File exists (17)"
            ),
            format!(
                "rsync: [generator] delete_file: unlink({name}) failed: Operation not permitted (1)"
            ),
            format!(
                "rsync: [generator] delete_file: rmdir({name}) failed: Directory not empty (39)"
            ),
            format!("cannot delete non-empty directory: {name}"),
            format!("could not make way for new regular file: {name}"),
            format!("could not make way for new symlink: {name}"),
            format!("ERROR: {name} failed verification -- update discarded."),
            format!("WARNING: {name} failed verification -- update discarded (will try again)."),
            format!("WARNING: parent dir is absent in the file list: {name}"),
            format!("invalid file mode 00 for {name} [Receiver]"),
            format!("ABORTING due to invalid path from sender: {name}"),
            format!("skipping directory {name}"),
            format!("rsync: filename overflows max-path len by 5: d/{name}"),
            format!("some form that nobody has foreseen: {name}"),
            format!("some form that nobody has foreseen: {name} (13)"),
        ];
        quoted.chain(others).collect()
    }

    /// What a name may hold to be taken for something else.
    const PIECES: &[&str] = &[
        "",
        "a",
        "/",
        " ",
        "\"",
        ": ",
        "(",
        ")",
        " (13)",
        "\" -> \"",
        "] ",
        "@ERROR: ",
        "rsync: ",
        "rsync: [sender] failed to connect to ",
        "ssh: ",
        "root@h: Permission denied (",
        "--",
        ": unknown option",
        "No ED25519 host key is known for ",
        ": Permission denied (publickey).",
        "the target directory ",
        "rsync exited with ",
        "connection unexpectedly closed",
        "Connection closed by ",
    ];

    fn a_name() -> impl Strategy<Value = (String, String)> {
        let pieces = || proptest::collection::vec(select(PIECES), 0..4);
        // Capital letters: none of our words is among them.
        (pieces(), "[A-Z]{8}", pieces()).prop_map(|(before, name, after)| {
            (format!("{}{name}{}", before.concat(), after.concat()), name)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_name_of_a_file_is_never_told((name, mark) in a_name(), exit in -1..256_i32, cut in 0..200_usize) {
            for line in forms(&name) {
                for message in [line.clone(), format!("{NOT_SURE}: {line}"), line.chars().take(cut).collect::<String>() + "…"] {
                    let told = words(exit, &message);
                    prop_assert!(!told.contains(&mark), "{} of {}", told, message);
                }
            }
        }
    }
}
