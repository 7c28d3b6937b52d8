//! Giving one node the network policy whenever it does not have it. Runs beside the orders, never after them: who may reach
//! whom must be right when a container is there.

use std::error::Error;

use super::{client::AgentClient, live::NodeLive};
use crate::{policy::NodePolicy, reign::Reign, store::StoreError};

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut told = reign.policy.subscribe();
    let mut wait = timings.retry_min;
    loop {
        told.mark_unchanged();
        let done = pass(reign, live, client).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn Error, "a pass over the network policy failed");
            false
        });
        // Every report wakes us: none must make us hammer at a node.
        tokio::time::sleep(timings.retry_min).await;
        let again = async {
            match done {
                true => std::future::pending().await,
                false => tokio::time::sleep(wait).await,
            }
        };
        tokio::select! {
            () = live.policy_changed.notified() => {}
            changed = told.changed() => changed.unwrap_or_default(),
            () = again => {}
        }
        wait = if done { timings.retry_min } else { (wait * 2).min(timings.retry_max) };
    }
}

/// False: it must be tried again without being woken.
async fn pass(reign: &Reign, live: &NodeLive, client: &AgentClient) -> Result<bool, StoreError> {
    let sight = live.sight();
    // The next report, or the first policy of the reign, wakes us.
    let Some(report) = sight.report.as_ref().filter(|_| sight.is_online()) else { return Ok(true) };
    let Some(fleet_wide) = reign.policy.borrow().clone() else { return Ok(true) };
    let Some(row) = reign.store.reader().await?.node(&live.name).await? else { return Ok(true) };
    let NodePolicy { policy, digest } = fleet_wide.of_node(row.policy);
    if report.guard.policy_digest == *digest {
        return Ok(true);
    }
    match client.sync_policy(policy).await {
        Ok(()) => {
            tracing::info!(allowances = policy.allowances.len(), policy.out_of_rotation, "network policy synced");
            Ok(true)
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn Error, "the network policy could not be synced, will be repeated");
            Ok(false)
        }
    }
}
