//! A spot machine whose cloud takes it away: the notice, what is done with the half minute, and the way back.

#![allow(clippy::unwrap_used)]

use containarium_agent::host::Power;
use containarium_proto::v1::{self, Availability, Phase, PowerAction};
use containarium_tests::{
    fleet::{Fleet, eventually},
    invariants,
    metadata::MetadataServer,
};

fn spot_fleet(nodes: u8) -> (Fleet, MetadataServer) {
    let cloud = MetadataServer::start();
    let mut fleet = Fleet::of_nodes(nodes);
    fleet.nodes[0].metadata_server = Some(cloud.url());
    restart(&mut fleet, Availability::Online);
    (fleet, cloud)
}

fn restart(fleet: &mut Fleet, then: Availability) {
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Suspect);
    fleet.start_agent(0);
    fleet.until_node("jump-1", then);
}

fn on_first(user: &str) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request(user) }
}

fn container(fleet: &Fleet, user: &str) -> v1::Container {
    fleet.list().into_iter().find(|container| container.user == user).unwrap()
}

fn is_off(fleet: &Fleet) -> bool {
    fleet.nodes[0].host.instances_now().values().all(|instance| instance.seen.power == Power::Stopped)
}

#[test]
fn a_notice_stops_the_containers_cleanly_and_nothing_new_begins_until_the_machine_is_back() {
    let (mut fleet, cloud) = spot_fleet(2);
    fleet.create(on_first("alice")).unwrap();
    fleet.create(on_first("bob")).unwrap();
    let boots = fleet.nodes[0].host.instances_now()["alice-container"].boots;

    cloud.set_preempted(true);
    fleet.until_node("jump-1", Availability::Preempting);
    eventually("the containers are stopped", || is_off(&fleet));

    let refused = fleet.create(on_first("carol")).unwrap_err();
    assert!(refused.message().contains("is about to be taken away"), "{}", refused.message());
    let elsewhere = fleet.create(Fleet::request("dave")).unwrap().container.unwrap();
    assert_eq!(elsewhere.node, "jump-2");
    let refused = fleet.power("alice", PowerAction::Restart).unwrap_err();
    assert!(refused.message().contains("about to be taken away"), "{}", refused.message());
    let alice = container(&fleet, "alice");
    assert_eq!(alice.phase(), Phase::Running, "nobody ordered it to stop: {}", alice.detail);
    assert!(alice.detail.contains("about to be taken away"), "{}", alice.detail);
    let told = fleet.events("jump-1").into_iter().filter(|event| event.kind == "node.preempting").count();
    assert_eq!(told, 1, "once, however many reports say it");

    // An agent that is started once more in that half minute begins nothing either.
    restart(&mut fleet, Availability::Preempting);
    assert!(is_off(&fleet));

    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    assert_eq!(container(&fleet, "alice").phase(), Phase::Unreachable);

    cloud.set_preempted(false);
    fleet.start_agent(0);
    fleet.until_node("jump-1", Availability::Online);
    for user in ["alice", "bob"] {
        eventually(&format!("{user} runs"), || fleet.phase(user) == Some(Phase::Running));
    }
    assert_eq!(fleet.nodes[0].host.instances_now()["alice-container"].boots, boots + 1);
    invariants::settle(&fleet);
}

#[test]
fn what_was_ordered_in_the_last_half_minute_is_done_when_the_machine_is_back() {
    let (mut fleet, cloud) = spot_fleet(1);
    fleet.create(Fleet::request("alice")).unwrap();
    cloud.set_preempted(true);
    fleet.until_node("jump-1", Availability::Preempting);
    assert!(fleet.delete("alice").unwrap().pending);
    fleet.kill_agent(0);
    cloud.set_preempted(false);
    fleet.start_agent(0);
    eventually("it is destroyed", || fleet.nodes[0].host.instances_now().is_empty());
    invariants::settle(&fleet);
}

#[test]
fn a_metadata_server_that_does_not_answer_is_a_warning_and_no_reason_to_stop_anything() {
    let mut fleet = Fleet::of_nodes(1);
    // Nobody listens on the discard port here.
    fleet.nodes[0].metadata_server = Some("http://127.0.0.1:9".into());
    restart(&mut fleet, Availability::Online);
    fleet.create(Fleet::request("alice")).unwrap();
    eventually("the operator is told", || {
        fleet.node("jump-1").warnings.iter().any(|warning| warning.contains("a preemption would not be noticed"))
    });
    invariants::settle(&fleet);
}
