//! The edge: wire messages to valid types and back, one function each way, side by side. A message that does not
//! make a valid value is refused with the name of the field.

mod adopt;
mod audit;
mod backup;
mod identity;
mod policy;
mod share;
mod snapshots;
mod usage;

use std::{fmt::Display, net::Ipv4Addr, num::NonZeroU32, str::FromStr};

use crate::{
    cpu::Cpu,
    ids::{AccessRevision, Generation, Term},
    keys::KeySet,
    node::{Account, ContainerReport, CopyOffer, CopyPass, NodeReport, Order, Sender},
    sizes::Bytes,
    spec::{Capacity, Desired, Image, Observed, Spec, Step},
    v1,
};

pub use adopt::{foreign_from_wire, foreign_to_wire, licence_from_wire, licence_to_wire};
pub use audit::{
    audit_batch_from_wire, audit_batch_to_wire, audit_record_from_wire, audit_record_to_wire, bans_from_wire,
    bans_to_wire, node_session_from_wire, node_session_to_wire,
};
pub use backup::{
    backup_facts_from_wire, backup_key_from_wire, backup_work_from_wire, backup_work_to_wire, manifest_from_wire,
    origin_data_from_wire, origin_from_wire, origin_to_wire, to_json,
};
pub use identity::{host_from_wire, host_to_wire, identities_from_wire, identities_to_wire};
pub use policy::{guard_from_wire, guard_to_wire, policy_from_wire, policy_to_wire};
pub use snapshots::{
    schedule_change_from_wire, schedule_change_to_wire, schedule_to_wire, snapshot_name_from_wire, snapshots_from_wire,
    snapshots_to_wire,
};
pub use usage::{
    usage_from_wire, usage_of_from_wire, usage_of_to_wire, usage_sample_from_wire, usage_sample_to_wire, usage_to_wire,
};

/// A message that broke the contract.
#[derive(Debug, thiserror::Error)]
#[error("field {field}: {problem}")]
pub struct ConvertError {
    field: &'static str,
    problem: String,
}

fn bad(field: &'static str, problem: impl Display) -> ConvertError {
    ConvertError { field, problem: problem.to_string() }
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| bad(field, "missing"))
}

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error: T::Err| bad(field, error))
}

/// Reads `cpu`.
///
/// # Errors
/// Unset, or a value that its text form would not allow.
pub fn cpu_from_wire(cpu: &v1::Cpu) -> Result<Cpu, ConvertError> {
    use v1::cpu::Kind;
    let cpu = match need("cpu", cpu.kind.as_ref())? {
        Kind::Count(n) => Cpu::Count(*n),
        Kind::Pinned(set) if set.ids.is_empty() => return Err(bad("cpu", "an empty set")),
        Kind::Pinned(set) => Cpu::Pinned(set.ids.iter().copied().collect()),
        Kind::QuotaMillis(millis) => Cpu::QuotaMillis(*millis),
    };
    // The text form holds the bounds.
    parse("cpu", &cpu.to_string())
}

/// Writes `cpu`.
#[must_use]
pub fn cpu_to_wire(cpu: &Cpu) -> v1::Cpu {
    use v1::cpu::Kind;
    let kind = match cpu {
        Cpu::Count(n) => Kind::Count(*n),
        Cpu::Pinned(ids) => Kind::Pinned(v1::CpuSet { ids: ids.iter().copied().collect() }),
        Cpu::QuotaMillis(millis) => Kind::QuotaMillis(*millis),
    };
    v1::Cpu { kind: Some(kind) }
}

/// Reads a spec.
///
/// # Errors
/// Any field out of its bounds.
pub fn spec_from_wire(spec: &v1::Spec) -> Result<Spec, ConvertError> {
    Ok(Spec {
        cpu: cpu_from_wire(need("spec.cpu", spec.cpu.as_ref())?)?,
        memory: Bytes(spec.memory_bytes).as_memory().map_err(|e| bad("spec.memory_bytes", e))?,
        disk: Bytes(spec.disk_bytes).as_disk().map_err(|e| bad("spec.disk_bytes", e))?,
        image: parse("spec.image_fingerprint", &spec.image_fingerprint)?,
        autostart: spec.autostart,
        restarts: spec.restarts,
        fenced: spec.fenced,
    })
}

