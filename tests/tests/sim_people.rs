//! People on the simulated fleet: what they share, who is connected, what is on record, who is kept out.

#![allow(clippy::unwrap_used)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use containarium_agent::host::sim::{Fault, SimHost};
use containarium_proto::{
    error::Reason,
    v1::{self, Availability, Phase},
};
use containarium_tests::{
    fleet::{Background, Fleet, eventually, refusal},
    invariants::settle,
};

const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

fn fleet_of(users: &[&str], nodes: u8) -> Fleet {
    let fleet = Fleet::of_nodes(nodes);
    for user in users {
        fleet.create(Fleet::request(user)).unwrap();
    }
    fleet
}

fn guests(fleet: &Fleet, user: &str) -> Vec<(String, bool)> {
    let found = fleet.list().into_iter().find(|container| container.user == user);
    found.unwrap().shares.into_iter().map(|share| (share.with, share.sudo)).collect()
}

fn from(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Runs `operation` with the agent killed, or the disk full, around each effect in turn. Gives the number of cases.
fn matrix(arrange: impl Fn(&Fleet), operation: impl Fn(&Fleet) -> Background, holds: impl Fn(&Fleet) -> bool) -> u32 {
    let mut cases = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull] {
        for k in 1.. {
            let mut fleet = fleet_of(&["alice", "bob"], 1);
            arrange(&fleet);
            let host = fleet.nodes[0].host.clone();
            host.plan_fault(fault(k));
            let running = operation(&fleet);
            let mut reached = false;
            eventually("it goes on", || {
                if host.is_down() {
                    fleet.kill_agent(0);
                    reached |= host.revive();
                    fleet.start_agent(0);
                }
                running.is_finished() && fleet.phase("alice") == Some(Phase::Running)
            });
            fleet.join(running).unwrap();
            settle(&fleet);
            assert!(holds(&fleet), "{:?}", fault(k));
            reached |= host.revive();
            if !reached {
                break;
            }
            cases += 1;
        }
    }
    cases
}

#[test]
fn a_share_survives_a_kill_at_any_effect() {
    let share = |fleet: &Fleet| {
        fleet.share_in_background(v1::ShareContainerRequest { sudo: true, ..Fleet::share_request("alice", "bob") })
    };
    // The stamp of the order, the logins, their stamp, bob's proxy account.
    assert_eq!(matrix(|_| {}, share, |fleet| guests(fleet, "alice") == [("bob".to_owned(), true)]), 3 * 4);
}

#[test]
fn the_end_of_a_share_survives_a_kill_at_any_effect_and_ends_the_sessions() {
    let arrange = |fleet: &Fleet| {
        fleet.share(Fleet::share_request("alice", "bob")).unwrap();
        let alices: Ipv4Addr = fleet.list()[0].address.parse().unwrap();
        fleet.nodes[0].host.connect("bob", from(1), &[alices]);
        fleet.nodes[0].host.connect("alice", from(2), &[alices]);
    };
    let revoke = |fleet: &Fleet| fleet.share_in_background(Fleet::unshare_request("alice", "bob"));
    let ended = |fleet: &Fleet| {
        let left: Vec<String> = fleet.nodes[0].host.sessions_now().into_iter().map(|s| s.user.into()).collect();
        guests(fleet, "alice").is_empty() && left == ["alice"]
    };
    assert_eq!(matrix(arrange, revoke, ended), 3 * 4);
}

