//! How placement looks: verdicts, loads, limits and labels of servers.

use std::collections::BTreeMap;

use containarium_proto::{sizes::Bytes, v1};
use serde::Serialize;

use super::{Node, percent, table};

/// A server's verdict on a container, as programs see it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) node: String,
    pub(crate) fits: bool,
    pub(crate) chosen: bool,
    /// Fullest and emptiest of the servers that fit would be so far apart; the lowest is chosen.
    pub(crate) score_permille: u32,
    pub(crate) load_permille: u32,
    pub(crate) loads: Vec<Load>,
    pub(crate) containers: u32,
    pub(crate) max_containers: u32,
    pub(crate) reason: String,
}

impl Verdict {
    pub(crate) fn score(&self) -> String {
        if self.fits { percent(self.score_permille) } else { String::new() }
    }
}

impl From<&v1::NodeVerdict> for Verdict {
    fn from(verdict: &v1::NodeVerdict) -> Self {
        Self {
            node: verdict.node.clone(),
            fits: verdict.fits,
            chosen: verdict.chosen,
            score_permille: verdict.score_permille,
            load_permille: verdict.load_permille,
            loads: loads(&verdict.loads),
            containers: verdict.containers,
            max_containers: verdict.max_containers,
            reason: verdict.reason.clone(),
        }
    }
}

/// How full one thing of a server is: CPU in thousandths, the others in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    resource: String,
    reserved: u64,
    used: u64,
    allocatable: u64,
    permille: u32,
}

pub(super) fn loads(loads: &[v1::ResourceLoad]) -> Vec<Load> {
    let one = |load: &v1::ResourceLoad| Load {
        resource: load.resource.clone(),
        reserved: load.reserved,
        used: load.used,
        allocatable: load.allocatable,
        permille: load.permille,
    };
    loads.iter().map(one).collect()
}

/// "8/64 12.5%", and whether that much is in use rather than reserved.
pub(super) fn shown(loads: &[Load], what: &str) -> String {
    let Some(load) = loads.iter().find(|load| load.resource == what) else { return String::new() };
    let amount = |amount: u64| match what {
        "cpu" => millis(amount),
        _ => Bytes(amount).to_string(),
    };
    let (taken, word) = match load.used > load.reserved {
        true => (load.used, " (used)"),
        false => (load.reserved, ""),
    };
    format!("{}/{} {}{word}", amount(taken), amount(load.allocatable), percent(load.permille))
}

fn millis(amount: u64) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How far a server may be filled. Of its own values, those that are not set are null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Settings {
    overcommit_cpu_permille: Option<u32>,
    overcommit_memory_permille: Option<u32>,
    overcommit_disk_permille: Option<u32>,
    pub(super) max_containers: Option<u32>,
    headroom_memory_bytes: Option<u64>,
    headroom_disk_bytes: Option<u64>,
}

impl From<&v1::NodeSettings> for Settings {
    fn from(settings: &v1::NodeSettings) -> Self {
        Self {
            overcommit_cpu_permille: settings.overcommit_cpu_permille,
            overcommit_memory_permille: settings.overcommit_memory_permille,
            overcommit_disk_permille: settings.overcommit_disk_permille,
            max_containers: settings.max_containers,
            headroom_memory_bytes: settings.headroom_memory_bytes,
            headroom_disk_bytes: settings.headroom_disk_bytes,
        }
    }
}

/// What holds for a server, each value with whose it is.
pub(crate) fn limits(own: &Settings, holds: &Settings) -> [(&'static str, String); 6] {
    let of = |name, own: bool, value: Option<String>| {
        let whose = if own { "its own" } else { "fleet's" };
        (name, value.map_or_else(|| whose.to_owned(), |value| format!("{value} ({whose})")))
    };
    let factor = |name, own: Option<u32>, holds: Option<u32>| {
        of(name, own.is_some(), holds.map(|permille| millis(permille.into())))
    };
    let size = |name, own: Option<u64>, holds: Option<u64>| {
        of(name, own.is_some(), holds.map(|bytes| Bytes(bytes).to_string()))
    };
    [
        factor("CPU overcommit", own.overcommit_cpu_permille, holds.overcommit_cpu_permille),
        factor("Memory overcommit", own.overcommit_memory_permille, holds.overcommit_memory_permille),
        factor("Disk overcommit", own.overcommit_disk_permille, holds.overcommit_disk_permille),
        of("Most containers", own.max_containers.is_some(), holds.max_containers.map(|most| most.to_string())),
        size("Memory headroom", own.headroom_memory_bytes, holds.headroom_memory_bytes),
        size("Disk headroom", own.headroom_disk_bytes, holds.headroom_disk_bytes),
    ]
}

/// Reserved or used, whichever is more, of what may be promised.
pub(crate) fn loads_of(node: &Node) -> [(&'static str, String); 3] {
    [("CPU load", "cpu"), ("Memory load", "memory"), ("Disk load", "disk")]
        .map(|(name, what)| (name, shown(&node.loads, what)))
}

/// "gpu=true,zone=a"
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

pub(crate) fn verdict_table(verdicts: &[Verdict]) -> String {
    let row = |v: &Verdict| {
        let answer = match (v.chosen, v.fits) {
            (true, _) => "chosen",
            (false, true) => "yes",
            (false, false) => "no",
        };
        let loads = ["cpu", "memory", "disk"].map(|what| shown(&v.loads, what));
        let mut row = vec![v.node.clone(), answer.to_owned(), v.score(), percent(v.load_permille)];
        row.extend(loads);
        row.extend([format!("{}/{}", v.containers, v.max_containers), v.reason.clone()]);
        row
    };
    let header = ["NODE", "FITS", "SCORE", "LOAD AFTER", "CPU", "MEMORY", "DISK", "CONTAINERS", "REASON"];
    table(&header, verdicts.iter().map(row).collect())
}
