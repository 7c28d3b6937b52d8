//! Snapshots of the simulation: as with Incus, they hold the disk and the configuration, our stamps included, travel with
//! a copy, and go with their instance.

use std::collections::BTreeMap;

use chrono::Utc;
use containarium_proto::{
    ids::FleetId,
    node::{CopyKind, CopyPass, Order},
    snapshots::{OF_A_COPY, Snapshot, SnapshotName, Snapshots},
};
use serde::{Deserialize, Serialize};

use super::{
    Memory, SimHost, SimInstance,
    instance::{made, place},
    present,
};
use crate::host::{
    HostError, Instance, Power, Stamp,
    shape::{self, is_nobodys},
};

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimSnapshot {
    /// Its name.
    pub name: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// The instance as it was.
    pub seen: Instance,
    /// Users inside, with their key lines.
    pub logins: BTreeMap<String, Vec<String>>,
    /// What its user had stored.
    pub data: String,
}

/// One on its way to another host.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    name: String,
    created_at: i64,
    stamp: Option<(FleetId, Order, Option<String>)>,
    logins: BTreeMap<String, Vec<String>>,
    data: String,
}

fn not_stopped(name: &str) -> HostError {
    HostError::transient(format!("instance {name} is running"))
}

pub(super) fn take(instance: &mut SimInstance, name: &str) {
    instance.snapshots.retain(|snapshot| snapshot.name != name);
    let SimInstance { seen, logins, data, .. } = instance;
    let snapshot = SimSnapshot {
        name: name.to_owned(),
        created_at: Utc::now().timestamp_millis(),
        seen: seen.clone(),
        logins: logins.clone(),
        data: data.clone(),
    };
    instance.snapshots.push(snapshot);
}

/// As Incus has it: one for a pass, whatever became of its first offer, and the one before.
pub(super) fn mark_replica(instance: &mut SimInstance, pass: CopyPass) {
    let (mark, prefix) = (SnapshotName::of_replica(pass), CopyKind::Replica.prefix());
    if instance.snapshots.iter().all(|snapshot| snapshot.name != mark.as_str()) {
        take(instance, mark.as_str());
    }
    let earlier = |number: &str| number.parse().is_ok_and(|number: u32| number + 1 < pass.0.get());
    instance.snapshots.retain(|snapshot| !snapshot.name.strip_prefix(prefix).is_some_and(earlier));
}

pub(super) fn unmark_replica(instance: &mut SimInstance) {
    instance.snapshots.retain(|snapshot| !snapshot.name.starts_with(CopyKind::Replica.prefix()));
}

pub(super) fn pack(instance: &SimInstance) -> String {
    let packed: Vec<Packed> = instance.snapshots.iter().map(packed).collect();
    serde_json::to_string(&packed).unwrap_or_default()
}

fn packed(snapshot: &SimSnapshot) -> Packed {
    let stamp = snapshot.seen.stamp.as_ref().map(|stamp| (stamp.fleet, stamp.order.clone(), stamp.login.clone()));
    let SimSnapshot { name, created_at, logins, data, .. } = snapshot.clone();
    Packed { name, created_at, stamp, logins, data }
}

pub(super) fn unpack(text: &str, order: &Order, fleet: FleetId) -> Vec<SimSnapshot> {
    let packed: Vec<Packed> = serde_json::from_str(text).unwrap_or_default();
    let one = |Packed { name, created_at, stamp, logins, data }: Packed| {
        let mut seen = made(fleet, stamp.as_ref().map_or(order, |(_, order, _)| order));
        seen.stamp = stamp.map(|(fleet, order, login)| Stamp { fleet, order, login, copied: None, ran: None });
        SimSnapshot { name, created_at, seen, logins, data }
    };
    packed.into_iter().map(one).collect()
}

