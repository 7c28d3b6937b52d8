//! SetReplication, Failover, DiscardOldCopy: an operator's word on replicas. Each only writes; copying is the business of
//! `replicas`, starting and stopping that of the drivers. A failover is one transaction: before it the home is the home,
//! after it the replica is, and no node can start the other one, however late it hears of it.

use std::time::Duration;

use containarium_proto::{
    error::{Reason, Refusal},
    ids::RequestId,
    lifetime::{Bounds, short},
    names::{NodeName, Username},
    node::{CopyPass, Licence},
    snapshots::SnapshotName,
    spec::{Desired, Observed},
    v1,
};

use super::{
    moves::refuse_moving,
    parse,
    power::refuse_away,
    progress::{Goal, Look, Said, remark},
    refuse::{field, no_such_node, no_such_user, refuse_deleting},
    resize::refuse_busy,
    settle::Settled,
    view,
};
use crate::{
    availability::Availability,
    clock, moving,
    node::live::{self, Sights, availability},
    reign::Reign,
    store::{EventKind, Held, MovePhase, PlacementRow, Policy, Replication, Role, WriteTx, next_generation},
    version::refuse_older,
};

/// A change of replication.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    request: RequestId,
    owner: Username,
    every: Option<Duration>,
    to: Option<NodeName>,
}

pub(super) fn parse(request: &v1::SetReplicationRequest, bounds: &Bounds) -> Result<Wanted, Refusal> {
    let every = parse::replication(bounds, request.every_seconds)?;
    let to = Some(request.node.as_str()).filter(|node| !node.is_empty()).map(parse::node).transpose()?;
    if every.is_none() && to.is_some() {
        return Err(field("a node is given for a replica that is to go", "leave the node out"));
    }
    Ok(Wanted { request: parse::request_id(&request.request_id)?, owner: parse::user(&request.user)?, every, to })
}

/// Records the change, if it is one, and gives what to wait for: the home, which is fenced from then on.
pub(super) async fn set(reign: &Reign, wanted: &Wanted) -> Result<Settled, Refusal> {
    reign.first_round().await;
    let owner = &wanted.owner;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&mut tx, &held, "there is nothing left to replicate; see 'containarium list'").await?;
    let (row, before) = (&held.placement, &held.container.replication);
    // Where nobody says otherwise, it stays where it is.
    let to = wanted.to.clone().or_else(|| before.to.clone()).filter(|_| wanted.every.is_some());
    let fenced = wanted.every.is_some();
    if (before.every, &before.to, row.spec.fenced) == (wanted.every, &to, fenced) {
        return Ok(goal(row, wanted));
    }
    refuse_moving(&held)?;
    if fenced {
        refuse_node(&mut tx, &held, to.as_ref()).await?;
        let sights = reign.sights();
        refuse_away(&held, &sights)?;
        refuse_older(&row.node, "replicas", &sights)?;
        refuse_busy(&mut tx, &held, &sights).await?;
    }
    let mut next = row.clone();
    if row.spec.fenced != fenced {
        next = PlacementRow { generation: row.generation.next(), change_request: Some(wanted.request), ..next };
        next.spec.fenced = fenced;
        tx.change_order(&next).await?;
    }
    let replication = Replication { every: wanted.every, to, problem: String::new(), ..before.clone() };
    tx.set_replication(row.container, &replication).await?;
    tx.note(&owner.container_name(), EventKind::ContainerReplication, &told(wanted.every)).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(goal(&next, wanted))
}

fn told(every: Option<Duration>) -> String {
    every.map_or_else(|| "off".to_owned(), |every| format!("every {}", short(every)))
}

fn goal(row: &PlacementRow, wanted: &Wanted) -> Settled {
    let name = wanted.owner.container_name();
    let done = match wanted.every {
        Some(every) => {
            format!("{name} is copied to another server every {}; the first copy goes on by itself", short(every))
        }
        None => format!("{name} is no longer replicated"),
    };
    Settled::new(row, done)
}

async fn refuse_node(tx: &mut WriteTx, held: &Held, to: Option<&NodeName>) -> Result<(), Refusal> {
    let Some(to) = to else { return Ok(()) };
    if tx.reader().node(to).await?.is_none() {
        return Err(no_such_node(to.as_str()));
    }
    if *to == held.placement.node {
        let message =
            format!("{} lives on {to}: a replica there would be lost with it", held.container.owner.container_name());
        return Err(field(message, "give another node, or none"));
    }
    if held.container.replication.superseded.contains(to) {
        let message = format!("{to} still has what was there before a failover");
        return Err(Refusal::new(Reason::Refused, message)
            .hint(format!("'containarium failover {} --discard-old' destroys that", held.container.owner)));
    }
    Ok(())
}

