//! What an instance uses, as Incus says. From the instance's own state: `/1.0/metrics` has all of them in one answer, but
//! incusd makes it no cheaper and keeps it for 8 s, in which the CPU time of two answers is the same.

use std::{collections::BTreeMap, time::Duration};

use containarium_proto::{node::Usage, sizes::Bytes};
use reqwest::StatusCode;
use serde::Deserialize;

use super::LinuxHost;
use crate::host::HostError;

/// Not all kernels and storages can tell: what they cannot is missing, or less than nothing.
#[derive(Debug, Deserialize)]
struct State {
    memory: Used,
    disk: Option<BTreeMap<String, Used>>,
    cpu: Option<Used>,
}

#[derive(Debug, Deserialize)]
struct Used {
    usage: i64,
}

impl From<State> for Usage {
    fn from(State { memory, disk, cpu }: State) -> Self {
        let amount = |used: Used| u64::try_from(used.usage).ok();
        Self {
            memory: Bytes(amount(memory).unwrap_or_default()),
            disk: disk.and_then(|mut disk| disk.remove("root")).and_then(amount).map(Bytes),
            cpu: cpu.and_then(amount).map(Duration::from_nanos),
        }
    }
}

impl LinuxHost {
    pub(super) async fn read_usage(&self, name: &str) -> Result<Option<Usage>, HostError> {
        let path = format!("/instances/{name}/state");
        match self.incus.get::<State>(&format!("reading the use of {name}"), &path).await {
            Ok(state) => {
                let usage = Usage::from(state);
                let is_told = usage.disk.is_some() && !self.is_quota_inexact().await;
                Ok(Some(Usage { disk: usage.disk.filter(|_| is_told), ..usage }))
            }
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_incus_says_of_use_is_read_and_what_it_cannot_say_is_missing() {
        let running = r#"{ "status": "Running", "status_code": 103, "os_info": null, "pid": 7280, "processes": 22,
            "started_at": "2025-06-15T15:06:40.123Z",
            "disk": { "root": { "usage": 330063872, "total": 10000000000 } },
            "memory": { "usage": 73248768, "usage_peak": 75108352, "total": 2000000000, "swap_usage": 0 },
            "network": { "eth0": { "addresses": [], "counters": { "bytes_received": 192021 }, "type": "broadcast" } },
            "cpu": { "usage": 4986019722, "allocated_time": 2000000000 } }"#;
        let read = |text: &str| Usage::from(serde_json::from_str::<State>(text).unwrap());
        let expected = Usage {
            memory: Bytes(73_248_768),
            disk: Some(Bytes(330_063_872)),
            cpu: Some(Duration::from_nanos(4_986_019_722)),
        };
        assert_eq!(read(running), expected);
        let stopped = r#"{ "status": "Stopped", "disk": null, "memory": { "usage": 0 } }"#;
        let cannot_tell =
            r#"{ "disk": { "root": { "usage": -1 } }, "memory": { "usage": -1 }, "cpu": { "usage": -1 } }"#;
        for text in [stopped, cannot_tell] {
            assert_eq!(read(text), Usage::default(), "{text}");
        }
        // A limit could be lowered below what nobody knows.
        assert!(serde_json::from_str::<State>(r#"{ "status": "Running" }"#).is_err());
    }
}
