//! Following a run that was asked for until it has finished.
//!
//! Everything is subscribed before the run is asked for, and heard while the answer is awaited: a short run may finish
//! before its number is known here, and an answer may take as long as somebody looks for a password.

use std::future::Future;
use std::pin::pin;

use futures_util::StreamExt as _;
use zbus::Connection;
use zbus::names::OwnedUniqueName;

use super::proxies::{ManagerProxy, RunFinished};
use super::{ClientError, Result};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its number.
    pub id: u64,
    /// Whether every remote is equal, or for a verification: was.
    pub ok: bool,
    /// A sentence about it.
    pub detail: String,
}

pub(super) async fn to_the_end(
    connection: &Connection,
    owner: &OwnedUniqueName,
    begin: impl Future<Output = Result<u64>>,
    mut on_percent: impl FnMut(u32),
) -> Result<Finished> {
    let manager = ManagerProxy::new(connection, owner).await?;
    let mut finished = manager.receive_run_finished().await?;
    let mut owner_changed = manager.inner().receive_owner_changed().await?;
    let mut percent = manager.receive_percent_changed().await;

    let mut begin = pin!(begin);
    let mut run = None;
    let mut early = Vec::new();
    loop {
        tokio::select! {
            // What finished is looked at first: the service may end right after it.
            biased;
            signal = finished.next() => {
                let end = parsed(&signal.ok_or(ClientError::Gone)?)?;
                match run {
                    Some(id) if end.id == id => return Ok(end),
                    Some(_) => {}
                    None => early.push(end),
                }
            }
            id = &mut begin, if run.is_none() => {
                let id = id?;
                if let Some(end) = early.drain(..).find(|end| end.id == id) {
                    return Ok(end);
                }
                run = Some(id);
            }
            // A unique name changes its owner once only: to nobody.
            _ = owner_changed.next() => return Err(ClientError::Gone),
            Some(change) = percent.next() => on_percent(change.get().await?),
        }
    }
}

fn parsed(signal: &RunFinished) -> Result<Finished> {
    let end = signal.args()?;
    Ok(Finished {
        id: end.id,
        ok: end.ok,
        detail: end.detail.into(),
    })
}
