//! The stand-in for the daemon: it notes what it is asked, and answers.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use sersync::control::{ControlError, FailedPath, Reply, Request};
use tokio::sync::mpsc;

use crate::client::DEADLINE;

/// Answers until nobody asks any more. A path that names an error gets it; a flush without a time-out gets no answer.
pub async fn answer(mut requests: mpsc::Receiver<Request>, asked: Arc<Mutex<Vec<String>>>) {
    let mut waiting = Vec::new();
    while let Some(request) = requests.recv().await {
        let words = match request {
            Request::Pause(scope, reply) => told(format!("pause {scope:?}"), reply, Ok(())),
            Request::Resume(scope, reply) => told(format!("resume {scope:?}"), reply, Ok(())),
            Request::AcceptSource(scope, reply) => {
                told(format!("accept source {scope:?}"), reply, Ok(()))
            }
            Request::Reload(reply) => {
                let problem = "data.xml:3:7: unknown element `fliter`".into();
                let refused = Err(ControlError::InvalidConfiguration(problem));
                told("reload".into(), reply, refused)
            }
            Request::Resync(selection, reply) => {
                let words = format!("resync {:?} {:?}", selection.scope, selection.path);
                let name = selection
                    .path
                    .as_deref()
                    .and_then(Path::file_name)
                    .and_then(|name| name.to_str());
                told(words, reply, error_named(name).map_or(Ok(41), Err))
            }
            Request::Verify(selection, reply) => {
                let words = format!("verify {:?} {:?}", selection.scope, selection.path);
                told(words, reply, Ok(42))
            }
            Request::Flush(limit, reply) => {
                if limit > DEADLINE {
                    waiting.push(reply);
                } else {
                    let _ = reply.send(Ok(limit > Duration::from_micros(1)));
                }
                "flush".into()
            }
            Request::RetryFailed(scope, reply) => told(format!("retry {scope:?}"), reply, Ok(3)),
            Request::AcceptDeletions(scope, reply) => {
                told(format!("accept deletions {scope:?}"), reply, Ok(500))
            }
            Request::ListFailed {
                after_id,
                limit,
                reply,
            } => {
                let words = format!("list failed {after_id} {limit}");
                told(words, reply, Ok(vec![failed_path()]))
            }
            Request::ListDrift {
                run,
                skip,
                limit,
                reply,
            } => {
                let words = format!("list drift {run} {skip} {limit}");
                let unknown = ControlError::NotFound(format!("there is no run {run}"));
                told(words, reply, Err(unknown))
            }
        };
        asked.lock().expect("nobody panicked").push(words);
    }
}

fn told<T>(words: String, reply: Reply<T>, answer: Result<T, ControlError>) -> String {
    let _ = reply.send(answer);
    words
}

fn error_named(name: Option<&str>) -> Option<ControlError> {
    Some(match name? {
        "Paused" => ControlError::Paused("backup::data".into()),
        "Held" => ControlError::Held("the source is empty".into()),
        "Failed" => ControlError::Failed(7),
        "NotFound" => ControlError::NotFound("it is in no source".into()),
        "InvalidArgument" => ControlError::InvalidArgument("it makes no\0sense".into()),
        "Stopping" => ControlError::Stopping,
        _ => return None,
    })
}

/// A name that is no text, and a message as only a hostile receiver sends it.
fn failed_path() -> FailedPath {
    FailedPath {
        id: 5,
        remote: 2,
        path: b"dir/\xff\nname".to_vec(),
        exit: 23,
        message: "failed\0: Permission denied (13)".into(),
        attempts: 4,
        first: UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
        next_try: None,
    }
}
