//! What adopting an instance would do, or why it cannot be. Pure: what the node says of it and what the node has, in;
//! the order-to-be, with a line for people per change, out. It must never ask a node or change anything.

use std::net::Ipv4Addr;

use containarium_proto::{
    names::Username,
    node::Foreign,
    sizes::{self, Bytes},
    spec::{Desired, Spec},
};

use crate::{
    config::{Defaults, Overcommit},
    placement::{self, Candidate, Resources},
};

/// An adoption that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adoption {
    pub(crate) spec: Spec,
    pub(crate) address: Ipv4Addr,
    /// It stays what it is.
    pub(crate) desired: Desired,
    /// What would be done, for people.
    pub(crate) steps: Vec<String>,
}

/// Decides. Without an owner, for one that is yet to be named.
pub(crate) fn decide(
    foreign: &Foreign,
    owner: Option<&Username>,
    node: &Candidate,
    (defaults, overcommit): (&Defaults, &Overcommit),
) -> Result<Adoption, Vec<String>> {
    let mut obstacles = foreign.obstacles.clone();
    let mut steps = Vec::new();
    let wanted = owner.map(Username::container_name);
    if wanted.as_ref() != Some(&foreign.name) {
        let to = wanted.unwrap_or_else(|| "<user>-container".to_owned());
        match foreign.running {
            true => obstacles.push(format!("it runs, and only what is stopped can be renamed to {to}: stop it first")),
            false => steps.push(format!("rename it to {to}")),
        }
    }
    let address = address(foreign, node).map_err(|why| obstacles.push(why)).ok();
    let image = foreign.image.clone();
    if image.is_none() && obstacles.is_empty() {
        obstacles.push("it was not made from an image".to_owned());
    }
    let (Some(address), Some(image), true) = (address, image, obstacles.is_empty()) else { return Err(obstacles) };
    let spec = Spec {
        cpu: foreign.cpu.clone().unwrap_or_else(|| defaults.cpu.clone()),
        memory: foreign.memory.unwrap_or(defaults.memory),
        disk: foreign.disk.unwrap_or_else(|| roomy(foreign.disk_used, defaults.disk)),
        image,
        autostart: foreign.autostart,
        restarts: 0,
        fenced: false,
    };
    let from = |own: bool| if own { "its own" } else { "by default" };
    steps.push(format!("cpu {} ({})", spec.cpu, from(foreign.cpu.is_some())));
    steps.push(format!("memory {} ({})", spec.memory, from(foreign.memory.is_some())));
    steps.push(format!("disk {} ({})", spec.disk, from(foreign.disk.is_some())));
    let kept = if foreign.address == Some(address) { "its own" } else { "a new one" };
    steps.push(format!("address {address} ({kept}), fixed from then on"));
    let user = owner.map_or("its user", Username::as_str);
    let when = if foreign.running { "" } else { ", at its next start" };
    steps.push(format!("account of {user} inside, with sudo and the keys given{when}"));
    let held = Resources::default();
    if let Err(why) = placement::room_to_grow(held, Resources::of(&spec), node, overcommit) {
        steps.push(format!("warning: {} {why}; it is adopted all the same", node.name));
    }
    let desired = if foreign.running { Desired::Running } else { Desired::Stopped };
    Ok(Adoption { spec, address, desired, steps })
}

/// Its own if that can be; what runs has to keep it, since it would not notice another one.
fn address(foreign: &Foreign, node: &Candidate) -> Result<Ipv4Addr, String> {
    let Some((network, gateway)) = node.network else {
        return Err(format!("{} has not reported its container network yet", node.name));
    };
    let usable = |address: &Ipv4Addr| {
        network.contains(address)
            && ![gateway, network.network(), network.broadcast()].contains(address)
            && !node.addresses.contains(address)
    };
    match foreign.address.filter(usable) {
        Some(own) => Ok(own),
        None if foreign.running => {
            let has = foreign.address.map_or_else(|| "no address".to_owned(), |address| format!("{address}"));
            Err(format!("it runs with {has}, not with a free one of {network}: stop it first"))
        }
        None => placement::lowest_free(network, gateway, &node.addresses)
            .ok_or_else(|| format!("{} has no free address left in {network}", node.name)),
    }
}

