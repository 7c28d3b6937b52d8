//! ImportImage: the caller's bytes go through to one node, a few messages at a time, and nothing of them is kept here.
//! All of it is one future that the caller's stream drives: whoever leaves, nothing is left behind but on a node that had
//! it all. The other nodes fetch it from there as they do any image.

use std::{sync::Arc, time::Duration};

use containarium_proto::{
    error::{Reason, Refusal},
    image::ImageFiles,
    names::NodeName,
    spec::Image,
    v1::{self, import_image_request::Part},
};
use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming};

use super::parse;
use crate::{
    node::{
        CallError, Drivers,
        live::{Sight, Sights},
    },
    reign::Reign,
    store::{EventKind, NodeRow, Policy},
};

/// The first message, which is small.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(15);
/// One message over a slow line, or a node whose disk is busy. Whoever takes longer has gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Messages in memory.
const AHEAD: usize = 2;
/// Between the end of an import and the node's own word that it has the image.
const REPORTED_WITHIN: Duration = Duration::from_secs(20);

pub(super) type ImportStream = BoxStream<'static, Result<v1::ImportImageProgress, Status>>;
type Requests = Streaming<v1::ImportImageRequest>;

/// Checks what can be known before the first byte; the stream does the rest.
pub(super) async fn import(
    reign: Arc<Reign>,
    drivers: Arc<Drivers>,
    mut requests: Requests,
) -> Result<ImportStream, Status> {
    let (files, wanted) = announced(&mut requests).await?;
    reign.first_round().await;
    let nodes = reign.store.reader().await.map_err(Refusal::from)?.nodes().await.map_err(Refusal::from)?;
    let there = taken(&files.image, &nodes, &reign.sights())?;
    if let Some(node) = there.iter().find(|node| wanted.as_ref().is_none_or(|wanted| wanted == *node)) {
        let done = v1::ImportImageProgress { node: node.to_string(), done: true, was_there: true };
        return Ok(stream::once(std::future::ready(Ok(done))).boxed());
    }
    let node = choose(wanted.as_ref(), &nodes, &reign.sights())?;
    let begun = v1::ImportImageProgress { node: node.to_string(), ..Default::default() };
    let relayed = async move {
        relay(&reign, &drivers, requests, &files, &node).await?;
        Ok(v1::ImportImageProgress { node: node.to_string(), done: true, was_there: false })
    };
    Ok(stream::once(std::future::ready(Ok(begun))).chain(relayed.into_stream()).boxed())
}

async fn announced(requests: &mut Requests) -> Result<(ImageFiles, Option<NodeName>), Status> {
    let first = timeout(ANNOUNCED_WITHIN, requests.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("the image was not announced"))??;
    let Some(Part::Image(asked)) = first.and_then(|first| first.part) else {
        return Err(Refusal::new(Reason::InvalidArgument, "the first message must announce the image").into());
    };
    let files = ImageFiles::from_wire(asked.image.as_ref(), asked.metadata_bytes, asked.rootfs_bytes)
        .map_err(|error| Refusal::new(Reason::InvalidArgument, error.to_string()))?;
    let node = if asked.node.is_empty() { None } else { Some(parse::node(&asked.node)?) };
    Ok((files, node))
}

/// The nodes that have it, as they last said. Refuses a name that is another image's anywhere: it would mean two things.
fn taken(image: &Image, nodes: &[NodeRow], sights: &Sights) -> Result<Vec<NodeName>, Refusal> {
    let mut there = Vec::new();
    for node in nodes.iter().filter(|node| node.policy != Policy::Retired) {
        let report = sights.get(&node.name).and_then(|sight| sight.report.as_ref());
        let images = report.map_or(&node.images, |report| &report.images);
        match images.iter().find(|own| own.alias == image.alias) {
            Some(own) if own.fingerprint == image.fingerprint => there.push(node.name.clone()),
            Some(own) => {
                let message = format!("{} is another image, {:.12}, on {}", image.alias, own.fingerprint, node.name);
                return Err(Refusal::new(Reason::AlreadyExists, message)
                    .hint("images keep their names: give this one its own, and see 'containarium image default'"));
            }
            None => {}
        }
    }
    Ok(there)
}

