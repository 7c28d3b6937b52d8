//! Copies between the Incus of this node and that of another: offered here, fetched there, by Incus' own migration. The
//! one that fetches is let in by the secrets of one operation and nothing else: no server trusts another for longer.
//!
//! ```text
//! source: snapshot containarium-<kind>-<pass> ─► POST /instances/X {migration} ─► operation + secrets + certificate
//! target: POST /instances {source: pull, refresh} ─► only what changed since the last snapshot both have
//! ```

use std::collections::BTreeMap;

use containarium_proto::{
    ids::FleetId,
    node::{CopyKind, CopyOffer, CopyPass, Order},
};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    LinuxHost,
    incus::{Operation, PROGRESS_ROUND},
    instances,
};
use crate::host::HostError;

/// Making or removing a snapshot of a copy-on-write pool that is busy.
const SNAPSHOT_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);
const LISTEN: &str = "core.https_address";

#[derive(Debug, Deserialize)]
struct Server {
    config: BTreeMap<String, Value>,
    environment: Environment,
}

#[derive(Debug, Deserialize)]
struct Environment {
    certificate: String,
}

impl LinuxHost {
    pub(super) async fn offer(
        &self,
        name: &str,
        (kind, pass): (CopyKind, CopyPass),
        host: &str,
    ) -> Result<CopyOffer, HostError> {
        let (port, certificate) = self.ensure_listening().await?;
        self.ensure_snapshot(name, &format!("{}{pass}", kind.prefix())).await?;
        if kind == CopyKind::Replica {
            let earlier =
                |number: &str| number.parse().is_ok_and(|number: u32| number.saturating_add(1) < pass.0.get());
            self.remove_snapshots(name, |mark| mark.strip_prefix(kind.prefix()).is_some_and(earlier)).await?;
        }
        let body = json!({ "name": name, "migration": true, "live": false, "instance_only": false });
        let request = self.incus.request(Method::POST, &format!("/instances/{name}")).json(&body);
        let (path, secrets) = self.incus.begin(&format!("offering {name} for a copy"), request).await?;
        let secrets: BTreeMap<String, String> = serde_json::from_value(secrets)
            .map_err(|error| HostError::transient(format!("offering {name}: secrets of another form: {error}")))?;
        Ok(CopyOffer { operation: format!("https://{host}:{port}/1.0{path}"), secrets, certificate })
    }

    /// Makes Incus listen for other nodes, unless it does. Nobody is trusted there: without an operation's secret it
    /// tells a caller its version and nothing more.
    pub(super) async fn ensure_listening(&self) -> Result<(u16, String), HostError> {
        let what = "making incus listen for copies";
        let mut server: Server = self.incus.get(what, "").await?;
        if listens_at(&server).is_empty() {
            let body = json!({ "config": { LISTEN: self.config.copy_listen } });
            self.incus.change(what, Method::PATCH, "", &body).await?;
            server = self.incus.get(what, "").await?;
        }
        let address = listens_at(&server);
        // Incus' own default.
        let port = address.rsplit_once(':').map_or(Ok(8443), |(_, port)| port.parse());
        let port = port.map_err(|_| HostError::permanent(format!("{what}: it listens at '{address}'")))?;
        Ok((port, server.environment.certificate))
    }

