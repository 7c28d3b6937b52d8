//! Exports and imports of Incus. What is exported is a clone: copied on write in a moment, running or not, so it is what a
//! power cut would have left; and whatever is done with the original meanwhile, it stays as it was. It carries no address,
//! so that what is made of it stands in nobody's way. Import and export are Incus' own; the tarball is only passed on.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use containarium_proto::{ids::FleetId, node::Order};
use futures::{StreamExt, TryStreamExt};
use reqwest::{Body, Method, StatusCode, header::IF_MATCH};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    LinuxHost,
    incus::Failure,
    instances::{self, Raw, STAMPS},
    system,
};
use crate::host::{
    Export, ExportBody, HostError,
    shape::{BACKUP_MARK, clone_name, is_nobodys, staging_name},
};

/// The one export that a clone has.
const EXPORT: &str = "export";
/// Half the size of gzip's at five times its speed.
const COMPRESSION: &str = "zstd";
/// Copying on write takes a second; a storage without it copies a whole disk.
const CLONE: Duration = Duration::from_secs(3600);
/// Whoever removes exports removes them; this is for one that nobody comes back to.
const EXPIRES: chrono::TimeDelta = chrono::TimeDelta::days(2);
/// A disk may take long to be sent; that nothing moves is noticed by the stream's own watch.
const TRANSFER: Duration = Duration::from_secs(24 * 3600);
const DRESS: Duration = Duration::from_secs(120);
const TOOL: Duration = Duration::from_secs(120);
/// Incus' words for a volume that it has forgotten: it was killed while it unpacked.
const FORGOTTEN: &str = "already exists on target";

#[derive(Debug, Deserialize)]
struct Pool {
    driver: String,
    config: BTreeMap<String, String>,
}

impl LinuxHost {
    pub(super) async fn make_clone(&self, name: &str, mark: &str) -> Result<(), HostError> {
        self.remove_clone(name).await?;
        let what = format!("cloning {name}");
        let original: Value = self.incus.get(&what, &format!("/instances/{name}")).await?;
        // Whatever is not said here is copied: an empty value takes a stamp away, and `none` a device.
        let stamps = original["config"].as_object().into_iter().flatten().map(|(key, _)| key);
        let mut config: BTreeMap<&str, &str> =
            stamps.filter(|key| key.starts_with(STAMPS)).map(|key| (key.as_str(), "")).collect();
        config.extend([(BACKUP_MARK, mark), ("boot.autostart", "false")]);
        let mut devices: BTreeMap<&str, Value> = original["devices"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(device, _)| (device.as_str(), json!({ "type": "none" })))
            .collect();
        // Without a size: the quota of what is made of it is set when it is known.
        devices.insert("root", json!({ "type": "disk", "path": "/", "pool": self.config.storage_pool }));
        let body = json!({
            "name": clone_name(name),
            "type": "container",
            "profiles": [],
            "config": config,
            "devices": devices,
            "source": { "type": "copy", "source": name, "instance_only": true },
        });
        let request = self.incus.request(Method::POST, "/instances").json(&body);
        Ok(self.incus.operate(&what, request, CLONE).await.map(drop)?)
    }

