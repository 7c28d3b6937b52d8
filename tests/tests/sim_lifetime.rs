//! Lifetimes on the simulated fleet: what ends or stops by itself does so once, whoever dies meanwhile, and what its
//! user wants to keep stays. Seconds stand for hours.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use containarium_agent::host::Activity;
use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    error::Reason,
    v1::{self, Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

const END: [&str; 5] =
    ["container.expiring", "container.expired", "container.stopped", "container.deleting", "container.deleted"];

fn create(fleet: &Fleet, user: &str, ttl_seconds: Option<u64>, idle_stop_seconds: Option<u64>) -> v1::Container {
    let request = v1::CreateContainerRequest { ttl_seconds, idle_stop_seconds, ..Fleet::request(user) };
    fleet.create(request).unwrap().container.unwrap()
}

fn of(fleet: &Fleet, user: &str) -> v1::Container {
    fleet.list().into_iter().find(|container| container.user == user).unwrap()
}

/// What happened to a user's container, oldest first.
fn kinds(fleet: &Fleet, user: &str) -> Vec<String> {
    fleet.events(&format!("{user}-container")).into_iter().rev().map(|event| event.kind).collect()
}

/// What happened of its age alone.
fn ends(fleet: &Fleet, user: &str) -> Vec<String> {
    let of_age = |kind: &String| END.contains(&kind.as_str()) || kind == "container.kept";
    kinds(fleet, user).into_iter().filter(of_age).collect()
}

fn until_event(fleet: &Fleet, user: &str, kind: &str) {
    eventually(&format!("{user}: {kind}"), || kinds(fleet, user).iter().any(|found| found == kind));
}

fn set_ttl(fleet: &Fleet, user: &str, seconds: u64) -> v1::Container {
    let request = v1::SetLifetimeRequest { ttl_seconds: Some(seconds), ..Fleet::lifetime_request(user) };
    fleet.set_lifetime(request).unwrap().container.unwrap()
}

#[test]
fn a_machine_whose_time_is_over_is_warned_of_stopped_and_after_a_grace_deleted() {
    let fleet = Fleet::of_nodes(2);
    let made = create(&fleet, "alice", Some(2), None);
    assert!(made.expires_at_unix_millis > made.created_at_unix_millis && made.expired_at_unix_millis == 0);
    until_event(&fleet, "alice", "container.expired");
    eventually("it is stopped", || fleet.phase("alice") == Some(Phase::Stopped));
    let alice = of(&fleet, "alice");
    assert!(alice.expired_at_unix_millis >= alice.expires_at_unix_millis);
    assert_eq!(alice.generation, 2, "an order like any other");
    for action in [PowerAction::Start, PowerAction::Restart] {
        let refused = refusal(&fleet.power("alice", action).unwrap_err());
        assert_eq!(refused.reason, Reason::Refused);
        assert!(refused.hint.unwrap().contains("containarium set alice --ttl"));
    }
    eventually("it is gone", || fleet.phase("alice").is_none());
    settle(&fleet);
    assert_eq!(ends(&fleet, "alice"), END);
}

#[test]
fn a_coordinator_killed_at_every_turn_does_each_thing_once() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", Some(4), None);
    for kind in ["container.created", "container.expiring", "container.expired", "container.deleting"] {
        until_event(&fleet, "alice", kind);
        fleet.kill_coordinator();
        fleet.start_coordinator();
    }
    eventually("it is gone", || fleet.phase("alice").is_none());
    settle(&fleet);
    assert_eq!(ends(&fleet, "alice"), END);
}

#[test]
fn a_coordinator_killed_again_and_again_does_each_thing_once() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", Some(4), None);
    for millis in (450..).step_by(37) {
        // A spread of moments, not a wait for something: whatever the moment, the outcome is the same.
        std::thread::sleep(Duration::from_millis(millis));
        fleet.kill_coordinator();
        fleet.start_coordinator();
        if fleet.list().is_empty() {
            break;
        }
    }
    settle(&fleet);
    assert_eq!(ends(&fleet, "alice"), END);
}

