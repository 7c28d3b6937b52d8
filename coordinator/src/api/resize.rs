//! ResizeContainer: a new generation of the placement with other limits, on the same node, without a restart. While the
//! node has not confirmed it, the larger of old and new stays reserved.

use std::error::Error;

use containarium_proto::{
    error::{Reason, Refusal},
    names::Username,
    node::Usage,
    sizes::Bytes,
    spec::{Desired, Observed, Spec},
};

use super::{
    moves::refuse_moving, parse::Resize, patience::until_heard, power::refuse_away, refuse::no_such_user,
    settle::Settled, view,
};
use crate::{
    clock,
    node::{
        Drivers,
        live::{self, Sights},
    },
    placement::{self, Demand, Resources},
    placing,
    reign::Reign,
    store::{EventKind, Held, PlacementRow, WriteTx},
};

/// Records the change, if it is one, and gives what to wait for.
pub(super) async fn order(reign: &Reign, drivers: &Drivers, resize: &Resize) -> Result<Settled, Refusal> {
    reign.first_round().await;
    until_heard(reign, &resize.owner).await?;
    let owner = &resize.owner;
    // Before the write: no write waits for a node.
    let rows = reign.store.reader().await?.of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_below_use(reign, drivers, resize, &held).await?;

    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    let row = &held.placement;
    let spec = resized(&row.spec, resize);
    if row.change_request == Some(resize.request) || (row.desired != Desired::Absent && spec == row.spec) {
        return Ok(goal(row, owner));
    }
    let sights = reign.sights();
    refuse_moving(&held)?;
    refuse_away(&held, &sights)?;
    refuse_busy(&mut tx, &held, &sights).await?;
    let wanted = Resources::of(&spec);
    refuse_no_room(reign, &mut tx, &held, &spec, &sights).await?;
    let message = format!("on {}: {}", row.node, difference(&row.spec, &spec));
    let next = PlacementRow {
        generation: row.generation.next(),
        reserved: row.reserved.max(wanted),
        change_request: Some(resize.request),
        spec,
        ..row.clone()
    };
    tx.change_order(&next).await?;
    tx.note(&owner.container_name(), EventKind::ContainerResizing, &message).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(goal(&next, owner))
}

fn goal(row: &PlacementRow, owner: &Username) -> Settled {
    let Spec { cpu, memory, disk, .. } = &row.spec;
    Settled::new(row, format!("{} has cpu {cpu}, memory {memory}, disk {disk}", owner.container_name()))
}

fn resized(spec: &Spec, resize: &Resize) -> Spec {
    let mut spec = spec.clone();
    if let Some(cpu) = &resize.cpu {
        spec.cpu = cpu.clone();
    }
    spec.memory = resize.memory.unwrap_or(spec.memory);
    spec.disk = resize.disk.unwrap_or(spec.disk);
    spec
}

