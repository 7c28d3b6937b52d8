//! The writes of replication, one transaction each. Every one reads the rows again inside and changes nothing if they
//! have moved on: a step was planned on what was true a moment ago.

use containarium_proto::{
    ids::ContainerId,
    node::CopyPass,
    spec::{Desired, Observed},
};

use super::plan::{Step, limits};
use crate::{
    clock,
    placement::{self, Demand, Resources},
    placing,
    reign::Reign,
    store::{EventKind, Held, PlacementRow, Replication, Role, StoreError, WriteTx, next_generation},
};

/// The home of a container and its replica.
pub(super) fn sides(rows: &[Held]) -> (Option<&Held>, Option<&Held>) {
    let home = rows.iter().find(|held| held.placement.is_home());
    (home, rows.iter().find(|held| matches!(held.placement.role, Role::Replica(_))))
}

/// Carries out a planned step that is a write. False: it does not fit where it is; nothing was changed.
pub(super) async fn change(reign: &Reign, planned_on: &[Held], step: &Step) -> Result<bool, StoreError> {
    let Some(id) = planned_on.first().map(|held| held.container.id) else { return Ok(true) };
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_container(id).await?;
    if orders(&rows) != orders(planned_on) {
        return Ok(true);
    }
    let (home, replica) = sides(&rows);
    let Some(home) = home else { return Ok(true) };
    let done = match (step, replica) {
        (Step::Place, None) => place(reign, &mut tx, home, &rows).await?,
        (Step::NextPass(pass), Some(replica)) => next_pass(&mut tx, home, (replica, *pass)).await?,
        (Step::Completed(pass), Some(_)) => completed(&mut tx, home, (id, *pass)).await?,
        (Step::Follow, Some(replica)) => follow(reign, &mut tx, home, replica).await?,
        (Step::Drop(why), Some(replica)) => remove(&mut tx, home, replica, why).await?,
        (Step::Stuck(why), Some(_)) => stuck(&mut tx, home, why).await?,
        (Step::Withdraw, None) => forget(&mut tx, id).await?,
        _ => return Ok(true),
    };
    tx.commit().await?;
    reign.wake_all();
    Ok(done)
}

/// What a plan depends on.
fn orders(rows: &[Held]) -> Vec<(&str, u64, Role, bool, &Replication)> {
    fn one(held: &Held) -> (&str, u64, Role, bool, &Replication) {
        let row = &held.placement;
        (row.node.as_str(), row.generation.0, row.role, held.moving.is_some(), &held.container.replication)
    }
    rows.iter().map(one).collect()
}

async fn place(reign: &Reign, tx: &mut WriteTx, home: &Held, rows: &[Held]) -> Result<bool, StoreError> {
    let (row, replication) = (&home.placement, &home.container.replication);
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let sights = reign.sights();
    let mut candidates = placing::candidates(&nodes, &claims, &sights);
    candidates.retain(|candidate| rows.iter().all(|held| held.placement.node != candidate.name));
    for candidate in &mut candidates {
        let strays = sights.get(&candidate.name).into_iter().flat_map(|sight| &sight.strays);
        if strays.into_iter().any(|stray| stray.id == row.container) {
            candidate.problem = Some("has a copy of it that the database does not know".to_owned());
        }
    }
    let resources = Resources::of(&row.spec);
    // It brings its own file system: the image need not be there.
    let demand = Demand { resources, cpu: row.spec.cpu.clone(), image: None, labels: home.container.labels.clone() };
    let verdicts = placement::judge(&demand, &candidates, &reign.config.overcommit);
    let best = placement::chosen(&verdicts, replication.to.as_ref());
    let Some((node, fit)) = best.and_then(|v| Some((&v.node, v.fit.as_ref().ok()?))) else {
        let why = match placing::reasons(&verdicts) {
            none if none.is_empty() => "there is no other node".to_owned(),
            reasons => reasons,
        };
        return stuck(tx, home, &format!("nowhere to keep a replica: {why}")).await;
    };
    let pass = CopyPass::FIRST.0.saturating_add(replication.pass);
    let replica = PlacementRow {
        node: node.clone(),
        desired: Desired::Stopped,
        generation: next_generation(rows),
        reserved: resources,
        address: fit.address,
        observed: Observed::Unknown,
        observed_generation: Default::default(),
        ever_ran: false,
        change_request: None,
        role: Role::Replica(CopyPass(pass)),
        drift: Vec::new(),
        licence: None,
        origin: None,
        undo: None,
        ..row.clone()
    };
    tx.insert_placement(&replica).await?;
    let next = Replication { as_of: None, began_at: clock::now(), problem: String::new(), ..replication.clone() };
    tx.set_replication(row.container, &next).await?;
    note(tx, home, EventKind::ContainerReplication, &format!("{node} begins to copy it")).await?;
    Ok(true)
}

