//! From the raw file to a valid [`Config`]: defaults, values, and what must not stand together.

use std::path::PathBuf;
use std::time::Duration;

use super::differences;
use super::filter;
use super::overlap::{self, Placed};
use super::plugin::{self, PluginConfig, PluginKind, expressions};
use super::problem::{At, Problems};
use super::remote::{self, RsyncSettings};
use super::values::{boolean, minutes, path, seconds, text};
use super::xml::{
    Attribute, CrontabXml, FailLogXml, FileSystemXml, HeadXml, HostXml, InotifyXml, LocalPathXml,
    PatternsXml, SersyncXml, StartPluginXml, SwitchXml,
};
use super::{Calendar, Config, CrontabConfig, MirrorConfig, Scan, Schedule, Switches, quote};

/// `failLog timeToExecute` of the stock file.
pub(super) const STOCK_RETRY_PERIOD: Duration = Duration::from_secs(60 * 60);
/// `host hostip` of the stock file, …
pub(super) const STOCK_HOST_IP: &str = "localhost";
/// … `host port`, …
pub(super) const STOCK_HOST_PORT: &str = "8008";
/// … and `fileSystem xfs`.
pub(super) const STOCK_XFS: &str = "false";
/// `crontab schedule` of the stock file.
const STOCK_SCHEDULE: Duration = Duration::from_secs(600 * 60);

/// Checks `head`. What is returned is to be used only if `problems` holds no error.
///
/// `converted` says that the file is not UTF-8, so its names are not the bytes that stand in it.
pub(super) fn validate(head: &HeadXml, converted: bool, problems: &mut Problems<'_>) -> Config {
    what_has_no_effect(head, problems);
    differences::note(head, problems);
    let debug = head
        .debug
        .as_ref()
        .is_some_and(|debug| problems.start(debug));
    let switches = switches(head.inotify.as_ref(), problems);
    let filter = head
        .filter
        .as_ref()
        .and_then(|element| filter::validate(element, problems));
    let sersync = head.sersync.as_ref();
    if sersync.is_none() {
        problems.error(
            head.at,
            "missing element `sersync`; write <sersync><localpath watch=\"/data\"><remote ip=\"10.0.0.41\" name=\"backup\"/></localpath></sersync>",
        );
    }
    let fail_log = sersync.and_then(|sersync| sersync.fail_log.as_ref());
    let (fail_log_path, retry_period) = fail_log_settings(fail_log, problems);
    let started_plugins = started_plugins(head, sersync, problems);
    let mut mirrors = sersync
        .map(|sersync| mirrors(sersync, switches, converted, problems))
        .unwrap_or_default();
    for mirror in &mut mirrors {
        mirror.filter = filter.as_ref().map(|filter| filter.compiled.clone());
    }
    if let Some(element) = head.filter.as_ref().filter(|_| filter.is_some()) {
        no_links_are_followed(element.switch.at, &mirrors, problems);
    }
    let config = Config {
        mirrors,
        debug,
        retry_period,
        fail_log_path,
        filter,
        crontab: sersync.and_then(|sersync| crontab(sersync.crontab.as_ref()?, problems)),
        plugins: plugins(head, &started_plugins, problems),
        started_plugins,
    };
    plugins_elsewhere(head, &config, problems);
    let crontab = sersync.and_then(|sersync| sersync.crontab.as_ref()?.filter.as_ref());
    if let Some(element) = crontab {
        no_rule_is_undone(element.switch.at, &config, problems);
    }
    config
}

/// With a filter, rsync is given the names that our own walk found, and that follows no links.
fn no_links_are_followed(at: At, mirrors: &[MirrorConfig], problems: &mut Problems<'_>) {
    let mut remotes = mirrors.iter().flat_map(|mirror| &mirror.remotes);
    if let Some(remote) = remotes.find(|remote| remote.params.follows_links()) {
        problems.error(
            at,
            format!(
                "beside `filter` nothing is sent of the directory that a link leads to, and the `params` of {} ask for it; take `-L`, `-k` or `--copy-unsafe-links` out of them, or switch the filter off",
                remote.target
            ),
        );
    }
}

