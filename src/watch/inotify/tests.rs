//! The whole back end, held back while something happens: it hears of it all at once, when it is long past.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::*;
use crate::config::Switches;

/// A slow machine takes no longer to tell of a change.
const SOON: Duration = Duration::from_secs(20);

struct Held {
    watching: Watching,
    events: mpsc::Receiver<WatchEvent>,
    temp: TempDir,
}

impl Held {
    /// The watcher of a source with these directories, which waits with what it has read.
    async fn with(directories: &[&str]) -> io::Result<Self> {
        let temp = TempDir::new()?;
        let source = temp.path().join("source");
        fs::create_dir(&source)?;
        for name in directories {
            fs::create_dir_all(source.join(name))?;
        }
        let root = SourceRoot::open(&source)?;
        let config = WatchConfig {
            source,
            switches: Switches::default(),
            one_file_system: false,
            filter: None,
        };
        let (sender, mut events) = mpsc::channel(1);
        let watching = Inotify.start(root, config, sender)?;
        assert!(matches!(
            events.recv().await,
            Some(WatchEvent::Scanned { .. })
        ));
        let held = Self {
            watching,
            events,
            temp,
        };
        // The first message fills the channel, the second one waits for a place in it.
        for (number, name) in (0..).zip(["first", "second"]) {
            let beats = held.beats();
            fs::create_dir(held.at(name))?;
            held.until(|held| held.beats() > beats && held.events.len() >= usize::from(number < 1))
                .await;
        }
        Ok(held)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join("source").join(name)
    }

    fn beats(&self) -> u64 {
        self.watching.gauges().beats.load(Ordering::Relaxed)
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(SOON, waiting).await;
        waited.expect("it comes about");
    }

    /// Lets it tell everything that has happened.
    async fn hear_it_out(&mut self) -> io::Result<()> {
        self.watching.ask(1)?;
        self.hear(|event| matches!(event, WatchEvent::Reached(1)))
            .await;
        Ok(())
    }

    async fn hear(&mut self, is_it: impl Fn(&WatchEvent) -> bool) {
        let hearing = async {
            while let Some(event) = self.events.recv().await {
                if is_it(&event) {
                    return;
                }
            }
            panic!("it ended");
        };
        let heard = tokio::time::timeout(SOON, hearing).await;
        heard.expect("it is told");
    }

    /// Whether a change in this directory is told.
    async fn tells_of(&mut self, directory: &str) -> io::Result<()> {
        let path = format!("{directory}/new");
        fs::create_dir(self.at(&path))?;
        self.hear(|event| {
            let WatchEvent::Changes(changes) = event else {
                return false;
            };
            changes
                .iter()
                .any(|change| change.path.as_bytes() == path.as_bytes())
        })
        .await;
        Ok(())
    }
}

fn path(name: &str) -> RelPath {
    RelPath::new(name.as_bytes()).expect("a valid path")
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[tokio::test]
async fn two_directories_are_watched_that_change_names_before_one_is_known() -> io::Result<()> {
    let mut held = Held::with(&["old/below"]).await?;
    fs::create_dir_all(held.at("new/inside"))?;
    exchange(&held.at("new"), &held.at("old"))?;
    held.hear_it_out().await?;
    for directory in ["old", "old/inside", "new", "new/below"] {
        held.tells_of(directory).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_directory_that_comes_in_and_changes_names_is_watched() -> io::Result<()> {
    let mut held = Held::with(&["one/below"]).await?;
    let outside = held.temp.path().join("outside");
    fs::create_dir_all(outside.join("inside"))?;
    fs::rename(&outside, held.at("two"))?;
    exchange(&held.at("two"), &held.at("one"))?;
    fs::rename(held.at("one"), held.at("three"))?;
    held.hear_it_out().await?;
    for directory in ["two", "two/below", "three", "three/inside"] {
        held.tells_of(directory).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_leaves_its_name_leaves_it_to_what_may_be_a_directory() -> io::Result<()> {
    let mut held = Held::with(&[]).await?;
    for name in ["removed", "renamed"] {
        fs::write(held.at(name), "")?;
    }
    fs::remove_file(held.at("removed"))?;
    fs::rename(held.at("renamed"), held.at("other"))?;
    let mut left = BTreeSet::from(["removed", "renamed"].map(path));
    let hearing = async {
        while let Some(event) = held.events.recv().await {
            let WatchEvent::Changes(changes) = event else {
                continue;
            };
            for change in changes {
                if change == Change::left(change.path.clone()) {
                    left.remove(&change.path);
                }
            }
            if left.is_empty() {
                return;
            }
        }
    };
    let heard = tokio::time::timeout(SOON, hearing).await;
    heard.expect("both are told");
    Ok(())
}
