//! A target on this machine: rsync is the receiver there too, and needs the rights of one.
//!
//! The unit's sandbox takes these rights from the service, since a mirror to other machines only reads. That is said
//! once and plainly, instead of letting every path fail.

use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// Where the drop-in that gives them is explained.
const HELP: &str = "if the unit's sandbox is the cause, its drop-in local-target.conf opens it; see sersync@.service(8)";

/// Whether files can be put there at all.
///
/// # Errors
/// Why not, and what to do. A missing directory is never made: it may be a file system that is not mounted.
pub fn check(path: &Path) -> Result<(), String> {
    if !path.is_dir() {
        return Err("the target directory does not exist; make or mount it".into());
    }
    match rustix::fs::access(path, Access::WRITE_OK) {
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => Err(format!(
            "the target directory cannot be written ({errno}); {HELP}"
        )),
        _ => Ok(()),
    }
}

/// What root lacks of a receiver's rights; `None` if nothing, or if this is not root, who knows.
#[must_use]
pub fn missing_rights() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let needed = [
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (CapabilitySet::FOWNER, "CAP_FOWNER"),
    ];
    let held = rustix::thread::capabilities(None).ok()?.effective;
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(capability, _)| !held.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(", ");
        format!("it may fail to keep owners and modes without {missing}; {HELP}")
    })
}