/// Of the rules of one run the first that fits counts, and those of a scheduled push come first: what they include by `+ `
/// is included whatever the params exclude. A `filter` is asked by itself.
fn no_rule_is_undone(at: At, config: &Config, problems: &mut Problems<'_>) {
    let patterns = config.crontab.iter().flat_map(|crontab| &crontab.excludes);
    let includes = patterns.clone().any(|pattern| pattern.starts_with("+ "));
    let mut remotes = config.mirrors.iter().flat_map(|mirror| &mirror.remotes);
    if includes
        && config.filter.is_none()
        && let Some(remote) = remotes.find(|remote| remote.params.filtered())
    {
        problems.error(
            at,
            format!(
                "what `crontabfilter` includes by `+ ` would undo the rules in the `params` of {}; write those as `filter`, or the patterns without `+ `",
                remote.target
            ),
        );
    }
}

/// A plugin that is started for a directory in which nothing is mirrored.
fn plugins_elsewhere(head: &HeadXml, config: &Config, problems: &mut Problems<'_>) {
    for plugin in config.plugins_to_run() {
        let Some(watch) = plugin.watch() else {
            continue;
        };
        let mut sources = config.mirrors.iter().map(|mirror| &mirror.source);
        let is_elsewhere = !config.mirrors.is_empty()
            && sources.all(|source| !source.starts_with(watch) && !watch.starts_with(source));
        let mut elements = head.plugins.iter();
        let element = elements.find(|element| plugin::kind_of(element) == Some(plugin.kind()));
        if let Some(element) = element.filter(|_| is_elsewhere) {
            problems.warning(
                element.at,
                format!(
                    "the plugin `{}` is told nothing: its `watch` {} is in no `localpath`",
                    plugin.kind().name(),
                    quote(&watch.to_string_lossy())
                ),
            );
        }
    }
}

/// Elements that the original reads and does nothing with; said only where somebody set them to something.
fn what_has_no_effect(head: &HeadXml, problems: &mut Problems<'_>) {
    let mut has_no_effect = |attribute: &Option<Attribute>, stock: &str, why: &str| {
        if let Some(Attribute { name, value, at }) = attribute
            && value != stock
        {
            problems.warning(*at, format!("`{name}` has no effect: {why}"));
        }
    };
    if let Some(HostXml { host_ip, port }) = &head.host {
        has_no_effect(
            host_ip,
            STOCK_HOST_IP,
            "nothing listens there; control is over D-Bus",
        );
        has_no_effect(
            port,
            STOCK_HOST_PORT,
            "nothing listens there; control is over D-Bus",
        );
    }
    if let Some(FileSystemXml { xfs }) = &head.file_system {
        has_no_effect(xfs, STOCK_XFS, "every file system is read in the same way");
        xfs.as_ref().map(|xfs| problems.value(xfs, boolean));
    }
    if let Some(version) = head
        .version
        .as_ref()
        .filter(|version| version.value != "2.5")
    {
        problems.warning(
            version.at,
            format!("`version` {} is read as 2.5", quote(&version.value)),
        );
    }
}

fn switches(inotify: Option<&InotifyXml>, problems: &mut Problems<'_>) -> Switches {
    let stock = Switches::default();
    let Some(inotify) = inotify else { return stock };
    let mut switch = |element: &Option<SwitchXml>, stock: bool| {
        element
            .as_ref()
            .map_or(stock, |element| problems.start(element))
    };
    let switches = Switches {
        delete: switch(&inotify.delete, stock.delete),
        create_folder: switch(&inotify.create_folder, stock.create_folder),
        create_file: switch(&inotify.create_file, stock.create_file),
        close_write: switch(&inotify.close_write, stock.close_write),
        move_from: switch(&inotify.move_from, stock.move_from),
        move_to: switch(&inotify.move_to, stock.move_to),
        attrib: switch(&inotify.attrib, stock.attrib),
        modify: switch(&inotify.modify, stock.modify),
    };
    let moved_from = inotify.move_from.as_ref();
    if let Some(element) = inotify.delete.as_ref().or(moved_from)
        && switches.delete != switches.move_from
    {
        problems.warning(
            element.at,
            "with only one of `delete` and `moveFrom` on, a full push removes nothing at the remotes: it cannot tell what was deleted from what was moved away",
        );
    }
    switches
}

