//! `set`: when a machine starts and stops by itself.

use containarium_proto::{ids::RequestId, v1};

use crate::{
    args::{Format, Limit, Set, Switch},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output::{self, Container},
};

pub(crate) async fn run(client: &Client, format: Format, set: &Set) -> Result<(), Failure> {
    let request = v1::SetLifetimeRequest {
        user: set.user.to_string(),
        request_id: RequestId::generate().to_string(),
        autostart: set.autostart.map(|switch| switch == Switch::On),
        ttl_seconds: set.ttl.map(seconds),
        idle_stop_seconds: set.idle_stop.map(seconds),
    };
    let last = progress::change(client, request, |mut fleet, request| async move { fleet.set_lifetime(request).await })
        .await?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| people(&container))
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
    format!("{}: autostart {autostart}, expires {expires}, idle stop {idle_stop}\n", container.name)
}
