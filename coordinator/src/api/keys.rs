//! ChangeKeys: who may log in. One transaction that changes the keys, gives every placement of the container its next
//! order and the fleet its next access revision; the rest is the drivers' usual work.

use containarium_proto::{
    error::{Reason, Refusal},
    keys::{Key, KeySet},
    names::Username,
};

use super::{
    parse::KeyChange,
    refuse::{no_such_user, refuse_deleting},
    settle::Settled,
    view,
};
use crate::{
    reign::Reign,
    sharing,
    store::{EventKind, PlacementRow},
};

/// Records the change, if it is one, and gives what to wait for. A node that is away gets it when it is back.
pub(super) async fn change(reign: &Reign, change: &KeyChange) -> Result<Settled, Refusal> {
    reign.first_round().await;
    let owner = &change.owner;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let held = view::principal(rows.clone()).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    let row = &held.placement;
    refuse_deleting(&mut tx, &held, "there is nothing left to log in to; see 'containarium list'").await?;
    if row.change_request == Some(change.request) {
        return Ok(goal(row, owner));
    }
    let before = &held.container.keys;
    let after = wanted(change, before)?;
    if after == *before {
        return Ok(goal(row, owner));
    }
    let access_revision = tx.bump_access().await?;
    tx.change_keys(held.container.id, &after).await?;
    // An order carries the keys, so its content changed: a new generation everywhere (I4), as a guest too.
    let ordered = sharing::order_anew(&mut tx, &rows, access_revision, Some(change.request)).await?;
    sharing::follow_keys(&mut tx, owner, &after, access_revision).await?;
    tx.note(&owner.container_name(), EventKind::ContainerKeys, &difference(before, &after)).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(goal(ordered.as_ref().unwrap_or(row), owner))
}

fn goal(row: &PlacementRow, owner: &Username) -> Settled {
    let done = format!("{}'s keys are in place", owner.container_name());
    Settled::new(row, done).with_access(row.access_revision)
}

fn wanted(change: &KeyChange, before: &KeySet) -> Result<KeySet, Refusal> {
    let owner = &change.owner;
    let kept = if change.replace { change.add.clone() } else { with(before, &change.add)? };
    let after = kept.without(&change.remove).map_err(|unknown| {
        Refusal::new(Reason::NotFound, format!("{owner} has no key {unknown}"))
            .hint(format!("see 'containarium key list {owner}'"))
    })?;
    if after.is_empty() && !change.force {
        let message = format!("this is the last key of {owner}: nobody could log in any more");
        return Err(Refusal::new(Reason::Refused, message).hint("add another key first, or give --force"));
    }
    Ok(after)
}

fn with(before: &KeySet, add: &KeySet) -> Result<KeySet, Refusal> {
    before.with(add).map_err(|error| Refusal::new(Reason::InvalidArgument, format!("ssh key: {error}")))
}

/// "added SHA256:...; removed SHA256:..."
fn difference(before: &KeySet, after: &KeySet) -> String {
    let beyond = |these: &KeySet, those: &KeySet| -> Vec<String> {
        these.iter().filter(|key| those.iter().all(|other| other != *key)).map(Key::fingerprint).collect()
    };
    let (added, removed) = (beyond(after, before), beyond(before, after));
    let parts = [("added", added), ("removed", removed)].into_iter().filter(|(_, keys)| !keys.is_empty());
    parts.map(|(word, keys)| format!("{word} {}", keys.join(", "))).collect::<Vec<_>>().join("; ")
}
