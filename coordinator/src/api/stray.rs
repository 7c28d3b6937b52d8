//! Containers of ours that our database has forgotten: shown with what is not ours, and taken back as they are. The order
//! that their node holds is our own, so it becomes the row again, under the same id and generation: nothing is changed on
//! the node.

use std::error::Error;

use containarium_proto::{
    error::{Reason, Refusal},
    ids::RequestId,
    names::NodeName,
    node::Order,
    spec::Desired,
    v1,
};

use super::{create::refuse_taken, parse, progress::remark, refuse::no_such_node, settle::Settled};
use crate::{
    image,
    node::{Drivers, live::Stray},
    reign::Reign,
    store::{ContainerRow, EventKind, NodeRow, PlacementRow, WriteTx},
};

/// What came of a request, if it was about a stray.
pub(super) enum Outcome {
    NoStray,
    Told(Box<v1::Progress>),
    Waiting(Settled),
}

/// Those of a node, as an operator sees them.
pub(super) fn list(reign: &Reign, node: &NodeName) -> Vec<v1::Adoptable> {
    let adoptable = |stray: Stray| v1::Adoptable {
        name: stray.name,
        running: true,
        user: stray.claim.map(|(owner, _)| owner.to_string()).unwrap_or_default(),
        steps: vec!["it is the fleet's, and the database does not know it: taken back as it is".to_owned()],
        obstacles: Vec::new(),
    };
    strays(reign, node).into_iter().map(adoptable).collect()
}

fn strays(reign: &Reign, node: &NodeName) -> Vec<Stray> {
    reign.sights().remove(node).map(|sight| sight.strays).unwrap_or_default()
}

pub(super) async fn adopt(
    reign: &Reign,
    drivers: &Drivers,
    request: &v1::AdoptInstanceRequest,
) -> Result<Outcome, Refusal> {
    let (node, id) = (parse::node(&request.node)?, parse::request_id(&request.request_id)?);
    if let Some(held) = reign.store.reader().await?.of_request(id).await?.first() {
        return Ok(match request.user.is_empty() {
            true => Outcome::Waiting(goal(&held.placement, &request.instance)),
            false => Outcome::NoStray,
        });
    }
    reign.first_round().await;
    let Some(stray) = strays(reign, &node).into_iter().find(|stray| stray.name == request.instance) else {
        return Ok(Outcome::NoStray);
    };
    let order = ask(drivers, &node, &stray).await?;
    let mut tx = reign.write().await?;
    let row = judge(&mut tx, &node, &order).await?;
    if request.dry_run {
        let what = format!("{} on {node} would be {}'s machine again, as it is", order.name, order.owner);
        return Ok(Outcome::Told(Box::new(remark(what))));
    }
    let placement = insert(&mut tx, id, &row, &order).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Outcome::Waiting(goal(&placement, &order.name)))
}

fn goal(row: &PlacementRow, name: &str) -> Settled {
    Settled::new(row, format!("{name} is known again")).with_access(row.access_revision)
}

async fn ask(drivers: &Drivers, node: &NodeName, stray: &Stray) -> Result<Order, Refusal> {
    let unavailable = |why: String| {
        let message = format!("{node} cannot say what {} is: {why}", stray.name);
        Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it answers")
    };
    let client = drivers.client(node).ok_or_else(|| unavailable("it has no driver yet".to_owned()))?;
    client.held_order(stray.id).await.map_err(|error| {
        tracing::warn!(%node, error = &error as &dyn Error, "reading a forgotten order");
        unavailable(error.to_string())
    })
}

/// Whether there is a place for it in the rows.
async fn judge(tx: &mut WriteTx, node: &NodeName, order: &Order) -> Result<NodeRow, Refusal> {
    let refuse = |why: String, hint: String| {
        Err(Refusal::new(Reason::Refused, format!("{} cannot be taken back: {why}", order.name)).hint(hint))
    };
    if !tx.reader().of_container(order.id).await?.is_empty() {
        let hint =
            format!("if it is lost there, 'containarium delete {}' forgets that; then adopt this one", order.owner);
        return refuse("the database knows it to be on another node".to_owned(), hint);
    }
    refuse_taken(tx, &order.owner).await?;
    if order.desired == Desired::Absent || order.copy_pass.is_some() {
        return refuse("it was being deleted or moved".to_owned(), "look at it on the node itself".to_owned());
    }
    let row = tx.reader().node(node).await?.ok_or_else(|| no_such_node(node.as_str()))?;
    let claims = tx.reader().claims().await?;
    if claims.iter().any(|claim| claim.node == *node && claim.addresses.contains(&order.address)) {
        let hint = "delete or move that one first".to_owned();
        return refuse(format!("another container has its address {}", order.address), hint);
    }
    if !row.network.is_some_and(|(network, _)| network.contains(&order.address)) {
        let hint = "look at the node's container network".to_owned();
        return refuse(format!("its address {} is not of {node}'s network", order.address), hint);
    }
    Ok(row)
}

async fn insert(tx: &mut WriteTx, request: RequestId, node: &NodeRow, order: &Order) -> Result<PlacementRow, Refusal> {
    let alias = image::called(&node.images, &order.spec.image);
    let by = (request, format!("taken back from {}", node.name));
    tx.insert_container(&ContainerRow::new(order.id, (&order.owner, order.keys.clone()), alias, by)).await?;
    let row = PlacementRow {
        desired: order.desired,
        generation: order.generation,
        ever_ran: true,
        access_revision: tx.bump_access().await?,
        origin: order.origin.clone(),
        ..PlacementRow::new(order.id, (node.name.clone(), order.address), order.spec.clone())
    };
    tx.insert_placement(&row).await?;
    let message = format!("taken back from {}: the database had forgotten it", node.name);
    tx.note(&order.name, EventKind::ContainerAdopted, &message).await?;
    Ok(row)
}
