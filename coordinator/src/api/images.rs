//! Calls about golden images: which there are, where, and which one a create gets. Bringing them to every node is the
//! business of `images`.

use std::collections::{BTreeMap, BTreeSet};

use containarium_proto::{
    error::{Reason, Refusal},
    names::NodeName,
    spec::Image,
    v1,
};

use super::parse;
use crate::{
    config::Defaults,
    image,
    node::live::Sight,
    placement::Candidate,
    placing,
    reign::Reign,
    store::{EventKind, NodeRow, Policy},
};

/// What a create gets that says nothing, the operator's choice of an image included.
pub(super) async fn defaults(reign: &Reign) -> Result<Defaults, Refusal> {
    let mut defaults = reign.config.defaults.clone();
    if let Some(image) = reign.store.reader().await?.default_image().await? {
        defaults.image = image;
    }
    Ok(defaults)
}

/// From the database and what is known; no node is asked.
pub(super) async fn list(reign: &Reign) -> Result<Vec<v1::FleetImage>, Refusal> {
    let mut reader = reign.store.reader().await?;
    let (mut nodes, claims) = reader.nodes_and_claims().await?;
    drop(reader);
    nodes.retain(|node| node.policy != Policy::Retired);
    let sights = reign.sights();
    let candidates = placing::candidates(&nodes, &claims, &sights);
    let mut found: BTreeMap<(String, String), BTreeSet<&NodeName>> = BTreeMap::new();
    for candidate in &candidates {
        for image in &candidate.images {
            let key = (image.alias.clone(), image.fingerprint.to_string());
            found.entry(key).or_default().insert(&candidate.name);
        }
    }
    let wanted = defaults(reign).await?.image;
    let default = image::resolve(&wanted, candidates.iter().map(|c| c.images.as_slice())).ok();
    let states = |alias: &str, fingerprint: &str| -> Vec<v1::ImageOnNode> {
        let Ok(fingerprint) = fingerprint.parse() else { return Vec::new() };
        let image = Image { alias: alias.to_owned(), fingerprint };
        let one = |(node, candidate): (&NodeRow, &Candidate)| {
            let answers = sights.get(&node.name).is_some_and(Sight::is_online);
            reign.image_notes.state(&image, node, &candidate.images, answers)
        };
        // Both are by name.
        nodes.iter().zip(&candidates).map(one).collect()
    };
    let image = |((alias, fingerprint), on): ((String, String), BTreeSet<&NodeName>)| v1::FleetImage {
        on_nodes: states(&alias, &fingerprint),
        is_default: default.as_ref().is_some_and(|d| d.alias == alias && d.fingerprint.to_string() == fingerprint),
        nodes: on.iter().map(ToString::to_string).collect(),
        missing_on: nodes.iter().map(|n| &n.name).filter(|n| !on.contains(n)).map(ToString::to_string).collect(),
        alias,
        fingerprint,
    };
    Ok(found.into_iter().map(image).collect())
}

/// Chooses what a create gets that names no image.
pub(super) async fn set_default(reign: &Reign, request: &v1::SetDefaultImageRequest) -> Result<(), Refusal> {
    let wanted = parse::image_name(&request.image)?;
    let mut tx = reign.write().await?;
    if !wanted.is_empty() {
        let (nodes, claims) = tx.reader().nodes_and_claims().await?;
        let candidates = placing::candidates(&nodes, &claims, &reign.sights());
        image::resolve(wanted, candidates.iter().map(|c| c.images.as_slice())).map_err(|known| {
            Refusal::new(Reason::NotFound, format!("there is no image '{wanted}' on any node"))
                .hint(format!("known images: {}", known.join(", ")))
        })?;
    }
    if tx.reader().default_image().await?.unwrap_or_default() == wanted {
        return Ok(());
    }
    tx.set_default_image(wanted).await?;
    let shown = if wanted.is_empty() { "what the coordinator was started with" } else { wanted };
    tx.note("", EventKind::FleetImage, &format!("creates get {shown}")).await?;
    tx.commit().await?;
    Ok(())
}
