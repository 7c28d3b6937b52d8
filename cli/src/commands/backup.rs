//! `backup create|list|verify|restore|delete`. What replaces or removes something asks first; without a terminal there is
//! nobody to ask, so it refuses unless forced.

use std::io::IsTerminal;

use containarium_proto::{
    backup::BackupId,
    ids::RequestId,
    names::Username,
    sizes::Bytes,
    v1::{self, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    args::{Backup, BackupDelete, Format, Global, One, Restore},
    client::Client,
    commands::{confirm::confirm, key, list, progress},
    errors::{self, Failure},
    output,
};

/// A backup as programs see it.
#[derive(Debug, Serialize)]
struct Shown {
    user: String,
    id: String,
    created_at: String,
    size_bytes: u64,
    sha256: String,
    node: String,
    image: String,
    memory_bytes: u64,
    disk_bytes: u64,
    ssh_keys: Vec<String>,
    container_id: String,
    fleet_id: String,
}

#[derive(Debug, Serialize)]
struct Listed {
    backups: Vec<Shown>,
    total_count: usize,
}

impl From<v1::Backup> for Shown {
    fn from(backup: v1::Backup) -> Self {
        let spec = backup.spec.unwrap_or_default();
        Self {
            created_at: output::time(backup.created_at_unix_millis),
            user: backup.user,
            id: backup.id,
            size_bytes: backup.size_bytes,
            sha256: backup.sha256,
            node: backup.node,
            image: backup.image_alias,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            ssh_keys: backup.key_fingerprints,
            container_id: backup.container_id,
            fleet_id: backup.fleet_id,
        }
    }
}

pub(crate) async fn run(global: &Global, wanted: &Backup) -> Result<(), Failure> {
    let format = global.format;
    let client = || Client::new(global);
    match wanted {
        Backup::Create(user) => {
            let backup = create(&client()?, &user.user).await?;
            show(format, backup)
        }
        Backup::List { user } => self::list(&client()?, format, user.as_ref()).await,
        Backup::Verify { user, id } => {
            let backup = verify(&client()?, user, id.wire()).await?;
            show(format, backup)
        }
        Backup::Restore(wanted) => restore(global, wanted).await,
        Backup::Delete(wanted) => delete(&client()?, wanted).await,
    }
}

/// Writes a backup, and gives it.
pub(crate) async fn create(client: &Client, user: &Username) -> Result<v1::Backup, Failure> {
    let request = v1::CreateBackupRequest { user: user.to_string(), request_id: RequestId::generate().to_string() };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.create_backup(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.unwrap_or_default();
    last.backup.ok_or_else(|| {
        Failure::new(errors::UNREACHABLE, format!("the backup is not there yet: {}", last.message))
            .hint(format!("it goes on by itself: see 'containarium backup list {user}'"))
    })
}

/// Verifies a backup, and gives it.
pub(crate) async fn verify(client: &Client, user: &Username, id: String) -> Result<v1::Backup, Failure> {
    let request = v1::VerifyBackupRequest { user: user.to_string(), id };
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.verify_backup(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let backup = last.and_then(|last| last.backup);
    backup.ok_or_else(|| Failure::new(1, "the coordinator ended the verification without a word"))
}

fn show(format: Format, backup: v1::Backup) -> Result<(), Failure> {
    let shown = Shown::from(backup);
    output::print(format, &shown, |wide| table(std::slice::from_ref(&shown), wide))
}

async fn list(client: &Client, format: Format, user: Option<&Username>) -> Result<(), Failure> {
    let request = v1::ListBackupsRequest { user: user.map(ToString::to_string).unwrap_or_default() };
    let answer = client.read(request, |mut fleet, request| async move { fleet.list_backups(request).await }).await?;
    let backups: Vec<Shown> = answer.backups.into_iter().map(Shown::from).collect();
    let listed = Listed { total_count: backups.len(), backups };
    output::print(format, &listed, |wide| table(&listed.backups, wide))
}

fn table(backups: &[Shown], wide: bool) -> String {
    let mut header = vec!["USER", "ID", "CREATED", "SIZE", "DISK", "NODE"];
    if wide {
        header.extend(["IMAGE", "KEYS", "SHA256"]);
    }
    let row = |backup: &Shown| {
        let mut row = vec![backup.user.clone(), backup.id.clone(), backup.created_at.clone()];
        row.extend([size(backup.size_bytes), Bytes(backup.disk_bytes).to_string(), backup.node.clone()]);
        if wide {
            row.extend([backup.image.clone(), backup.ssh_keys.len().to_string(), backup.sha256.clone()]);
        }
        row
    };
    output::table(&header, backups.iter().map(row).collect())
}

/// Rounded: nobody counts the bytes of a backup.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

async fn restore(global: &Global, wanted: &Restore) -> Result<(), Failure> {
    let user = &wanted.user;
    let ssh_keys = match wanted.ssh_key.as_slice() {
        [] => Vec::new(),
        files => key::read(files)?.to_lines(),
    };
    let client = Client::new(global)?;
    let mut request = v1::RestoreBackupRequest {
        user: user.to_string(),
        request_id: RequestId::generate().to_string(),
        id: wanted.id.wire(),
        to: wanted.to.as_ref().map(ToString::to_string).unwrap_or_default(),
        replace: wanted.force,
        ssh_keys,
    };
    if !wanted.force && std::io::stdin().is_terminal() {
        request.replace = confirm_replacing(&client, user).await?;
    }
    let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.restore_backup(request).await };
    let last = progress::persist(&client, &request, call).await.map_err(|status| client.failure(&status))?;
    let last = last.ok_or_else(|| Failure::new(1, "the coordinator ended the restore without a word"))?;
    if last.pending {
        output::note(&last.message);
    }
    let container = list::needed(last.container.as_ref())?;
    output::print(global.format, &container, |_| {
        format!("{} is {} on {}\n", container.name, container.status, container.node)
    })
}

/// Whether there is something to replace, and it may be.
async fn confirm_replacing(client: &Client, user: &Username) -> Result<bool, Failure> {
    let request = v1::ListContainersRequest::default();
    let listed = client.read(request, |mut fleet, request| async move { fleet.list_containers(request).await }).await?;
    let there = listed.containers.into_iter().find(|c| c.user == user.as_str() && c.phase() != v1::Phase::Lost);
    let Some(container) = there else { return Ok(false) };
    confirm(&format!("Replace all that is in {} now?", container.name), user.as_str())?;
    Ok(true)
}

async fn delete(client: &Client, wanted: &BackupDelete) -> Result<(), Failure> {
    let One { user, id } = &wanted.one;
    if !wanted.force {
        ask(user, id)?;
    }
    let request = v1::DeleteBackupRequest { user: user.to_string(), id: id.to_string() };
    let stream = client.stream(request, |mut fleet, request| async move { fleet.delete_backup(request).await }).await;
    progress::to_the_end(client, stream).await.map(drop)
}

fn ask(user: &Username, id: &BackupId) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("not removing backup {id} of {user}: nobody to ask without a terminal");
        return Err(Failure::new(errors::REFUSED, message).hint("give --force to remove it without being asked"));
    }
    confirm(&format!("Remove backup {id} for good?"), user.as_str())
}
