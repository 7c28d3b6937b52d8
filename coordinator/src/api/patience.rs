//! An agent that is replaced by the next one answers again within seconds: who wants something of its node meanwhile waits
//! for it, rather than being told to come again. Nothing is written or held while waiting.

use std::time::Duration;

use containarium_proto::names::Username;

use super::view;
use crate::{availability::Availability, node::live, reign::Reign, store::StoreError};

/// A restart of an agent on a busy machine. A node that is gone is told of soon enough after it.
const RESTART: Duration = Duration::from_secs(8);

/// Waits while the node of a user's container has missed a call and is not given up yet.
pub(super) async fn until_heard(reign: &Reign, owner: &Username) -> Result<(), StoreError> {
    let rows = reign.store.reader().await?.of_owner(owner).await?;
    let Some(held) = view::principal(rows).pop() else { return Ok(()) };
    let node = held.placement.node;
    let mut changes = reign.changes();
    let heard = async {
        loop {
            changes.mark_unchanged();
            let is_suspect = live::availability(&node, &reign.sights()) == Availability::Suspect;
            // A dropped sender ends the reign.
            if !is_suspect || changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = heard => {}
        () = tokio::time::sleep(RESTART) => {}
    }
    Ok(())
}
