//! What all jobs of a lane share: the remote, the verified source, and how a child for it is started.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use super::news::LaneName;
use super::places::Places;
use super::transfer::on_disk;
use super::{End, Hold};
use crate::config::{RemoteConfig, Removals, Target};
use crate::fail_log::FailLog;
use crate::fail_queue::Failure;
use crate::filter::Filter;
use crate::lasting::Lasting;
use crate::links::LinkIndex;
use crate::local_target::{Astray, Pinned};
use crate::path::{Identity, SourceRoot};
use crate::rsync::{
    self, Ended, Forms, Launch, Names, Outcome, Pace, Program, RunKind, Standby, args, judge,
};
use crate::ssh;

/// A disk may be that slow.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

/// The target of a job on this machine, which cannot be unmounted but lazily while this is kept.
pub(super) type Pin = Option<Arc<Pinned>>;

/// What all jobs of a lane share.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where it goes.
    pub remote: RemoteConfig,
    /// Absolute path of the source root.
    pub source: PathBuf,
    /// Which directory that is to be.
    pub identity: Identity,
    /// The same, since device numbers are used again.
    pub lasting: Lasting,
    /// Knows what the remote was last equal to.
    pub guard: Arc<Guard>,
    /// What may be removed at the receiver.
    pub removals: Removals,
    /// What is not mirrored.
    pub filter: Option<Arc<Filter>>,
    /// What rsync excludes by the user's options; `None` if there is a filter, which then holds that as well.
    pub hides: Option<Arc<Filter>>,
    /// Hard links of the mirror.
    pub links: Arc<LinkIndex>,
    /// The rsync program.
    pub program: Program,
    /// The connection to a remote over ssh.
    pub ssh: Option<Arc<ssh::Connection>>,
    /// For the children of all lanes.
    pub places: Places,
    /// Where what failed is recorded.
    pub fail_log: FailLog,
    /// The lane is to end.
    pub stop: CancellationToken,
    /// A run finds that the module has no connection left.
    pub crowd: Arc<Notify>,
    /// How far the comparison of a tree has come, in percent; 100 if there is none.
    pub progress: watch::Sender<u8>,
}

/// A remote with the filter of the mirror: where there is one, the rules among the remote's options are a part of it,
/// and rsync is given names that both let through. The last is what rsync excludes by itself.
#[must_use]
pub fn filtered(
    remote: &RemoteConfig,
    filter: Option<&Arc<Filter>>,
) -> (RemoteConfig, Option<Arc<Filter>>, Option<Arc<Filter>>) {
    let rules = remote.params.rules();
    let Some(filter) = filter else {
        return (remote.clone(), None, rules.cloned());
    };
    let filter = rules.map_or_else(|| Arc::clone(filter), |rules| Arc::new(filter.and(rules)));
    let params = remote.params.without_rules();
    let remote = RemoteConfig {
        params,
        ..remote.clone()
    };
    (remote, Some(filter), None)
}

/// How jobs are brought to an end before their time.
#[derive(Debug, Clone, Default)]
pub struct Halt {
    /// No new runs.
    pub stop: CancellationToken,
    /// Ends children.
    pub cancel: CancellationToken,
}

impl Halt {
    /// Begins nothing more, and ends the children after a moment.
    pub fn end_within(&self, grace: Duration) {
        self.stop.cancel();
        let cancel = self.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            cancel.cancel();
        });
    }
}

impl Context {
    /// The source root, if it is the one this lane began with, and the one that its remote was last equal to.
    pub(super) async fn open_root(self: &Arc<Self>) -> Result<SourceRoot, Hold> {
        let context = Arc::clone(self);
        let opening = on_disk(move || context.open_root_now());
        opening.await.unwrap_or_else(ending)
    }