fn bring_back(instance: &mut SimInstance, order: &Order, name: &str, newest_only: bool) -> Result<(), HostError> {
    if instance.seen.power == Power::Running {
        return Err(not_stopped(&order.name));
    }
    let at = instance.snapshots.iter().position(|snapshot| snapshot.name == name);
    let at = at.ok_or_else(|| HostError::permanent(format!("snapshot {name} not found")))?;
    if name.starts_with(CopyKind::Replica.prefix()) {
        instance.snapshots.truncate(at + 1);
    }
    if newest_only && at + 1 < instance.snapshots.len() {
        return Err(HostError::permanent(format!("snapshot {name} cannot be restored due to subsequent snapshot(s)")));
    }
    let SimSnapshot { seen, mut logins, data, .. } = instance.snapshots[at].clone();
    logins.remove(order.owner.as_str());
    instance.seen = Instance { name: instance.seen.name.clone(), power: Power::Stopped, ..seen };
    (instance.logins, instance.data) = (logins, data);
    Ok(())
}

fn restamp(instance: &mut SimInstance, fleet: FleetId, order: &Order, kept: &BTreeMap<String, String>) {
    let shape = &mut instance.seen.shape;
    shape.config.retain(|key, _| is_nobodys(key));
    let ordered = shape::ordered(order, &place());
    shape.config.extend(ordered.config);
    shape.config.extend(kept.clone());
    (shape.devices, shape.profiles) = (ordered.devices, ordered.profiles);
    instance.seen.stamp = Some(Stamp { fleet, order: order.clone(), login: None, copied: None, ran: None });
    instance.seen.unclaimed = None;
}

impl SimHost {
    pub(super) async fn list_snapshots(&self, name: &str) -> Result<Option<Snapshots>, HostError> {
        self.look(|memory| {
            let one = |s: &SimSnapshot| Snapshot { name: s.name.clone(), created_at: s.created_at };
            let instance = memory.instances.get(name)?;
            let ours = instance.snapshots.iter().filter(|snapshot| !snapshot.name.starts_with(OF_A_COPY));
            Some(Snapshots { all: ours.map(one).collect(), newest_only: memory.newest_only })
        })
        .await
    }

    pub(super) async fn take_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.effect(|memory| {
            take(present(memory, name)?, snapshot.as_str());
            memory.snapshots_made += 1;
            Ok(())
        })
        .await
    }

    pub(super) async fn drop_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.effect(|memory| {
            present(memory, name)?.snapshots.retain(|there| there.name != snapshot.as_str());
            Ok(())
        })
        .await
    }

    pub(super) async fn bring_back(&self, order: &Order, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.effect(|memory: &mut Memory| {
            let newest_only = memory.newest_only;
            bring_back(present(memory, &order.name)?, order, snapshot.as_str(), newest_only)
        })
        .await
    }

    pub(super) async fn stamp_anew(
        &self,
        fleet: FleetId,
        order: &Order,
        kept: &BTreeMap<String, String>,
    ) -> Result<(), HostError> {
        self.effect(|memory| present(memory, &order.name).map(|instance| restamp(instance, fleet, order, kept))).await
    }

    /// How many snapshots the agent ever made.
    #[must_use]
    pub fn snapshots_made(&self) -> u32 {
        self.memory().snapshots_made
    }

    /// Somebody makes a snapshot behind the agent's back.
    ///
    /// # Panics
    /// There is no such instance.
    pub fn snapshot_by_hand(&self, name: &str, snapshot: &str) {
        take(self.memory().instances.get_mut(name).expect("an instance"), snapshot);
    }

    /// Somebody removes a snapshot behind the agent's back.
    pub fn lose_snapshot(&self, name: &str, snapshot: &str) {
        if let Some(instance) = self.memory().instances.get_mut(name) {
            instance.snapshots.retain(|there| there.name != snapshot);
        }
    }

    /// Whether its storage goes back only to the newest snapshot, as ZFS does.
    pub fn set_newest_only(&self, newest_only: bool) {
        self.memory().newest_only = newest_only;
    }
}