#[test]
fn what_is_protected_stays_stopped_and_goes_a_grace_after_it_was_unprotected() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", Some(4), None);
    fleet.protect("alice", true).unwrap();
    create(&fleet, "bob", Some(4), None);
    until_event(&fleet, "alice", "container.kept");
    eventually("bob, who is not protected, is gone", || fleet.phase("bob").is_none());
    fleet.kill_coordinator();
    fleet.start_coordinator();
    // Another life passes: long enough for a second look at alice.
    create(&fleet, "bob", Some(1), None);
    eventually("bob is gone again", || fleet.phase("bob").is_none());
    assert_eq!(fleet.phase("alice"), Some(Phase::Stopped));
    let kept = ["container.expiring", "container.expired", "container.stopped", "container.kept"];
    assert_eq!(ends(&fleet, "alice"), kept);
    settle(&fleet);
    fleet.protect("alice", false).unwrap();
    assert_eq!(fleet.phase("alice"), Some(Phase::Stopped), "not at once");
    eventually("alice is gone", || fleet.phase("alice").is_none());
    settle(&fleet);
}

#[test]
fn what_is_extended_in_time_or_in_its_grace_survives() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "late", Some(5), None);
    create(&fleet, "intime", Some(5), None);
    create(&fleet, "forgood", Some(5), None);
    create(&fleet, "nobody-cares", Some(5), None);
    assert_eq!(set_ttl(&fleet, "intime", 3600).phase(), Phase::Running);
    assert_eq!(set_ttl(&fleet, "forgood", 0).expires_at_unix_millis, 0);
    until_event(&fleet, "late", "container.expired");
    eventually("it is stopped", || fleet.phase("late") == Some(Phase::Stopped));
    let late = set_ttl(&fleet, "late", 3600);
    assert_eq!((late.phase(), late.expired_at_unix_millis), (Phase::Stopped, 0), "its user starts it");
    fleet.power("late", PowerAction::Start).unwrap();
    fleet.kill_coordinator();
    fleet.start_coordinator();
    eventually("what was not extended is gone", || fleet.phase("nobody-cares").is_none());
    for user in ["late", "intime", "forgood"] {
        eventually(user, || fleet.phase(user) == Some(Phase::Running));
    }
    assert!(of(&fleet, "intime").expires_at_unix_millis > 0);
    assert!(!kinds(&fleet, "forgood").iter().any(|kind| kind == "container.expired"));
    settle(&fleet);
}

#[test]
fn a_node_that_is_away_stops_and_deletes_when_it_is_back() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", Some(3), None);
    create(&fleet, "bob", Some(3), None);
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    for user in ["alice", "bob"] {
        until_event(&fleet, user, "container.expired");
    }
    assert_eq!(set_ttl(&fleet, "bob", 3600).generation, 2, "the order to stop stands");
    eventually("the deletion is ordered", || fleet.phase("alice") == Some(Phase::Deleting));
    assert_eq!(fleet.nodes[0].host.instances_now().len(), 2, "nothing is destroyed behind its back");
    fleet.start_agent(0);
    eventually("alice is gone", || fleet.phase("alice").is_none());
    eventually("bob is stopped", || fleet.phase("bob") == Some(Phase::Stopped));
    settle(&fleet);
}

#[test]
fn what_moves_is_neither_stopped_nor_deleted_until_it_has_arrived() {
    let mut fleet = Fleet::of_nodes(2);
    let on_one = |user: &str, ttl_seconds| v1::CreateContainerRequest {
        node: "jump-1".into(),
        ttl_seconds,
        ..Fleet::request(user)
    };
    fleet.create(on_one("alice", Some(4))).unwrap();
    fleet.create(on_one("bob", Some(4))).unwrap();
    // The target answers, but its Incus never comes to an end.
    let host = fleet.nodes[1].host.clone();
    fleet.kill_agent(1);
    fleet.nodes[1].host = host.clone().with_latency(Duration::from_secs(3600));
    fleet.start_agent(1);
    fleet.until_node("jump-2", Availability::Online);
    let moving = fleet.move_in_background(Fleet::move_request("alice"));
    eventually("alice is being moved", || of(&fleet, "alice").moving_to == "jump-2");
    // Bob's times are alice's: what he has lived to see was due for her too.
    for kind in ["container.expired", "container.deleted"] {
        until_event(&fleet, "bob", kind);
        assert!(!kinds(&fleet, "alice").iter().any(|kind| kind == "container.expired"));
        assert_eq!(fleet.phase("alice"), Some(Phase::Running));
    }
    let off = v1::SetLifetimeRequest { autostart: Some(false), ..Fleet::lifetime_request("alice") };
    let busy = refusal(&fleet.set_lifetime(off).unwrap_err());
    assert_eq!(busy.reason, Reason::Busy);
    assert!(busy.message.contains("moving from jump-1 to jump-2"), "{busy}");
    assert!(of(&fleet, "alice").spec.unwrap().autostart, "nothing was changed");

    fleet.kill_agent(1);
    fleet.nodes[1].host = host;
    fleet.start_agent(1);
    fleet.join(moving).unwrap();
    eventually("alice is gone", || fleet.phase("alice").is_none());
    settle(&fleet);
    let told = ends(&fleet, "alice");
    assert_eq!(told[told.len() - 4..], END[1..], "{told:?}");
}