fn fail_log_settings(
    fail_log: Option<&FailLogXml>,
    problems: &mut Problems<'_>,
) -> (Option<PathBuf>, Duration) {
    let path = fail_log.and_then(|fail_log| problems.value(fail_log.path.as_ref()?, path));
    let period =
        fail_log.and_then(|fail_log| problems.value(fail_log.time_to_execute.as_ref()?, minutes));
    (path, period.unwrap_or(STOCK_RETRY_PERIOD))
}

fn crontab(crontab: &CrontabXml, problems: &mut Problems<'_>) -> Option<CrontabConfig> {
    let on = problems.start(&crontab.switch);
    let (schedule, excludes) = problems.check_if_on(on, |problems| {
        (
            schedule(crontab, on, problems),
            crontab
                .filter
                .as_ref()
                .and_then(|filter| push_excludes(filter, problems)),
        )
    });
    on.then(|| CrontabConfig {
        schedule: schedule.unwrap_or(Schedule::Every(STOCK_SCHEDULE)),
        excludes: excludes.unwrap_or_default(),
    })
}

fn schedule(crontab: &CrontabXml, on: bool, problems: &mut Problems<'_>) -> Option<Schedule> {
    let is_said = |attribute: &&Attribute| on || !attribute.value.is_empty();
    let period = crontab.schedule.as_ref().filter(is_said);
    let calendar = crontab.calendar.as_ref().filter(is_said);
    if let (Some(_), Some(calendar)) = (period, calendar) {
        problems.error(
            calendar.at,
            "`calendar` and `schedule` say the same thing twice; remove one of them",
        );
    }
    let period = period.and_then(|period| problems.value(period, minutes));
    let calendar = calendar.and_then(|calendar| problems.value(calendar, Calendar::parse));
    calendar
        .map(Schedule::Calendar)
        .or(period.map(Schedule::Every))
}

/// The patterns of `crontabfilter`, as rsync takes them after `--exclude=`.
fn push_excludes(filter: &PatternsXml, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let excludes = expressions(filter, problems)?;
    filter::check_patterns(filter, problems);
    Some(excludes)
}

fn started_plugins(
    head: &HeadXml,
    sersync: Option<&SersyncXml>,
    problems: &mut Problems<'_>,
) -> Vec<PluginKind> {
    let mut started = Vec::new();
    for StartPluginXml { switch, name } in sersync
        .map(|sersync| sersync.plugins.as_slice())
        .unwrap_or_default()
    {
        let on = problems.start(switch);
        let kind = problems.check_if_on(on, |problems| {
            problems.required(
                switch.at,
                "name",
                name.as_ref(),
                "command",
                PluginKind::from_name,
            )
        });
        let Some(kind) = kind.filter(|_| on) else {
            continue;
        };
        if started.contains(&kind) {
            problems.error(
                switch.at,
                format!(
                    "the plugin `{}` is started twice; remove one of them",
                    kind.name()
                ),
            );
            continue;
        }
        if !head
            .plugins
            .iter()
            .any(|plugin| plugin::kind_of(plugin) == Some(kind))
        {
            problems.error(
                switch.at,
                format!("the plugin `{0}` is started but not defined; write <plugin name=\"{0}\"> in `head`", kind.name()),
            );
        }
        started.push(kind);
    }
    started
}

fn plugins(
    head: &HeadXml,
    started: &[PluginKind],
    problems: &mut Problems<'_>,
) -> Vec<PluginConfig> {
    let mut plugins: Vec<PluginConfig> = Vec::new();
    for element in &head.plugins {
        let Some(plugin) = plugin::validate(element, started, problems) else {
            continue;
        };
        if plugins.iter().any(|other| other.kind() == plugin.kind()) {
            let name = plugin.kind().name();
            problems.error(
                element.at,
                format!("the plugin `{name}` is defined twice; remove one of them"),
            );
            continue;
        }
        plugins.push(plugin);
    }
    plugins
}

