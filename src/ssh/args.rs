//! What ssh is told, and what rsync is told of ssh. Pure.
//!
//! Three programs read these words: rsync splits `--rsh` at blanks outside of quotation marks, ssh takes quotation marks
//! off the values of its options, and the shell at the receiver reads what rsync asks it to start. No shell of ours.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::{RemoteConfig, SshOptions};

/// Seconds that a connection stays without a run. Logging in again costs some hundred milliseconds.
const PERSIST_SECONDS: u32 = 300;
/// What holds unless the configuration says otherwise. A host that drops packets must not keep a log-in for minutes, and
/// a connection that died without a word is to be known as dead within a minute.
const DEFAULTS: [(&str, &str); 3] = [
    ("ConnectTimeout", "10"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "3"),
];

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Host name or address.
    pub host: String,
    /// `None` leaves it to ssh.
    pub user: Option<String>,
    /// `None` leaves it to ssh.
    pub port: Option<u16>,
}

/// Arguments of an ssh that logs in, goes to the background, and lets others use its connection at `socket`.
#[must_use]
pub fn log_in(peer: &Peer, options: &SshOptions, socket: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["-f".into(), "-N".into()];
    let settings = settings(peer.port, options, Some(socket), true).flat_map(option);
    args.extend(settings.map(OsString::from));
    args.extend(destination(peer));
    args
}

/// Arguments of an ssh that ends the connection at `socket`.
#[must_use]
pub fn log_out(peer: &Peer, socket: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["-O".into(), "exit".into()];
    let path = option(("ControlPath", socket.display().to_string()));
    args.extend(path.map(OsString::from));
    args.extend(destination(peer));
    args
}

/// Options of an rsync to the peer, by the connection at `socket` where there is one.
#[must_use]
pub fn rsync_options(
    remote: &RemoteConfig,
    path: &Path,
    port: Option<u16>,
    options: &SshOptions,
    socket: Option<&Path>,
) -> Vec<OsString> {
    let mut command = String::from("ssh");
    for argument in settings(port, options, socket, false).flat_map(option) {
        command.push(' ');
        command.push_str(&quoted(&argument));
    }
    let mut args: Vec<OsString> = vec![format!("--rsh={command}").into()];
    let mut words = remote.params.args().iter().map(|arg| arg.as_bytes());
    if !is_plain(path.as_os_str().as_bytes()) || !words.all(is_plain) {
        // The receiver's rsync then reads them from the connection, past its shell. Not always: a receiver that allows
        // nothing but rsync by `rrsync` refuses it.
        args.push("--protect-args".into());
    }
    args
}

/// In this order: of two settings of one name ssh takes the first, also before those of its files.
fn settings(
    port: Option<u16>,
    options: &SshOptions,
    socket: Option<&Path>,
    is_master: bool,
) -> impl Iterator<Item = (&'static str, String)> {
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut settings = vec![
        // Nobody is there to answer.
        ("BatchMode", "yes".to_owned()),
        // A receiver's banner would stand among rsync's messages.
        ("LogLevel", "ERROR".to_owned()),
        // A run never opens the connection that the others use: it would keep the source's file system busy.
        ("ControlMaster", yes_or_no(is_master)),
        (
            "ControlPath",
            socket.map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
        ),
        (
            "ControlPersist",
            if is_master {
                PERSIST_SECONDS.to_string()
            } else {
                yes_or_no(false)
            },
        ),
        // What the user's own configuration may hold for log-ins by hand.
        ("ClearAllForwardings", "yes".to_owned()),
        ("ForwardAgent", "no".to_owned()),
        ("PermitLocalCommand", "no".to_owned()),
        ("RequestTTY", "no".to_owned()),
    ];
    settings.extend(port.map(|port| ("Port", port.to_string())));
    if let Some(identity) = &options.identity {
        settings.push(("IdentityFile", identity.clone()));
        settings.push(("IdentitiesOnly", "yes".to_owned()));
    }
    let known_hosts = options.known_hosts.clone();
    settings.extend(known_hosts.map(|file| ("UserKnownHostsFile", file)));
    settings.extend(options.settings.iter().cloned());
    settings.extend(DEFAULTS.map(|(name, value)| (name, value.to_owned())));
    settings.into_iter()
}

fn option((name, value): (&str, String)) -> [String; 2] {
    ["-o".into(), format!("{name}=\"{value}\"")]
}

fn destination(peer: &Peer) -> Vec<OsString> {
    let mut args = Vec::new();
    if let Some(user) = &peer.user {
        args.extend(["-l".into(), user.into()]);
    }
    args.extend(["--".into(), OsString::from(&peer.host)]);
    args
}

