//! `move`: to another server, while the machine runs.

use containarium_proto::{
    ids::RequestId,
    v1::{self, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    args::{Format, Move},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output::{self, Verdict},
};

#[derive(Debug, Serialize)]
struct DryRun {
    verdicts: Vec<Verdict>,
}

pub(crate) async fn run(client: &Client, format: Format, wanted: &Move) -> Result<(), Failure> {
    let request = v1::MoveContainerRequest {
        user: wanted.user.to_string(),
        request_id: RequestId::generate().to_string(),
        to: wanted.to.as_ref().map(ToString::to_string).unwrap_or_default(),
        dry_run: wanted.dry_run,
        cancel: wanted.cancel,
    };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.move_container(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the move without a word"))?;
    if wanted.dry_run {
        let dry = DryRun { verdicts: last.verdicts.iter().map(Verdict::from).collect() };
        return output::print(format, &dry, |_| output::verdict_table(&dry.verdicts));
    }
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| format!("{} is {} on {}\n", container.name, container.status, container.node))
}
