//! Snapshots on the simulated fleet: made once, brought back to without any order going back, kept to a number, whatever is
//! killed.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use containarium_agent::host::{
    Power,
    sim::{Fault, SimHost, SimInstance},
};
use containarium_proto::{
    error::Reason,
    v1::{self, Phase, PowerAction, SnapshotKind, SnapshotState},
};
use containarium_tests::{
    fleet::{Background, Fleet, eventually, refusal},
    invariants::settle,
};

const NAME: &str = "alice-container";
const OTHER_KEY: &str = include_str!("../../proto/src/keys/testdata/ecdsa.pub");

fn alice_on(nodes: u8) -> (Fleet, SimHost) {
    let fleet = Fleet::of_nodes(nodes);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    let host = fleet.nodes[0].host.clone();
    (fleet, host)
}

fn alice() -> (Fleet, SimHost) {
    alice_on(1)
}

fn there(host: &SimHost) -> SimInstance {
    host.instances_now()[NAME].clone()
}

fn data(host: &SimHost) -> String {
    there(host).data
}

fn count(fleet: &Fleet, kind: &str) -> usize {
    fleet.events(NAME).iter().filter(|event| event.kind == kind).count()
}

/// Replaces alice's key by another one.
fn replace_key(fleet: &Fleet) {
    let add = vec![OTHER_KEY.trim_end().to_owned()];
    fleet.change_keys(v1::ChangeKeysRequest { add, replace: true, ..Fleet::keys_request("alice") }).unwrap();
}

#[test]
fn a_restore_brings_the_data_back_and_nothing_that_was_ordered_since() {
    let (fleet, host) = alice();
    assert!(host.write(NAME, "then"));
    assert_eq!(fleet.snapshot("alice", "before").unwrap().snapshot, "before");
    let old = there(&host).logins["alice"].clone();
    assert!(host.write(NAME, "since"));
    fleet.resize(v1::ResizeContainerRequest { memory_bytes: Some(4 << 30), ..Fleet::resize_request("alice") }).unwrap();
    replace_key(&fleet);
    let before = fleet.list().remove(0).generation;

    let request = Fleet::restore_snapshot_request("alice", "before");
    let last = fleet.join(fleet.restore_snapshot_in_background(request.clone())).unwrap();
    assert_eq!(last.container.unwrap().phase(), Phase::Running);
    assert_eq!(data(&host), "then");
    let restored = there(&host);
    assert_eq!(restored.seen.shape.config["limits.memory"], (4u64 << 30).to_string());
    assert!(restored.logins["alice"] != old && restored.logins["alice"].len() == 1, "the old key stays out");
    assert_eq!(fleet.list()[0].generation, before + 1);
    settle(&fleet);

    // A lost reply: the same request is the same restore, and what came since stays.
    assert!(host.write(NAME, "after"));
    fleet.join(fleet.restore_snapshot_in_background(request)).unwrap();
    fleet.power("alice", PowerAction::Restart).unwrap();
    assert_eq!(data(&host), "after");
    assert_eq!(fleet.snapshot_names("alice"), ["before"], "it can be restored again");
    fleet.restore_snapshot("alice", "before").unwrap();
    assert_eq!(data(&host), "then");
    settle(&fleet);
    fleet.delete("alice").unwrap();
    settle(&fleet);
    // Its snapshots went with it: a new machine of that name has none.
    fleet.create(Fleet::request("alice")).unwrap();
    assert!(fleet.snapshot_names("alice").is_empty());
}

#[test]
fn what_is_stopped_is_restored_and_stays_stopped() {
    let (fleet, host) = alice();
    assert!(host.write(NAME, "then"));
    fleet.snapshot("alice", "before").unwrap();
    assert!(host.write(NAME, "since"));
    fleet.power("alice", PowerAction::Stop).unwrap();
    fleet.snapshot("alice", "stopped").unwrap();
    let last = fleet.restore_snapshot("alice", "before").unwrap().container.unwrap();
    assert_eq!((last.phase(), data(&host).as_str(), there(&host).boots), (Phase::Stopped, "then", 1));
    settle(&fleet);
    fleet.power("alice", PowerAction::Start).unwrap();
    settle(&fleet);
    // Made while it was stopped: its stamp said so.
    fleet.restore_snapshot("alice", "stopped").unwrap();
    assert_eq!((data(&host).as_str(), fleet.phase("alice")), ("since", Some(Phase::Running)));
    settle(&fleet);
}