/// The node that was named, or the one with most room on its disk.
fn choose(wanted: Option<&NodeName>, nodes: &[NodeRow], sights: &Sights) -> Result<NodeName, Refusal> {
    let known = |name: &NodeName| nodes.iter().any(|n| n.name == *name && n.policy != Policy::Retired);
    if let Some(name) = wanted.filter(|name| !known(name)) {
        let hint = "see 'containarium node list'";
        return Err(Refusal::new(Reason::NotFound, format!("there is no server '{name}'")).hint(hint));
    }
    let answers = |name: &NodeName| sights.get(name).is_some_and(Sight::is_online);
    let room = |node: &NodeRow| node.capacity.map_or(0, |size| size.disk.0.saturating_sub(size.disk_used.0));
    let candidates = nodes.iter().filter(|node| {
        wanted.map_or(node.policy == Policy::Active, |wanted| *wanted == node.name) && answers(&node.name)
    });
    // Of equal ones the first by name, so that the same import goes the same way.
    let best = candidates.max_by(|a, b| room(a).cmp(&room(b)).then_with(|| b.name.cmp(&a.name)));
    best.map(|node| node.name.clone()).ok_or_else(|| {
        let message = match wanted {
            Some(name) => format!("{name} does not answer"),
            None => "no server that may take anything answers".to_owned(),
        };
        Refusal::new(Reason::NodeUnavailable, message).hint("nothing was sent; see 'containarium node list'")
    })
}

async fn relay(
    reign: &Reign,
    drivers: &Drivers,
    requests: Requests,
    files: &ImageFiles,
    node: &NodeName,
) -> Result<(), Status> {
    let client = drivers.client(node).ok_or_else(|| Status::unavailable(format!("{node} has no driver")))?;
    let (pieces, received) = mpsc::channel(AHEAD);
    tracing::info!(alias = files.image.alias, %node, bytes = files.total_bytes(), "an image is imported");
    let sent = async {
        match pump(requests, files.total_bytes(), pieces).await {
            // Sent, or the node has ended it: its answer says which.
            Ok(()) => std::future::pending().await,
            Err(status) => status,
        }
    };
    // The node first: when it has refused, that is why the pump stopped.
    tokio::select! {
        biased;
        outcome = client.receive_image(files, received) => outcome.map_err(|error| refused(node, &error))?,
        // Dropping the call breaks it off at the node, which keeps nothing.
        status = sent => return Err(status),
    }
    let message = format!("has image {}, imported", files.image.alias);
    let mut tx = reign.write().await.map_err(Refusal::from)?;
    tx.note(node.as_str(), EventKind::NodeImage, &message).await.map_err(Refusal::from)?;
    tx.commit().await.map_err(Refusal::from)?;
    reign.wake_streams();
    until_reported(reign, node, &files.image).await;
    Ok(())
}

/// Hands on what comes. Ends well when all of it is handed on, or nobody takes it any more.
async fn pump(mut requests: Requests, total: u64, pieces: mpsc::Sender<Vec<u8>>) -> Result<(), Status> {
    let mut left = total;
    while left > 0 {
        let next = timeout(SILENCE, requests.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("the image stood still"))??;
        let Some(Part::Bytes(bytes)) = next.and_then(|next| next.part) else {
            return Err(Refusal::new(Reason::InvalidArgument, "the image broke off: nothing was imported").into());
        };
        let Some(rest) = left.checked_sub(bytes.len() as u64) else {
            return Err(Refusal::new(Reason::InvalidArgument, "the image has more bytes than announced").into());
        };
        left = rest;
        match timeout(SILENCE, pieces.send(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Refusal::new(Reason::NodeUnavailable, "the server takes no more of the image").into()),
        }
    }
    Ok(())
}

fn refused(node: &NodeName, error: &CallError) -> Refusal {
    let reason = match error {
        CallError::Refused(status) if status.code() == Code::InvalidArgument => Reason::InvalidArgument,
        _ => Reason::NodeUnavailable,
    };
    let hint = match reason {
        Reason::InvalidArgument => {
            "give the two files of one image, as 'deploy/image/bake' or 'incus image export' write"
        }
        _ => "nothing was imported; the same command does it again",
    };
    Refusal::new(reason, format!("{node} has not taken the image: {error}")).hint(hint)
}

/// So that a create right after finds it. The node looks every few seconds; if its word does not come, the image is there
/// all the same.
async fn until_reported(reign: &Reign, node: &NodeName, image: &Image) {
    let mut changes = reign.changes();
    let reported = async {
        loop {
            changes.mark_unchanged();
            let sights = reign.sights();
            let report = sights.get(node).and_then(|sight| sight.report.as_ref());
            if report.is_some_and(|report| report.images.contains(image)) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    timeout(REPORTED_WITHIN, reported).await.unwrap_or_default();
}
