//! ShareContainer: who else may use a container. One transaction that changes the list, gives every placement of the
//! container its next order and the fleet its next access revision; the rest is the drivers' usual work.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::RequestId,
    names::Username,
    node::Guest,
    spec::Desired,
    v1,
};

use super::{
    parse,
    refuse::{field, no_such_user},
    settle::Settled,
    view,
};
use crate::{
    reign::Reign,
    sharing::{self, MOST_GUESTS},
    store::{EventKind, Held, PlacementRow, WriteTx},
    version::refuse_older,
};

/// A change of who may use a container that could succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    request: RequestId,
    owner: Username,
    with: Username,
    wish: Wish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    LetIn { sudo: bool },
    Revoke,
}

pub(super) fn parse(request: &v1::ShareContainerRequest) -> Result<Share, Refusal> {
    let (owner, with) = (parse::user(&request.user)?, parse::user(&request.with)?);
    if owner == with {
        return Err(field(format!("{owner} is the owner already"), "share it with another user"));
    }
    let wish = match (request.revoke, request.sudo) {
        (true, true) => return Err(field("revoke and sudo contradict each other", "give one of them")),
        (true, false) => Wish::Revoke,
        (false, sudo) => Wish::LetIn { sudo },
    };
    Ok(Share { request: parse::request_id(&request.request_id)?, owner, with, wish })
}

/// Records the change, if it is one, and gives what to wait for. A node that is away gets it when it is back.
pub(super) async fn change(reign: &Reign, share: &Share) -> Result<Settled, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(&share.owner).await?;
    let held = principal(rows.clone(), &share.owner)?;
    if held.placement.change_request == Some(share.request) {
        return Ok(share.goal(&held.placement));
    }
    let before = &held.container.guests;
    let after = match share.wish {
        Wish::LetIn { sudo } => {
            let keys = principal(tx.reader().of_owner(&share.with).await?, &share.with)?.container.keys;
            sharing::with(before, Guest { user: share.with.clone(), sudo, keys })
        }
        Wish::Revoke if before.iter().all(|guest| guest.user != share.with) => {
            let message = format!("{}'s container is not shared with {}", share.owner, share.with);
            let hint = format!("see 'containarium share list {}'", share.owner);
            return Err(Refusal::new(Reason::NotFound, message).hint(hint));
        }
        Wish::Revoke => sharing::without(before, &share.with),
    };
    if after == *before {
        return Ok(share.goal(&held.placement));
    }
    if after.len() > MOST_GUESTS {
        let message = format!("{}'s container is shared with {MOST_GUESTS} users already", share.owner);
        return Err(Refusal::new(Reason::Refused, message).hint("take the share of another one away first"));
    }
    if !after.is_empty() {
        refuse_older(&held.placement.node, "shares", &reign.sights())?;
    }
    let home = record(&mut tx, share, (&rows, &held), &after).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(share.goal(&home))
}

async fn record(
    tx: &mut WriteTx,
    share: &Share,
    (rows, held): (&[Held], &Held),
    after: &[Guest],
) -> Result<PlacementRow, Refusal> {
    let revision = tx.bump_access().await?;
    tx.change_guests(held.container.id, after).await?;
    let home = sharing::order_anew(tx, rows, revision, Some(share.request)).await?;
    let message = match share.wish {
        Wish::LetIn { sudo: true } => format!("with {}, who may become root", share.with),
        Wish::LetIn { sudo: false } => format!("with {}", share.with),
        Wish::Revoke => format!("no longer with {}", share.with),
    };
    tx.note(&share.owner.container_name(), EventKind::ContainerShared, &message).await?;
    Ok(home.unwrap_or_else(|| held.placement.clone()))
}

fn principal(rows: Vec<Held>, owner: &Username) -> Result<Held, Refusal> {
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    if held.placement.desired == Desired::Absent {
        return Err(
            Refusal::new(Reason::Busy, format!("{owner}'s container is being deleted")).hint("see 'containarium list'")
        );
    }
    Ok(held)
}

impl Share {
    fn goal(&self, row: &PlacementRow) -> Settled {
        let (name, with) = (self.owner.container_name(), &self.with);
        let done = match self.wish {
            Wish::LetIn { sudo: true } => format!("{with} may use {name}, and become root in it"),
            Wish::LetIn { sudo: false } => format!("{with} may use {name}"),
            Wish::Revoke => format!("{with} may no longer use {name}"),
        };
        Settled::new(row, done).with_access_of(with.clone(), row.access_revision)
    }
}

/// Who else may use one container, as messages.
pub(super) fn of(held: &Held) -> Vec<v1::Share> {
    let owner = &held.container.owner;
    let one = |guest: &Guest| v1::Share {
        owner: owner.to_string(),
        container: owner.container_name(),
        with: guest.user.to_string(),
        sudo: guest.sudo,
    };
    held.container.guests.iter().map(one).collect()
}

/// What others share with one user. `shared`: every container that has guests, with every placement.
pub(super) fn with_user(user: &Username, shared: &[Held]) -> Vec<v1::Share> {
    let homes = shared.iter().filter(|held| held.placement.is_home());
    homes.flat_map(of).filter(|share| share.with == user.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_two_people_and_one_wish() {
        let good = v1::ShareContainerRequest {
            user: "alice".into(),
            request_id: "0192f0c1-2345-7abc-8def-0123456789ab".into(),
            with: "bob".into(),
            sudo: true,
            revoke: false,
        };
        assert_eq!(parse(&good).unwrap().wish, Wish::LetIn { sudo: true });
        type Spoil = fn(&mut v1::ShareContainerRequest);
        let cases: [(Spoil, &str); 5] = [
            (|r| r.with = "alice".into(), "owner already"),
            (|r| r.with = "root".into(), "reserved"),
            (|r| r.user = "../x".into(), "user name"),
            (|r| r.revoke = true, "contradict"),
            (|r| r.request_id = "x".into(), "request id"),
        ];
        for (spoil, word) in cases {
            let mut bad = good.clone();
            spoil(&mut bad);
            let refusal = parse(&bad).unwrap_err();
            assert!(refusal.message.contains(word) && refusal.hint.is_some(), "{refusal:?}");
        }
    }
}
