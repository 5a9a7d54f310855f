//! `sersync failed`: the paths that failed by themselves, and why.

use std::time::SystemTime;

use super::failure::Failure;
use super::output::{self, Output};
use super::text::{self, ago, ahead};
use super::{ListArgs, choose, json};
use crate::control::FailedPath;
use crate::dbus::client::Instance;

pub(super) async fn run(args: &ListArgs, out: &mut Output) -> Result<(), Failure> {
    let instance = choose::one(&args.whom).await?;
    let remotes = instance.status().await?.remotes;
    let only = match args.one.remote.as_deref() {
        Some(wanted) => Some(choose::by_name(&remotes, wanted)?.number),
        None => None,
    };
    let mut failed = all(&instance).await?;
    failed.retain(|path| only.is_none_or(|number| path.remote == number));

    let target = |path: &FailedPath| {
        let remote = remotes.iter().find(|remote| remote.number == path.remote)?;
        Some(remote.target.as_str())
    };
    if args.whom.json {
        let list: Vec<_> = failed
            .iter()
            .map(|path| json::failed(path, target(path)))
            .collect();
        let answer = serde_json::json!({ "instance": instance.name(), "failed": list });
        return Ok(out.line(&answer.to_string())?);
    }
    if failed.is_empty() {
        return Ok(out.line(&format!("{}: no path has failed", instance.name()))?);
    }
    let (now, width) = (SystemTime::now(), output::width());
    for path in &failed {
        out.write(&block(path, target(path), now, width))?;
    }
    Ok(())
}

async fn all(instance: &Instance) -> Result<Vec<FailedPath>, Failure> {
    let mut all: Vec<FailedPath> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.id);
        let mut page = instance.failed_paths(after).await?;
        // A service that repeats itself must not keep us here for ever.
        page.retain(|path| path.id > after);
        page.sort_by_key(|path| path.id);
        if page.is_empty() {
            return Ok(all);
        }
        all.append(&mut page);
    }
}

/// The path on a line of its own, however long, so that it can be copied; below it what is known of it.
fn block(path: &FailedPath, target: Option<&str>, now: SystemTime, width: usize) -> String {
    let head = format!("{:>4}  ", path.id);
    let margin = head.len();
    let indent = " ".repeat(margin);
    let mut text = format!("{head}{}\n", text::name(&path.path));
    let next = path.next_try.map_or("being tried".into(), |then| {
        format!("next try {}", ahead(then, now))
    });
    let tries = match path.attempts {
        1 => "1 try".into(),
        tries => format!("{tries} tries"),
    };
    let target = target.map_or(String::new(), |target| {
        format!(" ({})", text::sentence(target))
    });
    let known = format!(
        "remote {}{target}, {tries}, first {}, {next}",
        path.remote,
        ago(path.first, now)
    );
    text::wrapped(&mut text, &indent, margin, &known, width);
    let cause = format!("exit {}: {}", path.exit, text::sentence(&path.message));
    text::wrapped(&mut text, &indent, margin, &cause, width);
    text
}
