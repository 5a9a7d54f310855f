//! `confxml.xml` as written: raw types that mirror the file, every value still a string with its place.
//!
//! This module is the only user of the XML crate. The tree is read from `roxmltree` by hand and not through serde: a deserializer
//! stops at the first thing it does not like, and quick-xml has no position for it; here every unknown name, every
//! element that is missing or there twice is found in one pass, each with its line and column (see [`element`]).
//! A DTD is refused, so no entity of a file can pull in another.
//!
//! What the values mean is not known here; that is `validate.rs`.

use super::problem::At;

mod element;
mod read;

pub(super) use element::Attribute;
pub(super) use read::parse;

/// `<head>`, the whole file.
#[derive(Debug)]
pub(super) struct HeadXml {
    pub(super) at: At,
    pub(super) version: Option<Attribute>,
    pub(super) host: Option<HostXml>,
    pub(super) debug: Option<SwitchXml>,
    pub(super) file_system: Option<FileSystemXml>,
    pub(super) filter: Option<FilterXml>,
    pub(super) inotify: Option<InotifyXml>,
    pub(super) sersync: Option<SersyncXml>,
    pub(super) plugins: Vec<PluginXml>,
}

/// `<host>`: the original reads it and does nothing with it.
#[derive(Debug)]
pub(super) struct HostXml {
    pub(super) host_ip: Option<Attribute>,
    pub(super) port: Option<Attribute>,
}

/// `<fileSystem>`.
#[derive(Debug)]
pub(super) struct FileSystemXml {
    pub(super) xfs: Option<Attribute>,
}

/// Any element that is only on or off.
#[derive(Debug)]
pub(super) struct SwitchXml {
    pub(super) at: At,
    pub(super) start: Option<Attribute>,
}

/// `<filter>`: a switch and rules. All but `exclude expression` is ours.
#[derive(Debug)]
pub(super) struct FilterXml {
    pub(super) switch: SwitchXml,
    /// In the order of the file.
    pub(super) rules: Vec<RuleXml>,
}

/// A rule of a [`FilterXml`].
#[derive(Debug)]
pub(super) struct RuleXml {
    pub(super) at: At,
    pub(super) kind: RuleKindXml,
}

/// What a [`RuleXml`] says.
#[derive(Debug)]
pub(super) enum RuleKindXml {
    /// `<exclude expression="…"/>` or `<exclude pattern="…"/>`.
    Exclude {
        expression: Option<Attribute>,
        pattern: Option<Attribute>,
    },
    /// `<include pattern="…"/>`.
    Include { pattern: Option<Attribute> },
    /// `<excludeFrom path="…"/>`.
    ExcludeFrom { path: Option<Attribute> },
}

/// `<crontabfilter>` and the `<filter>` of a plugin: a switch and expressions.
#[derive(Debug)]
pub(super) struct PatternsXml {
    pub(super) switch: SwitchXml,
    pub(super) expressions: Vec<ExpressionXml>,
}

/// `<exclude>` and `<include>` there.
#[derive(Debug)]
pub(super) struct ExpressionXml {
    pub(super) at: At,
    pub(super) expression: Option<Attribute>,
}

/// `<inotify>`.
#[derive(Debug)]
pub(super) struct InotifyXml {
    pub(super) delete: Option<SwitchXml>,
    pub(super) create_folder: Option<SwitchXml>,
    pub(super) create_file: Option<SwitchXml>,
    pub(super) close_write: Option<SwitchXml>,
    pub(super) move_from: Option<SwitchXml>,
    pub(super) move_to: Option<SwitchXml>,
    pub(super) attrib: Option<SwitchXml>,
    pub(super) modify: Option<SwitchXml>,
}

/// `<sersync>`.
#[derive(Debug)]
pub(super) struct SersyncXml {
    pub(super) at: At,
    pub(super) local_paths: Vec<LocalPathXml>,
    pub(super) rsync: Option<RsyncXml>,
    pub(super) fail_log: Option<FailLogXml>,
    pub(super) crontab: Option<CrontabXml>,
    pub(super) plugins: Vec<StartPluginXml>,
}

/// `<localpath>`.
#[derive(Debug)]
pub(super) struct LocalPathXml {
    pub(super) at: At,
    pub(super) watch: Option<Attribute>,
    /// Ours.
    pub(super) scan: Option<Attribute>,
    pub(super) remotes: Vec<RemoteXml>,
}

/// `<remote>`. All but `ip` and `name` are ours: `path` for a local target, the others override `<rsync>`.
#[derive(Debug)]
pub(super) struct RemoteXml {
    pub(super) at: At,
    pub(super) ip: Option<Attribute>,
    pub(super) name: Option<Attribute>,
    pub(super) path: Option<Attribute>,
    pub(super) users: Option<Attribute>,
    pub(super) password_file: Option<Attribute>,
    pub(super) port: Option<Attribute>,
    pub(super) ssh: Option<Attribute>,
    pub(super) max_delete: Option<Attribute>,
    pub(super) backup_dir: Option<Attribute>,
    pub(super) params: ParamsXml,
}

/// `params` and our `keepUpdate`, wherever they may stand.
#[derive(Debug)]
pub(super) struct ParamsXml {
    pub(super) params: Option<Attribute>,
    pub(super) keep_update: Option<Attribute>,
}

/// `<rsync>`.
#[derive(Debug)]
pub(super) struct RsyncXml {
    pub(super) common_params: Option<CommonParamsXml>,
    pub(super) auth: Option<AuthXml>,
    pub(super) port: Option<UserDefinedPortXml>,
    pub(super) timeout: Option<TimeoutXml>,
    pub(super) ssh: Option<SshXml>,
    pub(super) max_delete: Option<MaxDeleteXml>,
    pub(super) backup: Option<BackupXml>,
}

