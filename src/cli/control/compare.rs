//! `sersync resync` and `sersync verify`: a run is begun, followed to its end, and told about.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use futures_util::TryFutureExt as _;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::{Output, Progress};
use super::text::{self, count};
use super::{CompareArgs, choose, json as shown};
use crate::dbus::client::{DriftFound, Finished, Instance, Selection};

pub(super) async fn resync(args: &CompareArgs, out: &mut Output) -> Result<(), Failure> {
    let run = Run::of(args).await?;
    let Some(finished) = run.carried_out(Kind::Resync, out).await? else {
        return Ok(());
    };
    if args.whom.json {
        out.line(&run.answer(&finished).to_string())?;
    }
    let sentence = run.sentence(&finished);
    if !finished.ok {
        return Err(Failure::Failed(sentence));
    }
    if !args.whom.json {
        out.line(&sentence)?;
    }
    Ok(())
}

/// Differences go to standard output, one a line, as `KIND REMOTE PATH`; how many there are to standard error.
pub(super) async fn verify(args: &CompareArgs, out: &mut Output) -> Result<(), Failure> {
    let run = Run::of(args).await?;
    let Some(finished) = run.carried_out(Kind::Verify, out).await? else {
        return Ok(());
    };
    let mut found = 0;
    let mut drift = Vec::new();
    loop {
        let page = run.instance.drift(finished.id, found).await?;
        if page.is_empty() {
            break;
        }
        found += page.len() as u64;
        if args.whom.json {
            drift.extend(page.iter().map(shown::drift));
        } else {
            out.write(&page.iter().map(line).collect::<String>())?;
        }
    }
    if args.whom.json {
        let mut answer = run.answer(&finished);
        answer["drift"] = drift.into();
        out.line(&answer.to_string())?;
    }
    match (found, finished.ok) {
        (0, true) if args.whom.json => Ok(()),
        (0, true) => Ok(out.line(&run.sentence(&finished))?),
        (0, false) => Err(Failure::Failed(run.sentence(&finished))),
        _ => Err(Failure::Failed(format!(
            "{}: {} found",
            run.instance.name(),
            count(found, "difference")
        ))),
    }
}

fn line(drift: &DriftFound) -> String {
    format!(
        "{} {} {}\n",
        text::sentence(&drift.kind),
        drift.remote,
        match &drift.path[..] {
            b"" => ".".into(),
            path => text::name(path),
        }
    )
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Resync,
    Verify,
}

/// What is to be compared, and how to tell about it.
struct Run<'a> {
    args: &'a CompareArgs,
    instance: Instance,
    remote: Option<u32>,
    path: Option<PathBuf>,
}

impl<'a> Run<'a> {
    async fn of(args: &'a CompareArgs) -> Result<Self, Failure> {
        let path = args.path.as_deref().map(std::path::absolute).transpose();
        let path = path.map_err(|error| {
            Failure::Failed(format!("failed to find out where you are: {error}"))
        })?;
        let instance = choose::one(&args.whom).await?;
        let remote = choose::remote(&instance, args.one.remote.as_deref()).await?;
        Ok(Self {
            args,
            instance,
            remote: remote.map(|remote| remote.number),
            path,
        })
    }

    /// Begins the run and waits for its end; `None` if only its beginning was wanted, which is told at once.
    async fn carried_out(&self, kind: Kind, out: &mut Output) -> Result<Option<Finished>, Failure> {
        let instance = &self.instance;
        let what = Selection {
            remote: self.remote,
            path: self.path.as_deref().map(Path::new),
        };
        let begin = async {
            match kind {
                Kind::Resync => instance.resync(what).await,
                Kind::Verify => instance.verify(what).await,
            }
        };
        if self.args.no_wait {
            let run = begin.await?;
            let name = instance.name();
            out.line(&if self.args.whom.json {
                json!({ "instance": name, "run": run }).to_string()
            } else {
                format!("{name}: run {run} has begun")
            })?;
            return Ok(None);
        }
        let mut progress = Progress::new(!self.args.whom.json);
        let number = Cell::new(None);
        let begin = begin.map_ok(|run| {
            number.set(Some(run));
            run
        });
        let following = instance.follow(begin, |percent| progress.show(instance.name(), percent));
        let ended = tokio::select! {
            finished = following => Some(finished),
            Ok(()) = tokio::signal::ctrl_c() => None,
        };
        drop(progress);
        if let Some(finished) = ended {
            return Ok(Some(finished?));
        }
        // Without a word one would take it for ended.
        let name = instance.name();
        Err(Failure::Interrupted(match number.get() {
            None => format!("{name}: no longer asked"),
            Some(run) => format!(
                "{name}: run {run} goes on, it is only not waited for any more; `sersync status` shows it"
            ),
        }))
    }

    fn answer(&self, finished: &Finished) -> Value {
        json!({
            "instance": self.instance.name(),
            "run": finished.id,
            "ok": finished.ok,
            "detail": finished.detail,
        })
    }

    fn sentence(&self, finished: &Finished) -> String {
        let detail = text::sentence(&finished.detail);
        format!("{}: run {}: {detail}", self.instance.name(), finished.id)
    }
}
