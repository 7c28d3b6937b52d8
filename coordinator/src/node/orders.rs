//! Giving one node the orders it lacks. Each pass reads the rows and the node's words again; a wake-up carries nothing
//! (I3: no call that is not derived from the database).

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Instant};

use containarium_proto::{
    ids::{ContainerId, Generation},
    node::ContainerReport,
};
use futures::{StreamExt, stream};

use super::{
    client::AgentClient,
    live::NodeLive,
    pacer::Pacer,
    plan::{self, Lacking},
    record, restored,
};
use crate::{
    reign::Reign,
    store::{Holdings, StoreError},
    version,
};

/// An agent records an order and returns at once; more at a time would only queue at its disk.
const CONCURRENT_APPLIES: usize = 16;

/// What the node was to hold and what it said when it lacked nothing.
type Rest = (Holdings, Arc<BTreeMap<ContainerId, ContainerReport>>);

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut pacer = Pacer::new(timings.retry_min, timings.retry_max);
    let mut rest = None;
    loop {
        if let Err(error) = pass(reign, live, client, (&mut pacer, &mut rest)).await {
            tracing::error!(error = &error as &dyn Error, "a pass failed");
            tokio::time::sleep(timings.retry_min).await;
            continue;
        }
        tokio::select! {
            () = live.orders_changed.notified() => {}
            () = pacer.until_next() => {}
        }
    }
}

async fn pass(
    reign: &Reign,
    live: &NodeLive,
    client: &AgentClient,
    (pacer, rest): (&mut Pacer<ContainerId, Generation>, &mut Option<Rest>),
) -> Result<(), StoreError> {
    let sight = live.sight();
    if !sight.is_online() {
        // The next report wakes us.
        pacer.keep(|_| false);
        return Ok(());
    }
    // Any change of the fleet wakes all drivers, and most of them find nothing.
    let mut reader = reign.store.reader().await?;
    let holdings = reader.holdings(&live.name).await?;
    if rest.as_ref().is_some_and(|rest| rest.0 == holdings && rest.1 == sight.containers) {
        return Ok(());
    }
    *rest = None;
    let rows = reader.on_node(&live.name).await?;
    drop(reader);
    restored::look(reign, live, client, (&rows, &sight)).await?;
    let (lacking, beyond): (Vec<_>, Vec<_>) = plan::orders(&rows, &sight.containers)
        .into_iter()
        .partition(|lacking| version::understands(&sight, lacking.level()));
    note_beyond(live, &beyond);
    if lacking.is_empty() && beyond.is_empty() && plan::ahead_of_us(&rows, &sight.containers).is_empty() {
        *rest = Some((holdings, sight.containers.clone()));
    }
    pacer.keep(|id| lacking.iter().any(|lacking| lacking.order.id == *id));
    let now = Instant::now();
    let due = lacking.into_iter().filter(|l| pacer.may_say(l.order.id, l.order.generation, now));
    let calls = due.map(|lacking| give(reign, live, client, lacking)).collect::<Vec<_>>();
    stream::iter(calls).buffer_unordered(CONCURRENT_APPLIES).collect::<()>().await;
    Ok(())
}

/// Orders that its agent is too old for wait for the next one.
fn note_beyond(live: &NodeLive, beyond: &[Lacking]) {
    let names: Vec<_> = beyond.iter().map(|lacking| lacking.order.name.clone()).collect();
    if live.set_beyond_agent(names.clone()) && !names.is_empty() {
        tracing::warn!(containers = names.join(", "), "the agent is too old for what is ordered: not given");
    }
}

async fn give(reign: &Reign, live: &NodeLive, client: &AgentClient, lacking: Lacking) {
    let order = &lacking.order;
    let (container, generation) = (order.id, order.generation);
    tracing::info!(%container, %generation, owner = %order.owner, desired = ?order.desired, "apply");
    let answer = match client.apply(&lacking).await {
        Ok(answer) if answer.id == container => answer,
        Ok(answer) => {
            tracing::error!(%container, answered = %answer.id, "apply was answered for another container");
            return;
        }
        Err(error) => {
            tracing::warn!(%container, %generation, error = &error as &dyn Error, "apply failed, will be repeated");
            return;
        }
    };
    if let Err(error) = record::answer(reign, &live.name, &answer).await {
        tracing::error!(%container, error = &error as &dyn Error, "an answer could not be recorded");
        return;
    }
    live.publish_answer(answer);
    reign.wake_streams();
}
