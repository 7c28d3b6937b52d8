//! The invariant checker of the simulated fleet (I1, I2, I5, I6, I11): holds what the coordinator lists against what
//! every host really has. One function, used after every scenario.

use std::collections::{BTreeMap, BTreeSet};

use containarium_agent::host::sim::SimInstance;
use containarium_proto::{
    convert,
    keys::{Key, KeySet},
    v1,
};

use crate::fleet::{Fleet, eventually};

/// Waits until nothing is under way and nothing is wrong.
///
/// # Panics
/// Something stays wrong; says what.
pub fn settle(fleet: &Fleet) {
    let mut last = Vec::new();
    let started = std::time::Instant::now();
    eventually("the fleet agrees with itself", || {
        last = violations(fleet);
        assert!(started.elapsed().as_secs() < 55, "{last:#?}");
        last.is_empty()
    });
}

/// Everything that contradicts the invariants now.
#[must_use]
pub fn violations(fleet: &Fleet) -> Vec<String> {
    let listed = fleet.list();
    let users: BTreeSet<String> = listed.iter().map(|c| c.user.clone()).collect();
    let mut wrong = Vec::new();
    if users.len() != listed.len() {
        wrong.push(format!("{} containers of {} users", listed.len(), users.len()));
    }
    let mut addresses = BTreeMap::new();
    for container in &listed {
        if !matches!(container.phase(), v1::Phase::Running | v1::Phase::Stopped) {
            wrong.push(format!("{} is {:?}: {}", container.name, container.phase(), container.detail));
        }
        if let Some(other) = addresses.insert(container.address.clone(), &container.name) {
            wrong.push(format!("{} and {other} share {}", container.name, container.address));
        }
    }
    for node in &fleet.nodes {
        let here: BTreeMap<&String, &v1::Container> =
            listed.iter().filter(|c| c.node == node.name).map(|c| (&c.name, c)).collect();
        let instances = node.host.instances_now();
        for (name, instance) in &instances {
            let Some(stamp) = &instance.seen.stamp else { continue };
            match here.get(name) {
                None => wrong.push(format!("{}: {name} is an orphan", node.name)),
                Some(c) if c.id != stamp.order.id.to_string() || c.address != stamp.order.address.to_string() => {
                    wrong.push(format!("{}: {name} is not the container that is listed", node.name));
                }
                Some(c) => wrong.extend(differences(&node.name, c, instance, &listed)),
            }
        }
        for name in here.keys().filter(|name| !instances.contains_key(**name)) {
            wrong.push(format!("{}: {name} is missing", node.name));
        }
        let promised: u64 = here.values().filter_map(|c| c.spec.as_ref()).map(|spec| spec.memory_bytes).sum();
        let reserved = fleet.node(&node.name).reserved_memory_bytes;
        if reserved != promised {
            wrong.push(format!("{}: {reserved} bytes of memory reserved, {promised} promised", node.name));
        }
        let accounts: BTreeSet<String> = node.host.accounts_now().into_keys().collect();
        if accounts != users {
            wrong.push(format!("{}: accounts {accounts:?}, users {users:?}", node.name));
        }
        for (name, account) in node.host.accounts_now() {
            let address = listed.iter().find(|c| c.user == name).map(|c| c.address.clone());
            let keys = listed.iter().find(|c| c.user == name).map(fingerprints).unwrap_or_default();
            if fingerprints_of(&account.ssh_keys) != keys {
                wrong.push(format!("{}: account {name} lets in other keys than {keys:?}", node.name));
            }
            if account.permit.map(|permit| permit.to_string()) != address {
                wrong.push(format!("{}: {name} may reach {:?}, lives at {address:?}", node.name, account.permit));
            }
            let mut reaches: Vec<_> =
                account.shared.iter().map(|permit| (permit.container.clone(), permit.address.to_string())).collect();
            reaches.sort_unstable();
            let shared = listed.iter().filter(|c| c.shares.iter().any(|share| share.with == name));
            let shared: Vec<_> = shared.map(|c| (c.name.clone(), c.address.clone())).collect();
            if reaches != shared {
                wrong.push(format!("{}: {name} may reach {reaches:?}, is let into {shared:?}", node.name));
            }
        }
    }
    wrong
}

fn fingerprints(container: &v1::Container) -> Vec<String> {
    container.ssh_keys.iter().map(|key| key.fingerprint.clone()).collect()
}

fn fingerprints_of(lines: &[String]) -> Vec<String> {
    let keys = KeySet::from_recorded(lines.iter().map(String::as_str)).expect("keys that were accepted");
    keys.iter().map(Key::fingerprint).collect()
}

/// What an instance is, beside what is listed of it.
fn differences(node: &str, listed: &v1::Container, instance: &SimInstance, all: &[v1::Container]) -> Vec<String> {
    let Some(stamp) = &instance.seen.stamp else { return Vec::new() };
    let order = &stamp.order;
    let mut wrong = Vec::new();
    if order.generation.0 != listed.generation {
        wrong.push(format!("{node}: {} is at generation {}, not {}", listed.name, order.generation, listed.generation));
    }
    if Some(convert::spec_to_wire(&order.spec)) != listed.spec {
        wrong.push(format!("{node}: {} has other limits than listed", listed.name));
    }
    // A stopped one gets its keys at its next start.
    let inside: BTreeMap<_, _> =
        instance.logins.iter().map(|(user, keys)| (user.clone(), fingerprints_of(keys))).collect();
    let keys = |user: &str| all.iter().find(|c| c.user == user).map(fingerprints).unwrap_or_default();
    let users = listed.shares.iter().map(|share| &share.with).chain([&listed.user]);
    let ordered: BTreeMap<_, _> = users.map(|user| (user.clone(), keys(user))).collect();
    if listed.phase() == v1::Phase::Running && inside != ordered {
        wrong.push(format!("{node}: {} lets in {inside:?}, not {ordered:?}", listed.name));
    }
    let roots = listed.shares.iter().filter(|share| share.sudo).map(|share| &share.with).chain([&listed.user]);
    if listed.phase() == v1::Phase::Running && instance.sudoers != roots.cloned().collect() {
        wrong.push(format!("{node}: {} may become root: {:?}", listed.name, instance.sudoers));
    }
    wrong
}