/// The replica becomes the container; gives what to wait for.
pub(super) async fn failover(reign: &Reign, request: &v1::FailoverRequest) -> Result<Settled, Refusal> {
    let (id, owner) = (parse::request_id(&request.request_id)?, parse::user(&request.user)?);
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(&owner).await?;
    let home = view::principal(rows.clone()).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&mut tx, &home, "there is nothing left to fail over; see 'containarium list'").await?;
    // Its answer was lost: it is done.
    if home.placement.change_request == Some(id) {
        return Ok(failed_over(&home.placement, &owner));
    }
    let sights = reign.sights();
    refuse_alive(&home, &sights)?;
    let (replica, pass) = whole_replica(&rows, &home)?;
    refuse_moved(&mut tx, &home).await?;
    if availability(&replica.placement.node, &sights) != Availability::Online {
        let node = &replica.placement.node;
        let message = format!("{node}, which has the replica, does not answer either");
        return Err(
            Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it is back")
        );
    }
    let next = write_failover(&mut tx, (&rows, &home, replica), pass, id).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(failed_over(&next, &owner))
}

fn failed_over(row: &PlacementRow, owner: &Username) -> Settled {
    let done = format!("{} runs on {}", owner.container_name(), row.node);
    Settled::new(row, done).with_access(row.access_revision)
}

/// I8: while its home may still have it, nothing takes its place.
fn refuse_alive(home: &Held, sights: &Sights) -> Result<(), Refusal> {
    let (node, owner) = (&home.placement.node, &home.container.owner);
    let gone = live::observed(home, sights) == Observed::Absent;
    match availability(node, sights) {
        Availability::Offline => Ok(()),
        _ if gone => Ok(()),
        Availability::Online | Availability::Preempting => {
            let message = format!("{node} answers: a failover would lose what changed since the last pass");
            Err(Refusal::new(Reason::Refused, message)
                .hint(format!("'containarium move {owner}' moves it off and loses nothing")))
        }
        Availability::Unknown | Availability::Suspect => {
            let message = format!("{node} has not been silent for long enough to be offline");
            Err(Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again in half a minute"))
        }
    }
}

fn whole_replica<'r>(rows: &'r [Held], home: &Held) -> Result<(&'r Held, CopyPass), Refusal> {
    let owner = &home.container.owner;
    let is_one =
        |held: &&Held| matches!(held.placement.role, Role::Replica(_)) && held.placement.desired != Desired::Absent;
    let hint = format!("'containarium backup list {owner}' shows what else there is");
    let Some(replica) = rows.iter().find(is_one) else {
        return Err(Refusal::new(Reason::Refused, format!("{} has no replica", owner.container_name())).hint(hint));
    };
    let replication = &home.container.replication;
    match (replication.as_of, std::num::NonZeroU32::new(replication.pass)) {
        (Some(_), Some(pass)) => Ok((replica, CopyPass(pass))),
        _ => {
            let message =
                format!("the first copy to {} was not whole: there is nothing to go back to", replica.placement.node);
            Err(Refusal::new(Reason::Refused, message).hint(hint))
        }
    }
}

/// One that had been copied in full is more than any replica.
async fn refuse_moved(tx: &mut WriteTx, home: &Held) -> Result<(), Refusal> {
    let Some(row) = tx.reader().move_of(home.container.id).await? else { return Ok(()) };
    if row.source == home.placement.node && moving::may_cancel(row.phase) || row.phase == MovePhase::Cancelling {
        return Ok(());
    }
    let message = format!("it has just moved from {} to {}", row.source, row.target);
    Err(Refusal::new(Reason::Busy, message)
        .hint(format!("'containarium node retire {} --lost {}' goes back to {}", row.target, row.target, row.source)))
}

