//! Instances without any stamp, as an adoption must know them: what they have of what we order, and what stands in the
//! way. Reads only.

use std::{collections::BTreeMap, net::Ipv4Addr};

use containarium_proto::{cpu::Cpu, node::Foreign, sizes::Bytes};
use serde::Deserialize;

use super::{
    LinuxHost,
    instances::{Raw, or_null},
};
use crate::host::{
    HostError, Power,
    shape::{Device, Place},
};

/// One of `/instances?recursion=2`.
#[derive(Debug, Deserialize)]
struct Full {
    #[serde(flatten)]
    raw: Raw,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_null")]
    expanded_config: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_null")]
    expanded_devices: BTreeMap<String, Device>,
    state: Option<State>,
}

#[derive(Debug, Deserialize)]
struct State {
    disk: Option<BTreeMap<String, Used>>,
    network: Option<BTreeMap<String, Interface>>,
}

#[derive(Debug, Deserialize)]
struct Used {
    usage: i64,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default, deserialize_with = "or_null")]
    addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    family: String,
    address: String,
    scope: String,
}

impl LinuxHost {
    pub(super) async fn read_foreign(&self) -> Result<Vec<Foreign>, HostError> {
        let all: Vec<Full> = self.incus.get("listing the instances", "/instances?recursion=2").await?;
        let place = self.where_to();
        Ok(all.into_iter().filter_map(|full| foreign(&full, &place)).collect())
    }
}

/// `None`: it carries a stamp, ours or another's.
fn foreign(full: &Full, place: &Place) -> Option<Foreign> {
    let config = &full.expanded_config;
    let uuid = full.raw.unclaimed()?;
    let size = |text: Option<&String>| {
        let text = text?;
        text.parse().ok().map(Bytes).or_else(|| text.parse().ok())
    };
    let root = full.expanded_devices.get("root");
    let used = full.state.as_ref().and_then(|state| state.disk.as_ref()?.get("root"));
    Some(Foreign {
        name: full.raw.name.clone(),
        uuid,
        running: full.raw.power() == Power::Running,
        cpu: cpu(config),
        memory: size(config.get("limits.memory")).and_then(|size| size.as_memory().ok()),
        disk: size(root.and_then(|root| root.get("size"))).and_then(|size| size.as_disk().ok()),
        disk_used: used.and_then(|used| u64::try_from(used.usage).ok()).map(Bytes),
        address: address(full),
        image: config.get("volatile.base_image").and_then(|image| image.parse().ok()),
        // Unset means to Incus: as it was when the machine went down.
        autostart: config.get("boot.autostart").is_none_or(|value| value == "true"),
        obstacles: obstacles(full, place),
    })
}

/// `4` or `0-3` is Incus' own form of ours; an allowance of time is, a share in per cent is not.
fn cpu(config: &BTreeMap<String, String>) -> Option<Cpu> {
    if let Some(allowance) = config.get("limits.cpu.allowance") {
        let (time, period) = allowance.split_once('/')?;
        let millis = |text: &str| text.strip_suffix("ms")?.parse::<u64>().ok();
        let (time, period) = (millis(time)?, millis(period).filter(|period| *period > 0)?);
        return format!("{}m", time.checked_mul(1000)? / period).parse().ok();
    }
    config.get("limits.cpu")?.parse().ok()
}

fn address(full: &Full) -> Option<Ipv4Addr> {
    let eth0 = full.expanded_devices.get("eth0");
    let fixed = eth0.and_then(|eth0| eth0.get("ipv4.address")).and_then(|text| text.parse().ok());
    let now = || {
        let interface = full.state.as_ref()?.network.as_ref()?.get("eth0")?;
        let global = |a: &&Address| a.family == "inet" && a.scope == "global";
        interface.addresses.iter().find(global)?.address.parse().ok()
    };
    fixed.or_else(now)
}