fn mirrors(
    sersync: &SersyncXml,
    switches: Switches,
    converted: bool,
    problems: &mut Problems<'_>,
) -> Vec<MirrorConfig> {
    if sersync.local_paths.is_empty() {
        problems.error(
            sersync.at,
            "missing element `localpath`; write <localpath watch=\"/data\"><remote ip=\"10.0.0.41\" name=\"backup\"/></localpath>",
        );
    }
    let rsync = RsyncSettings::validate(sersync.rsync.as_ref(), problems);
    let read: Vec<Read> = sersync
        .local_paths
        .iter()
        .map(|local_path| read_mirror(local_path, &rsync, converted, problems))
        .collect();
    report_overlaps(&read, problems);
    read.into_iter()
        .filter_map(|read| {
            let (_, source) = read.source?;
            let remotes = read.remotes.into_iter().map(|(_, remote)| remote).collect();
            Some(MirrorConfig {
                source,
                remotes,
                switches,
                filter: None,
                scan: read.scan,
            })
        })
        .collect()
}

/// A `localpath` with the places of its parts, as far as they are usable.
struct Read {
    source: Option<(At, PathBuf)>,
    remotes: Vec<(At, super::RemoteConfig)>,
    scan: Scan,
}

fn read_mirror(
    local_path: &LocalPathXml,
    rsync: &RsyncSettings,
    converted: bool,
    problems: &mut Problems<'_>,
) -> Read {
    let watch = local_path.watch.as_ref();
    let source = problems.required(local_path.at, "watch", watch, "/data", path);
    if let Some(watch) = watch.filter(|_| converted) {
        note_converted_name(watch, problems);
    }
    if local_path.remotes.is_empty() {
        problems.error(
            local_path.at,
            "missing element `remote`; write <remote ip=\"10.0.0.41\" name=\"backup\"/>, or <remote path=\"/backup\"/> for a directory of this machine",
        );
    }
    let remotes = local_path.remotes.iter().filter_map(|remote| {
        for name in [&remote.name, &remote.path]
            .into_iter()
            .flatten()
            .filter(|_| converted)
        {
            note_converted_name(name, problems);
        }
        Some((remote.at, remote::validate(remote, rsync, problems)?))
    });
    let remotes = remotes.collect();
    let scan = local_path.scan.as_ref();
    let scan = scan.and_then(|attribute| problems.value(attribute, scan_every));
    Read {
        scan: scan.unwrap_or_default(),
        source: source.map(|source| (watch.map_or(local_path.at, |watch| watch.at), source)),
        remotes,
    }
}

/// `auto`, `never` or a number of seconds.
fn scan_every(text: &str) -> Result<Scan, String> {
    match text {
        "auto" => Ok(Scan::Auto),
        "never" => Ok(Scan::Never),
        text => match seconds(text) {
            Ok(period) => Ok(Scan::Every(period)),
            Err(reason) => Err(format!("{reason}; or write `auto` or `never`")),
        },
    }
}

/// A file that is not UTF-8 shows other bytes than we use.
fn note_converted_name(attribute: &Attribute, problems: &mut Problems<'_>) {
    if attribute.value.is_ascii() || text(&attribute.value).is_err() {
        return;
    }
    problems.warning(
        attribute.at,
        format!(
            "`{}` stands for the UTF-8 name {}; a directory whose name has the bytes of this file's encoding is another one",
            attribute.name,
            quote(&attribute.value)
        ),
    );
}

fn report_overlaps(read: &[Read], problems: &mut Problems<'_>) {
    let sources: Vec<_> = read
        .iter()
        .filter_map(|read| read.source.as_ref())
        .map(|(at, source)| Placed {
            at: *at,
            what: source.as_path(),
        })
        .collect();
    let targets: Vec<_> = read
        .iter()
        .flat_map(|read| &read.remotes)
        .map(|(at, remote)| Placed {
            at: *at,
            what: &remote.target,
        })
        .collect();
    overlap::check(&sources, &targets, problems);
    let mut backups = Vec::new();
    for (at, remote) in read.iter().flat_map(|read| &read.remotes) {
        let Some(backup) = &remote.backup else {
            continue;
        };
        match backup.place(&remote.target) {
            Ok(place) => backups.extend(place.map(|place| (*at, place))),
            Err(reason) => problems.error(*at, format!("the backup directory {reason}")),
        }
    }
    let backups: Vec<_> = backups
        .iter()
        .map(|(at, place)| Placed {
            at: *at,
            what: place,
        })
        .collect();
    overlap::check_backups(&backups, &sources, &targets, problems);
}
