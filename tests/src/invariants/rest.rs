//! What must be true when nothing is under way (I1, I6, I11): what is listed, the rows, the instances and the accounts
//! agree, and nothing is left over. Pure, on what was seen.

use std::collections::{BTreeMap, BTreeSet};

use containarium_agent::host::sim::SimInstance;
use containarium_proto::{
    convert,
    keys::{Key, KeySet},
    node::Account,
    v1,
};

use super::{Invariant, Violation, rows::Rows};
use crate::fleet::Fleet;

/// One node, seen from both sides.
#[derive(Debug, Clone)]
pub struct SeenNode {
    /// As the coordinator lists it.
    pub listed: v1::Node,
    /// What is really there.
    pub instances: BTreeMap<String, SimInstance>,
    /// What is really there.
    pub accounts: BTreeMap<String, Account>,
}

/// A whole fleet at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As people see it.
    pub listed: Vec<v1::Container>,
    /// All of them.
    pub nodes: Vec<SeenNode>,
    /// The database; empty, and not judged, of a fleet that is not watched.
    pub rows: Rows,
}

impl Seen {
    /// Looks.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let listed = fleet.list();
        let look = |node: &crate::fleet::Node| SeenNode {
            listed: fleet.node(&node.name),
            instances: node.host.instances_now(),
            accounts: node.host.accounts_now(),
        };
        let nodes = fleet.nodes.iter().map(look).collect();
        Self { listed, nodes, rows: if fleet.watched { fleet.observer.rows() } else { Rows::default() } }
    }
}

struct Wrong(Vec<Violation>);

impl Wrong {
    fn push(&mut self, invariant: Invariant, text: String) {
        self.0.push(Violation { invariant, text });
    }

    fn unless(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.push(Invariant::I11, text());
        }
    }
}

/// Everything that is wrong with it.
#[must_use]
pub fn judge(seen: &Seen) -> Vec<Violation> {
    let mut wrong = Wrong(Vec::new());
    let users: BTreeSet<&str> = seen.listed.iter().map(|c| c.user.as_str()).collect();
    if users.len() != seen.listed.len() {
        wrong.push(Invariant::I1, format!("{} containers of {} users", seen.listed.len(), users.len()));
    }
    let mut addresses = BTreeMap::new();
    for container in &seen.listed {
        let rests = matches!(container.phase(), v1::Phase::Running | v1::Phase::Stopped);
        wrong.unless(rests, || format!("{} is {:?}: {}", container.name, container.phase(), container.detail));
        let other = addresses.insert(container.address.clone(), &container.name);
        wrong.unless(other.is_none(), || format!("{} and {other:?} share {}", container.name, container.address));
    }
    if !seen.rows.fleet.is_empty() {
        rows(&mut wrong, seen);
    }
    for node in &seen.nodes {
        instances(&mut wrong, seen, node);
        reservations(&mut wrong, seen, node);
        accounts(&mut wrong, seen, node);
    }
    copies(&mut wrong, seen);
    wrong.0
}

/// One home each, and no row of what is over.
fn rows(wrong: &mut Wrong, seen: &Seen) {
    let rows = &seen.rows;
    for (id, (source, target)) in &rows.moves {
        wrong.unless(false, || format!("{id} is still moving from {source} to {target}"));
    }
    for ((id, node), row) in &rows.placements {
        if matches!(row.role.as_str(), "replica" | "superseded") {
            continue;
        }
        wrong.unless(row.is_home(), || format!("{id} on {node} is {}, {}", row.role, row.desired));
        wrong.unless(row.licence.is_none(), || format!("{id} on {node} keeps a licence"));
        let Some(listed) = seen.listed.iter().find(|c| c.id == *id && c.node == *node) else {
            wrong.unless(false, || format!("{id} has a row on {node} and is not listed there"));
            continue;
        };
        let spec = listed.spec.clone().unwrap_or_default();
        let exact = (row.memory_bytes, row.disk_bytes) == (spec.memory_bytes, spec.disk_bytes);
        wrong.unless(exact, || format!("{id} on {node} has other reservations than limits"));
        wrong.unless(row.address == listed.address, || format!("{id} is listed at {}", listed.address));
    }
    let ids: BTreeSet<&String> = rows.placements.keys().map(|(id, _)| id).collect();
    wrong.unless(ids == rows.owners.keys().collect(), || "a container has no placement".to_owned());
}

