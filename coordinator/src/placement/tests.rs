use containarium_proto::sizes::Bytes;
use proptest::prelude::*;

use super::{room::allocatable, *};

const IMAGE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn image() -> Fingerprint {
    IMAGE.parse().unwrap()
}

fn node(index: u8) -> Candidate {
    Candidate {
        name: format!("jump-{index}").parse().unwrap(),
        availability: Availability::Online,
        policy: Policy::Active,
        problem: None,
        capacity: Some(Capacity {
            cpus: 8,
            memory: Bytes(32 << 30),
            memory_used: Bytes(1 << 30),
            disk: Bytes(500_000_000_000),
            disk_used: Bytes(0),
        }),
        network: Some((format!("10.100.{index}.0/24").parse().unwrap(), [10, 100, index, 1].into())),
        images: vec![Image { alias: "containarium".into(), fingerprint: image() }],
        reserved: Resources::default(),
        addresses: BTreeSet::new(),
        settings: NodeSettings::default(),
        labels: Labels::default(),
    }
}

fn demand(cpu_millis: u64, memory_bytes: u64, disk_bytes: u64) -> Demand {
    let resources = Resources { cpu_millis, memory_bytes, disk_bytes };
    Demand { resources, cpu: Cpu::Count(1), image: Some(image()), labels: Labels::default() }
}

fn usual() -> Demand {
    demand(2000, 2 << 30, 20_000_000_000)
}

fn labels(text: &str) -> Labels {
    Labels::of(text.split_whitespace().map(|label| label.parse().unwrap())).unwrap()
}

/// One node's answer.
fn fit(demand: &Demand, node: &Candidate, overcommit: &Overcommit) -> Result<Fit, String> {
    judge(demand, std::slice::from_ref(node), overcommit).remove(0).fit
}

fn why_not(spoil: impl FnOnce(&mut Candidate)) -> String {
    let mut candidate = node(1);
    spoil(&mut candidate);
    fit(&usual(), &candidate, &Overcommit::default()).unwrap_err()
}

#[test]
fn every_refusal_has_its_words() {
    assert_eq!(why_not(|n| n.availability = Availability::Unknown), "has not been heard from yet");
    assert_eq!(why_not(|n| n.availability = Availability::Suspect), "did not answer the last call");
    assert_eq!(why_not(|n| n.availability = Availability::Offline), "is offline");
    assert_eq!(why_not(|n| n.availability = Availability::Preempting), "is about to be taken away");
    assert_eq!(why_not(|n| n.policy = Policy::Cordoned), "is cordoned");
    assert_eq!(why_not(|n| n.policy = Policy::Draining), "is being drained");
    assert_eq!(why_not(|n| n.policy = Policy::Retired), "is retired");
    assert_eq!(why_not(|n| n.problem = Some("overlaps".into())), "overlaps");
    assert_eq!(why_not(|n| n.capacity = None), "has not reported its size yet");
    assert_eq!(why_not(|n| n.images.clear()), "does not have image aaaaaaaaaaaa");
    let full = why_not(|n| n.reserved.cpu_millis = 31_000);
    assert_eq!(full, "has no room: cpu needs 2, 1 free of 32");
    let full = why_not(|n| n.reserved.disk_bytes = 460_000_000_000);
    assert_eq!(full, "has no room: disk needs 20GB, 15GB free of 475GB");
    let full = why_not(|n| n.capacity.as_mut().unwrap().disk_used = Bytes(470_000_000_000));
    assert_eq!(full, "has no room: disk needs 20GB, 5GB free of 475GB", "used by others counts too");
    let none_free = why_not(|n| {
        n.network = Some(("10.0.0.0/30".parse().unwrap(), [10, 0, 0, 1].into()));
        n.addresses.insert([10, 0, 0, 2].into());
    });
    assert_eq!(none_free, "has no free address left in 10.0.0.0/30");
    let most = Overcommit { max_containers_per_node: 0, ..Overcommit::default() };
    assert_eq!(fit(&usual(), &node(1), &most).unwrap_err(), "holds 0 containers, the most it may");
}

#[test]
fn labels_that_are_wanted_must_all_be_carried() {
    let wanting = |wanted: &str| Demand { labels: labels(wanted), ..usual() };
    let with = |carried: &str| Candidate { labels: labels(carried), ..node(1) };
    let answer = |wanted, carried| fit(&wanting(wanted), &with(carried), &Overcommit::default()).map(drop);
    assert_eq!(answer("", "gpu=true"), Ok(()));
    assert_eq!(answer("gpu=true", "gpu=true zone=a"), Ok(()));
    assert_eq!(answer("gpu=true", ""), Err("does not carry label gpu=true".to_owned()));
    assert_eq!(answer("gpu=true zone=a", "gpu=false"), Err("does not carry label gpu=true, zone=a".to_owned()));
}

