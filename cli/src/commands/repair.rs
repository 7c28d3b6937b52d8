//! `repair`: writes back what was changed on a machine behind the fleet's back.

use containarium_proto::{
    ids::RequestId,
    names::Username,
    v1::{self, fleet_client::FleetClient},
};
use tonic::transport::Channel;

use crate::{
    args::Format,
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output,
};

pub(crate) async fn run(client: &Client, format: Format, user: &Username) -> Result<(), Failure> {
    let request = v1::RepairContainerRequest { user: user.to_string(), request_id: RequestId::generate().to_string() };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.repair_container(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the repair without a word"))?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| format!("{} is {}\n", container.name, container.status))
}
