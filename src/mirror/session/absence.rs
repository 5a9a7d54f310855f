//! A source that is gone is waited for.

use std::sync::Arc;

use tracing::{error, info};

use crate::config::MirrorConfig;
use crate::control::Board;
use crate::lane::guard::Guard;
use crate::lane::transfer::on_disk;
use crate::lasting::Lasting;
use crate::message_id as id;
use crate::mirror::MISSING_CHECK;
use crate::path::{Identity, SourceRoot};

/// What is mounted below the source now is missed when it goes, also by a remote that cannot be reached until then.
pub(super) fn look_at_volumes(
    config: &MirrorConfig,
    guards: Vec<Arc<Guard>>,
) -> impl Future<Output = Option<()>> + use<> {
    let source = config.source.clone();
    on_disk(move || {
        // A source that is gone again by now is for whoever watches it.
        if let Ok(root) = SourceRoot::open(&source) {
            for guard in &guards {
                let _ = guard.look(&root);
            }
        }
    })
}

/// Waits for the source directory; `None` if another is to be taken for it, since this one never held anything.
pub(super) async fn wait_for_return(
    config: MirrorConfig,
    (identity, lasting): (Identity, Lasting),
    is_settled: bool,
    guards: Vec<Arc<Guard>>,
    board: Board,
) -> Option<SourceRoot> {
    let source = config.source.display().to_string();
    let show = |cause: &str| {
        board.update(|snapshot| {
            let mut mirrors = snapshot.mirrors.iter_mut();
            if let Some(shown) = mirrors.find(|mirror| mirror.source == config.source) {
                shown.missing = Some(cause.into());
            }
        });
    };
    let is_same = |root: &SourceRoot| {
        let is_back = lasting.is_certain() && lasting.differs(&root.lasting()).is_none();
        is_back || guards.iter().any(|guard| guard.takes(root))
    };
    let mut told = false;
    loop {
        let path = config.source.clone();
        let opening = on_disk(move || SourceRoot::open(&path));
        match opening.await? {
            Ok(root) if root.is(identity, &lasting) => {
                if told {
                    info!(
                        MESSAGE_ID = id::RELEASED,
                        SERSYNC_MIRROR = source,
                        "{source} is back, the whole tree is compared"
                    );
                }
                return Some(root);
            }
            Ok(_) if !is_settled => return None,
            // It has another device number now, or a person has accepted it.
            Ok(root) if is_same(&root) => {
                info!(
                    MESSAGE_ID = id::RELEASED,
                    SERSYNC_MIRROR = source,
                    "{source} is back or was accepted, the whole tree is compared"
                );
                return None;
            }
            Ok(_) if !told => {
                told = true;
                show("another directory stands in its place");
                error!(
                    MESSAGE_ID = id::SOURCE_MISSING,
                    SERSYNC_MIRROR = source,
                    "another directory stands at {source}: held, nothing is sent or deleted; \
                     put the source back, or accept this one with `sersync resume --accept-source`"
                );
            }
            Err(error) if !told => {
                told = true;
                show(&error.to_string());
                error!(
                    MESSAGE_ID = id::SOURCE_MISSING,
                    SERSYNC_MIRROR = source,
                    "{source} is gone: held, nothing is sent or deleted: {error}"
                );
            }
            _ => {}
        }
        tokio::time::sleep(MISSING_CHECK).await;
    }
}
