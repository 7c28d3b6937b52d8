//! `replicate` and `failover`. A failover gives up what was not copied yet, so it asks first.

use std::io::IsTerminal;

use containarium_proto::{
    ids::RequestId,
    names::Username,
    v1::{self, fleet_client::FleetClient},
};
use tonic::transport::Channel;

use crate::{
    args::{Failover, Format, Global, Replicate},
    client::Client,
    commands::{confirm, list, progress},
    errors::{self, Failure},
    output,
};

pub(crate) async fn replicate(client: &Client, format: Format, wanted: &Replicate) -> Result<(), Failure> {
    let (user, every_seconds, node) = match wanted {
        Replicate::On { user, every, to } => (user, every.as_secs(), to.as_ref()),
        Replicate::Off { user } => (user, 0, None),
    };
    let request = v1::SetReplicationRequest {
        user: user.to_string(),
        request_id: RequestId::generate().to_string(),
        every_seconds,
        node: node.map(ToString::to_string).unwrap_or_default(),
    };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.set_replication(request).await };
    show(format, &progress::change(client, request, call).await?)
}

fn show(format: Format, last: &v1::Progress) -> Result<(), Failure> {
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| output::container_table(std::slice::from_ref(&container), false))
}

pub(crate) async fn failover(global: &Global, wanted: &Failover) -> Result<(), Failure> {
    let (client, user) = (Client::new(global)?, &wanted.user);
    if !wanted.force {
        if !std::io::stdin().is_terminal() {
            let doing = if wanted.discard_old { "discarding" } else { "failing over" };
            let message = format!("not {doing} {user}'s machine: nobody to ask without a terminal");
            return Err(Failure::new(errors::REFUSED, message).hint("give --force to do it without being asked"));
        }
        let answer = list::get(&client, user).await?;
        confirm(answer.container.as_ref(), user, wanted.discard_old)?;
    }
    if wanted.discard_old {
        let request = v1::DiscardOldCopyRequest { user: user.to_string() };
        let stream =
            client.stream(request, |mut fleet, request| async move { fleet.discard_old_copy(request).await }).await;
        return progress::to_the_end(&client, stream).await.map(drop);
    }
    let request = v1::FailoverRequest { user: user.to_string(), request_id: RequestId::generate().to_string() };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.failover(request).await };
    show(global.format, &progress::change(&client, request, call).await?)
}

fn confirm(container: Option<&v1::Container>, user: &Username, discard_old: bool) -> Result<(), Failure> {
    let container = list::needed(container)?;
    let name = &container.name;
    let question = match (&container.replication, discard_old) {
        (Some(replication), true) if !replication.old_copies.is_empty() => {
            format!("Destroy what {} still has of {name}?", replication.old_copies.join(", "))
        }
        (Some(replication), false) => {
            let as_of = replication.as_of.as_deref().unwrap_or("no moment yet");
            let node = &container.node;
            format!(
                "Start {name} on {} as it was at {as_of}? Make sure that {node} is off: what it has is stopped when it is \
                 back.",
                replication.node
            )
        }
        // The coordinator says what is wrong.
        _ => return Ok(()),
    };
    confirm::confirm(&question, user.as_str())
}