    async fn ensure_snapshot(&self, name: &str, snapshot: &str) -> Result<(), HostError> {
        let what = format!("making snapshot {snapshot} of {name}");
        match self.incus.get::<Value>(&what, &format!("/instances/{name}/snapshots/{snapshot}")).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => {}
            Err(failure) => return Err(failure.into()),
        }
        let body = json!({ "name": snapshot, "stateful": false });
        let request = self.incus.request(Method::POST, &format!("/instances/{name}/snapshots")).json(&body);
        Ok(self.incus.operate(&what, request, SNAPSHOT_LIMIT).await.map(drop)?)
    }

    pub(super) async fn receive(
        &self,
        fleet: FleetId,
        order: &Order,
        offer: &CopyOffer,
        refresh: bool,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<(), HostError> {
        let mut config = instances::config(fleet, order)?;
        config.retain(|_, value| !value.is_empty());
        let body = json!({
            "name": order.name,
            "type": "container",
            "architecture": std::env::consts::ARCH,
            "profiles": [],
            "config": config,
            "devices": self.devices(order),
            "source": {
                "type": "migration", "mode": "pull", "refresh": refresh, "live": false,
                "operation": offer.operation, "secrets": offer.secrets, "certificate": offer.certificate,
                "base-image": order.spec.image.to_string(),
            },
        });
        let what = format!("copying {}", order.name);
        let request = self.incus.request(Method::POST, "/instances").json(&body);
        let told = |metadata: &Value| {
            if let Some(how_far) = metadata["fs_progress"].as_str() {
                progress(&format!(": {}", how_far.rsplit_once(": ").map_or(how_far, |(_, amount)| amount)));
            }
        };
        match self.incus.operate_long(&what, request, told).await? {
            Some(_) => Ok(()),
            None => Err(HostError::transient(format!("{what}: incus forgot the outcome"))),
        }
    }

    /// Waits for whatever Incus does with an instance. True if a copy into it ended well while we watched, or just
    /// before.
    pub(super) async fn watch_copy(&self, name: &str) -> Result<bool, HostError> {
        let what = format!("looking for a copy of {name} under way");
        let mut operations: BTreeMap<String, Option<Vec<Operation>>> =
            self.incus.get(&what, "/operations?recursion=1").await?;
        let url = format!("/1.0/instances/{name}");
        let of_it = |operation: &Operation| operation.resources.iter().flatten().any(|(_, urls)| urls.contains(&url));
        let mut take = |state: &str| operations.remove(state).flatten().unwrap_or_default();
        let mut ended_well = take("success").iter().any(|operation| of_it(operation) && is_copy(operation));
        for operation in take("running").into_iter().filter(of_it) {
            tracing::info!(container = name, "waiting for an operation that was begun before");
            let done = self.incus.wait(&what, &format!("/operations/{}", operation.id), PROGRESS_ROUND, |_| ()).await;
            ended_well |= is_copy(&operation) && matches!(done, Ok(Some(_)));
        }
        Ok(ended_well)
    }

    pub(super) async fn remove_copy_marks(&self, name: &str, kind: CopyKind) -> Result<(), HostError> {
        self.remove_snapshots(name, |snapshot| snapshot.starts_with(kind.prefix())).await?;
        match kind {
            CopyKind::Move => self.write_copied_stamp(name, None).await,
            // It stays a replica, or was none.
            CopyKind::Replica => Ok(()),
        }
    }

    pub(super) async fn remove_snapshots(
        &self,
        name: &str,
        which: impl Fn(&str) -> bool + Send,
    ) -> Result<(), HostError> {
        let what = format!("listing the snapshots of {name}");
        let urls: Vec<String> = match self.incus.get(&what, &format!("/instances/{name}/snapshots")).await {
            Ok(urls) => urls,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(()),
            Err(failure) => return Err(failure.into()),
        };
        let names: Vec<&str> =
            urls.iter().filter_map(|url| url.rsplit('/').next()).filter(|name| which(name)).collect();
        for snapshot in names {
            let request = self.incus.request(Method::DELETE, &format!("/instances/{name}/snapshots/{snapshot}"));
            match self.incus.operate(&format!("removing snapshot {snapshot} of {name}"), request, SNAPSHOT_LIMIT).await
            {
                Ok(_) => {}
                Err(failure) if failure.is(StatusCode::NOT_FOUND) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }
}

fn is_copy(operation: &Operation) -> bool {
    operation.description == "Creating instance"
}

fn listens_at(server: &Server) -> &str {
    server.config.get(LISTEN).and_then(Value::as_str).unwrap_or_default()
}
