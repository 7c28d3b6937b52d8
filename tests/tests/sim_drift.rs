//! Changes behind our back on the simulated fleet: seen, told, and undone only when somebody asks for it.

#![allow(clippy::unwrap_used)]

use containarium_agent::host::{Instance, Power, sim::SimHost};
use containarium_proto::{
    error::Reason,
    v1::{self, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

const NAME: &str = "alice-container";

fn alice() -> (Fleet, SimHost) {
    let fleet = Fleet::of_nodes(1);
    fleet.create(Fleet::request("alice")).unwrap();
    let host = fleet.nodes[0].host.clone();
    (fleet, host)
}

fn set(key: &'static str, value: &'static str) -> impl Fn(&mut Instance) {
    move |instance| drop(instance.shape.config.insert(key.to_owned(), value.to_owned()))
}

fn set_device(name: &'static str, key: &'static str, value: &'static str) -> impl Fn(&mut Instance) {
    move |instance| {
        let device = instance.shape.devices.entry(name.to_owned()).or_default();
        device.insert(key.to_owned(), value.to_owned());
    }
}

fn drift(fleet: &Fleet) -> Vec<String> {
    fleet.list()[0].drift.clone()
}

fn until_drifted(fleet: &Fleet, word: &str) {
    eventually(&format!("the drift of {word} is seen"), || {
        fleet.phase("alice") == Some(Phase::Drifted) && drift(fleet).iter().any(|line| line.contains(word))
    });
}

fn count(fleet: &Fleet, kind: &str) -> usize {
    fleet.events(NAME).iter().filter(|event| event.kind == kind).count()
}

type Change = Box<dyn Fn(&mut Instance)>;

#[test]
fn every_change_is_told_survives_a_restart_and_goes_with_a_repair() {
    let (mut fleet, host) = alice();
    let ordered = host.shape(NAME).unwrap();
    let changes: Vec<(&str, Change)> = vec![
        ("limits.memory is 1073741824, ordered 2147483648", Box::new(set("limits.memory", "1073741824"))),
        ("limits.cpu is 8, ordered 2", Box::new(set("limits.cpu", "8"))),
        ("limits.cpu.allowance is 50%", Box::new(set("limits.cpu.allowance", "50%"))),
        ("security.nesting is false", Box::new(set("security.nesting", "false"))),
        ("security.privileged is true", Box::new(set("security.privileged", "true"))),
        ("boot.autostart is false", Box::new(set("boot.autostart", "false"))),
        ("raw.lxc is lxc.cap.drop", Box::new(set("raw.lxc", "lxc.cap.drop ="))),
        ("root.size is 1", Box::new(set_device("root", "size", "1"))),
        ("root.pool is other", Box::new(set_device("root", "pool", "other"))),
        ("eth0.ipv4.address is 10.100.1.99", Box::new(set_device("eth0", "ipv4.address", "10.100.1.99"))),
        ("eth0.network is other", Box::new(set_device("eth0", "network", "other"))),
        ("device gpu0 (gpu) was added", Box::new(set_device("gpu0", "type", "gpu"))),
        ("profile default was added", Box::new(|instance| instance.shape.profiles.push("default".to_owned()))),
    ];
    for (round, (word, change)) in changes.into_iter().enumerate() {
        host.tamper(NAME, change);
        let changed = host.shape(NAME).unwrap();
        until_drifted(&fleet, word);
        fleet.kill_agent(0);
        fleet.start_agent(0);
        fleet.until_node("jump-1", v1::Availability::Online);
        until_drifted(&fleet, word);
        assert_eq!(host.shape(NAME).unwrap(), changed, "nothing is repaired by itself");
        let repaired = fleet.repair("alice").unwrap().container.unwrap();
        assert_eq!((repaired.phase(), repaired.drift.len()), (Phase::Running, 0), "{word}");
        assert_eq!(host.shape(NAME).unwrap(), ordered, "{word}");
        assert_eq!((count(&fleet, "container.drifted"), count(&fleet, "container.repaired")), (round + 1, round + 1));
    }
    assert_eq!(host.instances_now()[NAME].boots, 1, "all of it while it runs");
    settle(&fleet);
}

#[test]
fn what_incus_and_people_note_is_no_drift_and_stays() {
    let (fleet, host) = alice();
    for key in ["volatile.eth0.hwaddr", "image.os", "user.note"] {
        host.tamper(NAME, set(key, "x"));
    }
    host.tamper(NAME, set("limits.memory", "1073741824"));
    until_drifted(&fleet, "limits.memory");
    assert_eq!(drift(&fleet).len(), 1);
    fleet.repair("alice").unwrap();
    for key in ["volatile.eth0.hwaddr", "image.os", "user.note"] {
        assert_eq!(host.shape(NAME).unwrap().config[key], "x");
    }
    settle(&fleet);
}

#[test]
fn an_ordinary_change_leaves_what_was_added() {
    let (fleet, host) = alice();
    host.tamper(NAME, set_device("gpu0", "type", "gpu"));
    until_drifted(&fleet, "gpu0");
    fleet.resize(v1::ResizeContainerRequest { memory_bytes: Some(4 << 30), ..Fleet::resize_request("alice") }).unwrap();
    assert_eq!(fleet.phase("alice"), Some(Phase::Drifted));
    assert!(host.shape(NAME).unwrap().devices.contains_key("gpu0"));
    assert_eq!((count(&fleet, "container.drifted"), count(&fleet, "container.repaired")), (1, 0), "still the same");
    fleet.repair("alice").unwrap();
    settle(&fleet);
}

#[test]
fn a_machine_switched_off_behind_our_back_is_told_and_started_by_repair_or_start() {
    let (fleet, host) = alice();
    let boots = || host.instances_now()[NAME].boots;
    let off = |instance: &mut Instance| instance.power = Power::Stopped;
    host.tamper(NAME, off);
    until_drifted(&fleet, "stopped behind our back");
    assert_eq!(boots(), 1, "it is not started by itself");
    assert_eq!(fleet.repair("alice").unwrap().container.unwrap().phase(), Phase::Running);
    assert_eq!(boots(), 2);
    host.tamper(NAME, off);
    until_drifted(&fleet, "stopped behind our back");
    assert_eq!(fleet.power("alice", PowerAction::Start).unwrap().container.unwrap().phase(), Phase::Running);
    assert_eq!(boots(), 3);
    settle(&fleet);
    fleet.power("alice", PowerAction::Stop).unwrap();
    host.tamper(NAME, |instance| instance.power = Power::Running);
    until_drifted(&fleet, "started behind our back");
    assert_eq!(fleet.repair("alice").unwrap().container.unwrap().phase(), Phase::Stopped);
    settle(&fleet);
}

#[test]
fn an_agent_that_starts_anew_starts_what_should_run() {
    let (mut fleet, host) = alice();
    host.tamper(NAME, |instance| instance.power = Power::Stopped);
    until_drifted(&fleet, "stopped behind our back");
    fleet.kill_agent(0);
    fleet.start_agent(0);
    eventually("recovery, not drift", || fleet.phase("alice") == Some(Phase::Running));
    assert_eq!((host.instances_now()[NAME].boots, count(&fleet, "container.repaired")), (2, 1));
    settle(&fleet);
}

#[test]
fn a_machine_destroyed_behind_our_back_is_lost_and_never_made_anew() {
    let (fleet, host) = alice();
    host.lose(NAME);
    eventually("it is lost", || fleet.phase("alice") == Some(Phase::Lost));
    assert_eq!(refusal(&fleet.repair("alice").unwrap_err()).reason, Reason::ContainerFailed);
    assert_eq!(host.creates(), 1);
    fleet.delete("alice").unwrap();
    settle(&fleet);
}

#[test]
fn a_repair_that_cannot_be_is_refused_and_one_of_nothing_changes_nothing() {
    let (mut fleet, host) = alice();
    assert_eq!(refusal(&fleet.repair("bob").unwrap_err()).reason, Reason::NotFound);
    assert_eq!(refusal(&fleet.repair("no such").unwrap_err()).reason, Reason::InvalidArgument);
    let before = host.shape(NAME);
    assert_eq!(fleet.repair("alice").unwrap().container.unwrap().phase(), Phase::Running);
    assert_eq!(host.shape(NAME), before);
    fleet.kill_agent(0);
    fleet.until_node("jump-1", v1::Availability::Offline);
    assert_eq!(refusal(&fleet.repair("alice").unwrap_err()).reason, Reason::NodeUnavailable);
    fleet.start_agent(0);
    settle(&fleet);
}
