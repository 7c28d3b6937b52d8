//! DrainNode and RetireNode: taking a node out of service. Both only write the operator's word; the moves that follow are
//! the business of `moving`. Nothing is given up here but by its name (I7).

use std::collections::BTreeSet;

use containarium_proto::{
    error::{Reason, Refusal},
    names::NodeName,
    spec::Observed,
    v1,
};

use super::{
    nodes, parse,
    progress::{Goal, Look, Said, remark, step},
    refuse::{field, no_such_node},
};
use crate::{
    moving,
    node::{Drivers, live},
    reign::Reign,
    store::{EventKind, Held, Policy, Role},
};

/// Copies share the disks and the network of both nodes: more at a time make each one slower.
const DEFAULT_PARALLEL: u32 = 2;
const MAX_PARALLEL: u32 = 16;

/// Writes that a node is drained, and gives what to wait for.
pub(super) async fn order(reign: &Reign, request: &v1::DrainNodeRequest) -> Result<Drained, Refusal> {
    reign.first_round().await;
    let name = parse::node(&request.name)?;
    let parallel = if request.parallel == 0 { DEFAULT_PARALLEL } else { request.parallel };
    if parallel > MAX_PARALLEL {
        return Err(field(format!("{parallel} at a time are too many"), "give --parallel 1 to 16"));
    }
    let mut tx = reign.write().await?;
    let row = tx.reader().node(&name).await?.ok_or_else(|| no_such_node(name.as_str()))?;
    if row.policy == Policy::Retired {
        return Err(Refusal::new(Reason::Refused, format!("{name} is retired")).hint("see 'containarium node list'"));
    }
    let left = tx.reader().on_node(&name).await?.len();
    tx.set_drain_parallel(&name, parallel).await?;
    if row.policy != Policy::Draining {
        tx.set_policy(&name, Policy::Draining).await?;
        let message = format!("by an operator; {left} containers are to leave, {parallel} at a time");
        tx.note(name.as_str(), EventKind::NodeDraining, &message).await?;
    }
    tx.commit().await?;
    reign.wake_all();
    Ok(Drained { name, total: left, said: Said::default() })
}

/// Waits until nothing is left on a node.
pub(super) struct Drained {
    name: NodeName,
    /// When the command began.
    total: usize,
    said: Said,
}

impl Goal for Drained {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let mut reader = reign.store.reader().await?;
        let policy = reader.node(&self.name).await?.map(|row| row.policy);
        let rows = reader.on_node(&self.name).await?;
        drop(reader);
        if rows.is_empty() {
            return Ok(Look::Done(remark(format!("{} is empty; nothing new is placed on it", self.name))));
        }
        if policy != Some(Policy::Draining) {
            return Err(Refusal::new(Reason::Refused, format!("{} is no longer drained", self.name))
                .hint("somebody uncordoned it; what had begun to move goes on"));
        }
        self.total = self.total.max(rows.len());
        let (done, total) = (self.total - rows.len(), self.total);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let progress = step(number(done), number(total), describe(&rows, &self.name, reign));
        Ok(self.said.news(progress).unwrap_or(Look::Wait(None)))
    }
}

fn describe(rows: &[Held], node: &NodeName, reign: &Reign) -> String {
    let sights = reign.sights();
    let users = |wanted: &dyn Fn(&Held) -> bool| -> Vec<&str> {
        let names: BTreeSet<&str> =
            rows.iter().filter(|held| wanted(held)).map(|held| held.container.owner.as_str()).collect();
        names.into_iter().collect()
    };
    let moving = users(&|held| held.moving.as_ref().is_some_and(|moving| moving.source == *node));
    let unsettled = users(&|held| {
        let still = matches!(live::observed(held, &sights), Observed::Running | Observed::Stopped);
        held.moving.is_none() && held.placement.role == Role::Home && !still
    });
    let older = users(&|held| held.placement.role == Role::Superseded);
    let mut parts = vec![format!("{} left", rows.len())];
    for (word, names) in [
        ("moving", moving),
        ("not to be moved as it stands", unsettled),
        ("older copies, to be discarded with 'containarium failover --discard-old'", older),
    ] {
        if !names.is_empty() {
            parts.push(format!("{word}: {}", names.join(", ")));
        }
    }
    parts.join("; ")
}

/// Takes a node out of the fleet.
pub(super) async fn retire(
    reign: &Reign,
    drivers: &Drivers,
    request: &v1::RetireNodeRequest,
) -> Result<v1::Node, Refusal> {
    let name = parse::node(&request.name)?;
    if !request.lost.is_empty() && request.lost != request.name {
        return Err(field("the name in --lost is not that of the node", "repeat the node's name to confirm the loss"));
    }
    let mut tx = reign.write().await?;
    let row = tx.reader().node(&name).await?.ok_or_else(|| no_such_node(name.as_str()))?;
    let rows = tx.reader().on_node(&name).await?;
    if !rows.is_empty() && request.lost.is_empty() {
        let message = format!("{} containers live on {name}", rows.len());
        return Err(Refusal::new(Reason::Refused, message).hint(format!(
            "'containarium node drain {name}' moves them off; if it will never come back, give --lost {name}"
        )));
    }
    let online = reign.sights().get(&name).is_some_and(live::Sight::is_online);
    if online && !rows.is_empty() {
        return Err(Refusal::new(Reason::Refused, format!("{name} answers: what lives there is not lost"))
            .hint(format!("move it off with 'containarium node drain {name}', or switch the machine off for good")));
    }
    // Lost homes stay listed, as lost, for whoever wants them restored or deleted. Copies are no loss.
    let mut lost = Vec::new();
    for held in &rows {
        let container = held.placement.container;
        moving::without(&mut tx, container, &name).await?;
        let now = tx.reader().of_container(container).await?;
        match now.iter().find(|held| held.placement.node == name) {
            Some(held) if held.placement.is_home() => {
                let row = &held.placement;
                tx.record_observed((container, &name), row.generation, &Observed::Absent).await?;
                lost.push(held.container.owner.to_string());
            }
            Some(_) => tx.forget_placement(container, &name).await?,
            None => {}
        }
    }
    if row.policy != Policy::Retired {
        tx.set_policy(&name, Policy::Retired).await?;
        let message = match lost.is_empty() {
            true => "by an operator".to_owned(),
            false => format!("by an operator, as lost, with {}", lost.join(", ")),
        };
        tx.note(name.as_str(), EventKind::NodeRetired, &message).await?;
    }
    tx.commit().await?;
    drivers.remove(&name);
    reign.forget(&name);
    reign.wake_all();
    nodes::get(reign, &name).await
}
