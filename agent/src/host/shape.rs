//! What an order means to Incus: configuration keys, devices, profiles; and an instance's own, in the same form. Pure. It
//! must never hold our stamps: they say what was ordered, not what the instance is.

use std::collections::BTreeMap;

use containarium_proto::{cpu::Cpu, node::Order, spec::Desired};

/// One device: its own keys and values.
pub type Device = BTreeMap<String, String>;

/// An instance's own configuration, nothing that comes from a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    /// `limits.memory` and so on.
    pub config: BTreeMap<String, String>,
    /// By name: `root`, `eth0`.
    pub devices: BTreeMap<String, Device>,
    /// Their order matters to Incus.
    pub profiles: Vec<String>,
}

/// Where containers of ours get their disk and their network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Storage pool.
    pub pool: String,
    /// Bridge.
    pub network: String,
}

/// On a clone that is exported, and so on whatever is made from the export: `<owner>/<backup>`. Nothing but the name of a
/// backup of ours, and gone as soon as an order is stamped.
pub const BACKUP_MARK: &str = "user.containarium.backup";

/// The clone of an instance that is exported.
#[must_use]
pub fn clone_name(name: &str) -> String {
    format!("{name}-backup")
}

/// What an export is made into, beside the instance that it replaces.
#[must_use]
pub fn staging_name(name: &str) -> String {
    format!("{name}-restore")
}

/// Keys that no order says anything about: Incus' own notes, the image's, and what people and we note.
#[must_use]
pub fn is_nobodys(key: &str) -> bool {
    ["volatile.", "image.", "user."].iter().any(|prefix| key.starts_with(prefix))
}

/// The keys of an order. An empty value: the key is not there.
#[must_use]
pub fn limits(order: &Order) -> BTreeMap<&'static str, String> {
    let (count, allowance) = cpu_keys(&order.spec.cpu);
    // Incus starts these with the node, whatever state they were in: one that is stopped, or arriving, must not be. What is
    // fenced is started by us, when we may.
    let autostart =
        order.spec.autostart && !order.spec.fenced && order.desired == Desired::Running && order.copy_pass.is_none();
    BTreeMap::from([
        ("limits.cpu", count),
        ("limits.cpu.allowance", allowance),
        ("limits.memory", order.spec.memory.0.to_string()),
        ("security.nesting", "true".to_owned()),
        ("boot.autostart", autostart.to_string()),
    ])
}

/// The devices of an order.
#[must_use]
pub fn devices(order: &Order, place: &Place) -> BTreeMap<String, Device> {
    let device = |keys: &[(&str, String)]| keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let root = device(&[
        ("type", "disk".to_owned()),
        ("path", "/".to_owned()),
        ("pool", place.pool.clone()),
        ("size", order.spec.disk.0.to_string()),
    ]);
    let eth0 = device(&[
        ("type", "nic".to_owned()),
        ("name", "eth0".to_owned()),
        ("network", place.network.clone()),
        ("ipv4.address", order.address.to_string()),
        // On the bridge it reaches the node and nobody else, under its own addresses only: see linux/policy.rs.
        ("security.port_isolation", "true".to_owned()),
        ("security.mac_filtering", "true".to_owned()),
        ("security.ipv4_filtering", "true".to_owned()),
    ]);
    BTreeMap::from([("root".to_owned(), root), ("eth0".to_owned(), eth0)])
}

/// The whole of what is ordered.
#[must_use]
pub fn ordered(order: &Order, place: &Place) -> Shape {
    let config = limits(order).into_iter().filter(|(_, value)| !value.is_empty());
    let config = config.map(|(key, value)| (key.to_owned(), value)).collect();
    Shape { config, devices: devices(order, place), profiles: Vec::new() }
}

/// `limits.cpu` and `limits.cpu.allowance`. The text form of a count or a set is Incus' own.
#[must_use]
pub fn cpu_keys(cpu: &Cpu) -> (String, String) {
    match cpu {
        Cpu::Count(_) | Cpu::Pinned(_) => (cpu.to_string(), String::new()),
        // Thousandths are whole milliseconds of 100 only by tens; of 1000 always.
        Cpu::QuotaMillis(millis) if millis.is_multiple_of(10) => (String::new(), format!("{}ms/100ms", millis / 10)),
        Cpu::QuotaMillis(millis) => (String::new(), format!("{millis}ms/1000ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_forms_become_incus_keys() {
        let keys = |cpu: &str| cpu_keys(&cpu.parse().unwrap());
        assert_eq!(keys("4"), ("4".into(), String::new()));
        assert_eq!(keys("0,2-4"), ("0,2-4".into(), String::new()));
        assert_eq!(keys("3-3"), ("3-3".into(), String::new()));
        assert_eq!(keys("1.5"), (String::new(), "150ms/100ms".into()));
        assert_eq!(keys("250m"), (String::new(), "25ms/100ms".into()));
        assert_eq!(keys("333m"), (String::new(), "333ms/1000ms".into()));
    }
}
