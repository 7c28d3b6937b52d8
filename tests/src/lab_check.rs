//! The invariant checker of the real lab (I1, I4, I6, I11): reads instances, volumes, addresses, leases, names, accounts
//! and homes from the nodes themselves and holds them against what the coordinator lists. It repairs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, eventually};

/// How long a fleet may need to come to rest after the last command returned: accounts of a deleted user are removed
/// right after the instance, and a restarted agent needs a round of observation.
const REST: Duration = Duration::from_secs(60);

/// Waits until nothing is wrong. A server that cannot be read is: its Incus may have been killed a moment ago.
///
/// # Errors
/// What is still wrong after a minute.
pub fn settle(lab: &Lab) -> Result<()> {
    let mut last = Vec::new();
    let settled = eventually("the fleet agrees with itself", REST, || {
        last = violations(lab).unwrap_or_else(|error| vec![format!("{error:#}")]);
        Ok(last.is_empty().then_some(()))
    });
    settled.with_context(|| last.join("\n"))
}

/// Everything that contradicts the invariants now.
///
/// # Errors
/// A node could not be read.
pub fn violations(lab: &Lab) -> Result<Vec<String>> {
    let listed = lab.list()?;
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    let users: BTreeSet<String> = listed.iter().map(|c| text(c, "user")).collect();
    let mut wrong = Vec::new();
    let mut addresses = BTreeMap::new();
    for container in &listed {
        if let Some(other) = addresses.insert(text(container, "ip"), text(container, "name")) {
            wrong.push(format!("{} and {other} share {}", text(container, "name"), text(container, "ip")));
        }
    }
    for node in lab.nodes() {
        let here = |field: &str| -> BTreeSet<String> {
            listed.iter().filter(|c| c["node"] == node).map(|c| text(c, field)).collect()
        };
        let seen = Seen::read(lab, node)?;
        let kept: BTreeSet<String> = listed.iter().filter(|c| keeps_copy(node, c)).map(|c| text(c, "name")).collect();
        let all_here: BTreeSet<String> = here("name").union(&kept).cloned().collect();
        compare(&mut wrong, node, "instances", &all_here, &seen.instances);
        compare(&mut wrong, node, "volumes", &all_here, &seen.volumes);
        let lived_at = seen.addresses.iter().filter(|(name, _)| !kept.contains(*name)).map(|(_, at)| at.clone());
        compare(&mut wrong, node, "reserved addresses", &here("ip"), &lived_at.collect());
        let running = kept.intersection(&seen.running);
        wrong.extend(running.map(|name| format!("{node}: {name} is only a copy there, and runs")));
        compare(&mut wrong, node, "accounts", &users, &seen.accounts);
        compare(&mut wrong, node, "homes", &users, &seen.homes);
        let all = |field: &str| listed.iter().map(|c| text(c, field)).collect::<BTreeSet<_>>();
        compare(&mut wrong, node, "known names", &all("name"), &seen.names);
        let of_copies = seen.addresses.iter().filter(|(name, _)| kept.contains(*name)).map(|(_, at)| at.clone());
        let leased: BTreeSet<String> = of_copies.chain(here("ip")).collect();
        wrong.extend(seen.leases.difference(&leased).map(|lease| format!("{node}: a lease of {lease} is left")));
        for container in listed.iter().filter(|c| c["node"] == node) {
            let stamp = (text(container, "id"), container["generation"].to_string());
            let there = seen.stamps.get(&text(container, "name"));
            if there.is_some_and(|there| *there != stamp) {
                wrong.push(format!("{node}: {} is stamped {there:?}, listed as {stamp:?}", container["name"]));
            }
        }
        wrong.extend(seen.unstamped.iter().map(|name| format!("{node}: {name} has no stamp")));
    }
    Ok(wrong)
}

/// Whether the node has its replica, or what it was before a failover.
fn keeps_copy(node: &str, container: &Value) -> bool {
    let replication = &container["replication"];
    let old = replication["old_copies"].as_array();
    replication["node"] == node || old.is_some_and(|old| old.iter().any(|name| name == node))
}

fn compare(wrong: &mut Vec<String>, node: &str, what: &str, want: &BTreeSet<String>, have: &BTreeSet<String>) {
    if want != have {
        let missing: Vec<_> = want.difference(have).collect();
        let extra: Vec<_> = have.difference(want).collect();
        wrong.push(format!("{node}: {what}: missing {missing:?}, left over {extra:?}"));
    }
}

/// What one node really holds.
#[derive(Debug, Default)]
struct Seen {
    instances: BTreeSet<String>,
    /// Id and generation, by name.
    stamps: BTreeMap<String, (String, String)>,
    unstamped: Vec<String>,
    volumes: BTreeSet<String>,
    /// By name.
    addresses: BTreeMap<String, String>,
    running: BTreeSet<String>,
    leases: BTreeSet<String>,
    /// In /etc/hosts.
    names: BTreeSet<String>,
    accounts: BTreeSet<String>,
    homes: BTreeSet<String>,
}

impl Seen {
    fn read(lab: &Lab, node: &str) -> Result<Self> {
        let mut seen = Self::default();
        let instances = lab.on(node, "incus query '/1.0/instances?recursion=1'")?.json()?;
        for instance in instances.as_array().context("instances")? {
            let name = instance["name"].as_str().context("name")?.to_owned();
            let stamp =
                |key: &str| instance["config"][format!("user.containarium.{key}")].as_str().map(ToOwned::to_owned);
            match (stamp("id"), stamp("generation")) {
                (Some(id), Some(generation)) => drop(seen.stamps.insert(name.clone(), (id, generation))),
                _ => seen.unstamped.push(name.clone()),
            }
            ensure!(instance["config"]["security.privileged"] != "true", "{node}: {name} is privileged");
            let address = instance["devices"]["eth0"]["ipv4.address"].as_str().unwrap_or("none").to_owned();
            seen.addresses.insert(name.clone(), address);
            if instance["status"] == "Running" {
                seen.running.insert(name.clone());
            }
            seen.instances.insert(name);
        }
        let volumes = lab.on(node, "incus query '/1.0/storage-pools/default/volumes/container?recursion=1'")?.json()?;
        seen.volumes = volumes
            .as_array()
            .context("volumes")?
            .iter()
            .filter_map(|volume| volume["name"].as_str())
            .filter(|name| !name.contains('/'))
            .map(ToOwned::to_owned)
            .collect();
        for line in lab.on(node, "getent passwd")?.ok()?.out.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if fields.len() == 7 && fields[4].starts_with("containarium-fleet=") {
                ensure!(fields[6] == "/usr/sbin/nologin", "{node}: {line}");
                seen.accounts.insert(fields[0].to_owned());
            }
        }
        let leases = lab.on(node, "incus query /1.0/networks/incusbr0/leases")?.json()?;
        let leases = leases.as_array().context("leases")?.iter().filter(|lease| lease["type"] != "gateway");
        // Each container has an address of version 6 too, which it makes itself.
        let v4 = leases.filter_map(|lease| lease["address"].as_str()).filter(|address| address.contains('.'));
        seen.leases = v4.map(ToOwned::to_owned).collect();
        let hosts = lab.on(node, "cat /etc/hosts")?.ok()?.out;
        let names = hosts.lines().filter_map(|line| line.split_whitespace().nth(1));
        seen.names = names.filter(|name| name.ends_with("-container")).map(ToOwned::to_owned).collect();
        seen.homes = lab.on(node, "ls /home")?.ok()?.out.lines().map(ToOwned::to_owned).collect();
        Ok(seen)
    }
}
