//! Hearing that something may read differently now, at any instance.

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

use super::{ClientError, MANAGER_PATH, Result, UMBRELLA};

/// Tells that something changed; how often it did meanwhile does not matter.
#[derive(Debug)]
pub struct Changes {
    changed: watch::Receiver<()>,
}

impl Changes {
    pub(super) async fn subscribe(connection: &Connection) -> Result<Self> {
        let shown = MatchRule::builder()
            .msg_type(Type::Signal)
            .path_namespace(MANAGER_PATH)
            .build()?;
        let names = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg0ns(UMBRELLA)
            .build()?;
        let shown = MessageStream::for_match_rule(shown, connection, None).await?;
        let names = MessageStream::for_match_rule(names, connection, None).await?;
        let (sender, changed) = watch::channel(());
        // A task of its own, because a stream that nobody reads holds up all of the connection, answers included.
        tokio::spawn(async move {
            let mut signals = stream::select(shown, names);
            while let Some(Ok(_)) = signals.next().await {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { changed })
    }

    /// Waits for a change since the last call.
    ///
    /// # Errors
    /// The bus is gone.
    pub async fn next(&mut self) -> Result<()> {
        self.changed.changed().await.map_err(|_| ClientError::Gone)
    }
}
