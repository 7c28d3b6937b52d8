//! What one node does differently from the fleet: an operator's word, durable, each value on its own. Pure. It must
//! never know what a node has: placement puts the two together.

use std::fmt::Display;

use containarium_proto::{factor::Factor, sizes::Bytes};
use serde::{Deserialize, Serialize};

use crate::config::Overcommit;

/// A node's own values; none: as the fleet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overcommit_cpu: Option<Factor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overcommit_memory: Option<Factor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overcommit_disk: Option<Factor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_containers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headroom_memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headroom_disk: Option<Bytes>,
}

impl NodeSettings {
    /// The fleet's values with these over them: what holds for the node.
    pub(crate) fn over(&self, fleet: &Overcommit) -> Overcommit {
        let permille = |own: Option<Factor>, fleet: u64| own.map_or(fleet, |factor| u64::from(factor.permille()));
        Overcommit {
            cpu_permille: permille(self.overcommit_cpu, fleet.cpu_permille),
            memory_permille: permille(self.overcommit_memory, fleet.memory_permille),
            disk_permille: permille(self.overcommit_disk, fleet.disk_permille),
            max_containers_per_node: self.max_containers.unwrap_or(fleet.max_containers_per_node),
            headroom_memory: self.headroom_memory.or(fleet.headroom_memory),
            headroom_disk: self.headroom_disk.or(fleet.headroom_disk),
        }
    }

    /// These, with what is set in `changes` over them.
    pub(crate) fn with(self, changes: &Self) -> Self {
        Self {
            overcommit_cpu: changes.overcommit_cpu.or(self.overcommit_cpu),
            overcommit_memory: changes.overcommit_memory.or(self.overcommit_memory),
            overcommit_disk: changes.overcommit_disk.or(self.overcommit_disk),
            max_containers: changes.max_containers.or(self.max_containers),
            headroom_memory: changes.headroom_memory.or(self.headroom_memory),
            headroom_disk: changes.headroom_disk.or(self.headroom_disk),
        }
    }

    /// "overcommit-cpu 2, max-containers fleet's": what differs from `old`.
    pub(crate) fn differences(&self, old: &Self) -> String {
        fn of<T: Display + PartialEq>(name: &str, old: Option<&T>, new: Option<&T>) -> Option<String> {
            let value = new.map_or_else(|| "fleet's".to_owned(), ToString::to_string);
            (old != new).then(|| format!("{name} {value}"))
        }
        let all = [
            of("overcommit-cpu", old.overcommit_cpu.as_ref(), self.overcommit_cpu.as_ref()),
            of("overcommit-memory", old.overcommit_memory.as_ref(), self.overcommit_memory.as_ref()),
            of("overcommit-disk", old.overcommit_disk.as_ref(), self.overcommit_disk.as_ref()),
            of("max-containers", old.max_containers.as_ref(), self.max_containers.as_ref()),
            of("headroom-memory", old.headroom_memory.as_ref(), self.headroom_memory.as_ref()),
            of("headroom-disk", old.headroom_disk.as_ref(), self.headroom_disk.as_ref()),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_the_fleets() {
        let fleet = Overcommit { headroom_disk: Some(Bytes(7)), ..Overcommit::default() };
        assert_eq!(NodeSettings::default().over(&fleet), fleet);
        let own = NodeSettings {
            overcommit_cpu: Some("2".parse().unwrap()),
            max_containers: Some(5),
            headroom_memory: Some(Bytes(1 << 30)),
            ..NodeSettings::default()
        };
        let expected = Overcommit {
            cpu_permille: 2000,
            max_containers_per_node: 5,
            headroom_memory: Some(Bytes(1 << 30)),
            ..fleet
        };
        assert_eq!(own.over(&fleet), expected);
        let changed = own.with(&NodeSettings { max_containers: Some(6), ..NodeSettings::default() });
        assert_eq!(changed, NodeSettings { max_containers: Some(6), ..own });
        assert_eq!(changed.differences(&own), "max-containers 6");
        let reset = NodeSettings::default().differences(&own);
        assert_eq!(reset, "overcommit-cpu fleet's, max-containers fleet's, headroom-memory fleet's");
    }

    #[test]
    fn rows_hold_only_what_is_set() {
        assert_eq!(serde_json::to_string(&NodeSettings::default()).unwrap(), "{}");
        let own = NodeSettings { max_containers: Some(5), ..NodeSettings::default() };
        let json = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<NodeSettings>(&json).unwrap(), own);
    }
}
