//! `create`: everything that can be checked here is checked before anything is dialled; the request keeps one id, so
//! that however often it has to be sent there is one container.

use containarium_proto::{
    convert,
    ids::RequestId,
    labels::{Label, Labels},
    v1::{self, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::{Status, transport::Channel};

use crate::{
    args::{Create, Format, Global, Switch, schedule_change},
    client::Client,
    commands::{key, list, progress},
    errors::{self, Failure},
    output::{self, Verdict},
};

pub(crate) async fn run(global: &Global, create: &Create) -> Result<(), Failure> {
    let request = request(create)?;
    let client = Client::new(global)?;
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.create_container(request).await };
    let outcome = progress::persist(&client, &request, call).await;
    let last = outcome.map_err(|status| lost(&client, create, &status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the create without a word"))?;
    if create.dry_run {
        return dry_run(global.format, &last);
    }
    done(&client, global.format, create, &last).await
}

fn request(create: &Create) -> Result<v1::CreateContainerRequest, Failure> {
    let labels = labels(&create.label)?.to_wire();
    let keys = key::read(&create.ssh_key)?;
    Ok(v1::CreateContainerRequest {
        request_id: RequestId::generate().to_string(),
        user: create.user.to_string(),
        ssh_keys: keys.to_lines(),
        cpu: create.cpu.as_ref().map(convert::cpu_to_wire),
        memory_bytes: create.memory.map(|size| size.0),
        disk_bytes: create.disk_quota.map(|size| size.0),
        image: create.image.clone().unwrap_or_default(),
        autostart: create.autostart.map_or(!create.no_autostart, |switch| switch == Switch::On),
        node: create.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        dry_run: create.dry_run,
        labels,
        ttl_seconds: create.ttl.map(|ttl| ttl.as_secs()),
        idle_stop_seconds: create.idle_stop.map(|limit| limit.as_secs()),
        snapshots: convert::schedule_change_to_wire(&schedule_change(create.snapshots, create.keep)),
        replicate_every_seconds: create.replicate.map_or(0, |every| every.as_secs()),
        allow_from: create.allow_from.iter().map(ToString::to_string).collect(),
    })
}

/// Two values of one key can both be carried by no server.
pub(crate) fn labels(given: &[Label]) -> Result<Labels, Failure> {
    Labels::of(given.iter().cloned()).map_err(|error| Failure::usage(error.to_string()))
}

fn lost(client: &Client, create: &Create, status: &Status) -> Failure {
    let failure = client.failure(status);
    if failure.code() == errors::UNREACHABLE && !errors::never_connected(status) {
        let next = format!("the create may go on without us: see 'containarium info {}', or repeat it", create.user);
        return failure.hint(next);
    }
    failure
}

#[derive(Debug, Serialize)]
struct DryRun {
    verdicts: Vec<Verdict>,
}

fn dry_run(format: Format, last: &v1::Progress) -> Result<(), Failure> {
    let dry = DryRun { verdicts: last.verdicts.iter().map(Verdict::from).collect() };
    output::print(format, &dry, |_| output::verdict_table(&dry.verdicts))
}

async fn done(client: &Client, format: Format, create: &Create, last: &v1::Progress) -> Result<(), Failure> {
    let container = list::needed(last.container.as_ref())?;
    if last.pending {
        output::note(&last.message);
    }
    if matches!(format, Format::Json | Format::Yaml) {
        return output::print(format, &container, |_| String::new());
    }
    let fleet =
        client.read(v1::GetFleetRequest {}, |mut fleet, request| async move { fleet.get_fleet(request).await }).await?;
    let user = &create.user;
    if fleet.jump_address.is_empty() {
        output::note("the fleet has no jump address configured: see 'containarium export --jump-ip'");
        return output::out(&format!("ssh {user}@{}\n", container.ip));
    }
    output::note(&format!("or: containarium export {user} >> ~/.ssh/config && ssh {user}-dev"));
    output::out(&format!("ssh -J {user}@{} {user}@{}\n", fleet.jump_address, container.name))
}
