//! Plugins: what runs or is told after files were sent.
//!
//! The four kinds are read and checked here; nothing in this version runs them yet.

use std::fmt;
use std::path::PathBuf;

use super::problem::{At, Problems};
use super::quote;
use super::target::Login;
use super::values::{boolean, path, port, text, text_or_empty};
use super::xml::{
    Attribute, CommandParamXml, DestinationXml, HttpXml, PatternsXml, PluginKindXml, PluginXml,
    RefreshCdnXml, SocketXml,
};

/// The name by which `sersync/plugin` and `-m` call a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PluginKind {
    /// `command`
    Command,
    /// `socket`
    Socket,
    /// `http`
    Http,
    /// `refreshCDN`
    RefreshCdn,
}

impl PluginKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Command, Self::Socket, Self::Http, Self::RefreshCdn];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Socket => "socket",
            Self::Http => "http",
            Self::RefreshCdn => "refreshCDN",
        }
    }

    pub(super) fn from_name(name: &str) -> Result<Self, String> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join("`, `");
            format!("must be one of `{known}`, not {}", quote(name))
        })
    }
}

/// One `plugin` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginConfig {
    /// Runs a program for each path sent.
    Command(CommandPlugin),
    /// Sends each path over TCP.
    Socket(SocketPlugin),
    /// Posts each path to a web server.
    Http(HttpPlugin),
    /// Tells a content delivery network to fetch a URL anew.
    RefreshCdn(RefreshCdnPlugin),
}

impl PluginConfig {
    /// Which plugin this is.
    #[must_use]
    pub fn kind(&self) -> PluginKind {
        match self {
            Self::Command(_) => PluginKind::Command,
            Self::Socket(_) => PluginKind::Socket,
            Self::Http(_) => PluginKind::Http,
            Self::RefreshCdn(_) => PluginKind::RefreshCdn,
        }
    }
}

/// `<plugin name="command">`: `prefix PATH suffix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPlugin {
    /// The program and its first arguments, as one string.
    pub prefix: String,
    /// Arguments behind the path, as one string; may be empty.
    pub suffix: String,
    /// Whether a failure counts for nothing.
    pub ignore_error: bool,
    /// Regular expressions of the paths it runs for; `None` is every path.
    pub includes: Option<Vec<String>>,
}

/// `<plugin name="socket">`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlugin {
    /// Paths below this directory are sent.
    pub watch: PathBuf,
    /// Host and port of each listener.
    pub destinations: Vec<(String, u16)>,
}

/// `<plugin name="http">`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPlugin {
    /// Paths below this directory are posted.
    pub watch: PathBuf,
    /// URL or host, and port, of each server.
    pub destinations: Vec<(String, u16)>,
}

/// `<plugin name="refreshCDN">`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshCdnPlugin {
    /// Paths below this directory are refreshed.
    pub watch: PathBuf,
    /// The host of the network's API.
    pub domain_name: String,
    /// Its port.
    pub port: u16,
    /// The account there.
    pub user_name: String,
    /// Its password; the protocol sends it in clear.
    pub password: Secret,
    /// What the URLs begin with.
    pub base: String,
    /// The regular expression whose first capture belongs into the URL; `None` where `regex="false"`.
    pub pattern: Option<String>,
}

/// A word that must not show up in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The word itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Which plugin a definition is of; `None` if there is no such plugin, which is reported by then.
pub(super) fn kind_of(plugin: &PluginXml) -> Option<PluginKind> {
    match plugin.kind {
        PluginKindXml::Command { .. } => Some(PluginKind::Command),
        PluginKindXml::Socket(_) => Some(PluginKind::Socket),
        PluginKindXml::Http(_) => Some(PluginKind::Http),
        PluginKindXml::RefreshCdn(_) => Some(PluginKind::RefreshCdn),
        PluginKindXml::Unknown => None,
    }
}

