//! Making durable what a node said: one transaction per report that holds news, none for one that does not.

use containarium_proto::{
    names::NodeName,
    node::{ContainerReport, Licence, NodeReport},
    spec::{Desired, Observed},
};

use super::plan::{self, Finding};
use crate::{
    ending,
    placement::Resources,
    reign::Reign,
    store::{EventKind, Held, NodeFacts, NodeRow, PlacementRow, Role, StoreError, WriteTx},
};

/// What a report is, beside what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// The node did not answer before.
    pub(super) back: bool,
    /// It was not about to be taken away before.
    pub(super) preempted: bool,
}

/// Records a report.
pub(super) async fn report(reign: &Reign, node: &NodeName, report: &NodeReport, turn: Turn) -> Result<(), StoreError> {
    let facts = NodeFacts {
        cidr: report.container_cidr,
        gateway: report.container_gateway,
        boot_id: report.boot_id.clone(),
        capacity: report.capacity,
        images: report.images.clone(),
        addresses: report.guard.addresses.iter().copied().collect(),
    };
    let mut reader = reign.store.reader().await?;
    let Some(row) = reader.node(node).await? else { return Ok(()) };
    let no_news = plan::findings(&reader.on_node(node).await?, &report.containers).is_empty();
    drop(reader);
    if no_news && facts.same_as(&row) && turn == Turn::default() {
        return Ok(());
    }
    let mut tx = reign.write().await?;
    if turn.back {
        tx.note(node.as_str(), EventKind::NodeOnline, &format!("answers, agent {}", report.agent_version)).await?;
    }
    if turn.preempted {
        let message = "its machine is about to be taken away: its containers are being stopped, and come back with it";
        tx.note(node.as_str(), EventKind::NodePreempting, message).await?;
    }
    if !facts.same_as(&row) {
        note_facts(&mut tx, &row, &facts).await?;
        tx.record_facts(node, &facts).await?;
    }
    apply(&mut tx, node, &report.containers).await?;
    tx.commit().await
}

/// Records the answer to one order.
pub(super) async fn answer(reign: &Reign, node: &NodeName, answer: &ContainerReport) -> Result<(), StoreError> {
    let rows = reign.store.reader().await?.on_node(node).await?;
    if plan::findings(&rows, [answer]).is_empty() {
        return Ok(());
    }
    let mut tx = reign.write().await?;
    apply(&mut tx, node, std::slice::from_ref(answer)).await?;
    tx.commit().await
}

async fn note_facts(tx: &mut WriteTx, row: &NodeRow, facts: &NodeFacts) -> Result<(), StoreError> {
    let name = row.name.as_str();
    if row.boot_id.as_ref().is_some_and(|boot| *boot != facts.boot_id) {
        tx.note(name, EventKind::NodeRebooted, "the machine started anew").await?;
    }
    let new = (facts.cidr, facts.gateway);
    match row.network {
        Some(old) if old == new => Ok(()),
        Some((old, _)) => {
            let message = format!("its container network changed from {old} to {}: older containers stay", facts.cidr);
            tx.note(name, EventKind::NodeNetwork, &message).await
        }
        None => tx.note(name, EventKind::NodeNetwork, &format!("its containers live in {}", facts.cidr)).await,
    }
}

/// What is news inside this transaction: an order's answer and a report may say the same at the same time.
async fn apply(tx: &mut WriteTx, node: &NodeName, seen: &[ContainerReport]) -> Result<(), StoreError> {
    let rows = tx.reader().on_node(node).await?;
    for finding in plan::findings(&rows, seen) {
        match finding {
            Finding::Settled { held, observed } => settle(tx, &held, &observed).await?,
            Finding::Drifted { held, drift } => drifted(tx, &held, &drift).await?,
            Finding::Gone { held } => gone(tx, node, &held).await?,
        }
    }
    Ok(())
}