async fn next_pass(tx: &mut WriteTx, home: &Held, (replica, pass): (&Held, CopyPass)) -> Result<bool, StoreError> {
    let row = &replica.placement;
    let generation = row.generation.next();
    // There is a whole one by now: if it is gone, that is a loss.
    tx.change_order(&PlacementRow { generation, role: Role::Replica(pass), ever_ran: true, ..row.clone() }).await?;
    let replication = Replication { began_at: clock::now(), ..home.container.replication.clone() };
    tx.set_replication(row.container, &replication).await?;
    Ok(true)
}

async fn completed(tx: &mut WriteTx, home: &Held, (id, pass): (ContainerId, CopyPass)) -> Result<bool, StoreError> {
    let before = &home.container.replication;
    let after =
        Replication { pass: pass.0.get(), as_of: Some(before.began_at), problem: String::new(), ..before.clone() };
    tx.set_replication(id, &after).await?;
    if let (None, Some(node)) = (before.as_of, &before.node) {
        note(tx, home, EventKind::ContainerReplicated, &format!("{node} has all of it")).await?;
    }
    Ok(true)
}

async fn follow(reign: &Reign, tx: &mut WriteTx, home: &Held, replica: &Held) -> Result<bool, StoreError> {
    let (row, spec) = (&replica.placement, limits(&home.placement.spec));
    let wanted = Resources::of(&spec);
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let candidates = placing::candidates(&nodes, &claims, &reign.sights());
    if let Some(here) = candidates.iter().find(|candidate| candidate.name == row.node)
        && let Err(why) = placement::room_to_grow(row.reserved, wanted, here, &reign.config.overcommit)
    {
        // It goes on with the limits it has: what it holds is worth more than none.
        stuck(tx, home, &format!("{} {why}: the replica keeps its older limits", row.node)).await?;
        return Ok(false);
    }
    let (generation, reserved) = (row.generation.next(), row.reserved.max(wanted));
    tx.change_order(&PlacementRow { generation, spec, reserved, ..row.clone() }).await?;
    Ok(true)
}

/// Orders a replica destroyed. I5: by its own row, at its own node.
pub(super) async fn remove(tx: &mut WriteTx, home: &Held, replica: &Held, why: &str) -> Result<bool, StoreError> {
    let row = &replica.placement;
    let (desired, generation) = (Desired::Absent, row.generation.next());
    tx.change_order(&PlacementRow { desired, generation, ..row.clone() }).await?;
    let replication = Replication { as_of: None, problem: String::new(), ..home.container.replication.clone() };
    tx.set_replication(row.container, &replication).await?;
    note(tx, home, EventKind::ContainerReplication, &format!("{} destroys the replica: {why}", row.node)).await?;
    Ok(true)
}

async fn stuck(tx: &mut WriteTx, home: &Held, why: &str) -> Result<bool, StoreError> {
    let before = &home.container.replication;
    if before.problem == why {
        return Ok(false);
    }
    let replication = Replication { problem: why.to_owned(), ..before.clone() };
    tx.set_replication(home.container.id, &replication).await?;
    note(tx, home, EventKind::ContainerReplication, why).await?;
    Ok(false)
}

async fn forget(tx: &mut WriteTx, id: ContainerId) -> Result<bool, StoreError> {
    tx.set_replication(id, &Replication::default()).await?;
    Ok(true)
}

async fn note(tx: &mut WriteTx, home: &Held, kind: EventKind, message: &str) -> Result<(), StoreError> {
    tx.note(&home.container.owner.container_name(), kind, message).await
}
