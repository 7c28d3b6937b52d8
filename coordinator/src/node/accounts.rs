//! Giving one node the full set of proxy accounts whenever it does not have it. Runs beside the orders, never after
//! them: an account must be there when the container is.

use std::{error::Error, time::Duration};

use super::{
    client::{AccountFailures, AgentClient},
    live::{Access, NodeLive},
    plan, restored,
};
use crate::{
    reign::Reign,
    store::{EventKind, StoreError},
};

/// How a pass ended.
enum Pass {
    /// Nothing lacks.
    Done,
    /// Something failed: again after a wait.
    Again,
}

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut wait = timings.retry_min;
    // I10: an account of a container that our database has forgotten stays, and only its node can say that there is one.
    reign.first_round().await;
    loop {
        let pass = pass(reign, live, client).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn Error, "a pass over the accounts failed");
            Pass::Again
        });
        let again = match pass {
            Pass::Done => {
                wait = timings.retry_min;
                None
            }
            Pass::Again => {
                let now = wait;
                wait = (wait * 2).min(timings.retry_max);
                Some(now)
            }
        };
        pause(live, again, timings.retry_min).await;
    }
}

/// Until there may be work. After a failure, a wake-up alone must not make us hammer at a node: every report is one.
async fn pause(live: &NodeLive, again: Option<Duration>, least: Duration) {
    match again {
        None => live.accounts_changed.notified().await,
        Some(wait) => {
            tokio::time::sleep(least).await;
            let rest = wait.saturating_sub(least);
            tokio::select! {
                () = live.accounts_changed.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }
}

async fn pass(reign: &Reign, live: &NodeLive, client: &AgentClient) -> Result<Pass, StoreError> {
    let sight = live.sight();
    let Some(report) = sight.report.as_ref().filter(|_| sight.is_online()) else {
        // The next report wakes us.
        return Ok(Pass::Done);
    };
    // Every report wakes us, and nearly all of them find nothing lacking: the set itself is not read for that.
    if !plan::needs_accounts(reign.store.reader().await?.fleet().await?.access_revision, &sight) {
        return Ok(Pass::Done);
    }
    let accounts = reign.roster.now(&reign.store).await?;
    let turn = reign.roster.turn(&accounts).await;
    let (revision, accounts) = (accounts.revision, &accounts.all);
    let synced = client.sync_access(revision, (accounts, restored::kept(&reign.sights()))).await;
    drop(turn);
    let failures = match synced {
        Ok(failures) => failures,
        Err(error) => {
            tracing::warn!(%revision, error = &error as &dyn Error, "accounts could not be synced, will be repeated");
            return Ok(Pass::Again);
        }
    };
    tracing::info!(%revision, accounts = accounts.len(), failures = failures.len(), "accounts synced");
    let before = &sight.access.failures;
    if failures != *before {
        note(reign, live, &failures).await?;
    }
    let pass = if failures.is_empty() { Pass::Done } else { Pass::Again };
    live.set_access(Access { incarnation: report.incarnation.clone(), tried: revision, failures });
    reign.wake_streams();
    Ok(pass)
}

async fn note(reign: &Reign, live: &NodeLive, failures: &AccountFailures) -> Result<(), StoreError> {
    let (kind, message) = match failures.iter().next() {
        None => (EventKind::AccessSynced, "every account is as it should be again".to_owned()),
        Some((user, why)) if failures.len() == 1 => (EventKind::AccessFailed, format!("account {user}: {why}")),
        Some((user, why)) => (EventKind::AccessFailed, format!("{} accounts, such as {user}: {why}", failures.len())),
    };
    let mut tx = reign.write().await?;
    tx.note(live.name.as_str(), kind, &message).await?;
    tx.commit().await
}
