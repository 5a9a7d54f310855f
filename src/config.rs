//! Validated configuration: what the rest of the program may rely on.
//!
//! A value of [`Config`] cannot be wrong: every source is absolute, every remote has a target, no two targets
//! overlap, and the user's rsync options have passed the allow-list of [`params`].
//!
//! ```text
//!  bytes ─ encoding ─► text ─ xml ─► HeadXml ─ validate ─► Config, warnings, what cannot be done yet
//!                        └───────────────┴──────────┴────► every Problem with its line and column
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::filter::{Filter, Rule};

mod backup;
mod calendar;
mod command_line;
mod differences;
mod encoding;
mod escape;
mod filter;
mod overlap;
pub mod params;
pub mod plugin;
mod problem;
mod remote;
pub(crate) mod shell_words;
mod ssh;
mod suggest;
mod target;
mod validate;
mod values;
mod xml;

pub use backup::Backup;
pub use calendar::Calendar;
pub use params::Params;
pub use plugin::{PluginConfig, PluginKind};
pub use problem::{ConfigError, Position, Problem, Severity};
pub use ssh::SshOptions;
pub use target::Target;

use escape::Escaped;
use problem::{At, Problems};

/// No configuration is that long; a log or a disk image given by mistake is.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Everything one instance does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// One entry for each `localpath`, in the order of the file.
    pub mirrors: Vec<MirrorConfig>,
    /// `<debug start="true"/>`: log at debug level.
    pub debug: bool,
    /// `failLog timeToExecute`: how often a path that failed by itself is tried again.
    pub retry_period: Duration,
    /// `failLog path`: where what failed is recorded, see [`crate::fail_log`].
    pub fail_log_path: Option<PathBuf>,
    /// `<filter start="true">`.
    pub filter: Option<FilterConfig>,
    /// `<crontab start="true">`.
    pub crontab: Option<CrontabConfig>,
    /// The `<plugin>` definitions that are in order, at most one of a kind.
    pub plugins: Vec<PluginConfig>,
    /// The plugins to run after files were sent; each is among [`plugins`](Self::plugins).
    pub started_plugins: Vec<PluginKind>,
}

/// One `localpath` and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Absolute path of the source directory.
    pub source: PathBuf,
    /// Where the source goes; empty only where plugins alone are told of it.
    pub remotes: Vec<RemoteConfig>,
    /// Which events count.
    pub switches: Switches,
    /// What is not mirrored.
    pub filter: Option<Arc<Filter>>,
    /// Whether it is compared every so often.
    pub scan: Scan,
}

/// `scan`: whether a source is compared every so often, for changes of which the kernel tells nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scan {
    /// Where others may write to its file system too: each minute.
    #[default]
    Auto,
    /// Always, so often.
    Every(Duration),
    /// Never.
    Never,
}

impl MirrorConfig {
    /// The source on one line, with bytes that are no text escaped.
    #[must_use]
    pub fn display_source(&self) -> impl fmt::Display + '_ {
        Escaped::path(&self.source)
    }
}

/// The `<inotify>` element. The default is that of the stock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "eight independent switches of the original"
)]
pub struct Switches {
    /// `delete`
    pub delete: bool,
    /// `createFolder`
    pub create_folder: bool,
    /// `createFile`
    pub create_file: bool,
    /// `closeWrite`
    pub close_write: bool,
    /// `moveFrom`
    pub move_from: bool,
    /// `moveTo`
    pub move_to: bool,
    /// `attrib`
    pub attrib: bool,
    /// `modify`
    pub modify: bool,
}

/// What may be removed at a receiver besides what stands in the way of a change of kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// Whatever is missing at the source.
    All,
    /// What was seen to be removed by a means whose switch is on. Where only the outcome is seen, as by a comparison,
    /// nothing is.
    Seen,
    /// Nothing.
    None,
}

impl Switches {
    /// What `delete` and `moveFrom` mean together. That an entry is missing does not tell which of them it was.
    #[must_use]
    pub fn removals(&self) -> Removals {
        match (self.delete, self.move_from) {
            (true, true) => Removals::All,
            (false, false) => Removals::None,
            _ => Removals::Seen,
        }
    }
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            delete: true,
            create_folder: true,
            create_file: false,
            close_write: true,
            move_from: true,
            move_to: true,
            attrib: false,
            modify: false,
        }
    }
}

/// One target of a mirror and how rsync is to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Where the files go.
    pub target: Target,
    /// The user's options for every run, as the allow-list let them through.
    pub params: Params,
    /// `--timeout` of every run.
    pub timeout: Duration,
    /// `maxDelete`: what would remove more entries at once waits for a person.
    pub max_delete: Option<u64>,
    /// `backup`: where what is deleted or replaced is kept.
    pub backup: Option<Backup>,
}

