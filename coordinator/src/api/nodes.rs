//! Calls about nodes: adding, showing, and the operator's word on them.

use std::collections::BTreeMap;

use containarium_proto::{
    VERSION, convert,
    error::{Reason, Refusal},
    labels::Labels,
    names::NodeName,
    v1,
};

use super::{
    backups, images, parse,
    refuse::{field, no_such_node},
    render, view,
};
use crate::{
    config::Defaults,
    image,
    node::{Drivers, check_address, live::Sight},
    placement::{self, Candidate, Demand, Loads, Resources},
    placing,
    reign::Reign,
    store::{EventKind, NodeRow, Policy, WriteTx},
    version,
};

/// Adds a node and starts its driver; the same again is no error.
pub(super) async fn add(reign: &Reign, drivers: &Drivers, request: &v1::AddNodeRequest) -> Result<v1::Node, Refusal> {
    let name = parse::node(&request.name)?;
    let address = request.address.trim();
    if !check_address(address) {
        let shown: String = address.chars().take(80).flat_map(char::escape_default).collect();
        return Err(field(
            format!("node address '{shown}' is not host:port"),
            "give the agent's, such as 10.0.0.5:7443",
        ));
    }
    let mut tx = reign.write().await?;
    let nodes = tx.reader().nodes().await?;
    if let Some(clash) = nodes.iter().find(|n| n.name == name || n.address == address) {
        if clash.name == name && clash.policy == Policy::Retired {
            readmit(&mut tx, clash, address).await?;
            tx.commit().await?;
        } else if clash.name != name || clash.address != address {
            let message = format!("node {} has the address {} already", clash.name, clash.address);
            return Err(Refusal::new(Reason::AlreadyExists, message).hint("see 'containarium node list'"));
        }
    } else {
        tx.insert_node(&name, address).await?;
        // A node with nothing to sync would never be told that it has all of it, and stay out of rotation.
        tx.bump_access().await?;
        tx.note(name.as_str(), EventKind::NodeAdded, &format!("at {address}")).await?;
        tx.commit().await?;
    }
    drivers.ensure(&name, address);
    reign.wake_streams();
    get(reign, &name).await
}

/// A retired node under its old name, perhaps on another machine. What was lost with it must be settled first.
async fn readmit(tx: &mut WriteTx, row: &NodeRow, address: &str) -> Result<(), Refusal> {
    let rows = tx.reader().on_node(&row.name).await?;
    if let Some(held) = rows.first() {
        let message = format!("{} was retired as lost with {} containers", row.name, rows.len());
        return Err(Refusal::new(Reason::Refused, message)
            .hint(format!("restore or delete them first, such as {}'s", held.container.owner)));
    }
    tx.set_address(&row.name, address).await?;
    tx.set_policy(&row.name, Policy::Active).await?;
    tx.note(row.name.as_str(), EventKind::NodeAdded, &format!("again, at {address}")).await?;
    Ok(())
}

pub(super) async fn set_policy(reign: &Reign, request: &v1::SetNodePolicyRequest) -> Result<v1::Node, Refusal> {
    let name = parse::node(&request.name)?;
    let policy = parse::policy(request.policy())?;
    let kind = match policy {
        Policy::Active => EventKind::NodeActive,
        Policy::Cordoned => EventKind::NodeCordoned,
        Policy::Draining | Policy::Retired => {
            return Err(field("a node is drained and retired by calls of their own", "say active or cordoned"));
        }
    };
    let mut tx = reign.write().await?;
    let row = tx.reader().node(&name).await?;
    let row = row.ok_or_else(|| no_such_node(name.as_str()))?;
    if row.policy == Policy::Retired {
        let message = format!("{name} is retired");
        return Err(
            Refusal::new(Reason::Refused, message).hint("'containarium node add' takes it into the fleet again")
        );
    }
    if row.policy != policy {
        tx.set_policy(&name, policy).await?;
        tx.note(name.as_str(), kind, "by an operator").await?;
        tx.commit().await?;
        reign.wake_all();
    }
    get(reign, &name).await
}

pub(super) async fn get(reign: &Reign, name: &NodeName) -> Result<v1::Node, Refusal> {
    let found = list(reign).await?.into_iter().find(|node| node.name == name.as_str());
    let mut node = found.ok_or_else(|| no_such_node(name.as_str()))?;
    node.lost = backups::lost_with(reign, name).await?;
    Ok(node)
}