fn instances(wrong: &mut Wrong, seen: &Seen, node: &SeenNode) {
    let name_of = &node.listed.name;
    let here: BTreeMap<&String, &v1::Container> =
        seen.listed.iter().filter(|c| c.node == *name_of).map(|c| (&c.name, c)).collect();
    let kept: BTreeMap<&String, &v1::Container> =
        seen.listed.iter().filter(|c| kept_by(c).any(|node| node == name_of)).map(|c| (&c.name, c)).collect();
    for name in kept.keys().filter(|name| !node.instances.contains_key(**name)) {
        wrong.unless(false, || format!("{name_of}: its copy of {name} is missing"));
    }
    for (name, instance) in &node.instances {
        let listed = here.get(name);
        if let (Some(stamp), Some(c)) = (&instance.seen.stamp, kept.get(name)) {
            let resting = instance.seen.power == containarium_agent::host::Power::Stopped;
            let same = c.id == stamp.order.id.to_string();
            wrong.unless(resting && same, || format!("{name_of}: its copy of {name} runs, or is another's"));
            continue;
        }
        match (&instance.seen.stamp, listed) {
            (None, None) => {}
            (None, Some(_)) => {
                wrong.push(Invariant::I6, format!("{name_of}: {name} is listed and has no stamp"));
            }
            (Some(_), None) => wrong.unless(false, || format!("{name_of}: {name} is an orphan")),
            (Some(stamp), Some(c)) => {
                let same = c.id == stamp.order.id.to_string() && c.address == stamp.order.address.to_string();
                wrong.unless(same, || format!("{name_of}: {name} is not the container that is listed"));
                for text in differences(c, instance, &seen.listed) {
                    wrong.unless(false, || format!("{name_of}: {text}"));
                }
            }
        }
    }
    for name in here.keys().filter(|name| !node.instances.contains_key(**name)) {
        wrong.unless(false, || format!("{name_of}: {name} is missing"));
    }
}

/// Who has a second copy of it: its replica, and what it was before a failover.
fn kept_by(container: &v1::Container) -> impl Iterator<Item = &String> {
    let replication = container.replication.iter();
    replication.flat_map(|r| r.old_copies.iter().chain(Some(&r.node).filter(|node| !node.is_empty())))
}

/// What an instance is, beside what is listed of it.
fn differences(listed: &v1::Container, instance: &SimInstance, all: &[v1::Container]) -> Vec<String> {
    let Some(stamp) = &instance.seen.stamp else { return Vec::new() };
    let order = &stamp.order;
    let name = &listed.name;
    let mut wrong = Vec::new();
    if order.generation.0 != listed.generation {
        wrong.push(format!("{name} is at generation {}, not {}", order.generation, listed.generation));
    }
    if Some(convert::spec_to_wire(&order.spec)) != listed.spec {
        wrong.push(format!("{name} has other limits than listed"));
    }
    let runs = instance.seen.power == containarium_agent::host::Power::Running;
    if runs != (listed.phase() == v1::Phase::Running) {
        wrong.push(format!("{name} is {:?}, listed as {:?}", instance.seen.power, listed.phase()));
    }
    // A stopped one gets its keys at its next start.
    let inside: BTreeMap<_, _> =
        instance.logins.iter().map(|(user, keys)| (user.clone(), fingerprints_of(keys))).collect();
    let keys = |user: &str| all.iter().find(|c| c.user == user).map(fingerprints).unwrap_or_default();
    let users = listed.shares.iter().map(|share| &share.with).chain([&listed.user]);
    let ordered: BTreeMap<_, _> = users.map(|user| (user.clone(), keys(user))).collect();
    if listed.phase() == v1::Phase::Running && inside != ordered {
        wrong.push(format!("{name} lets in {inside:?}, not {ordered:?}"));
    }
    let roots = listed.shares.iter().filter(|share| share.sudo).map(|share| &share.with).chain([&listed.user]);
    if listed.phase() == v1::Phase::Running && instance.sudoers != roots.cloned().collect() {
        wrong.push(format!("{name} may become root: {:?}", instance.sudoers));
    }
    if !instance.offered.is_empty() || stamp.copied.is_some() {
        wrong.push(format!("{name} has traces of a copy"));
    }
    wrong
}

