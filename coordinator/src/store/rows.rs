//! Rows as values, and how a database row becomes one: each column parsed once, here. What cannot be parsed was not
//! written by us and is an error, never a default.

use std::{fmt::Display, net::Ipv4Addr, num::NonZeroU32, str::FromStr};

use containarium_proto::{
    backup::Origin,
    ids::{AccessRevision, ContainerId, Generation, RequestId},
    keys::KeySet,
    labels::Labels,
    names::{NodeName, Username},
    node::{CopyPass, Guest, Licence},
    spec::{Capacity, Desired, Image, Observed, Spec},
};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{ColumnIndex, Row, any::AnyRow};

use super::{
    Lifetime, MovePhase, Replication, Snapshotting, StoreError, allowances, failed, lifetimes, replicas, snapshots,
};
use crate::{clock, placement::Resources, settings::NodeSettings};

/// The operator's word on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Policy {
    Active,
    Cordoned,
    Draining,
    Retired,
}

impl Policy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Retired => "retired",
        }
    }
}

impl FromStr for Policy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Active, Self::Cordoned, Self::Draining, Self::Retired];
        all.into_iter().find(|p| p.as_str() == text).ok_or_else(|| format!("'{text}', which is no policy"))
    }
}

/// A node, as the operator added it and as it last described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) name: NodeName,
    pub(crate) address: String,
    pub(crate) policy: Policy,
    pub(crate) network: Option<(Ipv4Net, Ipv4Addr)>,
    pub(crate) boot_id: Option<String>,
    pub(crate) capacity: Option<Capacity>,
    pub(crate) images: Vec<Image>,
    pub(crate) created_at: i64,
    /// While it drains: how many containers leave at a time.
    pub(crate) drain_parallel: usize,
    /// What it does differently from the fleet.
    pub(crate) settings: NodeSettings,
    pub(crate) labels: Labels,
    /// Its own, as it last said.
    pub(crate) addresses: Vec<Ipv4Addr>,
}

impl NodeRow {
    /// Under which other nodes reach it too.
    pub(crate) fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host)
    }
}

/// What a user wants, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerRow {
    pub(crate) id: ContainerId,
    pub(crate) owner: Username,
    pub(crate) image_alias: String,
    pub(crate) keys: KeySet,
    pub(crate) pinned: bool,
    /// A delete is refused.
    pub(crate) protected: bool,
    pub(crate) request_id: RequestId,
    pub(crate) request_hash: String,
    pub(crate) created_at: i64,
    /// Newest of the placements that are gone.
    pub(crate) generation_floor: Generation,
    /// What its node must carry when it is placed.
    pub(crate) labels: Labels,
    pub(crate) lifetime: Lifetime,
    pub(crate) snapshots: Snapshotting,
    /// Owners whose containers may reach it, by name. Written by a statement of its own.
    pub(crate) allow_from: Vec<Username>,
    /// Who else may use it, by name.
    pub(crate) guests: Vec<Guest>,
    /// Written by a statement of its own.
    pub(crate) replication: Replication,
}

impl ContainerRow {
    /// From the image of that name, by that request, made now: with nothing that only some have.
    pub(crate) fn new(
        id: ContainerId,
        (owner, keys): (&Username, KeySet),
        image_alias: String,
        (request_id, request_hash): (RequestId, String),
    ) -> Self {
        Self {
            id,
            owner: owner.clone(),
            image_alias,
            keys,
            pinned: false,
            protected: false,
            request_id,
            request_hash,
            created_at: clock::now(),
            generation_floor: Generation(0),
            labels: Labels::default(),
            lifetime: Lifetime::default(),
            snapshots: Snapshotting::default(),
            allow_from: Vec::new(),
            guests: Vec::new(),
            replication: Replication::default(),
        }
    }
}

/// What one node was told to hold, and what was last durably seen of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacementRow {
    pub(crate) container: ContainerId,
    pub(crate) node: NodeName,
    pub(crate) desired: Desired,
    pub(crate) generation: Generation,
    pub(crate) spec: Spec,
    pub(crate) reserved: Resources,
    pub(crate) address: Ipv4Addr,
    /// Of `observed_generation`, which may be behind.
    pub(crate) observed: Observed,
    pub(crate) observed_generation: Generation,
    pub(crate) ever_ran: bool,
    pub(crate) access_revision: AccessRevision,
    pub(crate) change_request: Option<RequestId>,
    pub(crate) role: Role,
    /// What was changed behind our back, one line each, as last seen.
    pub(crate) drift: Vec<String>,
    /// What the order may do beyond its content, until it is carried out.
    pub(crate) licence: Option<Licence>,
    /// The backup that its data must come from.
    pub(crate) origin: Option<Origin>,
    /// While a restore replaces what is there: what to go back to if that cannot be done.
    pub(crate) undo: Option<Undo>,
}

