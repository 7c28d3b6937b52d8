//! Who is connected, and who is kept out: questions and orders that go to the nodes themselves, to all at once, each with
//! its own deadline. A node that cannot be asked is named with why. What an order of an operator did is noted.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use containarium_proto::{
    audit::NodeSession,
    convert,
    error::{Reason, Refusal},
    names::NodeName,
    v1,
};

use super::{
    parse,
    refuse::{field, no_such_node},
    view,
};
use crate::{
    availability::Availability,
    node::{AgentClient, CallError, Drivers, live::Sight},
    reign::Reign,
    store::{EventKind, Policy, StoreError},
};

/// Asks every node, or only one; gives the answers, and who could not be asked.
pub(super) async fn ask<T, F>(
    (reign, drivers): (&Reign, &Drivers),
    only: Option<&NodeName>,
    question: impl Fn(Arc<AgentClient>) -> F,
) -> Result<(Vec<(NodeName, T)>, Vec<v1::Unasked>), Refusal>
where
    F: Future<Output = Result<T, CallError>>,
{
    let nodes = reign.store.reader().await?.nodes().await?;
    if let Some(unknown) = only.filter(|only| nodes.iter().all(|node| node.name != **only)) {
        return Err(no_such_node(unknown.as_str()));
    }
    let sights = reign.sights();
    // Nobody is there to answer for a retired node.
    let asked = nodes.iter().filter(|node| node.policy != Policy::Retired).map(|node| &node.name);
    let asked = asked.filter(|name| only.is_none_or(|only| only == *name));
    let calls = asked.map(async |name| {
        let answer = match reachable(drivers, name, sights.get(name)) {
            Ok(client) => question(client).await.map_err(|error| error.to_string()),
            Err(note) => Err(note),
        };
        (name.clone(), answer)
    });
    let (mut answers, mut unasked) = (Vec::new(), Vec::new());
    for (node, answer) in futures::future::join_all(calls).await {
        match answer {
            Ok(answer) => answers.push((node, answer)),
            Err(note) => unasked.push(v1::Unasked { node: node.to_string(), note }),
        }
    }
    Ok((answers, unasked))
}

fn reachable(drivers: &Drivers, name: &NodeName, sight: Option<&Sight>) -> Result<Arc<AgentClient>, String> {
    match sight.map_or(Availability::Unknown, |sight| sight.availability) {
        Availability::Online | Availability::Preempting => {
            drivers.client(name).ok_or_else(|| "has no driver yet".to_owned())
        }
        Availability::Unknown => Err("has not been heard from yet".to_owned()),
        Availability::Suspect => Err(format!("does not answer, last heard {}", view::last_heard(sight))),
        Availability::Offline => Err(format!("is offline, last heard {}", view::last_heard(sight))),
    }
}

/// Whose container an address is.
pub(super) async fn names(reign: &Reign) -> Result<BTreeMap<Ipv4Addr, String>, StoreError> {
    let roster = reign.roster.now(&reign.store).await?;
    let accounts = &roster.all;
    let named = accounts.iter().filter_map(|a| Some((a.permit?, a.username.container_name())));
    Ok(named.collect())
}

fn shown(node: &NodeName, session: &NodeSession, names: &BTreeMap<Ipv4Addr, String>) -> v1::Session {
    let wire = convert::node_session_to_wire(session);
    let name = |target: &Ipv4Addr| names.get(target).cloned().unwrap_or_else(|| target.to_string());
    v1::Session {
        id: format!("{node}/{}", wire.id),
        node: node.to_string(),
        user: wire.user,
        client_address: wire.client_address,
        client_port: wire.client_port,
        containers: session.targets.iter().map(name).collect(),
        since_unix_millis: wire.since_unix_millis,
    }
}