fn reservations(wrong: &mut Wrong, seen: &Seen, node: &SeenNode) {
    let name = &node.listed.name;
    let has_replica = |c: &v1::Container| c.replication.as_ref().is_some_and(|replication| replication.node == *name);
    let now = seen.listed.iter().filter(|c| c.node == *name || has_replica(c)).filter_map(|c| c.spec.clone());
    // What a failover has left keeps the limits that it had.
    let old = seen.listed.iter().filter(|c| c.replication.iter().any(|r| r.old_copies.contains(name)));
    let old = old.filter_map(|c| node.instances.get(&c.name)?.seen.stamp.as_ref());
    let here: Vec<_> = now.chain(old.map(|stamp| convert::spec_to_wire(&stamp.order.spec))).collect();
    let promised: (u64, u64) = (here.iter().map(|s| s.memory_bytes).sum(), here.iter().map(|s| s.disk_bytes).sum());
    let reserved = (node.listed.reserved_memory_bytes, node.listed.reserved_disk_bytes);
    wrong.unless(reserved == promised, || {
        format!("{}: {reserved:?} bytes of memory and disk reserved, {promised:?} promised", node.listed.name)
    });
}

fn accounts(wrong: &mut Wrong, seen: &Seen, node: &SeenNode) {
    let name_of = &node.listed.name;
    let users: BTreeSet<&str> = seen.listed.iter().map(|c| c.user.as_str()).collect();
    let there: BTreeSet<&str> = node.accounts.keys().map(String::as_str).collect();
    wrong.unless(there == users, || format!("{name_of}: accounts {there:?}, users {users:?}"));
    for (name, account) in &node.accounts {
        let Some(listed) = seen.listed.iter().find(|c| c.user == *name) else { continue };
        let keys = fingerprints(listed);
        let same = fingerprints_of(&account.ssh_keys) == keys;
        wrong.unless(same, || format!("{name_of}: account {name} lets in other keys than {keys:?}"));
        let permit = account.permit.map(|permit| permit.to_string());
        wrong.unless(permit.as_ref() == Some(&listed.address), || {
            format!("{name_of}: {name} may reach {permit:?}, lives at {}", listed.address)
        });
        let mut reaches: Vec<_> =
            account.shared.iter().map(|permit| (permit.container.clone(), permit.address.to_string())).collect();
        reaches.sort_unstable();
        let shared = seen.listed.iter().filter(|c| c.shares.iter().any(|share| share.with == *name));
        let shared: Vec<_> = shared.map(|c| (c.name.clone(), c.address.clone())).collect();
        wrong.unless(reaches == shared, || format!("{name_of}: {name} may reach {reaches:?}, is let into {shared:?}"));
    }
}

/// One instance of a container over all nodes.
fn copies(wrong: &mut Wrong, seen: &Seen) {
    let mut on = BTreeMap::<String, Vec<&str>>::new();
    let is_kept = |id: &str, node: &String| seen.listed.iter().any(|c| c.id == id && kept_by(c).any(|n| n == node));
    for node in &seen.nodes {
        let stamps = node.instances.values().filter_map(|instance| instance.seen.stamp.as_ref());
        for stamp in stamps.filter(|stamp| !is_kept(&stamp.order.id.to_string(), &node.listed.name)) {
            on.entry(stamp.order.id.to_string()).or_default().push(&node.listed.name);
        }
    }
    for (id, nodes) in on.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        wrong.push(Invariant::I1, format!("{id} is on {nodes:?}"));
    }
}

fn fingerprints(container: &v1::Container) -> Vec<String> {
    container.ssh_keys.iter().map(|key| key.fingerprint.clone()).collect()
}

fn fingerprints_of(lines: &[String]) -> Vec<String> {
    let keys = KeySet::from_recorded(lines.iter().map(String::as_str)).expect("keys that were accepted");
    keys.iter().map(Key::fingerprint).collect()
}
