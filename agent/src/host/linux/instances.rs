//! Instances of Incus: what we write on them and how they are read back. One request per effect.

use std::{collections::BTreeMap, time::Duration};

use containarium_proto::{
    ids::{FleetId, Generation},
    node::{CopyPass, Order},
};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{
    LinuxHost,
    incus::{Failure, Operation},
};
use crate::host::{
    HostError, Instance, Power, Stamp, StopMode,
    shape::{self, Device, Place, Shape, cpu_keys},
};

/// A clone takes a second, but the first one of an image unpacks it, on a disk that eight others may be using.
const CREATE: Duration = Duration::from_secs(180);
/// Starting is a second of work; a node that boots fifty at once needs the rest.
const START: Duration = Duration::from_secs(90);
/// What systemd inside gets to end its services, before the power is taken away: 30 s, asked every three. To ask one that
/// is ending already changes nothing.
const STOP_ASKED: u32 = 10;
const STOP_ASKED_EVERY_SECS: u64 = 3;
/// The same on a machine that ends 30 s after it said so.
const BRIEF_ASKED: u32 = 6;
const STOP: Duration = Duration::from_secs(60);
/// A btrfs or ZFS dataset of many small files takes a while to go.
const DELETE: Duration = Duration::from_secs(120);

/// Every key of a stamp begins so.
pub(super) const STAMPS: &str = "user.containarium.";
const UUID: &str = "volatile.uuid";
const FLEET: &str = "user.containarium.fleet";
const ID: &str = "user.containarium.id";
const OWNER: &str = "user.containarium.owner";
const GENERATION: &str = "user.containarium.generation";
const ORDER: &str = "user.containarium.order";
pub(super) const LOGIN_HASH: &str = "user.containarium.login";
pub(super) const COPIED: &str = "user.containarium.copied";
const RAN: &str = "user.containarium.ran";

#[derive(Debug, Deserialize)]
pub(super) struct Raw {
    pub(super) name: String,
    pub(super) status: String,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) config: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_null")]
    devices: BTreeMap<String, Device>,
    #[serde(default, deserialize_with = "or_null")]
    profiles: Vec<String>,
}

/// Go writes an empty list or map as null now and then.
pub(super) fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

impl Raw {
    pub(super) fn power(&self) -> Power {
        // Frozen, Starting, Stopping and Error have, or may have, a process: only Stopped certainly has none.
        if self.status == "Stopped" { Power::Stopped } else { Power::Running }
    }

    /// Incus' own id, if no stamp of any kind is there: another fleet's, or a damaged one, is somebody's too (I6).
    pub(super) fn unclaimed(&self) -> Option<String> {
        let stamped = self.config.keys().any(|key| key.starts_with(STAMPS));
        self.config.get(UUID).filter(|_| !stamped).cloned()
    }
}

impl From<Raw> for Instance {
    fn from(raw: Raw) -> Self {
        let (power, unclaimed, stamp) = (raw.power(), raw.unclaimed(), stamp(&raw.config));
        let shape = Shape { config: raw.config, devices: raw.devices, profiles: raw.profiles };
        Self { name: raw.name, power, stamp, shape, unclaimed }
    }
}

/// A stamp that does not agree with itself is none: we would not know what to do with its instance.
fn stamp(config: &BTreeMap<String, String>) -> Option<Stamp> {
    let fleet: FleetId = config.get(FLEET)?.parse().ok()?;
    let order: Order = serde_json::from_str(config.get(ORDER)?).ok()?;
    let agrees = config.get(ID)? == &order.id.to_string() && config.get(GENERATION)? == &order.generation.to_string();
    let copied = config.get(COPIED).and_then(|pass| pass.parse().ok()).map(CopyPass);
    let ran = config.get(RAN).and_then(|generation| generation.parse().ok()).map(Generation);
    agrees.then(|| Stamp { fleet, order, login: config.get(LOGIN_HASH).cloned(), copied, ran })
}

/// Everything that one order means to Incus, with the stamps. An empty value removes a key.
pub(super) fn config(fleet: FleetId, order: &Order) -> Result<BTreeMap<&'static str, String>, HostError> {
    let text = serde_json::to_string(order)
        .map_err(|error| HostError::permanent(format!("the order of {} cannot be written: {error}", order.name)))?;
    let mut config = shape::limits(order);
    config.extend([
        (FLEET, fleet.to_string()),
        (ID, order.id.to_string()),
        (OWNER, order.owner.to_string()),
        (GENERATION, order.generation.to_string()),
        (ORDER, text),
        // It has not run under this order yet.
        (RAN, String::new()),
    ]);
    Ok(config)
}

/// Another spelling of a `limits.cpu`: a leading zero; for no limit, all `cpus` of the machine.
fn same_cpus(limit: &str, cpus: u32) -> String {
    if limit.is_empty() { format!("0-{}", cpus.saturating_sub(1)) } else { format!("0{limit}") }
}

