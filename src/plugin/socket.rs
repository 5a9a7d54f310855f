//! The plugin `socket`: the bytes of a path go over a TCP connection of their own, and nothing else does.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;

use super::event::Event;
use super::outcome::Outcome;
use super::request::{connect, within_limit};

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    watch: PathBuf,
    host: String,
    port: u16,
}

impl Socket {
    pub(super) fn new(watch: &Path, (host, port): &(String, u16)) -> Self {
        Self {
            watch: watch.to_owned(),
            host: host.clone(),
            port: *port,
        }
    }

    pub(super) fn watch(&self) -> &Path {
        &self.watch
    }

    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) async fn send(&self, event: &Event) -> Outcome {
        let sent = within_limit(async {
            let mut stream = connect(&self.host, self.port).await?;
            stream.write_all(&event.path).await?;
            stream.shutdown().await
        });
        sent.await
            .map_or_else(|outcome| outcome, |()| Outcome::Done)
    }
}