#[test]
fn what_a_node_says_of_itself_goes_before_what_the_fleet_says() {
    let fleet = Overcommit::default();
    let own = |settings| Candidate { settings, ..node(1) };
    let capped = own(NodeSettings { max_containers: Some(0), ..NodeSettings::default() });
    assert_eq!(fit(&usual(), &capped, &fleet).unwrap_err(), "holds 0 containers, the most it may");
    let strict = own(NodeSettings { overcommit_cpu: Some("0.5".parse().unwrap()), ..NodeSettings::default() });
    let why = fit(&demand(5000, 1 << 30, 2_000_000_000), &strict, &fleet).unwrap_err();
    assert_eq!(why, "has no room: cpu needs 5, 4 free of 4");
    let all = Some(Bytes(u64::MAX));
    let kept = own(NodeSettings { headroom_memory: all, headroom_disk: all, ..NodeSettings::default() });
    assert_eq!(fit(&usual(), &kept, &fleet).unwrap_err(), "has no room: memory needs 2GiB, 0B free of 0B");
    let generous = Overcommit { headroom_memory: Some(Bytes(0)), headroom_disk: Some(Bytes(0)), ..fleet };
    let promised = allocatable(node(1).capacity.unwrap(), &generous);
    assert_eq!((promised.memory_bytes, promised.disk_bytes), (48 << 30, 500_000_000_000));
    assert!(room_to_grow(Resources::default(), usual().resources, &strict, &fleet).is_ok());
    assert!(room_to_grow(Resources::default(), usual().resources, &kept, &fleet).is_err());
}

#[test]
fn addresses_skip_network_gateway_and_broadcast() {
    let network: Ipv4Net = "10.0.0.0/29".parse().unwrap();
    let gateway = Ipv4Addr::new(10, 0, 0, 1);
    let mut used = BTreeSet::new();
    for last in 2..=6 {
        assert_eq!(lowest_free(network, gateway, &used), Some([10, 0, 0, last].into()));
        used.insert(Ipv4Addr::new(10, 0, 0, last));
    }
    assert_eq!(lowest_free(network, gateway, &used), None);
    used.remove(&Ipv4Addr::new(10, 0, 0, 4));
    assert_eq!(lowest_free(network, gateway, &used), Some([10, 0, 0, 4].into()));
}

/// Places as many as asked, one after the other; gives how many each node got.
fn fill(nodes: &mut [Candidate], demand: &Demand, count: usize) -> Vec<usize> {
    for _ in 0..count {
        if place(nodes, demand).is_none() {
            break;
        }
    }
    nodes.iter().map(|n| n.addresses.len()).collect()
}

/// Where it went.
fn place(nodes: &mut [Candidate], demand: &Demand) -> Option<NodeName> {
    let verdicts = judge(demand, nodes, &Overcommit::default());
    let (name, fit) = verdicts.into_iter().find_map(|v| v.fit.ok().map(|f| (v.node, f)))?;
    let chosen = nodes.iter_mut().find(|n| n.name == name).unwrap();
    chosen.reserved = chosen.reserved.plus(demand.resources);
    assert!(chosen.addresses.insert(fit.address));
    Some(name)
}

/// CPUs, GiB of memory, GB of disk.
fn sized(index: u8, cpus: u32, memory: u64, disk: u64) -> Candidate {
    let (memory, disk) = (Bytes(memory << 30), Bytes(disk * 1_000_000_000));
    Candidate { capacity: Some(Capacity { cpus, memory, disk, ..Capacity::default() }), ..node(index) }
}

/// Sixty people of one to eight CPUs, as many GiB, and 10 to 100 GB.
fn sixty() -> Vec<Demand> {
    let one = |i: u64| {
        let (cpus, memory) = (1 + i * 5 % 8, 1 + (i * 3 + i / 8) % 8);
        demand(cpus * 1000, memory << 30, (10 + 10 * ((i * 7 + i / 10) % 10)) * 1_000_000_000)
    };
    (0..60).map(one).collect()
}

/// In thousandths, between the fullest and the emptiest.
fn gap(nodes: &[Candidate]) -> u32 {
    let loads = nodes.iter().map(|n| load_now(n, &Overcommit::default()));
    loads.clone().max().unwrap() - loads.min().unwrap()
}

/// Another order of the same, from a seed: Fisher and Yates, with Knuth's generator.
fn shuffled(mut demands: Vec<Demand>, seed: u64) -> Vec<Demand> {
    let mut state = seed;
    for i in (1..demands.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        demands.swap(i, usize::try_from((state >> 33) % (i as u64 + 1)).unwrap());
    }
    demands
}

