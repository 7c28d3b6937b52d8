//! `resize`: other limits for a machine that goes on running.

use containarium_proto::{convert, ids::RequestId, v1};

use crate::{
    args::{Format, Resize},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output::{self, Container},
};

pub(crate) async fn run(client: &Client, format: Format, resize: &Resize) -> Result<(), Failure> {
    let before = match resize.verbose {
        true => Some(list::needed(list::get(client, &resize.user).await?.container.as_ref())?),
        false => None,
    };
    let request = v1::ResizeContainerRequest {
        user: resize.user.to_string(),
        request_id: RequestId::generate().to_string(),
        cpu: resize.cpu.as_ref().map(convert::cpu_to_wire),
        memory_bytes: resize.memory.map(|size| size.0),
        disk_bytes: resize.disk.map(|size| size.0),
        force: resize.force,
    };
    let last =
        progress::change(client, request, |mut fleet, request| async move { fleet.resize_container(request).await })
            .await?;
    let after = list::needed(last.container.as_ref())?;
    if let Some(before) = before {
        output::note(&format!("before: {}", limits(&before)));
    }
    output::print(format, &after, |_| format!("{}: {}\n", after.name, limits(&after)))
}

fn limits(container: &Container) -> String {
    format!("cpu {}, memory {}, disk {}", container.cpu, container.memory, container.disk)
}
