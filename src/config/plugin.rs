//! Plugins: what runs or is told after files were sent.
//!
//! The four kinds are read and checked here; `crate::plugin` runs them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use regex::bytes::Regex;

use super::problem::{At, Problems};
use super::quote;
use super::shell_words::{self, ShellWords};
use super::target::Login;
use super::values::{boolean, path, port, text, text_or_empty};
use super::xml::{
    Attribute, CommandParamXml, DestinationXml, HttpXml, PatternsXml, PluginKindXml, PluginXml,
    RefreshCdnXml, SocketXml,
};
use crate::filter::dialect::{self, Refused};

/// How long a file system is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

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

    /// The plugin of that name.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence that begins with where the name stands.
    pub fn from_name(name: &str) -> Result<Self, String> {
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
    /// The directory it is for; `None` if that is every source.
    #[must_use]
    pub fn watch(&self) -> Option<&Path> {
        match self {
            Self::Command(_) => None,
            Self::Socket(socket) => Some(&socket.watch),
            Self::Http(http) => Some(&http.watch),
            Self::RefreshCdn(cdn) => Some(&cdn.watch),
        }
    }

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

/// `<plugin name="command">`: `prefix PATH suffix`, or `prefix suffix` with many paths on standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPlugin {
    /// The program.
    pub program: String,
    /// Its arguments before the path.
    pub prefix: Vec<String>,
    /// Its arguments behind the path.
    pub suffix: Vec<String>,
    /// How it gets the paths.
    pub mode: CommandMode,
    /// A redirection threw away what it says on standard error.
    pub discards_messages: bool,
    /// Whether a failure counts for nothing.
    pub ignore_error: bool,
    /// What a path must match as a whole, one of them; `None` is every path.
    pub includes: Option<Vec<Pattern>>,
}

/// How a command gets its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandMode {
    /// One run for each path, which is an argument.
    Path,
    /// One run for many, which come on standard input, each with a NUL behind it.
    Batch,
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
    /// The servers.
    pub destinations: Vec<HttpDestination>,
}

/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// A server that is told by POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpDestination {
    /// Its name or address; that of IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query of the URL, as they go into the request.
    pub resource: String,
    /// What is posted.
    pub format: HttpFormat,
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFormat {
    /// A form for each path.
    Form,
    /// A JSON document for many.
    Json,
}

/// A regular expression of the file.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// It, compiled.
    #[must_use]
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// To be found anywhere in a path.
    fn anywhere(source: &str) -> Result<Self, String> {
        Self::compile(source, dialect::translate_anywhere)
    }

    /// To match a path as a whole.
    fn whole(source: &str) -> Result<Self, String> {
        Self::compile(source, dialect::translate)
    }

    /// As the original understands it, like the expressions of a filter.
    fn compile(
        source: &str,
        translate: fn(&str) -> Result<String, Refused>,
    ) -> Result<Self, String> {
        let source = text(source)?;
        let refused = |cause: &dyn fmt::Display| {
            let shown = quote(&source);
            format!("is no regular expression that can be used, {shown}: {cause}")
        };
        let pattern = translate(&source).map_err(|cause| refused(&cause))?;
        let regex = dialect::compile(&pattern).map_err(|cause| refused(&cause))?;
        Ok(Self { source, regex })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

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
    pub pattern: Option<Pattern>,
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
    let includes = filter.and_then(|filter| compiled_expressions(filter, problems));
    let param = child(at, "param", param, problems)?;
    let example = "/usr/local/bin/script";
    let prefix = param.prefix.as_ref();
    let prefix = problems.required(param.at, "prefix", prefix, example, program_words);
    let suffix = param.suffix.as_ref();
    let suffix = suffix.map(|suffix| problems.value(suffix, shell_words::split));
    let suffix = suffix.unwrap_or_else(|| Some(ShellWords::default()));
    for (attribute, words) in [(&param.prefix, &prefix), (&param.suffix, &suffix)] {
        if let (Some(attribute), Some(words)) = (attribute, words) {
            note_missing_shell(attribute, words, problems);
        }
    }
    if let (Some(attribute), Some(words)) = (&param.prefix, &prefix)
        && let Some(program) = words.words.first()
    {
        note_missing_program(attribute, program, problems);
    }
    let ignore_error = param
        .ignore_error
        .as_ref()
        .map(|ignore_error| problems.value(ignore_error, boolean));
    let mode = param
        .mode
        .as_ref()
        .map(|mode| problems.value(mode, command_mode));
    let (prefix, suffix) = (prefix?, suffix?);
    let discards_messages = prefix.discards_messages || suffix.discards_messages;
    let mut prefix = prefix.words.into_iter();
    Some(CommandPlugin {
        program: prefix.next()?,
        prefix: prefix.collect(),
        suffix: suffix.words,
        mode: mode.unwrap_or(Some(CommandMode::Path))?,
        discards_messages,
        ignore_error: ignore_error.unwrap_or(Some(true))?,
        includes,
    })
}

fn program_words(prefix: &str) -> Result<ShellWords, String> {
    shell_words::command(&text(prefix)?)
}

