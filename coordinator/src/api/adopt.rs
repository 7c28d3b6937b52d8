//! ListForeign and AdoptInstance: what lives on a node without any stamp, and how one of it becomes a user's container.
//! The node is asked before the write; what it said is good for an order only because the order names the instance by
//! an id that it keeps for life (I6).

use std::{collections::BTreeSet, error::Error};

use containarium_proto::{
    error::{Reason, Refusal},
    ids::ContainerId,
    names::{NodeName, Username},
    node::{Foreign, Licence},
    v1,
};

use super::{
    create::{refuse_foreign, refuse_taken},
    parse::Adopt,
    progress::remark,
    refuse::no_such_node,
    settle::Settled,
};
use crate::{
    adoption::{self, Adoption},
    image,
    node::{Drivers, live::Sight},
    placement::Candidate,
    placing,
    reign::Reign,
    store::{ContainerRow, EventKind, Held, PlacementRow, WriteTx},
};

/// Everything there, with what adopting it would do.
pub(super) async fn list(reign: &Reign, drivers: &Drivers, node: &NodeName) -> Result<Vec<v1::Adoptable>, Refusal> {
    reign.first_round().await;
    let mut reader = reign.store.reader().await?;
    let (nodes, claims) = reader.nodes_and_claims().await?;
    let taken: BTreeSet<String> =
        reader.all().await?.iter().map(|held| held.container.owner.container_name()).collect();
    drop(reader);
    let candidates = placing::candidates(&nodes, &claims, &reign.sights());
    let candidate = candidates.into_iter().find(|c| c.name == *node).ok_or_else(|| no_such_node(node.as_str()))?;
    let found = ask(reign, drivers, node).await?;
    Ok(found.iter().map(|foreign| adoptable(reign, foreign, &candidate, &taken)).collect())
}

fn adoptable(reign: &Reign, foreign: &Foreign, node: &Candidate, taken: &BTreeSet<String>) -> v1::Adoptable {
    let owner = owner_by_name(&foreign.name);
    let mut decided = decide(reign, foreign, owner.as_ref(), node);
    if owner.is_some() && taken.contains(&foreign.name) {
        let why = format!("the fleet has a container {} already", foreign.name);
        decided = Err(decided.err().into_iter().flatten().chain([why]).collect());
    }
    let (steps, obstacles) = match decided {
        Ok(adoption) => (adoption.steps, Vec::new()),
        Err(obstacles) => (Vec::new(), obstacles),
    };
    let user = owner.map(|owner| owner.to_string()).unwrap_or_default();
    v1::Adoptable { name: foreign.name.clone(), running: foreign.running, user, steps, obstacles }
}

/// `alice-container` would be alice's.
fn owner_by_name(name: &str) -> Option<Username> {
    name.strip_suffix("-container")?.parse().ok()
}

fn decide(
    reign: &Reign,
    foreign: &Foreign,
    owner: Option<&Username>,
    node: &Candidate,
) -> Result<Adoption, Vec<String>> {
    adoption::decide(foreign, owner, node, (&reign.config.defaults, &reign.config.overcommit))
}

async fn ask(reign: &Reign, drivers: &Drivers, node: &NodeName) -> Result<Vec<Foreign>, Refusal> {
    let unavailable = |why: String| {
        let message = format!("{node} cannot say what lives there: {why}");
        Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it answers")
    };
    if !reign.sights().get(node).is_some_and(Sight::is_online) {
        return Err(unavailable("it does not answer".to_owned()));
    }
    let client = drivers.client(node).ok_or_else(|| unavailable("it has no driver yet".to_owned()))?;
    client.foreign().await.map_err(|error| {
        tracing::warn!(%node, error = &error as &dyn Error, "listing what is not ours");
        unavailable(error.to_string())
    })
}

/// What the node says of the one that is asked for.
async fn look(reign: &Reign, drivers: &Drivers, wanted: &Adopt) -> Result<Foreign, Refusal> {
    reign.first_round().await;
    if reign.store.reader().await?.node(&wanted.node).await?.is_none() {
        return Err(no_such_node(wanted.node.as_str()));
    }
    let found = ask(reign, drivers, &wanted.node).await?;
    found.into_iter().find(|foreign| foreign.name == wanted.instance).ok_or_else(|| {
        let message = format!("{} has no instance '{}' without a stamp", wanted.node, wanted.instance);
        Refusal::new(Reason::NotFound, message).hint(format!("see 'containarium node adopt {}'", wanted.node))
    })
}

