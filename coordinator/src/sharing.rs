//! Who else may use a container: pure changes of a list, and the writes that follow wherever such a list, or a guest's
//! keys, change. Each is part of its caller's transaction, with the next order of every placement (I4), so a share is as
//! safe from a crash as a key. It must never tell a node anything: the drivers do.

use containarium_proto::{
    ids::{AccessRevision, RequestId},
    keys::KeySet,
    names::Username,
    node::Guest,
    spec::Desired,
};

use crate::store::{EventKind, Held, PlacementRow, StoreError, WriteTx};

/// Bounds what one container's order holds, and how many keys its helper writes.
pub(crate) const MOST_GUESTS: usize = 50;

/// `guests` with this one, by name; or with what has changed of it.
pub(crate) fn with(guests: &[Guest], guest: Guest) -> Vec<Guest> {
    let mut all = without(guests, &guest.user);
    all.push(guest);
    all.sort_by(|a, b| a.user.cmp(&b.user));
    all
}

/// `guests` without this one.
pub(crate) fn without(guests: &[Guest], user: &Username) -> Vec<Guest> {
    guests.iter().filter(|guest| guest.user != *user).cloned().collect()
}

/// Gives every placement of a container its next order; gives its home's. `rows`: all of one container.
pub(crate) async fn order_anew(
    tx: &mut WriteTx,
    rows: &[Held],
    access_revision: AccessRevision,
    change_request: Option<RequestId>,
) -> Result<Option<PlacementRow>, StoreError> {
    let mut home = None;
    for Held { placement, .. } in rows {
        let generation = placement.generation.next();
        let change_request = change_request.or(placement.change_request);
        let next = PlacementRow { generation, access_revision, change_request, ..placement.clone() };
        tx.change_order(&next).await?;
        if next.is_home() {
            home = Some(next);
        }
    }
    Ok(home)
}

/// A user's keys have changed: so have they wherever they are a guest.
pub(crate) async fn follow_keys(
    tx: &mut WriteTx,
    user: &Username,
    keys: &KeySet,
    revision: AccessRevision,
) -> Result<(), StoreError> {
    for rows in hosts_of(tx, user).await? {
        let container = &rows[0].container;
        let Some(guest) = container.guests.iter().find(|guest| guest.user == *user) else { continue };
        let guests = with(&container.guests, Guest { keys: keys.clone(), ..guest.clone() });
        tx.change_guests(container.id, &guests).await?;
        order_anew(tx, &rows, revision, None).await?;
    }
    Ok(())
}

/// A user's container goes, and the user with it: they are nobody's guest any more.
pub(crate) async fn leave(tx: &mut WriteTx, user: &Username, revision: AccessRevision) -> Result<(), StoreError> {
    for rows in hosts_of(tx, user).await? {
        let container = &rows[0].container;
        tx.change_guests(container.id, &without(&container.guests, user)).await?;
        order_anew(tx, &rows, revision, None).await?;
        let message = format!("no longer with {user}, whose own container goes");
        tx.note(&container.owner.container_name(), EventKind::ContainerShared, &message).await?;
    }
    Ok(())
}

/// All rows of every container that is shared with a user, but those that are on their way out.
async fn hosts_of(tx: &mut WriteTx, user: &Username) -> Result<Vec<Vec<Held>>, StoreError> {
    let mut hosts: Vec<Vec<Held>> = Vec::new();
    for held in tx.reader().shared().await? {
        if !held.container.guests.iter().any(|guest| guest.user == *user) {
            continue;
        }
        match hosts.last_mut().filter(|rows| rows[0].container.id == held.container.id) {
            Some(rows) => rows.push(held),
            None => hosts.push(vec![held]),
        }
    }
    hosts.retain(|rows| rows.iter().any(|held| held.placement.desired != Desired::Absent));
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_there_once_and_the_list_has_one_order() {
        let guest =
            |name: &str, sudo| Guest { user: name.parse().unwrap(), sudo, keys: KeySet::from_recorded([]).unwrap() };
        let one = with(&[], guest("carol", false));
        let two = with(&one, guest("bob", false));
        assert_eq!(two, [guest("bob", false), guest("carol", false)]);
        assert_eq!(with(&two, guest("bob", true)), [guest("bob", true), guest("carol", false)]);
        assert_eq!(without(&two, &"bob".parse().unwrap()), one);
        assert_eq!(without(&one, &"bob".parse().unwrap()), one);
    }
}