#[test]
fn a_coordinator_killed_anywhere_in_a_share_records_it_once() {
    for delay in [0u64, 1, 2, 5, 10, 20, 40] {
        let host =
            |i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap()).with_latency(Duration::from_millis(10));
        let mut fleet = Fleet::of((1..=2).map(host).collect());
        for user in ["alice", "bob"] {
            fleet.create(Fleet::request(user)).unwrap();
        }
        let request = Fleet::share_request("alice", "bob");
        let sharing = fleet.share_in_background(request.clone());
        // A spread of moments, not a wait for something: whatever the moment, the outcome is the same.
        std::thread::sleep(Duration::from_millis(delay));
        fleet.kill_coordinator();
        drop(fleet.join(sharing));
        fleet.start_coordinator();
        fleet.share(request).unwrap();
        settle(&fleet);
        assert_eq!(guests(&fleet, "alice"), [("bob".to_owned(), false)], "after {delay} ms");
        let told = fleet.events("alice-container").into_iter().filter(|event| event.kind == "container.shared");
        assert_eq!(told.count(), 1, "after {delay} ms");
    }
}

#[test]
fn a_guest_follows_his_keys_and_both_their_machines() {
    let fleet = fleet_of(&["alice", "bob", "carol"], 2);
    for (user, with) in [("alice", "bob"), ("alice", "carol"), ("bob", "alice")] {
        fleet.share(Fleet::share_request(user, with)).unwrap();
    }
    settle(&fleet);
    let keys = v1::ChangeKeysRequest { add: vec![OTHER_KEY.into()], replace: true, ..Fleet::keys_request("bob") };
    fleet.change_keys(keys).unwrap();
    settle(&fleet);
    let home = fleet.list().into_iter().find(|c| c.user == "alice").unwrap().node;
    fleet.move_to("alice", if home == "jump-1" { "jump-2" } else { "jump-1" }).unwrap();
    settle(&fleet);
    assert_eq!(guests(&fleet, "alice").len(), 2, "a move keeps what is shared");
    // Stopped, she gets her guests at the next start.
    fleet.power("alice", v1::PowerAction::Stop).unwrap();
    let sudo = v1::ShareContainerRequest { sudo: true, ..Fleet::share_request("alice", "carol") };
    fleet.share(sudo).unwrap();
    fleet.power("alice", v1::PowerAction::Start).unwrap();
    settle(&fleet);
    assert_eq!(guests(&fleet, "alice"), [("bob".to_owned(), false), ("carol".to_owned(), true)]);
    let info = fleet.info("alice").unwrap();
    assert_eq!(info.shared_with_owner[0].owner, "bob");
    fleet.delete("bob").unwrap();
    settle(&fleet);
    assert_eq!(guests(&fleet, "alice"), [("carol".to_owned(), true)], "a share ends with its guest");
    fleet.delete("alice").unwrap();
    settle(&fleet);
}

#[test]
fn what_cannot_be_shared_is_refused_and_nothing_changes() {
    let fleet = fleet_of(&["alice", "bob"], 1);
    let generation = |user: &str| fleet.list().into_iter().find(|c| c.user == user).unwrap().generation;
    let before = generation("alice");
    let reason = |request| refusal(&fleet.share(request).unwrap_err()).reason;
    assert_eq!(reason(Fleet::share_request("alice", "alice")), Reason::InvalidArgument);
    assert_eq!(reason(Fleet::share_request("alice", "mallory")), Reason::NotFound);
    assert_eq!(reason(Fleet::share_request("mallory", "bob")), Reason::NotFound);
    assert_eq!(reason(Fleet::share_request("alice", "root")), Reason::InvalidArgument);
    assert_eq!(reason(Fleet::unshare_request("alice", "bob")), Reason::NotFound);
    assert_eq!(generation("alice"), before);
    fleet.share(Fleet::share_request("alice", "bob")).unwrap();
    let shared = generation("alice");
    fleet.share(Fleet::share_request("alice", "bob")).unwrap();
    assert_eq!(generation("alice"), shared, "the same again is no change");
    settle(&fleet);
}

