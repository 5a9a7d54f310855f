//! A verification: what differs at a receiver, by checksum, without changing anything.

use std::sync::Arc;

use super::context::{Context, Halt};
use super::removal::left_out;
use super::transfer::on_disk;
use super::{End, news};
use crate::control::DriftKind;
use crate::fail_queue::Failure;
use crate::filter::Kind;
use crate::path::RelPath;
use crate::resolve::mirrored::Mirrored;
use crate::rsync::{Exit, Forms, Itemized, Names, Outcome, Pace, RunKind, args, judge};

/// Differences of one verification that are kept.
const MOST_DRIFT: usize = 100_000;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first differences, in rsync's order.
    pub drift: Vec<(RelPath, DriftKind)>,
    /// How many there are in all.
    pub found: u64,
}

impl Context {
    /// Compares what is below some directories, or some files, by checksum, without changing anything.
    ///
    /// # Errors
    /// Why it could not be done, in words for everybody; the log has the full ones.
    pub async fn verify(
        self: &Arc<Self>,
        paths: &[RelPath],
        forms: Forms,
        halt: &Halt,
    ) -> Result<Verified, String> {
        let target = self.pin_target().await.map_err(|end| end.cause())?;
        let root = Arc::new(self.open_root().await.map_err(|hold| hold.to_string())?);
        let kind = RunKind::Verify {
            delete: self.compares_with_deletion() && forms.delete_in_trees,
        };
        let _permit = self.permit(halt).await.ok_or("it was ended")?;
        let (mut verified, mut itemized) = (Verified::default(), Itemized::default());
        let listen = |output: &[u8]| {
            let items = itemized.read(output);
            for item in items {
                let kind = Kind::directory_if(item.is_directory);
                let filter = self.filter.as_ref();
                if filter.is_some_and(|filter| filter.covers(&item.path, kind)) {
                    continue;
                }
                verified.found += 1;
                if verified.drift.len() < MOST_DRIFT {
                    verified.drift.push((item.path, item.drift));
                }
            }
        };
        let mut launch = self.launch(&root, kind, forms, Pace::Long);
        // Where a file system is missing there is nothing to compare with.
        let (guard, below) = (Arc::clone(&self.guard), Arc::clone(&root));
        let view = on_disk(move || guard.look(&below)).await;
        if let Some(view) = view {
            launch.args.splice(0..0, view.gaps.rules());
        }
        if let Some(filter) = self.filter.clone() {
            let (below, paths) = (Arc::clone(&root), paths.to_vec());
            let stays_here = self.remote.params.one_file_system();
            let walk = move || Mirrored::below(&below, &paths, &filter, stays_here);
            let mirrored = on_disk(walk).await.unwrap_or_default();
            let rules = left_out(&mirrored.excluded, &mirrored.hidden);
            launch.args.splice(0..0, rules);
        }
        let list = args::list(paths);
        let running = self.run(&target, &launch, list, None, &halt.cancel, listen);
        let ended = running.await.map_err(|end| match end {
            End::Stopped => "it was ended".into(),
            end => end.cause(),
        })?;
        let names = Names {
            listed: paths,
            root: &self.source,
            target: &self.remote.target,
        };
        match (&ended.exit, judge(kind, &ended, &names)) {
            // What vanished meanwhile is no drift.
            (Exit::Code(0 | 24), _) => Ok(verified),
            (exit, Outcome::Unreachable(message) | Outcome::Misconfigured(message)) => {
                let exit = exit.code();
                let failure = Failure { exit, message };
                news::not_compared(&self.name(), &failure);
                Err(failure.public())
            }
            (exit, _) => Err(format!("not all of it could be compared: {exit}")),
        }
    }
}
