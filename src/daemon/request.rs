//! What is asked of the instance, put to the mirrors that are meant. Each answer is waited for in a task of its own, so
//! that the daemon goes on meanwhile.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::info;

use super::mirrors::Mirrors;
use crate::control::{ControlError, Drift, FailedPath, Reply, Request, Scope, Selection, counted};
use crate::lane::Settled;
use crate::mirror::{MirrorHandle, Question, together};

/// What came of a question.
pub enum Answered {
    /// Whoever asked has the answer.
    Question,
    /// A run that somebody asked for has ended.
    Run {
        /// Its number.
        id: u64,
        /// Whether all is equal, or for a verification: was.
        ok: bool,
        /// A sentence.
        detail: String,
        /// What a verification found.
        drift: Option<Vec<Drift>>,
    },
}

/// Puts a request to the mirrors, and has a task wait for the answer.
pub fn pass_on(mirrors: &Mirrors, request: Request, answers: &mut JoinSet<Answered>) {
    match request {
        Request::Pause(scope, reply) => {
            info!("paused by request: changes gather");
            let answer = ask(mirrors.meant(scope), scope, Question::Pause);
            answers.spawn(reply_with(reply, async { answer.await.map(|_| ()) }));
        }
        Request::Resume(scope, reply) => {
            info!("resumed by request");
            let meant = mirrors.meant(scope);
            answers.spawn(reply_with(reply, async move {
                for mirror in meant? {
                    mirror.tell(scope, Question::Resume).await;
                }
                Ok(())
            }));
        }
        Request::AcceptSource(scope, reply) => {
            info!("the source is accepted as it is, by request");
            let answer = ask(mirrors.meant(scope), scope, Question::AcceptSource);
            answers.spawn(reply_with(reply, async {
                let all = answer.await?.into_iter();
                all.collect::<Result<(), String>>()
                    .map_err(ControlError::Held)
            }));
        }
        Request::Flush(limit, reply) => {
            let answer = ask(mirrors.meant(Scope::All), Scope::All, Question::Flush);
            answers.spawn(reply_with(reply, flushed(answer, limit)));
        }
        Request::RetryFailed(scope, reply) => {
            let answer = ask(mirrors.meant(scope), scope, Question::RetryFailed);
            answers.spawn(reply_with(reply, async {
                let paths: usize = answer.await?.into_iter().sum();
                Ok(u32::try_from(paths).unwrap_or(u32::MAX))
            }));
        }
        Request::AcceptDeletions(scope, reply) => {
            let answer = ask(mirrors.meant(scope), scope, Question::AcceptDeletions);
            answers.spawn(reply_with(reply, async {
                let entries: u64 = answer.await?.into_iter().sum();
                info!(
                    "deletions are accepted by request: {}",
                    counted(entries, "entry", "entries")
                );
                Ok(entries)
            }));
        }
        Request::ListFailed {
            after_id,
            limit,
            reply,
        } => {
            let answer = ask(mirrors.meant(Scope::All), Scope::All, Question::ListFailed);
            answers.spawn(reply_with(reply, async move {
                let mut paths: Vec<FailedPath> = answer.await?.into_iter().flatten().collect();
                paths.retain(|path| path.id > after_id);
                paths.sort_by_key(|path| path.id);
                paths.truncate(limit as usize);
                Ok(paths)
            }));
        }
        // The daemon answers these by itself.
        Request::Reload(_)
        | Request::Resync(..)
        | Request::Verify(..)
        | Request::ListDrift { .. } => {}
    }
}

/// Compares and mends what is selected.
///
/// # Errors
/// There is no such thing.
pub fn resync(
    mirrors: &Mirrors,
    selection: &Selection,
    id: u64,
) -> Result<impl Future<Output = Answered> + Send + 'static, ControlError> {
    let scope = selection.scope;
    let meant = mirrors.holding(scope, selection.path.as_deref())?;
    info!("comparing everything by request, run {id}");
    Ok(async move {
        let asked = meant.into_iter().map(|(mirror, path)| async move {
            let question = |reply| Question::Resync(path, reply);
            mirror.ask(scope, question).await
        });
        let (ok, detail) = match all(asked).await.map(together) {
            Ok(Settled::Equal) => (true, "everything is equal".into()),
            Ok(Settled::Failed(paths)) => (false, ControlError::Failed(paths).to_string()),
            Ok(Settled::Held(cause)) => (false, cause),
            Ok(Settled::Paused) => (
                false,
                format!("{}; what was asked for is compared then", is_paused()),
            ),
            Ok(Settled::Unreachable(cause)) => (
                false,
                format!("a remote cannot be reached, it is compared when it can: {cause}"),
            ),
            Err(error) => (false, error.to_string()),
        };
        Answered::Run {
            id,
            ok,
            detail,
            drift: None,
        }
    })
}

