//! The commands that ask for one thing and say in one line what came of it.

use serde_json::{Value, json};

use super::failure::Failure;
use super::output::Output;
use super::text;
use super::{FlushArgs, LogLevelArgs, OneArgs, ResumeArgs, Whom, choose};
use crate::control::{LogLevel, counted};
use crate::dbus::client::{ClientError, Instance, RemoteStatus};

pub(super) async fn pause(args: &OneArgs, out: &mut Output) -> Result<(), Failure> {
    let chosen = Chosen::by(args).await?;
    chosen.instance.pause(chosen.number()).await?;
    let answer = json!({ "remote": chosen.number(), "state": "paused" });
    chosen.tell(args, "paused, no rsync runs any more", answer, out)
}

pub(super) async fn resume(args: &ResumeArgs, out: &mut Output) -> Result<(), Failure> {
    let ResumeArgs {
        of,
        accept_source,
        accept_deletions,
    } = args;
    let chosen = Chosen::by(of).await?;
    if *accept_deletions {
        let entries = chosen.instance.accept_deletions(chosen.number()).await?;
        let answer = json!({ "remote": chosen.number(), "accepted": entries });
        let sentence = match entries {
            0 => "no deletions are held".to_owned(),
            _ => format!("{} deleted", counted(entries, "entry is", "entries are")),
        };
        return chosen.tell(of, &sentence, answer, out);
    }
    let mut answer = json!({ "remote": chosen.number(), "state": "resumed" });
    let mut sentence = "resumed";
    if *accept_source {
        chosen.instance.accept_source(chosen.number()).await?;
        answer["accepted"] = true.into();
        sentence = "the source is accepted as it is; resumed";
    }
    chosen.instance.resume(chosen.number()).await?;
    chosen.tell(of, sentence, answer, out)
}

pub(super) async fn retry(args: &OneArgs, out: &mut Output) -> Result<(), Failure> {
    let chosen = Chosen::by(args).await?;
    let retried = chosen.instance.retry_failed(chosen.number()).await?;
    let sentence = match retried {
        0 => "no path has failed".into(),
        1 => "1 failed path is tried again now".into(),
        _ => format!("{retried} failed paths are tried again now"),
    };
    let answer = json!({ "remote": chosen.number(), "retried": retried });
    chosen.tell(args, &sentence, answer, out)
}

pub(super) async fn reload(whom: &Whom, out: &mut Output) -> Result<(), Failure> {
    let instance = choose::one(whom).await?;
    instance.reload().await?;
    let answer = json!({ "reloaded": true });
    tell(
        whom,
        &instance,
        "the configuration is read again",
        answer,
        out,
    )
}

pub(super) async fn flush(args: &FlushArgs, out: &mut Output) -> Result<(), Failure> {
    let instance = choose::one(&args.whom).await?;
    let is_flushed = instance.flush(args.timeout).await?;
    if is_flushed || args.whom.json {
        let sentence = "everything that changed is at every remote";
        let answer = json!({ "flushed": is_flushed });
        tell(&args.whom, &instance, sentence, answer, out)?;
    }
    if is_flushed {
        return Ok(());
    }
    let time = args.timeout.map_or(String::new(), |timeout| {
        let seconds = timeout.as_secs_f64();
        format!(" after {seconds} s")
    });
    Err(Failure::Failed(format!(
        "{}: not everything that changed is at every remote{time}",
        instance.name()
    )))
}

pub(super) async fn log_level(args: &LogLevelArgs, out: &mut Output) -> Result<(), Failure> {
    let (level, whom) = level_or_instance(args)?;
    let is_guessed = whom.instance != args.whom.instance;
    let instance = choose::one(&whom).await.map_err(|failure| match failure {
        Failure::Client(ClientError::NotRunning(cause)) if is_guessed => {
            let cause = format!("{cause}, and no level has that name: {}", levels());
            ClientError::NotRunning(cause).into()
        }
        other => other,
    })?;
    if let Some(level) = level {
        instance.set_log_level(level).await?;
    }
    // What is so now: a log may tell fewer levels apart.
    let now = text::sentence(&instance.log_level().await?);
    if level.is_none() && !whom.json {
        // The bare word, for scripts.
        return Ok(out.line(&now)?);
    }
    let sentence = format!("logs {now} and what is more urgent");
    tell(&whom, &instance, &sentence, json!({ "level": now }), out)
}

/// `log-level data` asks for the level of `data`: a first word that is no level is an instance.
fn level_or_instance(args: &LogLevelArgs) -> Result<(Option<&'static str>, Whom), Failure> {
    let mut whom = args.whom.clone();
    let Some(word) = args.level.as_deref() else {
        return Ok((None, whom));
    };
    let known = LogLevel::ALL.map(LogLevel::as_str);
    if let Some(level) = known.into_iter().find(|&level| level == word) {
        return Ok((Some(level), whom));
    }
    if whom.instance.is_some() {
        let word = text::sentence(word);
        return Err(Failure::Usage(format!(
            "`{word}` is no level: {}",
            levels()
        )));
    }
    whom.instance = Some(crate::cli::instance_name(word).map_err(Failure::Usage)?);
    Ok((None, whom))
}

fn levels() -> String {
    format!(
        "they are {}",
        LogLevel::ALL.map(LogLevel::as_str).join(", ")
    )
}

/// An instance, or one remote of it.
struct Chosen {
    instance: Instance,
    remote: Option<RemoteStatus>,
}

impl Chosen {
    async fn by(args: &OneArgs) -> Result<Self, Failure> {
        let instance = choose::one(&args.whom).await?;
        let remote = choose::remote(&instance, args.one.remote.as_deref()).await?;
        Ok(Self { instance, remote })
    }

    fn number(&self) -> Option<u32> {
        self.remote.as_ref().map(|remote| remote.number)
    }

    fn tell(
        &self,
        args: &OneArgs,
        sentence: &str,
        answer: Value,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let sentence = match &self.remote {
            Some(remote) => format!("remote {}: {sentence}", choose::called(remote)),
            None => sentence.to_owned(),
        };
        tell(&args.whom, &self.instance, &sentence, answer, out)
    }
}

fn tell(
    whom: &Whom,
    instance: &Instance,
    sentence: &str,
    mut answer: Value,
    out: &mut Output,
) -> Result<(), Failure> {
    let name = instance.name();
    if whom.json {
        answer["instance"] = name.into();
        Ok(out.line(&answer.to_string())?)
    } else {
        Ok(out.line(&format!("{name}: {sentence}"))?)
    }
}
