//! `snapshot ...`: a machine's disk as it was. Bringing one back throws away what came since, so it asks.

use std::io::IsTerminal;

use containarium_proto::{
    ids::RequestId,
    names::Username,
    snapshots::SnapshotName,
    v1::{self, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    args::{self, Format, SnapshotRestore},
    client::Client,
    commands::{confirm, list, progress},
    errors::{self, Failure},
    output,
};

/// One as programs see it.
#[derive(Debug, Serialize)]
struct Snapshot {
    name: String,
    created_at: Option<String>,
    scheduled: bool,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Snapshots {
    snapshots: Vec<Snapshot>,
    total_count: usize,
}

/// One that was made or removed.
#[derive(Debug, Serialize)]
struct Named {
    user: String,
    name: String,
    pending: bool,
}

pub(crate) async fn run(client: &Client, format: Format, command: &args::Snapshot) -> Result<(), Failure> {
    match command {
        args::Snapshot::Create { user, name } => {
            let made = create(client, user, name.as_ref()).await?;
            output::print(format, &made, |_| format!("{}\n", made.name))
        }
        args::Snapshot::List(user) => show(client, format, &user.user).await,
        args::Snapshot::Restore(wanted) => restore(client, format, wanted).await,
        args::Snapshot::Delete { user, name } => {
            let request = v1::DeleteSnapshotRequest { user: user.to_string(), name: name.to_string() };
            let stream =
                client.stream(request, |mut fleet, request| async move { fleet.delete_snapshot(request).await }).await;
            let last = progress::to_the_end(client, stream).await?;
            let gone = Named { user: user.to_string(), name: name.to_string(), pending: last.pending };
            match format {
                Format::Json | Format::Yaml => output::print(format, &gone, |_| String::new()),
                Format::Table | Format::Wide => Ok(()),
            }
        }
    }
}

async fn create(client: &Client, user: &Username, name: Option<&SnapshotName>) -> Result<Named, Failure> {
    let request = v1::CreateSnapshotRequest {
        user: user.to_string(),
        request_id: RequestId::generate().to_string(),
        name: name.map(ToString::to_string).unwrap_or_default(),
    };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.create_snapshot(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the snapshot without a word"))?;
    Ok(Named { user: user.to_string(), name: last.snapshot, pending: last.pending })
}

async fn show(client: &Client, format: Format, user: &Username) -> Result<(), Failure> {
    let found = all(client, user).await?;
    let found = Snapshots { total_count: found.len(), snapshots: found.iter().map(snapshot).collect() };
    output::print(format, &found, |_| {
        let rows = found.snapshots.iter().map(|one| {
            let kind = if one.scheduled { "scheduled" } else { "manual" };
            vec![one.name.clone(), one.created_at.clone().unwrap_or_default(), kind.to_owned(), one.state.to_owned()]
        });
        output::table(&["NAME", "CREATED", "KIND", "STATE"], rows.collect())
    })
}

async fn all(client: &Client, user: &Username) -> Result<Vec<v1::ListedSnapshot>, Failure> {
    let request = v1::ListSnapshotsRequest { user: user.to_string() };
    let answer = client.read(request, |mut fleet, request| async move { fleet.list_snapshots(request).await }).await?;
    Ok(answer.snapshots)
}

fn snapshot(one: &v1::ListedSnapshot) -> Snapshot {
    let state = match one.state() {
        v1::SnapshotState::Unspecified | v1::SnapshotState::Ready => "Ready",
        v1::SnapshotState::Creating => "Creating",
        v1::SnapshotState::Deleting => "Deleting",
    };
    let (name, created_at) = (one.name.clone(), output::some_time(one.created_at_unix_millis));
    Snapshot { name, created_at, scheduled: one.kind() == v1::SnapshotKind::Scheduled, state }
}

async fn restore(client: &Client, format: Format, wanted: &SnapshotRestore) -> Result<(), Failure> {
    let SnapshotRestore { user, name, snapshot_first, force } = wanted;
    if !force {
        confirm(client, user, name).await?;
    }
    if *snapshot_first {
        let made = create(client, user, None).await?;
        if made.pending {
            return Err(Failure::new(
                errors::REFUSED,
                format!("snapshot {} is not made yet: nothing was restored", made.name),
            ));
        }
        output::note(&format!("how it is now is kept as {}", made.name));
    }
    let (user, name) = (user.to_string(), name.to_string());
    let request = v1::RestoreSnapshotRequest { user, name, request_id: RequestId::generate().to_string() };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.restore_snapshot(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the restore without a word"))?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| format!("{} is {}\n", container.name, container.status))
}

async fn confirm(client: &Client, user: &Username, name: &SnapshotName) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("not restoring {user}'s machine: nobody to ask without a terminal");
        return Err(Failure::new(errors::REFUSED, message)
            .hint("give --force to throw away what came since without being asked"));
    }
    let found = all(client, user).await?;
    let of = found.iter().find(|one| one.name == name.as_str()).and_then(|one| snapshot(one).created_at);
    let since = of.map(|at| format!(" since {at}")).unwrap_or_default();
    let question = format!("Bring {user}'s machine back to {name}? Everything written in it{since} is lost.");
    confirm::confirm(&question, user.as_str())
}