/// Writes a spec.
#[must_use]
pub fn spec_to_wire(spec: &Spec) -> v1::Spec {
    v1::Spec {
        cpu: Some(cpu_to_wire(&spec.cpu)),
        memory_bytes: spec.memory.0,
        disk_bytes: spec.disk.0,
        image_fingerprint: spec.image.to_string(),
        autostart: spec.autostart,
        restarts: spec.restarts,
        fenced: spec.fenced,
    }
}

/// Reads who is speaking.
///
/// # Errors
/// Missing, or not a fleet id.
pub fn sender_from_wire(sender: Option<&v1::Sender>) -> Result<Sender, ConvertError> {
    let sender = need("sender", sender)?;
    Ok(Sender { fleet: parse("sender.fleet_id", &sender.fleet_id)?, term: Term(sender.term) })
}

/// Writes who is speaking.
#[must_use]
pub fn sender_to_wire(sender: Sender) -> v1::Sender {
    v1::Sender { fleet_id: sender.fleet.to_string(), term: sender.term.0 }
}

/// Reads an order, with who gives it.
///
/// # Errors
/// Any field missing or invalid.
pub fn order_from_wire(request: &v1::ApplyRequest) -> Result<(Sender, Order), ConvertError> {
    let owner: crate::names::Username = parse("owner", &request.owner)?;
    if request.name != owner.container_name() {
        return Err(bad("name", format!("'{}' is not the container name of '{owner}'", request.name)));
    }
    let order = Order {
        id: parse("container_id", &request.container_id)?,
        name: request.name.clone(),
        guests: share::guests_from_wire(&owner, &request.guests)?,
        owner,
        generation: Generation(request.generation),
        desired: desired_from_wire(request.desired())?,
        spec: spec_from_wire(need("spec", request.spec.as_ref())?)?,
        address: parse("address", &request.address)?,
        keys: KeySet::from_recorded(request.ssh_keys.iter().map(String::as_str)).map_err(|e| bad("ssh_keys", e))?,
        copy_pass: NonZeroU32::new(request.copy_pass).map(CopyPass),
        origin: request.origin.as_ref().map(origin_from_wire).transpose()?,
    };
    Ok((sender_from_wire(request.sender.as_ref())?, order))
}

/// Writes an order.
#[must_use]
pub fn order_to_wire(sender: Sender, order: &Order) -> v1::ApplyRequest {
    v1::ApplyRequest {
        sender: Some(sender_to_wire(sender)),
        container_id: order.id.to_string(),
        name: order.name.clone(),
        owner: order.owner.to_string(),
        generation: order.generation.0,
        desired: desired_to_wire(order.desired).into(),
        spec: Some(spec_to_wire(&order.spec)),
        address: order.address.to_string(),
        ssh_keys: order.keys.to_lines(),
        copy_pass: order.copy_pass.map_or(0, |pass| pass.0.get()),
        must_exist: false,
        licence: None,
        origin: order.origin.as_ref().map(origin_to_wire),
        guests: share::guests_to_wire(&order.guests),
    }
}

/// Reads an offer.
///
/// # Errors
/// A part is missing.
pub fn offer_from_wire(offer: Option<v1::CopyOffer>) -> Result<CopyOffer, ConvertError> {
    let v1::CopyOffer { operation, secrets, certificate } = need("offer", offer)?;
    if !operation.starts_with("https://") {
        return Err(bad("offer.operation", "not an https address"));
    }
    if secrets.is_empty() || certificate.is_empty() {
        return Err(bad("offer", "without secrets or certificate"));
    }
    Ok(CopyOffer { operation, secrets: secrets.into_iter().collect(), certificate })
}

/// Writes an offer.
#[must_use]
pub fn offer_to_wire(offer: CopyOffer) -> v1::CopyOffer {
    let CopyOffer { operation, secrets, certificate } = offer;
    v1::CopyOffer { operation, secrets: secrets.into_iter().collect(), certificate }
}

