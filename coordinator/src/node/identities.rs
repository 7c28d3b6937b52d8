//! Giving the hosts on one node the certificates they lack. Each pass reads the rows and the node's words again; a
//! certificate that was lost on the way is signed anew, which harms nobody. It must never read or send a host's key.

use std::{error::Error, time::Instant};

use containarium_proto::{
    identity::{Host, HostCertificate, HostIdentity},
    names::NodeName,
};
use futures::{StreamExt, stream};

use super::{client::AgentClient, live::NodeLive, pacer::Pacer};
use crate::{
    identity::{self, Lacking, Wanted},
    reign::Reign,
    store::{EventKind, StoreError},
};

/// Each takes a reload of an sshd.
const AT_ONCE: usize = 4;

/// Never ends. A report with news wakes it, and the next try of what failed.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut pacer = Pacer::new(timings.retry_min, timings.retry_max);
    loop {
        if let Err(error) = pass(reign, live, client, &mut pacer).await {
            tracing::error!(error = &error as &dyn Error, "a pass over the host certificates failed");
            tokio::time::sleep(timings.retry_min).await;
        }
        tokio::select! {
            () = live.identities_changed.notified() => {}
            () = pacer.until_next() => {}
        }
    }
}

/// One certificate to be made.
struct Task {
    host: Host,
    shown: HostIdentity,
    wanted: Wanted,
    why: Lacking,
}

/// The same again is the same key with the same names by the same authority.
type Version = (String, String, Vec<String>);

async fn pass(
    reign: &Reign,
    live: &NodeLive,
    client: &AgentClient,
    pacer: &mut Pacer<Host, Version>,
) -> Result<(), StoreError> {
    let mut tasks = lacking(reign, live).await?;
    pacer.keep(|host| tasks.iter().any(|task| task.host == *host));
    let now = Instant::now();
    tasks.retain(|task| {
        let names = task.wanted.names.iter().cloned().collect();
        pacer.may_say(task.host, (task.shown.key.fingerprint(), task.wanted.authority.clone(), names), now)
    });
    if tasks.is_empty() {
        return Ok(());
    }
    let Some(authority) = reign.store.reader().await?.signing_authority().await? else { return Ok(()) };
    let mut signed = Vec::with_capacity(tasks.len());
    for task in tasks {
        let window = identity::window(identity::now(), task.wanted.validity);
        match authority.sign(&task.shown.key, &task.wanted.names, window) {
            Ok(certificate) => signed.push((task, certificate)),
            Err(error) => tracing::error!(host = ?task.host, %error, "a host certificate could not be made"),
        }
    }
    drop(authority);
    let calls = signed.into_iter().map(|(task, certificate)| give(reign, &live.name, client, task, certificate));
    stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<()>().await;
    Ok(())
}

/// Nothing while the node is away: the next report wakes us.
async fn lacking(reign: &Reign, live: &NodeLive) -> Result<Vec<Task>, StoreError> {
    let sight = live.sight();
    let report = sight.report.as_ref().filter(|_| sight.is_online());
    let Some(shown) = report.and_then(|report| report.identities.as_ref()) else { return Ok(Vec::new()) };
    let Some(issue) = identity::Issue::read(reign).await? else { return Ok(Vec::new()) };
    let mut reader = reign.store.reader().await?;
    let Some(node) = reader.node(&live.name).await? else { return Ok(Vec::new()) };
    let wanted = issue.of_all(&node, &reader.on_node(&live.name).await?);
    let all = identity::lacking(shown, &wanted, identity::now());
    Ok(all.map(|(host, shown, wanted, why)| Task { host, shown: shown.clone(), wanted: wanted.clone(), why }).collect())
}

async fn give(reign: &Reign, node: &NodeName, client: &AgentClient, task: Task, certificate: HostCertificate) {
    let Task { host, shown, why, .. } = task;
    let key = shown.key.fingerprint();
    if let Err(error) = client.install_certificate(host, &certificate).await {
        tracing::warn!(
            ?host,
            key,
            ?why,
            error = &error as &dyn Error,
            "a host certificate was not taken, will be repeated"
        );
        return;
    }
    tracing::info!(?host, key, ?why, until = certificate.facts().valid_before, "host certificate given");
    // A server's key is everybody's concern; a container's is renewed with each of many.
    let message = match (host, why) {
        (Host::Node, Lacking::All) => format!("its host key {key} is certified"),
        (Host::Node, Lacking::Authority | Lacking::Names | Lacking::Time | Lacking::Renewal) => {
            format!("the certificate of its host key {key} is renewed")
        }
        (Host::Container(_), _) => return,
    };
    if let Err(error) = note(reign, node, &message).await {
        tracing::error!(error = &error as &dyn Error, "an event was lost");
    }
}

async fn note(reign: &Reign, node: &NodeName, message: &str) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    tx.note(node.as_str(), EventKind::NodeCertified, message).await?;
    tx.commit().await?;
    reign.wake_streams();
    Ok(())
}
