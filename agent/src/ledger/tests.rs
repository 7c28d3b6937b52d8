use std::time::Duration;

use containarium_proto::{
    keys::KeySet,
    sizes::Bytes,
    spec::{Desired, Spec},
};

use super::*;

const KEY: &str = include_str!("../../../proto/src/keys/testdata/ed25519.pub");

fn order(id: ContainerId, generation: u64) -> Order {
    Order {
        id,
        name: "alice-container".into(),
        owner: "alice".parse().unwrap(),
        generation: Generation(generation),
        desired: Desired::Running,
        spec: Spec {
            cpu: "2".parse().unwrap(),
            memory: Bytes(2 << 30),
            disk: Bytes(20_000_000_000),
            image: "5".repeat(64).parse().unwrap(),
            autostart: true,
            restarts: 0,
            fenced: false,
        },
        address: [10, 100, 1, 2].into(),
        keys: KeySet::from_lines([KEY.trim_end()]).unwrap(),
        copy_pass: None,
        origin: None,
        guests: Vec::new(),
    }
}

/// As the coordinator orders a replica that was whole once, then its end, then a move to the same node.
#[test]
fn a_copy_that_begins_where_an_earlier_one_was_destroyed_is_not_one_that_must_be_there() {
    let ledger = Ledger::new("jump-1".parse().unwrap(), "boot".into());
    let id = ContainerId::generate();
    let pass = std::num::NonZeroU32::new(2).map(containarium_proto::node::CopyPass);
    let copy = |generation, desired| Order { desired, copy_pass: pass, ..order(id, generation) };
    ledger.accept(copy(1, Desired::Stopped), true, None).unwrap();
    assert!(ledger.must_exist(id));
    ledger.accept(copy(2, Desired::Stopped), false, None).unwrap();
    assert!(ledger.must_exist(id), "the next pass of the same copy");
    ledger.accept(copy(3, Desired::Absent), true, None).unwrap();
    ledger.accept(copy(4, Desired::Stopped), false, None).unwrap();
    assert!(!ledger.must_exist(id));
}

#[test]
fn idleness_is_reported_but_wakes_nobody_and_ends_with_the_order() {
    let ledger = Ledger::new("jump-1".parse().unwrap(), "boot".into());
    let id = ContainerId::generate();
    ledger.accept(order(id, 1), false, None).unwrap();
    assert!(ledger.running().is_empty(), "it does not run yet");
    ledger.observe(&order(id, 1), Observed::Running);
    assert_eq!(ledger.running(), [order(id, 1)]);

    let mut revision = ledger.subscribe();
    revision.mark_unchanged();
    let since = Instant::now() - Duration::from_secs(3600);
    ledger.set_idle(id, Generation(1), Some(since));
    assert!(!revision.has_changed().unwrap());
    let idle_since = ledger.accept(order(id, 1), false, None).unwrap().idle_since.unwrap();
    let hour_ago = unix_millis(since);
    assert!((idle_since - hour_ago).abs() < 1_000, "{idle_since} {hour_ago}");

    assert_eq!(ledger.accept(order(id, 2), false, None).unwrap().idle_since, None);
    ledger.set_idle(id, Generation(1), Some(since));
    ledger.observe(&order(id, 2), Observed::Running);
    assert_eq!(
        ledger.accept(order(id, 2), false, None).unwrap().idle_since,
        None,
        "that was seen under the order before"
    );
}
