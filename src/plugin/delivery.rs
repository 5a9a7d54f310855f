//! One place to be told, whichever plugin it belongs to.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::command::Command;
use super::event::Event;
use super::http::Http;
use super::outcome::Outcome;
use super::refresh_cdn::RefreshCdn;
use super::socket::Socket;
use crate::config::PluginConfig;

/// See the module.
#[derive(Debug)]
pub(super) enum Delivery {
    Command(Command),
    Socket(Socket),
    Http(Http),
    RefreshCdn(RefreshCdn),
}

impl Delivery {
    /// A plugin may have several places.
    pub(super) fn all_of(config: &PluginConfig) -> Vec<Self> {
        match config {
            PluginConfig::Command(command) => vec![Self::Command(Command::new(command.clone()))],
            PluginConfig::Socket(socket) => {
                let places = socket.destinations.iter();
                let sockets = places.map(|place| Socket::new(&socket.watch, place));
                sockets.map(Self::Socket).collect()
            }
            PluginConfig::Http(http) => {
                let places = http.destinations.iter();
                let servers = places.map(|place| Http::new(&http.watch, place));
                servers.map(Self::Http).collect()
            }
            PluginConfig::RefreshCdn(cdn) => {
                vec![Self::RefreshCdn(RefreshCdn::new(cdn.clone()))]
            }
        }
    }

    /// The directory of which it is told; `None` for any.
    pub(super) fn watch(&self) -> Option<&Path> {
        match self {
            Self::Command(_) => None,
            Self::Socket(socket) => Some(socket.watch()),
            Self::Http(http) => Some(http.watch()),
            Self::RefreshCdn(cdn) => Some(cdn.watch()),
        }
    }

    /// Whether it is to be told of this path.
    pub(super) fn wants(&self, event: &Event) -> bool {
        let is_there = |watch| is_below(&event.path, watch);
        self.watch().is_none_or(is_there)
            && match self {
                Self::Command(command) => command.wants(&event.path),
                Self::RefreshCdn(cdn) => cdn.wants(&event.path),
                Self::Socket(_) | Self::Http(_) => true,
            }
    }

    /// Whether it is told of many paths at once.
    pub(super) fn takes_many(&self) -> bool {
        match self {
            Self::Command(command) => command.takes_many(),
            Self::Http(http) => http.takes_many(),
            Self::Socket(_) | Self::RefreshCdn(_) => false,
        }
    }

    /// Whether a directory that came as a whole stands for all that is in it.
    pub(super) fn takes_trees(&self) -> bool {
        matches!(self, Self::RefreshCdn(_))
    }

    /// Tells of one path, or of many if it takes many.
    pub(super) async fn tell(&self, events: &[Event]) -> Outcome {
        match self {
            Self::Command(command) => command.run(events).await,
            Self::Http(http) => http.post(events).await,
            Self::Socket(socket) => one_by_one(events, |event| socket.send(event)).await,
            Self::RefreshCdn(cdn) => one_by_one(events, |event| cdn.refresh(event)).await,
        }
    }
}

async fn one_by_one<'e, F: Future<Output = Outcome>>(
    events: &'e [Event],
    tell: impl Fn(&'e Event) -> F,
) -> Outcome {
    for event in events {
        let outcome = tell(event).await;
        if outcome != Outcome::Done {
            return outcome;
        }
    }
    Outcome::Done
}

/// Whether a path is this directory or lies in it.
fn is_below(path: &[u8], directory: &Path) -> bool {
    Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(directory)
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => write!(f, "the plugin command ({})", command.program()),
            Self::Socket(socket) => write!(f, "the plugin socket ({})", socket.place()),
            Self::Http(http) => write!(f, "the plugin http ({})", http.place()),
            Self::RefreshCdn(cdn) => write!(f, "the plugin refreshCDN ({})", cdn.place()),
        }
    }
}