/// A word for rsync's splitting: a quotation mark within is doubled.
fn quoted(word: &str) -> String {
    if word.contains([' ', '"', '\'']) {
        format!("'{}'", word.replace('\'', "''"))
    } else {
        word.to_owned()
    }
}

/// Whether every shell reads a word as it is written.
fn is_plain(word: &[u8]) -> bool {
    word.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-=,:+@%".contains(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Params, Target};
    use std::time::Duration;

    /// How rsync reads `--rsh`: see `do_cmd` in its main.c.
    fn split_as_rsync_does(command: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut rest = command.chars().peekable();
        while let Some(first) = rest.next_if(|_| true) {
            if first == ' ' {
                continue;
            }
            let (mut word, mut open, mut next) = (String::new(), None, Some(first));
            while let Some(c) = next {
                match open {
                    None if c == ' ' => break,
                    None if matches!(c, '\'' | '"') => open = Some(c),
                    Some(quote) if c == quote && rest.peek() == Some(&quote) => {
                        word.push(c);
                        rest.next();
                    }
                    Some(quote) if c == quote => open = None,
                    _ => word.push(c),
                }
                next = rest.next();
            }
            assert_eq!(open, None, "a quotation mark is not closed in {command}");
            words.push(word);
        }
        words
    }

    proptest! {
        #[test]
        fn rsync_splits_quoted_words_as_they_were(words in proptest::collection::vec("[ -~]{1,12}", 1..6)) {
            let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            prop_assert_eq!(split_as_rsync_does(&command.join(" ")), words);
        }
    }

    fn options_for(path: &str, params: &str, options: &SshOptions) -> Vec<String> {
        let path = Path::new(path);
        let target = Target::Ssh {
            host: "h".into(),
            path: path.into(),
            port: Some(2222),
            user: None,
            options: options.clone(),
        };
        let remote = RemoteConfig {
            target,
            params: params.parse::<Params>().expect("good params"),
            timeout: Duration::from_secs(1),
            max_delete: None,
            backup: None,
        };
        let socket = Some(Path::new("/run/sersync/data/ssh"));
        let args = rsync_options(&remote, path, Some(2222), options, socket);
        args.into_iter()
            .map(|arg| arg.into_string().expect("text"))
            .collect()
    }

    #[test]
    fn a_run_uses_the_connection_and_never_opens_or_asks_anything() {
        let options = SshOptions {
            identity: Some("/root/my keys/id".into()),
            settings: vec![("ConnectTimeout", "3".into())],
            ..SshOptions::default()
        };
        let args = options_for("/data", "-a", &options);
        assert_eq!(args.len(), 1, "{args:?}");
        let words = split_as_rsync_does(args[0].strip_prefix("--rsh=").expect("rsh"));
        let at = |setting: &str| words.iter().position(|word| word == setting);
        for setting in [
            "BatchMode=\"yes\"",
            "ControlMaster=\"no\"",
            "ControlPath=\"/run/sersync/data/ssh\"",
            "IdentityFile=\"/root/my keys/id\"",
            "Port=\"2222\"",
        ] {
            assert!(at(setting).is_some(), "{setting} in {words:?}");
        }
        let own = at("ConnectTimeout=\"3\"");
        assert!(own.is_some() && own < at("ConnectTimeout=\"10\""));
    }

    #[test]
    fn what_a_shell_could_read_otherwise_goes_past_it() {
        let is_protected = |path, params| {
            options_for(path, params, &SshOptions::default()).contains(&"--protect-args".to_owned())
        };
        assert!(!is_protected(
            "/backup/www.example.com_1",
            "-aH --bwlimit=2000"
        ));
        for path in ["/a b", "/$(id)", "/a\nb", "/it's", "/ü", "/~"] {
            assert!(is_protected(path, "-a"), "{path}");
        }
        assert!(is_protected("/backup", "-a --usermap=*:nobody"));
    }

    #[test]
    fn a_log_in_goes_to_the_background_and_ends_by_itself_when_it_is_not_used() {
        let peer = Peer {
            host: "::1".into(),
            user: Some("backup".into()),
            port: None,
        };
        let args = log_in(&peer, &SshOptions::default(), Path::new("/run/x"));
        for word in [
            "-f",
            "-N",
            "ControlMaster=\"yes\"",
            "ControlPersist=\"300\"",
        ] {
            assert!(args.contains(&word.into()), "{word}");
        }
        assert_eq!(args[args.len() - 4..], ["-l", "backup", "--", "::1"]);
    }
}
