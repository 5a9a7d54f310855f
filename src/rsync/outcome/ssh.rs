//! What the end of a run over ssh means, where ssh or the receiver's shell has the word: one table, `ADVICE`.

use super::public::Subject;
use super::{Lines, Outcome, RefusedForm, is_summary, shortened};
use crate::rsync::args::RunKind;

/// The exit code of an ssh that failed by itself; rsync hands it on.
pub const FAILED: i32 = 255;
/// "Command not found", of shells.
const NOT_FOUND: i32 = 127;
/// "Not executable", of shells.
const NOT_EXECUTABLE: i32 = 126;
/// rsync's "the other end said nothing that I understand": also if there was no rsync.
const PROTOCOL: i32 = 12;
/// rsync's "cannot write".
const FILE_IO: i32 = 11;

/// What nobody but a person can mend: part of a message, and what to do.
const ADVICE: [(&str, &str); 15] = [
    (
        "has changed and you have requested strict checking",
        "if the receiver was really installed anew, remove its old key with `ssh-keygen -R HOST` and log in once by hand",
    ),
    (
        "Host key verification failed",
        "log in once by hand as the user sersync runs as, or put the receiver's host key into the file of `knownHosts`",
    ),
    (
        "Permission denied (",
        "put the public key into the authorized_keys of that user at the receiver; the private one must have no passphrase",
    ),
    (
        "Too many authentication failures",
        "name the one key that the receiver takes with identity=\"FILE\" in `ssh`",
    ),
    (
        "identity file cannot be read",
        "make the key with `ssh-keygen`, or mend `identity` in `ssh`",
    ),
    (
        "ssh could not be started",
        "install the package `openssh-client`",
    ),
    (
        "Bad owner or permissions on",
        "only its owner may be able to write to that file",
    ),
    (
        "Bad configuration option",
        "mend `options` in `ssh`, or ssh's own configuration",
    ),
    (
        "command-line line 0: ",
        "mend `options` in `ssh`, or ssh's own configuration",
    ),
    (
        "Unable to negotiate with",
        "ssh and the receiver have no algorithm in common; see `options` in `ssh`",
    ),
    (
        "Another instance of rrsync",
        "give rrsync the option -no-lock in the receiver's authorized_keys: sersync keeps a connection ready beside the runs",
    ),
    (
        "rrsync",
        "see what the receiver's authorized_keys allow; `name` is relative to the directory of rrsync",
    ),
    (
        "account is currently not available",
        "give that user a login shell at the receiver",
    ),
    (
        MAKES_DIRECTORY,
        "make the directory of `name` at the receiver by hand; sersync does not, since it may be a disk that is not mounted",
    ),
    (NO_RSYNC, "install rsync at the receiver"),
];
/// It takes `--modify-window=-1` for no option at all.
const RRSYNC_KNOWS_NOT: &str = "rrsync error: invalid rsync-command syntax or options";
const MAKES_DIRECTORY: &str = "] mkdir \"";
pub(super) const NO_RSYNC: &str = "there is no rsync at the receiver";

/// What to do about a cause, where that is plain.
#[must_use]
pub fn advice(cause: &str) -> Option<&'static str> {
    // Of rsync's own messages one alone is meant; they quote names, which may hold any words.
    let is_rsyncs = cause.starts_with("rsync: ");
    ADVICE
        .iter()
        .find(|(words, _)| cause.contains(words) && is_rsyncs == (*words == MAKES_DIRECTORY))
        .map(|(_, advice)| *advice)
}

/// The outcome of a run over ssh, if it is not rsync's own to tell.
pub(super) fn judge(kind: RunKind, code: i32, lines: &Lines<'_>) -> Option<Outcome> {
    // Messages about files quote names, which may hold any words.
    let is_of_a_file = |line: &str| Subject::of(line) == Subject::File;
    let told = || {
        let told = lines.iter().filter(|line| !is_ornament(line));
        told.filter(|line| !is_of_a_file(line))
    };
    let plain = |line: &&str| advice(line).is_some();
    match code {
        FILE_IO => {
            let line = lines.iter().find(|line| makes_directory(line))?;
            Some(Outcome::Misconfigured(shortened(line)))
        }
        NOT_FOUND | NOT_EXECUTABLE => Some(Outcome::Misconfigured(no_rsync(told().next()))),
        PROTOCOL if is_exact(kind) && lines.any(|line| line.contains(RRSYNC_KNOWS_NOT)) => {
            Some(Outcome::Refused(RefusedForm::ExactTimes))
        }
        PROTOCOL => match told().find(says_no_rsync) {
            Some(line) => Some(Outcome::Misconfigured(no_rsync(Some(line)))),
            None => told()
                .find(plain)
                .map(|line| Outcome::Misconfigured(shortened(line))),
        },
        FAILED => Some(match told().find(plain) {
            Some(line) => Outcome::Misconfigured(shortened(line)),
            None => Outcome::Unreachable(
                told()
                    .next()
                    .map_or_else(|| "the connection over ssh broke off".to_owned(), shortened),
            ),
        }),
        _ => None,
    }
}

/// Whether a run may compare the fractions of times.
fn is_exact(kind: RunKind) -> bool {
    let unless_ignored = RunKind::Send {
        ignore_times: false,
    };
    kind == unless_ignored || matches!(kind, RunKind::Tree { .. } | RunKind::Ask { exact: true })
}