#[test]
fn what_was_lost_with_its_node_ends_too_though_nobody_confirms_it() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", Some(2), None);
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    fleet.retire("jump-1", "jump-1").unwrap();
    eventually("alice is gone", || fleet.phase("alice").is_none());
    let last = fleet.events("alice-container").remove(0);
    assert_eq!(last.kind, "container.deleted");
    assert!(last.message.contains("its time ended at") && last.message.contains("it was lost with jump-1"), "{last:?}");
}

#[test]
fn what_nobody_uses_is_stopped_and_woken_by_a_start() {
    let fleet = Fleet::of_nodes(1);
    let host: SimHost = fleet.nodes[0].host.clone();
    let session = Activity { cpu: Duration::ZERO, ssh_sessions: 1 };
    host.set_activity("alice-container", session);
    create(&fleet, "alice", None, Some(1));
    create(&fleet, "idle-for-ever", None, None);
    create(&fleet, "bob", None, Some(1));
    let rests = |user: &str| kinds(&fleet, user).iter().filter(|kind| *kind == "container.idle").count();
    eventually("bob rests", || fleet.phase("bob") == Some(Phase::Stopped));
    assert_eq!((rests("bob"), of(&fleet, "bob").generation), (1, 2));
    assert_eq!((rests("alice"), fleet.phase("alice")), (0, Some(Phase::Running)), "somebody is logged in");
    eventually("it is known to be idle", || of(&fleet, "idle-for-ever").idle_since_unix_millis > 0);

    host.set_activity("alice-container", Activity::default());
    eventually("alice rests", || fleet.phase("alice") == Some(Phase::Stopped));
    host.set_activity("bob-container", session);
    fleet.power("alice", PowerAction::Start).unwrap();
    fleet.power("bob", PowerAction::Start).unwrap();
    eventually("alice rests again", || rests("alice") == 2);
    assert_eq!((rests("bob"), fleet.phase("bob")), (1, Some(Phase::Running)));
    assert_eq!(fleet.phase("idle-for-ever"), Some(Phase::Running), "it is off by default");
    let off = v1::SetLifetimeRequest { idle_stop_seconds: Some(0), ..Fleet::lifetime_request("bob") };
    assert_eq!(fleet.set_lifetime(off).unwrap().container.unwrap().idle_stop_seconds, 0);
    settle(&fleet);
}

#[test]
fn autostart_is_the_nodes_and_changes_all_or_nothing() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", None, None);
    let set = |fleet: &Fleet, autostart, ttl_seconds| {
        fleet.set_lifetime(v1::SetLifetimeRequest { autostart, ttl_seconds, ..Fleet::lifetime_request("alice") })
    };
    let after = set(&fleet, Some(false), Some(3600)).unwrap().container.unwrap();
    assert_eq!((after.generation, after.spec.as_ref().unwrap().autostart), (2, false));
    assert!(after.expires_at_unix_millis > 0);
    let host = fleet.nodes[0].host.clone();
    let alice = &host.instances_now()["alice-container"];
    assert!(!alice.seen.stamp.as_ref().unwrap().order.spec.autostart && alice.boots == 1, "without a restart");
    settle(&fleet);
    let same = set(&fleet, Some(false), None).unwrap().container.unwrap();
    assert_eq!((same.generation, same.expires_at_unix_millis), (2, after.expires_at_unix_millis));

    let nothing = refusal(&set(&fleet, None, None).unwrap_err());
    assert_eq!(nothing.reason, Reason::InvalidArgument);
    let long = refusal(&set(&fleet, Some(true), Some(366 * 86400)).unwrap_err());
    assert!(long.message.contains("at most 365d"), "{long}");
    let nobody = v1::SetLifetimeRequest { ttl_seconds: Some(60), ..Fleet::lifetime_request("nobody-here") };
    assert_eq!(refusal(&fleet.set_lifetime(nobody).unwrap_err()).reason, Reason::NotFound);

    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    let away = refusal(&set(&fleet, Some(true), Some(0)).unwrap_err());
    assert_eq!(away.reason, Reason::NodeUnavailable);
    assert_eq!(of(&fleet, "alice").expires_at_unix_millis, after.expires_at_unix_millis, "all or nothing");
    set(&fleet, None, Some(0)).unwrap();
    assert_eq!(of(&fleet, "alice").expires_at_unix_millis, 0, "the end is ours: no node is needed");
    fleet.start_agent(0);
    settle(&fleet);
}

