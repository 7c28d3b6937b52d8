//! What the logs of all nodes tell, from our own database; and the fleet's security at a glance. Only the glance asks
//! nodes.

use containarium_proto::{
    audit::{AuditKind, Bans},
    convert,
    error::Refusal,
    names::NodeName,
    v1,
};

use super::{parse, refuse::field, sessions};
use crate::{
    clock,
    node::Drivers,
    reign::Reign,
    store::{AuditQuery, AuditRow},
};

const DEFAULT_PAGE: u32 = 500;
/// Rows of 2 KiB at most: below what one message may hold.
const MAX_PAGE: u32 = 1_000;
const DAY_MILLIS: i64 = 24 * 3600 * 1000;
/// Of each sort, at a glance.
const GLANCE: u32 = 5;

pub(super) fn parse(request: &v1::ListAuditRequest) -> Result<AuditQuery, Refusal> {
    let (since, until) = (request.since_unix_millis, request.until_unix_millis);
    let until = if until == 0 { i64::MAX } else { until };
    if since >= until {
        return Err(field("the time range is empty: it ends before it begins", "give a --since before --until"));
    }
    // Whoever tried may have used any name; it is only compared.
    let user = request.user.chars().take(256).collect();
    let node = if request.node.is_empty() { String::new() } else { parse::node(&request.node)?.to_string() };
    let kinds = request.kinds.iter().map(|kind| kind.parse::<AuditKind>());
    let kinds = kinds.collect::<Result<Vec<_>, _>>().map_err(|e| {
        let words: Vec<&str> = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect();
        field(e.to_string(), &format!("give some of {}", words.join(", ")))
    })?;
    let limit = if request.page_size == 0 { DEFAULT_PAGE } else { request.page_size.min(MAX_PAGE) };
    let (newest_first, after) = (request.newest_first, place(&request.page_token)?);
    Ok(AuditQuery { since, until, user, node, kinds, newest_first, after, limit })
}

/// "AT NODE PLACE"
fn place(token: &str) -> Result<Option<(i64, String, String)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = || {
        let (at, rest) = token.split_once(' ')?;
        let (node, place) = rest.split_once(' ')?;
        Some((at.parse().ok()?, node.to_owned(), place.to_owned()))
    };
    parts()
        .map(Some)
        .ok_or_else(|| field("this is no page token", "give the next_page_token of the page before, or none"))
}

pub(super) async fn list(reign: &Reign, query: &AuditQuery) -> Result<v1::ListAuditResponse, Refusal> {
    let rows = reign.store.reader().await?.audit(query).await?;
    let full = rows.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
    let next = rows.last().filter(|_| full).map(|last| format!("{} {} {}", last.at, last.node, last.place));
    Ok(v1::ListAuditResponse {
        events: rows.into_iter().map(event).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

fn event(row: AuditRow) -> v1::AuditEvent {
    v1::AuditEvent {
        id: format!("{}/{}", row.node, row.place),
        at_unix_millis: row.at,
        node: row.node.to_string(),
        kind: row.kind.to_string(),
        user: row.user,
        client_address: row.client_address,
        client_port: row.client_port.into(),
        key: row.key,
        containers: row.containers,
        detail: row.detail,
    }
}

async fn latest(reign: &Reign, kind: AuditKind, user: &str, limit: u32) -> Result<Vec<v1::AuditEvent>, Refusal> {
    let query = AuditQuery {
        since: 0,
        until: i64::MAX,
        user: user.to_owned(),
        node: String::new(),
        kinds: vec![kind],
        newest_first: true,
        after: None,
        limit,
    };
    Ok(list(reign, &query).await?.events)
}

pub(super) async fn last_login(reign: &Reign, user: &str) -> Result<Option<v1::AuditEvent>, Refusal> {
    Ok(latest(reign, AuditKind::Accepted, user, 1).await?.pop())
}

pub(super) async fn security(reign: &Reign, drivers: &Drivers) -> Result<v1::GetSecurityResponse, Refusal> {
    let to = (reign, drivers);
    let all = v1::ListSessionsRequest::default();
    let (sessions, bans) =
        tokio::join!(sessions::list(to, &all), sessions::ask(to, None, async |client| client.bans().await),);
    let (answers, unasked) = bans?;
    let sights = reign.sights();
    let unread = |node: &NodeName| {
        let why = sights.get(node).and_then(|sight| sight.audit_problem.as_ref());
        why.map(|why| format!("what sshd writes there is not on record: {why}")).unwrap_or_default()
    };
    let guarded = |(node, bans): (NodeName, Bans)| v1::NodeSecurity {
        note: unread(&node),
        node: node.to_string(),
        bans: Some(convert::bans_to_wire(&bans)),
    };
    let silent = |unasked: v1::Unasked| v1::NodeSecurity { node: unasked.node, bans: None, note: unasked.note };
    let mut nodes: Vec<_> = answers.into_iter().map(guarded).chain(unasked.into_iter().map(silent)).collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    let mut reader = reign.store.reader().await?;
    let now = clock::now();
    let midnight = now - now.rem_euclid(DAY_MILLIS);
    let accepted = reader.count_audit(AuditKind::Accepted, now - DAY_MILLIS).await?;
    let failed = reader.count_audit(AuditKind::Failed, now - DAY_MILLIS).await?;
    let users_today = reader.users_since(midnight).await?;
    drop(reader);
    Ok(v1::GetSecurityResponse {
        sessions: sessions?.sessions,
        nodes,
        accepted,
        failed,
        users_today,
        recent_accepted: latest(reign, AuditKind::Accepted, "", GLANCE).await?,
        recent_failed: latest(reign, AuditKind::Failed, "", GLANCE).await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_beginning_an_end_and_known_kinds() {
        let all = parse(&v1::ListAuditRequest::default()).unwrap();
        assert_eq!((all.since, all.until, all.limit, all.after), (0, i64::MAX, DEFAULT_PAGE, None));
        let page = v1::ListAuditRequest { page_token: "7 jump-1 f:1 2".into(), page_size: 9999, ..Default::default() };
        let page = parse(&page).unwrap();
        assert_eq!((page.after, page.limit), (Some((7, "jump-1".into(), "f:1 2".into())), MAX_PAGE));
        let bad = [
            v1::ListAuditRequest { since_unix_millis: 5, until_unix_millis: 5, ..Default::default() },
            v1::ListAuditRequest { node: "-".into(), ..Default::default() },
            v1::ListAuditRequest { kinds: vec!["hacked".into()], ..Default::default() },
            v1::ListAuditRequest { page_token: "x".into(), ..Default::default() },
        ];
        for request in bad {
            let refusal = parse(&request).unwrap_err();
            assert!(refusal.hint.is_some(), "{refusal:?}");
        }
    }
}