async fn settle(tx: &mut WriteTx, held: &Held, observed: &Observed) -> Result<(), StoreError> {
    let row = &held.placement;
    if !tx.record_observed((row.container, &row.node), row.generation, observed).await? {
        return Ok(());
    }
    // A snapshot that is not there, or that the storage cannot go back to.
    if matches!((observed, &row.licence), (Observed::Failed { permanent: true, .. }, Some(Licence::Restore { .. }))) {
        tx.drop_licence(row).await?;
    }
    let exactly = Resources::of(&row.spec);
    if matches!(observed, Observed::Running | Observed::Stopped) && row.reserved != exactly {
        tx.reserve_exactly(row, exactly).await?;
    }
    let (node, address) = (&row.node, row.address);
    let (kind, message) = match observed {
        Observed::Running => (EventKind::ContainerRunning, format!("on {node} at {address}")),
        Observed::Stopped => (EventKind::ContainerStopped, format!("on {node}")),
        Observed::Failed { error, permanent: true } => (EventKind::ContainerFailed, format!("on {node}: {error}")),
        Observed::Failed { error, permanent: false } => {
            (EventKind::ContainerFailed, format!("on {node}, being tried again: {error}"))
        }
        Observed::Absent => (EventKind::ContainerLost, format!("{node} holds nothing of it any more")),
        // Never findings.
        Observed::Unknown | Observed::Converging { .. } | Observed::AwaitingCopy | Observed::AwaitingWord => {
            return Ok(());
        }
    };
    if matches!(observed, Observed::Failed { permanent: true, .. }) && go_back(tx, held, observed).await? {
        return Ok(());
    }
    // Copies that come and go are told by the move.
    if row.role != Role::Home && !matches!(observed, Observed::Failed { .. }) {
        return Ok(());
    }
    tx.note(&held.container.owner.container_name(), kind, &message).await?;
    rest(tx, held, observed).await
}

/// One that does not start by itself has been switched off with its server. That becomes an order: whatever is changed on
/// it later must not start it. What moves is left to its move.
async fn rest(tx: &mut WriteTx, held: &Held, observed: &Observed) -> Result<(), StoreError> {
    let row = &held.placement;
    if *observed != Observed::Stopped || row.desired != Desired::Running || held.moving.is_some() {
        return Ok(());
    }
    let user = &held.container.owner;
    let message = format!("it does not start with {}: 'containarium start {user}' starts it", row.node);
    tx.note(&user.container_name(), EventKind::ContainerStopping, &message).await?;
    ending::stop(tx, row).await
}

/// What a restore was to replace is still there, and a restore that cannot be done must not stand in its way. A move has
/// its own way back.
async fn go_back(tx: &mut WriteTx, held: &Held, observed: &Observed) -> Result<bool, StoreError> {
    let row = &held.placement;
    let (Some(undo), None, Observed::Failed { error, .. }) = (&row.undo, &held.moving, observed) else {
        return Ok(false);
    };
    let (generation, origin) = (row.generation.next(), undo.origin.clone());
    tx.change_order(&PlacementRow { generation, origin, undo: None, ..row.clone() }).await?;
    let message = format!("on {}, it stays as it was: {error}", row.node);
    tx.note(&held.container.owner.container_name(), EventKind::ContainerRestoreFailed, &message).await?;
    Ok(true)
}

/// One event when it begins and one when it ends, however often it changes between.
async fn drifted(tx: &mut WriteTx, held: &Held, drift: &[String]) -> Result<(), StoreError> {
    let row = &held.placement;
    tx.record_drift(row, drift).await?;
    let (kind, message) = match (row.drift.is_empty(), drift.is_empty()) {
        (true, false) => (EventKind::ContainerDrifted, format!("on {}: {}", row.node, drift.join("; "))),
        (false, true) => (EventKind::ContainerRepaired, format!("it is as ordered again on {}", row.node)),
        (true, true) | (false, false) => return Ok(()),
    };
    tx.note(&held.container.owner.container_name(), kind, &message).await
}

async fn gone(tx: &mut WriteTx, node: &NodeName, held: &Held) -> Result<(), StoreError> {
    let row = &held.placement;
    let (placement, container) = tx.remove_confirmed(row.container, node, row.generation).await?;
    if placement && (container || row.role == Role::Home) {
        let rest = if container { "" } else { "; it lives on another node" };
        let message = format!("{node} has destroyed its copy{rest}");
        tx.note(&held.container.owner.container_name(), EventKind::ContainerDeleted, &message).await?;
    }
    Ok(())
}
