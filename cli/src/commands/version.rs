//! `version`: ours, and the coordinator's if it can be asked. Never fails because it cannot.

use containarium_proto::{VERSION, v1};
use serde::Serialize;

use crate::{args::Global, client::Client, errors::Failure, output};

#[derive(Debug, Serialize)]
struct Version {
    client: &'static str,
    coordinator: Option<String>,
    fleet_id: Option<String>,
}

pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let ask = async {
        let client = Client::new(global)?;
        client.read(v1::GetFleetRequest {}, |mut fleet, request| async move { fleet.get_fleet(request).await }).await
    };
    let fleet = ask.await.ok();
    let version = Version {
        client: VERSION,
        coordinator: fleet.as_ref().map(|fleet| fleet.version.clone()),
        fleet_id: fleet.map(|fleet| fleet.fleet_id),
    };
    output::print(global.format, &version, |_| {
        let coordinator = version.coordinator.clone().unwrap_or_else(|| "not reachable".to_owned());
        output::facts(&[("client", version.client.to_owned()), ("coordinator", coordinator)])
    })
}
