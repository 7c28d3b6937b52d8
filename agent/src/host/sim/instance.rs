//! What a simulated instance is, and how an order becomes one.

use std::collections::{BTreeMap, BTreeSet};

use containarium_proto::{
    ids::FleetId,
    node::{CopyPass, Foreign, Order},
    sizes::Bytes,
    spec::Fingerprint,
};

use super::SimSshd;
use super::snapshots::SimSnapshot;
use crate::host::{
    Instance, Power, Stamp,
    shape::{self, Place, Shape},
};

/// Its storage pool and its bridge.
pub(super) const POOL: &str = "sim";
pub(super) const NETWORK: &str = "simbr0";

/// Fingerprint of the one image.
#[must_use]
pub fn image_fingerprint() -> Fingerprint {
    Fingerprint::try_from("5".repeat(64)).unwrap_or_else(|_| unreachable!("64 hex digits are a fingerprint"))
}

/// A container as the simulation has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimInstance {
    /// What the agent can see of it.
    pub seen: Instance,
    /// Users inside, with their key lines.
    pub logins: BTreeMap<String, Vec<String>>,
    /// Those of them that may become root.
    pub sudoers: BTreeSet<String>,
    /// Starts since it was made.
    pub boots: u32,
    /// What its user has stored.
    pub data: String,
    /// An export of it takes so many bytes more than what was stored: they stand for a file system.
    pub bulk: usize,
    /// Passes of a copy that were offered and not cleared.
    pub offered: BTreeSet<CopyPass>,
    /// The oldest first.
    pub snapshots: Vec<SimSnapshot>,
    /// Its ssh server.
    pub sshd: SimSshd,
}

impl SimInstance {
    pub(super) fn new(seen: Instance, data: String) -> Self {
        let (logins, sudoers, offered, snapshots) = Default::default();
        Self { seen, logins, sudoers, boots: 0, data, bulk: 0, offered, snapshots, sshd: SimSshd::default() }
    }
}

pub(super) fn place() -> Place {
    Place { pool: POOL.to_owned(), network: NETWORK.to_owned() }
}

/// A new, stopped instance as ordered.
pub(super) fn made(fleet: FleetId, order: &Order) -> Instance {
    let shape = shape::ordered(order, &place());
    let stamp = Some(Stamp { fleet, order: order.clone(), login: None, copied: None, ran: None });
    Instance { name: order.name.clone(), power: Power::Stopped, stamp, shape, unclaimed: None }
}

pub(super) fn stamp(instance: &mut Instance, fleet: FleetId, order: &Order) {
    let before = instance.stamp.take();
    let (login, copied) = before.map(|stamp| (stamp.login, stamp.copied)).unwrap_or_default();
    instance.stamp = Some(Stamp { fleet, order: order.clone(), login, copied, ran: None });
    instance.unclaimed = None;
}

pub(super) fn foreign(instance: &Instance) -> Option<Foreign> {
    let Shape { config, devices, .. } = &instance.shape;
    let value = |key: &str| config.get(key);
    let privileged = value("security.privileged").is_some_and(|value| value == "true");
    Some(Foreign {
        name: instance.name.clone(),
        uuid: instance.unclaimed.clone()?,
        running: instance.power == Power::Running,
        cpu: value("limits.cpu").and_then(|text| text.parse().ok()),
        memory: value("limits.memory").and_then(|text| text.parse().ok()).map(Bytes),
        disk: devices.get("root").and_then(|root| root.get("size")?.parse().ok()).map(Bytes),
        disk_used: None,
        address: devices.get("eth0").and_then(|eth0| eth0.get("ipv4.address")?.parse().ok()),
        image: value("volatile.base_image").and_then(|text| text.parse().ok()),
        autostart: true,
        obstacles: privileged.then(|| "it is privileged".to_owned()).into_iter().collect(),
    })
}