    /// As before. Blocks on the file system, which may hang.
    pub(super) fn open_root_now(&self) -> Result<SourceRoot, Hold> {
        let root = SourceRoot::open(&self.source)
            .map_err(|error| Hold::SourceMissing(error.to_string()))?;
        if !root.is(self.identity, &self.lasting) {
            return Err(Hold::SourceReplaced);
        }
        self.guard.check_source(&root.lasting())?;
        Ok(root)
    }

    /// As before, and not empty: a bare mount point has the identity of no source, but an empty source looks like one.
    pub(super) async fn open_root_to_delete(self: &Arc<Self>) -> Result<SourceRoot, Hold> {
        let root = self.open_root().await?;
        let guard = Arc::clone(&self.guard);
        let looking = on_disk(move || match root.is_empty() {
            Ok(is_empty) => guard.check_filled(is_empty).map(|()| root),
            Err(error) => Err(Hold::SourceMissing(error.to_string())),
        });
        looking.await.unwrap_or_else(ending)
    }

    /// Whether comparisons remove what is only at the receiver.
    pub(super) fn compares_with_deletion(&self) -> bool {
        self.removals == Removals::All
    }

    /// rsync would make a missing local target; ours may be a file system that is not mounted, or another one. It stays
    /// what it is for as long as what is returned is kept. A target elsewhere needs no pin.
    pub(super) async fn pin_target(&self) -> Result<Pin, End> {
        let Some(path) = self.local_target() else {
            return Ok(None);
        };
        let (path, guard) = (path.to_owned(), Arc::clone(&self.guard));
        let pinning = on_disk(move || {
            let target = Pinned::open(&path).map_err(misconfigured)?;
            guard.check_target(&target.lasting()).map_err(End::Held)?;
            target.check_writable().map_err(misconfigured)?;
            Ok(Some(Arc::new(target)))
        });
        pinning.await.unwrap_or(Err(End::Stopped))
    }

    /// The target, if it is a directory of this machine.
    pub(super) fn local_target(&self) -> Option<&Path> {
        match &self.remote.target {
            Target::Local { path } => Some(path),
            _ => None,
        }
    }

    pub(super) fn launch(
        &self,
        root: &SourceRoot,
        kind: RunKind,
        forms: Forms,
        pace: Pace,
    ) -> Launch {
        let mut args = args::arguments(&self.remote, kind, forms, pace);
        if let Some(ssh) = &self.ssh {
            args.splice(..0, ssh.rsync_options());
        }
        Launch {
            program: self.program.path.clone(),
            args,
            directory: root.proc_path(),
            root: Some(Arc::clone(root.handle())),
            // It wakes up in half of that time, if only to see that there is nothing.
            patience: Some((self.remote.timeout * 2).max(SHORTEST_PATIENCE)),
            confinement: self.program.confinement(&self.remote),
        }
    }

    /// As [`rsync::run`], over an open connection where it goes over ssh. A run to a local target that was not in its
    /// place before and after is not believed: how the job ends by that.
    pub(super) async fn run(
        &self,
        target: &Pin,
        launch: &Launch,
        list: Vec<u8>,
        limit: Option<Duration>,
        cancel: &CancellationToken,
        listen: impl FnMut(&[u8]),
    ) -> Result<Ended, End> {
        in_its_place(target, cancel).await?;
        let ended = self.run_unpinned(launch, list, limit, cancel, listen).await;
        in_its_place(target, cancel).await?;
        Ok(ended)
    }

    /// The same for what writes nothing.
    pub(super) async fn run_unpinned(
        &self,
        launch: &Launch,
        list: Vec<u8>,
        limit: Option<Duration>,
        cancel: &CancellationToken,
        listen: impl FnMut(&[u8]),
    ) -> Ended {
        if let Some(ssh) = &self.ssh
            && let Err(ended) = ssh.open(cancel).await
        {
            return ended;
        }
        rsync::run(launch, list, limit, cancel, listen).await
    }

    /// Leaves nothing open behind.
    pub(super) async fn hang_up(&self) {
        if let Some(ssh) = &self.ssh {
            ssh.close().await;
        }
    }

