//! `audit` and `last`: who connected, who tried, who was kept out. Every text in it may have been chosen by an attacker:
//! it is printed as one line, and in JSON as a value.

use std::ops::ControlFlow;

use containarium_proto::v1;
use serde::Serialize;

use crate::{
    args::{Audit, Format, Last},
    client::Client,
    errors::Failure,
    output::{self, cell},
};

/// Of one question to the coordinator.
const PAGE: u32 = 500;

/// A record as programs see it.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) at: String,
    pub(super) kind: String,
    pub(super) node: String,
    pub(super) user: String,
    pub(super) from: String,
    pub(super) from_port: u32,
    pub(super) to: Vec<String>,
    pub(super) key: String,
    pub(super) detail: String,
    pub(super) id: String,
}

impl From<&v1::AuditEvent> for Record {
    fn from(event: &v1::AuditEvent) -> Self {
        Self {
            at: output::time(event.at_unix_millis),
            kind: event.kind.clone(),
            node: event.node.clone(),
            user: event.user.clone(),
            from: event.client_address.clone(),
            from_port: event.client_port,
            to: event.containers.clone(),
            key: event.key.clone(),
            detail: event.detail.clone(),
            id: event.id.clone(),
        }
    }
}

/// Page after page, each printed as it comes: a year of them need not fit into memory.
pub(crate) async fn run(client: &Client, format: Format, audit: &Audit) -> Result<(), Failure> {
    let mut request = v1::ListAuditRequest {
        since_unix_millis: audit.since.unwrap_or_default(),
        until_unix_millis: audit.until.unwrap_or_default(),
        user: audit.user.clone().unwrap_or_default(),
        node: audit.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        kinds: audit.kind.iter().map(ToString::to_string).collect(),
        page_size: PAGE,
        ..Default::default()
    };
    let mut text = match format {
        Format::Table | Format::Wide => line(["AT", "KIND", "THROUGH", "USER", "FROM", "TO", "DETAIL"]),
        Format::Json | Format::Yaml => String::new(),
    };
    loop {
        let asked = client.read(request.clone(), |mut fleet, request| async move { fleet.list_audit(request).await });
        let page = asked.await?;
        for event in &page.events {
            text += &shown(format, &Record::from(event))?;
        }
        let read_on = output::out_while_read(&std::mem::take(&mut text))?;
        if page.next_page_token.is_empty() || read_on == ControlFlow::Break(()) {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn shown(format: Format, record: &Record) -> Result<String, Failure> {
    match format {
        Format::Table | Format::Wide => Ok(line(columns(record))),
        Format::Json | Format::Yaml => output::one_of_many(format, record),
    }
}

fn columns(record: &Record) -> [&str; 7] {
    let to = record.to.first().map_or("", String::as_str);
    [&record.at, &record.kind, &record.node, &record.user, &record.from, to, &record.detail]
}

/// Nobody knows the widths of what is still to come: these are of the usual.
fn line([at, kind, node, user, from, to, detail]: [&str; 7]) -> String {
    let [at, kind, node, user, from, to, detail] = [at, kind, node, user, from, to, detail].map(cell);
    format!("{at:24}   {kind:12}   {node:10}   {user:16}   {from:15}   {to:20}   {detail}\n")
}

#[derive(Debug, Serialize)]
struct Logins {
    logins: Vec<Login>,
}

#[derive(Debug, Serialize)]
struct Login {
    at: String,
    /// Null: it goes on, or nobody said goodbye.
    until: Option<String>,
    user: String,
    from: String,
    node: String,
    to: Vec<String>,
    key: String,
}

/// The latest first.
pub(crate) async fn last(client: &Client, format: Format, last: &Last) -> Result<(), Failure> {
    let ask = async |kind: &str, page_size: u32| {
        let request = v1::ListAuditRequest {
            user: last.user.clone(),
            kinds: vec![kind.to_owned()],
            newest_first: true,
            page_size,
            ..Default::default()
        };
        client.read(request, |mut fleet, request| async move { fleet.list_audit(request).await }).await
    };
    let (begun, ended) = (ask("accepted", last.limit).await?.events, ask("ended", last.limit * 2).await?.events);
    let logins = Logins { logins: begun.iter().map(|login| with_end(login, &ended)).collect() };
    output::print(format, &logins, |_| {
        let row = |login: &Login| {
            let until = login.until.clone().unwrap_or_default();
            vec![login.at.clone(), until, login.from.clone(), login.node.clone(), login.to.join(","), login.key.clone()]
        };
        output::table(&["AT", "UNTIL", "FROM", "THROUGH", "TO", "KEY"], logins.logins.iter().map(row).collect())
    })
}

/// The first goodbye after the login from the same port of the same client, through the same server.
fn with_end(login: &v1::AuditEvent, ended: &[v1::AuditEvent]) -> Login {
    let who = |event: &v1::AuditEvent| (event.node.clone(), event.client_address.clone(), event.client_port);
    let later = |end: &&v1::AuditEvent| who(end) == who(login) && end.at_unix_millis >= login.at_unix_millis;
    let record = Record::from(login);
    Login {
        until: ended.iter().rev().find(later).map(|end| output::time(end.at_unix_millis)),
        at: record.at,
        user: record.user,
        from: record.from,
        node: record.node,
        to: record.to,
        key: record.key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_with_the_next_goodbye_of_its_own_connection() {
        let event = |at, port| v1::AuditEvent {
            at_unix_millis: at,
            client_address: "192.0.2.1".into(),
            client_port: port,
            ..Default::default()
        };
        // Newest first, as they are asked for.
        let ended = [event(90, 7), event(50, 7), event(40, 8), event(10, 7)];
        assert_eq!(with_end(&event(20, 7), &ended).until, Some(output::time(50)));
        assert_eq!(with_end(&event(60, 8), &ended).until, None);
    }
}
