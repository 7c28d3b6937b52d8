//! Draining: while a node's policy says so, its containers are moved off, a few at a time. What is under way is in the
//! rows, so a coordinator that comes back goes on, and uncordoning the node ends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::{ContainerId, RequestId},
    names::NodeName,
    spec::{Desired, Observed},
};

use super::act::{self, Begin};
use crate::{
    node::live::{self, Sights},
    reign::Reign,
    store::{EventKind, Held, NodeRow, Policy, StoreError},
};

/// What earlier looks found; only so that nothing is said or asked too often.
#[derive(Debug, Default)]
pub(super) struct Drains {
    stuck: BTreeMap<ContainerId, (Instant, String)>,
    unfinished: BTreeSet<NodeName>,
}

/// One look at every node that is being drained.
pub(super) async fn pass(reign: &Reign, drains: &mut Drains) {
    if let Err(error) = look(reign, drains).await {
        tracing::error!(error = &error as &dyn Error, "draining will be looked at again");
    }
}

async fn look(reign: &Reign, drains: &mut Drains) -> Result<(), StoreError> {
    let nodes = reign.store.reader().await?.nodes().await?;
    for node in nodes.iter().filter(|node| node.policy == Policy::Draining) {
        drain(reign, node, drains).await?;
    }
    Ok(())
}

async fn drain(reign: &Reign, node: &NodeRow, drains: &mut Drains) -> Result<(), StoreError> {
    let mut reader = reign.store.reader().await?;
    let (rows, moves) = (reader.on_node(&node.name).await?, reader.moves().await?);
    drop(reader);
    // One whose copy here is gone already is under way until the move itself has ended.
    let under_way = moves.iter().filter(|row| row.source == node.name).count();
    let free = node.drain_parallel.saturating_sub(under_way);
    if !rows.is_empty() {
        drains.unfinished.insert(node.name.clone());
    } else if drains.unfinished.remove(&node.name) {
        let mut tx = reign.write().await?;
        tx.note(node.name.as_str(), EventKind::NodeDrained, "nothing is left on it").await?;
        tx.commit().await?;
        reign.wake_streams();
    }
    for container in choose(&rows, free, &reign.sights(), (drains, reign.config.timings.retry_max)) {
        start(reign, &node.name, container, drains).await?;
    }
    Ok(())
}

/// Who leaves next: at most `free`. A container that no node takes is asked for again
/// after `patience`, as others are deleted and nodes come back.
fn choose(rows: &[Held], free: usize, sights: &Sights, (drains, patience): (&Drains, Duration)) -> Vec<ContainerId> {
    let ready = |held: &&Held| {
        let settled = matches!(
            (live::observed(held, sights), held.placement.desired),
            (Observed::Running, Desired::Running) | (Observed::Stopped, Desired::Stopped)
        );
        held.placement.is_home() && held.moving.is_none() && settled
    };
    let stuck = |id: &ContainerId| drains.stuck.get(id).is_some_and(|(at, _)| at.elapsed() < patience);
    let next = rows.iter().filter(ready).map(|held| held.placement.container);
    next.filter(|id| !stuck(id)).take(free).collect()
}

async fn start(reign: &Reign, node: &NodeName, container: ContainerId, drains: &mut Drains) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_container(container).await?;
    let home = rows.into_iter().find(|h| h.placement.is_home() && h.placement.node == *node && h.moving.is_none());
    let Some(held) = home else { return Ok(()) };
    let name = held.container.owner.container_name();
    let begin = Begin { held, to: None, request: RequestId::generate(), why: "its node is drained" };
    match act::begin(reign, &mut tx, &begin).await {
        Ok(_) => {
            drains.stuck.remove(&container);
            tx.commit().await?;
            reign.wake_all();
        }
        Err(refusal) => {
            drop(tx);
            let before = drains.stuck.insert(container, (Instant::now(), refusal.message.clone()));
            if before.is_none_or(|(_, said)| said != refusal.message) {
                let mut tx = reign.write().await?;
                tx.note(&name, EventKind::NodeStuck, &format!("cannot leave {node}: {}", refusal.message)).await?;
                tx.commit().await?;
                reign.wake_streams();
            }
        }
    }
    Ok(())
}