    /// Whether a listing, which removes whatever is missing in a directory, would take what has to stay beside what it is
    /// for: what a switch keeps, what a remote had before it was first compared, or what rules exclude that we cannot
    /// read.
    pub(super) fn picks(&self) -> bool {
        let params = &self.remote.params;
        self.removals == Removals::Seen
            || self.guard.is_unrelated()
            || (params.filtered() && params.rules().is_none())
    }

    pub(super) fn name(&self) -> LaneName {
        LaneName::new(&self.source, &self.remote.target)
    }

    /// The right to start a child; `None` when children are to end.
    pub(super) async fn permit(&self, halt: &Halt) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = halt.cancel.cancelled() => None,
            permit = self.places.work() => permit,
        }
    }

    /// A child that waits for the list of the next send run.
    #[must_use]
    pub fn standby(&self, forms: Forms, quiet: Duration, halt: &Halt) -> Option<Standby> {
        // Being ended without a list, rsync would make a local target that is not there; and there is nobody to connect
        // to ahead of time.
        if matches!(self.remote.target, Target::Local { .. }) {
            return None;
        }
        // A run has just come through it: waiting for another look would start the next one without this child.
        let root = self.open_root_now().ok()?;
        if self.ssh.as_ref().is_some_and(|ssh| !ssh.is_open()) {
            return None;
        }
        let place = self.places.wait()?;
        let kind = RunKind::Send { ignore_times: true };
        let launch = self.launch(&root, kind, forms, Pace::Long);
        let cancel = halt.cancel.child_token();
        Some(Standby::start(launch, quiet, cancel, place))
    }

    /// Finds out whether the remote takes a run at all, by one with an empty list.
    ///
    /// # Errors
    /// How such a run ends otherwise.
    pub async fn probe(self: &Arc<Self>, forms: Forms, halt: &Halt) -> Result<(), End> {
        let target = self.pin_target().await?;
        let root = self.open_root().await.map_err(End::Held)?;
        let kind = RunKind::Send { ignore_times: true };
        // It takes no place of those that have something to carry: as many remotes that never answer as there are places
        // would hold up all the others.
        //
        // A connection that hangs is not to be used again.
        self.hang_up().await;
        let ended = self
            .run(
                &target,
                &self.launch(&root, kind, forms, Pace::Brief),
                Vec::new(),
                Some(self.remote.timeout),
                &halt.cancel,
                |_| {},
            )
            .await?;
        let names = Names {
            listed: &[],
            root: &self.source,
            target: &self.remote.target,
        };
        let exit = ended.exit.code();
        match judge(kind, &ended, &names) {
            Outcome::Unreachable(message) => Err(End::Unreachable(Failure { exit, message })),
            Outcome::Misconfigured(message) => Err(End::Misconfigured(Failure { exit, message })),
            Outcome::Refused(form) => Err(End::Refused(form)),
            _ => Ok(()),
        }
    }
}

/// Whether the name of a local target leads to where it led when it was pinned. A file system may hang at that, so it is
/// not waited for when children are to end.
pub(super) async fn in_its_place(target: &Pin, cancel: &CancellationToken) -> Result<(), End> {
    let Some(target) = target.clone() else {
        return Ok(());
    };
    let looking = on_disk(move || target.check_name());
    let found = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(End::Stopped),
        found = looking => found,
    };
    match found {
        Some(Ok(())) => Ok(()),
        Some(Err(Astray::Missing(message))) => Err(misconfigured(message)),
        Some(Err(Astray::Other(difference))) => Err(End::Held(Hold::OtherTarget(difference))),
        None => Err(End::Stopped),
    }
}

fn misconfigured(message: String) -> End {
    End::Misconfigured(Failure { exit: -1, message })
}

/// The runtime ends: whatever is asked for now does not happen any more.
fn ending<T>() -> Result<T, Hold> {
    Err(Hold::SourceMissing("the service is ending".into()))
}
