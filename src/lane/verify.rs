//! A verification: what differs at a receiver, by checksum, without changing anything.

use super::context::{Context, Halt};
use crate::control::DriftKind;
use crate::path::RelPath;
use crate::rsync::{self, Exit, Forms, Itemized, Names, Outcome, Pace, RunKind, args, judge};

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
    /// Why it could not be done.
    pub async fn verify(
        &self,
        paths: &[RelPath],
        forms: Forms,
        halt: &Halt,
    ) -> Result<Verified, String> {
        self.check_target().map_err(|end| end.cause())?;
        let root = self.open_root().map_err(|hold| hold.to_string())?;
        let kind = RunKind::Verify {
            delete: self.deletes && forms.delete_in_trees,
        };
        let _permit = self.permit(halt).await.ok_or("it was ended")?;
        let (mut verified, mut itemized) = (Verified::default(), Itemized::default());
        let listen = |output: &[u8]| {
            let items = itemized.read(output);
            verified.found += items.len() as u64;
            let space = MOST_DRIFT.saturating_sub(verified.drift.len());
            verified.drift.extend(items.into_iter().take(space));
        };
        let launch = self.launch(&root, kind, forms, Pace::Long);
        let ended = rsync::run(&launch, args::list(paths), None, &halt.cancel, listen).await;
        let names = Names {
            listed: paths,
            root: &self.source,
            target: &self.remote.target,
        };
        match (&ended.exit, judge(kind, &ended, &names)) {
            // What vanished meanwhile is no drift.
            (Exit::Code(0 | 24), _) => Ok(verified),
            (_, Outcome::Unreachable(cause) | Outcome::Misconfigured(cause)) => Err(cause),
            (exit, _) => Err(format!("not all of it could be compared: {exit}")),
        }
    }
}
