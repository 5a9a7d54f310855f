//! How ssh logs in to the remotes: the attributes of `<ssh>` beside `start`, all of which are ours.
//!
//! `options` takes settings of ssh_config(5) by an allow-list, as `params` takes options of rsync: what would run a
//! command, forward something or go around the shared connection belongs into ssh's own configuration, if anywhere.

use super::problem::Problems;
use super::quote;
use super::suggest::nearest;
use super::values::path;
use super::xml::SshXml;

/// How ssh logs in. The default leaves it to ssh and its own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshOptions {
    /// `identity`: absolute path of the private key.
    pub identity: Option<String>,
    /// `knownHosts`: absolute path of the file with the host keys.
    pub known_hosts: Option<String>,
    /// `options`: names as ssh_config(5) writes them, with values that need no escape inside double quotes.
    pub settings: Vec<(&'static str, String)>,
}

/// Settings that change how a connection is made and nothing else.
const ALLOWED: [&str; 23] = [
    "AddressFamily",
    "BindAddress",
    "BindInterface",
    "CASignatureAlgorithms",
    "CertificateFile",
    "Ciphers",
    "Compression",
    "ConnectionAttempts",
    "ConnectTimeout",
    "HostKeyAlgorithms",
    "HostKeyAlias",
    "IdentitiesOnly",
    "IdentityAgent",
    "IPQoS",
    "KexAlgorithms",
    "MACs",
    "RekeyLimit",
    "ServerAliveCountMax",
    "ServerAliveInterval",
    "StrictHostKeyChecking",
    "TCPKeepAlive",
    "UpdateHostKeys",
    "VerifyHostKeyDNS",
];

/// Settings that have a place of their own here.
const ELSEWHERE: [(&str, &str); 10] = [
    ("BatchMode", "is always on; remove it"),
    ("ControlMaster", SHARED),
    ("ControlPath", SHARED),
    ("ControlPersist", SHARED),
    (
        "IdentityFile",
        "belongs elsewhere; write identity=\"FILE\" in `ssh`",
    ),
    (
        "LogLevel",
        "decides what sersync reads of ssh's messages; remove it",
    ),
    (
        "Port",
        "belongs elsewhere; write <userDefinedPort start=\"true\" port=\"NUMBER\"/>, or port=\"NUMBER\" in `remote`",
    ),
    (
        "User",
        "belongs elsewhere; write ip=\"USER@HOST\" in `remote`",
    ),
    (
        "HostName",
        "belongs elsewhere; write ip=\"HOST\" in `remote`",
    ),
    (
        "UserKnownHostsFile",
        "belongs elsewhere; write knownHosts=\"FILE\" in `ssh`",
    ),
];
const SHARED: &str = "is how sersync shares one connection among all runs; remove it";

impl SshOptions {
    pub(super) fn validate(ssh: &SshXml, problems: &mut Problems<'_>) -> Self {
        let mut file = |attribute: &Option<_>| problems.value(attribute.as_ref()?, file_for_ssh);
        let (identity, known_hosts) = (file(&ssh.identity), file(&ssh.known_hosts));
        let mut settings: Vec<(&'static str, String)> = Vec::new();
        if let Some(options) = &ssh.options {
            for word in options.value.split_whitespace() {
                match setting(word) {
                    Ok((name, _)) if settings.iter().any(|(other, _)| *other == name) => problems
                        .error(
                            options.at,
                            format!("`options` holds `{name}` twice; remove one of them"),
                        ),
                    Ok((name, value)) => {
                        if name == "StrictHostKeyChecking" && matches!(&*value, "no" | "off") {
                            problems.warning(
                                options.at,
                                "`StrictHostKeyChecking=no` sends the files to whoever answers in the receiver's place; `accept-new` trusts the first answer alone",
                            );
                        }
                        settings.push((name, value));
                    }
                    Err(reason) => problems.error(options.at, format!("`options` {reason}")),
                }
            }
        }
        Self {
            identity,
            known_hosts,
            settings,
        }
    }
}

/// `Name=value` of `options`. The error is the rest of a sentence that begins with that.
fn setting(word: &str) -> Result<(&'static str, String), String> {
    let Some((written, value)) = word.split_once('=') else {
        return Err(format!(
            "must be words such as `Compression=yes`, not {}",
            quote(word)
        ));
    };
    if let Some((name, advice)) = ELSEWHERE
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(written))
    {
        return Err(format!("holds `{name}`, which {advice}"));
    }
    let Some(name) = ALLOWED
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(written))
    else {
        return Err(match nearest(written, ALLOWED) {
            Some(meant) => format!("holds {}; did you mean `{meant}`?", quote(written)),
            None => format!(
                "holds {}, which is not taken here; write it into the ssh_config of the user sersync runs as, for instance /root/.ssh/config",
                quote(written)
            ),
        });
    };
    if value.is_empty() {
        return Err(format!("holds `{name}` without a value"));
    }
    if let Some(c) = value.chars().find(|c| !is_plain(*c)) {
        return Err(format!("must not hold `{c}`, in {}", quote(word)));
    }
    Ok((name, value.to_owned()))
}

/// The path of a file that ssh reads.
fn file_for_ssh(text: &str) -> Result<String, String> {
    path(text)?;
    match text.chars().find(|c| *c != ' ' && !is_plain(*c)) {
        Some(c) => Err(format!(
            "must not hold `{c}`, which ssh takes for more than a letter of the name: {}",
            quote(text)
        )),
        None => Ok(text.to_owned()),
    }
}

/// Not a quotation mark, an escape, or the beginning of something that ssh replaces.
fn is_plain(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '\\' | '%' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_known_in_any_case_and_written_as_ssh_writes_it() {
        assert_eq!(
            setting("compression=yes"),
            Ok(("Compression", "yes".into()))
        );
        assert_eq!(
            setting("Ciphers=+aes128-ctr,aes256-gcm@openssh.com"),
            Ok(("Ciphers", "+aes128-ctr,aes256-gcm@openssh.com".into()))
        );
    }

    #[test]
    fn a_setting_that_could_run_something_or_undo_ours_is_refused_with_what_to_do() {
        for (word, said) in [
            ("ProxyCommand=nc", "/root/.ssh/config"),
            ("LocalCommand=rm", "/root/.ssh/config"),
            ("controlpath=/x", "shares one connection"),
            ("IdentityFile=/k", "identity="),
            ("Compresion=yes", "did you mean `Compression`"),
            ("Compression", "words such as"),
            ("Compression=", "without a value"),
            ("Ciphers=\"x", "must not hold"),
        ] {
            let reason = setting(word).expect_err(word);
            assert!(reason.contains(said), "{word}: {reason}");
        }
    }

    #[test]
    fn a_file_may_have_blanks_in_its_name_but_nothing_that_ssh_replaces() {
        assert_eq!(file_for_ssh("/a b/key"), Ok("/a b/key".into()));
        for name in [
            "key",
            "",
            "/k%h",
            "/${HOME}/k",
            "/k\"",
            "/k\\",
            "/it's",
            "/a\tb",
        ] {
            assert!(file_for_ssh(name).is_err(), "{name}");
        }
    }
}
