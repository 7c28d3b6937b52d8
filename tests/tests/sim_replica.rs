//! Replicas on the simulated fleet: whatever is killed, whenever, a failover brings back the last whole pass, and what
//! the old home has of it never runs again as the container.

#![allow(clippy::unwrap_used)]

use containarium_agent::host::{
    Power,
    sim::{Fault, SimHost},
};
use containarium_proto::{
    error::Reason,
    v1::{self, Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

const NAME: &str = "alice-container";

fn instance_of(host: &SimHost) -> Option<containarium_agent::host::sim::SimInstance> {
    host.instances_now().remove(NAME)
}

/// Alice on jump-1, with a replica on jump-2, and other nodes that are cordoned.
fn replicated(nodes: u8) -> Fleet {
    let fleet = Fleet::watched_nodes(nodes);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    fleet.replicate("alice", 1, "jump-2").unwrap();
    stored(&fleet, 0, "precious");
    fleet
}

/// Alice writes, and waits until a pass that began afterwards is whole.
fn stored(fleet: &Fleet, home: usize, data: &str) {
    assert!(fleet.nodes[home].host.write(NAME, data));
    let written = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    eventually("a pass is whole", || u128::try_from(fleet.replication("alice").as_of_unix_millis).unwrap() > written);
}

/// The home's machine is gone.
fn lose_home(fleet: &mut Fleet) {
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
}

/// It is back: booted, with the disk it had.
fn home_is_back(fleet: &mut Fleet) {
    fleet.nodes[0].host.reboot();
    fleet.start_agent(0);
    fleet.until_node("jump-1", Availability::Online);
}

#[test]
fn passes_follow_each_other_and_leave_the_last_two_marks() {
    let fleet = replicated(2);
    for round in 1..=3 {
        stored(&fleet, 0, &format!("round {round}"));
    }
    let copy = instance_of(&fleet.nodes[1].host).unwrap();
    assert_eq!((copy.seen.power, copy.boots, copy.data.as_str()), (Power::Stopped, 0, "round 3"));
    for node in &fleet.nodes {
        let marks = instance_of(&node.host).unwrap().snapshots;
        let marks: Vec<_> = marks.iter().map(|mark| mark.name.as_str()).collect();
        assert!(marks.len() <= 2 && marks.iter().all(|mark| mark.starts_with("containarium-replica-")), "{marks:?}");
    }
    assert!(fleet.snapshots("alice").unwrap().is_empty(), "nobody is shown the marks");
    let resize = v1::ResizeContainerRequest { memory_bytes: Some(4 << 30), ..Fleet::resize_request("alice") };
    fleet.resize(resize).unwrap();
    eventually("the replica has the same limits", || {
        let stamp = instance_of(&fleet.nodes[1].host).unwrap().seen.stamp.unwrap();
        stamp.order.spec.memory.0 == 4 << 30
    });
    settle(&fleet);

    fleet.replicate("alice", 0, "").unwrap();
    eventually("the replica is gone", || instance_of(&fleet.nodes[1].host).is_none());
    eventually("the marks are gone", || instance_of(&fleet.nodes[0].host).unwrap().snapshots.is_empty());
    eventually("nothing is listed", || fleet.list()[0].replication.is_none());
    settle(&fleet);
    assert_eq!(fleet.replicate("alice", 0, "").unwrap().message, "alice-container is no longer replicated");
}

#[test]
fn a_node_that_had_a_replica_takes_the_machine_itself_and_a_replica_again() {
    let fleet = replicated(2);
    let gone = || instance_of(&fleet.nodes[1].host).is_none() && fleet.list()[0].replication.is_none();
    // More than one pass: the node was told that it must have the replica.
    stored(&fleet, 0, "still precious");
    fleet.replicate("alice", 0, "").unwrap();
    eventually("nothing is left of it", gone);
    fleet.replicate("alice", 1, "jump-2").unwrap();
    stored(&fleet, 0, "more precious");
    fleet.replicate("alice", 0, "").unwrap();
    eventually("nothing is left of it again", gone);
    let moved = fleet.move_to("alice", "jump-2").unwrap().container.unwrap();
    assert_eq!((moved.node.as_str(), moved.phase()), ("jump-2", Phase::Running));
    assert_eq!(instance_of(&fleet.nodes[1].host).unwrap().data, "more precious");
    settle(&fleet);
}

#[test]
fn a_failover_brings_back_the_last_whole_pass_and_the_old_home_never_starts_its_copy() {
    let mut fleet = replicated(3);
    fleet.set_policy("jump-3", v1::Policy::Cordoned);
    let boots = instance_of(&fleet.nodes[0].host).unwrap().boots;
    lose_home(&mut fleet);
    let listed = fleet.list().remove(0);
    assert_eq!(listed.phase(), Phase::Unreachable);
    assert!(listed.detail.contains("'containarium failover alice'"), "{}", listed.detail);
    let request = Fleet::failover_request("alice");
    let moved = fleet.join(fleet.failover_in_background(request.clone())).unwrap().container.unwrap();
    assert_eq!((moved.node.as_str(), moved.phase()), ("jump-2", Phase::Running));
    assert_eq!(fleet.replication("alice").old_copies, ["jump-1"]);
    let home = instance_of(&fleet.nodes[1].host).unwrap();
    assert_eq!((home.data.as_str(), home.boots), ("precious", 1));
    // Its answer was lost, and it is asked again.
    let again = fleet.join(fleet.failover_in_background(request)).unwrap().container.unwrap();
    assert_eq!(again.generation, moved.generation);
    assert!(fleet.nodes[1].host.write(NAME, "written on jump-2"));

    home_is_back(&mut fleet);
    settle(&fleet);
    let old = instance_of(&fleet.nodes[0].host).unwrap();
    assert_eq!(
        (old.seen.power, old.boots, old.data.as_str()),
        (Power::Stopped, boots, "precious"),
        "kept, not started"
    );
    assert_eq!(refusal(&fleet.replicate("alice", 1, "jump-1").unwrap_err()).reason, Reason::Refused);
    fleet.discard_old_copy("alice").unwrap();
    settle(&fleet);
    assert!(instance_of(&fleet.nodes[0].host).is_none());
    assert_eq!(refusal(&fleet.discard_old_copy("alice").unwrap_err()).reason, Reason::NotFound);

    // The wish stays: another node has the next replica.
    eventually("there is a replica again", || fleet.replication("alice").as_of_unix_millis > 0);
    stored(&fleet, 1, "and copied again");
    settle(&fleet);
    fleet.delete("alice").unwrap();
    settle(&fleet);
    assert!(fleet.nodes.iter().all(|node| node.host.instances_now().is_empty()));
}

#[test]
fn a_home_that_was_only_cut_off_is_stopped_when_it_hears_of_the_failover() {
    let mut fleet = replicated(2);
    lose_home(&mut fleet);
    fleet.failover("alice").unwrap();
    assert_eq!(instance_of(&fleet.nodes[0].host).unwrap().seen.power, Power::Running, "nobody could tell it");
    fleet.start_agent(0);
    eventually("it is stopped", || instance_of(&fleet.nodes[0].host).unwrap().seen.power == Power::Stopped);
    settle(&fleet);
}

#[test]
fn what_is_fenced_starts_with_its_node_only_when_a_coordinator_says_so() {
    let mut fleet = replicated(2);
    let power = |fleet: &Fleet| instance_of(&fleet.nodes[0].host).unwrap().seen.power;
    // An agent that starts anew leaves it alone.
    fleet.kill_agent(0);
    fleet.start_agent(0);
    fleet.until_node("jump-1", Availability::Online);
    assert_eq!((power(&fleet), instance_of(&fleet.nodes[0].host).unwrap().boots), (Power::Running, 1));

    fleet.kill_coordinator();
    fleet.kill_agent(0);
    fleet.nodes[0].host.reboot();
    assert_eq!(power(&fleet), Power::Stopped);
    fleet.start_agent(0);
    std::thread::scope(|_| std::thread::sleep(std::time::Duration::from_millis(300)));
    assert_eq!(power(&fleet), Power::Stopped, "nobody has said that it lives here");
    fleet.start_coordinator();
    eventually("it is started", || power(&fleet) == Power::Running);
    settle(&fleet);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut fleet = Fleet::watched_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    let before = fleet.list();
    let reason = |outcome: Result<v1::Progress, tonic::Status>| refusal(&outcome.unwrap_err()).reason;
    assert_eq!(reason(fleet.replicate("bob", 60, "")), Reason::NotFound);
    assert_eq!(reason(fleet.replicate("alice", 60, "jump-9")), Reason::NotFound);
    assert_eq!(reason(fleet.replicate("alice", 60, "jump-1")), Reason::InvalidArgument);
    assert_eq!(reason(fleet.replicate("alice", 0, "jump-2")), Reason::InvalidArgument);
    assert_eq!(reason(fleet.replicate("alice", 8 * 86400, "")), Reason::InvalidArgument);
    assert_eq!(reason(fleet.failover("bob")), Reason::NotFound);
    let alive = refusal(&fleet.failover("alice").unwrap_err());
    assert_eq!(alive.reason, Reason::Refused);
    assert!(alive.hint.unwrap().contains("containarium move alice"));
    assert_eq!(fleet.list(), before);

    // The first copy never comes to its end.
    fleet.kill_agent(1);
    fleet.nodes[1].host = fleet.nodes[1].host.clone().with_latency(std::time::Duration::from_secs(3600));
    fleet.start_agent(1);
    fleet.until_node("jump-2", Availability::Online);
    fleet.replicate("alice", 1, "").unwrap();
    eventually("it has begun", || fleet.replication("alice").node == "jump-2");
    assert_eq!(reason(fleet.move_to("alice", "jump-2")), Reason::NoCapacity);
    lose_home(&mut fleet);
    let torn = refusal(&fleet.failover("alice").unwrap_err());
    assert!(torn.reason == Reason::Refused && torn.message.contains("was not whole"), "{torn}");
    assert_eq!((fleet.list()[0].node.as_str(), fleet.phase("alice")), ("jump-1", Some(Phase::Unreachable)));
}

#[test]
fn a_replica_leaves_a_node_that_is_drained_and_is_made_anew_where_it_was_lost() {
    let fleet = Fleet::watched_nodes(3);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    fleet.set_policy("jump-3", v1::Policy::Cordoned);
    fleet.replicate("alice", 1, "").unwrap();
    stored(&fleet, 0, "precious");
    assert_eq!(fleet.replication("alice").node, "jump-2");
    fleet.set_policy("jump-3", v1::Policy::Active);
    fleet.join(fleet.drain_in_background("jump-2", 0)).unwrap();
    eventually("jump-3 has it", || {
        let now = fleet.replication("alice");
        now.node == "jump-3" && now.as_of_unix_millis > 0
    });
    settle(&fleet);
    fleet.set_policy("jump-2", v1::Policy::Active);
    fleet.nodes[2].host.lose(NAME);
    stored(&fleet, 0, "copied anew");
    settle(&fleet);
    // A machine that moves takes its marks along, and goes on.
    let spare = if fleet.replication("alice").node == "jump-3" { ("jump-2", 1) } else { ("jump-3", 2) };
    fleet.move_to("alice", spare.0).unwrap();
    stored(&fleet, spare.1, "from its new home");
    settle(&fleet);
}

#[test]
fn a_stopped_machine_fails_over_and_stays_stopped() {
    let mut fleet = replicated(2);
    fleet.power("alice", PowerAction::Stop).unwrap();
    lose_home(&mut fleet);
    let moved = fleet.failover("alice").unwrap().container.unwrap();
    assert_eq!((moved.node.as_str(), moved.phase()), ("jump-2", Phase::Stopped));
    assert_eq!(fleet.power("alice", PowerAction::Start).unwrap().container.unwrap().phase(), Phase::Running);
    assert_eq!(instance_of(&fleet.nodes[1].host).unwrap().data, "precious");
}

#[test]
fn a_home_that_is_lost_for_good_fails_over_too() {
    let mut fleet = replicated(2);
    lose_home(&mut fleet);
    fleet.retire("jump-1", "jump-1").unwrap();
    let moved = fleet.failover("alice").unwrap().container.unwrap();
    assert_eq!((moved.node.as_str(), moved.phase()), ("jump-2", Phase::Running));
    assert!(fleet.replication("alice").old_copies.is_empty(), "nobody is left to have one");
    assert_eq!(instance_of(&fleet.nodes[1].host).unwrap().data, "precious");
}

/// The agent of the replica dies around its k-th effect of a failover, for every k; so does the coordinator beside it.
#[test]
fn a_failover_survives_a_kill_at_every_step() {
    let mut cases = 0;
    for before in [true, false] {
        for k in 1.. {
            let mut fleet = replicated(2);
            lose_home(&mut fleet);
            // It rests: no pass can be offered by a home that is away.
            let host = fleet.nodes[1].host.clone();
            host.plan_fault(if before { Fault::CrashBefore(k) } else { Fault::CrashAfter(k) });
            let failover = fleet.failover_in_background(Fleet::failover_request("alice"));
            let done = |fleet: &Fleet| fleet.list()[0].node == "jump-2" && fleet.phase("alice") == Some(Phase::Running);
            eventually("it is done, or cut off", || host.is_down() || done(&fleet));
            let reached = host.is_down();
            if reached {
                fleet.kill_agent(1);
                if k % 2 == 0 {
                    fleet.kill_coordinator();
                    fleet.start_coordinator();
                }
                assert!(host.revive());
                fleet.start_agent(1);
            }
            eventually("alice is back", || done(&fleet));
            drop(fleet.join(failover));
            let home = instance_of(&host).unwrap();
            assert_eq!(home.data, "precious", "k={k} before={before}");
            home_is_back(&mut fleet);
            settle(&fleet);
            assert_eq!(instance_of(&fleet.nodes[0].host).unwrap().seen.power, Power::Stopped);
            if !reached {
                break;
            }
            cases += 1;
        }
    }
    println!("{cases} cases");
    assert!(cases >= 10, "{cases}");
}

/// A pass that was cut off has changed what is there of the replica; what counts is the last whole one.
#[test]
fn a_pass_that_was_cut_off_is_not_what_comes_back() {
    for k in 1..=6 {
        let mut fleet = replicated(2);
        let host = fleet.nodes[1].host.clone();
        let before = fleet.replication("alice").as_of_unix_millis;
        host.plan_fault(Fault::CrashAfter(k));
        assert!(fleet.nodes[0].host.write(NAME, "half copied"));
        eventually("a pass is cut off", || host.is_down());
        lose_home(&mut fleet);
        fleet.kill_agent(1);
        assert!(host.revive());
        fleet.start_agent(1);
        fleet.until_node("jump-2", Availability::Online);
        // What it had finished before it was killed it may still say.
        let whole = fleet.replication("alice").as_of_unix_millis;
        fleet.failover("alice").unwrap();
        let data = instance_of(&host).unwrap().data;
        // The first effect of a pass changes the disk, the second one says that it is whole, the third is its stamp.
        let is_torn = k % 3 == 1;
        let expected = whole > before || !is_torn;
        assert!(data == "precious" || (expected && data == "half copied"), "k={k}: {data}");
        settle_without_home(&fleet);
    }
}

fn settle_without_home(fleet: &Fleet) {
    eventually("alice runs on jump-2", || {
        fleet.list()[0].node == "jump-2" && fleet.phase("alice") == Some(Phase::Running)
    });
}