/// Compares what is selected by checksum and changes nothing.
///
/// # Errors
/// There is no such thing.
pub fn verify(
    mirrors: &Mirrors,
    selection: &Selection,
    id: u64,
) -> Result<impl Future<Output = Answered> + Send + 'static, ControlError> {
    let scope = selection.scope;
    let meant = mirrors.holding(scope, selection.path.as_deref())?;
    info!("verifying by request, run {id}");
    Ok(async move {
        let asked = meant.into_iter().map(|(mirror, path)| async move {
            let question = |reply| Question::Verify(path, reply);
            mirror.ask(scope, question).await
        });
        let (mut found, mut kept, mut failures) = (0, Vec::new(), Vec::new());
        match all(asked).await {
            Ok(remotes) => {
                for (remote, result) in remotes.into_iter().flatten() {
                    match result {
                        Ok(verified) => {
                            found += verified.found;
                            kept.extend(verified.drift.into_iter().map(|(path, kind)| Drift {
                                remote,
                                path: path.as_bytes().to_vec(),
                                kind,
                            }));
                        }
                        Err(cause) => {
                            failures.push(format!("remote {remote} was not compared: {cause}"));
                        }
                    }
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
        let differences = match found {
            // Of what was not compared there is nothing to say.
            0 if !failures.is_empty() => None,
            0 => Some("no difference".into()),
            _ => Some(counted(found, "difference", "differences")),
        };
        let detail: Vec<String> = differences.into_iter().chain(failures.clone()).collect();
        let detail = detail.join("; ");
        let ok = found == 0 && failures.is_empty();
        info!("verification {id} ended: {detail}");
        Answered::Run {
            id,
            ok,
            detail,
            drift: Some(kept),
        }
    })
}

/// Has each mirror asked, and waits for all of them.
async fn ask<T: Send + 'static>(
    mirrors: Result<Vec<MirrorHandle>, ControlError>,
    scope: Scope,
    question: fn(oneshot::Sender<T>) -> Question,
) -> Result<Vec<T>, ControlError> {
    let asked = mirrors?.into_iter();
    all(asked.map(|mirror| async move { mirror.ask(scope, question).await })).await
}

/// All answers; the questions are put at once, and wait for each other only in the end.
async fn all<T: Send + 'static>(
    asked: impl Iterator<Item = impl Future<Output = Option<T>> + Send + 'static>,
) -> Result<Vec<T>, ControlError> {
    let mut waits = JoinSet::new();
    for one in asked {
        waits.spawn(one);
    }
    let answers = waits.join_all().await.into_iter();
    answers
        .collect::<Option<Vec<T>>>()
        .ok_or(ControlError::Stopping)
}

async fn flushed(
    answer: impl Future<Output = Result<Vec<Settled>, ControlError>>,
    limit: Duration,
) -> Result<bool, ControlError> {
    let settled = if limit.is_zero() {
        answer.await
    } else {
        match tokio::time::timeout(limit, answer).await {
            Ok(settled) => settled,
            Err(_) => return Ok(false),
        }
    };
    match together(settled?) {
        Settled::Equal => Ok(true),
        Settled::Failed(paths) => Err(ControlError::Failed(paths)),
        Settled::Paused => Err(is_paused()),
        Settled::Held(cause) | Settled::Unreachable(cause) => Err(ControlError::Held(cause)),
    }
}

fn is_paused() -> ControlError {
    ControlError::Paused("the instance, or a remote of it,".into())
}

async fn reply_with<T>(
    reply: Reply<T>,
    answer: impl Future<Output = Result<T, ControlError>>,
) -> Answered {
    // Whoever asked may have gone.
    let _ = reply.send(answer.await);
    Answered::Question
}
