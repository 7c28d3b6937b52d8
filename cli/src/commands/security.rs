//! `security`: who is connected, kept out, or trying, at a glance; and letting somebody in again.

use containarium_proto::v1;
use serde::Serialize;

use super::{
    audit::Record,
    sessions::{self, Session},
};
use crate::{
    args::{Format, Security},
    client::Client,
    errors::Failure,
    output,
};

#[derive(Debug, Serialize)]
struct Status {
    active_sessions: usize,
    users_today: Vec<String>,
    accepted_24h: u64,
    failed_24h: u64,
    nodes: Vec<Node>,
    sessions: Vec<Session>,
    recent_accepted: Vec<Record>,
    recent_failed: Vec<Record>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    guarded: bool,
    banned: Vec<String>,
    note: String,
}

impl From<&v1::NodeSecurity> for Node {
    fn from(node: &v1::NodeSecurity) -> Self {
        let bans = node.bans.clone().unwrap_or_default();
        let notes = [bans.problem, node.note.clone()].into_iter().filter(|note| !note.is_empty());
        let note = notes.collect::<Vec<_>>().join("; ");
        Self { name: node.node.clone(), guarded: bans.guarded, banned: bans.addresses, note }
    }
}

#[derive(Debug, Serialize)]
struct Unbanned {
    address: String,
    nodes: Vec<String>,
}

pub(crate) async fn run(client: &Client, format: Format, command: &Security) -> Result<(), Failure> {
    match command {
        Security::Status => status(client, format).await,
        Security::Unban { address, node } => {
            let node = node.as_ref().map(ToString::to_string).unwrap_or_default();
            let request = v1::UnbanAddressRequest { address: address.to_string(), node };
            let call = client.read(request, |mut fleet, request| async move { fleet.unban_address(request).await });
            let answer = call.await?;
            let unbanned = Unbanned { address: address.to_string(), nodes: answer.unbanned };
            output::print(format, &unbanned, |_| {
                let row = |node: &String| vec![unbanned.address.clone(), node.clone()];
                output::table(&["ADDRESS", "LET IN ON"], unbanned.nodes.iter().map(row).collect())
            })?;
            sessions::all_asked(&answer.unasked, "it may be banned there")
        }
    }
}

async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let request = v1::GetSecurityRequest {};
    let answer = client.read(request, |mut fleet, request| async move { fleet.get_security(request).await }).await?;
    let status = Status {
        active_sessions: answer.sessions.len(),
        users_today: answer.users_today,
        accepted_24h: answer.accepted,
        failed_24h: answer.failed,
        nodes: answer.nodes.iter().map(Node::from).collect(),
        sessions: answer.sessions.iter().map(Session::from).collect(),
        recent_accepted: answer.recent_accepted.iter().map(Record::from).collect(),
        recent_failed: answer.recent_failed.iter().map(Record::from).collect(),
    };
    output::print(format, &status, |_| for_people(&status))
}

fn for_people(status: &Status) -> String {
    let mut text = output::facts(&[
        ("active sessions", status.active_sessions.to_string()),
        ("users today", format!("{} ({})", status.users_today.len(), status.users_today.join(", "))),
        ("logins in 24 h", status.accepted_24h.to_string()),
        ("failures in 24 h", status.failed_24h.to_string()),
    ]);
    let node = |node: &Node| {
        let guarded = if node.guarded { "yes" } else { "no" };
        vec![node.name.clone(), guarded.to_owned(), node.banned.join(","), node.note.clone()]
    };
    text += "\n";
    text += &output::table(&["SERVER", "GUARDED", "BANNED", "NOTE"], status.nodes.iter().map(node).collect());
    text += "\n";
    text += &sessions::table(&status.sessions);
    for (title, records) in [("LATEST LOGINS", &status.recent_accepted), ("LATEST FAILURES", &status.recent_failed)] {
        let row = |r: &Record| vec![r.at.clone(), r.user.clone(), r.from.clone(), r.node.clone()];
        text += "\n";
        text += &output::table(&[title, "USER", "FROM", "THROUGH"], records.iter().map(row).collect());
    }
    text
}
