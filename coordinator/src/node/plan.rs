//! What to tell a node, and what to believe of what it tells: pure decisions over the node's rows and its words. They
//! must never order anything destroyed that the database does not want absent (I5).

use std::collections::BTreeMap;

use containarium_proto::{
    ids::{AccessRevision, ContainerId},
    level,
    node::{ContainerReport, Licence, Order},
    spec::{Desired, Observed},
};

use super::live::{Sight, Stray};
use crate::store::{Held, PlacementRow};

/// An order that the node lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) order: Order,
    /// The user's disk is there (I8): if the instance is not, that is a loss, and no reason to make an empty one.
    pub(crate) must_exist: bool,
    /// What it may do beyond its content.
    pub(crate) licence: Option<Licence>,
}

impl Lacking {
    /// What its agent must understand.
    pub(crate) fn level(&self) -> u32 {
        level::needed(&self.order, self.licence.as_ref())
    }
}

/// The orders that the node lacks, oldest container first.
pub(crate) fn orders(rows: &[Held], reported: &BTreeMap<ContainerId, ContainerReport>) -> Vec<Lacking> {
    let lacking = rows.iter().filter(|held| lacks(&held.placement, reported.get(&held.placement.container)));
    let lacking = lacking.map(|held| (order(held), &held.placement));
    let given = lacking.map(|(order, row)| Lacking {
        order,
        must_exist: row.ever_ran && row.undo.is_none(),
        licence: row.licence.clone(),
    });
    given.collect()
}

fn lacks(row: &PlacementRow, report: Option<&ContainerReport>) -> bool {
    match report {
        // I5: missing is not absent; the same order again is a no-op.
        None => true,
        Some(report) if report.generation < row.generation => true,
        // The agent is at our generation. Only a deletion is asked about again: its rows wait for the answer.
        Some(report) if report.generation == row.generation => {
            (row.desired == Desired::Absent
                && matches!(report.observed, Observed::Running | Observed::Stopped | Observed::Unknown))
                // It may start: it is the home still, or the order would be another one.
                || report.observed == Observed::AwaitingWord
        }
        // The agent is ahead of us: our database is older than the fleet. It would refuse us, rightly (I4).
        Some(_) => false,
    }
}

pub(crate) fn order(held: &Held) -> Order {
    let (container, placement) = (&held.container, &held.placement);
    Order {
        id: container.id,
        name: container.owner.container_name(),
        owner: container.owner.clone(),
        generation: placement.generation,
        desired: placement.desired,
        spec: placement.spec.clone(),
        address: placement.address,
        keys: container.keys.clone(),
        copy_pass: placement.role.pass(),
        origin: placement.origin.clone(),
        guests: container.guests.clone(),
    }
}

/// News that must be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A settled state of the generation that is wanted.
    Settled { held: Box<Held>, observed: Observed },
    /// Something was changed behind our back, or is so no longer.
    Drifted { held: Box<Held>, drift: Vec<String> },
    /// The node confirmed that nothing is left (I7).
    Gone { held: Box<Held> },
}

/// What of a report is news. Steps are not: they are for watching, and the next report says them again.
pub(crate) fn findings<'a>(rows: &[Held], seen: impl IntoIterator<Item = &'a ContainerReport>) -> Vec<Finding> {
    let by_id: BTreeMap<_, _> = rows.iter().map(|held| (held.placement.container, held)).collect();
    let mut findings = Vec::new();
    for report in seen {
        let Some(held) = by_id.get(&report.id) else { continue };
        let row = &held.placement;
        if report.generation != row.generation {
            continue;
        }
        let held = || Box::new((*held).clone());
        match &report.observed {
            Observed::Absent if row.desired == Desired::Absent => findings.push(Finding::Gone { held: held() }),
            Observed::Unknown | Observed::Converging { .. } | Observed::AwaitingCopy | Observed::AwaitingWord => {}
            settled @ (Observed::Absent | Observed::Running | Observed::Stopped | Observed::Failed { .. }) => {
                if row.observed_now() != settled {
                    findings.push(Finding::Settled { held: held(), observed: settled.clone() });
                }
                if matches!(settled, Observed::Running | Observed::Stopped) && row.drift != report.drift {
                    findings.push(Finding::Drifted { held: held(), drift: report.drift.clone() });
                }
            }
        }
    }
    findings
}

/// Containers of which the node knows a newer generation than we do: a database restored from a backup.
pub(crate) fn ahead_of_us<'a>(rows: &'a [Held], reported: &BTreeMap<ContainerId, ContainerReport>) -> Vec<&'a Held> {
    let ahead = |held: &&Held| {
        reported.get(&held.placement.container).is_some_and(|r| r.generation > held.placement.generation)
    };
    rows.iter().filter(ahead).collect()
}

/// Containers at rest there that are not in our rows. One in the making or going is no stray: its row may be younger or
/// older than the report.
pub(crate) fn strays<'a>(rows: &[Held], reported: impl IntoIterator<Item = &'a ContainerReport>) -> Vec<Stray> {
    let unknown = |report: &&ContainerReport| {
        matches!(report.observed, Observed::Running | Observed::Stopped)
            && rows.iter().all(|held| held.placement.container != report.id)
    };
    let stray = |r: &ContainerReport| Stray { id: r.id, name: r.name.clone(), claim: r.claim.clone() };
    let mut strays: Vec<_> = reported.into_iter().filter(unknown).map(stray).collect();
    strays.sort_by_key(|stray| stray.id);
    strays
}

/// Whether the node must be given the set of accounts.
pub(crate) fn needs_accounts(wanted: AccessRevision, sight: &Sight) -> bool {
    let access = &sight.access;
    if access.tried != wanted || !access.failures.is_empty() {
        return true;
    }
    // An agent that started again has forgotten what it applied; a report from before our last call has not seen it.
    sight.report.as_ref().is_none_or(|report| report.incarnation != access.incarnation)
}

#[cfg(test)]
mod tests;
