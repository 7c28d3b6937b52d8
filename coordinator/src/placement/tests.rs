use proptest::prelude::*;

use super::*;

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
    }
}

fn demand(cpu_millis: u64, memory_bytes: u64, disk_bytes: u64) -> Demand {
    Demand { resources: Resources { cpu_millis, memory_bytes, disk_bytes }, cpu: Cpu::Count(1), image: Some(image()) }
}

fn usual() -> Demand {
    demand(2000, 2 << 30, 20_000_000_000)
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
        let verdicts = judge(demand, nodes, &Overcommit::default());
        let Some((name, fit)) = verdicts.into_iter().find_map(|v| v.fit.ok().map(|f| (v.node, f))) else { break };
        let chosen = nodes.iter_mut().find(|n| n.name == name).unwrap();
        chosen.reserved = chosen.reserved.plus(demand.resources);
        assert!(chosen.addresses.insert(fit.address));
    }
    nodes.iter().map(|n| n.addresses.len()).collect()
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
            prop_assert!(fit.load_permille <= 1000);
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
