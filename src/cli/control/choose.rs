//! Which bus, which instance, which remote a command means.

use std::io::{self, IsTerminal as _};

use super::failure::Failure;
use super::{Whom, text};
use crate::dbus::client::{Bus, ClientError, Instance, RemoteStatus};

/// The bus. Whoever sits at a terminal may be asked for a password; a script must not be kept waiting for one.
pub(super) async fn bus(whom: &Whom) -> Result<Bus, Failure> {
    Ok(Bus::connect(&whom.bus, io::stdin().is_terminal()).await?)
}

/// The instance that was named, or all that run; at least one.
pub(super) async fn some(bus: &Bus, whom: &Whom) -> Result<Vec<Instance>, Failure> {
    let instances = match &whom.instance {
        Some(name) => vec![bus.instance(name).await?],
        None => bus.instances().await?,
    };
    if instances.is_empty() {
        let nobody = format!("no instance is running on {}", whom.bus);
        return Err(ClientError::NotRunning(nobody).into());
    }
    Ok(instances)
}

/// The instance that was named, or the only one that runs.
pub(super) async fn one(whom: &Whom) -> Result<Instance, Failure> {
    let mut instances = some(&bus(whom).await?, whom).await?;
    match (instances.pop(), instances.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let names: Vec<_> = instances
                .iter()
                .chain(&last)
                .map(|instance| text::name(instance.name().as_bytes()))
                .collect();
            Err(Failure::Usage(format!(
                "several instances are running, say which: {}",
                names.join(", ")
            )))
        }
    }
}

/// The remote that was meant, if one was.
pub(super) async fn remote(
    instance: &Instance,
    wanted: Option<&str>,
) -> Result<Option<RemoteStatus>, Failure> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let status = instance.status().await?;
    Ok(Some(by_name(&status.remotes, wanted)?.clone()))
}

/// The remote with this number or target.
pub(super) fn by_name<'a>(
    remotes: &'a [RemoteStatus],
    wanted: &str,
) -> Result<&'a RemoteStatus, Failure> {
    let number = wanted.parse::<u32>().ok();
    if let Some(remote) = remotes.iter().find(|remote| Some(remote.number) == number) {
        return Ok(remote);
    }
    let mut matching = remotes.iter().filter(|remote| remote.target == wanted);
    let complaint = match (matching.next(), matching.next()) {
        (Some(remote), None) => return Ok(remote),
        (Some(_), Some(_)) => "is the target of several sources, give the number of the remote",
        (None, _) => "is no remote, there are",
    };
    let all: Vec<_> = remotes.iter().map(called).collect();
    Err(Failure::Usage(format!(
        "`{}` {complaint}: {}",
        text::sentence(wanted),
        all.join(", ")
    )))
}

/// `1 (host::module)`.
pub(super) fn called(remote: &RemoteStatus) -> String {
    format!("{} ({})", remote.number, text::sentence(&remote.target))
}
