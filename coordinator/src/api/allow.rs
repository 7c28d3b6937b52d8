//! SetAllowFrom: whose containers may open connections to a user's. It holds when it is written: every node is told by its
//! driver, one that is away when it is back, and until then lets nothing more through than before.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::ContainerId,
    names::Username,
    spec::Desired,
    v1,
};

use super::{
    parse,
    refuse::{field, no_such_user},
    view,
};
use crate::{
    reign::Reign,
    store::{EventKind, StoreError, WriteTx},
};

/// So many containers at most may reach one: whoever needs more wants a service, not a colleague.
const MOST: usize = 64;

/// Whom a container lets in; each once.
pub(super) fn parse(owner: &Username, names: &[String]) -> Result<Vec<Username>, Refusal> {
    let mut from = names.iter().map(|name| parse::user(name)).collect::<Result<Vec<_>, _>>()?;
    from.sort();
    from.dedup();
    if from.contains(owner) {
        return Err(field(format!("{owner}'s container reaches itself already"), "name other users"));
    }
    if from.len() > MOST {
        let message = format!("{} users are more than the {MOST} that may be let into one container", from.len());
        return Err(field(message, "name fewer"));
    }
    Ok(from)
}

/// The containers of these users; all of them must have one.
pub(super) async fn containers(tx: &mut WriteTx, from: &[Username]) -> Result<Vec<ContainerId>, Refusal> {
    let mut ids = Vec::with_capacity(from.len());
    for user in from {
        let held = view::principal(tx.reader().of_owner(user).await?).pop();
        match held.filter(|held| held.placement.desired != Desired::Absent) {
            Some(held) => ids.push(held.container.id),
            None => {
                let message = format!("{user} has no container that could be let in: nothing was changed");
                return Err(Refusal::new(Reason::NotFound, message).hint("see 'containarium list'"));
            }
        }
    }
    Ok(ids)
}

pub(super) async fn set(reign: &Reign, request: &v1::SetAllowFromRequest) -> Result<v1::SetAllowFromResponse, Refusal> {
    let owner = parse::user(&request.user)?;
    let from = parse(&owner, &request.allow_from)?;
    let mut tx = reign.write().await?;
    let held = view::principal(tx.reader().of_owner(&owner).await?).pop();
    let held = held.ok_or_else(|| no_such_user(owner.as_str()))?;
    if held.placement.desired == Desired::Absent {
        return Err(
            Refusal::new(Reason::Busy, format!("{owner}'s container is being deleted")).hint("see 'containarium list'")
        );
    }
    let ids = containers(&mut tx, &from).await?;
    if held.container.allow_from != from {
        tx.set_allow_from(held.container.id, &ids).await?;
        note(&mut tx, &owner, &from).await?;
        tx.commit().await?;
        reign.wake_all();
    }
    Ok(v1::SetAllowFromResponse { allow_from: from.iter().map(ToString::to_string).collect() })
}

pub(super) async fn note(tx: &mut WriteTx, owner: &Username, from: &[Username]) -> Result<(), StoreError> {
    let names: Vec<&str> = from.iter().map(Username::as_str).collect();
    let message = match names.is_empty() {
        true => "no other container may reach it".to_owned(),
        false => format!("the containers of {} may reach it", names.join(", ")),
    };
    tx.note(&owner.container_name(), EventKind::ContainerAllowFrom, &message).await
}
