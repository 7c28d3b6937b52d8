//! RepairContainer: the same order once more, under a new generation and with the licence to take away what nobody
//! ordered; then a stream until the node has said that nothing differs any more. It changes nothing that is ordered.

use containarium_proto::{
    error::{Reason, Refusal},
    names::Username,
    node::Licence,
};

use super::{
    moves::refuse_moving,
    parse::Repair,
    patience::until_heard,
    power::refuse_away,
    progress::{Goal, Look},
    refuse::{no_such_user, refuse_deleting},
    resize::refuse_busy,
    settle::Settled,
    view,
};
use crate::{
    reign::Reign,
    store::{EventKind, PlacementRow},
    version::refuse_older,
};

/// Records the order, and gives what to wait for.
pub(super) async fn order(reign: &Reign, repair: &Repair) -> Result<Repaired, Refusal> {
    reign.first_round().await;
    let owner = &repair.owner;
    until_heard(reign, owner).await?;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    let row = &held.placement;
    if row.change_request == Some(repair.request) {
        return Ok(Repaired::of(row, owner));
    }
    refuse_deleting(&mut tx, &held, "there is nothing left to repair").await?;
    let sights = reign.sights();
    refuse_moving(&held)?;
    refuse_away(&held, &sights)?;
    refuse_older(&row.node, "repairs", &sights)?;
    refuse_busy(&mut tx, &held, &sights).await?;
    // What is known here may be a minute old: it is written back whether or not anything was reported.
    let next = PlacementRow {
        generation: row.generation.next(),
        change_request: Some(repair.request),
        // One that is still being adopted needs that first, and all of it is written with it.
        licence: row.licence.clone().or(Some(Licence::Repair)),
        ..row.clone()
    };
    tx.change_order(&next).await?;
    let message = match row.drift.is_empty() {
        true => format!("on {}", row.node),
        false => format!("on {}: {}", row.node, row.drift.join("; ")),
    };
    tx.note(&owner.container_name(), EventKind::ContainerRepairing, &message).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Repaired::of(&next, owner))
}

/// Waits until nothing differs.
pub(super) struct Repaired {
    settled: Settled,
    owner: Username,
}

impl Repaired {
    fn of(row: &PlacementRow, owner: &Username) -> Self {
        let done = format!("{} is as ordered", owner.container_name());
        Self { settled: Settled::new(row, done), owner: owner.clone() }
    }
}

impl Goal for Repaired {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let look = self.settled.look(reign).await?;
        let Look::Done(progress) = &look else { return Ok(look) };
        let drift = progress.container.iter().flat_map(|container| &container.drift);
        let left: Vec<&str> = drift.map(String::as_str).collect();
        if left.is_empty() || progress.pending {
            return Ok(look);
        }
        let message = format!("{} still differs: {}", self.owner.container_name(), left.join("; "));
        Err(Refusal::new(Reason::ContainerFailed, message)
            .hint("somebody changes it at the same time, or another command came between: repeat the command"))
    }
}
