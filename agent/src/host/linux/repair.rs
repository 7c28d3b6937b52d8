//! Instances of Incus that must lose something: a device, a profile, a key that nobody ordered; or their name. PATCH only
//! adds and changes, so the whole is read and written back in one request, which Incus refuses if it changed between.

use std::collections::BTreeMap;

use containarium_proto::{ids::FleetId, node::Order};
use reqwest::{Method, StatusCode, header::IF_MATCH};
use serde_json::{Value, json};

use super::{LinuxHost, instances};
use crate::host::{HostError, shape::is_nobodys};

/// Detaching a device or renaming a dataset takes a moment.
const REPAIR: std::time::Duration = std::time::Duration::from_secs(90);

impl LinuxHost {
    pub(super) async fn repair_instance(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.write_back(fleet, order, None).await
    }

    /// `kept`: after a restore; without what was noted of a login and a copy, and with these keys as they were before.
    pub(super) async fn write_back(
        &self,
        fleet: FleetId,
        order: &Order,
        kept: Option<&BTreeMap<String, String>>,
    ) -> Result<(), HostError> {
        self.announce_cpus(order).await?;
        let (name, path) = (&order.name, format!("/instances/{}", order.name));
        let what = format!("repairing {name}");
        let (mut whole, etag): (Value, String) = self.incus.get_to_change(&what, &path).await?;
        let mut there: BTreeMap<String, String> = serde_json::from_value(whole["config"].take())
            .map_err(|error| HostError::transient(format!("{what}: a configuration of another form: {error}")))?;
        if let Some(kept) = kept {
            there.retain(|key, _| key != instances::LOGIN_HASH && key != instances::COPIED);
            there.extend(kept.clone());
        }
        let config = written_back(there, instances::config(fleet, order)?);
        let body = json!({
            "architecture": whole["architecture"],
            "description": whole["description"],
            "ephemeral": whole["ephemeral"],
            "stateful": whole["stateful"],
            "config": config,
            "devices": self.devices(order),
            "profiles": [],
        });
        let request = self.incus.request(Method::PUT, &path).header(IF_MATCH, etag).json(&body);
        Ok(self.incus.operate(&what, request, REPAIR).await.map(drop)?)
    }

    pub(super) async fn rename_instance(&self, name: &str, to: &str) -> Result<(), HostError> {
        let what = format!("renaming {name} to {to}");
        let request = self.incus.request(Method::POST, &format!("/instances/{name}")).json(&json!({ "name": to }));
        match self.incus.operate(&what, request, REPAIR).await {
            Ok(_) => Ok(()),
            // Renamed by a call that was cut off, or gone: the next look tells.
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Err(HostError::transient(failure.text)),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The notes of Incus, the image and people as they are there; of everything else what is ordered.
fn written_back(there: BTreeMap<String, String>, ordered: BTreeMap<&'static str, String>) -> BTreeMap<String, String> {
    let mut config: BTreeMap<String, String> = there.into_iter().filter(|(key, _)| is_nobodys(key)).collect();
    let ordered = ordered.into_iter().filter(|(_, value)| !value.is_empty());
    config.extend(ordered.map(|(key, value)| (key.to_owned(), value)));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incus_own_notes_stay_and_what_nobody_ordered_goes() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let there = map(&[
            ("volatile.idmap.current", "[]"),
            ("image.os", "debian"),
            ("user.note", "mine"),
            ("user.containarium.generation", "1"),
            ("raw.lxc", "lxc.cap.drop ="),
            ("limits.memory", "1"),
            ("limits.cpu.allowance", "1ms/100ms"),
        ]);
        let ordered = BTreeMap::from([
            ("limits.memory", "2".to_owned()),
            ("limits.cpu.allowance", String::new()),
            ("user.containarium.generation", "2".to_owned()),
        ]);
        let expected = map(&[
            ("image.os", "debian"),
            ("limits.memory", "2"),
            ("user.containarium.generation", "2"),
            ("user.note", "mine"),
            ("volatile.idmap.current", "[]"),
        ]);
        assert_eq!(written_back(there, ordered), expected);
    }
}
