//! `delete`: asks first. Without a terminal there is nobody to ask, so it refuses unless forced.

use std::io::IsTerminal;

use containarium_proto::{
    ids::RequestId,
    names::Username,
    v1::{self, PowerAction, fleet_client::FleetClient},
};
use tonic::transport::Channel;

use crate::{
    args::{Delete, Global},
    client::Client,
    commands::{backup, confirm::confirm, list, progress},
    errors::{self, Failure},
    output,
};

pub(crate) async fn run(global: &Global, delete: &Delete) -> Result<(), Failure> {
    let user = &delete.user;
    let client = Client::new(global)?;
    if !delete.force {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                errors::REFUSED,
                format!("not deleting {user}'s machine: nobody to ask without a terminal"),
            )
            .hint("give --force to delete it without being asked"));
        }
        let container = list::needed(list::get(&client, user).await?.container.as_ref())?;
        confirm(&format!("Delete {} and all its data?", container.name), user.as_str())?;
    }
    if delete.backup {
        back_up(&client, user).await?;
    }
    let request_id = RequestId::generate().to_string();
    let request = v1::DeleteContainerRequest { user: user.to_string(), request_id };
    let stream =
        client.stream(request, |mut fleet, request| async move { fleet.delete_container(request).await }).await;
    progress::to_the_end(&client, stream).await.map(drop)
}

/// Nothing that is written after the backup could be in it, so it is stopped first. Whatever fails, nothing is deleted.
async fn back_up(client: &Client, user: &Username) -> Result<(), Failure> {
    let container = list::get(client, user).await?.container.unwrap_or_default();
    if container.protected {
        return Err(Failure::new(errors::REFUSED, format!("{user}'s machine is protected"))
            .hint(format!("'containarium unprotect {user}' lets it be deleted; nothing was changed")));
    }
    let request_id = RequestId::generate().to_string();
    let stop = v1::SetPowerRequest { user: user.to_string(), action: PowerAction::Stop.into(), request_id };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.set_power(request).await };
    progress::persist(client, &stop, call).await.map_err(|status| client.failure(&status))?;
    let backup = backup::create(client, user).await?;
    let backup = backup::verify(client, user, backup.id).await?;
    output::note(&format!("backup {} of {user} is whole, {}", backup.id, backup::size(backup.size_bytes)));
    Ok(())
}