/// What an order cannot change on an instance, or not without harm.
fn obstacles(full: &Full, place: &Place) -> Vec<String> {
    let config = &full.expanded_config;
    let is = |device: Option<&Device>, key: &str, value: &str| {
        device.and_then(|device| device.get(key)).is_some_and(|there| there == value)
    };
    let (root, eth0) = (full.expanded_devices.get("root"), full.expanded_devices.get("eth0"));
    let Place { pool, network } = place;
    let nics = full.expanded_devices.values().filter(|device| is(Some(device), "network", network)).count();
    [
        (full.kind != "container").then(|| format!("it is a {}", full.kind)),
        config
            .get("security.privileged")
            .is_some_and(|value| value == "true")
            .then(|| "it is privileged: root inside is root of the server".to_owned()),
        (!is(root, "pool", pool)).then(|| format!("its root disk, device 'root', is not on the pool {pool}")),
        (!is(eth0, "network", network) || nics != 1)
            .then(|| format!("it has not exactly one nic on the network {network}, as device 'eth0'")),
        (!config.contains_key("volatile.base_image")).then(|| "it was not made from an image".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Option<Foreign> {
        let mut full = json!({
            "name": "alice-container", "status": "Running", "type": "container", "profiles": ["default"],
            "config": { "volatile.uuid": "u-1", "volatile.base_image": "5".repeat(64) },
            "devices": {},
            "expanded_config": {
                "volatile.uuid": "u-1", "volatile.base_image": "5".repeat(64),
                "limits.memory": "2GiB", "limits.cpu": "2",
            },
            "expanded_devices": {
                "root": { "type": "disk", "path": "/", "pool": "default", "size": "10GB" },
                "eth0": { "type": "nic", "name": "eth0", "network": "incusbr0" },
            },
            "state": {
                "disk": { "root": { "usage": 5 } },
                "network": { "eth0": { "addresses": [
                    { "family": "inet6", "address": "fe80::1", "scope": "link" },
                    { "family": "inet", "address": "10.100.1.77", "scope": "global" },
                ] } },
            },
        });
        change(&mut full);
        let place = Place { pool: "default".into(), network: "incusbr0".into() };
        foreign(&serde_json::from_value(full).unwrap(), &place)
    }

    #[test]
    fn what_it_has_is_read_from_itself_and_its_profiles() {
        let foreign = read(|_| ()).unwrap();
        assert_eq!((foreign.cpu, foreign.memory), (Some(Cpu::Count(2)), Some(Bytes(2 << 30))));
        assert_eq!((foreign.disk, foreign.disk_used), (Some(Bytes(10_000_000_000)), Some(Bytes(5))));
        assert_eq!(foreign.address, Some(Ipv4Addr::new(10, 100, 1, 77)));
        assert!(foreign.running && foreign.autostart && foreign.obstacles.is_empty(), "{:?}", foreign.obstacles);
        let fixed = read(|full| full["expanded_devices"]["eth0"]["ipv4.address"] = "10.100.1.5".into()).unwrap();
        assert_eq!(fixed.address, Some(Ipv4Addr::new(10, 100, 1, 5)));
        let quota = read(|full| full["expanded_config"]["limits.cpu.allowance"] = "50ms/100ms".into()).unwrap();
        assert_eq!(quota.cpu, Some(Cpu::QuotaMillis(500)));
    }

    #[test]
    fn everything_in_the_way_is_said() {
        type Spoil = fn(&mut Value);
        let cases: [(Spoil, &str); 5] = [
            (|full| full["type"] = "virtual-machine".into(), "virtual-machine"),
            (|full| full["expanded_config"]["security.privileged"] = "true".into(), "privileged"),
            (|full| full["expanded_devices"]["root"]["pool"] = "other".into(), "pool"),
            (|full| full["expanded_devices"]["eth0"]["network"] = "other".into(), "nic"),
            (|full| drop(full["expanded_config"].as_object_mut().unwrap().remove("volatile.base_image")), "image"),
        ];
        for (spoil, word) in cases {
            let obstacles = read(spoil).unwrap().obstacles;
            assert!(obstacles.len() == 1 && obstacles[0].contains(word), "{word}: {obstacles:?}");
        }
    }

    #[test]
    fn what_incus_leaves_out_or_calls_null_is_empty() {
        let stopped = read(|full| {
            (full["profiles"], full["devices"]) = (Value::Null, Value::Null);
            full["state"] = json!({ "disk": null, "network": null, "status": "Stopped" });
        });
        assert_eq!(stopped.unwrap().address, None);
        assert_eq!(read(|full| full["state"] = Value::Null).unwrap().disk_used, None);
        let nic = read(|full| full["state"]["network"]["eth0"]["addresses"] = Value::Null);
        assert_eq!(nic.unwrap().address, None);
    }

    #[test]
    fn any_stamp_at_all_makes_it_somebodys() {
        for key in ["user.containarium.fleet", "user.containarium.id"] {
            assert_eq!(read(|full| full["config"][key] = "x".into()), None, "{key}");
        }
        assert_eq!(read(|full| drop(full["config"].as_object_mut().unwrap().remove("volatile.uuid"))), None);
    }
}