#[test]
fn one_request_is_one_snapshot_and_names_are_taken_once() {
    let (mut fleet, host) = alice();
    let request = Fleet::snapshot_request("alice", "");
    let first = fleet.join(fleet.snapshot_in_background(request.clone())).unwrap().snapshot;
    assert!(first.starts_with("snap-"), "{first}");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    assert_eq!(fleet.join(fleet.snapshot_in_background(request)).unwrap().snapshot, first);
    assert_eq!(fleet.snapshot_names("alice"), [first.as_str()]);
    assert_eq!(refusal(&fleet.snapshot("alice", &first).unwrap_err()).reason, Reason::AlreadyExists);
    // Two in the same second.
    let second = fleet.snapshot("alice", "").unwrap().snapshot;
    assert_ne!(second, first);
    // Made with incus: listed, no drift, and as good as any.
    host.snapshot_by_hand(NAME, "by-hand");
    let listed = fleet.snapshots("alice").unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|one| one.kind() == SnapshotKind::Manual && one.state() == SnapshotState::Ready));
    assert_eq!(refusal(&fleet.snapshot("alice", "by-hand").unwrap_err()).reason, Reason::AlreadyExists);
    fleet.restore_snapshot("alice", "by-hand").unwrap();
    fleet.delete_snapshot("alice", "by-hand").unwrap();
    // Removed by hand: the name is free again.
    host.lose_snapshot(NAME, &first);
    fleet.delete_snapshot("alice", &first).unwrap();
    assert_eq!(fleet.snapshot_names("alice"), [second.as_str()]);
    assert_eq!(count(&fleet, "container.drifted"), 0);
    settle(&fleet);
}

#[test]
fn bad_input_is_refused_in_words_and_changes_nothing() {
    let (mut fleet, host) = alice();
    fleet.snapshot("alice", "one").unwrap();
    let generation = |fleet: &Fleet| fleet.list()[0].generation;
    let before = (fleet.snapshot_names("alice"), there(&host), generation(&fleet));
    let reasons = [
        (fleet.snapshot("bob", "x").unwrap_err(), Reason::NotFound),
        (fleet.snapshot("alice", "a/b").unwrap_err(), Reason::InvalidArgument),
        (fleet.snapshot("alice", "auto-x").unwrap_err(), Reason::InvalidArgument),
        (fleet.snapshot("alice", "containarium-move-1").unwrap_err(), Reason::InvalidArgument),
        (fleet.snapshot("alice", "one").unwrap_err(), Reason::AlreadyExists),
        (fleet.snapshots("bob").unwrap_err(), Reason::NotFound),
        (fleet.restore_snapshot("alice", "two").unwrap_err(), Reason::NotFound),
        (fleet.restore_snapshot("alice", "../one").unwrap_err(), Reason::InvalidArgument),
        (fleet.restore_snapshot("alice", "containarium-move-1").unwrap_err(), Reason::InvalidArgument),
        (fleet.delete_snapshot("alice", "two").unwrap_err(), Reason::NotFound),
        (fleet.delete_snapshot("bob", "one").unwrap_err(), Reason::NotFound),
        (fleet.schedule("alice", v1::Every::Off, 3).unwrap_err(), Reason::InvalidArgument),
        (fleet.schedule("alice", v1::Every::Day, 101).unwrap_err(), Reason::InvalidArgument),
        (fleet.schedule("alice", v1::Every::Unspecified, 3).unwrap_err(), Reason::InvalidArgument),
    ];
    for (status, reason) in reasons {
        let refusal = refusal(&status);
        assert_eq!(refusal.reason, reason, "{refusal}");
        assert!(refusal.hint.is_some(), "{refusal}");
    }
    fleet.snapshot("alice", "two").unwrap();
    host.set_newest_only(true);
    let older = refusal(&fleet.restore_snapshot("alice", "one").unwrap_err());
    assert!(older.reason == Reason::Refused && older.message.contains("two"), "{older}");
    fleet.delete_snapshot("alice", "two").unwrap();
    assert_eq!((fleet.snapshot_names("alice"), there(&host), generation(&fleet)), before);
    fleet.restore_snapshot("alice", "one").unwrap();

    fleet.kill_agent(0);
    fleet.until_node("jump-1", v1::Availability::Offline);
    for away in [
        fleet.snapshot("alice", "late").unwrap_err(),
        fleet.restore_snapshot("alice", "one").unwrap_err(),
        fleet.delete_snapshot("alice", "one").unwrap_err(),
        fleet.snapshots("alice").unwrap_err(),
    ] {
        assert_eq!(refusal(&away).reason, Reason::NodeUnavailable, "{away:?}");
    }
    fleet.start_agent(0);
    settle(&fleet);
    assert_eq!(fleet.snapshot_names("alice"), ["one"]);
}

