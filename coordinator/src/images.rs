//! Golden images on every node: what one node has and another lacks is fetched from the one by the other, before a
//! create needs it. It must never remove an image, nor move a name that a node has given.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{names::NodeName, spec::Image};
use tokio::task::JoinSet;

use crate::{
    clock,
    image_notes::Note,
    node::{Drivers, live::Sights},
    reign::Reign,
    store::{EventKind, StoreError},
};

/// A fetch that failed, on a full disk perhaps, is not repeated sooner.
const RETRY: Duration = Duration::from_secs(60);
/// At most so often.
const PACE: Duration = Duration::from_millis(100);
/// Without any change, nodes are looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// One image that one node is to fetch from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fetch {
    image: Image,
    from: NodeName,
    to: NodeName,
}

/// What is lacking where: one fetch per node at a time. A node that has the name for something else keeps it.
fn plan(nodes: &BTreeMap<NodeName, Vec<Image>>) -> Vec<Fetch> {
    let mut fetches = Vec::new();
    // The first that offers each name: not every node is compared with every other.
    let mut names = BTreeSet::new();
    let all = nodes.iter().flat_map(|(from, images)| images.iter().map(move |image| (image, from)));
    let offered: Vec<(&Image, &NodeName)> = all.filter(|(image, _)| names.insert(&image.alias)).collect();
    for (to, has) in nodes {
        let lacks = |image: &Image| has.iter().all(|own| own.alias != image.alias);
        if let Some((image, from)) = offered.iter().find(|(image, _)| lacks(image)) {
            fetches.push(Fetch { image: (*image).clone(), from: (*from).clone(), to: to.clone() });
        }
    }
    fetches
}

fn online(sights: &Sights) -> BTreeMap<NodeName, Vec<Image>> {
    let reports = sights.iter().filter(|(_, sight)| sight.is_online());
    reports.filter_map(|(name, sight)| Some((name.clone(), sight.report.as_ref()?.images.clone()))).collect()
}

/// When a fetch may begin, by what it is.
#[derive(Debug, Default)]
struct Patience {
    not_before: BTreeMap<(NodeName, String), Instant>,
}

impl Patience {
    /// Whether it was lacking for so long that the node does not bring it by itself: an operator's import on every
    /// node must not become a fetch on every node.
    fn is_over(&mut self, fetch: &Fetch, patience: Duration) -> bool {
        let key = (fetch.to.clone(), fetch.image.alias.clone());
        *self.not_before.entry(key).or_insert_with(|| Instant::now() + patience) <= Instant::now()
    }

    fn wait(&mut self, fetch: &Fetch, how_long: Duration) {
        self.not_before.insert((fetch.to.clone(), fetch.image.alias.clone()), Instant::now() + how_long);
    }

    /// Forgets what lacks no more.
    fn keep(&mut self, lacking: &[Fetch]) {
        self.not_before.retain(|(to, alias), _| lacking.iter().any(|f| f.to == *to && f.image.alias == *alias));
    }
}