/// Says what would be done.
pub(super) async fn dry_run(reign: &Reign, drivers: &Drivers, wanted: &Adopt) -> Result<v1::Progress, Refusal> {
    let foreign = look(reign, drivers, wanted).await?;
    let mut tx = reign.write().await?;
    let (_, adoption) = judge(reign, &mut tx, wanted, &foreign).await?;
    let what = format!("{} on {} would become {}'s machine", wanted.instance, wanted.node, wanted.owner);
    Ok(remark(format!("{what}: {}", adoption.steps.join("; "))))
}

/// Everything that is looked at inside the write.
async fn judge(
    reign: &Reign,
    tx: &mut WriteTx,
    wanted: &Adopt,
    foreign: &Foreign,
) -> Result<(Candidate, Adoption), Refusal> {
    refuse_taken(tx, &wanted.owner).await?;
    let sights = reign.sights();
    refuse_foreign(&wanted.owner, &sights)?;
    let being_adopted =
        |held: &Held| matches!(&held.placement.licence, Some(Licence::Adopt { uuid, .. }) if *uuid == foreign.uuid);
    if let Some(other) = tx.reader().on_node(&wanted.node).await?.iter().find(|held| being_adopted(held)) {
        let message = format!("{} is being adopted for {}", wanted.instance, other.container.owner);
        return Err(Refusal::new(Reason::Busy, message).hint("see 'containarium list'"));
    }
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let candidates = placing::candidates(&nodes, &claims, &sights);
    let node = candidates.into_iter().find(|c| c.name == wanted.node);
    let node = node.ok_or_else(|| no_such_node(wanted.node.as_str()))?;
    match decide(reign, foreign, Some(&wanted.owner), &node) {
        Ok(adoption) => Ok((node, adoption)),
        Err(obstacles) => {
            let message = format!("{} cannot be adopted: {}", wanted.instance, obstacles.join("; "));
            Err(Refusal::new(Reason::Refused, message).hint("nothing was changed"))
        }
    }
}

/// Writes the container and its order, and gives what to wait for.
pub(super) async fn order(reign: &Reign, drivers: &Drivers, wanted: &Adopt) -> Result<Settled, Refusal> {
    if let Some(held) = reign.store.reader().await?.of_request(wanted.request).await?.first() {
        return Ok(goal(&held.placement, wanted));
    }
    let foreign = look(reign, drivers, wanted).await?;
    let mut tx = reign.write().await?;
    if let Some(held) = tx.reader().of_request(wanted.request).await?.first() {
        return Ok(goal(&held.placement, wanted));
    }
    let (node, adoption) = judge(reign, &mut tx, wanted, &foreign).await?;
    let row = insert(&mut tx, wanted, (foreign, adoption), &node).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(goal(&row, wanted))
}

fn goal(row: &PlacementRow, wanted: &Adopt) -> Settled {
    let done = format!("{} is the fleet's", wanted.owner.container_name());
    Settled::new(row, done).with_access(row.access_revision)
}

async fn insert(
    tx: &mut WriteTx,
    wanted: &Adopt,
    (foreign, adoption): (Foreign, Adoption),
    node: &Candidate,
) -> Result<PlacementRow, Refusal> {
    let (id, name) = (ContainerId::generate(), wanted.owner.container_name());
    let Adoption { spec, address, desired, .. } = adoption;
    let alias = image::called(&node.images, &spec.image);
    let request = (wanted.request, format!("adopted {} on {}", wanted.instance, node.name));
    let row = ContainerRow::new(id, (&wanted.owner, wanted.keys.clone()), alias, request);
    tx.insert_container(&ContainerRow { pinned: true, ..row }).await?;
    let row = PlacementRow {
        desired,
        // I8: a user's disk is there. If the instance is gone, it is lost, and no empty one is made in its place.
        ever_ran: true,
        access_revision: tx.bump_access().await?,
        licence: Some(Licence::Adopt { instance: foreign.name, uuid: foreign.uuid }),
        ..PlacementRow::new(id, (node.name.clone(), address), spec)
    };
    tx.insert_placement(&row).await?;
    let message = format!("for {}: {} of {} at {address}", wanted.owner, wanted.instance, node.name);
    tx.note(&name, EventKind::ContainerAdopted, &message).await?;
    Ok(row)
}
