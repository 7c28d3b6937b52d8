use super::*;
use crate::store::Policy;

fn row(name: &str, created_at: i64, cidr: Option<&str>) -> NodeRow {
    NodeRow {
        name: name.parse().unwrap(),
        address: format!("{name}:1"),
        policy: Policy::Active,
        network: cidr.map(|c| (c.parse().unwrap(), [10, 0, 0, 1].into())),
        boot_id: None,
        capacity: None,
        images: Vec::new(),
        created_at,
        drain_parallel: 2,
        settings: Default::default(),
        labels: Default::default(),
        addresses: Vec::new(),
    }
}

#[test]
fn of_two_overlapping_networks_the_newer_node_gets_nothing() {
    let rows = [
        row("b-older", 1, Some("10.0.0.0/16")),
        row("a-newer", 2, Some("10.0.7.0/24")),
        row("c-apart", 3, Some("10.1.0.0/24")),
        row("d-mute", 4, None),
    ];
    assert!(!are_apart(&rows) && are_apart(&rows[1..]) && are_apart(&[]));
    let equal = [row("one", 1, Some("10.0.0.0/24")), row("two", 2, Some("10.0.0.0/24"))];
    assert!(!are_apart(&equal));
    let problems: Vec<_> = rows.iter().map(|r| overlap(r, &rows)).collect();
    let clash = "its container network 10.0.7.0/24 overlaps 10.0.0.0/16 of b-older";
    assert_eq!(problems, [None, Some(clash.to_owned()), None, None]);
}
