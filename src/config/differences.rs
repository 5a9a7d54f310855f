//! What the original did otherwise, for those who come from it: a note at each element that a file makes use of.
//!
//! A file that has `host` or `fileSystem`, which mean nothing here and are in every file of the original, was written
//! for it. Others are left in peace.

use super::plugin::{self, PluginKind};
use super::problem::{At, Problems};
use super::validate::{STOCK_HOST_IP, STOCK_HOST_PORT, STOCK_XFS};
use super::xml::{
    Attribute, CrontabXml, FileSystemXml, HeadXml, HostXml, InotifyXml, RsyncXml, SersyncXml,
    SwitchXml,
};

/// Notes what will differ.
pub(super) fn note(head: &HeadXml, problems: &mut Problems<'_>) {
    if head.host.is_none() && head.file_system.is_none() {
        return;
    }
    problems.note(
        head.at,
        "names that begin with `.` or end with `~` are mirrored as they change, like all others; the original did that in full pushes only",
    );
    problems.note(
        head.at,
        "a transfer that fails is tried again until it gets through; the original gave a change up after a few tries",
    );
    note_what_has_no_effect(head, problems);
    if is_on(head.debug.as_ref()) {
        problems.note(
            at(head.debug.as_ref(), head.at),
            "`debug` makes the log speak of every run; the original printed its events and commands",
        );
    }
    let filter = head.filter.as_ref().map(|filter| &filter.switch);
    if is_on(filter) {
        problems.note(
            at(filter, head.at),
            "what `filter` excludes in any spelling of its path is left out everywhere, in full pushes too; the original skipped `-r` with a filter",
        );
    }
    if let Some(inotify) = &head.inotify {
        note_inotify(inotify, head.at, problems);
    }
    if let Some(sersync) = &head.sersync {
        note_sersync(sersync, is_on(filter), problems);
    }
    for element in &head.plugins {
        let kind = plugin::kind_of(element);
        let texts: &[&str] = match kind.filter(|kind| is_started(head, *kind)) {
            Some(PluginKind::Command) => &[
                "no shell is in between: `prefix` and `suffix` are split into words, and the path is one word, whatever it holds",
                "the packaged service runs this command in its own sandbox, in which nothing can be written: where it must write, a drop-in allows it, see sersync.xml(5)",
                "a command that takes longer than 60 seconds is ended and reported; the original waited for ever",
            ],
            Some(PluginKind::Http) => &[
                "this plugin does what it says; in the program that was distributed it was switched off",
            ],
            Some(PluginKind::Socket | PluginKind::RefreshCdn) | None => &[],
        };
        for text in texts {
            problems.note(element.at, *text);
        }
    }
}

/// As the stock file has them; other values are warned of, since somebody may rely on them.
fn note_what_has_no_effect(head: &HeadXml, problems: &mut Problems<'_>) {
    let is_stock = |attribute: &Option<Attribute>, stock: &str| {
        attribute.as_ref().is_none_or(|found| found.value == stock)
    };
    let at = |attribute: &Option<Attribute>| attribute.as_ref().map_or(head.at, |found| found.at);
    if let Some(HostXml { host_ip, port }) = &head.host
        && is_stock(host_ip, STOCK_HOST_IP)
        && is_stock(port, STOCK_HOST_PORT)
    {
        problems.note(
            at(host_ip),
            "`host` has no effect, here as in the original: nothing listens there, control is over D-Bus",
        );
    }
    if let Some(FileSystemXml { xfs }) = &head.file_system
        && is_stock(xfs, STOCK_XFS)
    {
        problems.note(
            at(xfs),
            "`fileSystem` has no effect: every file system is read in the same way",
        );
    }
}

fn note_inotify(inotify: &InotifyXml, head: At, problems: &mut Problems<'_>) {
    let create_file = inotify.create_file.as_ref();
    if !is_on(create_file) {
        problems.note(
            at(create_file, head),
            "with `createFile` off, what is made without being written arrives all the same: links, FIFOs, files linked into place",
        );
    }
    note_removals(inotify, head, problems);
}

/// Either switch is for one way in which something goes; a full push cannot tell which it was.
fn note_removals(inotify: &InotifyXml, head: At, problems: &mut Problems<'_>) {
    let is_off = |switch: &Option<SwitchXml>| switch.is_some() && !is_on(switch.as_ref());
    let (delete, move_from) = (&inotify.delete, &inotify.move_from);
    let (switch, text) = match (is_off(delete), is_off(move_from)) {
        (false, false) => return,
        (true, true) => (
            delete,
            "with `delete` and `moveFrom` off nothing is removed at a receiver, by a full push neither",
        ),
        (true, false) => (
            delete,
            "with `delete` off what is deleted stays at the receivers, what is moved away is removed there, and a full push removes nothing",
        ),
        (false, true) => (
            move_from,
            "with `moveFrom` off what is moved away stays at the receivers, what is deleted is removed there, and a full push removes nothing",
        ),
    };
    problems.note(at(switch.as_ref(), head), text);
}