    pub(super) async fn export_clone(
        &self,
        name: &str,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Export, HostError> {
        let (what, clone) = (format!("exporting {name}"), clone_name(name));
        let body = json!({
            "name": EXPORT,
            "instance_only": true,
            "optimized_storage": false,
            "compression_algorithm": COMPRESSION,
            "expires_at": (chrono::Utc::now() + EXPIRES).to_rfc3339(),
        });
        let request = self.incus.request(Method::POST, &format!("/instances/{clone}/backups")).json(&body);
        let told = |metadata: &Value| {
            if let Some(how_far) = metadata["create_backup_progress"].as_str() {
                progress(&format!(": {how_far}"));
            }
        };
        if self.incus.operate_long(&what, request, told).await?.is_none() {
            return Err(HostError::transient(format!("{what}: incus forgot the outcome")));
        }
        let path = format!("/instances/{clone}/backups/{EXPORT}/export");
        let response = self.incus.raw(&what, self.incus.request(Method::GET, &path).timeout(TRANSFER)).await?;
        let size = response.content_length();
        let size = size.ok_or_else(|| HostError::transient(format!("{what}: incus does not say its size")))?;
        let broken = move |error: reqwest::Error| HostError::transient(format!("{what}: {error}"));
        Ok(Export { size, body: response.bytes_stream().map_err(broken).boxed() })
    }

    pub(super) async fn remove_clone(&self, name: &str) -> Result<(), HostError> {
        let clone = clone_name(name);
        match self.raw_instance(&clone).await? {
            None => {}
            Some(instance) if instance.config.contains_key(BACKUP_MARK) => self.delete_instance(&clone).await?,
            Some(_) => {
                return Err(HostError::permanent(format!(
                    "an instance named {clone} exists on this node that is not ours: rename or delete it there"
                )));
            }
        }
        self.remove_frozen(|name| name == clone).await
    }

    /// Also what an Incus that was killed has left of an export.
    pub(super) async fn remove_clones(&self) -> Result<(), HostError> {
        let all: Vec<Raw> = self.incus.get("listing the instances", "/instances?recursion=1").await?;
        let suffix = clone_name("");
        for instance in all {
            if instance.name.ends_with(&suffix) && instance.config.contains_key(BACKUP_MARK) {
                tracing::info!(instance = instance.name, "removing what an export has left");
                self.delete_instance(&instance.name).await?;
            }
        }
        self.remove_frozen(|name| name.ends_with(&suffix)).await
    }

    async fn raw_instance(&self, name: &str) -> Result<Option<Raw>, HostError> {
        match self.incus.get::<Raw>(&format!("reading {name}"), &format!("/instances/{name}")).await {
            Ok(raw) => Ok(Some(raw)),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn import_export(&self, name: &str, size: u64, body: ExportBody) -> Result<(), HostError> {
        let (staging, what) = (staging_name(name), format!("restoring {name}"));
        let request = self
            .incus
            .request(Method::POST, "/instances")
            .timeout(TRANSFER)
            .header("Content-Type", "application/octet-stream")
            .header("Content-Length", size)
            .header("X-Incus-name", &staging)
            .header("X-Incus-pool", &self.config.storage_pool)
            .body(Body::wrap_stream(body));
        match self.incus.operate_long(&what, request, |_| ()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(HostError::transient(format!("{what}: incus forgot the outcome"))),
            Err(failure) if failure.text.contains(FORGOTTEN) => {
                self.remove_forgotten(&staging).await?;
                Err(HostError::transient(format!("{what}: what a killed incus had left was removed")))
            }
            // That the export is damaged is said by its own stream.
            Err(failure) => Err(damage_in(&failure).unwrap_or_else(|| HostError::transient(failure.text))),
        }
    }

    /// A volume of which Incus knows neither instance nor record cannot be removed through it: an import that was cut off
    /// by kill -9 leaves one, and every later one of the same name fails on it. The name is ours alone.
    async fn remove_forgotten(&self, staging: &str) -> Result<(), HostError> {
        if self.raw_instance(staging).await?.is_some() {
            return Ok(());
        }
        tracing::warn!(volume = staging, "removing what a killed incus has left of an import");
        let pool: Pool = self.pool().await?;
        match pool.driver.as_str() {
            "btrfs" => {
                let path = self.pool_path().join("containers").join(staging);
                system::run("btrfs", &["subvolume", "delete", &path.to_string_lossy()], TOOL).await
            }
            "zfs" => {
                let dataset = pool.config.get("zfs.pool_name").or(pool.config.get("source")).cloned();
                let dataset = dataset.unwrap_or_else(|| self.config.storage_pool.clone());
                system::run("zfs", &["destroy", "-r", &format!("{dataset}/containers/{staging}")], TOOL).await
            }
            driver => {
                let pool = &self.config.storage_pool;
                Err(HostError::permanent(format!(
                    "a killed incus has left volume containers/{staging} in pool {pool} ({driver}): remove it there"
                )))
            }
        }
    }

    /// Of btrfs only: Incus freezes what it exports once more, under a name that it forgets when it is killed.
    async fn remove_frozen(&self, is_unused: impl Fn(&str) -> bool + Send + Sync) -> Result<(), HostError> {
        let pool: Pool = self.pool().await?;
        if pool.driver != "btrfs" {
            return Ok(());
        }
        let Ok(mut entries) = tokio::fs::read_dir(self.pool_path()).await else { return Ok(()) };
        while let Ok(Some(entry)) = entries.next_entry().await {
            if !entry.file_name().to_string_lossy().starts_with("backup.") {
                continue;
            }
            let Ok(mut inside) = tokio::fs::read_dir(entry.path()).await else { continue };
            while let Ok(Some(frozen)) = inside.next_entry().await {
                if is_unused(&frozen.file_name().to_string_lossy()) {
                    let path = frozen.path();
                    tracing::info!(path = %path.display(), "removing what a killed incus has left of an export");
                    system::run("btrfs", &["subvolume", "delete", &path.to_string_lossy()], TOOL).await?;
                }
            }
            if let Err(error) = tokio::fs::remove_dir(entry.path()).await {
                tracing::debug!(path = %entry.path().display(), %error, "stays: it is in use");
            }
        }
        Ok(())
    }

    async fn pool(&self) -> Result<Pool, HostError> {
        let path = format!("/storage-pools/{}", self.config.storage_pool);
        Ok(self.incus.get("reading the storage pool", &path).await?)
    }

    /// Beside the socket, as Incus has it.
    pub(super) fn pool_path(&self) -> PathBuf {
        let state = self.config.incus_socket.parent().map(PathBuf::from).unwrap_or_default();
        state.join("storage-pools").join(&self.config.storage_pool)
    }

    pub(super) async fn dress_import(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        let (name, what) = (&order.name, format!("setting up {} as restored", order.name));
        self.remove_old_keys(order).await?;
        let path = format!("/instances/{name}");
        let (mut whole, etag): (Value, String) = self.incus.get_to_change(&what, &path).await?;
        let there: BTreeMap<String, String> = serde_json::from_value(whole["config"].take())
            .map_err(|error| HostError::transient(format!("{what}: a configuration of another form: {error}")))?;
        let notes = there.into_iter().filter(|(key, _)| is_nobodys(key) && !key.starts_with(STAMPS));
        let mut config: BTreeMap<String, String> = notes.collect();
        let ordered = instances::config(fleet, order)?.into_iter().filter(|(_, value)| !value.is_empty());
        config.extend(ordered.map(|(key, value)| (key.to_owned(), value)));
        let body = json!({
            "architecture": whole["architecture"],
            "description": whole["description"],
            "ephemeral": false,
            "stateful": false,
            "config": config,
            "devices": self.devices(order),
            "profiles": [],
        });
        let request = self.incus.request(Method::PUT, &path).header(IF_MATCH, etag).json(&body);
        Ok(self.incus.operate(&what, request, DRESS).await.map(drop)?)
    }

    /// A key that was taken away since the backup must not come back, not even until the right ones are written.
    async fn remove_old_keys(&self, order: &Order) -> Result<(), HostError> {
        let (name, owner) = (&order.name, &order.owner);
        let path = format!("/instances/{name}/files?path=/home/{owner}/.ssh/authorized_keys");
        match self.incus.change(&format!("removing old keys of {name}"), Method::DELETE, &path, &json!({})).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What our own stream said, which is somewhere in what the client made of it.
fn damage_in(failure: &Failure) -> Option<HostError> {
    let at = failure.text.find("backup ").filter(|at| failure.text[*at..].contains(" is damaged: "))?;
    Some(HostError::permanent(failure.text[at..].to_owned()))
}
