//! `sessions`: who is connected now; and ending it.

use containarium_proto::{names::Username, v1};
use serde::Serialize;

use crate::{
    args::{Format, Sessions},
    client::Client,
    errors::{self, Failure},
    output,
};

#[derive(Debug, Serialize)]
struct Listed {
    sessions: Vec<Session>,
    total_count: usize,
    notes: Vec<Note>,
}

/// A connection as programs see it.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) from: String,
    pub(super) from_port: u32,
    pub(super) node: String,
    pub(super) to: Vec<String>,
    pub(super) since: String,
}

impl From<&v1::Session> for Session {
    fn from(session: &v1::Session) -> Self {
        Self {
            id: session.id.clone(),
            user: session.user.clone(),
            from: session.client_address.clone(),
            from_port: session.client_port,
            node: session.node.clone(),
            to: session.containers.clone(),
            since: output::time(session.since_unix_millis),
        }
    }
}

/// A server that could not be asked.
#[derive(Debug, Serialize)]
pub(super) struct Note {
    node: String,
    note: String,
}

pub(super) fn notes(unasked: &[v1::Unasked]) -> Vec<Note> {
    unasked.iter().map(|one| Note { node: one.node.clone(), note: one.note.clone() }).collect()
}

/// What was done is done where it could be; the command says that it is not all.
pub(super) fn all_asked(unasked: &[v1::Unasked], undone: &str) -> Result<(), Failure> {
    if unasked.is_empty() {
        return Ok(());
    }
    let who: Vec<String> = unasked.iter().map(|one| format!("{} {}", one.node, one.note)).collect();
    Err(Failure::new(errors::UNREACHABLE, format!("not everywhere: {}", who.join("; ")))
        .hint(format!("{undone}; repeat the command when it is back")))
}

pub(crate) async fn run(client: &Client, format: Format, command: &Sessions) -> Result<(), Failure> {
    match command {
        Sessions::List { user, node } => {
            let text = |name: Option<String>| name.unwrap_or_default();
            let (user, node) =
                (text(user.as_ref().map(ToString::to_string)), text(node.as_ref().map(ToString::to_string)));
            let request = v1::ListSessionsRequest { user, node };
            let call = client.read(request, |mut fleet, request| async move { fleet.list_sessions(request).await });
            let answer = call.await?;
            show(format, &answer.sessions, &answer.unasked)
        }
        Sessions::Kill { who } => {
            let answer =
                client.read(kill(who)?, |mut fleet, request| async move { fleet.kill_sessions(request).await });
            let answer = answer.await?;
            show(format, &answer.ended, &[])?;
            all_asked(&answer.unasked, "sessions there may go on")
        }
    }
}

fn kill(who: &str) -> Result<v1::KillSessionsRequest, Failure> {
    if who.contains('/') {
        return Ok(v1::KillSessionsRequest { id: who.to_owned(), user: String::new() });
    }
    let user: Username = who.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    Ok(v1::KillSessionsRequest { user: user.to_string(), id: String::new() })
}

fn show(format: Format, sessions: &[v1::Session], unasked: &[v1::Unasked]) -> Result<(), Failure> {
    let sessions: Vec<_> = sessions.iter().map(Session::from).collect();
    let listed = Listed { total_count: sessions.len(), sessions, notes: notes(unasked) };
    output::print(format, &listed, |_| table(&listed.sessions))?;
    if matches!(format, Format::Table | Format::Wide) {
        listed.notes.iter().for_each(|one| output::note(&format!("{} {}", one.node, one.note)));
    }
    Ok(())
}

pub(super) fn table(sessions: &[Session]) -> String {
    let row =
        |s: &Session| [&s.id, &s.user, &s.from, &s.node, &s.to.join(","), &s.since].map(ToOwned::to_owned).to_vec();
    output::table(&["ID", "USER", "FROM", "THROUGH", "TO", "SINCE"], sessions.iter().map(row).collect())
}