/// What a restore replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// Its own backup, if it came from one.
    pub(crate) origin: Option<Origin>,
}

/// What a placement is to its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Where it lives; the only one that is served.
    Home,
    /// A copy in the making, with the passes of it there must have been.
    Arriving(CopyPass),
    /// Where it lived until a moment ago: kept, stopped, until the new home has answered.
    Leaving,
    /// A second copy, refreshed again and again, with the passes of it there must have been.
    Replica(CopyPass),
    /// The home before a failover: kept, stopped, until an operator discards it.
    Superseded,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Arriving(_) => "arriving",
            Self::Leaving => "leaving",
            Self::Replica(_) => "replica",
            Self::Superseded => "superseded",
        }
    }

    pub(crate) fn pass(self) -> Option<CopyPass> {
        match self {
            Self::Arriving(pass) | Self::Replica(pass) => Some(pass),
            Self::Home | Self::Leaving | Self::Superseded => None,
        }
    }

    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let pass = || {
            u32::try_from(number(row, "copy_pass")?)
                .ok()
                .and_then(NonZeroU32::new)
                .map(CopyPass)
                .ok_or_else(|| corrupt("copy_pass", "no pass"))
        };
        match text(row, "role")?.as_str() {
            "home" => Ok(Self::Home),
            "leaving" => Ok(Self::Leaving),
            "arriving" => Ok(Self::Arriving(pass()?)),
            "replica" => Ok(Self::Replica(pass()?)),
            "superseded" => Ok(Self::Superseded),
            other => Err(corrupt("role", other)),
        }
    }
}

impl PlacementRow {
    /// A home that no node has said anything of: wanted running, under its first generation, with what its limits reserve.
    pub(crate) fn new(container: ContainerId, (node, address): (NodeName, Ipv4Addr), spec: Spec) -> Self {
        Self {
            container,
            node,
            desired: Desired::Running,
            generation: Generation(1),
            reserved: Resources::of(&spec),
            spec,
            address,
            observed: Observed::Unknown,
            observed_generation: Generation(0),
            ever_ran: false,
            access_revision: AccessRevision::default(),
            change_request: None,
            role: Role::Home,
            drift: Vec::new(),
            licence: None,
            origin: None,
            undo: None,
        }
    }

    /// Whether the container is wanted, and wanted here.
    pub(crate) fn is_home(&self) -> bool {
        self.role == Role::Home && self.desired != Desired::Absent
    }

    /// What is known of the generation that is wanted now.
    pub(crate) fn observed_now(&self) -> &Observed {
        if self.observed_generation == self.generation { &self.observed } else { &Observed::Unknown }
    }
}

/// A container with one of its placements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) container: ContainerRow,
    pub(crate) placement: PlacementRow,
    pub(crate) moving: Option<Moving>,
}

/// The generation for another placement of a container: above every one that any node has seen of it (I4).
pub(crate) fn next_generation(rows: &[Held]) -> Generation {
    let seen = rows.iter().flat_map(|held| [held.placement.generation, held.container.generation_floor]);
    seen.max().unwrap_or_default().next()
}

/// That a container is being moved, as far as everybody must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) phase: MovePhase,
    pub(crate) source: NodeName,
    pub(crate) target: NodeName,
    pub(crate) started_at: i64,
}

pub(super) fn desired_text(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Stopped => "stopped",
        Desired::Absent => "absent",
    }
}

pub(super) fn desired_from_text(text: &str) -> Result<Desired, StoreError> {
    let all = [Desired::Running, Desired::Stopped, Desired::Absent];
    all.into_iter().find(|d| desired_text(*d) == text).ok_or_else(|| corrupt("desired", text))
}

pub(super) fn corrupt(column: &'static str, problem: impl Display) -> StoreError {
    StoreError::Corrupt { column, problem: problem.to_string() }
}

