//! `replicate`, `failover` and what they show.

use chrono::Utc;
use containarium_proto::v1;
use serde_json::Value;

use crate::support::{Coordinator, container};

fn replicated(user: &str, replication: v1::Replication) -> v1::Container {
    v1::Container { replication: Some(replication), ..container(user, "10.100.1.2") }
}

#[test]
fn replication_is_asked_for_with_its_interval_and_place() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for line in ["replicate on alice", "replicate on alice-container --every 1h --to jump-2", "replicate off alice"] {
        fleet.cli(line).run().ok();
    }
    let state = fleet.state();
    let asked: Vec<_> =
        state.replicas.sets.iter().map(|s| (s.user.as_str(), s.every_seconds, s.node.as_str())).collect();
    assert_eq!(asked, [("alice", 900, ""), ("alice", 3600, "jump-2"), ("alice", 0, "")]);
    assert!(state.replicas.sets.iter().all(|set| !set.request_id.is_empty()));
}

#[test]
fn a_failover_and_a_discard_ask_first_and_nobody_can_be_asked_without_a_terminal() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for line in ["failover alice", "failover alice --discard-old"] {
        let said = fleet.cli(line).run();
        assert_eq!(said.code, 9, "{said:?}");
        assert!(said.stderr.contains("--force"), "{said:?}");
    }
    assert!(fleet.state().replicas.failovers.is_empty() && fleet.state().replicas.discarded.is_empty());
    fleet.cli("failover alice --force").run().ok();
    fleet.cli("failover alice --discard-old --force").run().ok();
    let state = fleet.state();
    assert_eq!((state.replicas.failovers.len(), state.replicas.discarded.as_slice()), (1, &["alice".to_owned()][..]));
}

#[test]
fn wrong_use_sends_nothing() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for line in [
        "replicate",
        "replicate alice",
        "replicate on",
        "replicate on alice --every soon",
        "replicate on alice --every 8days",
        "replicate on alice --to ../x",
        "replicate off alice --every 15m",
        "failover",
        "failover ../x --force",
        "create bob --ssh-key x.pub --replicate soon",
    ] {
        assert_eq!(fleet.cli(line).run().code, 2, "{line}");
    }
    assert!(fleet.state().replicas.sets.is_empty() && fleet.state().replicas.failovers.is_empty());
}

#[test]
fn the_lag_is_in_the_wide_list_and_all_of_it_in_info_and_json() {
    let as_of_unix_millis = Utc::now().timestamp_millis() - 185_000;
    let whole = v1::Replication {
        every_seconds: 900,
        node: "jump-2".into(),
        as_of_unix_millis,
        old_copies: vec!["jump-3".into()],
        ..Default::default()
    };
    let first = v1::Replication { every_seconds: 900, node: "jump-2".into(), ..Default::default() };
    let nowhere =
        v1::Replication { every_seconds: 60, problem: "nowhere to keep a replica".into(), ..Default::default() };
    let fleet = Coordinator::with([replicated("alice", whole), replicated("bob", first), replicated("carol", nowhere)]);
    let wide = fleet.cli("list -o wide").run().ok();
    for expected in ["REPLICA", "jump-2, 3m old", "jump-2, not whole yet", "none yet"] {
        assert!(wide.contains(expected), "{expected}: {wide}");
    }
    let info = fleet.cli("info alice").run().ok();
    assert!(info.contains("every 15m; jump-2, 3m old; as it was at ") && info.contains("jump-3"), "{info}");
    let info = fleet.cli("info carol").run().ok();
    assert!(info.contains("every 1m; none yet; nowhere to keep a replica"), "{info}");
    let json: Value = serde_json::from_str(&fleet.cli("info alice -o json").run().ok()).unwrap();
    let replication = &json["container"]["replication"];
    assert_eq!((&replication["node"], &replication["every_seconds"]), (&"jump-2".into(), &900.into()));
    assert!(replication["lag_seconds"].as_i64().is_some_and(|lag| (185..600).contains(&lag)), "{replication}");
}
