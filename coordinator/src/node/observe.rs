//! Listening to one node: the long poll that is heartbeat, progress and confirmation in one. What is news is made
//! durable first and shown second, so that nobody is told what a crash could make untrue.

use std::time::{Duration, Instant};

use containarium_proto::{node::NodeReport, sizes::Bytes, spec::Capacity};

use super::{
    client::AgentClient,
    live::NodeLive,
    record::{self, Turn},
    replace, restored,
};
use crate::{
    availability::Availability,
    reign::Reign,
    store::{EventKind, Holdings, StoreError},
};

/// A node that is offline may be so for days: it is tried less often, and still noticed within seconds.
const OFFLINE_PATIENCE: u32 = 4;
/// A report that says nothing new is only a sign of life, but not for ever: all is compared with the database again after
/// this, whatever may have been missed, and what is due by time alone is found.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// The last comparison of a report with the database.
struct Compared {
    report: NodeReport,
    /// Commits of this process before it, and what the node was to hold after it.
    commits: u64,
    holdings: Holdings,
    at: Instant,
}

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut after = (String::new(), 0);
    let mut compared = None;
    loop {
        // A node that is not known to be well is asked for an answer at once.
        let wait = if live.answers() { timings.observe_wait } else { Duration::ZERO };
        let asked_at = Instant::now();
        let pause = match client.observe(&after, wait).await {
            Ok(report) if report.node != live.name => {
                let problem =
                    format!("the agent there says it is '{}': correct the address or its --node", report.node);
                miss(reign, live, client, problem).await
            }
            Ok(report) => {
                let seen = (report.incarnation.clone(), report.revision);
                let stale = seen == after && asked_at.elapsed() < wait / 2;
                match take_in(reign, live, report, &mut compared).await {
                    Ok(()) => {
                        after = seen;
                        // Nothing new and no wait: an agent that does not hold the poll must not make us spin.
                        if stale { timings.retry_min } else { Duration::ZERO }
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "a report could not be recorded");
                        after = (String::new(), 0);
                        timings.retry_min
                    }
                }
            }
            Err(error) => {
                if let Some(seen) = error.later_term() {
                    reign.outrun_by(seen).await;
                }
                after = (String::new(), 0);
                miss(reign, live, client, error.to_string()).await
            }
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

async fn take_in(
    reign: &Reign,
    live: &NodeLive,
    report: NodeReport,
    compared: &mut Option<Compared>,
) -> Result<(), StoreError> {
    let sight = live.sight();
    // Before anything is read: what is written meanwhile makes the next report news.
    let commits = *reign.store.commits().borrow();
    // A certificate is renewed when a third of its life is left, and nobody reports that.
    let compare_every = COMPARE_EVERY.min(reign.config.timings.host_certificate_validity / 100);
    if sight.answers()
        && let Some(last) = compared.as_mut().filter(|last| last.at.elapsed() < compare_every)
        && says_the_same(&last.report, &report)
        && (last.commits == commits || last.holdings == reign.store.reader().await?.holdings(&live.name).await?)
    {
        last.commits = commits;
        live.publish(report);
        return Ok(());
    }
    *compared = None;
    let turn =
        Turn { back: !sight.answers(), preempted: report.preempting && sight.availability != Availability::Preempting };
    record::report(reign, &live.name, &report, turn).await?;
    if report.access_revision > sight.access.tried {
        restored::catch_up_access(reign, report.access_revision).await?;
    }
    let mut reader = reign.store.reader().await?;
    let holdings = reader.holdings(&live.name).await?;
    let rows = reader.on_node(&live.name).await?;
    drop(reader);
    restored::note_strays(reign, live, &rows, &report.containers);
    note_repair(reign, live, &report).await?;
    *compared = Some(Compared { report: report.clone(), commits, holdings, at: Instant::now() });
    live.publish(report);
    // Orders and accounts are planned anew from what the node says; both are no-ops when nothing is lacking.
    live.orders_changed.notify_one();
    live.accounts_changed.notify_one();
    live.policy_changed.notify_one();
    live.identities_changed.notify_one();
    reign.wake_streams();
    Ok(())
}

/// But for what is in use at this moment, which is neither recorded nor waited for.
fn says_the_same(before: &NodeReport, now: &NodeReport) -> bool {
    let at_rest = |report: &NodeReport| NodeReport {
        revision: 0,
        capacity: Capacity { memory_used: Bytes(0), disk_used: Bytes(0), ..report.capacity },
        ..report.clone()
    };
    at_rest(before) == at_rest(now)
}

/// What somebody changed on the node itself, and its agent put back. What happened before we looked is in its own log.
async fn note_repair(reign: &Reign, live: &NodeLive, report: &NodeReport) -> Result<(), StoreError> {
    let before = live.sight().report;
    let Some(before) = before.filter(|before| before.incarnation == report.incarnation) else { return Ok(()) };
    if report.guard.repairs > before.guard.repairs {
        let message = format!("{} had been changed behind our back: put back", report.guard.last_repair);
        note(reign, live, EventKind::NodeRepaired, &message).await?;
    }
    Ok(())
}

/// Notes a miss; gives how long to wait before the next try.
async fn miss(reign: &Reign, live: &NodeLive, client: &AgentClient, problem: String) -> Duration {
    client.hang_up();
    let change = live.missed(problem.clone(), reign.config.timings.offline_after);
    reign.wake_streams();
    let kind = match change {
        Some(Availability::Suspect) => Some(EventKind::NodeSuspect),
        Some(Availability::Offline) => Some(EventKind::NodeOffline),
        Some(Availability::Unknown | Availability::Online | Availability::Preempting) | None => None,
    };
    if let Some(kind) = kind
        && let Err(error) = note(reign, live, kind, &problem).await
    {
        tracing::error!(error = &error as &dyn std::error::Error, "an event was lost");
    }
    if live.sight().availability != Availability::Offline {
        return reign.config.timings.retry_min;
    }
    replace::never_ran(reign, &live.name).await;
    reign.config.timings.retry_min * OFFLINE_PATIENCE
}

async fn note(reign: &Reign, live: &NodeLive, kind: EventKind, message: &str) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    tx.note(live.name.as_str(), kind, message).await?;
    tx.commit().await
}
