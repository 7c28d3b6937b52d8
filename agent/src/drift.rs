//! In what an instance of ours differs from the order that is stamped on it: what somebody changed behind our back, one
//! line each for people. Pure. It must never repair anything, nor look at what Incus and the image note for themselves.

use containarium_proto::{
    node::Order,
    sizes::Bytes,
    spec::{Desired, Observed},
};

use crate::host::{
    Instance, Power,
    shape::{self, Device, Place, is_nobodys},
};

/// A value such as `raw.lxc` may be a page long; a line shows its beginning.
const SHOWN: usize = 60;

/// All differences, in a fixed order. None of what is still arriving from another node: it is no machine yet.
#[must_use]
pub fn drift(order: &Order, place: &Place, seen: &Instance) -> Vec<String> {
    if order.copy_pass.is_some() || order.desired == Desired::Absent {
        return Vec::new();
    }
    let wanted = shape::ordered(order, place);
    let mut found: Vec<String> = power(order, seen).into_iter().collect();
    compare("", &wanted.config, &seen.shape.config, &mut found);
    for (name, device) in &wanted.devices {
        match seen.shape.devices.get(name) {
            Some(there) => compare(&format!("{name}."), device, there, &mut found),
            None => found.push(format!("device {name} is missing")),
        }
    }
    for (name, device) in seen.shape.devices.iter().filter(|(name, _)| !wanted.devices.contains_key(*name)) {
        let kind = device.get("type").map_or("unknown", String::as_str);
        found.push(format!("device {} ({}) was added", shown(name), shown(kind)));
    }
    found.extend(seen.shape.profiles.iter().map(|profile| format!("profile {} was added", shown(profile))));
    found
}

/// The order as it is at rest: one whose container does not start by itself may rest stopped, and that is no difference.
#[must_use]
pub fn at_rest(order: &Order, observed: &Observed) -> Order {
    match observed {
        Observed::Stopped if order.desired == Desired::Running => Order { desired: Desired::Stopped, ..order.clone() },
        _ => order.clone(),
    }
}

/// Whether it runs or not is other than ordered. A container that its user is rebooting looks so for a moment.
#[must_use]
pub fn power(order: &Order, seen: &Instance) -> Option<String> {
    match (order.desired, seen.power) {
        (Desired::Running, Power::Stopped) => Some("it was stopped behind our back, ordered running".to_owned()),
        (Desired::Stopped, Power::Running) => Some("it was started behind our back, ordered stopped".to_owned()),
        (Desired::Running, Power::Running) | (Desired::Stopped, Power::Stopped) | (Desired::Absent, _) => None,
    }
}

fn compare(prefix: &str, wanted: &Device, there: &Device, found: &mut Vec<String>) {
    for (key, value) in wanted {
        match there.get(key) {
            Some(now) if same(value, now) => {}
            Some(now) => found.push(format!("{prefix}{key} is {}, ordered {value}", shown(now))),
            None => found.push(format!("{prefix}{key} is unset, ordered {value}")),
        }
    }
    for (key, value) in there.iter().filter(|(key, _)| !wanted.contains_key(*key) && !is_nobodys(key)) {
        // What a key says that is not there.
        if key == "security.privileged" && value == "false" {
            continue;
        }
        found.push(format!("{prefix}{} is {}, ordered unset", shown(key), shown(value)));
    }
}

/// Whether two texts mean the same to Incus: `2GiB` is `2147483648`.
fn same(wanted: &str, there: &str) -> bool {
    let size = |text: &str| text.parse::<u64>().ok().or_else(|| text.parse::<Bytes>().ok().map(|size| size.0));
    wanted == there || size(wanted).is_some_and(|wanted| Some(wanted) == size(there))
}

