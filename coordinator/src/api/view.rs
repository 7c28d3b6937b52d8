//! A container as it is shown: its rows and what its node last said, put together. Pure.

use std::collections::BTreeMap;

use crate::{
    clock,
    node::live::{Sight, Sights, availability, observed},
    phase::{Phase, Seen},
    store::{Held, MovePhase, Moving},
};

/// A container with its phase.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) held: Held,
    pub(super) phase: Phase,
    pub(super) detail: String,
    /// Since when it has not been used, as its node says.
    pub(super) idle_since: Option<i64>,
}

pub(super) fn view(held: Held, sights: &Sights) -> View {
    let row = &held.placement;
    let seen = Seen {
        desired: row.desired,
        observed: &observed(&held, sights),
        ever_ran: row.ever_ran,
        node: &row.node,
        availability: availability(&row.node, sights),
        away: &last_heard(sights.get(&row.node)),
        drift: &row.drift,
    };
    let (phase, detail) = Phase::of(&seen);
    let (phase, detail) = match &held.moving {
        None => (phase, detail),
        Some(moving) => while_moving(moving, (phase, detail)),
    };
    let replication = &held.container.replication;
    let detail = match (phase, replication.as_of.filter(|_| replication.node.is_some())) {
        (Phase::Unreachable | Phase::Lost, Some(as_of)) => {
            let (user, as_of) = (&held.container.owner, clock::shown(as_of));
            format!("{detail}; 'containarium failover {user}' brings it back as it was at {as_of}")
        }
        _ => detail,
    };
    let idle_since = sights.get(&row.node).and_then(|sight| sight.idle_since(row.container, row.generation));
    View { held, phase, detail, idle_since }
}

/// It stops for the last pass of the copy, and is not `Stopped` in any sense that its user would give the word.
fn while_moving(moving: &Moving, (phase, detail): (Phase, String)) -> (Phase, String) {
    let Moving { source, target, .. } = moving;
    let (phase, doing) = match moving.phase {
        MovePhase::Copying => (phase, format!("being copied to {target} while it runs")),
        MovePhase::Stopping => (Phase::Updating, format!("stopping, to move to {target}")),
        MovePhase::Finishing => (Phase::Updating, format!("the last changes are copied to {target}")),
        MovePhase::Starting => (phase, format!("moved from {source}")),
        MovePhase::Cleaning => (phase, format!("moved from {source}, which still destroys its copy")),
        MovePhase::Cancelling => (phase, format!("its move is cancelled; {target} still destroys its copy")),
    };
    (phase, if detail.is_empty() { doing } else { format!("{doing}; {detail}") })
}

/// One row per container: its home, else a placement that is being destroyed.
pub(super) fn principal(rows: Vec<Held>) -> Vec<Held> {
    let mut by_owner: BTreeMap<String, Held> = BTreeMap::new();
    for held in rows {
        let owner = held.container.owner.to_string();
        if held.placement.is_home() || !by_owner.contains_key(&owner) {
            by_owner.insert(owner, held);
        }
    }
    by_owner.into_values().collect()
}

/// "2026-11-23 10:00:00 UTC"
pub(super) fn last_heard(sight: Option<&Sight>) -> String {
    let at = sight.and_then(|s| s.last_seen_at);
    at.map_or_else(|| "before this coordinator started".to_owned(), clock::shown)
}