fn desired_from_wire(desired: v1::Desired) -> Result<Desired, ConvertError> {
    match desired {
        v1::Desired::Unspecified => Err(bad("desired", "missing")),
        v1::Desired::Running => Ok(Desired::Running),
        v1::Desired::Stopped => Ok(Desired::Stopped),
        v1::Desired::Absent => Ok(Desired::Absent),
    }
}

fn desired_to_wire(desired: Desired) -> v1::Desired {
    match desired {
        Desired::Running => v1::Desired::Running,
        Desired::Stopped => v1::Desired::Stopped,
        Desired::Absent => v1::Desired::Absent,
    }
}

/// Reads what a node says of a container.
///
/// # Errors
/// Any field missing or invalid.
pub fn container_report_from_wire(report: &v1::ContainerReport) -> Result<ContainerReport, ConvertError> {
    let observed = match report.observed() {
        // What a later agent says and we have no word for is not known to us; the rest of its report is.
        v1::Observed::Unspecified if report.observed != 0 => Observed::Unknown,
        v1::Observed::Unspecified => return Err(bad("observed", "missing")),
        v1::Observed::Absent => Observed::Absent,
        v1::Observed::Converging => {
            let step = need("step", report.step.as_ref())?;
            Observed::Converging { step: Step { index: step.index, total: step.total, title: step.title.clone() } }
        }
        v1::Observed::Running => Observed::Running,
        v1::Observed::Stopped => Observed::Stopped,
        v1::Observed::AwaitingCopy => Observed::AwaitingCopy,
        v1::Observed::AwaitingWord => Observed::AwaitingWord,
        v1::Observed::Failed => Observed::Failed { error: report.error.clone(), permanent: report.permanent },
    };
    Ok(ContainerReport {
        id: parse("container_id", &report.container_id)?,
        name: report.name.clone(),
        generation: Generation(report.generation),
        observed,
        drift: report.drift.clone(),
        idle_since: Some(report.idle_since_unix_millis).filter(|at| *at > 0),
        claim: report.owner.parse().ok().zip(report.address.parse().ok()),
    })
}

/// Writes what a node says of a container.
#[must_use]
pub fn container_report_to_wire(report: &ContainerReport) -> v1::ContainerReport {
    let mut wire = v1::ContainerReport {
        container_id: report.id.to_string(),
        name: report.name.clone(),
        generation: report.generation.0,
        drift: report.drift.clone(),
        idle_since_unix_millis: report.idle_since.unwrap_or_default(),
        ..Default::default()
    };
    if let Some((owner, address)) = &report.claim {
        (wire.owner, wire.address) = (owner.to_string(), address.to_string());
    }
    let observed = match &report.observed {
        Observed::Unknown => v1::Observed::Unspecified,
        Observed::Absent => v1::Observed::Absent,
        Observed::Converging { step } => {
            wire.step = Some(v1::Step { index: step.index, total: step.total, title: step.title.clone() });
            v1::Observed::Converging
        }
        Observed::Running => v1::Observed::Running,
        Observed::Stopped => v1::Observed::Stopped,
        Observed::AwaitingCopy => v1::Observed::AwaitingCopy,
        Observed::AwaitingWord => v1::Observed::AwaitingWord,
        Observed::Failed { error, permanent } => {
            wire.error.clone_from(error);
            wire.permanent = *permanent;
            v1::Observed::Failed
        }
    };
    wire.set_observed(observed);
    wire
}

/// Reads a capacity.
#[must_use]
pub fn capacity_from_wire(capacity: &v1::Capacity) -> Capacity {
    Capacity {
        cpus: capacity.cpus,
        memory: Bytes(capacity.memory_bytes),
        memory_used: Bytes(capacity.memory_used_bytes),
        disk: Bytes(capacity.disk_bytes),
        disk_used: Bytes(capacity.disk_used_bytes),
    }
}

