//! `delete`: asks first. Without a terminal there is nobody to ask, so it refuses unless forced.

use std::io::{IsTerminal, Write};

use containarium_proto::v1;

use crate::{
    args::{Delete, Global},
    client::Client,
    commands::{list, progress},
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
        confirm(&container.name, user.as_str())?;
    }
    let request = v1::DeleteContainerRequest { user: user.to_string() };
    let stream =
        client.stream(request, |mut fleet, request| async move { fleet.delete_container(request).await }).await;
    progress::to_the_end(&client, stream).await.map(drop)
}

fn confirm(container: &str, user: &str) -> Result<(), Failure> {
    write!(std::io::stderr(), "Delete {container} and all its data? Type {user} to confirm: ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == user {
        return Ok(());
    }
    output::note("nothing was changed");
    Err(Failure::new(errors::REFUSED, "not confirmed"))
}