/// `<commonParams>`.
#[derive(Debug)]
pub(super) struct CommonParamsXml {
    pub(super) at: At,
    pub(super) params: ParamsXml,
}

/// `<auth>`.
#[derive(Debug)]
pub(super) struct AuthXml {
    pub(super) switch: SwitchXml,
    pub(super) users: Option<Attribute>,
    pub(super) password_file: Option<Attribute>,
}

/// `<userDefinedPort>`.
#[derive(Debug)]
pub(super) struct UserDefinedPortXml {
    pub(super) switch: SwitchXml,
    pub(super) port: Option<Attribute>,
}

/// `<timeout>`, in seconds.
#[derive(Debug)]
pub(super) struct TimeoutXml {
    pub(super) switch: SwitchXml,
    pub(super) time: Option<Attribute>,
}

/// `<ssh>`. All but `start` are ours.
#[derive(Debug)]
pub(super) struct SshXml {
    pub(super) switch: SwitchXml,
    pub(super) identity: Option<Attribute>,
    pub(super) known_hosts: Option<Attribute>,
    pub(super) options: Option<Attribute>,
}

/// `<maxDelete>`, which is ours: so many entries of a remote go at most without a person.
#[derive(Debug)]
pub(super) struct MaxDeleteXml {
    pub(super) switch: SwitchXml,
    pub(super) count: Option<Attribute>,
}

/// `<backup>`, which is ours: where what is deleted or replaced is kept at a remote.
#[derive(Debug)]
pub(super) struct BackupXml {
    pub(super) switch: SwitchXml,
    pub(super) dir: Option<Attribute>,
}

/// `<failLog>`; the period is in minutes.
#[derive(Debug)]
pub(super) struct FailLogXml {
    pub(super) path: Option<Attribute>,
    pub(super) time_to_execute: Option<Attribute>,
}

/// `<crontab>`; the schedule is in minutes. `calendar` is ours.
#[derive(Debug)]
pub(super) struct CrontabXml {
    pub(super) switch: SwitchXml,
    pub(super) schedule: Option<Attribute>,
    pub(super) calendar: Option<Attribute>,
    pub(super) filter: Option<PatternsXml>,
}

/// `<plugin start name>` inside `<sersync>`: run the plugin of that name after each transfer.
#[derive(Debug)]
pub(super) struct StartPluginXml {
    pub(super) switch: SwitchXml,
    pub(super) name: Option<Attribute>,
}

/// `<plugin name>` inside `<head>`: what a plugin does.
#[derive(Debug)]
pub(super) struct PluginXml {
    pub(super) at: At,
    pub(super) kind: PluginKindXml,
}

/// The four plugins that exist.
#[derive(Debug)]
pub(super) enum PluginKindXml {
    Command {
        param: Option<CommandParamXml>,
        filter: Option<PatternsXml>,
    },
    Socket(Option<SocketXml>),
    Http(Option<HttpXml>),
    RefreshCdn(Option<Box<RefreshCdnXml>>),
    /// Already reported.
    Unknown,
}

/// `<param>` of the command plugin; `mode` is ours.
#[derive(Debug)]
pub(super) struct CommandParamXml {
    pub(super) at: At,
    pub(super) prefix: Option<Attribute>,
    pub(super) suffix: Option<Attribute>,
    pub(super) ignore_error: Option<Attribute>,
    pub(super) mode: Option<Attribute>,
}

/// `<localpath>` of the socket plugin.
#[derive(Debug)]
pub(super) struct SocketXml {
    pub(super) at: At,
    pub(super) watch: Option<Attribute>,
    pub(super) hosts: Vec<DestinationXml>,
}

/// `<localpath>` of the http plugin.
#[derive(Debug)]
pub(super) struct HttpXml {
    pub(super) at: At,
    pub(super) watch: Option<Attribute>,
    pub(super) hosts: Vec<DestinationXml>,
}

/// `<deshost>`: `ip` for the socket plugin, `url` and our `format` for the http plugin.
#[derive(Debug)]
pub(super) struct DestinationXml {
    pub(super) at: At,
    pub(super) address: Option<Attribute>,
    pub(super) port: Option<Attribute>,
    pub(super) format: Option<Attribute>,
}

/// `<localpath>` of the refreshCDN plugin.
#[derive(Debug)]
pub(super) struct RefreshCdnXml {
    pub(super) at: At,
    pub(super) watch: Option<Attribute>,
    pub(super) info: Option<CdnInfoXml>,
    pub(super) send_url: Option<SendUrlXml>,
    pub(super) regex_url: Option<RegexUrlXml>,
}

/// `<cdninfo>`.
#[derive(Debug)]
pub(super) struct CdnInfoXml {
    pub(super) at: At,
    pub(super) domain_name: Option<Attribute>,
    pub(super) port: Option<Attribute>,
    pub(super) user_name: Option<Attribute>,
    pub(super) password: Option<Attribute>,
}

/// `<sendurl>`.
#[derive(Debug)]
pub(super) struct SendUrlXml {
    pub(super) at: At,
    pub(super) base: Option<Attribute>,
}

/// `<regexurl>`.
#[derive(Debug)]
pub(super) struct RegexUrlXml {
    pub(super) at: At,
    pub(super) regex: Option<Attribute>,
    pub(super) pattern: Option<Attribute>,
}