/// Where each of many goes, and how far apart the nodes are in the end.
fn burst(mut nodes: Vec<Candidate>, demands: &[Demand]) -> (Vec<Option<NodeName>>, u32) {
    let went = demands.iter().map(|demand| place(&mut nodes, demand)).collect();
    (went, gap(&nodes))
}

#[test]
fn sixty_of_mixed_sizes_leave_three_unequal_nodes_within_five_points() {
    // One person at the most takes 8 of 160 promised CPUs, a twentieth, of the smallest: then no order of arrival is
    // worse than that, since the emptiest always takes what would go beyond on another.
    let fleet = || vec![sized(1, 40, 128, 2400), sized(2, 64, 192, 3600), sized(3, 80, 256, 4800)];
    for seed in 0..200 {
        let (went, gap) = burst(fleet(), &shuffled(sixty(), seed));
        assert!(went.iter().all(Option::is_some));
        assert!(gap <= 50, "seed {seed}: {gap}");
    }
}

#[test]
fn on_nodes_that_one_person_moves_by_eight_points_most_bursts_still_end_within_five() {
    let fleet = || vec![sized(1, 24, 96, 1500), sized(2, 40, 160, 3000), sized(3, 64, 256, 4000)];
    let gaps: Vec<u32> = (0..200).map(|seed| burst(fleet(), &shuffled(sixty(), seed)).1).collect();
    let within = gaps.iter().filter(|gap| **gap <= 50).count();
    assert!(within >= 190, "{within} of 200: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 84), "{gaps:?}");
}

#[test]
fn the_same_burst_goes_the_same_way() {
    let fleet = || vec![sized(1, 40, 128, 2400), sized(2, 64, 192, 3600), sized(3, 80, 256, 4800)];
    let first = burst(fleet(), &sixty());
    let mut other_order = fleet();
    other_order.reverse();
    assert_eq!(first, burst(other_order, &sixty()));
}

#[test]
fn every_verdict_says_what_decided() {
    let why = |nodes: &[Candidate], pinned: Option<&str>| {
        let pinned = pinned.map(|name| name.parse().unwrap());
        let verdicts = judge(&usual(), nodes, &Overcommit::default());
        let one = |v: &Verdict| format!("{} {}", v.node, explain(v, &verdicts, pinned.as_ref()));
        verdicts.iter().map(one).collect::<Vec<_>>()
    };
    let at = |mut node: Candidate, cpus: u64, containers: u8| {
        node.reserved.cpu_millis = cpus * 1000;
        node.addresses = (0..containers).map(|i| Ipv4Addr::new(10, 100, 9, 2 + i)).collect();
        node
    };
    let alone = why(&[node(1), at(node(2), 31, 9)], None);
    assert_eq!(alone[0], "jump-1 chosen: no other node fits; fullest of the three would be memory 6.4%");
    assert_eq!(alone[1], "jump-2 has no room: cpu needs 2, 1 free of 32");

    let apart = why(&[at(node(1), 8, 4), at(node(2), 16, 8)], None);
    let end = "; fullest of the three would be cpu";
    assert_eq!(apart[0], format!("jump-1 chosen: leaves fullest and emptiest 18.80% apart, jump-2 31.20%{end} 31.2%"));
    let other = "would leave fullest and emptiest 31.20% apart, jump-1 18.80%";
    assert_eq!(apart[1], format!("jump-2 not chosen: {other}{end} 56.2%"));
    let pinned = why(&[at(node(1), 8, 4), at(node(2), 16, 8)], Some("jump-2"));
    assert_eq!(pinned[0], format!("jump-1 not chosen: jump-2 was asked for{end} 31.2%"));
    assert_eq!(pinned[1], format!("jump-2 chosen: it was asked for{end} 56.2%"));

    let fewer = why(&[at(node(1), 8, 4), at(node(2), 8, 3)], None);
    assert_eq!(
        fewer[0],
        format!("jump-2 chosen: as loaded as jump-1, and holds fewer containers: 3, jump-1 4{end} 31.2%")
    );
    assert_eq!(
        fewer[1],
        format!("jump-1 not chosen: as loaded as jump-2, but holds more containers: 4, jump-2 3{end} 31.2%")
    );
    let tie = why(&[at(node(1), 8, 4), at(node(2), 8, 4)], None);
    assert_eq!(tie[0], format!("jump-1 chosen: equal to jump-2, and first by name{end} 31.2%"));
    assert_eq!(tie[1], format!("jump-2 not chosen: equal to jump-1, which is first by name{end} 31.2%"));
    // With a third one fuller than both, and both as empty, the nodes are as even either way.
    let loaded = why(&[sized(1, 8, 32, 500), sized(2, 16, 64, 1000), at(node(3), 26, 9)], None);
    assert!(
        loaded[0].starts_with("jump-2 chosen: as even as jump-1, and less loaded: 3.10%, jump-1 6.2"),
        "{loaded:?}"
    );
    assert!(loaded[1].starts_with("jump-1 not chosen: as even as jump-2, but more loaded: 6.2"), "{loaded:?}");
}

#[test]
fn equal_nodes_fill_evenly_even_if_what_they_report_wobbles() {
    let mut nodes: Vec<_> = (1..=3).map(node).collect();
    assert_eq!(fill(&mut nodes, &usual(), 12), [4, 4, 4]);
    let mut nodes: Vec<_> = (1..=3).map(node).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        // Half the memory in use by others: the load of the first containers is all theirs.
        node.capacity.as_mut().unwrap().memory_used = Bytes((16 << 30) + (index as u64) * (100 << 20));
    }
    assert_eq!(fill(&mut nodes, &demand(100, 256 << 20, 2_000_000_000), 6), [2, 2, 2]);
}

