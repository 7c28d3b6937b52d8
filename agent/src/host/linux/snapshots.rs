//! Snapshots of Incus: made, listed, removed, and brought back to. Those of a copy between nodes have a prefix of their own
//! and are nobody's here.

use std::{collections::BTreeSet, path::PathBuf};

use chrono::{DateTime, Utc};
use containarium_proto::{
    names::Username,
    node::{CopyKind, Order},
    snapshots::{OF_A_COPY, Snapshot, SnapshotName, Snapshots},
};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::LinuxHost;
use crate::host::HostError;

/// On a copy-on-write pool that is busy.
const SNAPSHOT: std::time::Duration = std::time::Duration::from_secs(120);
/// The same with the old disk's files to be removed.
const RESTORE: std::time::Duration = std::time::Duration::from_secs(600);
/// What Incus calls a disk that it has moved aside while it puts another in its place. It stays there if incusd is killed
/// at that moment, and is in the way for ever: no further restore succeeds.
const ASIDE: &str = ".incustmp";

#[derive(Debug, Deserialize)]
struct Raw {
    name: String,
    created_at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct Pool {
    driver: String,
}

fn url(name: &str, snapshot: &SnapshotName) -> String {
    format!("/instances/{name}/snapshots/{snapshot}")
}

impl LinuxHost {
    pub(super) async fn read_snapshots(&self, name: &str) -> Result<Option<Snapshots>, HostError> {
        let what = format!("listing the snapshots of {name}");
        let raw: Vec<Raw> = match self.incus.get(&what, &format!("/instances/{name}/snapshots?recursion=1")).await {
            Ok(raw) => raw,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let pool: Pool = self.incus.get(&what, &format!("/storage-pools/{}", self.config.storage_pool)).await?;
        let ours = raw.into_iter().filter(|raw| !raw.name.starts_with(OF_A_COPY));
        let one = |raw: Raw| Snapshot { name: raw.name, created_at: raw.created_at.timestamp_millis() };
        let mut all: Vec<_> = ours.map(one).collect();
        all.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        // ZFS goes back by forgetting what came after; Incus refuses that unless it was told to destroy those.
        Ok(Some(Snapshots { all, newest_only: pool.driver == "zfs" }))
    }

    pub(super) async fn make_snapshot_of(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        let what = format!("making snapshot {snapshot} of {name}");
        let there = self.incus.get::<Raw>(&what, &url(name, snapshot)).await;
        match there {
            // Of an earlier try, whose end nobody saw: a killed incusd leaves the name without the data.
            Ok(_) => self.remove_snapshot_of(name, snapshot).await?,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => {}
            Err(failure) => return Err(failure.into()),
        }
        let body = json!({ "name": snapshot, "stateful": false });
        let request = self.incus.request(Method::POST, &format!("/instances/{name}/snapshots")).json(&body);
        match self.incus.operate(&what, request, SNAPSHOT).await? {
            Some(_) => Ok(()),
            // Incus forgot the outcome: it is there or it is not.
            None => Ok(self.incus.get::<Raw>(&what, &url(name, snapshot)).await.map(drop)?),
        }
    }

    pub(super) async fn remove_snapshot_of(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        let request = self.incus.request(Method::DELETE, &url(name, snapshot));
        match self.incus.operate(&format!("removing snapshot {snapshot} of {name}"), request, SNAPSHOT).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn restore_instance(&self, order: &Order, snapshot: &SnapshotName) -> Result<(), HostError> {
        let name = order.name.as_str();
        let what = format!("restoring {name} to snapshot {snapshot}");
        // An agent before this one may have begun it, and incusd is still at it.
        self.watch_copy(name).await?;
        self.mend_disk(name).await?;
        let there = match self.incus.get::<Raw>(&what, &url(name, snapshot)).await {
            Ok(raw) => raw,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Err(HostError::permanent(failure.text)),
            Err(failure) => return Err(failure.into()),
        };
        if snapshot.as_str().starts_with(CopyKind::Replica.prefix()) {
            self.remove_later(name, there.created_at).await?;
        }
        let request = self.incus.request(Method::PUT, &format!("/instances/{name}"));
        match self.incus.operate(&what, request.json(&json!({ "restore": snapshot })), RESTORE).await {
            Ok(_) => {}
            Err(failure) if failure.text.contains("subsequent snapshot") => {
                return Err(HostError::permanent(failure.text));
            }
            Err(failure) => return Err(HostError::transient(failure.text)),
        }
        self.take_keys_away(name, &order.owner).await
    }

    /// Of a replica: a pass that was cut off has brought some of its snapshots, and ZFS goes back only to the newest.
    async fn remove_later(&self, name: &str, than: DateTime<Utc>) -> Result<(), HostError> {
        let what = format!("listing the snapshots of {name}");
        let all: Vec<Raw> = self.incus.get(&what, &format!("/instances/{name}/snapshots?recursion=1")).await?;
        let later: BTreeSet<String> = all.into_iter().filter(|raw| raw.created_at > than).map(|raw| raw.name).collect();
        if later.is_empty() { Ok(()) } else { self.remove_snapshots(name, |snapshot| later.contains(snapshot)).await }
    }

    /// After incusd was killed in the middle of a restore: the old disk lies aside. If nothing is in its place it goes
    /// back there, else it is removed. Either way the restore begins anew.
    async fn mend_disk(&self, name: &str) -> Result<(), HostError> {
        let disk = self.disk_of(name);
        let mut aside = disk.clone().into_os_string();
        aside.push(ASIDE);
        let aside = PathBuf::from(aside);
        let failed = |error: std::io::Error| HostError::transient(format!("mending the disk of {name}: {error}"));
        if !tokio::fs::try_exists(&aside).await.map_err(failed)? {
            return Ok(());
        }
        match tokio::fs::try_exists(&disk).await.map_err(failed)? {
            true => {
                tracing::warn!(container = name, "removing the disk that a killed incusd has left aside");
                // Subvolumes go as empty folders do.
                tokio::fs::remove_dir_all(&aside).await.map_err(failed)
            }
            false => {
                tracing::warn!(container = name, "putting back the disk that a killed incusd has left aside");
                tokio::fs::rename(&aside, &disk).await.map_err(failed)
            }
        }
    }

    fn disk_of(&self, name: &str) -> PathBuf {
        let incus = self.config.incus_socket.parent().map(PathBuf::from).unwrap_or_default();
        incus.join("storage-pools").join(&self.config.storage_pool).join("containers").join(name)
    }

    /// Keys of then may have been revoked since. They are written anew when it runs, which is a moment too late.
    async fn take_keys_away(&self, name: &str, user: &Username) -> Result<(), HostError> {
        let what = format!("taking the keys of then out of {name}");
        let path = format!("/instances/{name}/files?path=/home/{user}/.ssh/authorized_keys");
        let request = self.incus.request(Method::DELETE, &path);
        match self.incus.operate(&what, request, SNAPSHOT).await {
            Ok(_) => Ok(()),
            // Its user had not been made then, or Incus says so in words of sftp.
            Err(failure) if failure.is(StatusCode::NOT_FOUND) || failure.text.contains("not exist") => Ok(()),
            // Never permanent: the disk has been brought back, and the rest must follow.
            Err(failure) => Err(HostError::transient(failure.text)),
        }
    }
}
