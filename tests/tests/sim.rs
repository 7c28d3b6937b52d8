//! Scenarios on the simulated fleet: everything is real but the machines below the agents.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    convert,
    error::Reason,
    node::Usage,
    sizes::Bytes,
    spec::Capacity,
    v1::{self, Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

fn slow_fleet(count: u8, latency: Duration) -> Fleet {
    let host = |i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap()).with_latency(latency);
    Fleet::watched((1..=count).map(host).collect())
}

#[test]
fn twelve_at_once_spread_evenly() {
    let fleet = Fleet::watched_nodes(3);
    let requests = (1..=12).map(|i| Fleet::request(&format!("user-{i}"))).collect();
    for outcome in fleet.create_all(requests) {
        assert_eq!(outcome.unwrap().container.unwrap().phase(), Phase::Running);
    }
    let mut per_node = BTreeMap::<String, u32>::new();
    for container in fleet.list() {
        *per_node.entry(container.node).or_default() += 1;
    }
    assert_eq!(per_node.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    settle(&fleet);
}

#[test]
fn forty_racing_for_ten_places_get_exactly_ten() {
    // One node with room for ten containers of the default 2 GiB: (memory - headroom) x 1.5.
    let capacity = Capacity {
        cpus: 64,
        memory: Bytes((14 << 30) + (1 << 29)),
        memory_used: Bytes(1 << 20),
        disk: Bytes(2_000_000_000_000),
        disk_used: Bytes(1_000_000),
    };
    let fleet = Fleet::watched(vec![SimHost::new("10.100.1.0/24".parse().unwrap()).with_capacity(capacity)]);
    let requests = (1..=40).map(|i| Fleet::request(&format!("user-{i}"))).collect();
    let (made, refused): (Vec<_>, Vec<_>) = fleet.create_all(requests).into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (10, 30));
    for status in refused.into_iter().map(Result::unwrap_err) {
        let refusal = refusal(&status);
        assert_eq!(refusal.reason, Reason::NoCapacity);
        assert!(refusal.message.contains("jump-1"), "{refusal}");
    }
    settle(&fleet);
}

#[test]
fn limits_change_without_a_restart_and_give_back_what_they_took() {
    let fleet = Fleet::watched_nodes(2);
    let home = fleet.create(Fleet::request("alice")).unwrap().container.unwrap();
    let resize = |cpu: Option<&str>, memory: Option<u64>, disk: Option<u64>| {
        let cpu = cpu.map(|cpu| convert::cpu_to_wire(&cpu.parse().unwrap()));
        fleet.resize(v1::ResizeContainerRequest {
            cpu,
            memory_bytes: memory,
            disk_bytes: disk,
            ..Fleet::resize_request("alice")
        })
    };
    let bigger = resize(Some("1.5"), Some(8 << 30), None).unwrap().container.unwrap();
    assert_eq!(bigger.spec.as_ref().unwrap().memory_bytes, 8 << 30);
    assert_eq!(bigger.spec.unwrap().disk_bytes, home.spec.unwrap().disk_bytes, "what is not given stays");
    settle(&fleet);
    // The same again is no change.
    assert_eq!(resize(None, Some(8 << 30), None).unwrap().container.unwrap().generation, bigger.generation);

    let host = fleet.nodes.iter().find(|node| node.name == home.node).unwrap().host.clone();
    host.set_usage(Usage { memory: Bytes(3 << 30), disk: Some(Bytes(5_000_000_000)), ..Usage::default() });
    let below = refusal(&resize(None, Some(2 << 30), None).unwrap_err());
    assert_eq!(below.reason, Reason::Refused);
    assert!(below.message.contains("3GiB") && below.message.contains("2GiB"), "{below}");
    let below = refusal(&resize(None, None, Some(4_000_000_000)).unwrap_err());
    assert!(below.message.contains("5GB") && below.message.contains("4GB"), "{below}");
    let forced =
        v1::ResizeContainerRequest { memory_bytes: Some(2 << 30), force: true, ..Fleet::resize_request("alice") };
    fleet.resize(forced).unwrap();
    let no_room = refusal(&resize(None, Some(1 << 50), None).unwrap_err());
    assert_eq!(no_room.reason, Reason::NoCapacity);
    assert!(no_room.message.contains(&home.node), "{no_room}");
    let no_cpu = refusal(&resize(Some("0,200"), None, None).unwrap_err());
    assert!(no_cpu.message.contains("CPUs"), "{no_cpu}");
    assert_eq!(refusal(&resize(None, None, None).unwrap_err()).reason, Reason::InvalidArgument);
    assert_eq!(host.instances_now()["alice-container"].boots, 1);
    settle(&fleet);
}

