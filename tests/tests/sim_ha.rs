//! Three coordinators, one leader: real processes on a real PostgreSQL and a real etcd, killed, stopped and cut off. No
//! container is ever placed twice, and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use containarium_agent::host::sim::SimHost;
use containarium_proto::{error::Reason, v1::Phase};
use containarium_tests::{
    fleet::{
        Fleet, eventually,
        ha::{By, Ha, LEASE},
        refusal,
    },
    invariants::settle,
    proxy::Cut,
};

const COORDINATOR: &str = env!("CARGO_BIN_EXE_sim-coordinator");

fn fleet(nodes: u8, by: By, options: &[&str]) -> Ha {
    let host = |i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap());
    Ha::of(COORDINATOR, (1..=nodes).map(host).collect(), by, options)
}

fn creates(ha: &Ha) -> u32 {
    ha.fleet.nodes.iter().map(|node| node.host.creates()).sum()
}

#[test]
fn forty_creates_racing_for_ten_places_through_three_coordinators_get_exactly_ten() {
    let ha = fleet(2, By::Sql, &["--max-containers-per-node", "5"]);
    let requests = (0..40).map(|index| Fleet::request(&format!("user{index}"))).collect();
    let outcomes = ha.create_all_persistently(requests);
    let placed = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refusal(refused).reason, Reason::NoCapacity, "{refused:?}");
    }
    println!("{placed} of 40 placed");
    assert_eq!((placed, creates(&ha)), (10, 10));
    settle(&ha.fleet);
}

/// Creates one after the other through whoever answers; the leader is killed after the third.
fn a_leader_dies_under_creates(by: By) {
    let mut ha = fleet(3, by, &[]);
    let mut acknowledged = Vec::new();
    let mut longest = Duration::ZERO;
    for index in 0..8 {
        let (leader, term) = ha.use_leader();
        if index == 3 {
            ha.kill(leader);
        }
        let began = Instant::now();
        let request = Fleet::request(&format!("user{index}"));
        acknowledged.push(ha.create_persistently(&request).id);
        if index == 3 {
            longest = began.elapsed();
            assert!(ha.leader().unwrap().1 > term);
        }
    }
    println!("by {by:?}: {longest:.2?} from the kill to the next acknowledged create, lease {LEASE:?}");
    let mut listed: Vec<_> = ha.fleet.list().into_iter().map(|container| container.id).collect();
    acknowledged.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, acknowledged);
    assert_eq!(creates(&ha), 8);
    settle(&ha.fleet);
}

#[test]
fn a_leader_that_dies_under_creates_loses_none_by_sql() {
    a_leader_dies_under_creates(By::Sql);
}

#[test]
fn a_leader_that_dies_under_creates_loses_none_by_etcd() {
    a_leader_dies_under_creates(By::Etcd);
}

/// Asked to stop, a leader hands over at once, and users wait for no lease to run out.
fn a_stop_hands_over(by: By) {
    let mut ha = fleet(1, by, &[]);
    let (leader, term) = ha.use_leader();
    assert!(ha.stop(leader), "a stop is a good end: {}", ha.log(leader));
    let stopped = Instant::now();
    let (next, _) = ha.until_leader_after(term);
    let gap = stopped.elapsed();
    println!("by {by:?}: the next leader {gap:.2?} after the stop");
    // Well below a second on a machine at rest.
    assert!(next != leader && gap < LEASE, "{gap:?}");
    ha.use_coordinator(3 - next - leader);
    ha.create("alice");
    settle(&ha.fleet);
    ha.start(leader);
    eventually("the one that was stopped follows", || {
        ha.use_coordinator(leader);
        ha.fleet.create(Fleet::request("bob")).is_ok()
    });
    settle(&ha.fleet);
}

#[test]
fn a_stop_hands_over_by_sql() {
    a_stop_hands_over(By::Sql);
}

