//! Where files go: an rsync daemon's module, a directory of this machine, a path over ssh.

use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::escape::Escaped;
use super::quote;
use super::ssh::SshOptions;
use super::values::{absolute_path, any_path_over_ssh, module, port, refuse_control_characters};

/// rsync's own port.
const RSYNC_PORT: u16 = 873;

/// A place that rsync can write to.
///
/// Displayed as one would write it for rsync: `user@host::module`, `/path`, `user@host:/path`, and where a port must
/// be told, as a URL. Bytes that are no text are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A module of an rsync daemon: `[user@]host::module[/path]`.
    Daemon {
        /// Host name or address, without brackets.
        host: String,
        /// Module name, and a path below it where one is given.
        module: String,
        /// `--port`; `None` is rsync's own 873.
        port: Option<u16>,
        /// The user to log in as.
        user: Option<String>,
        /// `--password-file`.
        password_file: Option<PathBuf>,
    },
    /// A directory of this machine, absolute.
    Local {
        /// Where the files go.
        path: PathBuf,
    },
    /// A directory of another machine, over ssh.
    Ssh {
        /// Host name or address, without brackets.
        host: String,
        /// Absolute path there.
        path: PathBuf,
        /// `None` leaves it to ssh.
        port: Option<u16>,
        /// `None` leaves it to ssh.
        user: Option<String>,
        /// How ssh logs in.
        options: SshOptions,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = |user: &Option<String>, host: &str| {
            let user = user
                .as_ref()
                .map(|user| format!("{user}@"))
                .unwrap_or_default();
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            format!("{user}{host}")
        };
        match self {
            Self::Daemon {
                host,
                module,
                port: None,
                user,
                ..
            } => {
                write!(f, "{}::{}", login(user, host), Escaped::text(module))
            }
            Self::Daemon {
                host,
                module,
                port: Some(port),
                user,
                ..
            } => {
                write!(
                    f,
                    "rsync://{}:{port}/{}",
                    login(user, host),
                    Escaped::text(module)
                )
            }
            Self::Local { path } => write!(f, "{}", Escaped::path(path)),
            Self::Ssh {
                host,
                path,
                port: None,
                user,
                ..
            } => {
                write!(f, "{}:{}", login(user, host), Escaped::path(path))
            }
            Self::Ssh {
                host,
                path,
                port: Some(port),
                user,
                ..
            } => {
                write!(
                    f,
                    "ssh://{}:{port}{}",
                    login(user, host),
                    Escaped::path(path)
                )
            }
        }
    }
}

impl Target {
    /// Reads a target of the command line: `/path`, `[user@]host::module[/path]`, `rsync://[user@]host[:port]/module`,
    /// `[user@]host:/path` or `ssh://[user@]host[:port]/path`.
    ///
    /// The error is the rest of a sentence that begins with the target.
    pub(super) fn from_argument(argument: &OsStr) -> Result<Self, String> {
        if argument.as_bytes().starts_with(b"/") {
            let path = absolute_path(Path::new(argument))?;
            return Ok(Self::Local { path });
        }
        let Some(text) = argument.to_str() else {
            return Err("must be UTF-8 in all but the path of a local directory".to_owned());
        };
        if let Some(url) = text.strip_prefix("rsync://") {
            return Self::from_url(url);
        }
        if let Some(url) = text.strip_prefix("ssh://") {
            return Self::from_ssh_url(url);
        }
        match split_at_colon(text) {
            Some((login, rest)) if rest.starts_with("::") => Self::daemon(login, &rest[2..], None),
            Some((login, rest)) => Self::ssh(login, &rest[1..], None),
            None => Err(format!(
                "is neither an absolute path nor a remote; write `/{}`, host::module, rsync://host/module or host:/path",
                Escaped::text(text.trim_start_matches("./"))
            )),
        }
    }

    fn from_url(url: &str) -> Result<Self, String> {
        let (login, module) = url.split_once('/').unwrap_or((url, ""));
        match split_at_colon(login) {
            Some((login, text)) => Self::daemon(
                login,
                module,
                Some(port(&text[1..]).map_err(|e| format!("has a port that {e}"))?),
            ),
            None => Self::daemon(login, module, None),
        }
    }

    fn from_ssh_url(url: &str) -> Result<Self, String> {
        let at = url.find('/').unwrap_or(url.len());
        let (login, path) = url.split_at(at);
        match split_at_colon(login) {
            Some((login, text)) => Self::ssh(
                login,
                path,
                Some(port(&text[1..]).map_err(|e| format!("has a port that {e}"))?),
            ),
            None => Self::ssh(login, path, None),
        }
    }

    fn ssh(login: &str, path: &str, port: Option<u16>) -> Result<Self, String> {
        let Login { user, host } =
            Login::parse(login).map_err(|reason| format!("has a host that {reason}"))?;
        let path = any_path_over_ssh(path).map_err(|reason| format!("has a path that {reason}"))?;
        Ok(Self::Ssh {
            host,
            path,
            port,
            user,
            options: SshOptions::default(),
        })
    }