impl LinuxHost {
    pub(super) fn devices(&self, order: &Order) -> Value {
        json!(shape::devices(order, &self.where_to()))
    }

    pub(super) fn where_to(&self) -> Place {
        Place { pool: self.config.storage_pool.clone(), network: self.config.network.clone() }
    }

    pub(super) async fn read_instances(&self) -> Result<Vec<Instance>, HostError> {
        let raw: Vec<Raw> = self.incus.get("listing the instances", "/instances?recursion=1").await?;
        Ok(raw.into_iter().map(Instance::from).collect())
    }

    pub(super) async fn read_instance(&self, name: &str) -> Result<Option<Instance>, HostError> {
        match self.incus.get::<Raw>(&format!("reading {name}"), &format!("/instances/{name}")).await {
            Ok(raw) => Ok(Some(raw.into())),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn create_instance(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        let mut config = config(fleet, order)?;
        config.retain(|_, value| !value.is_empty());
        let body = json!({
            "name": order.name,
            "type": "container",
            "source": { "type": "image", "fingerprint": order.spec.image.to_string() },
            "profiles": [],
            "config": config,
            "devices": self.devices(order),
            "start": true,
        });
        self.free_address(order.address, None).await?;
        let what = format!("creating {}", order.name);
        let request = self.incus.request(Method::POST, "/instances").json(&body);
        match self.incus.operate(&what, request, CREATE).await {
            Ok(_) => Ok(()),
            // Ours from a call that was cut off, or a stranger's: the next look tells.
            Err(failure) if failure.is(StatusCode::CONFLICT) || failure.text.contains("already exists") => {
                Err(HostError::transient(failure.text))
            }
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => {
                Err(HostError::permanent(format!("{} (image {})", failure.text, order.spec.image)))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn configure_instance(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.announce_cpus(order).await?;
        let body = json!({ "config": config(fleet, order)?, "devices": self.devices(order) });
        self.patch(&order.name, &body).await
    }

    pub(super) async fn patch(&self, name: &str, body: &Value) -> Result<(), HostError> {
        let request = self.incus.request(Method::PATCH, &format!("/instances/{name}")).json(body);
        Ok(self.incus.operate(&format!("configuring {name}"), request, START).await.map(drop)?)
    }

    /// incusd spreads containers over CPUs when `limits.cpu` changes, but reads the limits before it has stored the
    /// change: now and then it spreads by the old ones, and a container keeps them until some other starts or stops.
    /// So the new limit is stored first under another spelling of the same; the change to the usual one then finds it.
    pub(super) async fn announce_cpus(&self, order: &Order) -> Result<(), HostError> {
        let name = &order.name;
        let (wanted, _) = cpu_keys(&order.spec.cpu);
        let raw: Raw = self.incus.get(&format!("reading {name}"), &format!("/instances/{name}")).await?;
        if raw.config.get("limits.cpu").map_or("", String::as_str) == wanted {
            return Ok(());
        }
        let cpus = self.read_capacity().await?.cpus;
        self.patch(name, &json!({ "config": { "limits.cpu": same_cpus(&wanted, cpus) } })).await
    }

    async fn set_state(&self, name: &str, state: Value, limit: Duration) -> Result<Option<Operation>, Failure> {
        let what = format!("{} {name}", state["action"].as_str().unwrap_or("changing"));
        let request = self.incus.request(Method::PUT, &format!("/instances/{name}/state")).json(&state);
        self.incus.operate(&what, request, limit).await
    }

    /// An effect whose refusal may only mean that it was done already.
    async fn unless_already(&self, name: &str, wanted: Power, outcome: Result<(), Failure>) -> Result<(), HostError> {
        let Err(failure) = outcome else { return Ok(()) };
        match self.read_instance(name).await {
            Ok(Some(instance)) if instance.power == wanted => Ok(()),
            Ok(_) | Err(_) => Err(failure.into()),
        }
    }

    pub(super) async fn start_instance(&self, name: &str) -> Result<(), HostError> {
        let instance: Value = self.incus.get(&format!("reading {name}"), &format!("/instances/{name}")).await?;
        let address = instance["devices"]["eth0"]["ipv4.address"].as_str().and_then(|address| address.parse().ok());
        if let Some(address) = address {
            self.free_address(address, instance["config"]["volatile.eth0.hwaddr"].as_str()).await?;
        }
        let outcome = self.set_state(name, json!({ "action": "start" }), START).await;
        self.unless_already(name, Power::Running, outcome.map(drop)).await
    }

    pub(super) async fn stop_instance(&self, name: &str, mode: StopMode) -> Result<(), HostError> {
        match mode {
            StopMode::Graceful if self.ask_to_stop(name, STOP_ASKED).await? => return Ok(()),
            StopMode::Graceful => tracing::warn!(container = name, "not stopped in time, forcing"),
            StopMode::Brief if self.ask_to_stop(name, BRIEF_ASKED).await? => return Ok(()),
            StopMode::Brief => return Err(HostError::transient(format!("{name} has not stopped in time"))),
            StopMode::Force => {}
        }
        let outcome = self.set_state(name, json!({ "action": "stop", "force": true }), STOP).await;
        self.unless_already(name, Power::Stopped, outcome.map(drop)).await
    }

    /// Asks its init to end, again and again: one that is still booting loses what it is asked before it listens. True
    /// when it has ended.
    async fn ask_to_stop(&self, name: &str, times: u32) -> Result<bool, HostError> {
        for asked in 1..=times {
            let state = json!({ "action": "stop", "timeout": STOP_ASKED_EVERY_SECS });
            let Err(failure) = self.set_state(name, state, STOP).await else { return Ok(true) };
            if self.read_instance(name).await?.is_none_or(|instance| instance.power == Power::Stopped) {
                return Ok(true);
            }
            tracing::debug!(container = name, asked, failure = failure.text, "has not stopped yet");
        }
        Ok(false)
    }

    pub(super) async fn delete_instance(&self, name: &str) -> Result<(), HostError> {
        let request = self.incus.request(Method::DELETE, &format!("/instances/{name}"));
        match self.incus.operate(&format!("deleting {name}"), request, DELETE).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn write_copied_stamp(&self, name: &str, pass: Option<CopyPass>) -> Result<(), HostError> {
        let text = pass.map(|pass| pass.to_string()).unwrap_or_default();
        self.patch(name, &json!({ "config": { COPIED: text } })).await
    }

    pub(super) async fn write_ran_stamp(&self, name: &str, generation: Generation) -> Result<(), HostError> {
        self.patch(name, &json!({ "config": { RAN: generation.to_string() } })).await
    }

    pub(super) async fn write_login_stamp(&self, name: &str, hash: &str) -> Result<(), HostError> {
        self.patch(name, &json!({ "config": { LOGIN_HASH: hash } })).await
    }
}

#[cfg(test)]
mod tests {
    use containarium_proto::spec::Desired;

    use super::*;

    fn order(cpu: &str) -> Order {
        serde_json::from_value(json!({
            "id": "018f0000-0000-7000-8000-000000000001", "name": "alice-container", "owner": "alice", "generation": 3,
            "desired": "running",
            "spec": { "cpu": cpu, "memory": 2_147_483_648u64, "disk": 20_000_000_000u64, "image": "5".repeat(64),
                      "autostart": true, "restarts": 0 },
            "address": "10.100.1.2",
            "keys": [include_str!("../../../../proto/src/keys/testdata/ed25519.pub").trim_end()],
        }))
        .unwrap()
    }

    fn written(fleet: FleetId, order: &Order) -> BTreeMap<String, String> {
        config(fleet, order).unwrap().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn a_stamp_is_read_back_as_written() {
        let (fleet, order) = (FleetId::generate(), order("2"));
        let mut config = written(fleet, &order);
        assert_eq!(stamp(&config), Some(Stamp { fleet, order: order.clone(), login: None, copied: None, ran: None }));
        config.insert(LOGIN_HASH.into(), "abc".into());
        config.insert(COPIED.into(), "2".into());
        config.insert(RAN.into(), "3".into());
        let read = stamp(&config).unwrap();
        assert_eq!(read.ran, Some(Generation(3)));
        assert_eq!((read.login.as_deref(), read.copied), (Some("abc"), Some(CopyPass::FIRST.next())));
    }

    #[test]
    fn what_is_stopped_or_arriving_does_not_start_with_the_node() {
        let autostart = |order: &Order| written(FleetId::generate(), order)["boot.autostart"].clone();
        let mut order = order("2");
        assert_eq!(autostart(&order), "true");
        order.copy_pass = Some(CopyPass::FIRST);
        assert_eq!(autostart(&order), "false");
        order = Order { copy_pass: None, desired: Desired::Stopped, ..order };
        assert_eq!(autostart(&order), "false");
    }

    #[test]
    fn a_stamp_that_contradicts_itself_is_none() {
        for key in [FLEET, ID, GENERATION, ORDER] {
            let mut config = written(FleetId::generate(), &order("2"));
            config.insert(key.into(), "7".into());
            assert_eq!(stamp(&config), None, "{key}");
            config.remove(key);
            assert_eq!(stamp(&config), None, "{key}");
        }
    }

    #[test]
    fn another_spelling_of_the_same_cpus() {
        assert_eq!(same_cpus("4", 8), "04");
        assert_eq!(same_cpus("0,2-4", 8), "00,2-4");
        assert_eq!(same_cpus("", 8), "0-7");
    }

    #[test]
    fn never_privileged_and_docker_works_inside() {
        let config = written(FleetId::generate(), &order("2"));
        assert_eq!(config["security.nesting"], "true");
        assert!(!config.contains_key("security.privileged"));
    }
}
