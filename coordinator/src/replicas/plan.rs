//! The next step for the replica of one container, from its rows and what both nodes last said. Pure: a first try, a
//! repeated one and the one after kill -9 of anything are the same. It must never say that a pass is whole before the
//! node that has it did, since a failover brings back what the last whole one held.

use std::time::Duration;

use containarium_proto::{
    node::CopyPass,
    spec::{Desired, Observed, Spec},
};

use crate::{
    availability::Availability,
    moving::Side,
    store::{Policy, Replication},
};

/// Offers for one pass. One that fails this often fails on what is there of the copy, not on the way: it begins anew.
const MOST_OFFERS: u32 = 16;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Until something changes.
    Wait,
    /// Choose a node, and order the first pass.
    Place,
    /// Have the home open the container and tell the node that awaits it.
    Offer(CopyPass),
    /// Order another pass.
    NextPass(CopyPass),
    /// The pass that was ordered is whole.
    Completed(CopyPass),
    /// The home has other limits by now: the replica gets them too.
    Follow,
    /// Destroy it, for this reason.
    Drop(String),
    /// Say why it is not refreshed.
    Stuck(String),
    /// Remove what the passes have left on the home; then there is nothing left to look after.
    Withdraw,
}

/// What is known beside the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    pub(super) now: i64,
    /// The operator's word on the node of the replica.
    pub(super) policy: Policy,
    /// Made for the pass that is ordered now.
    pub(super) offers: u32,
    /// The limits of the home did not fit there a moment ago.
    pub(super) cramped: bool,
}

/// Plans one step.
pub(super) fn next(home: Side<'_>, replica: Option<Side<'_>>, around: Around) -> Step {
    let (container, moving) = (&home.held.container, home.held.moving.is_some());
    let replication = &container.replication;
    let Some(replica) = replica else {
        let settled = matches!(home.observed, Observed::Running | Observed::Stopped);
        return match replication.every {
            Some(_) if !moving && settled && home.held.placement.is_home() => Step::Place,
            None if replication.pass > 0 && !moving && home.availability == Availability::Online => Step::Withdraw,
            Some(_) | None => Step::Wait,
        };
    };
    if replica.held.placement.desired == Desired::Absent {
        return Step::Wait;
    }
    if let Some(why) = no_longer(replication, replica, around.policy) {
        return Step::Drop(why);
    }
    match replica.observed {
        // It can wait until the move is over; and what changes is copied where it lives.
        _ if moving => Step::Wait,
        Observed::AwaitingCopy => offer(home, replica, around),
        Observed::Stopped => at_rest(home, replica, around),
        Observed::Absent => Step::Drop(format!("{} lost it", replica.held.placement.node)),
        Observed::Failed { error, permanent: true } if replication.problem != *error => Step::Stuck(error.clone()),
        Observed::Unknown
        | Observed::Converging { .. }
        | Observed::Running
        | Observed::AwaitingWord
        | Observed::Failed { .. } => Step::Wait,
    }
}

fn no_longer(replication: &Replication, replica: Side<'_>, policy: Policy) -> Option<String> {
    let node = &replica.held.placement.node;
    if replication.every.is_none() {
        return Some("it is not replicated any more".to_owned());
    }
    match (policy, &replication.to) {
        (Policy::Draining, _) => Some(format!("{node} is drained")),
        (Policy::Retired, _) => Some(format!("{node} is retired")),
        (Policy::Active | Policy::Cordoned, Some(to)) if to != node => Some(format!("it is to be on {to}")),
        (Policy::Active | Policy::Cordoned, _) => None,
    }
}

fn both_answer(home: Side<'_>, replica: Side<'_>) -> bool {
    (home.availability, replica.availability) == (Availability::Online, Availability::Online)
}

fn offer(home: Side<'_>, replica: Side<'_>, around: Around) -> Step {
    let pass = replica.held.placement.role.pass().unwrap_or(CopyPass::FIRST);
    let there = matches!(home.observed, Observed::Running | Observed::Stopped);
    match both_answer(home, replica) && there {
        true if around.offers >= MOST_OFFERS => Step::Drop(format!("pass {pass} failed {MOST_OFFERS} times")),
        true => Step::Offer(pass),
        false => Step::Wait,
    }
}

fn at_rest(home: Side<'_>, replica: Side<'_>, around: Around) -> Step {
    let replication = &home.held.container.replication;
    let pass = replica.held.placement.role.pass().unwrap_or(CopyPass::FIRST);
    if replication.as_of.is_none() || replication.pass < pass.0.get() {
        return Step::Completed(pass);
    }
    if !around.cramped && limits(&home.held.placement.spec) != limits(&replica.held.placement.spec) {
        return Step::Follow;
    }
    let due = replication.every.is_some_and(|every| around.now - replication.began_at >= millis(every));
    if due && both_answer(home, replica) { Step::NextPass(pass.next()) } else { Step::Wait }
}

/// Restarts are the home's own.
pub(super) fn limits(spec: &Spec) -> Spec {
    Spec { restarts: 0, ..spec.clone() }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