/// Never ends; its fetches end with it.
pub(crate) async fn run(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    let mut changes = reign.changes();
    let mut fetches: JoinSet<(Fetch, bool)> = JoinSet::new();
    let mut busy = BTreeSet::new();
    let mut patience = Patience::default();
    reign.first_round().await;
    loop {
        // Nodes report all the time, and a fetch takes seconds.
        tokio::time::sleep(PACE).await;
        changes.mark_unchanged();
        let lacking = plan(&online(&reign.sights()));
        patience.keep(&lacking);
        for fetch in lacking {
            if patience.is_over(&fetch, reign.config.timings.image_patience) && busy.insert(fetch.to.clone()) {
                fetches.spawn(carry_out(reign.clone(), drivers.clone(), fetch));
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            Some(ended) = fetches.join_next() => match ended {
                Ok((fetch, done)) => {
                    busy.remove(&fetch.to);
                    // Done: the next report says so.
                    patience.wait(&fetch, if done { LOOK_AGAIN } else { RETRY });
                }
                Err(error) => tracing::error!(%error, "a fetch died"),
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn carry_out(reign: Arc<Reign>, drivers: Arc<Drivers>, fetch: Fetch) -> (Fetch, bool) {
    let Fetch { image, from, to } = &fetch;
    tracing::info!(alias = image.alias, %from, %to, "an image is fetched");
    reign.image_notes.set(to, &image.alias, Note::Fetching { from: from.clone(), since: clock::now() });
    let outcome = bring(&reign, &drivers, &fetch).await;
    match &outcome {
        Ok(()) => reign.image_notes.clear(to, &image.alias),
        Err(error) => {
            let note = Note::Failed { why: format!("cannot be fetched from {from}: {error}"), at: clock::now() };
            reign.image_notes.set(to, &image.alias, note);
        }
    }
    let (kind, message) = match &outcome {
        Ok(()) => (EventKind::NodeImage, format!("has image {}, from {from}", image.alias)),
        Err(error) => (EventKind::NodeImageFailed, format!("cannot fetch image {} from {from}: {error}", image.alias)),
    };
    if let Err(error) = note(&reign, to, kind, &message).await {
        tracing::error!(error = &error as &dyn Error, "an event was lost");
    }
    let done = outcome.is_ok();
    (fetch, done)
}

async fn bring(reign: &Reign, drivers: &Drivers, fetch: &Fetch) -> Result<(), Box<dyn Error + Send + Sync>> {
    let node = reign.store.reader().await?.node(&fetch.from).await?.ok_or("the source is not known any more")?;
    let giving = drivers.client(&fetch.from).ok_or("the source has no driver")?;
    let taking = drivers.client(&fetch.to).ok_or("the target has no driver")?;
    let offer = giving.offer_image(&fetch.image.fingerprint, node.host()).await?;
    Ok(taking.fetch_image(&fetch.image, offer).await?)
}

async fn note(reign: &Reign, node: &NodeName, kind: EventKind, message: &str) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    tx.note(node.as_str(), kind, message).await?;
    tx.commit().await?;
    reign.wake_streams();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(alias: &str, digit: char) -> Image {
        Image { alias: alias.into(), fingerprint: digit.to_string().repeat(64).parse().unwrap() }
    }

    #[test]
    fn what_a_node_lacks_comes_from_one_that_has_it_and_no_name_is_moved() {
        let nodes = BTreeMap::from([
            ("a".parse().unwrap(), vec![image("containarium", '1'), image("containarium-new", '2')]),
            ("b".parse().unwrap(), vec![image("containarium", '3')]),
            ("c".parse().unwrap(), vec![]),
        ]);
        let fetches = plan(&nodes);
        let told = |f: &Fetch| (f.image.alias.clone(), f.from.to_string(), f.to.to_string());
        assert_eq!(
            fetches.iter().map(told).collect::<Vec<_>>(),
            [
                ("containarium-new".into(), "a".into(), "b".into()),
                ("containarium".into(), "a".to_owned(), "c".to_owned())
            ]
        );
        assert_eq!(plan(&BTreeMap::from([("a".parse().unwrap(), vec![image("x", '1')])])), []);
    }

    #[test]
    fn a_node_gets_time_to_bring_it_by_itself() {
        let fetch = Fetch { image: image("x", '1'), from: "a".parse().unwrap(), to: "b".parse().unwrap() };
        let mut patience = Patience::default();
        assert!(!patience.is_over(&fetch, Duration::from_secs(60)));
        assert!(!patience.is_over(&fetch, Duration::ZERO), "the time it was first given");
        patience.keep(&[]);
        assert!(patience.is_over(&fetch, Duration::ZERO));
        patience.wait(&fetch, Duration::from_secs(60));
        assert!(!patience.is_over(&fetch, Duration::ZERO));
    }
}
