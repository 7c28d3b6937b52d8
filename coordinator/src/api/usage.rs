//! What containers use at this moment. The one question of the API that goes to all nodes: at once, each with its own
//! deadline, so a node that is away costs a note and no time. It must never change anything.

use std::{collections::BTreeMap, error::Error};

use containarium_proto::{convert, error::Refusal, ids::ContainerId, names::NodeName, node::UsageSample, v1};

use super::{parse, refuse::no_such_node, render, view};
use crate::{
    availability::Availability,
    node::{Drivers, live::Sight},
    reign::Reign,
    store::Policy,
};

/// Every container on `nodes` (none: on all) with its use, where its node says it.
pub(super) async fn list(reign: &Reign, drivers: &Drivers, nodes: &[String]) -> Result<v1::ListUsageResponse, Refusal> {
    let wanted = nodes.iter().map(|name| parse::node(name)).collect::<Result<Vec<_>, _>>()?;
    let mut reader = reign.store.reader().await?;
    let known = reader.nodes().await?;
    let rows = reader.all().await?;
    drop(reader);
    if let Some(unknown) = wanted.iter().find(|name| known.iter().all(|node| node.name != **name)) {
        return Err(no_such_node(unknown.as_str()));
    }
    let is_wanted = |node: &NodeName| wanted.is_empty() || wanted.contains(node);
    let sights = reign.sights();
    // Nobody is there to answer for a retired node.
    let asked = known.iter().filter(|node| node.policy != Policy::Retired).map(|node| &node.name);
    let asked = asked.filter(|name| is_wanted(name));
    let asked = asked.map(async |node| (node, ask(drivers, node, sights.get(node)).await));
    // By node too: a container may be on two while one of them gives it up.
    let mut samples = BTreeMap::new();
    let mut notes = Vec::new();
    for (node, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(said) => samples.extend(said.into_iter().map(|(id, sample)| ((node, id), sample))),
            Err(note) => notes.push(v1::NodeNote { node: node.to_string(), note }),
        }
    }
    let shown = view::principal(rows).into_iter().filter(|held| is_wanted(&held.placement.node));
    let shown = shown.map(|held| {
        let sample = samples.get(&(&held.placement.node, held.container.id)).map(convert::usage_sample_to_wire);
        render::usage(&view::view(held, &sights), sample)
    });
    Ok(v1::ListUsageResponse { containers: shown.collect(), notes })
}

/// What one node says, or why it does not.
async fn ask(
    drivers: &Drivers,
    node: &NodeName,
    sight: Option<&Sight>,
) -> Result<BTreeMap<ContainerId, UsageSample>, String> {
    match sight.map_or(Availability::Unknown, |sight| sight.availability) {
        Availability::Online | Availability::Preempting => {}
        Availability::Unknown => return Err("has not been heard from yet".to_owned()),
        Availability::Suspect => return Err(format!("does not answer, last heard {}", view::last_heard(sight))),
        Availability::Offline => return Err(format!("is offline, last heard {}", view::last_heard(sight))),
    }
    let client = drivers.client(node).ok_or("has no driver yet")?;
    client.usages().await.map_err(|error| {
        tracing::warn!(%node, error = &error as &dyn Error, "usages");
        format!("did not say what its containers use: {error}")
    })
}