/// The node of index 0 loses its power, and is back.
fn reboot(fleet: &mut Fleet) {
    fleet.kill_agent(0);
    fleet.nodes[0].host.reboot();
    fleet.start_agent(0);
    fleet.until_node("jump-1", Availability::Online);
}

#[test]
fn what_does_not_start_with_its_node_stays_off_until_it_is_started() {
    let mut fleet = Fleet::of_nodes(1);
    create(&fleet, "alice", None, None);
    fleet.create(v1::CreateContainerRequest { autostart: false, ..Fleet::request("bob") }).unwrap();
    let host = fleet.nodes[0].host.clone();
    assert!(host.write("bob-container", "precious"));
    // An agent that starts anew on a machine that did not touches nothing.
    fleet.kill_agent(0);
    fleet.start_agent(0);
    settle(&fleet);
    assert_eq!((fleet.phase("alice"), fleet.phase("bob")), (Some(Phase::Running), Some(Phase::Running)));

    reboot(&mut fleet);
    eventually("bob rests", || fleet.phase("bob") == Some(Phase::Stopped) && of(&fleet, "bob").generation == 2);
    settle(&fleet);
    assert_eq!(fleet.phase("alice"), Some(Phase::Running));
    assert_eq!(host.instances_now()["bob-container"].boots, 1);
    let said = fleet.events("bob-container");
    assert!(said.iter().any(|event| event.message.contains("containarium start bob")), "{said:?}");
    assert!(said.iter().all(|event| event.kind != "container.drifted"), "{said:?}");

    // What is changed meanwhile does not start it.
    fleet.resize(v1::ResizeContainerRequest { memory_bytes: Some(1 << 30), ..Fleet::resize_request("bob") }).unwrap();
    settle(&fleet);
    assert_eq!((fleet.phase("bob"), host.instances_now()["bob-container"].boots), (Some(Phase::Stopped), 1));
    fleet.power("bob", PowerAction::Start).unwrap();
    settle(&fleet);
    let bob = host.instances_now()["bob-container"].clone();
    assert_eq!((bob.boots, bob.data.as_str()), (2, "precious"));

    // And from then on again.
    reboot(&mut fleet);
    eventually("bob rests again", || fleet.phase("bob") == Some(Phase::Stopped));
    settle(&fleet);
}

#[test]
fn a_start_cut_off_by_a_power_cut_is_carried_out_all_the_same() {
    for k in 1.. {
        let mut fleet = Fleet::of_nodes(1);
        fleet.create(v1::CreateContainerRequest { autostart: false, ..Fleet::request("bob") }).unwrap();
        fleet.power("bob", PowerAction::Stop).unwrap();
        settle(&fleet);
        let host = fleet.nodes[0].host.clone();
        host.plan_fault(containarium_agent::host::sim::Fault::CrashBefore(k));
        let starting = fleet.power_in_background("bob", PowerAction::Start);
        eventually("it has started, or the machine is down", || {
            host.is_down() || fleet.phase("bob") == Some(Phase::Running)
        });
        if !host.is_down() {
            fleet.join(starting).unwrap();
            assert!(k > 3, "stamp, start and note are three effects at least");
            return;
        }
        fleet.kill_agent(0);
        host.reboot();
        assert!(host.revive());
        fleet.start_agent(0);
        fleet.join(starting).unwrap();
        settle(&fleet);
        assert_eq!(fleet.phase("bob"), Some(Phase::Running), "effect {k}");
    }
}