#[test]
fn keys_come_and_go_everywhere_but_the_last_one_only_by_force() {
    let fleet = Fleet::watched_nodes(2);
    fleet.create(Fleet::request("alice")).unwrap();
    let add = v1::ChangeKeysRequest { add: vec![OTHER_KEY.into()], ..Fleet::keys_request("alice") };
    let both = fleet.change_keys(add.clone()).unwrap().container.unwrap();
    assert_eq!(both.ssh_keys.len(), 2);
    settle(&fleet);
    // A lost reply: the same request again changes nothing.
    assert_eq!(fleet.change_keys(add).unwrap().container.unwrap().generation, both.generation);

    let remove = |key: &v1::SshKey, force: bool| {
        let remove_fingerprints = vec![key.fingerprint.clone()];
        fleet.change_keys(v1::ChangeKeysRequest { remove_fingerprints, force, ..Fleet::keys_request("alice") })
    };
    let one = remove(&both.ssh_keys[0], false).unwrap().container.unwrap();
    assert_eq!(one.ssh_keys, both.ssh_keys[1..]);
    settle(&fleet);
    assert_eq!(refusal(&remove(&both.ssh_keys[0], false).unwrap_err()).reason, Reason::NotFound);
    assert_eq!(refusal(&remove(&both.ssh_keys[1], false).unwrap_err()).reason, Reason::Refused);
    assert!(remove(&both.ssh_keys[1], true).unwrap().container.unwrap().ssh_keys.is_empty());
    settle(&fleet);

    // A stopped machine has them at its next start.
    fleet.power("alice", PowerAction::Stop).unwrap();
    let add = v1::ChangeKeysRequest { add: vec![OTHER_KEY.into()], replace: true, ..Fleet::keys_request("alice") };
    fleet.change_keys(add).unwrap();
    settle(&fleet);
    fleet.power("alice", PowerAction::Start).unwrap();
    settle(&fleet);
}

#[test]
fn a_node_that_goes_away_keeps_its_users_and_obeys_when_it_returns() {
    let mut fleet = Fleet::watched_nodes(2);
    let home = fleet.create(Fleet::request("alice")).unwrap().container.unwrap();
    fleet.create(Fleet::request("bob")).unwrap();
    let index = fleet.nodes.iter().position(|node| node.name == home.node).unwrap();
    fleet.kill_agent(index);
    fleet.until_node(&home.node, Availability::Offline);
    assert_eq!(fleet.phase("alice"), Some(Phase::Unreachable));
    assert_eq!(refusal(&fleet.power("alice", PowerAction::Stop).unwrap_err()).reason, Reason::NodeUnavailable);
    let carol = fleet.create(Fleet::request("carol")).unwrap().container.unwrap();
    assert_ne!(carol.node, home.node);

    assert!(fleet.delete("alice").unwrap().pending);
    assert_eq!(fleet.phase("alice"), Some(Phase::Deleting));
    let taken = refusal(&fleet.create(Fleet::request("alice")).unwrap_err());
    assert_eq!(taken.reason, Reason::AlreadyExists);
    assert_eq!(fleet.nodes[index].host.instances_now().len(), 1, "nothing is destroyed behind its back");

    fleet.start_agent(index);
    eventually("alice is gone", || fleet.phase("alice").is_none());
    settle(&fleet);
    fleet.create(Fleet::request("alice")).unwrap();
    settle(&fleet);
}

#[test]
fn a_create_whose_node_dies_before_it_ran_goes_elsewhere() {
    let mut fleet = slow_fleet(2, Duration::from_secs(3600));
    let create = fleet.create_in_background(Fleet::request("alice"));
    eventually("alice is placed", || !fleet.list().is_empty());
    let first = fleet.list()[0].node.clone();
    let index = fleet.nodes.iter().position(|node| node.name == first).unwrap();
    // The other server is quick.
    fleet.kill_agent(1 - index);
    fleet.nodes[1 - index].host = fleet.nodes[1 - index].host.clone().with_latency(Duration::ZERO);
    fleet.start_agent(1 - index);
    fleet.kill_agent(index);
    let moved = fleet.join(create).unwrap().container.unwrap();
    assert_ne!(moved.node, first);
    fleet.nodes[index].host = fleet.nodes[index].host.clone().with_latency(Duration::ZERO);
    fleet.start_agent(index);
    settle(&fleet);
}

#[test]
fn power_does_what_it_says_once() {
    let fleet = Fleet::watched_nodes(1);
    fleet.create(Fleet::request("alice")).unwrap();
    let boots = || fleet.nodes[0].host.instances_now()["alice-container"].boots;
    fleet.power("alice", PowerAction::Start).unwrap();
    assert_eq!(boots(), 1);
    fleet.power("alice", PowerAction::Stop).unwrap();
    assert_eq!(fleet.phase("alice"), Some(Phase::Stopped));
    fleet.power("alice", PowerAction::Start).unwrap();
    assert_eq!(fleet.phase("alice"), Some(Phase::Running));
    assert_eq!(boots(), 2);
    fleet.power("alice", PowerAction::Restart).unwrap();
    assert_eq!(boots(), 3);
    settle(&fleet);
}