/// From the database and what is known; no node is asked.
pub(super) async fn list(reign: &Reign) -> Result<Vec<v1::Node>, Refusal> {
    let mut reader = reign.store.reader().await?;
    let (rows, claims) = reader.nodes_and_claims().await?;
    drop(reader);
    let sights = reign.sights();
    let candidates = placing::candidates(&rows, &claims, &sights);
    let demand = usual_demand(&images::defaults(reign).await?, &candidates);
    let usual = placement::judge(&demand, &candidates, &reign.config.overcommit);
    let mut verdicts: BTreeMap<String, v1::NodeVerdict> =
        render::verdicts(&usual, None).into_iter().map(|verdict| (verdict.node.clone(), verdict)).collect();
    let by_name: BTreeMap<_, _> = candidates.iter().map(|c| (&c.name, c)).collect();
    let mut nodes = Vec::with_capacity(rows.len());
    for row in &rows {
        let (candidate, verdict) = (by_name.get(&row.name), verdicts.remove(row.name.as_str()));
        if let (Some(candidate), Some(verdict)) = (candidate, verdict) {
            nodes.push(render_node(reign, row, candidate, sights.get(&row.name), verdict));
        }
    }
    Ok(nodes)
}

/// "Would it take one more?" is asked with what a create gets that says nothing.
fn usual_demand(defaults: &Defaults, candidates: &[Candidate]) -> Demand {
    let image = image::resolve(&defaults.image, candidates.iter().map(|c| c.images.as_slice()));
    Demand {
        resources: Resources {
            cpu_millis: u64::from(defaults.cpu.reserved_millis()),
            memory_bytes: defaults.memory.0,
            disk_bytes: defaults.disk.0,
        },
        cpu: defaults.cpu.clone(),
        image: image.ok().map(|chosen| chosen.fingerprint),
        labels: Labels::default(),
    }
}

fn render_node(
    reign: &Reign,
    row: &NodeRow,
    candidate: &Candidate,
    sight: Option<&Sight>,
    verdict: v1::NodeVerdict,
) -> v1::Node {
    let limits = row.settings.over(&reign.config.overcommit);
    let report = sight.and_then(|s| s.report.as_deref());
    let reserved = candidate.reserved;
    let mut warnings: Vec<String> = candidate.problem.iter().cloned().collect();
    warnings.extend(report.into_iter().flat_map(|r| r.warnings.iter().cloned()));
    warnings
        .extend(sight.into_iter().flat_map(|s| &s.access.failures).map(|(user, why)| format!("account {user}: {why}")));
    warnings.extend(report.and_then(|report| version::older_agent(&report.agent_version, VERSION)));
    let beyond = sight.map_or(&[][..], |s| &s.beyond_agent);
    if !beyond.is_empty() {
        warnings.push(format!("its agent is too old for what is ordered of {}: upgrade it", beyond.join(", ")));
    }
    let ahead = sight.map_or(&[][..], |s| &s.ahead_of_us);
    if !ahead.is_empty() {
        warnings.push(format!("knows newer orders than our database for {}: was it restored?", ahead.join(", ")));
    }
    for stray in sight.into_iter().flat_map(|s| &s.strays) {
        let (stray, node) = (&stray.name, &row.name);
        warnings
            .push(format!("{stray} is there, and the database does not know it: see 'containarium node adopt {node}'"));
    }
    v1::Node {
        name: row.name.to_string(),
        address: row.address.clone(),
        availability: render::availability(candidate.availability).into(),
        policy: render::policy(row.policy).into(),
        detail: detail(candidate, sight),
        container_cidr: row.network.map(|(cidr, _)| cidr.to_string()).unwrap_or_default(),
        capacity: candidate.capacity.as_ref().map(convert::capacity_to_wire),
        containers: u32::try_from(candidate.addresses.len()).unwrap_or(u32::MAX),
        reserved_cpu_millis: u32::try_from(reserved.cpu_millis).unwrap_or(u32::MAX),
        reserved_memory_bytes: reserved.memory_bytes,
        reserved_disk_bytes: reserved.disk_bytes,
        load_permille: placement::load_now(candidate, &limits),
        images: candidate.images.iter().map(convert::image_to_wire).collect(),
        agent_version: report.map(|r| r.agent_version.clone()).unwrap_or_default(),
        access_revision: sight.map_or(0, |s| s.access.tried.0),
        last_seen_unix_millis: sight.and_then(|s| s.last_seen_at).unwrap_or_default(),
        warnings,
        not_placing_because: if verdict.fits { String::new() } else { verdict.reason.clone() },
        labels: row.labels.to_wire(),
        settings: Some(render::settings(&row.settings)),
        effective: Some(render::limits(&limits, candidate.capacity)),
        loads: render::loads(Loads::of(candidate, &limits)),
        default_create: Some(verdict),
        lost: Vec::new(),
        backup_store: report.map(|r| r.backup_store.clone()).unwrap_or_default(),
    }
}

fn detail(candidate: &Candidate, sight: Option<&Sight>) -> String {
    match sight.and_then(|s| s.problem.as_ref()) {
        Some(problem) => format!("{problem}; last heard {}", view::last_heard(sight)),
        None => candidate.problem.clone().unwrap_or_default(),
    }
}
