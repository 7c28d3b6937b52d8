//! What placement reasons about, put together from rows and reports. Pure; it must never choose.

use std::collections::BTreeMap;

use containarium_proto::names::NodeName;
use ipnet::Ipv4Net;

use crate::{
    availability::Availability,
    node::live::Sights,
    placement::{Candidate, Verdict},
    store::{Claim, NodeRow},
};

/// Rows, promises and reports as candidates.
pub(crate) fn candidates(nodes: &[NodeRow], claims: &[Claim], sights: &Sights) -> Vec<Candidate> {
    let mut found: BTreeMap<&NodeName, Candidate> = BTreeMap::new();
    let all_apart = are_apart(nodes);
    for row in nodes {
        let sight = sights.get(&row.name);
        let report = sight.and_then(|s| s.report.as_ref());
        let candidate = Candidate {
            name: row.name.clone(),
            availability: sight.map_or(Availability::Unknown, |s| s.availability),
            policy: row.policy,
            problem: if all_apart { None } else { overlap(row, nodes) },
            capacity: report.map(|r| r.capacity).or(row.capacity),
            network: row.network,
            images: report.map_or_else(|| row.images.clone(), |r| r.images.clone()),
            reserved: Default::default(),
            // What the database has forgotten has its address all the same.
            addresses: sight.into_iter().flat_map(|s| &s.strays).filter_map(|s| Some(s.claim.as_ref()?.1)).collect(),
            settings: row.settings,
            labels: row.labels.clone(),
        };
        found.insert(&row.name, candidate);
    }
    for claim in claims {
        if let Some(candidate) = found.get_mut(&claim.node) {
            candidate.reserved = candidate.reserved.plus(claim.reserved);
            candidate.addresses.extend(&claim.addresses);
        }
    }
    found.into_values().collect()
}

/// Whether no two networks overlap, as it should be: found out without comparing each with each.
fn are_apart(nodes: &[NodeRow]) -> bool {
    let mut networks: Vec<_> = nodes.iter().filter_map(|node| node.network).map(|(cidr, _)| cidr).collect();
    networks.sort_by_key(Ipv4Net::network);
    networks.windows(2).all(|pair| pair[0].broadcast() < pair[1].network())
}

/// Whether a node's network overlaps that of a node added before it: routes to one of them would be wrong. The older
/// one keeps its network, since users' containers may live in it.
pub(crate) fn overlap(node: &NodeRow, nodes: &[NodeRow]) -> Option<String> {
    let (mine, _) = node.network?;
    let older = |other: &&NodeRow| (other.created_at, &other.name) < (node.created_at, &node.name);
    let clash = nodes.iter().filter(older).find_map(|other| {
        let (theirs, _) = other.network?;
        (mine.contains(&theirs.network()) || theirs.contains(&mine.network())).then_some((other, theirs))
    });
    clash.map(|(other, theirs)| format!("its container network {mine} overlaps {theirs} of {}", other.name))
}

/// Why no node takes it, in one line.
pub(crate) fn reasons(verdicts: &[Verdict]) -> String {
    let one = |v: &Verdict| match &v.fit {
        Ok(_) => format!("{} has room", v.node),
        Err(why) => format!("{} {why}", v.node),
    };
    verdicts.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
