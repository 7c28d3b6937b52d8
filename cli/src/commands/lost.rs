//! What was lost with a server: how each machine is brought back, or doing so for all of them.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::RequestId,
    v1::{self, fleet_client::FleetClient},
};
use futures::{StreamExt, stream};
use tonic::transport::Channel;

use crate::{
    client::Client,
    commands::{
        backup,
        progress::{self, Progress},
    },
    errors::Failure,
    output,
};

/// Restores at a time: each reads a whole disk.
const AT_ONCE: usize = 4;

/// How a machine comes back.
enum Way<'l> {
    /// The youngest that there is.
    Replica,
    Backup(&'l v1::Backup),
    None,
}

fn way(lost: &v1::LostContainer) -> Way<'_> {
    match &lost.newest_backup {
        _ if lost.replica_as_of_unix_millis > 0 => Way::Replica,
        Some(backup) => Way::Backup(backup),
        None => Way::None,
    }
}

/// Says for each what brings it back.
pub(crate) fn note(lost: &[v1::LostContainer]) {
    for one in lost {
        let user = &one.user;
        output::note(&match way(one) {
            Way::Replica => format!(
                "{user}-container is lost; its replica is of {}: containarium failover {user}",
                output::time(one.replica_as_of_unix_millis),
            ),
            Way::Backup(backup) => format!(
                "{user}-container is lost; its newest backup is of {}, {}: containarium backup restore {user} {}",
                output::time(backup.created_at_unix_millis),
                backup::size(backup.size_bytes),
                backup.id,
            ),
            Way::None => format!("{user}-container is lost, and there is no backup of it: containarium delete {user}"),
        });
    }
}

/// Brings all of them back, a few at a time, and says of each how that ended. One that cannot be does not stop the others.
pub(crate) async fn bring_back(client: &Client, lost: &[v1::LostContainer]) -> Result<(), Failure> {
    let total = lost.len();
    let all = stream::iter(lost).map(|one| async move { (one, bring_one_back(client, one).await) });
    let mut all = all.buffer_unordered(AT_ONCE);
    let (mut ended, mut missing, mut first) = (0, 0, None);
    while let Some((one, outcome)) = all.next().await {
        ended += 1;
        match outcome {
            Ok(said) => output::note(&format!("[{ended}/{total}] {}: {said}", one.user)),
            Err(failure) => {
                output::note(&format!("[{ended}/{total}] {}: {}", one.user, failure.message()));
                first.get_or_insert(failure);
                missing += 1;
            }
        }
    }
    let Some(failure) = first else { return Ok(()) };
    Err(Failure::new(failure.code(), format!("{missing} of {total} were not brought back"))
        .hint("see what is said of each; the same command tries those again"))
}

async fn bring_one_back(client: &Client, lost: &v1::LostContainer) -> Result<String, Failure> {
    let (user, request_id) = (lost.user.clone(), RequestId::generate().to_string());
    let last = match way(lost) {
        Way::Replica => {
            let request = v1::FailoverRequest { user, request_id };
            let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.failover(request).await };
            progress::persist_with(Progress::silent(), client, &request, call).await
        }
        Way::Backup(backup) => {
            let id = backup.id.clone();
            let request = v1::RestoreBackupRequest { user, request_id, id, ..Default::default() };
            let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.restore_backup(request).await };
            progress::persist_with(Progress::silent(), client, &request, call).await
        }
        Way::None => {
            let message = "there is neither a replica nor a backup of it";
            return Err(Refusal::new(Reason::NotFound, message).into());
        }
    };
    let last = last.map_err(|status| client.failure(&status))?.unwrap_or_default();
    Ok(last.message)
}
