//! Orders that end a container's run, or the container: given by a user's command and by the passing of time alike, so
//! there is one way for each. They must never ask a node anything: one that is away is told when it is back.

use containarium_proto::{
    ids::AccessRevision,
    names::NodeName,
    spec::{Desired, Observed},
};

use crate::{
    sharing,
    store::{EventKind, Held, PlacementRow, Policy, StoreError, WriteTx},
};

/// Orders every copy of a container destroyed that is not ordered so already, wherever it was going to; one that was
/// lost with its node is gone at once. `why` goes before what the events say. Gives the access revision without its
/// account, and whether anything changed.
pub(crate) async fn destroy(tx: &mut WriteTx, rows: &[Held], why: &str) -> Result<(AccessRevision, bool), StoreError> {
    let nodes = tx.reader().nodes().await?;
    let given_up = |node: &NodeName| nodes.iter().any(|n| n.name == *node && n.policy == Policy::Retired);
    let (mut revision, mut changed) = (AccessRevision(0), false);
    for held in rows {
        let row = &held.placement;
        let failed = matches!(row.observed_now(), Observed::Failed { .. });
        if given_up(&row.node) {
            revision = forget(tx, held, why).await?;
        } else if row.desired == Desired::Absent && !failed {
            revision = revision.max(row.access_revision);
            continue;
        } else {
            revision = revision.max(order_destroyed(tx, held, why).await?);
        }
        changed = true;
    }
    if changed && let Some(held) = rows.first() {
        tx.end_move(held.container.id).await?;
        sharing::leave(tx, &held.container.owner, revision).await?;
    }
    Ok((revision, changed))
}

/// I7: nobody is left to confirm it.
async fn forget(tx: &mut WriteTx, held: &Held, why: &str) -> Result<AccessRevision, StoreError> {
    let row = &held.placement;
    let revision = tx.bump_access().await?;
    // With its last placement the container goes, and its move must have gone before.
    tx.end_move(row.container).await?;
    tx.forget_placement(row.container, &row.node).await?;
    let message = format!("{why}it was lost with {}", row.node);
    tx.note(&held.container.owner.container_name(), EventKind::ContainerDeleted, &message).await?;
    Ok(revision)
}

async fn order_destroyed(tx: &mut WriteTx, held: &Held, why: &str) -> Result<AccessRevision, StoreError> {
    let row = &held.placement;
    // A deletion that failed gets a new generation, so that the node tries again.
    let access_revision = match row.desired {
        Desired::Absent => row.access_revision,
        Desired::Running | Desired::Stopped => tx.bump_access().await?,
    };
    let (desired, generation) = (Desired::Absent, row.generation.next());
    let next = PlacementRow { desired, generation, access_revision, change_request: None, ..row.clone() };
    tx.change_order(&next).await?;
    let message = format!("{why}{} destroys it with its data", row.node);
    tx.note(&held.container.owner.container_name(), EventKind::ContainerDeleting, &message).await?;
    Ok(access_revision)
}

/// Orders one stopped.
pub(crate) async fn stop(tx: &mut WriteTx, row: &PlacementRow) -> Result<(), StoreError> {
    let (desired, generation) = (Desired::Stopped, row.generation.next());
    tx.change_order(&PlacementRow { desired, generation, change_request: None, ..row.clone() }).await
}