/// Whether there is certainly nothing. A file system that does not answer is not waited for.
fn is_missing(path: &Path) -> bool {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_path_buf();
    // Somebody who waits for a dead server cannot be called back: that thread is left behind.
    let looking =
        thread::Builder::new().spawn(move || sender.send(matches!(path.try_exists(), Ok(false))));
    looking.is_ok() && receiver.recv_timeout(PATIENCE) == Ok(true)
}

/// A program on another file system may come later, as it may be installed later.
fn note_missing_program(attribute: &Attribute, program: &str, problems: &mut Problems<'_>) {
    let path = Path::new(program);
    if !problems.is_switched_off() && path.is_absolute() && is_missing(path) {
        problems.warning(
            attribute.at,
            format!(
                "the program {} in `{}` is missing; install it, until then the plugin tells nobody",
                quote(program),
                attribute.name
            ),
        );
    }
}

fn command_mode(mode: &str) -> Result<CommandMode, String> {
    match mode {
        "path" => Ok(CommandMode::Path),
        "batch" => Ok(CommandMode::Batch),
        _ => Err(format!("must be `path` or `batch`, not {}", quote(mode))),
    }
}

/// Where words mean something else than to the shell of the original.
fn note_missing_shell(attribute: &Attribute, words: &ShellWords, problems: &mut Problems<'_>) {
    if problems.is_switched_off() {
        return;
    }
    let Attribute { at, name, .. } = attribute;
    if words.redirects {
        problems.warning(
            *at,
            format!("the redirection in `{name}` is taken for what it means, the output is thrown away; no shell is used"),
        );
    }
    if let Some(c) = words.unexpanded {
        problems.warning(
            *at,
            format!("`{c}` in `{name}` stands for itself; no shell is used that would expand it"),
        );
    }
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
    child(local_path.at, "deshost", local_path.hosts.first(), problems)?;
    let servers: Vec<_> = local_path
        .hosts
        .iter()
        .map(|host| http_destination(host, problems))
        .collect();
    Some(HttpPlugin {
        watch: watch?,
        destinations: servers.into_iter().collect::<Option<_>>()?,
    })
}

fn http_destination(host: &DestinationXml, problems: &mut Problems<'_>) -> Option<HttpDestination> {
    let example = "http://10.0.0.41/changed";
    let url = problems.required(host.at, "url", host.address.as_ref(), example, plain_url);
    let format = host
        .format
        .as_ref()
        .map(|format| problems.value(format, http_format));
    let in_url = url.as_ref().and_then(|url| url.port);
    let beside = match &host.port {
        Some(attribute) => problems.value(attribute, port),
        None => Some(HTTP_PORT),
    };
    // The original goes by the URL alone.
    if let (Some(attribute), Some(in_url)) = (&host.port, in_url)
        && beside.is_some_and(|beside| beside != in_url)
    {
        let text = format!("`port` has no effect: `url` names the port {in_url}");
        problems.warning(attribute.at, text);
    }
    let PlainUrl { host, resource, .. } = url?;
    Some(HttpDestination {
        host,
        port: in_url.or(beside)?,
        resource,
        format: format.unwrap_or(Some(HttpFormat::Form))?,
    })
}

fn http_format(format: &str) -> Result<HttpFormat, String> {
    match format {
        "form" => Ok(HttpFormat::Form),
        "json" => Ok(HttpFormat::Json),
        _ => Err(format!("must be `form` or `json`, not {}", quote(format))),
    }
}

/// The parts of a URL without encryption.
struct PlainUrl {
    host: String,
    port: Option<u16>,
    resource: String,
}

/// `http://host[:port][/path]`; without a scheme it is taken for one of these, as the original does.
fn plain_url(url: &str) -> Result<PlainUrl, String> {
    let url = text(url)?;
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return Err(
                "is https, which this plugin does not speak; write http:// of a proxy on this machine, or use the plugin `command` with mode=\"batch\" and curl"
                    .to_owned(),
            );
        }
        Some(_) => return Err(format!("must begin with http://, not {}", quote(&url))),
        None => url.as_str(),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    // Never shown: there may be a password.
    if rest[..end].contains('@') {
        return Err(
            "names a user before `@`, and none is sent; write the host alone, or use the plugin `command` with mode=\"batch\" and curl"
                .to_owned(),
        );
    }
    if !rest.is_ascii() || rest.contains([' ', '#']) {
        let shown = quote(&url);
        return Err(format!("is no URL: {shown}; write other characters as %XX"));
    }
    let (authority, resource) = rest.split_at(end);
    let (host, number) = match authority.rsplit_once(':') {
        Some((host, number)) if !number.contains(']') => (host, Some(port(number)?)),
        _ => (authority, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let slash = if resource.starts_with('/') { "" } else { "/" };
    Ok(PlainUrl {
        host: plain_host(bare.unwrap_or(host))?,
        port: number,
        resource: format!("{slash}{resource}"),
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
                        Pattern::anywhere,
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

/// The expressions of a filter, each to match whole; `None` if it is off.
fn compiled_expressions(filter: &PatternsXml, problems: &mut Problems<'_>) -> Option<Vec<Pattern>> {
    expressions(filter, problems)?;
    let elements = filter.expressions.iter();
    let compiled = elements.filter_map(|element| {
        let expression = element.expression.as_ref()?;
        // What is no text is told by now.
        text(&expression.value).ok()?;
        problems.value(expression, Pattern::whole)
    });
    Some(compiled.collect())
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
