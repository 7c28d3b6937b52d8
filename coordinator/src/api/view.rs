//! A container as it is shown: its rows and what its node last said, put together. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use containarium_proto::{names::NodeName, spec::Desired, spec::Observed};

use crate::{
    availability::Availability,
    node::live::{Sight, Sights},
    phase::{Phase, Seen},
    store::Held,
};

/// A container with its phase.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) held: Held,
    pub(super) phase: Phase,
    pub(super) detail: String,
}

/// What is known of the wanted generation: the node's own last word, else what was durably seen.
pub(super) fn observed(held: &Held, sights: &Sights) -> Observed {
    let row = &held.placement;
    let said = sights.get(&row.node).and_then(|sight| sight.observed(row.container, row.generation));
    said.unwrap_or_else(|| row.observed_now()).clone()
}

pub(super) fn availability(node: &NodeName, sights: &Sights) -> Availability {
    sights.get(node).map_or(Availability::Unknown, |sight| sight.availability)
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
    };
    let (phase, detail) = Phase::of(&seen);
    View { held, phase, detail }
}

/// One row per container: the placement that is wanted, else one that is being destroyed.
pub(super) fn principal(rows: Vec<Held>) -> Vec<Held> {
    let mut by_owner: BTreeMap<String, Held> = BTreeMap::new();
    for held in rows {
        let owner = held.container.owner.to_string();
        let wanted = held.placement.desired != Desired::Absent;
        if wanted || !by_owner.contains_key(&owner) {
            by_owner.insert(owner, held);
        }
    }
    by_owner.into_values().collect()
}

/// "2026-11-23 10:00:00 UTC"
pub(super) fn last_heard(sight: Option<&Sight>) -> String {
    let at = sight.and_then(|s| s.last_seen_at).and_then(DateTime::<Utc>::from_timestamp_millis);
    at.map_or_else(|| "before this coordinator started".to_owned(), shown)
}

/// The same of any time, in unix milliseconds.
pub(super) fn clock(unix_millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(unix_millis).map(shown).unwrap_or_default()
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