/// Checks one definition. Unless it is one of the `started`, its errors are only warnings and it is left out.
pub(super) fn validate(
    plugin: &PluginXml,
    started: &[PluginKind],
    problems: &mut Problems<'_>,
) -> Option<PluginConfig> {
    let on = kind_of(plugin).is_some_and(|kind| started.contains(&kind));
    problems.check_if_on(on, |problems| match &plugin.kind {
        PluginKindXml::Command { param, filter } => {
            command(plugin.at, param.as_ref(), filter.as_ref(), problems).map(PluginConfig::Command)
        }
        PluginKindXml::Socket(local_path) => {
            let local_path = child(plugin.at, "localpath", local_path.as_ref(), problems)?;
            socket(local_path, problems).map(PluginConfig::Socket)
        }
        PluginKindXml::Http(local_path) => {
            let local_path = child(plugin.at, "localpath", local_path.as_ref(), problems)?;
            http(local_path, problems).map(PluginConfig::Http)
        }
        PluginKindXml::RefreshCdn(local_path) => {
            let local_path = child(plugin.at, "localpath", local_path.as_deref(), problems)?;
            refresh_cdn(local_path, problems).map(PluginConfig::RefreshCdn)
        }
        PluginKindXml::Unknown => None,
    })
}

/// A child that must be there.
fn child<'x, T>(
    at: At,
    name: &str,
    child: Option<&'x T>,
    problems: &mut Problems<'_>,
) -> Option<&'x T> {
    if child.is_none() && !problems.is_switched_off() {
        problems.error(at, format!("missing element `{name}` in this plugin"));
    }
    child
}

fn command(
    at: At,
    param: Option<&CommandParamXml>,
    filter: Option<&PatternsXml>,
    problems: &mut Problems<'_>,
) -> Option<CommandPlugin> {
    let includes = filter.and_then(|filter| expressions(filter, problems));
    let param = child(at, "param", param, problems)?;
    let prefix = problems.required(
        param.at,
        "prefix",
        param.prefix.as_ref(),
        "/usr/local/bin/script",
        text,
    );
    let suffix = param
        .suffix
        .as_ref()
        .map(|suffix| problems.value(suffix, text_or_empty));
    let ignore_error = param
        .ignore_error
        .as_ref()
        .map(|ignore_error| problems.value(ignore_error, boolean));
    Some(CommandPlugin {
        prefix: prefix?,
        suffix: suffix.unwrap_or_else(|| Some(String::new()))?,
        ignore_error: ignore_error.unwrap_or(Some(true))?,
        includes,
    })
}

fn socket(local_path: &SocketXml, problems: &mut Problems<'_>) -> Option<SocketPlugin> {
    let watch = problems.required(
        local_path.at,
        "watch",
        local_path.watch.as_ref(),
        "/data",
        path,
    );
    let destinations = destinations(
        local_path.at,
        &local_path.hosts,
        problems,
        |host, problems| {
            problems.required(
                host.at,
                "ip",
                host.address.as_ref(),
                "10.0.0.41",
                plain_host,
            )
        },
    );
    Some(SocketPlugin {
        watch: watch?,
        destinations: destinations?,
    })
}

fn http(local_path: &HttpXml, problems: &mut Problems<'_>) -> Option<HttpPlugin> {
    let watch = problems.required(
        local_path.at,
        "watch",
        local_path.watch.as_ref(),
        "/data",
        path,
    );
    let destinations = destinations(
        local_path.at,
        &local_path.hosts,
        problems,
        |host, problems| {
            problems.required(
                host.at,
                "url",
                host.address.as_ref(),
                "http://10.0.0.41/changed",
                text,
            )
        },
    );
    Some(HttpPlugin {
        watch: watch?,
        destinations: destinations?,
    })
}