/// One line without control characters, not too long.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if text.chars().count() > SHOWN { format!("{short}...") } else { short }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use containarium_proto::{
        ids::{ContainerId, Generation},
        keys::KeySet,
        node::CopyPass,
        spec::Spec,
    };

    use super::*;
    use crate::host::shape::Shape;

    fn order() -> Order {
        Order {
            id: ContainerId::generate(),
            name: "alice-container".into(),
            owner: "alice".parse().unwrap(),
            generation: Generation(3),
            desired: Desired::Running,
            spec: Spec {
                cpu: "2".parse().unwrap(),
                memory: Bytes(2 << 30),
                disk: Bytes(20_000_000_000),
                image: "5".repeat(64).parse().unwrap(),
                autostart: true,
                restarts: 0,
                fenced: false,
            },
            address: Ipv4Addr::new(10, 100, 1, 2),
            keys: KeySet::from_recorded([]).unwrap(),
            copy_pass: None,
            origin: None,
            guests: Vec::new(),
        }
    }

    fn place() -> Place {
        Place { pool: "pool".into(), network: "incusbr0".into() }
    }

    /// What is said of an instance as ordered, but for one change.
    fn after(change: impl FnOnce(&mut Shape)) -> Vec<String> {
        let order = order();
        let mut seen = Instance {
            name: order.name.clone(),
            power: Power::Running,
            stamp: None,
            shape: shape::ordered(&order, &place()),
            unclaimed: None,
        };
        change(&mut seen.shape);
        drift(&order, &place(), &seen)
    }

    fn set(key: &'static str, value: &'static str) -> impl FnOnce(&mut Shape) {
        move |shape| drop(shape.config.insert(key.to_owned(), value.to_owned()))
    }

    fn device(name: &'static str, key: &'static str, value: &'static str) -> impl FnOnce(&mut Shape) {
        move |shape| {
            drop(shape.devices.entry(name.to_owned()).or_default().insert(key.to_owned(), value.to_owned()));
        }
    }

    #[test]
    fn what_is_as_ordered_has_no_drift_and_incus_own_notes_are_none() {
        assert_eq!(after(|_| ()), [""; 0]);
        for key in ["volatile.base_image", "image.os", "user.containarium.id", "user.note"] {
            assert_eq!(after(set(key, "x")), [""; 0], "{key}");
        }
        assert_eq!(after(set("limits.memory", "2GiB")), [""; 0], "the same size in another spelling");
        assert_eq!(after(set("security.privileged", "false")), [""; 0]);
    }

    #[test]
    fn every_key_that_was_changed_removed_or_added_is_named_with_what_was_ordered() {
        assert_eq!(after(set("limits.memory", "1073741824")), ["limits.memory is 1073741824, ordered 2147483648"]);
        assert_eq!(after(set("limits.cpu", "8")), ["limits.cpu is 8, ordered 2"]);
        assert_eq!(
            after(set("limits.cpu.allowance", "50ms/100ms")),
            ["limits.cpu.allowance is 50ms/100ms, ordered unset"]
        );
        assert_eq!(after(set("security.nesting", "false")), ["security.nesting is false, ordered true"]);
        assert_eq!(after(set("security.privileged", "true")), ["security.privileged is true, ordered unset"]);
        assert_eq!(after(set("boot.autostart", "false")), ["boot.autostart is false, ordered true"]);
        assert_eq!(
            after(|shape| drop(shape.config.remove("limits.memory"))),
            ["limits.memory is unset, ordered 2147483648"]
        );
        let raw = after(set("raw.lxc", "lxc.cap.drop =\nlxc.mount.auto = proc:rw sys:rw cgroup:rw and more of it"));
        assert!(raw[0].starts_with("raw.lxc is lxc.cap.drop =\\nlxc.mount.auto"), "{raw:?}");
        assert!(raw[0].ends_with("..., ordered unset") && !raw[0].contains('\n'), "{raw:?}");
    }

    #[test]
    fn disks_nics_and_profiles_are_compared_too() {
        assert_eq!(after(device("root", "size", "10GB")), ["root.size is 10GB, ordered 20000000000"]);
        assert_eq!(after(device("root", "pool", "other")), ["root.pool is other, ordered pool"]);
        assert_eq!(after(device("eth0", "network", "other")), ["eth0.network is other, ordered incusbr0"]);
        assert_eq!(
            after(device("eth0", "ipv4.address", "10.100.1.9")),
            ["eth0.ipv4.address is 10.100.1.9, ordered 10.100.1.2"]
        );
        assert_eq!(after(device("eth0", "limits.max", "1Mbit")), ["eth0.limits.max is 1Mbit, ordered unset"]);
        assert_eq!(after(device("gpu0", "type", "gpu")), ["device gpu0 (gpu) was added"]);
        assert_eq!(after(|shape| drop(shape.devices.remove("eth0"))), ["device eth0 is missing"]);
        assert_eq!(after(|shape| shape.profiles.push("default".into())), ["profile default was added"]);
    }

    #[test]
    fn power_is_compared_with_what_is_ordered() {
        let seen = |order: &Order, power| Instance {
            name: order.name.clone(),
            power,
            stamp: None,
            shape: shape::ordered(order, &place()),
            unclaimed: None,
        };
        let running = order();
        assert!(drift(&running, &place(), &seen(&running, Power::Stopped))[0].contains("stopped behind our back"));
        let stopped = Order { desired: Desired::Stopped, ..order() };
        assert_eq!(drift(&stopped, &place(), &seen(&stopped, Power::Stopped)), [""; 0]);
        assert!(drift(&stopped, &place(), &seen(&stopped, Power::Running))[0].contains("started behind our back"));
        let arriving = Order { copy_pass: Some(CopyPass::FIRST), ..stopped };
        assert_eq!(drift(&arriving, &place(), &seen(&running, Power::Running)), [""; 0]);
    }
}
