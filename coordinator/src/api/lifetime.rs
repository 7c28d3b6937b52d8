//! SetLifetime: when a container starts and stops by itself. Autostart is the node's business, so a new generation of the
//! placement; the time to live and the idle stop are ours, and hold as soon as they are written.

use std::time::Duration;

use containarium_proto::{
    error::{Reason, Refusal},
    lifetime::short,
    names::Username,
    v1,
};

use super::{
    moves::refuse_moving,
    parse::{Limit, SetLifetime},
    patience::until_heard,
    power::refuse_away,
    progress::remark,
    refuse::{no_such_user, refuse_deleting},
    render,
    resize::refuse_busy,
    settle::Settled,
    view,
};
use crate::{
    clock, lifetime,
    reign::Reign,
    snapshots,
    store::{EventKind, Held, Lifetime, PlacementRow, Ttl, WriteTx},
};

/// What is left to wait for.
pub(super) enum Outcome {
    /// Nothing: it holds.
    Done(Box<v1::Progress>),
    /// The node.
    Waiting(Settled),
}

/// Records the change, if it is one. All of it or nothing.
pub(super) async fn set(reign: &Reign, change: &SetLifetime) -> Result<Outcome, Refusal> {
    if change.autostart.is_some() {
        reign.first_round().await;
        until_heard(reign, &change.owner).await?;
    }
    let owner = &change.owner;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let mut held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&mut tx, &held, "it is too late to change its lifetime; see 'containarium list'").await?;
    let ordered = order_autostart(reign, &mut tx, &held, change).await?;
    let wanted = applied(reign, change, held.container.lifetime);
    let before = held.container.snapshots;
    let schedule = snapshots::applied(before.schedule, &change.snapshots)?;
    let changed = ordered.is_some() || wanted != held.container.lifetime || schedule != before.schedule;
    held.container.lifetime = wanted;
    held.container.snapshots.schedule = schedule;
    held.placement = ordered.unwrap_or(held.placement);
    let (row, done) = (&held.placement, format!("{}: {}", owner.container_name(), shown(&held)));
    if changed {
        tx.set_lifetime(row.container, &wanted).await?;
        tx.set_snapshotting(row.container, &held.container.snapshots).await?;
        snapshots::prune(&mut tx, &held).await?;
        tx.note(&owner.container_name(), EventKind::ContainerLifetime, &shown(&held)).await?;
        tx.commit().await?;
        reign.wake_all();
    }
    if change.autostart.is_some() {
        return Ok(Outcome::Waiting(Settled::new(row, done)));
    }
    let container = Some(render::container(&view::view(held, &reign.sights())));
    Ok(Outcome::Done(Box::new(v1::Progress { container, ..remark(done) })))
}

/// The placement's next order, if it needs one.
async fn order_autostart(
    reign: &Reign,
    tx: &mut WriteTx,
    held: &Held,
    change: &SetLifetime,
) -> Result<Option<PlacementRow>, Refusal> {
    let row = &held.placement;
    let Some(autostart) = change.autostart.filter(|on| *on != row.spec.autostart) else { return Ok(None) };
    if row.change_request == Some(change.request) {
        return Ok(None);
    }
    let sights = reign.sights();
    refuse_moving(held)?;
    refuse_away(held, &sights)?;
    refuse_busy(tx, held, &sights).await?;
    let mut next =
        PlacementRow { generation: row.generation.next(), change_request: Some(change.request), ..row.clone() };
    next.spec.autostart = autostart;
    tx.change_order(&next).await?;
    Ok(Some(next))
}

fn applied(reign: &Reign, change: &SetLifetime, before: Lifetime) -> Lifetime {
    let ttl = match change.ttl {
        None => before.ttl,
        Some(Limit::Off) => Ttl::Off,
        Some(Limit::After(ttl)) => lifetime::starting(clock::now(), ttl, &reign.config.lifetimes),
    };
    let idle_stop = match change.idle_stop {
        None => before.idle_stop,
        Some(Limit::Off) => None,
        Some(Limit::After(limit)) => Some(limit),
    };
    Lifetime { ttl, idle_stop }
}

/// "autostart on, ends at 2026-11-23 10:00:00 UTC, idle stop off"
fn shown(held: &Held) -> String {
    let Lifetime { ttl, idle_stop } = held.container.lifetime;
    let autostart = if held.placement.spec.autostart { "on" } else { "off" };
    let end = match ttl {
        Ttl::Off => "no end".to_owned(),
        Ttl::Runs { expires_at, .. } => format!("ends at {}", clock::shown(expires_at)),
        Ttl::Expired { expires_at, .. } => format!("ended at {}", clock::shown(expires_at)),
    };
    let idle = idle_stop.map_or_else(|| "off".to_owned(), |limit: Duration| format!("after {}", short(limit)));
    let snapshots = held.container.snapshots.schedule.map_or_else(|| "off".to_owned(), |schedule| schedule.to_string());
    format!("autostart {autostart}, {end}, idle stop {idle}, snapshots {snapshots}")
}

/// What has expired is started only once it has time to live again: it would be deleted under its user's hands.
pub(super) fn refuse_expired(held: &Held, owner: &Username) -> Result<(), Refusal> {
    let Ttl::Expired { expires_at, .. } = held.container.lifetime.ttl else { return Ok(()) };
    let message = format!("the time of {owner}'s container ended at {}", clock::shown(expires_at));
    Err(Refusal::new(Reason::Refused, message)
        .hint(format!("extend it first: 'containarium set {owner} --ttl 8h', or '--ttl off'")))
}
