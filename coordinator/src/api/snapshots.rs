//! Snapshots as people ask for them. One that is to be made or removed is a row, and then the business of `snapshots`,
//! whoever waits; a restore is the same order once more under a new generation, with the licence to bring the disk back.

mod changed;

use std::error::Error;

use chrono::Utc;
use containarium_proto::{
    convert,
    error::{Reason, Refusal},
    ids::RequestId,
    names::Username,
    node::Licence,
    snapshots::{Snapshot, SnapshotName, Snapshots},
    spec::{Desired, Observed},
    v1,
};

use self::changed::Changed;
use super::{
    moves::refuse_moving,
    parse,
    patience::until_heard,
    power::refuse_away,
    refuse::{field, no_such_user},
    resize::refuse_busy,
    settle::Settled,
    view,
};
use crate::{
    clock,
    node::{
        Drivers,
        live::{self, Sights},
    },
    reign::Reign,
    store::{EventKind, Held, PlacementRow, SnapshotRow, SnapshotState, WriteTx, under_way},
};

/// What a node has, with what we know of it.
pub(super) async fn list(
    reign: &Reign,
    drivers: &Drivers,
    owner: &Username,
) -> Result<v1::ListSnapshotsResponse, Refusal> {
    let held = home_of(reign, owner).await?;
    let there = ask(reign, drivers, &held).await?;
    let rows = reign.store.reader().await?.snapshots_of(held.container.id).await?;
    let row_of = |name: &str| rows.iter().find(|row| row.name.as_str() == name);
    let mut snapshots: Vec<_> = there.all.iter().map(|one| listed(one, row_of(&one.name))).collect();
    let is_there = |row: &&SnapshotRow| there.all.iter().any(|one| one.name == row.name.as_str());
    let coming = rows.iter().filter(|row| row.state == SnapshotState::Creating && !is_there(row));
    snapshots.extend(coming.map(|row| {
        let one = Snapshot { name: row.name.to_string(), created_at: 0 };
        listed(&one, Some(row))
    }));
    Ok(v1::ListSnapshotsResponse { snapshots })
}

fn listed(one: &Snapshot, row: Option<&SnapshotRow>) -> v1::ListedSnapshot {
    let kind = match row.is_some_and(|row| row.scheduled) {
        true => v1::SnapshotKind::Scheduled,
        false => v1::SnapshotKind::Manual,
    };
    let state = match row.map(|row| row.state) {
        Some(SnapshotState::Creating) => v1::SnapshotState::Creating,
        Some(SnapshotState::Deleting) => v1::SnapshotState::Deleting,
        Some(SnapshotState::Ready) | None => v1::SnapshotState::Ready,
    };
    let (name, created_at_unix_millis) = (one.name.clone(), one.created_at);
    v1::ListedSnapshot { name, created_at_unix_millis, kind: kind.into(), state: state.into() }
}

async fn home_of(reign: &Reign, owner: &Username) -> Result<Held, Refusal> {
    reign.first_round().await;
    until_heard(reign, owner).await?;
    let rows = reign.store.reader().await?.of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&held)?;
    Ok(held)
}

fn refuse_deleting(held: &Held) -> Result<(), Refusal> {
    if held.placement.desired != Desired::Absent {
        return Ok(());
    }
    let message = format!("{}'s container is being deleted", held.container.owner);
    Err(Refusal::new(Reason::Busy, message).hint("its snapshots go with it"))
}

/// Before any write: no write waits for a node.
async fn ask(reign: &Reign, drivers: &Drivers, held: &Held) -> Result<Snapshots, Refusal> {
    refuse_away(held, &reign.sights())?;
    let node = &held.placement.node;
    let unavailable = |why: String| {
        let message = format!("{node} cannot say which snapshots there are: {why}");
        Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again")
    };
    let client = drivers.client(node).ok_or_else(|| unavailable("it has no driver yet".to_owned()))?;
    client.snapshots(held.container.id).await.map_err(|error| {
        tracing::warn!(%node, error = &error as &dyn Error, "snapshots");
        unavailable(error.to_string())
    })
}

fn no_such_snapshot(held: &Held, name: &SnapshotName) -> Refusal {
    let owner = &held.container.owner;
    Refusal::new(Reason::NotFound, format!("{} has no snapshot '{name}'", owner.container_name()))
        .hint(format!("see 'containarium snapshot list {owner}'"))
}

/// What is being made or removed, and since when.
fn refuse_under_way(held: &Held, rows: &[SnapshotRow]) -> Result<(), Refusal> {
    let Some(row) = under_way(rows) else { return Ok(()) };
    let doing = if row.state == SnapshotState::Deleting { "removed" } else { "made" };
    let (name, since) = (held.container.owner.container_name(), clock::shown(row.since));
    let message = format!("{name} is busy: snapshot {} is being {doing}, since {since}", row.name);
    Err(Refusal::new(Reason::Busy, message).hint("try again when it is done"))
}

