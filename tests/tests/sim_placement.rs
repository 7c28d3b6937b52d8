//! Placement on the simulated fleet: who goes where, that nobody goes where there is no room, and that the reasons are
//! told. Everything is real but the machines below the agents.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    convert,
    cpu::Cpu,
    error::Reason,
    sizes::Bytes,
    spec::Capacity,
    v1::{self, Availability},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

/// Five points of a hundred.
const FIVE_POINTS: u32 = 50;

/// CPUs, GiB of memory and GB of disk of each node.
fn fleet_of(sizes: &[(u32, u64, u64)]) -> Fleet {
    let host = |(index, (cpus, memory, disk)): (usize, &(u32, u64, u64))| {
        let capacity = Capacity {
            cpus: *cpus,
            memory: Bytes(memory << 30),
            memory_used: Bytes(1 << 30),
            disk: Bytes(disk * 1_000_000_000),
            disk_used: Bytes(1_000_000_000),
        };
        SimHost::new(format!("10.100.{}.0/24", index + 1).parse().unwrap()).with_capacity(capacity)
    };
    Fleet::of(sizes.iter().enumerate().map(host).collect())
}

/// One, one and a half, and twice as large. A person takes at most a twentieth of the smallest.
fn three_of_different_sizes() -> Fleet {
    fleet_of(&[(40, 128, 2400), (64, 192, 3600), (80, 256, 4800)])
}

/// Sixty people of one to eight CPUs, as many GiB of memory, and 10 to 100 GB of disk.
fn sixty() -> Vec<v1::CreateContainerRequest> {
    let one = |i: u64| {
        let cpus = u32::try_from(1 + i * 5 % 8).unwrap();
        v1::CreateContainerRequest {
            cpu: Some(convert::cpu_to_wire(&Cpu::Count(cpus))),
            memory_bytes: Some((1 + (i * 3 + i / 8) % 8) << 30),
            disk_bytes: Some((10 + 10 * ((i * 7 + i / 10) % 10)) * 1_000_000_000),
            ..Fleet::request(&format!("user-{i}"))
        }
    };
    (0..60).map(one).collect()
}

/// Where everybody is.
fn placements(fleet: &Fleet) -> BTreeMap<String, String> {
    fleet.list().into_iter().map(|c| (c.user, c.node)).collect()
}

fn per_node(fleet: &Fleet) -> BTreeMap<String, u32> {
    fleet.list_nodes().into_iter().map(|node| (node.name, node.containers)).collect()
}

/// Prints how full every node is, in percent, and gives the points of a thousand between fullest and emptiest.
fn gap(fleet: &Fleet, what: &str) -> u32 {
    let nodes = fleet.list_nodes();
    for node in &nodes {
        let percent = |permille: u32| format!("{}.{}%", permille / 10, permille % 10);
        let each: Vec<_> =
            node.loads.iter().map(|load| format!("{} {}", load.resource, percent(load.permille))).collect();
        let (load, count) = (percent(node.load_permille), node.containers);
        println!("{what}: {} is at {load} with {count} containers ({})", node.name, each.join(", "));
    }
    let loads = nodes.iter().map(|node| node.load_permille);
    loads.clone().max().unwrap() - loads.min().unwrap()
}

/// I2, by what the coordinator says of itself.
fn within_limits(fleet: &Fleet) {
    for node in fleet.list_nodes() {
        assert_eq!(node.loads.len(), 3, "{}", node.name);
        for load in &node.loads {
            assert!(load.reserved <= load.allocatable, "{}: {load:?}", node.name);
        }
        assert!(node.containers <= node.effective.unwrap().max_containers.unwrap(), "{}", node.name);
    }
}

#[test]
fn sixty_people_one_after_another_fill_unequal_nodes_evenly_and_the_same_way_again() {
    let run = || {
        let fleet = three_of_different_sizes();
        for request in sixty() {
            fleet.create(request).unwrap();
        }
        settle(&fleet);
        within_limits(&fleet);
        let gap = gap(&fleet, "one after another");
        assert!(gap <= FIVE_POINTS, "{gap}");
        placements(&fleet)
    };
    let first = run();
    assert_eq!(first.len(), 60);
    assert_eq!(first, run(), "a second fleet places everybody where the first did");
}

#[test]
fn sixty_people_at_once_fill_unequal_nodes_evenly() {
    let fleet = three_of_different_sizes();
    for outcome in fleet.create_all(sixty()) {
        outcome.unwrap();
    }
    settle(&fleet);
    within_limits(&fleet);
    let gap = gap(&fleet, "at once");
    assert!(gap <= FIVE_POINTS, "{gap}");
}

