//! Reading on in one node's logs: what was read is stored in the same transaction as how far, so that a coordinator that
//! dies between the two, or another one that takes over, loses nothing and stores nothing twice.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use containarium_proto::{
    audit::{AuditKind, AuditRecord},
    names::NodeName,
    node::Account,
};
use tonic::Code;

use super::{
    client::{AgentClient, CallError},
    live::NodeLive,
};
use crate::{
    clock,
    reign::Reign,
    store::{AuditRow, StoreError},
};

/// Lines that tell nothing move the place too. It is stored this often without a reason, so that a new leader does not
/// read too much again.
const STORE_EVERY: Duration = Duration::from_secs(60);
/// An agent of before there was an audit is asked again, in case it was replaced.
const TOO_OLD: Duration = Duration::from_secs(60);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the node did not say")]
    Call(#[from] CallError),
    #[error("what it said could not be stored")]
    Store(#[from] StoreError),
}

/// How far the logs are read, and how far that is stored.
struct Reading {
    cursor: String,
    stored_at: Instant,
}

/// Never ends.
pub(super) async fn run(reign: &Reign, live: &NodeLive, client: &AgentClient) {
    let timings = &reign.config.timings;
    let mut reading = None;
    loop {
        if !live.answers() {
            tokio::time::sleep(timings.retry_max).await;
            continue;
        }
        let pause = match pass(reign, &live.name, client, &mut reading).await {
            Ok(()) => {
                live.set_audit_problem(None);
                continue;
            }
            Err(Failed::Call(CallError::Refused(status))) if status.code() == Code::Unimplemented => {
                live.set_audit_problem(Some("its agent is older than the audit".to_owned()));
                TOO_OLD
            }
            Err(error) => {
                let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                if live.set_audit_problem(Some(why)) {
                    tracing::warn!(error = &error as &dyn Error, "its logs could not be read, will be repeated");
                }
                timings.retry_max
            }
        };
        reading = None;
        tokio::time::sleep(pause).await;
    }
}

async fn pass(
    reign: &Reign,
    node: &NodeName,
    client: &AgentClient,
    reading: &mut Option<Reading>,
) -> Result<(), Failed> {
    let from = match reading.take() {
        Some(reading) => reading,
        None => {
            let cursor = reign.store.reader().await?.audit_cursor(node).await?;
            Reading { cursor, stored_at: Instant::now() }
        }
    };
    let batch = client.read_audit(&from.cursor, reign.config.timings.observe_wait).await?;
    let oldest = clock::now() - reign.config.audit_retention_millis();
    let mut rows = Vec::new();
    if !batch.records.is_empty() {
        let accounts = reign.roster.now(&reign.store).await?;
        let fresh = batch.records.into_iter().filter(|record| record.at >= oldest);
        rows.extend(fresh.map(|record| row(node, record, &accounts.all)));
    }
    let due = batch.cursor != from.cursor && from.stored_at.elapsed() > STORE_EVERY;
    let mut stored_at = from.stored_at;
    if !rows.is_empty() || due {
        let mut tx = reign.write().await?;
        tx.record_audit(node, &rows, &batch.cursor).await?;
        tx.commit().await?;
        stored_at = Instant::now();
    }
    *reading = Some(Reading { cursor: batch.cursor, stored_at });
    Ok(())
}

fn row(node: &NodeName, record: AuditRecord, accounts: &[Account]) -> AuditRow {
    let containers = match record.kind {
        AuditKind::Accepted => containers(&record, accounts),
        AuditKind::Failed
        | AuditKind::RejectedKey
        | AuditKind::Denied
        | AuditKind::Ended
        | AuditKind::Banned
        | AuditKind::Unbanned
        | AuditKind::Gap => Vec::new(),
    };
    AuditRow {
        node: node.clone(),
        place: record.place.into(),
        at: record.at,
        kind: record.kind,
        user: record.user.into(),
        client_address: record.client.map(|client| client.address.to_string()).unwrap_or_default(),
        client_port: record.client.map(|client| client.port).unwrap_or_default(),
        key: record.key.into(),
        containers,
        detail: record.detail.into(),
    }
}

/// Where a login led, if that was seen; else where it could lead at that moment, as far as we know.
fn containers(record: &AuditRecord, accounts: &[Account]) -> Vec<String> {
    let own = |account: &Account| account.permit.map(|_| account.username.container_name());
    let named =
        |target: &std::net::Ipv4Addr| accounts.iter().find(|account| account.permit == Some(*target)).and_then(own);
    let seen: Vec<String> = record.targets.iter().filter_map(named).collect();
    if !seen.is_empty() {
        return seen;
    }
    let account = accounts.iter().find(|account| account.username.as_str() == record.user.as_str());
    let could = |account: &Account| {
        own(account).into_iter().chain(account.shared.iter().map(|permit| permit.container.clone())).collect()
    };
    account.map(could).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use containarium_proto::{audit::Text, node::Permit};

    use super::*;

    #[test]
    fn a_login_led_where_it_was_seen_to_lead_or_where_it_could() {
        let account = |name: &str, last: u8| Account {
            username: name.parse().unwrap(),
            ssh_keys: Vec::new(),
            permit: Some([10, 100, 1, last].into()),
            shared: Vec::new(),
        };
        let shared = vec![Permit { container: "alice-container".into(), address: [10, 100, 1, 2].into() }];
        let accounts = [account("alice", 2), Account { shared, ..account("bob", 3) }];
        let record = |user: &str, targets: &[[u8; 4]]| AuditRecord {
            place: Text::from("p"),
            at: 1,
            kind: AuditKind::Accepted,
            user: Text::from(user),
            client: None,
            key: Text::default(),
            targets: targets.iter().map(|t| (*t).into()).collect(),
            detail: Text::default(),
        };
        assert_eq!(containers(&record("bob", &[[10, 100, 1, 2]]), &accounts), ["alice-container"]);
        assert_eq!(containers(&record("bob", &[]), &accounts), ["bob-container", "alice-container"]);
        assert_eq!(containers(&record("alice", &[[10, 100, 9, 9]]), &accounts), ["alice-container"]);
        assert!(containers(&record("root", &[]), &accounts).is_empty());
    }
}
