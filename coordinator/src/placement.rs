//! Which node gets a container, and why not the others. Pure and clock-free: values in, verdicts out. It must never
//! look at a node, a database or a clock, and the same input gives the same answer in any order of nodes.

use std::{collections::BTreeSet, net::Ipv4Addr};

use containarium_proto::{
    cpu::Cpu,
    names::NodeName,
    sizes::Bytes,
    spec::{Capacity, Fingerprint, Image, Spec},
};
use ipnet::Ipv4Net;

use crate::{availability::Availability, config::Overcommit, store::Policy};

/// For the host itself: incusd, sshd with hundreds of sessions, the ZFS cache's floor. An eighth on small machines.
const MEMORY_HEADROOM: u64 = 1 << 30;
/// A copy-on-write pool slows down and then cannot even delete when the last twentieth is in use.
const DISK_HEADROOM_DIVISOR: u64 = 20;

/// Amounts of the three things that run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Resources {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
}

impl Resources {
    /// What a container of this spec takes.
    pub(crate) fn of(spec: &Spec) -> Self {
        Self { cpu_millis: u64::from(spec.cpu.reserved_millis()), memory_bytes: spec.memory.0, disk_bytes: spec.disk.0 }
    }

    /// The larger of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
        }
    }

    /// What this is more than `other`.
    fn beyond(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }
}

/// What is to be placed. Without an image, any node's images will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) resources: Resources,
    pub(crate) cpu: Cpu,
    pub(crate) image: Option<Fingerprint>,
}

/// A node as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: NodeName,
    pub(crate) availability: Availability,
    pub(crate) policy: Policy,
    /// Found wrong elsewhere, such as a network that overlaps another node's.
    pub(crate) problem: Option<String>,
    pub(crate) capacity: Option<Capacity>,
    pub(crate) network: Option<(Ipv4Net, Ipv4Addr)>,
    pub(crate) images: Vec<Image>,
    /// By our database, rows still being deleted included (I2).
    pub(crate) reserved: Resources,
    /// Addresses of the same rows.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
}

/// Preference, most important first; the smallest wins. The name is last, so ties are repeatable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// What is promised and what is in use, added. Promises alone would not see a node that others fill; use alone
    /// would send a burst of creates, none of which uses anything yet, all to the same node.
    load_permille: u32,
    containers: usize,
    name: NodeName,
}

/// A node that would take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) address: Ipv4Addr,
    pub(crate) load_permille: u32,
    /// The same of our promises alone.
    pub(crate) promised_permille: u32,
    pub(crate) containers: usize,
}

/// One node's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) node: NodeName,
    pub(crate) fit: Result<Fit, String>,
    /// After placing if it fits, now if it does not.
    pub(crate) load_permille: u32,
}

/// Every node's answer: those that fit first, best first; then the others by name.
pub(crate) fn judge(demand: &Demand, candidates: &[Candidate], overcommit: &Overcommit) -> Vec<Verdict> {
    let mut fitting = Vec::new();
    let mut others = Vec::new();
    for candidate in candidates {
        let node = candidate.name.clone();
        match fit(demand, candidate, overcommit) {
            Ok(fit) => {
                let score = Score {
                    load_permille: fit.load_permille.saturating_add(fit.promised_permille),
                    containers: fit.containers,
                    name: node.clone(),
                };
                let load_permille = fit.load_permille;
                fitting.push((score, Verdict { node, fit: Ok(fit), load_permille }));
            }
            Err(why) => {
                let load_permille = load_now(candidate, overcommit);
                others.push(Verdict { node, fit: Err(why), load_permille });
            }
        }
    }
    fitting.sort_by(|(a, _), (b, _)| a.cmp(b));
    others.sort_by(|a, b| a.node.cmp(&b.node));
    fitting.into_iter().map(|(_, verdict)| verdict).chain(others).collect()
}

/// Whether this node may take it: the first thing in its way, for people.
pub(crate) fn fit(demand: &Demand, node: &Candidate, overcommit: &Overcommit) -> Result<Fit, String> {
    may_place(node)?;
    let (Some(capacity), Some((network, gateway))) = (node.capacity, node.network) else {
        return Err("has not reported its size yet".to_owned());
    };
    if let Some(image) = &demand.image
        && !node.images.iter().any(|i| i.fingerprint == *image)
    {
        return Err(format!("does not have image {:.12}", image.to_string()));
    }
    has_cpus(&demand.cpu, capacity.cpus)?;
    let containers = node.addresses.len();
    if containers >= overcommit.max_containers_per_node as usize {
        return Err(format!("holds {containers} containers, the most it may"));
    }
    let claims = Claims::of(node, capacity, overcommit);
    claims.room_for(demand.resources)?;
    let address = lowest_free(network, gateway, &node.addresses)
        .ok_or_else(|| format!("has no free address left in {network}"))?;
    Ok(Fit {
        address,
        load_permille: claims.load_permille(demand.resources),
        promised_permille: fullest(node.reserved.plus(demand.resources), claims.allocatable),
        containers,
    })
}

