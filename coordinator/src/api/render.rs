//! Valid values as messages, one function each.

use containarium_proto::{convert, factor::Factor, keys::Key, names::NodeName, spec::Capacity, v1};

use super::{replicas, share, snapshots, view::View};
use crate::{
    availability::Availability,
    config::Overcommit,
    phase::Phase,
    placement::{self, Load, Loads, Score, Verdict},
    settings::NodeSettings,
    store::{Event, Policy, Ttl},
};

pub(super) fn container(view: &View) -> v1::Container {
    let (container, placement) = (&view.held.container, &view.held.placement);
    let (expires_at_unix_millis, expired_at_unix_millis) = match container.lifetime.ttl {
        Ttl::Off => (0, 0),
        Ttl::Runs { expires_at, .. } => (expires_at, 0),
        Ttl::Expired { expires_at, expired_at, .. } => (expires_at, expired_at),
    };
    v1::Container {
        id: container.id.to_string(),
        name: container.owner.container_name(),
        user: container.owner.to_string(),
        phase: phase(view.phase).into(),
        detail: view.detail.clone(),
        node: placement.node.to_string(),
        address: placement.address.to_string(),
        spec: Some(convert::spec_to_wire(&placement.spec)),
        image_alias: container.image_alias.clone(),
        created_at_unix_millis: container.created_at,
        generation: placement.generation.0,
        ssh_keys: container.keys.iter().map(ssh_key).collect(),
        protected: container.protected,
        moving_to: view.held.moving.as_ref().map(|moving| moving.target.to_string()).unwrap_or_default(),
        drift: placement.drift.clone(),
        shares: share::of(&view.held),
        labels: container.labels.to_wire(),
        expires_at_unix_millis,
        expired_at_unix_millis,
        idle_stop_seconds: container.lifetime.idle_stop.map_or(0, |limit| limit.as_secs()),
        // To the second: nodes count it back from now each time, and a watch must not take that for news.
        allow_from: container.allow_from.iter().map(ToString::to_string).collect(),
        idle_since_unix_millis: view.idle_since.map_or(0, |since| since - since % 1000),
        snapshots: snapshots::schedule(&view.held),
        replication: replicas::shown(&view.held),
        snapshotted_at_unix_millis: container.snapshots.last_at.unwrap_or_default(),
    }
}

pub(super) fn usage(view: &View, sample: Option<v1::UsageSample>) -> v1::ContainerUsage {
    let (container, placement) = (&view.held.container, &view.held.placement);
    v1::ContainerUsage {
        name: container.owner.container_name(),
        user: container.owner.to_string(),
        node: placement.node.to_string(),
        phase: phase(view.phase).into(),
        spec: Some(convert::spec_to_wire(&placement.spec)),
        sample,
    }
}

fn ssh_key(key: &Key) -> v1::SshKey {
    v1::SshKey { fingerprint: key.fingerprint(), algorithm: key.algorithm(), comment: key.comment() }
}

fn phase(phase: Phase) -> v1::Phase {
    match phase {
        Phase::Creating => v1::Phase::Creating,
        Phase::Running => v1::Phase::Running,
        Phase::Stopped => v1::Phase::Stopped,
        Phase::Updating => v1::Phase::Updating,
        Phase::Deleting => v1::Phase::Deleting,
        Phase::Failed => v1::Phase::Failed,
        Phase::Unreachable => v1::Phase::Unreachable,
        Phase::Lost => v1::Phase::Lost,
        Phase::Drifted => v1::Phase::Drifted,
    }
}

pub(super) fn availability(availability: Availability) -> v1::Availability {
    match availability {
        Availability::Unknown => v1::Availability::Unknown,
        Availability::Online => v1::Availability::Online,
        Availability::Preempting => v1::Availability::Preempting,
        Availability::Suspect => v1::Availability::Suspect,
        Availability::Offline => v1::Availability::Offline,
    }
}

pub(super) fn policy(policy: Policy) -> v1::Policy {
    match policy {
        Policy::Active => v1::Policy::Active,
        Policy::Cordoned => v1::Policy::Cordoned,
        Policy::Draining => v1::Policy::Draining,
        Policy::Retired => v1::Policy::Retired,
    }
}

pub(super) fn event(event: Event) -> v1::Event {
    v1::Event {
        id: event.id,
        at_unix_millis: event.at,
        subject: event.subject,
        kind: event.kind,
        message: event.message,
    }
}

/// All of them, each with why it is or is not chosen.
pub(super) fn verdicts(verdicts: &[Verdict], pinned: Option<&NodeName>) -> Vec<v1::NodeVerdict> {
    let chosen = placement::chosen(verdicts, pinned).map(|v| &v.node);
    let one = |verdict: &Verdict| v1::NodeVerdict {
        node: verdict.node.to_string(),
        fits: verdict.fit.is_ok(),
        load_permille: verdict.load_permille(),
        reason: placement::explain(verdict, verdicts, pinned),
        chosen: chosen == Some(&verdict.node),
        loads: loads(verdict.loads),
        score_permille: verdict.score().map_or(0, Score::permille),
        containers: u32::try_from(verdict.containers).unwrap_or(u32::MAX),
        max_containers: verdict.max_containers,
    };
    verdicts.iter().map(one).collect()
}

pub(super) fn loads(loads: Option<Loads>) -> Vec<v1::ResourceLoad> {
    let one = |load: Load| v1::ResourceLoad {
        resource: load.what.to_owned(),
        reserved: load.reserved,
        used: load.used,
        allocatable: load.allocatable,
        permille: load.permille(),
    };
    loads.into_iter().flat_map(|loads| loads.0).map(one).collect()
}

pub(super) fn settings(settings: &NodeSettings) -> v1::NodeSettings {
    v1::NodeSettings {
        overcommit_cpu_permille: settings.overcommit_cpu.map(Factor::permille),
        overcommit_memory_permille: settings.overcommit_memory.map(Factor::permille),
        overcommit_disk_permille: settings.overcommit_disk.map(Factor::permille),
        max_containers: settings.max_containers,
        headroom_memory_bytes: settings.headroom_memory.map(|size| size.0),
        headroom_disk_bytes: settings.headroom_disk.map(|size| size.0),
    }
}

/// What holds for a node. How much it keeps for itself may depend on its size.
pub(super) fn limits(limits: &Overcommit, capacity: Option<Capacity>) -> v1::NodeSettings {
    let permille = |value: u64| Some(u32::try_from(value).unwrap_or(u32::MAX));
    let headroom = capacity.map(|capacity| placement::headroom(capacity, limits));
    v1::NodeSettings {
        overcommit_cpu_permille: permille(limits.cpu_permille),
        overcommit_memory_permille: permille(limits.memory_permille),
        overcommit_disk_permille: permille(limits.disk_permille),
        max_containers: Some(limits.max_containers_per_node),
        headroom_memory_bytes: headroom.map(|(memory, _)| memory.0),
        headroom_disk_bytes: headroom.map(|(_, disk)| disk.0),
    }
}