/// The container inside a write, where nothing stands against touching it.
async fn free(reign: &Reign, tx: &mut WriteTx, owner: &Username) -> Result<(Held, Vec<SnapshotRow>), Refusal> {
    let rows = tx.reader().of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&held)?;
    refuse_moving(&held)?;
    refuse_away(&held, &reign.sights())?;
    let snapshots = tx.reader().snapshots_of(held.container.id).await?;
    refuse_under_way(&held, &snapshots)?;
    Ok((held, snapshots))
}

/// A snapshot that could be made.
pub(super) struct Create {
    request: RequestId,
    owner: Username,
    name: Option<SnapshotName>,
}

pub(super) fn parse_create(request: &v1::CreateSnapshotRequest) -> Result<Create, Refusal> {
    let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
    let name = name.map(|name| SnapshotName::given(name).map_err(|e| field(e.to_string(), "give another name")));
    let (request, owner) = (parse::request_id(&request.request_id)?, parse::user(&request.user)?);
    Ok(Create { request, owner, name: name.transpose()? })
}

/// Writes it down, unless it was before, and gives what to wait for.
pub(super) async fn create(reign: &Reign, drivers: &Drivers, create: &Create) -> Result<Changed, Refusal> {
    let held = home_of(reign, &create.owner).await?;
    let rows = reign.store.reader().await?.snapshots_of(held.container.id).await?;
    if let Some(row) = rows.iter().find(|row| row.request == create.request) {
        return Ok(Changed::of(row, &create.owner));
    }
    let there = ask(reign, drivers, &held).await?;
    let mut tx = reign.write().await?;
    let (held, rows) = free(reign, &mut tx, &create.owner).await?;
    refuse_not_ready(&mut tx, &held, &reign.sights()).await?;
    let is_there = |name: &SnapshotName| there.all.iter().any(|one| one.name == name.as_str());
    let seq = rows.last().map_or(1, |row| row.seq + 1);
    let name = match &create.name {
        Some(name) if is_there(name) => return Err(taken(&held, name)),
        Some(name) => name.clone(),
        None => {
            let at = Utc::now().format("%Y%m%d-%H%M%S").to_string();
            let plain = SnapshotName::made_up(&at);
            let known = is_there(&plain) || rows.iter().any(|row| row.name == plain);
            if known { SnapshotName::made_up(&format!("{at}-{seq}")) } else { plain }
        }
    };
    // One that was removed by hand.
    if let Some(stale) = rows.iter().find(|row| row.name == name) {
        tx.forget_snapshot(stale).await?;
    }
    let (container, since) = (held.container.id, clock::now());
    let (state, scheduled, request) = (SnapshotState::Creating, false, create.request);
    let row = SnapshotRow { container, name, state, scheduled, seq, request, since };
    tx.insert_snapshot(&row).await?;
    tx.commit().await?;
    reign.wake_streams();
    Ok(Changed::of(&row, &create.owner))
}

fn taken(held: &Held, name: &SnapshotName) -> Refusal {
    let owner = &held.container.owner;
    Refusal::new(Reason::AlreadyExists, format!("{} has a snapshot '{name}' already", owner.container_name()))
        .hint(format!("give another name, or none; see 'containarium snapshot list {owner}'"))
}

/// What is not as ordered has no disk worth keeping, or will have another one in a moment.
async fn refuse_not_ready(tx: &mut WriteTx, held: &Held, sights: &Sights) -> Result<(), Refusal> {
    refuse_busy(tx, held, sights).await?;
    match live::observed(held, sights) {
        Observed::Running | Observed::Stopped => Ok(()),
        _ => {
            let view = view::view(held.clone(), sights);
            let message = format!("{} is {:?}: {}", held.container.owner.container_name(), view.phase, view.detail);
            Err(Refusal::new(Reason::ContainerFailed, message)
                .hint("snapshots are made and removed of what runs, or was stopped; one can be restored at any time"))
        }
    }
}

/// A snapshot of a user, by any name that a node may know it by.
pub(super) fn parse_name(user: &str, name: &str) -> Result<(Username, SnapshotName), Refusal> {
    let hint = "take it from 'containarium snapshot list'";
    let owner = parse::user(user)?;
    let snapshot: SnapshotName =
        name.parse().map_err(|e: containarium_proto::snapshots::SnapshotNameError| field(e.to_string(), hint))?;
    match snapshot.as_str().starts_with(containarium_proto::snapshots::OF_A_COPY) {
        true => Err(field(format!("snapshot '{snapshot}' belongs to a move"), hint)),
        false => Ok((owner, snapshot)),
    }
}

