//! Valid values as messages, one function each.

use containarium_proto::{convert, keys::Key, v1};

use super::view::View;
use crate::{
    availability::Availability,
    phase::Phase,
    placement::Verdict,
    store::{Event, Policy},
};

pub(super) fn container(view: &View) -> v1::Container {
    let (container, placement) = (&view.held.container, &view.held.placement);
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

pub(super) fn verdict(verdict: &Verdict) -> v1::NodeVerdict {
    let reason = match &verdict.fit {
        Ok(fit) => format!("would get {}; holds {} containers", fit.address, fit.containers),
        Err(why) => why.clone(),
    };
    v1::NodeVerdict {
        node: verdict.node.to_string(),
        fits: verdict.fit.is_ok(),
        load_permille: verdict.load_permille,
        reason,
    }
}