#[test]
fn a_protected_machine_is_deleted_only_after_it_was_unprotected() {
    let mut fleet = Fleet::watched_nodes(1);
    assert_eq!(refusal(&fleet.protect("alice", true).unwrap_err()).reason, Reason::NotFound);
    fleet.create(Fleet::request("alice")).unwrap();
    assert!(fleet.protect("alice", true).unwrap().protected);
    assert!(fleet.protect("alice", true).unwrap().protected, "saying it twice is saying it once");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let refused = refusal(&fleet.delete("alice").unwrap_err());
    assert_eq!(refused.reason, Reason::Refused);
    assert!(refused.hint.unwrap().contains("unprotect alice"));
    fleet.power("alice", PowerAction::Restart).unwrap();
    settle(&fleet);
    assert!(!fleet.protect("alice", false).unwrap().protected);
    fleet.delete("alice").unwrap();
    settle(&fleet);
}

#[test]
fn names_that_belong_to_a_node_or_a_user_are_refused() {
    let fleet = Fleet::watched_nodes(2);
    fleet.nodes[1].host.add_foreign_user("backupd");
    eventually("the name is refused fleet-wide", || {
        let mut request = Fleet::request("backupd");
        request.dry_run = true;
        fleet.create(request).is_err_and(|status| refusal(&status).message.contains("jump-2"))
    });
    fleet.create(Fleet::request("a_b")).unwrap();
    assert_eq!(refusal(&fleet.create(Fleet::request("a_b")).unwrap_err()).reason, Reason::AlreadyExists);
    assert_eq!(refusal(&fleet.create(Fleet::request("a-b")).unwrap_err()).reason, Reason::AlreadyExists);
    settle(&fleet);
}

#[test]
fn a_strangers_instance_is_left_alone_and_the_create_can_be_deleted() {
    let fleet = Fleet::watched_nodes(1);
    fleet.nodes[0].host.add_foreign_instance("alice-container");
    let failed = refusal(&fleet.create(Fleet::request("alice")).unwrap_err());
    assert_eq!(failed.reason, Reason::ContainerFailed);
    fleet.delete("alice").unwrap();
    assert!(fleet.nodes[0].host.instances_now()["alice-container"].seen.stamp.is_none());
    settle(&fleet);
}

#[test]
fn use_is_known_of_what_runs_on_the_nodes_that_answer() {
    let mut fleet = Fleet::watched_nodes(2);
    for user in ["alice", "bob", "carol"] {
        fleet.create(Fleet::request(user)).unwrap();
    }
    fleet.power("carol", PowerAction::Stop).unwrap();
    let used = Usage { memory: Bytes(3 << 20), disk: Some(Bytes(7)), cpu: Some(Duration::from_secs(5)) };
    fleet.nodes[0].host.set_usage(used);
    let sampled = |fleet: &Fleet| -> BTreeMap<String, Option<Usage>> {
        let sample = |s: v1::UsageSample| convert::usage_sample_from_wire(&s).unwrap().usage;
        fleet.usage().containers.into_iter().map(|c| (c.user, c.sample.map(sample))).collect()
    };
    let of = |list: [Option<Usage>; 3]| ["alice", "bob", "carol"].map(String::from).into_iter().zip(list).collect();
    assert_eq!(sampled(&fleet), of([Some(used), Some(Usage::default()), None]));
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    assert_eq!(sampled(&fleet), of([None, Some(Usage::default()), None]));
    assert_eq!(fleet.usage().notes[0].node, "jump-1");
}

#[test]
fn a_create_whose_machine_is_stopped_meanwhile_ends_and_says_so() {
    let fleet = Fleet::watched_nodes(1);
    fleet.nodes[0].host.set_ssh_answers(false);
    let create = fleet.create_in_background(Fleet::request("alice"));
    eventually("it boots", || fleet.nodes[0].host.instances_now().contains_key("alice-container"));
    fleet.power("alice", PowerAction::Stop).unwrap();
    let refused = refusal(&fleet.join(create).unwrap_err());
    assert_eq!(refused.reason, Reason::Busy);
    assert!(refused.hint.unwrap().contains("containarium start alice"));
    fleet.nodes[0].host.set_ssh_answers(true);
    settle(&fleet);
    assert_eq!(fleet.power("alice", PowerAction::Start).unwrap().container.unwrap().phase(), Phase::Running);
}