#[test]
fn what_is_under_way_is_said_and_one_that_is_gone_fails_once_and_for_all() {
    let (fleet, host) = alice();
    fleet.snapshot("alice", "one").unwrap();
    // Gone between the question and the order.
    host.set_ssh_answers(false);
    let restoring = fleet.restore_snapshot_in_background(Fleet::restore_snapshot_request("alice", "one"));
    eventually("it is being brought back", || there(&host).boots == 2);
    let busy = refusal(&fleet.snapshot("alice", "two").unwrap_err());
    assert!(busy.reason == Reason::Busy && busy.message.contains("since"), "{busy}");
    host.set_ssh_answers(true);
    fleet.join(restoring).unwrap();
    settle(&fleet);
}

#[test]
fn a_machine_that_never_comes_up_is_brought_back() {
    let (fleet, host) = alice();
    fleet.snapshot("alice", "good").unwrap();
    assert!(host.write(NAME, "broken"));
    host.set_ssh_answers(false);
    let restart = fleet.power_in_background("alice", PowerAction::Restart);
    eventually("it waits for an sshd that is broken", || there(&host).boots == 2);
    let restoring = fleet.restore_snapshot_in_background(Fleet::restore_snapshot_request("alice", "good"));
    eventually("its disk is back", || data(&host).is_empty() && there(&host).boots == 3);
    host.set_ssh_answers(true);
    fleet.join(restoring).unwrap();
    // A later order of the same kind includes the earlier one.
    fleet.join(restart).unwrap();
    settle(&fleet);
}

#[test]
fn users_snapshots_travel_with_a_move_and_are_restored_there() {
    let (fleet, host) = alice_on(2);
    assert!(host.write(NAME, "then"));
    fleet.snapshot("alice", "before").unwrap();
    fleet.schedule("alice", v1::Every::Week, 2).unwrap();
    eventually("one is made by the schedule", || fleet.snapshot_names("alice").len() == 2);
    assert!(host.write(NAME, "since"));
    let names = fleet.snapshot_names("alice");
    fleet.move_to("alice", "jump-2").unwrap();
    settle(&fleet);
    assert_eq!(fleet.snapshot_names("alice"), names, "and none of the move's own");
    let target = fleet.nodes[1].host.clone();
    // The node's DHCP knows it by this one.
    let mac = ("volatile.eth0.hwaddr".to_owned(), "10:66:6a:00:00:02".to_owned());
    target.tamper(NAME, |instance| instance.shape.config.extend([mac.clone()]));
    fleet.restore_snapshot("alice", "before").unwrap();
    let restored = target.instances_now()[NAME].clone();
    assert_eq!(restored.data, "then");
    assert_eq!(restored.seen.shape.config[&mac.0], mac.1);
    assert_eq!(restored.seen.shape.devices["eth0"]["ipv4.address"], fleet.list()[0].address);
    assert!(fleet.list()[0].address.starts_with("10.100.2."));
    settle(&fleet);
    assert!(fleet.snapshots("alice").unwrap().iter().any(|one| one.kind() == SnapshotKind::Scheduled));
}

fn scheduled(fleet: &Fleet) -> Vec<String> {
    let all = fleet.snapshots("alice").unwrap_or_default();
    let made = all.iter().filter(|one| one.kind() == SnapshotKind::Scheduled && one.state() == SnapshotState::Ready);
    made.map(|one| one.name.clone()).collect()
}

