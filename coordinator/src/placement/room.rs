//! What of a node may be promised, what is taken of it, and how full that makes it. Pure arithmetic on integers; it must
//! never prefer one node to another.

use containarium_proto::{sizes::Bytes, spec::Capacity};

use super::{Candidate, Resources};
use crate::config::Overcommit;

/// For the host itself: incusd, sshd with hundreds of sessions, the ZFS cache's floor. An eighth on small machines.
const MEMORY_HEADROOM: u64 = 1 << 30;
/// A copy-on-write pool slows down and then cannot even delete when the last twentieth is in use.
const DISK_HEADROOM_DIVISOR: u64 = 20;

/// How full one of the three things is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// "cpu", "memory" or "disk".
    pub(crate) what: &'static str,
    pub(crate) reserved: u64,
    /// As the node reports.
    pub(crate) used: u64,
    pub(crate) allocatable: u64,
}

impl Load {
    /// Ours or the machine's word, whichever is larger: it may hold things that we did not put there.
    fn taken(&self) -> u64 {
        self.reserved.max(self.used)
    }

    pub(crate) fn permille(&self) -> u32 {
        permille(self.taken(), self.allocatable)
    }

    fn shown(&self, amount: u64) -> String {
        if self.what == "cpu" { millis(amount) } else { Bytes(amount).to_string() }
    }
}

/// How full a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loads(pub(crate) [Load; 3]);

impl Loads {
    /// Of this node now; none until it has reported its size. `limits` are those that hold for it.
    pub(crate) fn of(node: &Candidate, limits: &Overcommit) -> Option<Self> {
        let capacity = node.capacity?;
        let Resources { cpu_millis, memory_bytes, disk_bytes } = allocatable(capacity, limits);
        let load = |what, reserved, used, allocatable| Load { what, reserved, used, allocatable };
        Some(Self([
            load("cpu", node.reserved.cpu_millis, 0, cpu_millis),
            load("memory", node.reserved.memory_bytes, capacity.memory_used.0, memory_bytes),
            load("disk", node.reserved.disk_bytes, capacity.disk_used.0, disk_bytes),
        ]))
    }

    /// With so much more taken, in use or not: what is placed here will be used on top of what is used now.
    pub(super) fn with(&self, wanted: Resources) -> Self {
        let mut loads = self.0;
        for (load, wanted) in loads.iter_mut().zip(in_order(wanted)) {
            load.used = if load.used > load.reserved { load.used.saturating_add(wanted) } else { load.used };
            load.reserved = load.reserved.saturating_add(wanted);
        }
        Self(loads)
    }

    /// The first of the three that has no room, for people.
    pub(super) fn room_for(&self, wanted: Resources) -> Result<(), String> {
        for (load, need) in self.0.iter().zip(in_order(wanted)) {
            let free = load.allocatable.saturating_sub(load.taken());
            if need > free {
                let (need, free, total) = (load.shown(need), load.shown(free), load.shown(load.allocatable));
                return Err(format!("has no room: {} needs {need}, {free} free of {total}", load.what));
            }
        }
        Ok(())
    }

    /// The fullest of the three, and the first of them among equals.
    pub(crate) fn fullest(&self) -> &Load {
        let [cpu, memory, disk] = &self.0;
        [memory, disk].into_iter().fold(cpu, |most, load| if load.permille() > most.permille() { load } else { most })
    }

    /// The fullest by our promises alone, in thousandths.
    pub(super) fn promised_permille(&self) -> u32 {
        self.0.iter().map(|load| permille(load.reserved, load.allocatable)).max().unwrap_or_default()
    }
}

fn in_order(resources: Resources) -> [u64; 3] {
    [resources.cpu_millis, resources.memory_bytes, resources.disk_bytes]
}

fn permille(part: u64, whole: u64) -> u32 {
    let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
    u32::try_from(permille).unwrap_or(u32::MAX)
}

/// What a node keeps for itself, memory and disk: what an operator says, else what suits its size.
pub(crate) fn headroom(capacity: Capacity, limits: &Overcommit) -> (Bytes, Bytes) {
    let (memory, disk) = (capacity.memory.0, capacity.disk.0);
    (
        limits.headroom_memory.unwrap_or(Bytes(MEMORY_HEADROOM.min(memory / 8))),
        limits.headroom_disk.unwrap_or(Bytes(disk / DISK_HEADROOM_DIVISOR)),
    )
}

/// What may be promised of a machine: what is left for containers, times the overcommit.
pub(crate) fn allocatable(capacity: Capacity, limits: &Overcommit) -> Resources {
    let times = |amount: u64, permille: u64| {
        u64::try_from(u128::from(amount) * u128::from(permille) / 1000).unwrap_or(u64::MAX)
    };
    let (memory_kept, disk_kept) = headroom(capacity, limits);
    Resources {
        cpu_millis: times(u64::from(capacity.cpus) * 1000, limits.cpu_permille),
        memory_bytes: times(capacity.memory.0.saturating_sub(memory_kept.0), limits.memory_permille),
        disk_bytes: times(capacity.disk.0.saturating_sub(disk_kept.0), limits.disk_permille),
    }
}

/// Fullest of the three now, in thousandths of what may be promised; 0 for a node that has not reported.
pub(crate) fn load_now(node: &Candidate, limits: &Overcommit) -> u32 {
    Loads::of(node, limits).map_or(0, |loads| loads.fullest().permille())
}

fn millis(amount: u64) -> String {
    let text = format!("{}.{:03}", amount / 1000, amount % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