fn no_rsync(line: Option<&str>) -> String {
    match line {
        Some(line) => format!("{NO_RSYNC}: {}", shortened(line)),
        None => NO_RSYNC.to_owned(),
    }
}

fn makes_directory(line: &str) -> bool {
    line.starts_with("rsync: [") && line.contains(MAKES_DIRECTORY)
}

/// A shell's words. rsync's own messages begin with its name.
fn says_no_rsync(line: &&str) -> bool {
    !line.starts_with("rsync:")
        && line.contains("rsync")
        && (line.contains("not found") || line.ends_with("No such file or directory"))
}

/// What frames the messages of others.
fn is_ornament(line: &str) -> bool {
    line.starts_with('@')
        || line.starts_with("rsync: connection unexpectedly closed")
        || line.starts_with("Control socket connect(")
        || is_summary(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: i32, stderr: &str) -> Option<Outcome> {
        let kind = RunKind::tree(true);
        judge(kind, code, &Lines::of(stderr.as_bytes()))
    }

    fn misconfigured(code: i32, stderr: &str) -> String {
        match run(code, stderr) {
            Some(Outcome::Misconfigured(cause)) => cause,
            other => panic!("{other:?} for {stderr}"),
        }
    }

    const CLOSED: &str = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]\nrsync error: unexplained error (code 255) at io.c(285) [sender=3.5.0]";

    #[test]
    fn a_refused_log_in_is_for_a_person_to_mend_and_says_how() {
        let denied = "root@h: Permission denied (publickey).";
        for stderr in [denied.to_owned(), format!("{denied}\n{CLOSED}")] {
            let cause = misconfigured(FAILED, &stderr);
            assert_eq!(cause, denied);
            assert!(advice(&cause).is_some_and(|advice| advice.contains("authorized_keys")));
        }
    }

    #[test]
    fn what_is_said_of_a_file_is_not_taken_for_the_words_of_ssh() {
        let vanished = "file has vanished: \"/data/Permission denied (/rsync: not found\"";
        let kept = "cannot delete non-empty directory: Host key verification failed";
        for before in [vanished, kept] {
            assert_eq!(run(PROTOCOL, &format!("{before}\n{CLOSED}")), None);
            let reset = "client_loop: send disconnect: Broken pipe";
            let outcome = run(FAILED, &format!("{before}\n{reset}\n{CLOSED}"));
            assert_eq!(outcome, Some(Outcome::Unreachable(reset.into())));
            let denied = "root@h: Permission denied (publickey).";
            assert_eq!(
                misconfigured(FAILED, &format!("{before}\n{denied}")),
                denied
            );
        }
    }

    #[test]
    fn a_changed_host_key_is_told_from_an_unknown_one() {
        let changed = "@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@@@@@\nIT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key for h has changed and you have requested strict checking.\nHost key verification failed.";
        let cause = misconfigured(FAILED, changed);
        assert!(advice(&cause).is_some_and(|advice| advice.contains("ssh-keygen -R")));
        let cause = misconfigured(FAILED, "Host key verification failed.");
        assert!(advice(&cause).is_some_and(|advice| advice.contains("by hand")));
    }

    #[test]
    fn a_receiver_that_is_away_is_tried_again() {
        for line in [
            "ssh: connect to host h port 22: Connection refused",
            "ssh: Could not resolve hostname h: Name or service not known",
            "Connection closed by 10.0.0.1 port 22",
        ] {
            let outcome = run(FAILED, &format!("{line}\n{CLOSED}"));
            assert_eq!(outcome, Some(Outcome::Unreachable(line.into())));
        }
        assert!(matches!(run(FAILED, ""), Some(Outcome::Unreachable(_))));
        assert_eq!(run(PROTOCOL, CLOSED), None);
        assert_eq!(
            run(
                FILE_IO,
                "rsync: [receiver] write failed on \"x\": No space left on device (28)"
            ),
            None
        );
        assert_eq!(run(23, "x"), None);
    }

    #[test]
    fn an_rrsync_that_knows_no_fractions_of_times_is_asked_without_them() {
        let line = "/usr/bin/rrsync error: invalid rsync-command syntax or options";
        let refused = Outcome::Refused(RefusedForm::ExactTimes);
        assert_eq!(run(PROTOCOL, line), Some(refused));
        let send = RunKind::Send { ignore_times: true };
        let outcome = judge(send, PROTOCOL, &Lines::of(line.as_bytes()));
        assert_eq!(outcome, Some(Outcome::Misconfigured(line.into())));
    }

    #[test]
    fn a_receiver_without_rsync_or_without_the_directory_is_told() {
        for (code, line) in [
            (127, "bash: line 1: rsync: command not found"),
            (12, "sh: 1: rsync: not found"),
            (12, "bash: /opt/rsync: No such file or directory"),
        ] {
            let cause = misconfigured(code, &format!("{line}\n{CLOSED}"));
            assert!(cause.ends_with(line), "{cause}");
            assert_eq!(advice(&cause), Some("install rsync at the receiver"));
        }
        let line = "rsync: [Receiver] mkdir \"/Permission denied (/.\" failed: No such file or directory (2)";
        let cause = misconfigured(FILE_IO, line);
        assert!(advice(&cause).is_some_and(|advice| advice.contains("by hand")));
    }
}