#[test]
fn a_stop_hands_over_by_etcd() {
    a_stop_hands_over(By::Etcd);
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_follows_when_it_goes_on() {
    for by in [By::Sql, By::Etcd] {
        let mut ha = fleet(2, by, &[]);
        ha.create("alice");
        let (leader, term) = ha.use_leader();
        // In the middle of creates of its own.
        let under_way: Vec<_> =
            (0..4).map(|i| ha.fleet.create_in_background(Fleet::request(&format!("early{i}")))).collect();
        ha.signal(leader, "STOP");
        let (next, later) = ha.until_leader_after(term);
        assert_ne!(next, leader);
        ha.use_coordinator(next);
        for index in 0..4 {
            ha.create(&format!("user{index}"));
        }
        ha.signal(leader, "CONT");
        for create in under_way {
            // Acknowledged, refused or lost: whichever, what is there is there once.
            if let Ok(done) = ha.fleet.join(create) {
                let id = done.container.unwrap().id;
                assert!(ha.fleet.list().iter().any(|container| container.id == id), "{id} was acknowledged");
            }
        }
        eventually("the old leader follows", || {
            ha.use_coordinator(leader);
            ha.fleet.create(Fleet::request("bob")).is_ok() || ha.fleet.phase("bob").is_some()
        });
        assert_eq!(ha.leader(), Some((next, later)));
        assert!(ha.runs(leader), "{}", ha.log(leader));
        settle(&ha.fleet);
        assert_eq!(creates(&ha) as usize, ha.fleet.list().len());
    }
}

#[test]
fn a_leader_without_its_database_makes_way_and_follows_when_it_is_back() {
    for by in [By::Sql, By::Etcd] {
        let mut ha = fleet(2, by, &[]);
        ha.create("alice");
        let (leader, term) = ha.use_leader();
        ha.to_postgres(leader).cut(Cut::All);
        let under_way = ha.fleet.create_in_background(Fleet::request("early"));
        let (next, _) = ha.until_leader_after(term);
        assert_ne!(next, leader);
        ha.use_coordinator(next);
        ha.create("bob");
        let cut_off = ha.fleet.join(under_way);
        ha.to_postgres(leader).cut(Cut::None);
        eventually("the old leader follows", || {
            ha.use_coordinator(leader);
            ha.fleet.create(Fleet::request("carol")).is_ok() || ha.fleet.phase("carol").is_some()
        });
        assert!(cut_off.is_ok() == ha.fleet.phase("early").is_some() || cut_off.is_err(), "{cut_off:?}");
        settle(&ha.fleet);
        assert_eq!(creates(&ha) as usize, ha.fleet.list().len());
    }
}

#[test]
fn a_leader_without_etcd_is_replaced_by_one_that_has_it_and_nothing_is_done_twice() {
    let mut ha = fleet(2, By::Etcd, &[]);
    let (leader, term) = ha.use_leader();
    ha.to_etcd(leader).cut(Cut::All);
    let running: Vec<_> = (0..6).map(|i| ha.fleet.create_in_background(Fleet::request(&format!("user{i}")))).collect();
    let (next, later) = ha.until_leader_after(term);
    assert_ne!(next, leader);
    let mut acknowledged = 0;
    for create in running {
        acknowledged += usize::from(ha.fleet.join(create).is_ok());
    }
    ha.create("bob");
    settle(&ha.fleet);
    assert!(ha.fleet.list().len() > acknowledged);
    assert_eq!(creates(&ha) as usize, ha.fleet.list().len());
    // All lose it: the leader goes on.
    for index in 0..3 {
        ha.to_etcd(index).cut(Cut::All);
    }
    std::thread::sleep(2 * LEASE);
    ha.fleet.create(Fleet::request("carol")).unwrap();
    assert_eq!(ha.leader(), Some((next, later)));
    for index in 0..3 {
        ha.to_etcd(index).cut(Cut::None);
    }
    settle(&ha.fleet);
}

#[test]
fn an_etcd_that_restarts_costs_no_leader_its_place() {
    let mut ha = fleet(1, By::Etcd, &[]);
    ha.create("alice");
    let before = ha.use_leader();
    ha.restart_etcd();
    // What was not renewed would be gone by then, and another would lead.
    std::thread::sleep(3 * LEASE);
    ha.fleet.create(Fleet::request("bob")).unwrap();
    assert_eq!(ha.leader(), Some(before));
    settle(&ha.fleet);
}

#[test]
fn a_create_that_a_follower_passed_on_outlives_a_leader_that_dies_and_is_back_at_once() {
    let mut ha = fleet(1, By::Sql, &[]);
    let (leader, term) = ha.use_leader();
    let host = ha.fleet.nodes[0].host.clone();
    host.set_ssh_answers(false);
    ha.use_coordinator((leader + 1) % 3);
    let request = Fleet::request("alice");
    let under_way = ha.fleet.create_in_background(request.clone());
    eventually("it is being made", || host.creates() == 1);
    ha.kill(leader);
    // Whoever asked hears that it should ask again, and of no defect.
    let broken = ha.fleet.join(under_way).unwrap_err();
    assert_eq!(refusal(&broken).reason, Reason::NotReady, "{broken:?}");
    // The row still names the one that died, which answers again, and knows nothing.
    ha.start(leader);
    host.set_ssh_answers(true);
    let began = Instant::now();
    ha.fleet.create(request).unwrap();
    let found = began.elapsed();
    println!("{found:.2?} until a follower found who leads after {leader}, lease {LEASE:?}");
    // Kept waiting by the one that died it would be ten seconds.
    assert!(found < LEASE + Duration::from_secs(5), "{found:?}");
    assert!(ha.until_leader_after(term).1 > term);
    assert_eq!(host.creates(), 1);
    settle(&ha.fleet);
}

#[test]
fn a_leader_that_reaches_half_of_its_nodes_places_on_those_and_moves_nothing_that_ran() {
    // A busy machine must not make another one lead meanwhile, which would reach all nodes.
    let mut ha = fleet(4, By::Sql, &["--lease", "30s"]);
    for index in 0..4 {
        ha.create(&format!("user{index}"));
    }
    let (leader, term) = ha.use_leader();
    ha.cut_off_nodes(leader, |node| node < 2);
    ha.fleet.until_node("jump-1", containarium_proto::v1::Availability::Offline);
    ha.fleet.until_node("jump-2", containarium_proto::v1::Availability::Offline);
    let before = ha.fleet.list();
    assert_eq!(before.iter().filter(|c| c.phase() == Phase::Unreachable).count(), 2);
    for index in 4..8 {
        let node = ha.fleet.create(Fleet::request(&format!("user{index}"))).unwrap().container.unwrap().node;
        assert!(["jump-3", "jump-4"].contains(&node.as_str()), "{node}");
    }
    // The next leader has all of them again.
    assert!(ha.stop(leader));
    ha.until_leader_after(term);
    ha.use_leader();
    settle(&ha.fleet);
    assert_eq!(creates(&ha), 8);
}

#[test]
fn without_a_leader_a_look_is_answered_from_the_database_and_a_change_is_refused() {
    let mut ha = fleet(1, By::Etcd, &[]);
    ha.create("alice");
    let (leader, _) = ha.use_leader();
    // Nobody can win without etcd.
    for index in 0..3 {
        ha.to_etcd(index).cut(Cut::All);
    }
    ha.kill(leader);
    ha.use_coordinator((leader + 1) % 3);
    assert_eq!(ha.fleet.list().len(), 1);
    let refused = refusal(&ha.fleet.create(Fleet::request("bob")).unwrap_err());
    assert_eq!(refused.reason, Reason::NotReady);
    for index in 0..3 {
        ha.to_etcd(index).cut(Cut::None);
    }
    ha.create_persistently(&Fleet::request("bob"));
    settle(&ha.fleet);
}

#[test]
fn the_command_line_finds_its_way_through_any_coordinator() {
    let mut ha = fleet(1, By::Sql, &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let certs = ha.certs();
    let servers = ha.servers();
    let run = |line: &str| {
        let words = ["containarium", "--server", &servers, "--certs-dir", certs.to_str().unwrap()];
        let line = words.into_iter().chain(line.split_whitespace()).map(OsString::from).collect::<Vec<_>>();
        runtime.block_on(containarium_cli::run(line))
    };
    let key = certs.join("key.pub");
    std::fs::write(&key, include_str!("../../proto/src/keys/testdata/ed25519.pub")).unwrap();
    assert_eq!(run(&format!("create alice --ssh-key {}", key.display())), 0);
    // One that is connected to and never answers, and one that is gone.
    let (leader, term) = ha.use_leader();
    ha.signal(leader, "STOP");
    ha.until_leader_after(term);
    assert_eq!(run("list"), 0);
    ha.kill(leader);
    assert_eq!(run("stop alice"), 0);
    ha.use_leader();
    assert_eq!(ha.fleet.phase("alice"), Some(Phase::Stopped));
    assert_eq!(run("delete alice --force"), 0);
    settle(&ha.fleet);
}
