//! The mirrors that run: started and ended as the configuration says, each remote with a number of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, MirrorConfig, Target};
use crate::control::{Board, ControlError, MirrorSnapshot, RemoteSnapshot, Scope};
use crate::local_target;
use crate::mirror::{MirrorHandle, MirrorTask, Question, Shared};
use crate::path::RelPath;

use super::plugins::RunningPlugins;

/// See the module.
pub struct Mirrors {
    running: Vec<Running>,
    tasks: JoinSet<()>,
    plugins: RunningPlugins,
    shared: Shared,
    next_number: u32,
    paused: BTreeSet<u32>,
    /// All were paused, and none was resumed since: what a reload brings is paused as well.
    is_paused: bool,
}

struct Running {
    config: MirrorConfig,
    numbers: Vec<u32>,
    handle: MirrorHandle,
    stop: CancellationToken,
}

impl Running {
    /// Has the filter hold that is in the configuration now.
    async fn refilter(&mut self, mirrors: &[MirrorConfig]) {
        let mut mirrors = mirrors.iter();
        let other = mirrors.find(|other| differs_in_filter_alone(&self.config, other));
        if let Some(filter) = other.and_then(|other| other.filter.clone()) {
            self.config.filter = Some(Arc::clone(&filter));
            self.handle.tell(Scope::All, Question::Filter(filter)).await;
        }
    }
}

/// Whether both are the same but for the rules of the filter that each of them has. Without any, rsync walks by itself.
fn differs_in_filter_alone(one: &MirrorConfig, other: &MirrorConfig) -> bool {
    let (Some(filter), Some(_)) = (&other.filter, &one.filter) else {
        return false;
    };
    let filter = Some(Arc::clone(filter));
    one.filter != filter
        && *other
            == MirrorConfig {
                filter,
                ..one.clone()
            }
}

impl Mirrors {
    /// None so far.
    pub fn new(shared: Shared) -> Self {
        Self {
            running: Vec::new(),
            tasks: JoinSet::new(),
            plugins: RunningPlugins::default(),
            shared,
            next_number: 1,
            paused: BTreeSet::new(),
            is_paused: false,
        }
    }

    /// Where everything is shown.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// Ends what is not in the configuration, starts what is new; a mirror that stays as it is goes on undisturbed.
    pub async fn apply(&mut self, config: Config) {
        let stays = |mirror: &MirrorConfig| {
            let mut all = config.mirrors.iter();
            all.any(|other| *other == *mirror || differs_in_filter_alone(mirror, other))
        };
        let same_period = self.shared.retry_period == config.retry_period;
        let plugins = config.plugins_to_run();
        let same = same_period && self.plugins.are(&plugins);
        let (kept, ended): (Vec<_>, Vec<_>) = self
            .running
            .drain(..)
            .partition(|running| same && stays(&running.config));
        for Running { config, stop, .. } in &ended {
            let source = config.source.display();
            info!(SERSYNC_MIRROR = %source, "no longer mirroring {source}");
            stop.cancel();
        }
        let paused_before = self.paused_of(&ended);
        // The same source or target must not be served twice.
        for _ in &ended {
            if let Some(ended) = self.tasks.join_next().await {
                pass_panic_on(ended);
            }
        }
        self.running = kept;
        for running in &mut self.running {
            running.refilter(&config.mirrors).await;
        }
        self.plugins.apply(plugins, &mut self.shared).await;
        self.shared.retry_period = config.retry_period;
        self.shared.fail_log.set_path(config.fail_log_path);
        // Mirrors that stay begin a new period only if it is another crontab.
        let crontab = config.crontab.map(Arc::new);
        self.shared.crontab.send_if_modified(|old| {
            let is_new = *old != crontab;
            if is_new {
                *old = crontab;
            }
            is_new
        });
        let mirrors = config.mirrors.into_iter();
        let fresh: Vec<MirrorConfig> = mirrors
            .clone()
            .filter(|mirror| !self.running.iter().any(|other| other.config == *mirror))
            .collect();
        let numbered: Vec<_> = fresh
            .into_iter()
            .map(|mirror| self.number(mirror))
            .collect();
        for (config, numbers) in &numbered {
            let targets = config
                .remotes
                .iter()
                .map(|remote| remote.target.to_string());
            let paused = targets.zip(numbers).filter(|(target, _)| {
                self.is_paused || paused_before.contains(&(config.source.clone(), target.clone()))
            });
            self.paused.extend(paused.map(|(_, number)| *number));
        }
        self.show(&mirrors.collect::<Vec<_>>(), &numbered);
        for (config, numbers) in numbered {
            let source = &config.source;
            let was_served = ended.iter().any(|other| other.config.source == *source);
            self.start(config, numbers, was_served);
        }
        // That was said of what there is at the start, and not of what a reload meets.
        self.shared.accept_source = false;
    }

    /// The sources and targets of mirrors that were paused.
    fn paused_of(&self, mirrors: &[Running]) -> BTreeSet<(PathBuf, String)> {
        let remotes = mirrors.iter().flat_map(
            |Running {
                 config, numbers, ..
             }| {
                let targets = config
                    .remotes
                    .iter()
                    .map(|remote| remote.target.to_string());
                let numbered = targets.zip(numbers);
                numbered.map(|(target, number)| (*number, (config.source.clone(), target)))
            },
        );
        let paused = remotes.filter(|(number, _)| self.paused.contains(number));
        paused.map(|(_, lane)| lane).collect()
    }