#[test]
fn a_burst_that_is_larger_than_the_fleet_fills_it_and_never_overfills_it() {
    let fleet = fleet_of(&[(8, 32, 500), (12, 48, 700), (16, 64, 1000)]);
    let (made, refused): (Vec<_>, Vec<_>) = fleet.create_all(sixty()).into_iter().partition(Result::is_ok);
    assert_eq!(fleet.list().len(), made.len());
    assert!(!made.is_empty() && !refused.is_empty());
    for status in refused.into_iter().map(Result::unwrap_err) {
        let refusal = refusal(&status);
        assert_eq!(refusal.reason, Reason::NoCapacity);
        assert!((1..=3).all(|i| refusal.message.contains(&format!("jump-{i} has no room: "))), "{refusal}");
    }
    settle(&fleet);
    within_limits(&fleet);
    gap(&fleet, "more than fits");
}

#[test]
fn a_cap_on_containers_holds_under_a_burst() {
    let fleet = Fleet::of_nodes(2);
    let capped = |max: u32| v1::ConfigureNodeRequest {
        name: "jump-1".to_owned(),
        settings: Some(v1::NodeSettings { max_containers: Some(max), ..Default::default() }),
        ..Default::default()
    };
    fleet.configure_node(capped(3)).unwrap();
    fleet.configure_node(v1::ConfigureNodeRequest { name: "jump-2".to_owned(), ..capped(5) }).unwrap();
    let requests = (1..=20).map(|i| Fleet::request(&format!("user-{i}"))).collect();
    let (made, refused): (Vec<_>, Vec<_>) = fleet.create_all(requests).into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (8, 12));
    assert_eq!(per_node(&fleet), [("jump-1".to_owned(), 3), ("jump-2".to_owned(), 5)].into());
    for status in refused.into_iter().map(Result::unwrap_err) {
        let refusal = refusal(&status);
        assert!(refusal.message.contains("jump-1 holds 3 containers, the most it may"), "{refusal}");
        assert!(refusal.message.contains("jump-2 holds 5 containers, the most it may"), "{refusal}");
    }
    fleet.configure_node(capped(4)).unwrap();
    assert_eq!(fleet.create(Fleet::request("late")).unwrap().container.unwrap().node, "jump-1");
    settle(&fleet);
}

#[test]
fn labels_hold_under_a_burst_and_after_it() {
    let mut fleet = Fleet::of_nodes(3);
    fleet.label_node("jump-1", &[("gpu", "true"), ("zone", "a")]);
    fleet.label_node("jump-2", &[("gpu", "true"), ("zone", "b")]);
    let wanting = |user: String, labels: &[(&str, &str)]| v1::CreateContainerRequest {
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Fleet::request(&user)
    };
    let gpu = (1..=10).map(|i| wanting(format!("gpu-{i}"), &[("gpu", "true")]));
    let both = (1..=4).map(|i| wanting(format!("both-{i}"), &[("gpu", "true"), ("zone", "a")]));
    let any = (1..=10).map(|i| wanting(format!("any-{i}"), &[]));
    for outcome in fleet.create_all(gpu.chain(both).chain(any).collect()) {
        outcome.unwrap();
    }
    for (user, node) in placements(&fleet) {
        assert!(!user.starts_with("gpu-") || node != "jump-3", "{user} is on {node}");
        assert!(!user.starts_with("both-") || node == "jump-1", "{user} is on {node}");
    }

    let none = wanting("nowhere".to_owned(), &[("gpu", "true"), ("zone", "c")]);
    let refused = refusal(&fleet.create(none).unwrap_err());
    assert_eq!(refused.reason, Reason::NoCapacity);
    assert!(refused.message.contains("jump-1 does not carry label zone=c; jump-2"), "{refused}");
    assert!(refused.message.contains("jump-3 does not carry label gpu=true, zone=c"), "{refused}");
    let pinned =
        v1::CreateContainerRequest { node: "jump-3".to_owned(), ..wanting("nowhere".to_owned(), &[("gpu", "true")]) };
    let refused = refusal(&fleet.create(pinned).unwrap_err());
    assert_eq!(refused.message, "jump-3 does not carry label gpu=true");
    assert_eq!(fleet.list().len(), 24, "nothing was changed");

    // Durable on both sides, and part of what a request id stands for.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.until_node("jump-1", Availability::Online);
    assert_eq!(fleet.node("jump-1").labels["zone"], "a");
    assert_eq!(fleet.list().iter().find(|c| c.user == "both-1").unwrap().labels["zone"], "a");
    let first = wanting("dave".to_owned(), &[("zone", "a")]);
    let other = v1::CreateContainerRequest { labels: BTreeMap::new(), ..first.clone() };
    assert_eq!(fleet.create(first).unwrap().container.unwrap().node, "jump-1");
    assert_eq!(refusal(&fleet.create(other).unwrap_err()).reason, Reason::InvalidArgument);
    settle(&fleet);
}

