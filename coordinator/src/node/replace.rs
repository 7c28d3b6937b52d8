//! Placing again what an offline node was told to make but never ran. It must never touch a container that ever ran:
//! the user's disk is there (I8). The old row stays, wanted absent, until the node confirms (I7).

use std::error::Error;

use containarium_proto::{
    names::NodeName,
    spec::{Desired, Observed},
};

use crate::{
    placement::{self, Demand},
    placing,
    reign::Reign,
    store::{EventKind, Held, PlacementRow, StoreError, next_generation},
};

/// Moves all of them that fit elsewhere; the others wait for the next try, or for the node.
pub(super) async fn never_ran(reign: &Reign, node: &NodeName) {
    // I10: a reign that has not looked around yet places nothing.
    reign.first_round().await;
    let rows = match reign.store.reader().await {
        Ok(mut reader) => reader.on_node(node).await,
        Err(error) => Err(error),
    };
    let moved = match rows {
        Ok(rows) => move_all(reign, rows.iter().filter(|held| may_move(held))).await,
        Err(error) => Err(error),
    };
    if let Err(error) = moved {
        tracing::error!(error = &error as &dyn Error, "placing again failed, will be repeated");
    }
}

fn may_move(held: &Held) -> bool {
    let row = &held.placement;
    let failed_for_good = matches!(row.observed_now(), Observed::Failed { permanent: true, .. });
    row.is_home() && !row.ever_ran && !held.container.pinned && !failed_for_good
}

async fn move_all(reign: &Reign, rows: impl Iterator<Item = &Held>) -> Result<(), StoreError> {
    for held in rows {
        if move_one(reign, held).await? {
            reign.wake_all();
        }
    }
    Ok(())
}

async fn move_one(reign: &Reign, held: &Held) -> Result<bool, StoreError> {
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_container(held.container.id).await?;
    // Read again inside the transaction: it may have run, moved or been deleted since.
    let Some(current) = rows.iter().find(|r| r.placement.node == held.placement.node && may_move(r)) else {
        return Ok(false);
    };
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let mut candidates = placing::candidates(&nodes, &claims, &reign.sights());
    candidates.retain(|c| rows.iter().all(|r| r.placement.node != c.name));
    let old = &current.placement;
    let demand = Demand {
        resources: old.reserved,
        cpu: old.spec.cpu.clone(),
        image: Some(old.spec.image.clone()),
        labels: current.container.labels.clone(),
    };
    let verdicts = placement::judge(&demand, &candidates, &reign.config.overcommit);
    let Some((to, fit)) = verdicts.iter().find_map(|v| v.fit.as_ref().ok().map(|fit| (v.node.clone(), fit))) else {
        tracing::debug!(owner = %held.container.owner, why = placing::reasons(&verdicts), "nowhere else to place it");
        return Ok(false);
    };
    let access_revision = tx.bump_access().await?;
    let absent = PlacementRow { desired: Desired::Absent, generation: old.generation.next(), ..old.clone() };
    tx.change_order(&absent).await?;
    // Above every generation that any node has seen of it, should it come back to one of them.
    let newest = next_generation(&rows).max(absent.generation);
    let new = PlacementRow {
        node: to.clone(),
        generation: newest.next(),
        address: fit.address,
        observed: Observed::Unknown,
        observed_generation: Default::default(),
        licence: None,
        access_revision,
        ..old.clone()
    };
    tx.insert_placement(&new).await?;
    let message = format!("{} went away before it ever ran: placed on {to} at {}", old.node, fit.address);
    tx.note(&held.container.owner.container_name(), EventKind::ContainerReplaced, &message).await?;
    tx.commit().await?;
    Ok(true)
}