/// The default, unless it holds more: then a quarter more than that.
fn roomy(used: Option<Bytes>, default: Bytes) -> Bytes {
    let used = used.map_or(0, |used| used.0);
    Bytes(default.0.max(used.saturating_add(used / 4)).min(sizes::MAX.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{availability::Availability, store::Policy};

    fn foreign() -> Foreign {
        Foreign {
            name: "alice-container".into(),
            uuid: "u-1".into(),
            running: true,
            cpu: None,
            memory: Some(Bytes(1 << 30)),
            disk: None,
            disk_used: None,
            address: Some([10, 100, 1, 77].into()),
            image: Some("a".repeat(64).parse().unwrap()),
            autostart: false,
            obstacles: Vec::new(),
        }
    }

    fn node() -> Candidate {
        Candidate {
            name: "jump-1".parse().unwrap(),
            availability: Availability::Online,
            policy: Policy::Active,
            problem: None,
            capacity: Some(containarium_proto::spec::Capacity {
                cpus: 8,
                memory: Bytes(32 << 30),
                disk: Bytes(500_000_000_000),
                ..Default::default()
            }),
            network: Some(("10.100.1.0/24".parse().unwrap(), [10, 100, 1, 1].into())),
            images: Vec::new(),
            reserved: Resources::default(),
            addresses: [[10, 100, 1, 2].into()].into(),
            settings: Default::default(),
            labels: Default::default(),
        }
    }

    fn decided(foreign: &Foreign, owner: Option<&str>, node: &Candidate) -> Result<Adoption, Vec<String>> {
        let owner = owner.map(|owner| owner.parse().unwrap());
        decide(foreign, owner.as_ref(), node, (&Defaults::default(), &Overcommit::default()))
    }

    #[test]
    fn it_keeps_its_limits_address_and_power_and_gets_defaults_for_the_rest() {
        let adoption = decided(&foreign(), Some("alice"), &node()).unwrap();
        let defaults = Defaults::default();
        assert_eq!((adoption.spec.memory, &adoption.spec.cpu), (Bytes(1 << 30), &defaults.cpu));
        assert_eq!((adoption.spec.disk, adoption.spec.autostart), (defaults.disk, false));
        assert_eq!((adoption.address, adoption.desired), ([10, 100, 1, 77].into(), Desired::Running));
        assert!(!adoption.steps.iter().any(|step| step.contains("rename") || step.contains("warning")));
        let full = Foreign { disk_used: Some(Bytes(40_000_000_000)), ..foreign() };
        assert_eq!(decided(&full, Some("alice"), &node()).unwrap().spec.disk, Bytes(50_000_000_000));
    }

    #[test]
    fn what_is_stopped_is_renamed_and_gets_an_address() {
        let stopped = Foreign { name: "old".into(), running: false, address: None, ..foreign() };
        let adoption = decided(&stopped, Some("alice"), &node()).unwrap();
        assert_eq!((adoption.address, adoption.desired), ([10, 100, 1, 3].into(), Desired::Stopped));
        assert!(adoption.steps[0].contains("rename it to alice-container"), "{:?}", adoption.steps);
        assert!(decided(&stopped, None, &node()).unwrap().steps[0].contains("<user>-container"));
        for taken in [[10, 100, 1, 1], [10, 100, 1, 2], [10, 100, 1, 255], [10, 100, 2, 7]] {
            let clash = Foreign { address: Some(taken.into()), ..stopped.clone() };
            assert_eq!(decided(&clash, Some("alice"), &node()).unwrap().address, Ipv4Addr::from([10, 100, 1, 3]));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_every_reason() {
        let bad =
            Foreign { name: "old".into(), address: None, obstacles: vec!["it is privileged".into()], ..foreign() };
        let why = decided(&bad, Some("alice"), &node()).unwrap_err();
        assert_eq!(why.len(), 3, "{why:?}");
        assert!(
            why[0].contains("privileged") && why[1].contains("stop it") && why[2].contains("no address"),
            "{why:?}"
        );
        let full = Candidate {
            capacity: node().capacity.map(|c| containarium_proto::spec::Capacity { memory: Bytes(1 << 20), ..c }),
            ..node()
        };
        let steps = decided(&foreign(), Some("alice"), &full).unwrap().steps;
        assert!(steps.last().unwrap().contains("warning: jump-1 has no room"), "{steps:?}");
    }
}
