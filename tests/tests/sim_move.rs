//! Moves on the simulated fleet: whatever is killed, whenever, there is one home, and it has the user's data.

#![allow(clippy::unwrap_used)]

use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    error::Reason,
    v1::{self, Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

const NAME: &str = "alice-container";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

/// Alice on jump-1 with data, and an empty jump-2.
fn alice_at_home() -> Fleet {
    let fleet = Fleet::watched_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    assert!(fleet.nodes[0].host.write(NAME, "precious"));
    fleet
}

fn data(host: &SimHost) -> Option<String> {
    host.instances_now().get(NAME).map(|instance| instance.data.clone())
}

/// One whole copy, where it is listed, without traces of the move.
fn settled_with_data(fleet: &Fleet) {
    settle(fleet);
    let home = fleet.list()[0].node.clone();
    for node in &fleet.nodes {
        let wanted = (node.name == home).then(|| "precious".to_owned());
        assert_eq!(data(&node.host), wanted, "on {}", node.name);
        if let Some(instance) = node.host.instances_now().get(NAME) {
            assert!(instance.offered.is_empty(), "snapshots of the move are left on {}", node.name);
            assert_eq!(instance.seen.stamp.as_ref().unwrap().copied, None);
        }
    }
}

#[test]
fn a_move_takes_the_data_along_and_leaves_nothing_behind() {
    let fleet = alice_at_home();
    let moved = fleet.move_to("alice", "jump-2").unwrap();
    assert!(moved.message.contains("from jump-1 to jump-2"), "{}", moved.message);
    let container = moved.container.unwrap();
    assert_eq!((container.node.as_str(), container.phase()), ("jump-2", Phase::Running));
    assert!(container.address.starts_with("10.100.2."));
    settled_with_data(&fleet);
    assert_eq!(fleet.nodes[1].host.creates(), 0, "copied, not made anew");
    // Again is no change; elsewhere is the best node, which is the other one.
    assert_eq!(fleet.move_to("alice", "jump-2").unwrap().container.unwrap().generation, container.generation);
    let back = fleet.join(fleet.move_in_background(Fleet::move_request("alice"))).unwrap();
    assert_eq!(back.container.unwrap().node, "jump-1");
    settled_with_data(&fleet);
}

#[test]
fn a_stopped_machine_moves_and_stays_stopped() {
    let fleet = alice_at_home();
    fleet.power("alice", PowerAction::Stop).unwrap();
    let moved = fleet.move_to("alice", "jump-2").unwrap().container.unwrap();
    assert_eq!((moved.node.as_str(), moved.phase()), ("jump-2", Phase::Stopped));
    settled_with_data(&fleet);
    fleet.power("alice", PowerAction::Start).unwrap();
    settled_with_data(&fleet);
}

#[test]
fn a_move_that_cannot_be_is_refused_and_changes_nothing() {
    let mut fleet = alice_at_home();
    let generation = fleet.list()[0].generation;
    let reason = |outcome: Result<v1::Progress, tonic::Status>| refusal(&outcome.unwrap_err()).reason;
    assert_eq!(reason(fleet.move_to("bob", "jump-2")), Reason::NotFound);
    assert_eq!(reason(fleet.move_to("alice", "jump-9")), Reason::NotFound);
    assert_eq!(reason(fleet.move_to("alice", "no such name")), Reason::InvalidArgument);
    let cancel = v1::MoveContainerRequest { cancel: true, ..Fleet::move_request("alice") };
    assert_eq!(reason(fleet.join(fleet.move_in_background(cancel))), Reason::Refused);
    let dry = v1::MoveContainerRequest { dry_run: true, ..Fleet::move_request("alice") };
    let verdicts = fleet.join(fleet.move_in_background(dry)).unwrap().verdicts;
    assert_eq!(verdicts.iter().map(|v| (v.node.as_str(), v.fits)).collect::<Vec<_>>(), [("jump-2", true)]);
    fleet.kill_agent(1);
    fleet.until_node("jump-2", Availability::Offline);
    assert_eq!(reason(fleet.move_to("alice", "jump-2")), Reason::NoCapacity);
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    fleet.start_agent(1);
    fleet.until_node("jump-2", Availability::Online);
    assert_eq!(reason(fleet.move_to("alice", "jump-2")), Reason::NodeUnavailable);
    fleet.start_agent(0);
    fleet.until_node("jump-1", Availability::Online);
    assert_eq!(fleet.list()[0].generation, generation);
    settled_with_data(&fleet);
}

#[test]
fn while_it_moves_only_keys_and_deletion_go_through_and_it_can_be_cancelled() {
    let mut fleet = alice_at_home();
    // The target answers, but its Incus never comes to an end.
    let host = fleet.nodes[1].host.clone();
    fleet.kill_agent(1);
    fleet.nodes[1].host = host.clone().with_latency(std::time::Duration::from_secs(3600));
    fleet.start_agent(1);
    fleet.until_node("jump-2", Availability::Online);
    let mut moving = fleet.move_in_background(Fleet::move_request("alice"));
    eventually("alice is being moved", || {
        // Refused while a slow machine makes a node seem away for a moment.
        if moving.is_finished() {
            moving = fleet.move_in_background(Fleet::move_request("alice"));
        }
        fleet.list()[0].moving_to == "jump-2"
    });
    assert_eq!(fleet.phase("alice"), Some(Phase::Running));
    let busy = refusal(&fleet.power("alice", PowerAction::Stop).unwrap_err());
    assert_eq!(busy.reason, Reason::Busy);
    assert!(busy.message.contains("jump-2") && busy.message.contains("since"), "{busy}");
    let resize = v1::ResizeContainerRequest { memory_bytes: Some(4 << 30), ..Fleet::resize_request("alice") };
    assert_eq!(refusal(&fleet.resize(resize).unwrap_err()).reason, Reason::Busy);
    let add = v1::ChangeKeysRequest { add: vec![OTHER_KEY.into()], ..Fleet::keys_request("alice") };
    // jump-2 makes no account while its host hangs: the keys are in place wherever something answers.
    let keys = fleet.keys_in_background(add);
    eventually("the key is there", || fleet.list()[0].ssh_keys.len() == 2);

    let cancel = v1::MoveContainerRequest { cancel: true, ..Fleet::move_request("alice") };
    let cancelled = fleet.move_in_background(cancel);
    fleet.kill_agent(1);
    fleet.nodes[1].host = host;
    fleet.start_agent(1);
    assert!(fleet.join(cancelled).unwrap().message.contains("stays on jump-1"));
    assert_eq!(refusal(&fleet.join(moving).unwrap_err()).reason, Reason::ContainerFailed);
    fleet.join(keys).unwrap();
    settled_with_data(&fleet);
    fleet.move_to("alice", "jump-2").unwrap();
    settled_with_data(&fleet);
}

#[test]
fn a_deletion_takes_every_copy() {
    let mut fleet = alice_at_home();
    let host = fleet.nodes[1].host.clone();
    fleet.kill_agent(1);
    fleet.nodes[1].host = host.clone().with_latency(std::time::Duration::from_millis(300));
    fleet.start_agent(1);
    fleet.until_node("jump-2", Availability::Online);
    let moving = fleet.move_in_background(Fleet::move_request("alice"));
    eventually("a copy is there", || host.instances_now().contains_key(NAME));
    fleet.delete("alice").unwrap();
    assert_eq!(refusal(&fleet.join(moving).unwrap_err()).reason, Reason::Busy);
    settle(&fleet);
    assert!(fleet.nodes.iter().all(|node| node.host.instances_now().is_empty()));
}

#[test]
fn a_drain_empties_a_node_a_few_at_a_time_and_outlives_its_coordinator() {
    let mut fleet = Fleet::watched_nodes(3);
    for i in 1..=9 {
        let node = if i <= 6 { "jump-1" } else { "jump-2" };
        fleet.create(v1::CreateContainerRequest { node: node.into(), ..Fleet::request(&format!("user-{i}")) }).unwrap();
    }
    fleet.power("user-1", PowerAction::Stop).unwrap();
    let drain = fleet.drain_in_background("jump-1", 2);
    let moving = |fleet: &Fleet| fleet.list().iter().filter(|c| !c.moving_to.is_empty()).count();
    eventually("the drain begins", || moving(&fleet) > 0);
    assert!(moving(&fleet) <= 2);
    fleet.kill_coordinator();
    drop(fleet.join(drain));
    fleet.start_coordinator();
    // Without anybody asking for it again.
    eventually("jump-1 is empty", || {
        assert!(moving(&fleet) <= 2);
        fleet.node("jump-1").containers == 0
    });
    let done = fleet.join(fleet.drain_in_background("jump-1", 2)).unwrap();
    assert!(done.message.contains("jump-1 is empty"), "{}", done.message);
    settle(&fleet);
    assert_eq!(fleet.phase("user-1"), Some(Phase::Stopped));
    assert!(fleet.list().iter().all(|container| container.node != "jump-1"));
    assert_eq!(fleet.nodes[0].host.creates(), 6);

    fleet.retire("jump-1", "").unwrap();
    let refused = refusal(
        &fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("zoe") }).unwrap_err(),
    );
    assert!(refused.message.contains("retired"), "{refused}");
}

