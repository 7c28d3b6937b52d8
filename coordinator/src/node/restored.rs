//! A database that is older than the fleet: restored from a backup. What a node holds is the truth that we have
//! forgotten, since it was ours. A newer order for a container that we know is taken back into the rows; a container that
//! we do not know is left alone, with its account, until an operator adopts it. Nothing is destroyed here (I5).

use std::error::Error;

use containarium_proto::{
    ids::AccessRevision,
    names::Username,
    node::{ContainerReport, Order},
    spec::Desired,
};

use super::{
    client::AgentClient,
    live::{NodeLive, Sight, Sights},
    plan::{self, order as ordered},
};
use crate::{
    placement::Resources,
    reign::Reign,
    store::{EventKind, Held, PlacementRow, StoreError},
};

/// Looks for both.
pub(super) async fn look(
    reign: &Reign,
    live: &NodeLive,
    client: &AgentClient,
    (rows, sight): (&[Held], &Sight),
) -> Result<(), StoreError> {
    note_strays(reign, live, rows, sight.containers.values());
    let ahead = plan::ahead_of_us(rows, &sight.containers);
    let users = ahead.iter().map(|held| held.container.owner.to_string()).collect();
    if live.set_ahead_of_us(users) && !ahead.is_empty() {
        tracing::error!("the node knows newer orders: was the database restored from a backup?");
    }
    for held in ahead {
        match client.held_order(held.container.id).await {
            Ok(order) => recall(reign, held, order).await?,
            Err(error) => {
                let (container, error) = (held.container.id, &error as &dyn Error);
                tracing::warn!(%container, error, "its newer order could not be read, will be repeated");
            }
        }
    }
    Ok(())
}

/// To be called before a node counts as heard: accounts are removed nowhere until all were.
pub(super) fn note_strays<'a>(
    reign: &Reign,
    live: &NodeLive,
    rows: &[Held],
    reported: impl IntoIterator<Item = &'a ContainerReport>,
) {
    let strays = plan::strays(rows, reported);
    if live.set_strays(strays.clone()) {
        let names: Vec<_> = strays.iter().map(|stray| stray.name.as_str()).collect();
        tracing::warn!(strays = names.join(", "), "containers that the database does not know");
        reign.forget_accounts();
        reign.wake_streams();
    }
}

/// Takes an order of our own back. Anything else that a node might say is not ours: an address or an owner that we did
/// not give would open doors on other nodes.
async fn recall(reign: &Reign, held: &Held, order: Order) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_container(held.container.id).await?;
    let Some(now) = rows.into_iter().find(|now| now.placement.node == held.placement.node) else { return Ok(()) };
    let row = &now.placement;
    let ours = order.id == now.container.id && order.owner == now.container.owner && order.address == row.address;
    if !ours || order.generation <= row.generation || order.copy_pass.is_some() || !row.is_home() {
        return Ok(());
    }
    let gone = order.desired == Desired::Absent;
    // A deletion that we have forgotten is for a person to repeat: what is gone is lost until then, and never made anew.
    let order = if gone { Order { generation: order.generation.next(), ..ordered(&now) } } else { order };
    let wanted = PlacementRow {
        desired: order.desired,
        generation: order.generation,
        reserved: row.reserved.max(Resources::of(&order.spec)),
        spec: order.spec,
        ever_ran: true,
        access_revision: tx.bump_access().await?,
        change_request: None,
        licence: None,
        origin: order.origin,
        undo: None,
        ..row.clone()
    };
    if order.keys != now.container.keys {
        tx.change_keys(now.container.id, &order.keys).await?;
    }
    tx.change_order(&wanted).await?;
    let message = match gone {
        true => format!("{} was told to delete it after the database was backed up: delete it again, if so", row.node),
        false => format!("{} knew a newer order ({}, not {}): taken back", row.node, order.generation, row.generation),
    };
    tx.note(&now.container.owner.container_name(), EventKind::ContainerRecalled, &message).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(())
}

/// Accounts that stay although no container of ours needs them.
pub(super) fn kept(sights: &Sights) -> Vec<String> {
    let strays = sights.values().flat_map(|sight| &sight.strays);
    let owners = strays.filter_map(|stray| stray.claim.as_ref()).map(|(owner, _): &(Username, _)| owner.to_string());
    owners.collect()
}

/// Nodes refuse accounts of an older revision than they have.
pub(super) async fn catch_up_access(reign: &Reign, seen: AccessRevision) -> Result<(), StoreError> {
    if seen <= reign.store.reader().await?.fleet().await?.access_revision {
        return Ok(());
    }
    let mut tx = reign.write().await?;
    tx.raise_access(seen).await?;
    tx.commit().await?;
    reign.forget_accounts();
    Ok(())
}
