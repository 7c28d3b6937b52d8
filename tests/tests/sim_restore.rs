//! An old backup of the state, restored over a fleet that has gone on: nothing is destroyed, and everything is explained.

#![allow(clippy::unwrap_used)]

use containarium_proto::{
    error::Reason,
    v1::{self, Phase},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

fn instances(fleet: &Fleet) -> Vec<String> {
    let names = |node: &containarium_tests::fleet::Node| {
        node.host.instances_now().into_keys().map(|name| format!("{name} on {}", node.name)).collect::<Vec<_>>()
    };
    fleet.nodes.iter().flat_map(names).collect()
}

#[test]
fn an_old_backup_over_a_living_fleet_destroys_nothing_and_everything_can_be_made_whole() {
    let mut fleet = Fleet::of_nodes(2);
    for user in ["alice", "bob", "dave"] {
        fleet.create(Fleet::request(user)).unwrap();
    }
    fleet.save_state("old");
    // What the backup does not know: later terms, limits, keys, a move, a machine more and one less.
    for _ in 0..3 {
        fleet.kill_coordinator();
        fleet.start_coordinator();
    }
    fleet.until_node("jump-1", v1::Availability::Online);
    fleet.until_node("jump-2", v1::Availability::Online);
    let resize = v1::ResizeContainerRequest { memory_bytes: Some(3 << 30), ..Fleet::resize_request("alice") };
    fleet.resize(resize).unwrap();
    fleet.create(Fleet::request("carol")).unwrap();
    let home = fleet.list().iter().find(|c| c.user == "dave").unwrap().node.clone();
    let other = if home == "jump-1" { "jump-2" } else { "jump-1" };
    fleet.move_to("dave", other).unwrap();
    fleet.delete("bob").unwrap();
    settle(&fleet);
    let before = instances(&fleet);

    fleet.kill_coordinator();
    let refused = fleet.restore_state("old", false).unwrap_err();
    assert!(refused.contains("--force"), "{refused}");
    fleet.restore_state("old", true).unwrap();
    // An agent that starts anew has forgotten what it confirmed.
    fleet.kill_agent(0);
    fleet.start_agent(0);
    fleet.start_coordinator();
    let phase = |user: &str| fleet.phase(user);
    eventually("alice is as she was left", || {
        let alice = fleet.list().into_iter().find(|c| c.user == "alice").unwrap();
        alice.phase() == Phase::Running && alice.spec.unwrap().memory_bytes == 3 << 30
    });
    eventually("bob and dave are lost where the backup knows them", || {
        phase("bob") == Some(Phase::Lost) && phase("dave") == Some(Phase::Lost)
    });
    assert_eq!(phase("carol"), None);
    let warnings = || ["jump-1", "jump-2"].map(|name| fleet.node(name).warnings.join("; ")).join("; ");
    eventually("carol and dave are seen", || {
        warnings().contains("carol-container is there") && warnings().contains("dave-container is there")
    });
    assert_eq!(instances(&fleet), before, "nothing was destroyed, and nothing made");
    assert!(fleet.nodes.iter().all(|node| node.host.accounts_now().contains_key("carol")), "carol still gets in");

    // A person makes it whole.
    let carols = before.iter().find_map(|it| it.strip_prefix("carol-container on ")).unwrap().to_owned();
    let taken_back = |user: &str, node: &str| {
        fleet.adopt(v1::AdoptInstanceRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            node: node.into(),
            instance: format!("{user}-container"),
            ..Default::default()
        })
    };
    assert_eq!(taken_back("carol", &carols).unwrap().container.unwrap().phase(), Phase::Running);
    let refused = refusal(&taken_back("dave", other).unwrap_err());
    assert!(refused.reason == Reason::Refused && refused.hint.unwrap().contains("delete dave"));
    fleet.delete("dave").unwrap();
    eventually("dave is taken back", || taken_back("dave", other).is_ok());
    fleet.delete("bob").unwrap();
    settle(&fleet);
    assert_eq!(instances(&fleet), before);
    fleet.create(Fleet::request("erin")).unwrap();
    settle(&fleet);
}

#[test]
fn a_backup_that_is_damaged_or_of_a_later_version_changes_nothing() {
    let mut fleet = Fleet::of_nodes(1);
    fleet.create(Fleet::request("alice")).unwrap();
    fleet.save_state("good");
    fleet.kill_coordinator();
    let text = fleet.state_text("good");
    let cut = text.rsplit_once("\n[").unwrap().0.to_owned() + "\n";
    let later = text.replacen("\"schema\":", "\"schema\":9", 1);
    for (bad, why) in [
        (cut, "cut off"),
        (text.replacen("alice", "mallo", 1), "checksum"),
        (String::from("hello\n"), "cut off"),
        (Fleet::resealed(&later), "version"),
    ] {
        fleet.write_state("bad", &bad);
        let error = fleet.restore_state("bad", true).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    fleet.start_coordinator();
    fleet.until_node("jump-1", v1::Availability::Online);
    settle(&fleet);
}
