//! Scenarios on the simulated fleet: everything is real but the machines below the agents.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use containarium_agent::host::sim::{Fault, SimHost};
use containarium_proto::{
    error::Reason,
    sizes::Bytes,
    spec::Capacity,
    v1::{Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

fn slow_fleet(count: u8, latency: Duration) -> Fleet {
    let host = |i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap()).with_latency(latency);
    Fleet::of((1..=count).map(host).collect())
}

#[test]
fn twelve_at_once_spread_evenly() {
    let fleet = Fleet::of_nodes(3);
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
    let fleet = Fleet::of(vec![SimHost::new("10.100.1.0/24".parse().unwrap()).with_capacity(capacity)]);
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

/// The whole way of a create and a delete, the agent killed around each effect in turn.
#[test]
fn an_agent_killed_at_any_effect_loses_and_doubles_nothing() {
    let mut cases = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull] {
        for k in 1.. {
            let mut fleet = Fleet::of_nodes(1);
            let host = fleet.nodes[0].host.clone();
            host.plan_fault(fault(k));
            let create = fleet.create_in_background(Fleet::request("alice"));
            let reached =
                restart_when_crashed(&mut fleet, &host, &|fleet| fleet.phase("alice") == Some(Phase::Running));
            fleet.join(create).unwrap();
            settle(&fleet);
            assert_eq!(host.creates(), 1, "{:?}", fault(k));
            fleet.delete("alice").unwrap();
            settle(&fleet);
            if !reached {
                break;
            }
            cases += 1;
        }
    }
    println!("{cases} cases");
    // Clone, start, login, its stamp, the proxy account; each with three faults.
    assert_eq!(cases, 3 * 5);
}

/// Restarts the agent if its host crashed; true if the planned fault happened before `done`.
fn restart_when_crashed(fleet: &mut Fleet, host: &SimHost, done: &dyn Fn(&Fleet) -> bool) -> bool {
    let mut restarted = false;
    eventually("the create goes on", || {
        if host.is_down() {
            fleet.kill_agent(0);
            restarted |= host.revive();
            fleet.start_agent(0);
        }
        done(fleet)
    });
    restarted | host.revive()
}

#[test]
fn a_coordinator_killed_anywhere_in_a_create_gives_the_same_container() {
    for delay in [0u64, 2, 5, 10, 20, 40, 80, 120] {
        let mut fleet = slow_fleet(2, Duration::from_millis(20));
        let request = Fleet::request("alice");
        let create = fleet.create_in_background(request.clone());
        // A spread of moments, not a wait for something: whatever the moment, the outcome is the same.
        std::thread::sleep(Duration::from_millis(delay));
        fleet.kill_coordinator();
        let first = fleet.join(create);
        fleet.start_coordinator();
        let again = fleet.create(request).unwrap().container.unwrap();
        if let Ok(first) = first {
            assert_eq!(first.container.unwrap().id, again.id);
        }
        settle(&fleet);
        assert_eq!(fleet.nodes.iter().map(|node| node.host.creates()).sum::<u32>(), 1, "after {delay} ms");
    }
}

#[test]
fn a_node_that_goes_away_keeps_its_users_and_obeys_when_it_returns() {
    let mut fleet = Fleet::of_nodes(2);
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
    let fleet = Fleet::of_nodes(1);
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
fn names_that_belong_to_a_node_or_a_user_are_refused() {
    let fleet = Fleet::of_nodes(2);
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
    let fleet = Fleet::of_nodes(1);
    fleet.nodes[0].host.add_foreign_instance("alice-container");
    let failed = refusal(&fleet.create(Fleet::request("alice")).unwrap_err());
    assert_eq!(failed.reason, Reason::ContainerFailed);
    fleet.delete("alice").unwrap();
    assert!(fleet.nodes[0].host.instances_now()["alice-container"].seen.stamp.is_none());
    settle(&fleet);
}
