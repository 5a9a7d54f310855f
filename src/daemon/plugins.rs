//! The plugins that run: started anew when their configuration changes.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::PluginConfig;
use crate::mirror::Shared;
use crate::plugin::Plugins;

/// See the module.
#[derive(Default)]
pub struct RunningPlugins {
    configs: Vec<PluginConfig>,
    workers: JoinSet<()>,
    stop: CancellationToken,
}

impl RunningPlugins {
    /// Whether just these run.
    pub fn are(&self, configs: &[PluginConfig]) -> bool {
        self.configs == configs
    }

    /// Has these run, and no others, for the mirrors that are started from now on with `shared`. Those that run with
    /// others must have ended.
    pub async fn apply(&mut self, configs: Vec<PluginConfig>, shared: &mut Shared) {
        if self.are(&configs) {
            return;
        }
        self.end().await;
        self.stop = CancellationToken::new();
        shared.plugins = Plugins::start(&configs, &shared.board, &mut self.workers, &self.stop);
        self.configs = configs;
    }

    /// Ends all; what they have not been told is dropped.
    pub async fn end(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            if let Err(failure) = ended
                && failure.is_panic()
            {
                std::panic::resume_unwind(failure.into_panic());
            }
        }
    }
}