#[test]
fn a_drain_with_nowhere_to_go_says_so_and_goes_on_when_there_is() {
    let fleet = Fleet::watched_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    fleet.set_policy("jump-2", v1::Policy::Cordoned);
    let drain = fleet.drain_in_background("jump-1", 0);
    eventually("it is said", || {
        fleet.events(NAME).iter().any(|e| e.kind == "node.drain-stuck" && e.message.contains("cordoned"))
    });
    fleet.set_policy("jump-2", v1::Policy::Active);
    fleet.join(drain).unwrap();
    assert_eq!(fleet.list()[0].node, "jump-2");
    settle(&fleet);
}

#[test]
fn a_move_and_a_drain_obey_labels() {
    let fleet = Fleet::watched_nodes(3);
    fleet.label_node("jump-1", &[("gpu", "true")]);
    let gpu = [("gpu".to_owned(), "true".to_owned())].into();
    fleet.create(v1::CreateContainerRequest { labels: gpu, ..Fleet::request("alice") }).unwrap();
    assert_eq!(fleet.list()[0].node, "jump-1");
    // jump-2 stays the emptiest, and never carries the label.
    fleet.create(v1::CreateContainerRequest { node: "jump-3".into(), ..Fleet::request("bob") }).unwrap();
    for request in
        [Fleet::move_request("alice"), v1::MoveContainerRequest { to: "jump-2".into(), ..Fleet::move_request("alice") }]
    {
        let refused = refusal(&fleet.join(fleet.move_in_background(request)).unwrap_err());
        assert_eq!(refused.reason, Reason::NoCapacity);
        assert!(refused.message.contains("jump-2 does not carry label gpu=true"), "{refused}");
    }
    let drain = fleet.drain_in_background("jump-1", 0);
    eventually("it is said", || {
        fleet.events(NAME).iter().any(|e| e.kind == "node.drain-stuck" && e.message.contains("label gpu=true"))
    });
    fleet.label_node("jump-3", &[("gpu", "true")]);
    let dry = v1::MoveContainerRequest { dry_run: true, ..Fleet::move_request("alice") };
    let verdicts = fleet.join(fleet.move_in_background(dry)).unwrap().verdicts;
    let told: Vec<_> = verdicts.iter().map(|v| (v.node.as_str(), v.fits, v.chosen)).collect();
    assert_eq!(told, [("jump-3", true, true), ("jump-2", false, false)]);
    fleet.join(drain).unwrap();
    let node = |user: &str| fleet.list().into_iter().find(|c| c.user == user).unwrap().node;
    assert_eq!((node("alice").as_str(), node("bob").as_str()), ("jump-3", "jump-3"));
    settle(&fleet);
}