/// Writes down that it is to be removed, and gives what to wait for.
pub(super) async fn delete(
    reign: &Reign,
    drivers: &Drivers,
    (owner, name): &(Username, SnapshotName),
) -> Result<Changed, Refusal> {
    let held = home_of(reign, owner).await?;
    let there = ask(reign, drivers, &held).await?;
    let mut tx = reign.write().await?;
    let rows = tx.reader().snapshots_of(held.container.id).await?;
    if let Some(row) = rows.iter().find(|row| row.name == *name && row.state == SnapshotState::Deleting) {
        return Ok(Changed::of(row, owner));
    }
    let (held, rows) = free(reign, &mut tx, owner).await?;
    let known = rows.iter().find(|row| row.name == *name);
    if known.is_none() && !there.all.iter().any(|one| one.name == name.as_str()) {
        return Err(no_such_snapshot(&held, name));
    }
    refuse_not_ready(&mut tx, &held, &reign.sights()).await?;
    let (state, since) = (SnapshotState::Deleting, clock::now());
    let row = match known {
        Some(row) => SnapshotRow { state, since, ..row.clone() },
        None => SnapshotRow {
            container: held.container.id,
            name: name.clone(),
            state,
            scheduled: false,
            seq: rows.last().map_or(1, |row| row.seq + 1),
            request: RequestId::generate(),
            since,
        },
    };
    match known {
        Some(_) => tx.update_snapshot(&row).await?,
        None => tx.insert_snapshot(&row).await?,
    }
    tx.commit().await?;
    reign.wake_streams();
    Ok(Changed::of(&row, owner))
}

/// Records the order to bring a disk back, and gives what to wait for.
pub(super) async fn restore(
    reign: &Reign,
    drivers: &Drivers,
    request: &v1::RestoreSnapshotRequest,
) -> Result<Settled, Refusal> {
    let (owner, name) = parse_name(&request.user, &request.name)?;
    let request = parse::request_id(&request.request_id)?;
    let held = home_of(reign, &owner).await?;
    if held.placement.change_request == Some(request) {
        return Ok(restored(&held.placement, &owner, &name));
    }
    let there = ask(reign, drivers, &held).await?;
    let mut tx = reign.write().await?;
    let (held, rows) = free(reign, &mut tx, &owner).await?;
    let row = &held.placement;
    if row.change_request == Some(request) {
        return Ok(restored(row, &owner, &name));
    }
    refuse_restoring(&mut tx, &held, &reign.sights()).await?;
    let gone = rows.iter().any(|row| row.name == name && row.state != SnapshotState::Ready);
    let at = there.all.iter().position(|one| one.name == name.as_str()).filter(|_| !gone);
    let at = at.ok_or_else(|| no_such_snapshot(&held, &name))?;
    refuse_newer(&held, &there, at)?;
    let generation = row.generation.next();
    let next = PlacementRow {
        generation,
        change_request: Some(request),
        licence: Some(Licence::Restore { snapshot: name.clone(), since: generation }),
        ..row.clone()
    };
    tx.change_order(&next).await?;
    let message = format!("to {name} of {} on {}", clock::shown(there.all[at].created_at), row.node);
    tx.note(&owner.container_name(), EventKind::ContainerRestoring, &message).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(restored(&next, &owner, &name))
}

fn restored(row: &PlacementRow, owner: &Username, name: &SnapshotName) -> Settled {
    Settled::new(row, format!("{} is as it was in snapshot {name}", owner.container_name()))
}

/// What its user has broken never comes to rest, and a restore is the way out: only what was never here, is gone, or is
/// being brought back or taken over right now is refused.
async fn refuse_restoring(tx: &mut WriteTx, held: &Held, sights: &Sights) -> Result<(), Refusal> {
    let row = &held.placement;
    let observed = live::observed(held, sights);
    let begins = match &observed {
        Observed::Converging { step } => step.index <= 1,
        Observed::Unknown | Observed::Absent => true,
        Observed::Running
        | Observed::Stopped
        | Observed::AwaitingCopy
        | Observed::AwaitingWord
        | Observed::Failed { .. } => false,
    };
    match &row.licence {
        Some(Licence::Adopt { .. }) => refuse_busy(tx, held, sights).await,
        Some(Licence::Restore { .. }) if begins => refuse_busy(tx, held, sights).await,
        Some(Licence::Restore { .. } | Licence::Repair) | None if observed == Observed::Absent => {
            refuse_busy(tx, held, sights).await
        }
        Some(Licence::Restore { .. } | Licence::Repair) | None => Ok(()),
    }
}

/// Some storage goes back by forgetting what came after.
fn refuse_newer(held: &Held, there: &Snapshots, at: usize) -> Result<(), Refusal> {
    let newer: Vec<&str> = there.all[at + 1..].iter().map(|one| one.name.as_str()).collect();
    if !there.newest_only || newer.is_empty() {
        return Ok(());
    }
    let (node, name) = (&held.placement.node, &there.all[at].name);
    let message = format!(
        "the storage of {node} goes back to its newest snapshot only; {name} is older than {}",
        newer.join(", ")
    );
    Err(Refusal::new(Reason::Refused, message).hint("delete the newer ones first: 'containarium snapshot delete'"))
}

/// For what a container is shown with.
pub(super) fn schedule(held: &Held) -> Option<v1::SnapshotSchedule> {
    held.container.snapshots.schedule.as_ref().map(convert::schedule_to_wire)
}