/// "cpu 2 -> 4, memory 2GiB -> 4GiB"
fn difference(old: &Spec, new: &Spec) -> String {
    let pairs = [
        ("cpu", old.cpu.to_string(), new.cpu.to_string()),
        ("memory", old.memory.to_string(), new.memory.to_string()),
        ("disk", old.disk.to_string(), new.disk.to_string()),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    changed.map(|(what, old, new)| format!("{what} {old} -> {new}")).collect::<Vec<_>>().join(", ")
}

/// A limit below what is in use would kill processes, or make the next write of every program fail.
async fn refuse_below_use(reign: &Reign, drivers: &Drivers, resize: &Resize, held: &Held) -> Result<(), Refusal> {
    let row = &held.placement;
    let lower_memory = resize.memory.filter(|memory| *memory < row.spec.memory && !resize.force);
    let lower_disk = resize.disk.filter(|disk| *disk < row.spec.disk);
    if row.desired == Desired::Absent || (lower_memory.is_none() && lower_disk.is_none()) {
        return Ok(());
    }
    refuse_away(held, &reign.sights())?;
    let usage = ask(drivers, row).await?;
    let name = resize.owner.container_name();
    let below = |what: &str, wanted: Bytes, used: Bytes| {
        Refusal::new(Reason::Refused, format!("{name} uses {used} of {what}: it cannot be lowered to {wanted}"))
    };
    if let Some(wanted) = lower_memory.filter(|wanted| *wanted < usage.memory) {
        let hint = "the use includes the page cache; --force lowers it all the same, and may kill processes inside";
        return Err(below("memory", wanted, usage.memory).hint(hint));
    }
    let Some(wanted) = lower_disk else { return Ok(()) };
    match usage.disk {
        Some(used) if wanted >= used => Ok(()),
        Some(used) => Err(below("disk", wanted, used).hint("delete files inside first")),
        None => {
            let message = format!("{} cannot tell how much disk {name} uses: its disk is not lowered", row.node);
            Err(Refusal::new(Reason::Refused, message).hint("leave --disk out, or give more than it has"))
        }
    }
}

async fn ask(drivers: &Drivers, row: &PlacementRow) -> Result<Usage, Refusal> {
    let unavailable = |why: String| {
        let message = format!("{} cannot say what the container uses: {why}", row.node);
        Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again")
    };
    let client = drivers.client(&row.node).ok_or_else(|| unavailable("it has no driver yet".to_owned()))?;
    match client.usage(row.container).await {
        Ok(Some(usage)) => Ok(usage),
        Ok(None) => Err(unavailable("it does not have it".to_owned())),
        Err(error) => {
            tracing::warn!(node = %row.node, error = &error as &dyn Error, "usage");
            Err(unavailable(error.to_string()))
        }
    }
}

/// Says what is under way, and since when.
pub(super) async fn refuse_busy(tx: &mut WriteTx, held: &Held, sights: &Sights) -> Result<(), Refusal> {
    let (row, name) = (&held.placement, held.container.owner.container_name());
    let doing = match live::observed(held, sights) {
        _ if row.desired == Desired::Absent => "it is being deleted".to_owned(),
        Observed::Converging { step } => step.title,
        Observed::Unknown => "it has just been given an order".to_owned(),
        Observed::AwaitingWord => "it has not been started yet".to_owned(),
        Observed::Absent => {
            let message = format!("{} holds nothing of {name} any more", row.node);
            return Err(Refusal::new(Reason::ContainerFailed, message));
        }
        Observed::Running | Observed::Stopped | Observed::AwaitingCopy | Observed::Failed { .. } => return Ok(()),
    };
    let last = tx.reader().events(&name, 1).await?.pop();
    let since = last.map(|event| format!(", since {} ({})", clock::shown(event.at), event.kind)).unwrap_or_default();
    Err(Refusal::new(Reason::Busy, format!("{name} is busy: {doing}{since}")).hint("try again when it is done"))
}

async fn refuse_no_room(
    reign: &Reign,
    tx: &mut WriteTx,
    held: &Held,
    spec: &Spec,
    sights: &Sights,
) -> Result<(), Refusal> {
    let row = &held.placement;
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let mut candidates = placing::candidates(&nodes, &claims, sights);
    let Some(here) = candidates.iter().position(|c| c.name == row.node) else { return Ok(()) };
    let here = candidates.remove(here);
    let demand = Demand {
        resources: Resources::of(spec),
        cpu: spec.cpu.clone(),
        image: Some(spec.image.clone()),
        labels: held.container.labels.clone(),
    };
    let cpus = here.capacity.map_or(u32::MAX, |capacity| capacity.cpus);
    let overcommit = &reign.config.overcommit;
    let Err(why) = placement::has_cpus(&spec.cpu, cpus)
        .and_then(|()| placement::room_to_grow(row.reserved, demand.resources, &here, overcommit))
    else {
        return Ok(());
    };
    let fits = placement::judge(&demand, &candidates, overcommit).into_iter().filter(|v| v.fit.is_ok());
    let elsewhere: Vec<String> = fits.map(|v| v.node.to_string()).collect();
    let hint = match elsewhere.is_empty() {
        true => "no other node has room for it either; ask for less, or add a node".to_owned(),
        false => format!("it would fit on {}", elsewhere.join(", ")),
    };
    Err(Refusal::new(Reason::NoCapacity, format!("{} {why}", row.node)).hint(hint))
}