#[test]
fn a_schedule_keeps_its_newest_and_what_was_asked_for_and_makes_missed_ones_once() {
    let (mut fleet, host) = alice();
    fleet.snapshot("alice", "mine").unwrap();
    host.snapshot_by_hand(NAME, "by-hand");
    fleet.schedule("alice", v1::Every::Hour, 2).unwrap();
    eventually("five were made", || host.snapshots_made() >= 6);
    assert_eq!(count(&fleet, "container.snapshot"), 1, "only what was asked for is told");
    eventually("two are kept", || scheduled(&fleet).len() == 2);
    let kept = scheduled(&fleet);
    assert!(kept.iter().all(|name| name.starts_with("auto-hourly-")), "{kept:?}");
    let names = fleet.snapshot_names("alice");
    assert!(names.contains(&"mine".to_owned()) && names.contains(&"by-hand".to_owned()), "{names:?}");
    assert_eq!(fleet.list()[0].snapshots.unwrap().keep, 2);

    // Away for several hours of it: made once when it is back, not once for each.
    fleet.kill_agent(0);
    fleet.until_node("jump-1", v1::Availability::Offline);
    let before = host.snapshots_made();
    let newest = scheduled_on(&host).pop();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(host.snapshots_made(), before);
    fleet.start_agent(0);
    eventually("one is made at once", || scheduled_on(&host).pop() != newest);
    fleet.schedule("alice", v1::Every::Off, 0).unwrap();
    eventually("nothing is under way", || {
        fleet.snapshots("alice").is_ok_and(|all| all.iter().all(|one| one.state() == SnapshotState::Ready))
    });
    let after = host.snapshots_made();
    assert!(after - before <= 3, "{} were made for five that were missed", after - before);
    settle(&fleet);

    // Off leaves those that there are; one that was removed by hand is not counted.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let left = scheduled(&fleet);
    assert!(!left.is_empty() && left.len() <= 2, "{left:?}");
    host.lose_snapshot(NAME, &left[0]);
    fleet.schedule("alice", v1::Every::Hour, 2).unwrap();
    eventually("two that are there", || scheduled(&fleet).len() == 2 && !scheduled(&fleet).contains(&left[0]));
    fleet.schedule("alice", v1::Every::Week, 1).unwrap();
    eventually("one is kept", || scheduled(&fleet).len() == 1);
    assert!(fleet.snapshot_names("alice").contains(&"mine".to_owned()));
    settle(&fleet);
}

fn scheduled_on(host: &SimHost) -> Vec<String> {
    let all = there(host).snapshots.into_iter().map(|snapshot| snapshot.name);
    all.filter(|name| name.starts_with("auto-")).collect()
}

#[test]
fn nothing_is_made_of_what_is_stopped() {
    let (fleet, _) = alice();
    fleet.schedule("alice", v1::Every::Hour, 3).unwrap();
    eventually("one is made", || !scheduled(&fleet).is_empty());
    fleet.power("alice", PowerAction::Stop).unwrap();
    eventually("nothing is under way", || {
        fleet.snapshots("alice").is_ok_and(|all| all.iter().all(|one| one.state() == SnapshotState::Ready))
    });
    let before = scheduled(&fleet);
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(scheduled(&fleet), before, "its last ones stay");
    fleet.power("alice", PowerAction::Start).unwrap();
    eventually("the next is made when it runs", || scheduled(&fleet).last() != before.last());
    settle(&fleet);
}

/// What is done under faults, and what must be true whether or not the caller was told so.
struct Case {
    name: &'static str,
    begin: fn(&Fleet) -> Background,
    done: fn(&Fleet, &SimHost) -> bool,
}

const CASES: [Case; 3] = [
    Case {
        name: "create",
        begin: |fleet| fleet.snapshot_in_background(Fleet::snapshot_request("alice", "new")),
        done: |fleet, _| ready(fleet) == ["new", "old"],
    },
    Case {
        name: "restore",
        begin: |fleet| fleet.restore_snapshot_in_background(Fleet::restore_snapshot_request("alice", "old")),
        done: |fleet, host| fleet.phase("alice") == Some(Phase::Running) && data(host) == "then",
    },
    Case {
        name: "delete",
        begin: |fleet| fleet.delete_snapshot_in_background("alice", "old"),
        done: |fleet, _| ready(fleet).is_empty() && fleet.snapshots("alice").is_ok_and(|all| all.is_empty()),
    },
];

fn ready(fleet: &Fleet) -> Vec<String> {
    let all = fleet.snapshots("alice").unwrap_or_default();
    let ready = all.iter().filter(|one| one.state() == SnapshotState::Ready);
    let mut names: Vec<String> = ready.map(|one| one.name.clone()).collect();
    names.sort();
    names
}

/// A container with a snapshot, another key and other data since.
fn arranged() -> (Fleet, SimHost, Vec<String>) {
    let (fleet, host) = alice();
    assert!(host.write(NAME, "then"));
    fleet.snapshot("alice", "old").unwrap();
    let revoked = there(&host).logins["alice"].clone();
    assert!(host.write(NAME, "since"));
    replace_key(&fleet);
    (fleet, host, revoked)
}

/// What must hold after each, beside the invariants.
fn check(case: &Case, host: &SimHost, revoked: &[String]) {
    let there = there(host);
    let expected = if case.name == "restore" { "then" } else { "since" };
    assert_eq!((there.data.as_str(), there.seen.power), (expected, Power::Running), "{}", case.name);
    assert_ne!(there.logins["alice"], revoked, "{}: a revoked key lets in", case.name);
    assert_eq!(host.creates(), 1, "{}", case.name);
}