/// Whether a container that lives on this node may take `wanted` in place of the `held` that is promised to it. What
/// lives there may grow whatever the operator's policy says of newcomers.
pub(crate) fn room_to_grow(
    held: Resources,
    wanted: Resources,
    node: &Candidate,
    overcommit: &Overcommit,
) -> Result<(), String> {
    let capacity = node.capacity.ok_or_else(|| "has not reported its size yet".to_owned())?;
    Claims::of(node, capacity, overcommit).room_for(wanted.beyond(held))
}

/// Whether the node has the CPUs that are asked for by number.
pub(crate) fn has_cpus(cpu: &Cpu, cpus: u32) -> Result<(), String> {
    match cpu {
        Cpu::Pinned(ids) if ids.last().is_some_and(|last| *last >= cpus) => {
            Err(format!("has {cpus} CPUs, with ids from 0"))
        }
        Cpu::Pinned(_) | Cpu::Count(_) | Cpu::QuotaMillis(_) => Ok(()),
    }
}

/// The machine's word and the operator's word, together.
fn may_place(node: &Candidate) -> Result<(), String> {
    let away = match node.availability {
        Availability::Online => None,
        Availability::Unknown => Some("has not been heard from yet"),
        Availability::Suspect => Some("did not answer the last call"),
        Availability::Offline => Some("is offline"),
    };
    let policy = match node.policy {
        Policy::Active => None,
        Policy::Cordoned => Some("is cordoned"),
        Policy::Draining => Some("is being drained"),
        Policy::Retired => Some("is retired"),
    };
    // The operator's word first: it explains itself and does not come and go.
    match policy.or(away) {
        Some(why) => Err(why.to_owned()),
        None => node.problem.clone().map_or(Ok(()), Err),
    }
}

/// Fullest of the three now, in thousandths of what may be promised; 0 for a node that has not reported.
pub(crate) fn load_now(node: &Candidate, overcommit: &Overcommit) -> u32 {
    node.capacity.map_or(0, |c| Claims::of(node, c, overcommit).load_permille(Resources::default()))
}

/// What is taken and what may be promised.
struct Claims {
    taken: Resources,
    allocatable: Resources,
}

impl Claims {
    fn of(node: &Candidate, capacity: Capacity, overcommit: &Overcommit) -> Self {
        // Ours or the machine's word, whichever is larger: it may hold things that we did not put there.
        let taken = Resources {
            cpu_millis: node.reserved.cpu_millis,
            memory_bytes: node.reserved.memory_bytes.max(capacity.memory_used.0),
            disk_bytes: node.reserved.disk_bytes.max(capacity.disk_used.0),
        };
        Self { taken, allocatable: allocatable(capacity, overcommit) }
    }

    fn room_for(&self, wanted: Resources) -> Result<(), String> {
        let (taken, total) = (self.taken, self.allocatable);
        let checks = [
            ("cpu", wanted.cpu_millis, taken.cpu_millis, total.cpu_millis, millis as fn(u64) -> String),
            ("memory", wanted.memory_bytes, taken.memory_bytes, total.memory_bytes, bytes),
            ("disk", wanted.disk_bytes, taken.disk_bytes, total.disk_bytes, bytes),
        ];
        for (what, need, taken, total, show) in checks {
            let free = total.saturating_sub(taken);
            if need > free {
                return Err(format!(
                    "has no room: {what} needs {}, {} free of {}",
                    show(need),
                    show(free),
                    show(total)
                ));
            }
        }
        Ok(())
    }

    fn load_permille(&self, wanted: Resources) -> u32 {
        fullest(self.taken.plus(wanted), self.allocatable)
    }
}

/// The fullest of the three, in thousandths.
fn fullest(part: Resources, whole: Resources) -> u32 {
    let of = |part: u64, whole: u64| {
        let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
        u32::try_from(permille).unwrap_or(u32::MAX)
    };
    of(part.cpu_millis, whole.cpu_millis)
        .max(of(part.memory_bytes, whole.memory_bytes))
        .max(of(part.disk_bytes, whole.disk_bytes))
}

/// What may be promised of a machine: what is left for containers, times the overcommit.
pub(crate) fn allocatable(capacity: Capacity, overcommit: &Overcommit) -> Resources {
    let times = |amount: u64, permille: u64| {
        u64::try_from(u128::from(amount) * u128::from(permille) / 1000).unwrap_or(u64::MAX)
    };
    let (memory, disk) = (capacity.memory.0, capacity.disk.0);
    Resources {
        cpu_millis: times(u64::from(capacity.cpus) * 1000, overcommit.cpu_permille),
        memory_bytes: times(memory - MEMORY_HEADROOM.min(memory / 8), overcommit.memory_permille),
        disk_bytes: times(disk - disk / DISK_HEADROOM_DIVISOR, overcommit.disk_permille),
    }
}

/// The lowest address for a container that no row on the node holds; never the network, the gateway, the broadcast.
pub(crate) fn lowest_free(network: Ipv4Net, gateway: Ipv4Addr, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    network.hosts().find(|address| *address != gateway && *address != network.network() && !used.contains(address))
}

fn millis(amount: u64) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bytes(amount: u64) -> String {
    Bytes(amount).to_string()
}

#[cfg(test)]
mod tests;
