//! `node adopt`: what lives on a server and is not the fleet's, and taking one of it over. It shows what it would do and
//! asks; without a terminal there is nobody to ask, so it refuses unless forced.

use std::io::IsTerminal;

use containarium_proto::{
    ids::RequestId,
    v1::{self, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    args::{Adopt, Format},
    client::Client,
    commands::{confirm, key, list, progress},
    errors::{self, Failure},
    output,
};

/// One instance as programs see it.
#[derive(Debug, Serialize)]
struct Foreign {
    name: String,
    running: bool,
    user: String,
    adoptable: bool,
    steps: Vec<String>,
    obstacles: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Found {
    instances: Vec<Foreign>,
    total_count: usize,
}

#[derive(Debug, Serialize)]
struct DryRun {
    message: String,
}

pub(crate) async fn run(client: &Client, format: Format, adopt: &Adopt) -> Result<(), Failure> {
    let Some(instance) = &adopt.instance else { return show(client, format, adopt).await };
    let user = adopt.user.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = v1::AdoptInstanceRequest {
        request_id: RequestId::generate().to_string(),
        node: adopt.name.to_string(),
        instance: instance.clone(),
        user: user.clone(),
        ssh_keys: if adopt.ssh_key.is_empty() { Vec::new() } else { key::read(&adopt.ssh_key)?.to_lines() },
        dry_run: false,
    };
    let dry = DryRun { message: would(client, &request).await?.message };
    if adopt.dry_run {
        return output::print(format, &dry, |_| format!("{}\n", errors::one_line(&dry.message)));
    }
    output::note(&dry.message);
    if !adopt.force {
        confirm(instance, if user.is_empty() { instance } else { &user })?;
    }
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.adopt_instance(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the adoption without a word"))?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| format!("{} is {} on {}\n", container.name, container.status, container.node))
}

/// What it would do, in the coordinator's words; changes nothing.
async fn would(client: &Client, request: &v1::AdoptInstanceRequest) -> Result<v1::Progress, Failure> {
    let request = v1::AdoptInstanceRequest { dry_run: true, ..request.clone() };
    let stream = client.stream(request, |mut fleet, request| async move { fleet.adopt_instance(request).await }).await;
    let mut stream = stream.map_err(|status| client.failure(&status))?;
    let answer = stream.message().await.map_err(|status| client.failure(&status))?;
    answer.ok_or_else(|| Failure::new(1, "the coordinator does not say what it would do"))
}

fn confirm(instance: &str, word: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("not adopting {instance}: nobody to ask without a terminal");
        return Err(Failure::new(errors::REFUSED, message).hint("give --force to adopt it without being asked"));
    }
    confirm::confirm(&format!("Take {instance} over?"), word)
}

async fn show(client: &Client, format: Format, adopt: &Adopt) -> Result<(), Failure> {
    let request = v1::ListAdoptableRequest { node: adopt.name.to_string() };
    let answer = client.read(request, |mut fleet, request| async move { fleet.list_foreign(request).await }).await?;
    let instances: Vec<Foreign> = answer.instances.into_iter().map(foreign).collect();
    let found = Found { total_count: instances.len(), instances };
    output::print(format, &found, |_| {
        output::table(&["NAME", "STATE", "USER", "ADOPTABLE", "WHAT, OR WHY NOT"], rows(&found))
    })
}

fn foreign(found: v1::Adoptable) -> Foreign {
    let v1::Adoptable { name, running, user, steps, obstacles } = found;
    Foreign { name, running, user, adoptable: obstacles.is_empty(), steps, obstacles }
}

fn rows(found: &Found) -> Vec<Vec<String>> {
    let row = |foreign: &Foreign| {
        let state = if foreign.running { "running" } else { "stopped" };
        let (word, lines) = match foreign.adoptable {
            true => ("yes", &foreign.steps),
            false => ("no", &foreign.obstacles),
        };
        vec![foreign.name.clone(), state.to_owned(), foreign.user.clone(), word.to_owned(), lines.join("; ")]
    };
    found.instances.iter().map(row).collect()
}