#[test]
fn every_operation_survives_the_death_of_the_agent_and_a_full_disk_at_every_effect() {
    let mut cases = BTreeMap::new();
    for case in &CASES {
        for (kind, fault) in [
            ("before", Fault::CrashBefore as fn(u32) -> Fault),
            ("after", Fault::CrashAfter),
            ("full", Fault::DiskFull),
        ] {
            for k in 1.. {
                let (mut fleet, host, revoked) = arranged();
                host.plan_fault(fault(k));
                let running = (case.begin)(&fleet);
                let mut reached = false;
                eventually(case.name, || {
                    if host.is_down() {
                        fleet.kill_agent(0);
                        reached |= host.revive();
                        fleet.start_agent(0);
                    }
                    (case.done)(&fleet, &host)
                });
                reached |= host.revive();
                fleet.join(running).unwrap();
                settle(&fleet);
                check(case, &host, &revoked);
                if !reached {
                    break;
                }
                *cases.entry((case.name, kind)).or_insert(0) += 1;
            }
        }
    }
    println!("{cases:?}");
    // A restore: stopping, the disk, the stamps, starting, the login, its stamp.
    for kind in ["before", "after", "full"] {
        assert_eq!((cases[&("create", kind)], cases[&("restore", kind)], cases[&("delete", kind)]), (1, 6, 1));
    }
}

#[test]
fn every_operation_survives_the_death_of_the_coordinator_around_every_effect() {
    let mut cases = 0;
    for case in &CASES {
        for k in 1.. {
            let (mut fleet, host, revoked) = arranged();
            // The agent stands still at an effect; the coordinator dies and comes back; then the agent does too.
            host.plan_fault(Fault::CrashBefore(k));
            let running = (case.begin)(&fleet);
            let mut reached = false;
            eventually(case.name, || {
                if host.is_down() {
                    fleet.kill_coordinator();
                    fleet.start_coordinator();
                    fleet.kill_agent(0);
                    reached |= host.revive();
                    fleet.start_agent(0);
                    fleet.until_node("jump-1", v1::Availability::Online);
                }
                (case.done)(&fleet, &host)
            });
            reached |= host.revive();
            // The link to the one that died is broken: that is all that its caller may be told.
            drop(fleet.join(running));
            settle(&fleet);
            check(case, &host, &revoked);
            if !reached {
                break;
            }
            cases += 1;
        }
    }
    assert_eq!(cases, 8);
}

#[test]
fn a_delete_in_the_middle_of_a_restore_leaves_nothing() {
    for k in 1..=3 {
        let (mut fleet, host, _) = arranged();
        host.plan_fault(Fault::CrashAfter(k));
        let running = fleet.restore_snapshot_in_background(Fleet::restore_snapshot_request("alice", "old"));
        eventually("the agent dies", || host.is_down());
        fleet.kill_agent(0);
        let deleting = fleet.delete_in_background("alice");
        eventually("it is to go", || fleet.phase("alice") == Some(Phase::Deleting));
        assert!(host.revive());
        fleet.start_agent(0);
        fleet.join(deleting).unwrap();
        assert!(fleet.join(running).is_err());
        settle(&fleet);
        assert!(host.instances_now().is_empty() && fleet.list().is_empty(), "killed after effect {k}");
    }
}

#[test]
fn a_restore_that_is_half_done_is_finished_by_the_next_agent_without_a_coordinator() {
    // After it was stopped, brought back, stamped anew.
    for (k, by_itself) in [(1, false), (2, true), (3, true)] {
        let (mut fleet, host, revoked) = arranged();
        let before = there(&host).seen.stamp.unwrap().order.generation;
        host.plan_fault(Fault::CrashAfter(k));
        let running = fleet.restore_snapshot_in_background(Fleet::restore_snapshot_request("alice", "old"));
        eventually("the agent dies", || host.is_down());
        fleet.kill_coordinator();
        fleet.kill_agent(0);
        assert!(host.revive());
        if k == 2 {
            let claims = there(&host).seen.stamp.unwrap().order.generation;
            assert!(claims < before, "it claims to be what it was: {claims}");
        }
        fleet.start_agent(0);
        eventually("it runs and lets in who may come", || {
            let there = there(&host);
            there.seen.power == Power::Running && there.logins.contains_key("alice")
        });
        let now = there(&host);
        let expected = if by_itself { (before.next(), "then") } else { (before, "since") };
        assert_eq!((now.seen.stamp.unwrap().order.generation, now.data.as_str()), expected, "killed after effect {k}");
        assert_ne!(now.logins["alice"], revoked);
        drop(fleet.join(running));
        fleet.start_coordinator();
        eventually("it is brought back", || data(&host) == "then" && fleet.phase("alice") == Some(Phase::Running));
        settle(&fleet);
    }
}