    fn daemon(login: &str, module_and_path: &str, port: Option<u16>) -> Result<Self, String> {
        let Login { user, host } =
            Login::parse(login).map_err(|reason| format!("has a host that {reason}"))?;
        let module =
            module(module_and_path).map_err(|reason| format!("has a module that {reason}"))?;
        Ok(Self::Daemon {
            host,
            module,
            port: not_default(port),
            user,
            password_file: None,
        })
    }
}

/// One spelling for one port: targets are compared.
pub(super) fn not_default(port: Option<u16>) -> Option<u16> {
    port.filter(|port| *port != RSYNC_PORT)
}

/// Splits `user@[::1]:rest` before the first colon that is neither in brackets nor behind a slash.
fn split_at_colon(text: &str) -> Option<(&str, &str)> {
    let mut in_brackets = false;
    for (index, c) in text.char_indices() {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            ':' if !in_brackets => return Some(text.split_at(index)),
            '/' => return None,
            _ => {}
        }
    }
    None
}

/// `[user@]host`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) host: String,
}

impl Login {
    /// The error is the rest of a sentence that begins with the host.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (user, host_text) = match text.rsplit_once('@') {
            Some((user_text, host)) => (Some(user(user_text)?), host),
            None => (None, text),
        };
        Ok(Self {
            user,
            host: host(host_text)?,
        })
    }
}

/// A host name or address. IPv6 addresses lose their brackets.
fn host(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; write the receiver's name or address".to_owned());
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if inner.contains(':') {
        let (address, zone) = inner.split_once('%').unwrap_or((inner, "0"));
        if address.parse::<Ipv6Addr>().is_ok()
            && !zone.is_empty()
            && zone.chars().all(is_name_character)
        {
            return Ok(inner.to_owned());
        }
        return Err(format!(
            "is no host name or address: {}; write the host alone, without a port",
            quote(text)
        ));
    }
    if text.starts_with('-') || !text.chars().all(is_name_character) {
        return Err(format!("is no host name or address: {}", quote(text)));
    }
    Ok(text.to_owned())
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// The name of a user at the receiver.
pub(super) fn user(text: &str) -> Result<String, String> {
    refuse_control_characters(text)?;
    if text.is_empty() {
        return Err("is empty; write the name of a user of the receiver".to_owned());
    }
    if text.starts_with('-') || text.contains([':', '/', ' ']) {
        return Err(format!("is no user name: {}", quote(text)));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argument: &str) -> String {
        Target::from_argument(OsStr::new(argument))
            .map_or_else(|reason| reason, |target| target.to_string())
    }

    #[test]
    fn a_target_is_shown_as_it_is_written() {
        for argument in [
            "/backup/data",
            "10.0.0.41::nfsbackup",
            "rsync_backup@10.0.0.41::nfsbackup/www",
            "rsync://u@host:874/m/p",
            "[fe80::1%eth0]::m",
            "rsync://u@[::1]:874/m",
            "主机.local::m",
            "root@10.0.0.41:/backup/data",
            "[::1]:/x y",
            "ssh://u@host:2222/data",
        ] {
            assert_eq!(shown(argument), argument);
        }
    }

    #[test]
    fn other_spellings_become_the_same_target() {
        assert_eq!(shown("/backup//data/"), "/backup/data");
        assert_eq!(shown("rsync://u@host/m/"), "u@host::m");
        assert_eq!(shown("rsync://u@host:873/m"), "u@host::m");
        assert_eq!(shown("host::m//p/"), "host::m/p");
    }

    #[test]
    fn relative_targets_are_refused_with_what_to_write() {
        assert!(shown("host:data").contains("write `/data`"));
        assert!(shown("host:").contains("has a path that is empty"));
        assert!(shown("ssh://host").contains("has a path that is empty"));
        assert!(shown("host:/data/*").contains("wildcards"));
        assert!(shown("backup/data").contains("write `/backup/data`"));
        assert!(shown("./a::b").contains("neither"));
    }

    #[test]
    fn a_broken_host_module_or_port_is_named() {
        assert!(shown("::m").contains("has a host that is empty"));
        assert!(shown("-oProxyCommand=x::m").contains("no host name"));
        assert!(shown("$ip::m").contains("no host name"));
        assert!(shown("host::").contains("has a module that is empty"));
        assert!(shown("rsync://host").contains("has a module that is empty"));
        assert!(shown("rsync://host:x/m").contains("has a port that must be"));
        assert!(shown("ssh://host:x/m").contains("has a port that must be"));
        assert!(
            shown("u:p@host::m").contains("has a path that"),
            "a colon in a user name is not rsync's"
        );
        assert!(Login::parse("1:2:3").is_err());
    }

    #[test]
    fn a_path_of_any_bytes_is_shown_on_one_line() {
        let target = Target::from_argument(OsStr::from_bytes(b"/\xff")).unwrap();
        assert_eq!(target.to_string(), r"/\xff");
    }
}
