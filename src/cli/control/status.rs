//! `sersync status`: what instances do, once or at every change.

use std::os::unix::ffi::OsStrExt as _;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use super::failure::Failure;
use super::output::{self, Output};
use super::text::{self, ago, ahead, count, entry};
use super::{StatusArgs, choose, json};
use crate::dbus::client::{Bus, ClientError, InstanceStatus, RemoteStatus};

/// What changes together is read together.
const GATHER: Duration = Duration::from_millis(100);
/// How often a terminal is brought up to the time; nothing is read for that.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &StatusArgs, out: &mut Output) -> Result<(), Failure> {
    let bus = choose::bus(&args.whom).await?;
    if args.watch {
        return watch(&bus, args, out).await;
    }
    let statuses = read(&bus, args).await?;
    Ok(out.write(&shown(args, &statuses))?)
}

/// Shows everything whenever it reads differently: in place on a terminal, else below what was shown before.
async fn watch(bus: &Bus, args: &StatusArgs, out: &mut Output) -> Result<(), Failure> {
    let mut changes = bus.changes().await?;
    let mut tick = tokio::time::interval(TICK);
    let mut last = Vec::new();
    let mut nobody_reads = pin!(output::nobody_reads());
    loop {
        let statuses = read(bus, args).await?;
        let in_place = !args.whom.json && output::terminal().is_some();
        if in_place {
            out.write(&redrawn(&shown(args, &statuses)))?;
        } else if statuses != last {
            let gap = if last.is_empty() || args.whom.json {
                ""
            } else {
                "\n"
            };
            out.write(&format!("{gap}{}", shown(args, &statuses)))?;
        }
        if !out.is_open() {
            return Ok(());
        }
        last = statuses;
        tick.reset();
        loop {
            tokio::select! {
                news = changes.next() => {
                    news?;
                    tokio::time::sleep(GATHER).await;
                    break;
                }
                () = &mut nobody_reads => return Ok(()),
                _ = tick.tick(), if in_place => out.write(&redrawn(&shown(args, &last)))?,
            }
        }
    }
}

async fn read(bus: &Bus, args: &StatusArgs) -> Result<Vec<InstanceStatus>, Failure> {
    let mut statuses = Vec::new();
    for instance in choose::some(bus, &args.whom).await? {
        match instance.status().await {
            Ok(status) => statuses.push(status),
            // One of several that ended since they were listed.
            Err(ClientError::Gone) if args.whom.instance.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if statuses.is_empty() {
        return Err(ClientError::Gone.into());
    }
    if let Some(wanted) = args.one.remote.as_deref() {
        for status in &mut statuses {
            status.remotes = vec![choose::by_name(&status.remotes, wanted)?.clone()];
        }
    }
    Ok(statuses)
}

fn shown(args: &StatusArgs, statuses: &[InstanceStatus]) -> String {
    if args.whom.json {
        return format!("{}\n", json::statuses(statuses));
    }
    let (now, width) = (SystemTime::now(), output::width());
    let blocks: Vec<_> = statuses
        .iter()
        .map(|status| block(status, now, width))
        .collect();
    blocks.join("\n")
}

/// The screen from its top, without flicker; what does not fit is left out.
fn redrawn(text: &str) -> String {
    let (_, rows) = output::terminal().unwrap_or((0, 24));
    let mut screen = String::from("\x1b[H");
    for line in text.lines().take(rows.saturating_sub(1)) {
        screen.push_str(line);
        screen.push_str("\x1b[K\n");
    }
    screen.push_str("\x1b[J");
    screen
}

fn block(status: &InstanceStatus, now: SystemTime, width: usize) -> String {
    let mut text = format!(
        "{}: {}\n",
        text::name(status.instance.as_bytes()),
        with_percent(&status.state, status.percent)
    );
    let mut line = |label: &str, value: &str| entry(&mut text, 2, label, value, width);
    let mut sources: Vec<_> = status.remotes.iter().map(|remote| &remote.mirror).collect();
    sources.sort();
    sources.dedup();
    for source in &sources {
        line("source", &text::name(source.as_os_str().as_bytes()));
    }
    // What holds the instance as a whole is no matter of a remote: only the line of the service says it.
    let is_explained = matches!(&*status.state, "idle" | "syncing" | "scanning" | "paused")
        || status
            .remotes
            .iter()
            .any(|remote| remote.state == status.state);
    if !is_explained {
        line("status", &text::sentence(&status.status));
    }
    line(
        "pending",
        &pending(status.pending, status.oldest_pending, now),
    );
    if status.failed > 0 {
        let name = text::name(status.instance.as_bytes());
        let failed = count(status.failed, "path");
        line("failed", &format!("{failed}, see `sersync failed {name}`"));
    }
    if status.unwatched > 0 {
        let what = if status.unwatched == 1 {
            "directory"
        } else {
            "directories"
        };
        line("not watched", &format!("{} {what}", status.unwatched));
    }
    if status.overflows > 0 {
        let times = count(status.overflows, "time");
        line(
            "overflows",
            &format!("{times} the kernel dropped events, and everything was compared"),
        );
    }
    for remote in &status.remotes {
        text.push('\n');
        remote_block(&mut text, remote, sources.len() > 1, now, width);
    }
    text
}

fn remote_block(
    text: &mut String,
    remote: &RemoteStatus,
    with_source: bool,
    now: SystemTime,
    width: usize,
) {
    let title = format!("  remote {}: ", remote.number);
    text::wrapped(text, &title, 4, &text::sentence(&remote.target), width);
    let mut line = |label: &str, value: &str| entry(text, 4, label, value, width);
    if with_source {
        line("source", &text::name(remote.mirror.as_os_str().as_bytes()));
    }
    line("state", &with_percent(&remote.state, remote.percent));
    line(
        "pending",
        &pending(remote.pending, remote.oldest_pending, now),
    );
    if remote.failed > 0 {
        line("failed", &count(remote.failed, "path"));
    }
    let last_success = remote
        .last_success
        .map_or("never".into(), |then| ago(then, now));
    line("last success", &last_success);
    if !remote.last_error.is_empty() {
        let is_mended = !matches!(remote.state.as_str(), "degraded" | "held");
        let label = if is_mended { "mended" } else { "last error" };
        line(label, &text::sentence(&remote.last_error));
    }
    if let Some(then) = remote.next_try {
        line("next try", &ahead(then, now));
    }
}

fn with_percent(state: &str, percent: u32) -> String {
    let state = text::sentence(state);
    match percent {
        0..100 => format!("{state}, {percent} %"),
        _ => state,
    }
}

fn pending(number: u64, oldest: Option<SystemTime>, now: SystemTime) -> String {
    match (number, oldest) {
        (0, _) => "nothing".into(),
        (_, None) => count(number, "path"),
        (_, Some(then)) => format!(
            "{}, the oldest seen {}",
            count(number, "path"),
            ago(then, now)
        ),
    }
}