fn note_sersync(sersync: &SersyncXml, filter: bool, problems: &mut Problems<'_>) {
    for other in sersync.local_paths.iter().skip(1) {
        problems.note(
            other.at,
            "this `localpath` is mirrored as well; the original read the first only",
        );
    }
    if let Some(path) = sersync.fail_log.as_ref().and_then(|log| log.path.as_ref()) {
        problems.note(
            path.at,
            "`path` becomes a record of what failed, with a command to try each by hand, and nothing runs it: each path is tried again by itself; as the packaged service, which may not write there, sersync keeps it in its state directory",
        );
    }
    let time = sersync
        .fail_log
        .as_ref()
        .and_then(|log| log.time_to_execute.as_ref());
    if let Some(time) = time {
        problems.note(
            time.at,
            "`timeToExecute` is the longest wait until a path that failed is tried again, the first tries come after seconds; the original ran its script so often",
        );
    }
    if let Some(rsync) = &sersync.rsync {
        note_rsync(rsync, problems);
    }
    if let Some(crontab) = &sersync.crontab {
        note_crontab(crontab, filter, problems);
    }
}

fn note_rsync(rsync: &RsyncXml, problems: &mut Problems<'_>) {
    if let Some(params) = &rsync.common_params {
        problems.note(
            params.at,
            "no shell sees `params`: they are split into words, and each option is checked; `--delete` is not needed, `inotify` says what is deleted",
        );
    }
    if let Some(timeout) = rsync
        .timeout
        .as_ref()
        .filter(|timeout| !is_on(Some(&timeout.switch)))
    {
        problems.note(
            timeout.switch.at,
            "with `timeout` off a transfer that stands still is ended after 300 seconds and tried again; the original waited for ever",
        );
    }
    if let Some(ssh) = rsync.ssh.as_ref().filter(|ssh| is_on(Some(&ssh.switch))) {
        problems.note(
            ssh.switch.at,
            "all runs share one connection of ssh, and nobody is asked for a password: a key and a known host are needed",
        );
    }
}

fn note_crontab(crontab: &CrontabXml, filter: bool, problems: &mut Problems<'_>) {
    if !is_on(Some(&crontab.switch)) {
        return;
    }
    problems.note(
        crontab.switch.at,
        "these pushes never run beside another full push, wait while paused, and say in the log what they have mended",
    );
    let crontab_filter = crontab.filter.as_ref().map(|filter| &filter.switch);
    if filter && !is_on(crontab_filter) {
        problems.note(
            crontab.switch.at,
            "`crontab` works beside `filter`; the original switched it off unless `crontabfilter` was on",
        );
    }
}

fn is_started(head: &HeadXml, kind: PluginKind) -> bool {
    let started = head.sersync.iter().flat_map(|sersync| &sersync.plugins);
    started
        .filter(|plugin| is_on(Some(&plugin.switch)))
        .filter_map(|plugin| plugin.name.as_ref())
        .any(|name| name.value == kind.name())
}

/// What is wrong with a switch is said elsewhere.
fn is_on(switch: Option<&SwitchXml>) -> bool {
    let start = switch.and_then(|switch| switch.start.as_ref());
    start.is_some_and(|start| start.value == "true")
}

fn at(switch: Option<&SwitchXml>, otherwise: At) -> At {
    switch.map_or(otherwise, |switch| switch.at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    /// The notes of a file for the original with these elements in `head` and in `sersync`.
    fn notes(head: &str, sersync: &str) -> Vec<String> {
        let xml = format!(
            r#"<head><fileSystem xfs="false"/>{head}<sersync><localpath watch="/d"><remote path="/r"/></localpath>{sersync}</sersync></head>"#
        );
        let loaded = Config::from_bytes(Path::new("f.xml"), xml.into_bytes()).expect("in order");
        loaded.notes.into_iter().map(|note| note.text).collect()
    }

    #[test]
    fn only_what_a_file_makes_use_of_is_noted() {
        let always = notes("", "").len();
        let filter = r#"<filter start="true"><exclude expression="x"/></filter>"#;
        let command = r#"<plugin name="command"><param prefix="/bin/true" suffix=""/></plugin>"#;
        let http = r#"<plugin name="http"><localpath watch="/d"><deshost url="http://h/" port="80"/></localpath></plugin>"#;
        let started = |name| format!(r#"<plugin start="true" name="{name}"/>"#);
        let crontab = |filter| {
            format!(
                r#"<crontab start="true" schedule="60"><crontabfilter start="{filter}"><exclude expression="y"/></crontabfilter></crontab>"#
            )
        };
        for (head, sersync, more) in [
            (filter, String::new(), 1),
            (command, String::new(), 0),
            (command, started("command"), 3),
            (http, started("http"), 1),
            ("", crontab(false), 1),
            (filter, crontab(false), 3),
            (filter, crontab(true), 2),
        ] {
            let found = notes(head, &sersync);
            assert_eq!(found.len(), always + more, "{head}{sersync}: {found:?}");
        }
    }

    #[test]
    fn what_stays_at_a_receiver_is_told_for_both_switches_together() {
        for (delete, move_from, words) in [
            (false, true, "what is moved away is removed there"),
            (true, false, "what is deleted is removed there"),
            (false, false, "nothing is removed at a receiver"),
        ] {
            let inotify = format!(
                r#"<inotify><delete start="{delete}"/><moveFrom start="{move_from}"/></inotify>"#
            );
            let notes = notes(&inotify, "");
            let told = notes.iter().filter(|note| note.contains("removed"));
            let told: Vec<_> = told.collect();
            assert!(
                matches!(&told[..], [note] if note.contains(words)),
                "{told:?}"
            );
        }
    }

    #[test]
    fn a_file_of_our_own_is_left_in_peace() {
        let xml = br#"<head><debug start="true"/><sersync><localpath watch="/d"><remote path="/r"/></localpath></sersync></head>"#;
        let loaded = Config::from_bytes(Path::new("f.xml"), xml.to_vec()).expect("in order");
        assert_eq!(loaded.notes, []);
    }
}
