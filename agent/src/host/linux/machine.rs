//! What this machine is: size, use, container network. Reads only.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use containarium_proto::{sizes::Bytes, spec::Capacity};
use ipnet::Ipv4Net;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{LinuxHost, system};
use crate::host::{HostError, Network};

/// Incus walks /sys for its resources: tens of milliseconds. Placement needs no fresher figures.
const FRESH: Duration = Duration::from_secs(5);

/// It asks the kernel, nobody else.
const TOOL: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Resources {
    cpu: CpuResources,
    memory: Amount,
}

#[derive(Debug, Deserialize)]
struct CpuResources {
    total: u32,
}

#[derive(Debug, Deserialize)]
struct PoolResources {
    space: Amount,
}

#[derive(Debug, Deserialize)]
struct Amount {
    total: u64,
    used: u64,
}

#[derive(Debug, Deserialize)]
struct RawNetwork {
    config: std::collections::BTreeMap<String, String>,
}

/// The last reading.
pub(super) type Cache = Mutex<Option<(Instant, Capacity)>>;

/// One of `ip -json -4 address`.
#[derive(Debug, Deserialize)]
struct Interface {
    addr_info: Vec<InterfaceAddress>,
}

#[derive(Debug, Deserialize)]
struct InterfaceAddress {
    local: Ipv4Addr,
}

/// All of this machine's addresses that others may reach it by.
pub(super) async fn addresses() -> Result<BTreeSet<Ipv4Addr>, HostError> {
    let arguments = ["-json", "-4", "address", "show", "scope", "global"];
    let (code, out, said) = system::output("ip", &arguments, TOOL).await?;
    if code != 0 {
        return Err(HostError::transient(format!("ip address show: exit {code}: {said}")));
    }
    // Interfaces that the filter leaves nothing of are empty objects.
    let interfaces: Vec<serde_json::Value> = serde_json::from_str(&out)
        .map_err(|error| HostError::transient(format!("ip address show: answers no list: {error}")))?;
    let of_one = |value| serde_json::from_value::<Interface>(value).map(|interface| interface.addr_info);
    Ok(interfaces.into_iter().filter_map(|value| of_one(value).ok()).flatten().map(|address| address.local).collect())
}

impl LinuxHost {
    pub(super) async fn read_capacity(&self) -> Result<Capacity, HostError> {
        let mut cache = self.capacity.lock().await;
        if let Some((_, capacity)) = cache.filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(capacity);
        }
        let pool = format!("/storage-pools/{}/resources", self.config.storage_pool);
        let resources: Resources = self.incus.get("reading the machine's resources", "/resources").await?;
        let pool: PoolResources = self.incus.get("reading the storage pool's resources", &pool).await?;
        let capacity = Capacity {
            cpus: resources.cpu.total,
            memory: Bytes(resources.memory.total),
            memory_used: Bytes(resources.memory.used),
            disk: Bytes(pool.space.total),
            disk_used: Bytes(pool.space.used),
        };
        *cache = Some((Instant::now(), capacity));
        if let Err(error) = self.keep_quota_exact().await {
            tracing::warn!(%error, "quotas may be inexact");
        }
        Ok(capacity)
    }

    pub(super) async fn read_network(&self) -> Result<Network, HostError> {
        let name = &self.config.network;
        let network: RawNetwork = self.incus.get("reading the container network", &format!("/networks/{name}")).await?;
        let address = network.config.get("ipv4.address").map(String::as_str).unwrap_or_default();
        let net: Ipv4Net = address.parse().map_err(|_| {
            HostError::permanent(format!(
                "network {name} has ipv4.address '{address}': give it one, such as 10.100.1.1/24"
            ))
        })?;
        Ok(Network { cidr: net.trunc(), gateway: net.addr() })
    }
}