#[test]
fn a_create_that_must_be_placed_again_obeys_its_labels() {
    let slow = std::time::Duration::from_secs(3600);
    let host = |i: u8| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap());
    let mut fleet = Fleet::of(vec![host(1).with_latency(slow), host(2), host(3)]);
    fleet.label_node("jump-1", &[("gpu", "true")]);
    let gpu = v1::CreateContainerRequest {
        labels: [("gpu".to_owned(), "true".to_owned())].into(),
        ..Fleet::request("alice")
    };
    let create = fleet.create_in_background(gpu);
    eventually("alice is placed", || !fleet.list().is_empty());
    assert_eq!(fleet.list()[0].node, "jump-1");
    // jump-2 is emptier, but only jump-3 carries the label.
    fleet.label_node("jump-3", &[("gpu", "true")]);
    fleet.create(v1::CreateContainerRequest { node: "jump-3".to_owned(), ..Fleet::request("bob") }).unwrap();
    fleet.kill_agent(0);
    assert_eq!(fleet.join(create).unwrap().container.unwrap().node, "jump-3");
    fleet.nodes[0].host = fleet.nodes[0].host.clone().with_latency(std::time::Duration::ZERO);
    fleet.start_agent(0);
    settle(&fleet);
}

#[test]
fn a_create_for_a_full_node_is_refused_with_its_reason_and_changes_nothing() {
    let fleet = Fleet::of_nodes(2);
    let on = |user: &str, disk: u64| v1::CreateContainerRequest {
        node: "jump-1".to_owned(),
        disk_bytes: Some(disk * 1_000_000_000),
        ..Fleet::request(user)
    };
    fleet.create(on("alice", 940)).unwrap();
    // Not those of nodes: a slow machine adds one that was silent for a moment.
    let events = || fleet.events("").into_iter().filter(|e| !e.kind.starts_with("node.")).count();
    let before = (fleet.list(), fleet.node("jump-1"), events());
    let refused = refusal(&fleet.create(on("bob", 20)).unwrap_err());
    assert_eq!(refused.reason, Reason::NoCapacity);
    assert_eq!(refused.message, "jump-1 has no room: disk needs 20GB, 10GB free of 950GB");
    assert!(refused.hint.unwrap().contains("--node"));
    let after = fleet.node("jump-1");
    assert_eq!((fleet.list(), events()), (before.0, before.2));
    assert_eq!((after.loads, after.containers), (before.1.loads, before.1.containers));
    settle(&fleet);
    assert_eq!(fleet.create(Fleet::request("bob")).unwrap().container.unwrap().node, "jump-2");
    settle(&fleet);
}

#[test]
fn a_dry_run_and_the_list_of_nodes_say_what_decides() {
    let fleet = fleet_of(&[(16, 64, 1000), (32, 128, 2000)]);
    fleet.create(Fleet::request("alice")).unwrap();
    let dry = |request: v1::CreateContainerRequest| {
        let request = v1::CreateContainerRequest { dry_run: true, ..request };
        fleet.create(request).unwrap().verdicts
    };
    let verdicts = dry(Fleet::request("bob"));
    assert_eq!(verdicts.iter().map(|v| v.chosen).collect::<Vec<_>>(), [true, false]);
    let best = &verdicts[0];
    assert!(best.reason.starts_with("chosen: leaves fullest and emptiest "), "{}", best.reason);
    assert!(best.reason.contains("; fullest of the three would be "), "{}", best.reason);
    assert!(verdicts[1].reason.starts_with("not chosen: would leave fullest and emptiest "), "{}", verdicts[1].reason);
    assert!(best.score_permille < verdicts[1].score_permille, "{verdicts:?}");
    assert!(verdicts.iter().all(|v| v.loads.len() == 3 && v.max_containers == 250), "{verdicts:?}");
    // The list says the same of a create that says nothing.
    for node in fleet.list_nodes() {
        let same = verdicts.iter().find(|v| v.node == node.name).cloned();
        assert_eq!(node.default_create, same);
    }
    assert_eq!(fleet.create(Fleet::request("bob")).unwrap().container.unwrap().node, best.node);

    let pinned = dry(v1::CreateContainerRequest { node: verdicts[1].node.clone(), ..Fleet::request("carol") });
    let reason = |node: &str| pinned.iter().find(|v| v.node == node).unwrap().reason.clone();
    assert!(reason(&verdicts[1].node).starts_with("chosen: it was asked for; "), "{pinned:?}");
    assert!(reason(&best.node).starts_with(&format!("not chosen: {} was asked for", verdicts[1].node)), "{pinned:?}");
    settle(&fleet);
}