#[test]
fn sessions_are_seen_on_all_nodes_and_ended_on_theirs() {
    let mut fleet = fleet_of(&["alice", "bob"], 2);
    let address = |user: &str| fleet.list().into_iter().find(|c| c.user == user).unwrap().address.parse().unwrap();
    let (alices, bobs) = (address("alice"), address("bob"));
    fleet.nodes[0].host.connect("alice", from(1), &[alices]);
    fleet.nodes[1].host.connect("alice", from(2), &[alices]);
    fleet.nodes[1].host.connect("bob", from(3), &[bobs]);
    let all = fleet.sessions("", "").unwrap().sessions;
    assert_eq!(all.len(), 3);
    assert_eq!((all[0].containers.as_slice(), all[0].client_port), (["alice-container".to_owned()].as_slice(), 1));
    assert_eq!(fleet.sessions("alice", "jump-2").unwrap().sessions.len(), 1);
    let bobs = fleet.sessions("bob", "").unwrap().sessions.remove(0);
    assert_eq!(fleet.kill_sessions("", &bobs.id).unwrap().ended, [bobs]);
    assert_eq!(fleet.kill_sessions("alice", "").unwrap().ended.len(), 2);
    assert!(fleet.sessions("", "").unwrap().sessions.is_empty());
    let reason = |user, id| refusal(&fleet.kill_sessions(user, id).unwrap_err()).reason;
    assert_eq!(reason("alice", ""), Reason::NotFound);
    assert_eq!(reason("", "jump-1/9-9"), Reason::NotFound);
    assert_eq!(reason("", "jump-9/9-9"), Reason::NotFound);
    assert_eq!(reason("", "nonsense"), Reason::InvalidArgument);
    assert_eq!(reason("alice", "jump-1/9-9"), Reason::InvalidArgument);
    fleet.kill_agent(1);
    fleet.until_node("jump-2", Availability::Offline);
    let partly = fleet.sessions("", "").unwrap();
    assert_eq!(partly.unasked.len(), 1, "{partly:?}");
    assert!(partly.unasked[0].note.contains("offline"));
}

fn accepted(user: &str, port: u16) -> String {
    format!("Accepted publickey for {user} from 192.0.2.1 port {port} ssh2: ED25519 SHA256:abc")
}

#[test]
fn every_line_is_on_record_once_whoever_dies() {
    let mut fleet = fleet_of(&["alice", "bob"], 2);
    let began = now();
    for round in 0u16..24 {
        let host = fleet.nodes[usize::from(round % 2)].host.clone();
        host.log_of_sshd(began + i64::from(round), &accepted("alice", 1000 + round));
        host.log_of_sshd(began, "Server listening on 0.0.0.0 port 22.");
        match round {
            5 | 17 => {
                fleet.kill_coordinator();
                fleet.start_coordinator();
            }
            9 | 14 => {
                fleet.kill_agent(0);
                fleet.start_agent(0);
            }
            // Some are read one by one, some in a heap.
            12 => eventually("it is read", || fleet.audit(Default::default()).unwrap().len() > 10),
            _ => {}
        }
    }
    eventually("all is on record", || fleet.audit(Default::default()).unwrap().len() >= 24);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    for name in ["jump-1", "jump-2"] {
        fleet.until_node(name, Availability::Online);
    }
    fleet.nodes[0].host.log_of_sshd(began + 100, &accepted("bob", 9));
    eventually("the last one too", || fleet.info("bob").unwrap().last_login.is_some());
    let all = fleet.audit(v1::ListAuditRequest { page_size: 7, ..Default::default() }).unwrap();
    let ports: Vec<u32> = all.iter().map(|event| event.client_port).collect();
    assert_eq!(ports, (1000..1024).chain([9]).collect::<Vec<u32>>(), "each once, by time");
    assert!(all.iter().all(|e| e.kind == "accepted" && e.containers == [format!("{}-container", e.user)]));
    let newest = v1::ListAuditRequest { newest_first: true, page_size: 4, ..Default::default() };
    let mut backwards = fleet.audit(newest).unwrap();
    backwards.reverse();
    assert_eq!(backwards, all);
    let range = v1::ListAuditRequest {
        since_unix_millis: began + 3,
        until_unix_millis: began + 9,
        node: "jump-2".into(),
        user: "alice".into(),
        kinds: vec!["accepted".into()],
        ..Default::default()
    };
    let ports: Vec<u32> = fleet.audit(range).unwrap().iter().map(|event| event.client_port).collect();
    assert_eq!(ports, [1003, 1005, 1007]);
}