fn all_shown(answers: &[(NodeName, Vec<NodeSession>)], names: &BTreeMap<Ipv4Addr, String>) -> Vec<v1::Session> {
    let mut all: Vec<_> =
        answers.iter().flat_map(|(node, sessions)| sessions.iter().map(|s| shown(node, s, names))).collect();
    all.sort_by(|a, b| (a.since_unix_millis, &a.id).cmp(&(b.since_unix_millis, &b.id)));
    all
}

/// Those of one user, on one node, or all.
pub(super) async fn list(
    to: (&Reign, &Drivers),
    request: &v1::ListSessionsRequest,
) -> Result<v1::ListSessionsResponse, Refusal> {
    let node = (!request.node.is_empty()).then(|| parse::node(&request.node)).transpose()?;
    let user = (!request.user.is_empty()).then(|| parse::user(&request.user)).transpose()?;
    let (answers, unasked) = ask(to, node.as_ref(), async |client| client.sessions().await).await?;
    let mut sessions = all_shown(&answers, &names(to.0).await?);
    sessions.retain(|session| user.as_ref().is_none_or(|user| session.user == user.as_str()));
    Ok(v1::ListSessionsResponse { sessions, unasked })
}

/// All of a user, or one.
pub(super) async fn kill(
    to: (&Reign, &Drivers),
    request: &v1::KillSessionsRequest,
) -> Result<v1::KillSessionsResponse, Refusal> {
    use v1::end_sessions_request::Which;
    let (node, which) = match (request.user.as_str(), request.id.as_str()) {
        (user, "") => (None, Which::User(parse::user(user)?.to_string())),
        ("", id) => {
            let (node, id) = id.split_once('/').ok_or_else(|| {
                field(
                    "this is no id of a session",
                    "take it from 'containarium sessions list', such as jump-1/4711-123",
                )
            })?;
            (Some(parse::node(node)?), Which::Id(id.to_owned()))
        }
        _ => return Err(field("a user and an id are given", "give one of them")),
    };
    let names = names(to.0).await?;
    let (answers, unasked) = ask(to, node.as_ref(), async |client| client.end_sessions(which.clone()).await).await?;
    let ended = all_shown(&answers, &names);
    for session in &ended {
        let message = format!("of {} from {}, by an operator", session.user, session.client_address);
        note(to.0, &session.node, EventKind::AccessEnded, &message).await?;
    }
    if ended.is_empty() && unasked.is_empty() {
        let what = if request.user.is_empty() { "there is no such session" } else { "this user has no session" };
        return Err(Refusal::new(Reason::NotFound, what).hint("see 'containarium sessions list'"));
    }
    Ok(v1::KillSessionsResponse { ended, unasked })
}

async fn note(reign: &Reign, node: &str, kind: EventKind, message: &str) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    tx.note(node, kind, message).await?;
    tx.commit().await
}

/// Lets an address in again.
pub(super) async fn unban(
    to: (&Reign, &Drivers),
    request: &v1::UnbanAddressRequest,
) -> Result<v1::UnbanAddressResponse, Refusal> {
    let node = (!request.node.is_empty()).then(|| parse::node(&request.node)).transpose()?;
    let address: std::net::IpAddr = request.address.parse().map_err(|_| {
        let given: String = request.address.chars().take(48).flat_map(char::escape_default).collect();
        field(format!("'{given}' is not an address"), "give one such as 192.0.2.7")
    })?;
    let (answers, unasked) = ask(to, node.as_ref(), async |client| client.unban(address).await).await?;
    let mut unbanned = Vec::new();
    for (node, _) in answers.into_iter().filter(|(_, was_banned)| *was_banned) {
        note(to.0, node.as_str(), EventKind::AccessUnbanned, &format!("{address}, by an operator")).await?;
        unbanned.push(node.to_string());
    }
    if unbanned.is_empty() && unasked.is_empty() {
        return Err(Refusal::new(Reason::NotFound, format!("{address} is not banned"))
            .hint("see 'containarium security status'"));
    }
    Ok(v1::UnbanAddressResponse { unbanned, unasked })
}