/// Writes a capacity.
#[must_use]
pub fn capacity_to_wire(capacity: &Capacity) -> v1::Capacity {
    v1::Capacity {
        cpus: capacity.cpus,
        memory_bytes: capacity.memory.0,
        memory_used_bytes: capacity.memory_used.0,
        disk_bytes: capacity.disk.0,
        disk_used_bytes: capacity.disk_used.0,
    }
}

/// Reads an image.
///
/// # Errors
/// A fingerprint that is none.
pub fn image_from_wire(image: &v1::Image) -> Result<Image, ConvertError> {
    Ok(Image { alias: image.alias.clone(), fingerprint: parse("image.fingerprint", &image.fingerprint)? })
}

/// Writes an image.
#[must_use]
pub fn image_to_wire(image: &Image) -> v1::Image {
    v1::Image { alias: image.alias.clone(), fingerprint: image.fingerprint.to_string() }
}

/// Reads a node's report.
///
/// # Errors
/// Any field missing or invalid.
pub fn node_report_from_wire(report: &v1::NodeReport) -> Result<NodeReport, ConvertError> {
    Ok(NodeReport {
        node: parse("node", &report.node)?,
        agent_version: report.agent_version.clone(),
        boot_id: report.boot_id.clone(),
        incarnation: report.incarnation.clone(),
        revision: report.revision,
        containers: report.containers.iter().map(container_report_from_wire).collect::<Result<_, _>>()?,
        capacity: capacity_from_wire(need("capacity", report.capacity.as_ref())?),
        container_cidr: parse("container_cidr", &report.container_cidr)?,
        container_gateway: parse("container_gateway", &report.container_gateway)?,
        images: report.images.iter().map(image_from_wire).collect::<Result<_, _>>()?,
        access_revision: AccessRevision(report.access_revision),
        foreign_users: report.foreign_users.clone(),
        warnings: report.warnings.clone(),
        guard: guard_from_wire(report.guard.as_ref())?,
        identities: report.identities.as_ref().map(identities_from_wire).transpose()?,
        preempting: report.preempting,
        backup_store: report.backup_store.clone(),
        level: report.level,
    })
}

/// Writes a node's report.
#[must_use]
pub fn node_report_to_wire(report: &NodeReport) -> v1::NodeReport {
    v1::NodeReport {
        node: report.node.to_string(),
        agent_version: report.agent_version.clone(),
        boot_id: report.boot_id.clone(),
        incarnation: report.incarnation.clone(),
        revision: report.revision,
        containers: report.containers.iter().map(container_report_to_wire).collect(),
        capacity: Some(capacity_to_wire(&report.capacity)),
        container_cidr: report.container_cidr.to_string(),
        container_gateway: report.container_gateway.to_string(),
        images: report.images.iter().map(image_to_wire).collect(),
        access_revision: report.access_revision.0,
        foreign_users: report.foreign_users.clone(),
        warnings: report.warnings.clone(),
        guard: Some(guard_to_wire(&report.guard)),
        identities: report.identities.as_ref().map(identities_to_wire),
        preempting: report.preempting,
        backup_store: report.backup_store.clone(),
        level: report.level,
    }
}

/// Reads an account.
///
/// # Errors
/// A reserved name, a bad key, a bad address.
pub fn account_from_wire(account: &v1::Account) -> Result<Account, ConvertError> {
    let permit = match account.permit_address.as_str() {
        "" => None,
        text => Some(parse::<Ipv4Addr>("permit_address", text)?),
    };
    let keys = KeySet::from_recorded(account.ssh_keys.iter().map(String::as_str)).map_err(|e| bad("ssh_keys", e))?;
    let shared = account.shared.iter().map(share::permit_from_wire).collect::<Result<_, _>>()?;
    Ok(Account { username: parse("username", &account.username)?, ssh_keys: keys.to_lines(), permit, shared })
}

/// Writes an account.
#[must_use]
pub fn account_to_wire(account: &Account) -> v1::Account {
    v1::Account {
        username: account.username.to_string(),
        ssh_keys: account.ssh_keys.clone(),
        permit_address: account.permit.map(|address| address.to_string()).unwrap_or_default(),
        shared: account.shared.iter().map(share::permit_to_wire).collect(),
    }
}

#[cfg(test)]
mod tests;
