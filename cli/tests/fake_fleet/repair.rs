//! `repair`, and how what was changed behind the fleet's back is shown.

use containarium_proto::v1;

use crate::support::{Coordinator, Step, container, progress};

fn drifted() -> v1::Container {
    let line = "limits.memory is 1073741824, ordered 2147483648";
    v1::Container {
        phase: v1::Phase::Drifted.into(),
        detail: line.into(),
        drift: vec![line.into()],
        ..container("alice", "10.100.1.2")
    }
}

#[test]
fn a_drift_is_listed_filtered_by_and_told_in_full() {
    let fleet = Coordinator::with([drifted(), container("bob", "10.100.1.3")]);
    let listed = fleet.cli("list --status drifted").run().ok();
    assert!(listed.contains("Drifted") && !listed.contains("bob"), "{listed}");
    assert!(fleet.cli("info alice").run().ok().contains("limits.memory is 1073741824, ordered 2147483648"));
    let json: serde_json::Value = serde_json::from_str(&fleet.cli("info alice -o json").run().ok()).unwrap();
    assert_eq!(json["container"]["status"], "Drifted");
    assert_eq!(json["container"]["drift"][0], "limits.memory is 1073741824, ordered 2147483648");
}

#[test]
fn a_repair_says_what_it_is_now_and_asks_once_under_an_id() {
    let last = v1::Progress { container: Some(container("alice", "10.100.1.2")), ..progress(0, 0, "as ordered") };
    let script = vec![Step::say(progress(1, 3, "writing back what was ordered")), Step::say(last)];
    let fleet = Coordinator::scripted(drifted(), [script]);
    let outcome = fleet.cli("repair alice-container").run();
    assert!(outcome.stderr.contains("[1/3] writing back"), "{outcome:?}");
    assert_eq!(outcome.ok(), "alice-container is Running\n");
    let state = fleet.state();
    assert_eq!(state.repairs.len(), 1);
    assert_eq!(state.repairs[0].user, "alice");
    assert!(!state.repairs[0].request_id.is_empty());
}