#[test]
fn forged_names_blame_nobody_and_old_lines_are_not_kept() {
    let fleet = fleet_of(&["alice"], 1);
    let host = &fleet.nodes[0].host;
    let name = "x from 6.6.6.6 port 22 ssh2: ED25519 SHA256:abc";
    host.log_of_sshd(now() - 91 * 86_400_000, &accepted("alice", 1));
    host.log_of_sshd(now(), &format!("Connection closed by invalid user {name} 192.0.2.1 port 7 [preauth]"));
    host.log_of_sshd(now(), "Accepted publickey for alice from 6.6.6.6 port 22 ssh2 trailing");
    let read = || fleet.audit(Default::default()).unwrap();
    eventually("it is read", || !read().is_empty());
    host.log_of_sshd(now(), &accepted("alice", 2));
    eventually("the last line is read", || read().len() > 1);
    let seen: Vec<_> = read().into_iter().map(|e| (e.kind, e.user, e.client_address, e.client_port)).collect();
    let client = "192.0.2.1".to_owned();
    assert_eq!(
        seen,
        [
            ("failed".to_owned(), name.to_owned(), client.clone(), 7),
            ("accepted".to_owned(), "alice".to_owned(), client, 2)
        ]
    );
}

#[test]
fn bans_are_seen_and_lifted() {
    let fleet = fleet_of(&["alice"], 2);
    let address: IpAddr = [192, 0, 2, 66].into();
    for node in &fleet.nodes {
        node.host.ban(now(), address);
    }
    eventually("the bans are on record", || fleet.audit(Default::default()).unwrap().len() == 2);
    let banned = |fleet: &Fleet| -> usize {
        fleet.security().nodes.iter().map(|node| node.bans.as_ref().unwrap().addresses.len()).sum()
    };
    assert_eq!(banned(&fleet), 2);
    assert_eq!(fleet.unban("192.0.2.66", "jump-2").unwrap().unbanned, ["jump-2"]);
    assert_eq!(fleet.unban("192.0.2.66", "").unwrap().unbanned, ["jump-1"]);
    assert_eq!(banned(&fleet), 0);
    assert_eq!(refusal(&fleet.unban("192.0.2.66", "").unwrap_err()).reason, Reason::NotFound);
    assert_eq!(refusal(&fleet.unban("x; reboot", "").unwrap_err()).reason, Reason::InvalidArgument);
    assert_eq!(refusal(&fleet.unban("192.0.2.66", "jump-9").unwrap_err()).reason, Reason::NotFound);
    fleet.nodes[0].host.connect("alice", from(1), &[]);
    fleet.nodes[0].host.log_of_sshd(now(), &accepted("alice", 1));
    eventually("the glance shows her", || fleet.security().users_today == ["alice"]);
    let glance = fleet.security();
    assert_eq!((glance.sessions.len(), glance.accepted, glance.failed), (1, 1, 0));
}

#[test]
fn a_log_that_cannot_be_read_is_told_and_read_when_it_can_be() {
    let fleet = fleet_of(&["alice"], 1);
    let host = &fleet.nodes[0].host;
    host.set_log_problem(Some("reading /var/log/auth.log: Permission denied"));
    let note = || fleet.security().nodes[0].note.clone();
    eventually("it is told", || note().contains("auth.log: Permission denied"));
    host.log_of_sshd(now(), &accepted("alice", 1));
    host.set_log_problem(None);
    eventually("nothing is lost", || fleet.audit(Default::default()).unwrap().len() == 1);
    eventually("all is well", || note().is_empty());
}