#[test]
fn only_a_dead_node_can_be_given_up_and_only_by_its_name() {
    let mut fleet = alice_at_home();
    let refused = |outcome: Result<v1::Node, tonic::Status>| refusal(&outcome.unwrap_err());
    let lives = refused(fleet.retire("jump-1", ""));
    assert_eq!(lives.reason, Reason::Refused);
    assert!(lives.hint.unwrap().contains("--lost jump-1"));
    assert_eq!(refused(fleet.retire("jump-1", "jump-2")).reason, Reason::InvalidArgument);
    assert_eq!(refused(fleet.retire("jump-1", "jump-1")).reason, Reason::Refused, "it answers");
    assert_eq!(refused(fleet.retire("jump-9", "")).reason, Reason::NotFound);
    settled_with_data(&fleet);

    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    fleet.retire("jump-1", "jump-1").unwrap();
    assert_eq!(fleet.phase("alice"), Some(Phase::Lost));
    // After a restart of the coordinator too.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    assert_eq!(fleet.phase("alice"), Some(Phase::Lost));
    fleet.delete("alice").unwrap();
    assert!(fleet.list().is_empty());
    fleet.create(Fleet::request("alice")).unwrap();
    assert_eq!(fleet.list()[0].node, "jump-2");
}

#[test]
fn an_instance_destroyed_behind_our_back_is_reported_lost_and_never_made_anew() {
    let mut fleet = alice_at_home();
    fleet.kill_agent(0);
    fleet.nodes[0].host.lose(NAME);
    fleet.start_agent(0);
    eventually("alice is lost", || fleet.phase("alice") == Some(Phase::Lost));
    assert_eq!(fleet.nodes[0].host.creates(), 1);
    fleet.delete("alice").unwrap();
    settle(&fleet);
}