#[test]
fn the_larger_node_takes_more() {
    let mut nodes = [node(1), node(2)];
    nodes[1].capacity = nodes[1].capacity.map(|c| Capacity { cpus: 24, memory: Bytes(96 << 30), ..c });
    let got = fill(&mut nodes, &demand(2000, 2 << 30, 2_000_000_000), 20);
    assert_eq!(got, [5, 15]);
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let sizes = (1u32..64, 1u64..128, 10u64..2000, 0u64..64, 0u64..500);
    (1u8..30, sizes, (0u64..64, 0u64..64, 0u64..500), 0u8..4, 0usize..20).prop_map(
        |(index, sizes, taken, state, held)| {
            let (cpus, memory, disk, memory_used, disk_used) = sizes;
            let mut candidate = node(index);
            candidate.capacity = Some(Capacity {
                cpus,
                memory: Bytes(memory << 30),
                memory_used: Bytes(memory_used << 30),
                disk: Bytes(disk * 1_000_000_000),
                disk_used: Bytes(disk_used * 1_000_000_000),
            });
            candidate.reserved = Resources {
                cpu_millis: taken.0 * 1000,
                memory_bytes: taken.1 << 30,
                disk_bytes: taken.2 * 1_000_000_000,
            };
            candidate.addresses = (0..held).map(|i| Ipv4Addr::new(10, 100, index, 2 + i as u8)).collect();
            if state == 0 {
                candidate.policy = Policy::Cordoned;
            }
            candidate
        },
    )
}

proptest! {
    #[test]
    fn never_beyond_what_may_be_promised_and_the_order_of_nodes_does_not_matter(
        nodes in prop::collection::btree_map(1u8..30, any_candidate(), 1..8),
        (cpu, memory, disk) in (10u64..16_000, 128u64..32_000, 2u64..400),
        seed in any::<u64>(),
    ) {
        let mut nodes: Vec<_> = nodes.into_values().collect();
        nodes.dedup_by(|a, b| a.name == b.name);
        let mut seen = BTreeSet::new();
        nodes.retain(|n| seen.insert(n.name.clone()));
        let demand = demand(cpu, memory << 20, disk * 1_000_000_000);
        let overcommit = Overcommit::default();
        let verdicts = judge(&demand, &nodes, &overcommit);
        prop_assert_eq!(verdicts.len(), nodes.len());
        for verdict in &verdicts {
            let node = nodes.iter().find(|n| n.name == verdict.node).unwrap();
            let Ok(fit) = &verdict.fit else { continue };
            let limit = allocatable(node.capacity.unwrap(), &overcommit);
            let after = node.reserved.plus(demand.resources);
            prop_assert!(after.cpu_millis <= limit.cpu_millis);
            prop_assert!(after.memory_bytes <= limit.memory_bytes);
            prop_assert!(after.disk_bytes <= limit.disk_bytes);
            prop_assert!(verdict.load_permille() <= 1000);
            prop_assert!(node.policy == Policy::Active && !node.addresses.contains(&fit.address));
        }
        prop_assert_eq!(&verdicts, &judge(&demand, &nodes, &overcommit));
        let by = usize::try_from(seed % nodes.len() as u64).unwrap();
        nodes.rotate_left(by);
        prop_assert_eq!(&verdicts, &judge(&demand, &nodes, &overcommit));
        nodes.reverse();
        prop_assert_eq!(&verdicts, &judge(&demand, &nodes, &overcommit));
    }
}