#[test]
fn what_a_node_does_differently_is_kept_shown_and_taken_back() {
    let mut fleet = Fleet::of_nodes(1);
    let change = |settings: v1::NodeSettings| v1::ConfigureNodeRequest {
        name: "jump-1".to_owned(),
        settings: Some(settings),
        ..Default::default()
    };
    let fleets = fleet.node("jump-1").effective.unwrap();
    let expected = v1::NodeSettings {
        overcommit_cpu_permille: Some(4000),
        overcommit_memory_permille: Some(1500),
        overcommit_disk_permille: Some(1000),
        max_containers: Some(250),
        headroom_memory_bytes: Some(1 << 30),
        headroom_disk_bytes: Some(50_000_000_000),
    };
    assert_eq!(fleets, expected);
    let own = v1::NodeSettings {
        overcommit_cpu_permille: Some(1000),
        headroom_memory_bytes: Some(62 << 30),
        ..Default::default()
    };
    fleet.configure_node(change(own)).unwrap();
    // A slow machine may add a node that was silent for a moment, so only these are counted.
    let changes = |fleet: &Fleet| -> Vec<String> {
        let events = fleet.events("jump-1").into_iter();
        events.filter(|e| e.kind == "node.settings").map(|e| e.message).collect()
    };
    assert_eq!(changes(&fleet), ["overcommit-cpu 1, headroom-memory 62GiB"]);
    fleet.configure_node(change(own)).unwrap();
    assert_eq!(changes(&fleet).len(), 1, "the same again is no change");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.until_node("jump-1", Availability::Online);
    let node = fleet.node("jump-1");
    assert_eq!(node.settings, Some(own));
    assert_eq!(
        node.effective,
        Some(v1::NodeSettings {
            max_containers: Some(250),
            ..v1::NodeSettings {
                overcommit_cpu_permille: own.overcommit_cpu_permille,
                headroom_memory_bytes: own.headroom_memory_bytes,
                ..expected
            }
        })
    );
    let big = v1::CreateContainerRequest { memory_bytes: Some(4 << 30), ..Fleet::request("alice") };
    let refused = refusal(&fleet.create(big.clone()).unwrap_err());
    assert!(refused.message.contains("memory needs 4GiB, 1GiB free of 3GiB"), "{refused}");

    for (bad, word) in [
        (v1::NodeSettings { overcommit_cpu_permille: Some(1), ..Default::default() }, "factor"),
        (v1::NodeSettings { max_containers: Some(0), ..Default::default() }, "containers"),
        (v1::NodeSettings { headroom_memory_bytes: Some(64 << 30), ..Default::default() }, "all of jump-1's memory"),
        (v1::NodeSettings::default(), "nothing to change"),
    ] {
        let refused = refusal(&fleet.configure_node(change(bad)).unwrap_err());
        assert_eq!(refused.reason, Reason::InvalidArgument, "{refused}");
        assert!(refused.message.contains(word), "{refused}");
    }
    let nowhere = v1::ConfigureNodeRequest { name: "jump-9".to_owned(), reset: true, ..Default::default() };
    assert_eq!(refusal(&fleet.configure_node(nowhere).unwrap_err()).reason, Reason::NotFound);
    let label = v1::ConfigureNodeRequest { remove_labels: vec!["gpu".to_owned()], reset: true, ..change(own) };
    assert_eq!(refusal(&fleet.configure_node(label).unwrap_err()).reason, Reason::NotFound);
    assert_eq!(fleet.node("jump-1").settings, Some(own), "all of a request or nothing");

    let reset = v1::ConfigureNodeRequest { reset: true, ..change(v1::NodeSettings::default()) };
    assert_eq!(fleet.configure_node(reset).unwrap().effective, Some(fleets));
    fleet.create(big).unwrap();
    settle(&fleet);
}
