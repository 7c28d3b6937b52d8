//! Giving one node the orders it lacks. Each pass reads the rows and the node's words again; a wake-up carries nothing
//! (I3: no call that is not derived from the database).

use std::{error::Error, time::Instant};

use containarium_proto::ids::{ContainerId, Generation};
use futures::{StreamExt, stream};

use super::{
    client::AgentClient,
    live::NodeLive,
    pacer::Pacer,
    plan::{self, Lacking},
    record, restored,
};
use crate::{reign::Reign, store::StoreError};

/// An agent records an order and returns at once; more at a time would only queue at its disk.
const CONCURRENT_APPLIES: usize = 16;

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut pacer = Pacer::new(timings.retry_min, timings.retry_max);
    loop {
        if let Err(error) = pass(reign, live, client, &mut pacer).await {
            tracing::error!(error = &error as &dyn Error, "a pass failed");
            tokio::time::sleep(timings.retry_min).await;
            continue;
        }
        let again = async {
            match pacer.next_at() {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = live.orders_changed.notified() => {}
            () = again => {}
        }
    }
}

async fn pass(
    reign: &Reign,
    live: &NodeLive,
    client: &AgentClient,
    pacer: &mut Pacer<ContainerId, Generation>,
) -> Result<(), StoreError> {
    let sight = live.sight();
    if !sight.is_online() {
        // The next report wakes us.
        pacer.keep(|_| false);
        return Ok(());
    }
    let rows = reign.store.reader().await?.on_node(&live.name).await?;
    restored::look(reign, live, client, (&rows, &sight)).await?;
    let lacking = plan::orders(&rows, &sight.containers);
    pacer.keep(|id| lacking.iter().any(|lacking| lacking.order.id == *id));
    let now = Instant::now();
    let due = lacking.into_iter().filter(|l| pacer.may_say(l.order.id, l.order.generation, now));
    let calls = due.map(|lacking| give(reign, live, client, lacking)).collect::<Vec<_>>();
    stream::iter(calls).buffer_unordered(CONCURRENT_APPLIES).collect::<()>().await;
    Ok(())
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
