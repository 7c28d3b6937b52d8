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
