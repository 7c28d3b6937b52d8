//! What the logs of this node tell of people and attackers, for whoever asks from where he left off. The logs are the
//! only memory: a place in them is the asker's to keep, so an agent that dies loses nothing and tells nothing twice. It
//! must never judge, and never believe a text that an attacker chose.

pub(crate) mod line;
mod parse;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containarium_proto::{
    audit::{AuditBatch, AuditKind, AuditRecord, NodeSession, Text},
    ids::FleetId,
};
use tokio::time::{Instant, sleep};

use crate::host::{Host, HostError, LogLine, LogSource};

/// Between looks at the logs while somebody waits: news is a line of a file.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between a login and the connection that it is for.
const SETTLE: Duration = Duration::from_millis(300);
/// A login older than this is not looked for among the sessions: its connection may have come and gone.
const FRESH_MILLIS: i64 = 10_000;

/// Reads on until there is something to tell, or `wait` is over.
pub(crate) async fn read<H: Host>(
    host: &H,
    fleet: FleetId,
    cursor: String,
    wait: Duration,
) -> Result<AuditBatch, HostError> {
    let until = Instant::now() + wait;
    let mut cursor = cursor;
    loop {
        let read = host.read_logs(&cursor).await?;
        let mut records: Vec<AuditRecord> = read.lines.iter().filter_map(record).collect();
        let over = Instant::now() >= until;
        if !records.is_empty() || over {
            add_targets(host, fleet, &mut records).await;
            return Ok(AuditBatch { cursor: read.cursor, records, more: read.more });
        }
        cursor = read.cursor;
        if !read.more {
            sleep(LOOK_EVERY.min(until - Instant::now())).await;
        }
    }
}

fn record(line: &LogLine) -> Option<AuditRecord> {
    let (place, at) = (Text::from(line.place.as_str()), line.at);
    let told = match &line.source {
        LogSource::Sshd => parse::of_sshd(&line.message)?,
        LogSource::Fail2ban { jail } => parse::of_fail2ban(jail, &line.message)?,
        LogSource::Lost => {
            let (kind, detail) = (AuditKind::Gap, Text::from(line.message.as_str()));
            let (user, key, targets) = Default::default();
            return Some(AuditRecord { place, at, kind, user, client: None, key, targets, detail });
        }
    };
    let parse::Told { kind, user, client, key, detail } = told;
    Some(AuditRecord { place, at, kind, user, client, key, targets: Vec::new(), detail })
}

/// A session says where it leads only by the connection that it makes: those of fresh logins are looked at once. What
/// cannot be seen stays empty.
async fn add_targets<H: Host>(host: &H, fleet: FleetId, records: &mut [AuditRecord]) {
    let oldest = unix_millis() - FRESH_MILLIS;
    let fresh = |record: &&mut AuditRecord| record.kind == AuditKind::Accepted && record.at >= oldest;
    let mut logins: Vec<_> = records.iter_mut().filter(fresh).collect();
    if logins.is_empty() {
        return;
    }
    sleep(SETTLE).await;
    let sessions = match host.sessions(fleet).await {
        Ok(sessions) => sessions,
        Err(error) => return tracing::warn!(%error, "sessions cannot be seen"),
    };
    for login in &mut logins {
        let same = |session: &&NodeSession| session.client == login.client && session.user == login.user;
        if let Some(session) = sessions.iter().find(same) {
            login.targets.clone_from(&session.targets);
        }
    }
}

fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
