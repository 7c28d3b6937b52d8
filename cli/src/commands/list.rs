//! `list` and `info`.

use containarium_proto::{names::Username, v1};
use serde::Serialize;

use crate::{
    args::Format,
    client::Client,
    errors::Failure,
    output::{self, Container, Event},
};

#[derive(Debug, Serialize)]
struct Containers {
    containers: Vec<Container>,
    total_count: usize,
}

pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let answer = client
        .read(v1::ListContainersRequest {}, |mut fleet, request| async move { fleet.list_containers(request).await })
        .await?;
    let containers: Vec<Container> = answer.containers.iter().map(Container::from).collect();
    let listed = Containers { total_count: containers.len(), containers };
    output::print(format, &listed, |wide| output::container_table(&listed.containers, wide))
}

#[derive(Debug, Serialize)]
struct Info {
    container: Container,
    events: Vec<Event>,
}

pub(crate) async fn get(client: &Client, user: &Username) -> Result<v1::GetContainerResponse, Failure> {
    let request = v1::GetContainerRequest { user: user.to_string() };
    client.read(request, |mut fleet, request| async move { fleet.get_container(request).await }).await
}

/// The container in an answer that must hold one.
pub(crate) fn needed(container: Option<&v1::Container>) -> Result<Container, Failure> {
    container.map(Container::from).ok_or_else(|| Failure::new(1, "the coordinator answered without the container"))
}

pub(crate) async fn info(client: &Client, format: Format, user: &Username) -> Result<(), Failure> {
    let answer = get(client, user).await?;
    let info =
        Info { container: needed(answer.container.as_ref())?, events: answer.events.iter().map(Event::from).collect() };
    output::print(format, &info, |_| people(&info))
}

fn people(info: &Info) -> String {
    let c = &info.container;
    let facts = output::facts(&[
        ("Name", c.name.clone()),
        ("User", c.user.clone()),
        ("Status", c.status.to_owned()),
        ("Detail", c.detail.clone()),
        ("Node", c.node.clone()),
        ("IP", c.ip.clone()),
        ("CPU", c.cpu.clone()),
        ("Memory", c.memory.clone()),
        ("Disk", c.disk.clone()),
        ("Autostart", if c.autostart { "yes" } else { "no" }.to_owned()),
        ("Image", c.image.clone()),
        ("Fingerprint", c.image_fingerprint.clone()),
        ("Keys", c.ssh_keys.join(" ")),
        ("Generation", c.generation.to_string()),
        ("Created", c.created_at.clone()),
        ("Id", c.id.clone()),
    ]);
    format!("{facts}\n{}", output::event_table(&info.events))
}