/// `<filter>`: what is not mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterConfig {
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Where each of them stands.
    pub places: Vec<RulePlace>,
    /// All of them, compiled.
    pub compiled: Arc<Filter>,
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePlace {
    /// The file of `excludeFrom`; `None` for the configuration itself.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub position: Position,
}

/// `<crontab>`: full pushes by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrontabConfig {
    /// When.
    pub schedule: Schedule,
    /// Patterns of rsync, as written in `crontabfilter`. What they exclude is neither sent nor deleted by these pushes.
    pub excludes: Vec<String>,
}

/// When something is to be done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// `schedule`: so long after the last time, or after the start.
    Every(Duration),
    /// `calendar`: by the clock on the wall.
    Calendar(Calendar),
}

/// A configuration that is in order, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What has no effect or is a risk, in the order of the file.
    pub warnings: Vec<Problem>,
    /// What will differ from the original, if the file was written for that.
    pub notes: Vec<Problem>,
}

impl Config {
    /// The plugins that are started, in the order of the file.
    #[must_use]
    pub fn plugins_to_run(&self) -> Vec<PluginConfig> {
        let plugins = self.plugins.iter();
        let started = plugins.filter(|plugin| self.started_plugins.contains(&plugin.kind()));
        started.cloned().collect()
    }

    /// The same for telling one plugin of every change and sending nothing. `file` is where it came from.
    ///
    /// As in the original, a plugin that names a directory watches that; `command` watches each `localpath`.
    ///
    /// # Errors
    ///
    /// The file does not define the plugin.
    pub fn into_plugins_only(mut self, file: &Path, kind: PluginKind) -> Result<Self, ConfigError> {
        self.plugins.retain(|plugin| plugin.kind() == kind);
        let Some(plugin) = self.plugins.first() else {
            let name = kind.name();
            return Err(ConfigError::new(vec![Problem {
                file: Some(file.to_path_buf()),
                position: None,
                severity: Severity::Error,
                text: format!(
                    "there is no plugin `{name}` that is in order; write <plugin name=\"{name}\"> in `head`"
                ),
            }]));
        };
        if let Some(watch) = plugin.watch() {
            let switches = self.mirrors.first().map(|mirror| mirror.switches);
            self.mirrors = vec![MirrorConfig {
                source: watch.to_path_buf(),
                remotes: Vec::new(),
                switches: switches.unwrap_or_default(),
                filter: self
                    .filter
                    .as_ref()
                    .map(|filter| Arc::clone(&filter.compiled)),
                scan: Scan::Never,
            }];
        }
        for mirror in &mut self.mirrors {
            mirror.remotes.clear();
        }
        self.crontab = None;
        self.started_plugins = vec![kind];
        Ok(self)
    }

    /// Reads and checks the file `path`.
    ///
    /// # Errors
    ///
    /// Every problem of the file at once; also a file that cannot be read.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        match read_file(path) {
            Ok(bytes) => Self::from_bytes(path, bytes),
            Err(error) => Err(ConfigError::new(vec![Problem {
                file: Some(path.to_path_buf()),
                position: None,
                severity: Severity::Error,
                text: format!("failed to read the file: {error}"),
            }])),
        }
    }

    /// As [`load`](Self::load), with the content of the file `path`.
    fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Loaded, ConfigError> {
        let decoded = encoding::decode(bytes).map_err(|error| {
            ConfigError::new(vec![Problem {
                file: Some(path.to_path_buf()),
                position: Some(error.position),
                severity: Severity::Error,
                text: error.text,
            }])
        })?;
        let mut problems = Problems::in_file(path, &decoded.text);
        if let Some(warning) = decoded.warning {
            problems.warning(At(0), warning);
        }
        let config = xml::parse(&decoded.text, &mut problems)
            .map(|head| validate::validate(&head, decoded.converted, &mut problems));
        let findings = problems.finish();
        match config {
            Some(config) if !findings.has_errors => Ok(Loaded {
                config,
                warnings: findings.problems,
                notes: findings.notes,
            }),
            _ => Err(ConfigError::new(findings.problems)),
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "it is longer than {MAX_FILE_BYTES} bytes, so it is no configuration"
        )));
    }
    Ok(bytes)
}

/// A FIFO would have its reader wait for a writer for ever, and a device may have no end.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

/// A word of the user's for a message: in backquotes, on one line, not too long.
fn quote(text: &str) -> String {
    /// Enough to recognize the word.
    const MAX_CHARACTERS: usize = 80;
    let shown: String = text.chars().take(MAX_CHARACTERS).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{rest}`", Escaped::text(&shown))
}

#[cfg(test)]
mod tests;