    /// Remembers what an administrator has paused, or resumed: a reload changes nothing of that.
    pub fn note_paused(&mut self, scope: Scope, is_paused: bool) {
        self.is_paused = is_paused && (self.is_paused || matches!(scope, Scope::All));
        let numbers = self.running.iter().flat_map(|running| &running.numbers);
        let meant = numbers.filter(|number| match scope {
            Scope::All => true,
            Scope::Remote(only) => only == **number,
        });
        for number in meant.copied().collect::<Vec<_>>() {
            if is_paused {
                self.paused.insert(number);
            } else {
                self.paused.remove(&number);
            }
        }
    }

    fn number(&mut self, mirror: MirrorConfig) -> (MirrorConfig, Vec<u32>) {
        let first = self.next_number;
        let numbers: Vec<u32> = (first..).take(mirror.remotes.len()).collect();
        self.next_number += numbers.len() as u32;
        (mirror, numbers)
    }

    /// Starts one. Of a source that `was_served` until now, changes were pending, or happened meanwhile: it is compared.
    fn start(&mut self, config: MirrorConfig, numbers: Vec<u32>, was_served: bool) {
        if config.remotes.is_empty() {
            info!("telling plugins of {}", config.source.display());
        }
        let source = config.source.display();
        for remote in &config.remotes {
            info!("mirroring {source} to {}", remote.target);
            if matches!(remote.target, Target::Local { .. })
                && let Some(missing) = local_target::missing_rights()
            {
                warn!(SERSYNC_MIRROR = %source, SERSYNC_REMOTE = %remote.target, "{}: {missing}", remote.target);
            }
        }
        let stop = CancellationToken::new();
        let (task, handle) = MirrorTask::new(
            config.clone(),
            numbers.clone(),
            self.paused.clone(),
            Shared {
                initial_push: self.shared.initial_push || was_served,
                ..self.shared.clone()
            },
            stop.clone(),
        );
        self.tasks.spawn(task.run());
        self.running.push(Running {
            config,
            numbers,
            handle,
            stop,
        });
    }

    /// Shows the mirrors of the configuration in its order; those that stay keep what they show.
    fn show(&self, all: &[MirrorConfig], fresh: &[(MirrorConfig, Vec<u32>)]) {
        let kept: Vec<u32> = self
            .running
            .iter()
            .flat_map(|r| r.numbers.clone())
            .collect();
        self.board().update(|snapshot| {
            let is_fresh = |source: &Path| fresh.iter().any(|(config, _)| config.source == source);
            let mut before = std::mem::take(&mut snapshot.mirrors);
            before.retain(|mirror| !is_fresh(&mirror.source));
            for MirrorConfig { source, .. } in all {
                let at = before.iter().position(|mirror| mirror.source == *source);
                let shown = at.map(|at| before.swap_remove(at));
                snapshot
                    .mirrors
                    .push(shown.unwrap_or_else(|| MirrorSnapshot {
                        source: source.clone(),
                        ..MirrorSnapshot::default()
                    }));
            }
            snapshot
                .remotes
                .retain(|remote| kept.contains(&remote.number));
            for (config, numbers) in fresh {
                for (remote, number) in config.remotes.iter().zip(numbers) {
                    snapshot.remotes.push(RemoteSnapshot {
                        number: *number,
                        mirror: config.source.clone(),
                        target: remote.target.to_string(),
                        percent: 100,
                        ..RemoteSnapshot::default()
                    });
                }
            }
        });
    }

    /// All that run.
    pub fn handles(&self) -> impl Iterator<Item = &MirrorHandle> {
        self.running.iter().map(|running| &running.handle)
    }

    /// Those that a scope means.
    ///
    /// # Errors
    /// There is no such remote.
    pub fn meant(&self, scope: Scope) -> Result<Vec<MirrorHandle>, ControlError> {
        match scope {
            Scope::All => Ok(self.handles().cloned().collect()),
            Scope::Remote(number) => {
                let mut running = self.running.iter();
                let found = running.find(|running| running.numbers.contains(&number));
                let found = found.ok_or_else(|| no_remote(number))?;
                Ok(vec![found.handle.clone()])
            }
        }
    }

    /// Those that a scope means and whose source holds an absolute path, each with that path below its source.
    ///
    /// # Errors
    /// There is no such remote, or no source holds the path.
    pub fn holding(
        &self,
        scope: Scope,
        path: Option<&Path>,
    ) -> Result<Vec<(MirrorHandle, RelPath)>, ControlError> {
        let Some(path) = path else {
            let meant = self.meant(scope)?.into_iter();
            return Ok(meant.map(|handle| (handle, RelPath::root())).collect());
        };
        self.meant(scope)?;
        let found: Vec<_> = self
            .running
            .iter()
            .filter(|running| match scope {
                Scope::All => true,
                Scope::Remote(number) => running.numbers.contains(&number),
            })
            .filter_map(|running| {
                let below = path.strip_prefix(&running.config.source).ok()?;
                Some((running.handle.clone(), RelPath::of(below)?))
            })
            .collect();
        if found.is_empty() {
            let message = format!("{} is in no source that is mirrored there", path.display());
            return Err(ControlError::NotFound(message));
        }
        Ok(found)
    }

    /// Comes back only by a panic: a mirror ends only when it is told to, and a fault of ours must not go unseen.
    pub async fn watch_over(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            pass_panic_on(ended);
        }
        std::future::pending::<()>().await;
    }

    /// Ends all.
    pub async fn end(&mut self) {
        self.board().update(|snapshot| snapshot.stopping = true);
        for running in &self.running {
            running.stop.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            pass_panic_on(ended);
        }
        self.shared.fail_log.flush().await;
        self.plugins.end().await;
    }
}

fn no_remote(number: u32) -> ControlError {
    ControlError::NotFound(format!("there is no remote {number}"))
}

fn pass_panic_on(ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        std::panic::resume_unwind(failure.into_panic());
    }
}
