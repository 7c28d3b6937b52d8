//! SetPower: a new generation of the placement that says started, stopped or restarted once more; then a stream until
//! the node has said so. It must never change anything that its node cannot be told now.

use containarium_proto::{
    error::{Reason, Refusal},
    names::Username,
    spec::{Desired, Observed},
};

use super::{
    lifetime::refuse_expired,
    moves::refuse_moving,
    parse::{Action, Power},
    patience::until_heard,
    refuse::{no_such_user, refuse_deleting},
    settle::Settled,
    view,
};
use crate::{
    availability::Availability,
    node::live::{self, Sights, availability},
    reign::Reign,
    store::{EventKind, Held, PlacementRow},
};

/// Records the change, if it is one, and gives what to wait for.
pub(super) async fn set(reign: &Reign, power: &Power) -> Result<Settled, Refusal> {
    reign.first_round().await;
    until_heard(reign, &power.owner).await?;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(&power.owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(power.owner.as_str()))?;
    let row = &held.placement;
    refuse_deleting(&mut tx, &held, "there is nothing left to start or stop; see 'containarium list'").await?;
    match power.action {
        Action::Start | Action::Restart => refuse_expired(&held, &power.owner)?,
        Action::Stop => {}
    }
    let sights = reign.sights();
    let now = live::observed(&held, &sights);
    if is_asked_for(power, &held, &now) {
        return Ok(goal(row, &power.owner));
    }
    refuse_moving(&held)?;
    refuse_away(&held, &sights)?;
    let next = next_order(power, row);
    tx.change_order(&next).await?;
    let kind = match power.action {
        Action::Start => EventKind::ContainerStarting,
        Action::Stop => EventKind::ContainerStopping,
        Action::Restart => EventKind::ContainerRestarting,
    };
    tx.note(&power.owner.container_name(), kind, &format!("on {}", row.node)).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(goal(&next, &power.owner))
}

/// Whether it is so already, or on its way there.
fn is_asked_for(power: &Power, held: &Held, now: &Observed) -> bool {
    let row = &held.placement;
    if row.change_request == Some(power.request) {
        return true;
    }
    // A move stops it for its last pass, and starts it again whatever was asked for meanwhile.
    if held.moving.is_some() {
        return false;
    }
    // Whatever was changed, it may be this: the order is given once more.
    if !row.drift.is_empty() && matches!(now, Observed::Running | Observed::Stopped) {
        return false;
    }
    let on_its_way = matches!(now, Observed::Unknown | Observed::Converging { .. });
    match power.action {
        Action::Start => row.desired == Desired::Running && (on_its_way || *now == Observed::Running),
        Action::Stop => row.desired == Desired::Stopped && (on_its_way || *now == Observed::Stopped),
        Action::Restart => false,
    }
}

pub(super) fn refuse_away(held: &Held, sights: &Sights) -> Result<(), Refusal> {
    let node = &held.placement.node;
    match availability(node, sights) {
        Availability::Online => Ok(()),
        Availability::Preempting => {
            let message = format!("{node} is about to be taken away by its cloud");
            Err(Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it is back"))
        }
        Availability::Unknown | Availability::Suspect | Availability::Offline => {
            let message = format!("{node} does not answer, last heard {}", view::last_heard(sights.get(node)));
            Err(Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it is back"))
        }
    }
}

fn next_order(power: &Power, row: &PlacementRow) -> PlacementRow {
    let mut next =
        PlacementRow { generation: row.generation.next(), change_request: Some(power.request), ..row.clone() };
    match power.action {
        Action::Start => next.desired = Desired::Running,
        Action::Stop => next.desired = Desired::Stopped,
        Action::Restart => {
            next.desired = Desired::Running;
            next.spec.restarts += 1;
        }
    }
    next
}

fn goal(row: &PlacementRow, owner: &Username) -> Settled {
    let word = if row.desired == Desired::Stopped { "stopped" } else { "running" };
    Settled::new(row, format!("{} is {word}", owner.container_name()))
}

#[cfg(test)]
mod tests {
    use containarium_proto::ids::RequestId;

    use super::*;
    use crate::store::{MovePhase, Moving, testing::held};

    #[test]
    fn what_a_move_has_stopped_is_not_stopped_for_its_user() {
        let power = |action| Power { request: RequestId::generate(), owner: "alice".parse().unwrap(), action };
        let mut alice = held("alice", "jump-1", 2);
        alice.placement.desired = Desired::Stopped;
        let asked = |alice: &Held, action| is_asked_for(&power(action), alice, &Observed::Stopped);
        assert!(asked(&alice, Action::Stop) && !asked(&alice, Action::Start));
        let (source, target) = ("jump-1".parse().unwrap(), "jump-2".parse().unwrap());
        alice.moving = Some(Moving { phase: MovePhase::Finishing, source, target, started_at: 1 });
        assert!(!asked(&alice, Action::Stop) && !asked(&alice, Action::Start));
        let again = power(Action::Stop);
        alice.placement.change_request = Some(again.request);
        assert!(is_asked_for(&again, &alice, &Observed::Stopped), "it is the same request");
    }
}