async fn write_failover(
    tx: &mut WriteTx,
    (rows, home, replica): (&[Held], &Held, &Held),
    pass: CopyPass,
    request: RequestId,
) -> Result<PlacementRow, Refusal> {
    let (old, new) = (&home.placement, &replica.placement);
    let name = home.container.owner.container_name();
    let access_revision = tx.bump_access().await?;
    let generation = next_generation(rows);
    let retired = tx.reader().node(&old.node).await?.is_none_or(|node| node.policy == Policy::Retired);
    // A move that had not come so far ends with its source.
    for held in rows.iter().filter(|held| matches!(held.placement.role, Role::Arriving(_))) {
        let row = &held.placement;
        tx.change_order(&PlacementRow { desired: Desired::Absent, generation, ..row.clone() }).await?;
    }
    tx.end_move(old.container).await?;
    let superseded = PlacementRow { role: Role::Superseded, desired: Desired::Stopped, generation, ..old.clone() };
    tx.change_order(&PlacementRow { licence: None, undo: None, change_request: None, ..superseded }).await?;
    let generation = generation.next();
    let next = PlacementRow {
        role: Role::Home,
        // What was stopped stays so.
        desired: old.desired,
        generation,
        access_revision,
        ever_ran: true,
        change_request: Some(request),
        licence: Some(Licence::Restore { snapshot: SnapshotName::of_replica(pass), since: generation }),
        ..new.clone()
    };
    tx.change_order(&next).await?;
    if retired {
        tx.forget_placement(old.container, &old.node).await?;
    }
    let before = &home.container.replication;
    let as_of = before.as_of.map_or_else(String::new, clock::shown);
    let replication = Replication { as_of: None, problem: String::new(), to: None, ..before.clone() };
    tx.set_replication(old.container, &replication).await?;
    let message = format!("from {} to {}, as it was at {as_of}", old.node, new.node);
    tx.note(&name, EventKind::ContainerFailedOver, &message).await?;
    Ok(next)
}

/// Orders what failovers have left destroyed; gives what to wait for.
pub(super) async fn discard(reign: &Reign, request: &v1::DiscardOldCopyRequest) -> Result<Discarded, Refusal> {
    let owner = parse::user(&request.user)?;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(&owner).await?;
    let id = rows.first().ok_or_else(|| no_such_user(owner.as_str()))?.container.id;
    let old: Vec<&Held> = rows.iter().filter(|held| held.placement.role == Role::Superseded).collect();
    if old.is_empty() {
        let message = format!("there is no older copy of {}", owner.container_name());
        return Err(Refusal::new(Reason::NotFound, message).hint(format!("see 'containarium info {owner}'")));
    }
    let mut changed = false;
    for held in old {
        let row = &held.placement;
        if row.desired == Desired::Absent && !matches!(row.observed_now(), Observed::Failed { .. }) {
            continue;
        }
        let (desired, generation) = (Desired::Absent, row.generation.next());
        tx.change_order(&PlacementRow { desired, generation, ..row.clone() }).await?;
        let message = format!("{} destroys what was there before the failover", row.node);
        tx.note(&owner.container_name(), EventKind::ContainerDeleting, &message).await?;
        changed = true;
    }
    if changed {
        tx.commit().await?;
        reign.wake_all();
    }
    Ok(Discarded { id, owner, said: Said::default() })
}

/// Waits until no node has an older copy any more.
pub(super) struct Discarded {
    id: containarium_proto::ids::ContainerId,
    owner: Username,
    said: Said,
}

impl Goal for Discarded {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let rows = reign.store.reader().await?.of_container(self.id).await?;
        let sights = reign.sights();
        let left: Vec<&Held> = rows.iter().filter(|held| held.placement.role == Role::Superseded).collect();
        let Some(held) = left.first() else {
            let message = format!("nothing is left of the older copy of {}", self.owner.container_name());
            return Ok(Look::Done(remark(message)));
        };
        let node = &held.placement.node;
        if availability(node, &sights) != Availability::Online {
            let message = format!("recorded; {node} does not answer, and destroys it when it is back");
            return Ok(Look::Done(v1::Progress { pending: true, ..remark(message) }));
        }
        if let Observed::Failed { error, permanent: true } = live::observed(held, &sights) {
            return Err(Refusal::new(Reason::ContainerFailed, error).hint(format!("repair {node}, then try again")));
        }
        Ok(self.said.news(remark(format!("{node} destroys it"))).unwrap_or(Look::Wait(None)))
    }
}

/// What people are told; none: there is nothing to tell.
pub(super) fn shown(held: &Held) -> Option<v1::Replication> {
    let replication = &held.container.replication;
    // Until the marks of the passes are gone from the home too.
    let is_left = replication.node.is_some() || replication.pass > 0 || !replication.superseded.is_empty();
    let tells = replication.every.is_some() || is_left;
    tells.then(|| v1::Replication {
        every_seconds: replication.every.map_or(0, |every| every.as_secs()),
        node: replication.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        as_of_unix_millis: replication.as_of.unwrap_or_default(),
        problem: replication.problem.clone(),
        old_copies: replication.superseded.iter().map(ToString::to_string).collect(),
    })
}