pub(super) fn text(row: &AnyRow, column: &'static str) -> Result<String, StoreError>
where
    &'static str: ColumnIndex<AnyRow>,
{
    row.try_get(column).map_err(failed("reading a text column"))
}

pub(super) fn signed(row: &AnyRow, column: &'static str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(failed("reading a number column"))
}

/// Counters and sizes; all of ours fit in 63 bits.
pub(super) fn number(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    let value = signed(row, column)?;
    u64::try_from(value).map_err(|_| corrupt(column, value))
}

pub(super) fn parsed<T: FromStr<Err: Display>>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    text(row, column)?.parse().map_err(|e: T::Err| corrupt(column, e))
}

fn optional<T: FromStr<Err: Display>>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreError> {
    let value: Option<String> = row.try_get(column).map_err(failed("reading an optional column"))?;
    value.map(|v| v.parse().map_err(|e: T::Err| corrupt(column, e))).transpose()
}

pub(super) fn json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(&text(row, column)?).map_err(|e| corrupt(column, e))
}

pub(super) fn to_json<T: Serialize>(column: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| corrupt(column, e))
}

pub(super) fn node(row: &AnyRow) -> Result<NodeRow, StoreError> {
    let capacity: Option<String> = row.try_get("capacity").map_err(failed("reading a capacity"))?;
    let capacity = capacity.map(|c| serde_json::from_str(&c).map_err(|e| corrupt("capacity", e))).transpose()?;
    Ok(NodeRow {
        name: parsed(row, "name")?,
        address: text(row, "address")?,
        policy: parsed(row, "policy")?,
        network: optional(row, "cidr")?.zip(optional(row, "gateway")?),
        boot_id: optional(row, "boot_id")?,
        capacity,
        images: json(row, "images")?,
        created_at: signed(row, "created_at")?,
        drain_parallel: usize::try_from(number(row, "drain_parallel")?).unwrap_or(usize::MAX),
        settings: json(row, "settings")?,
        labels: json(row, "labels")?,
        addresses: json(row, "addresses")?,
    })
}

fn some_json<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreError> {
    if text(row, column)?.is_empty() { Ok(None) } else { json(row, column).map(Some) }
}

pub(super) fn held(row: &AnyRow) -> Result<Held, StoreError> {
    let id = parsed(row, "id")?;
    let container = ContainerRow {
        id,
        owner: parsed(row, "owner")?,
        image_alias: text(row, "image_alias")?,
        keys: json(row, "keys")?,
        pinned: signed(row, "pinned")? != 0,
        protected: signed(row, "protected")? != 0,
        request_id: parsed(row, "request_id")?,
        request_hash: text(row, "request_hash")?,
        created_at: signed(row, "created_at")?,
        generation_floor: Generation(number(row, "generation_floor")?),
        labels: json(row, "labels")?,
        lifetime: lifetimes::lifetime(row)?,
        snapshots: snapshots::snapshotting(row)?,
        allow_from: allowances::allow_from(row)?,
        guests: json(row, "guests")?,
        replication: replicas::replication(row)?,
    };
    let change_request = match text(row, "change_request")?.as_str() {
        "" => None,
        request => Some(request.parse().map_err(|e| corrupt("change_request", e))?),
    };
    let placement = PlacementRow {
        container: id,
        node: parsed(row, "node")?,
        desired: desired_from_text(&text(row, "desired")?)?,
        generation: Generation(number(row, "generation")?),
        spec: json(row, "spec")?,
        reserved: resources(row)?,
        address: parsed(row, "address")?,
        observed: json(row, "observed")?,
        observed_generation: Generation(number(row, "observed_generation")?),
        ever_ran: signed(row, "ever_ran")? != 0,
        access_revision: AccessRevision(number(row, "access_revision")?),
        change_request,
        role: Role::read(row)?,
        drift: json(row, "drift")?,
        licence: match text(row, "licence")?.as_str() {
            "" => None,
            _ => Some(json(row, "licence")?),
        },
        origin: some_json(row, "origin")?,
        undo: some_json(row, "undo")?,
    };
    let moving = match optional(row, "move_phase")? {
        None => None,
        Some(phase) => Some(Moving {
            phase,
            source: parsed(row, "move_source")?,
            target: parsed(row, "move_target")?,
            started_at: signed(row, "move_started_at")?,
        }),
    };
    Ok(Held { container, placement, moving })
}

pub(super) fn resources(row: &AnyRow) -> Result<Resources, StoreError> {
    Ok(Resources {
        cpu_millis: number(row, "cpu_millis")?,
        memory_bytes: number(row, "memory_bytes")?,
        disk_bytes: number(row, "disk_bytes")?,
    })
}
