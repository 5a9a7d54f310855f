//! Has the kernel see to it that a child touches nothing but the places of its [`Policy`]: Landlock.
//!
//! It restricts the thread that asks for it, for good, and what that thread starts. So each child has a thread of its
//! own, which starts it and ends; nobody else is restricted by that. Rules are made anew for each child: they stay with
//! the directory they were made for, and what is mounted there later is another one.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use rustix::fs::{CWD, Mode, OFlags};

use super::confine::{NAMES, NSSWITCH, Policy, Right, unknown_service};
use crate::path::Identity;

/// What is forbidden everywhere else, as far as the kernel knows it. Sockets and devices that are open are not.
const KNOWN: ABI = ABI::V3;

/// Why a child is not confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconfined {
    #[error("nobody asked for it")]
    NotAsked,
    #[error("the kernel has no Landlock, or does not let it be used")]
    NoLandlock,
    #[error("it is not known what `{0}` in {NSSWITCH} has to read")]
    UnknownService(String),
    #[error("`{}` cannot be opened: {error}", path.display())]
    NoPlace { path: PathBuf, error: io::Error },
    #[error("the kernel refused the rules: {0}")]
    Refused(#[from] RulesetError),
    #[error("there is no thread for it: {0}")]
    NoThread(io::Error),
}

/// Restricts this thread, and what it starts from now on, to these places and the source. That is given by what was looked
/// at: another directory of its name is not meant.
pub(super) fn restrict(policy: &Policy, root: Option<&OwnedFd>) -> Result<Names, Unconfined> {
    let nsswitch = fs::read_to_string(NSSWITCH).unwrap_or_default();
    if let Some(service) = unknown_service(&nsswitch) {
        return Err(Unconfined::UnknownService(service.into()));
    }
    // Before the rules are made: what changes meanwhile is seen.
    let names = Names::now(policy);
    let mut ruleset = Ruleset::default();
    if policy.writes() {
        // The first version of Landlock forbids all links and renames between directories.
        ruleset = ruleset
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort);
    }
    let mut ruleset = ruleset.handle_access(AccessFs::from_all(KNOWN))?.create()?;
    for place in policy.places() {
        ruleset = match open(&place.path) {
            Ok(fd) => ruleset.add_rule(PathBeneath::new(fd, access(place.right)))?,
            Err(error) if place.is_needed => {
                let path = place.path.into_owned();
                return Err(Unconfined::NoPlace { path, error });
            }
            Err(_) => ruleset,
        };
    }
    if let Some(root) = root {
        ruleset = ruleset.add_rule(PathBeneath::new(root, access(Right::Read)))?;
    }
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(Unconfined::NoLandlock),
        // Some rights are only for directories, and are left out of the rules for files.
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(names),
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn access(right: Right) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match right {
        Right::Read => read,
        Right::Run => read | AccessFs::Execute,
        Right::Use => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
        Right::Change => AccessFs::from_all(KNOWN),
    }
}

/// Which files said whose files are when a child was confined. It cannot read those that stand in their places now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names(Vec<Option<Identity>>);

impl Names {
    fn now(policy: &Policy) -> Self {
        let names = if policy.sends_names() { NAMES } else { &[] };
        Self::of(names)
    }

    fn of(names: &[&str]) -> Self {
        let look = |path: &&str| rustix::fs::stat(*path).ok();
        let looked = names.iter().map(look);
        Self(looked.map(|stat| Some(Identity::of(&stat?))).collect())
    }

    /// Whether they are the same still. The kernel keeps what a rule is for, so no number is used again meanwhile.
    pub(super) fn are_current(&self) -> bool {
        self.0.is_empty() || *self == Self::of(NAMES)
    }
}

/// Whether a program is given rights by its file. Being confined, it would not get them.
pub(super) fn has_rights_of_its_own(program: &Path) -> bool {
    const SET_ID: u32 = 0o6000;
    let is_set_id = |file: fs::Metadata| file.permissions().mode() & SET_ID != 0;
    let mut none = [0_u8; 0];
    fs::metadata(program).is_ok_and(is_set_id)
        || rustix::fs::getxattr(program, c"security.capability", &mut none)
            .is_ok_and(|size| size > 0)
}
