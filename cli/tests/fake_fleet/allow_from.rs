//! Who may reach a machine over the network: `set --allow-from`, the same on `create`, and what `info` says of it.

use containarium_proto::v1;
use serde_json::Value;

use crate::support::{ALICE_KEY, Coordinator, container, created};

#[test]
fn set_asks_for_exactly_these_or_nobody() {
    let cases = [("bob,carol", vec!["bob", "carol"], "bob, carol"), ("none", vec![], "nobody")];
    for (flag, wanted, shown) in cases {
        let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
        let said = fleet.cli(&format!("set alice-container --allow-from {flag}")).run().ok();
        assert_eq!(said, format!("alice-container: reachable from the machines of {shown}\n"));
        let json: Value =
            serde_json::from_str(&fleet.cli(&format!("set alice --allow-from {flag} -o json")).run().ok()).unwrap();
        assert_eq!(json["allow_from"], serde_json::json!(wanted));
        let asked = fleet.state().allowed.clone();
        assert_eq!(asked[0], v1::SetAllowFromRequest { user: "alice".into(), allow_from: asked[1].allow_from.clone() });
        assert_eq!(asked[0].allow_from, wanted);
    }
}

#[test]
fn what_means_two_things_is_refused_before_anything_is_asked() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for (line, word) in [
        ("set alice --allow-from bob,none", "none goes with no other"),
        ("set alice --allow-from Bob", "Bob"),
        ("set alice --allow-from ../x", "../x"),
        ("set alice --allow-from bob --ttl 8h", "--allow-from"),
        ("set alice --allow-from", "--allow-from"),
    ] {
        let said = fleet.cli(line).run();
        assert_eq!(said.code, 2, "{line}: {said:?}");
        assert!(said.stderr.contains(word), "{line}: {said:?}");
    }
    assert!(fleet.state().allowed.is_empty() && fleet.state().lifetimes.is_empty());
}

#[test]
fn create_takes_it_and_info_shows_it() {
    let open = v1::Container { allow_from: vec!["bob".into(), "carol".into()], ..container("alice", "10.100.1.2") };
    let fleet = Coordinator::scripted(open.clone(), [created(&open)]);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    fleet.cli("create alice --ssh-key HERE/alice.pub --allow-from bob,carol").run().ok();
    assert_eq!(fleet.state().creates[0].allow_from, ["bob", "carol"]);
    let fleet = Coordinator::with([open]);
    assert!(fleet.cli("info alice").run().ok().contains("bob carol"));
}
