//! `set`: when a machine starts and stops by itself, and who may reach it.

use containarium_proto::{convert, ids::RequestId, v1};
use serde::Serialize;

use crate::{
    args::{Allowed, Format, Limit, Set, Switch, schedule_change},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output::{self, Container},
};

pub(crate) async fn run(client: &Client, format: Format, set: &Set) -> Result<(), Failure> {
    if let Some(allowed) = &set.allow_from {
        return allow_from(client, format, set, allowed).await;
    }
    let request = v1::SetLifetimeRequest {
        user: set.user.to_string(),
        request_id: RequestId::generate().to_string(),
        autostart: set.autostart.map(|switch| switch == Switch::On),
        ttl_seconds: set.ttl.map(seconds),
        idle_stop_seconds: set.idle_stop.map(seconds),
        snapshots: convert::schedule_change_to_wire(&schedule_change(set.snapshots, set.keep)),
    };
    let last = progress::change(client, request, |mut fleet, request| async move { fleet.set_lifetime(request).await })
        .await?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| people(&container))
}

#[derive(Debug, Serialize)]
struct Reachable {
    name: String,
    user: String,
    allow_from: Vec<String>,
}

async fn allow_from(client: &Client, format: Format, set: &Set, allowed: &[Allowed]) -> Result<(), Failure> {
    let mut names = Vec::new();
    for one in allowed {
        match one {
            Allowed::User(user) => names.push(user.to_string()),
            Allowed::Nobody if allowed.len() == 1 => {}
            Allowed::Nobody => return Err(Failure::usage("--allow-from none goes with no other name".to_owned())),
        }
    }
    let request = v1::SetAllowFromRequest { user: set.user.to_string(), allow_from: names };
    // Saying it twice is saying it once, so a lost answer is asked for again.
    let answer = client.read(request, |mut fleet, request| async move { fleet.set_allow_from(request).await }).await?;
    let (name, user) = (set.user.container_name(), set.user.to_string());
    let reachable = Reachable { name, user, allow_from: answer.allow_from };
    output::print(format, &reachable, |_| {
        let from = if reachable.allow_from.is_empty() { "nobody".to_owned() } else { reachable.allow_from.join(", ") };
        format!("{}: reachable from the machines of {from}\n", reachable.name)
    })
}

fn seconds(limit: Limit) -> u64 {
    match limit {
        Limit::Off => 0,
        Limit::After(duration) => duration.as_secs(),
    }
}

fn people(container: &Container) -> String {
    let autostart = if container.autostart { "on" } else { "off" };
    let expires = container.expires_at.as_deref().unwrap_or("never");
    let idle_stop = container.idle_stop_seconds.map_or_else(|| "off".to_owned(), |_| container.idle_stop());
    let snapshots = if container.snapshots.is_empty() { "off" } else { &container.snapshots };
    let Container { name, .. } = container;
    format!("{name}: autostart {autostart}, expires {expires}, idle stop {idle_stop}, snapshots {snapshots}\n")
}