fn destinations(
    at: At,
    hosts: &[DestinationXml],
    problems: &mut Problems<'_>,
    mut address: impl FnMut(&DestinationXml, &mut Problems<'_>) -> Option<String>,
) -> Option<Vec<(String, u16)>> {
    child(at, "deshost", hosts.first(), problems)?;
    let checked: Vec<_> = hosts
        .iter()
        .map(|host| {
            let address = address(host, problems);
            let port = problems.required(host.at, "port", host.port.as_ref(), "80", port);
            Some((address?, port?))
        })
        .collect();
    checked.into_iter().collect()
}

fn refresh_cdn(
    local_path: &RefreshCdnXml,
    problems: &mut Problems<'_>,
) -> Option<RefreshCdnPlugin> {
    let watch = problems.required(
        local_path.at,
        "watch",
        local_path.watch.as_ref(),
        "/data",
        path,
    );
    let base = child(
        local_path.at,
        "sendurl",
        local_path.send_url.as_ref(),
        problems,
    )
    .and_then(|send_url| {
        problems.required(
            send_url.at,
            "base",
            send_url.base.as_ref(),
            "http://www.example.com/",
            url,
        )
    });
    let pattern = match &local_path.regex_url {
        None => Some(None),
        Some(regex_url) => {
            let on = problems.required(
                regex_url.at,
                "regex",
                regex_url.regex.as_ref(),
                "false",
                boolean,
            );
            if on == Some(true) {
                problems
                    .required(
                        regex_url.at,
                        "match",
                        regex_url.pattern.as_ref(),
                        "site([/a-z]*)/",
                        text,
                    )
                    .map(Some)
            } else {
                on.map(|_| None)
            }
        }
    };
    let info = child(local_path.at, "cdninfo", local_path.info.as_ref(), problems)?;
    let domain_name = problems.required(
        info.at,
        "domainname",
        info.domain_name.as_ref(),
        "api.example.com",
        plain_host,
    );
    let port = problems.required(info.at, "port", info.port.as_ref(), "80", port);
    let user_name = problems.required(info.at, "username", info.user_name.as_ref(), "name", text);
    let password = problems.required(info.at, "passwd", info.password.as_ref(), "secret", secret);
    if !problems.is_switched_off()
        && let Some(Attribute { at, .. }) = info.password
    {
        problems.warning(
            at,
            "`passwd` goes over the network in clear, as the protocol of this plugin wants it",
        );
    }
    Some(RefreshCdnPlugin {
        watch: watch?,
        domain_name: domain_name?,
        port: port?,
        user_name: user_name?,
        password: password?,
        base: base?,
        pattern: pattern?,
    })
}

/// The expressions of a filter; `None` if it is off.
pub(super) fn expressions(
    filter: &PatternsXml,
    problems: &mut Problems<'_>,
) -> Option<Vec<String>> {
    let on = problems.start(&filter.switch);
    let expressions: Vec<String> = problems.check_if_on(on, |problems| {
        let expressions = filter.expressions.iter().filter_map(|element| {
            problems.required(
                element.at,
                "expression",
                element.expression.as_ref(),
                "…",
                text,
            )
        });
        expressions.collect()
    });
    if on && filter.expressions.is_empty() {
        problems.warning(
            filter.switch.at,
            "the filter is on but holds no expression, so it has no effect",
        );
        return None;
    }
    on.then_some(expressions)
}

fn plain_host(text: &str) -> Result<String, String> {
    match Login::parse(text)? {
        Login { user: None, host } => Ok(host),
        Login { user: Some(_), .. } => Err(format!(
            "must be a host without a user, not {}",
            quote(text)
        )),
    }
}

fn url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return text_or_empty(text);
    }
    Err(format!(
        "must begin with http:// or https://, not {}",
        quote(text)
    ))
}

/// As [`text`], but never shows the value.
fn secret(word: &str) -> Result<Secret, String> {
    match text(word) {
        Ok(word) => Ok(Secret(word)),
        Err(_) if word.is_empty() => Err("is empty".to_owned()),
        Err(_) => Err("holds a control character".to_owned()),
    }
}
