//! `backup ...`, `delete --backup` and what `node retire` says of backups, as typed.

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::Value;

use crate::support::{ALICE_KEY, Coordinator, Step, container, progress};

const ID: &str = "20261124-145205";

fn backup(user: &str, id: &str) -> v1::Backup {
    v1::Backup {
        user: user.to_owned(),
        id: id.to_owned(),
        created_at_unix_millis: 1_795_531_925_000,
        size_bytes: 858_155_411,
        sha256: "ab".repeat(32),
        spec: container(user, "10.100.1.2").spec,
        image_alias: "dev".to_owned(),
        key_fingerprints: vec!["SHA256:AAAA".to_owned()],
        node: "jump-1".to_owned(),
        ..v1::Backup::default()
    }
}

fn written() -> Vec<Step> {
    let last = v1::Progress { backup: Some(backup("alice", ID)), ..progress(0, 0, "written") };
    vec![Step::say(progress(3, 4, "writing it: 120 MB of 858 MB")), Step::say(last)]
}

fn restored() -> Vec<Step> {
    let last = v1::Progress { container: Some(container("alice", "10.100.2.2")), ..progress(0, 0, "restored") };
    vec![Step::say(progress(0, 0, "verifying: read 120 MB of 858 MB")), Step::say(last)]
}

#[test]
fn a_backup_shows_its_steps_and_what_was_written() {
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [written(), written()]);
    let outcome = fleet.cli("backup create alice-container").run();
    assert!(outcome.stderr.contains("[3/4] writing it: 120 MB of 858 MB"), "{outcome:?}");
    let table = outcome.ok();
    assert!(table.contains(ID) && table.contains("858 MB"), "{table}");
    let json: Value = serde_json::from_str(&fleet.cli("backup create alice -o json").run().ok()).unwrap();
    assert_eq!((json["id"].as_str(), json["size_bytes"].as_u64()), (Some(ID), Some(858_155_411)));
}

#[test]
fn the_list_is_of_everybody_or_of_one() {
    let fleet = Coordinator::with([]);
    fleet.state().backups = vec![backup("alice", ID), backup("gone", ID)];
    let json: Value = serde_json::from_str(&fleet.cli("backup list -o json").run().ok()).unwrap();
    assert_eq!(json["total_count"], 2);
    let table = fleet.cli("backup list gone -o wide").run().ok();
    assert!(table.contains("gone") && !table.contains("alice") && table.contains(&"ab".repeat(32)), "{table}");
}

#[test]
fn a_damaged_backup_is_exit_code_8() {
    let damaged =
        Refusal::new(Reason::BackupDamaged, "backup alice/20261124-145205 is damaged: its checksum is another one");
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [vec![Step::Fail(damaged.into())]]);
    let said = fleet.cli(&format!("backup verify alice {ID}")).run();
    let said = said.error(8);
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn a_restore_asks_for_the_newest_and_replaces_only_what_it_may() {
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [restored(), restored(), restored()]);
    fleet.cli("backup restore alice").run().ok();
    fleet.cli(&format!("backup restore alice {ID} --to jump-2 --force")).run().ok();
    let key = fleet.dir().join("key.pub");
    std::fs::write(&key, ALICE_KEY).unwrap();
    let outcome = fleet.cli("backup restore alice newest --ssh-key HERE/key.pub").run();
    assert_eq!(outcome.ok(), "alice-container is Running on jump-1\n");
    let state = fleet.state();
    let told: Vec<_> =
        state.restores.iter().map(|r| (r.id.as_str(), r.to.as_str(), r.replace, r.ssh_keys.len())).collect();
    assert_eq!(told, [("", "", false, 0), (ID, "jump-2", true, 0), ("", "", false, 1)]);
}

#[test]
fn nothing_is_removed_that_nobody_confirmed() {
    let fleet = Coordinator::with([]);
    let said = fleet.cli(&format!("backup delete alice {ID}")).run();
    let said = said.error(9);
    assert!(said.contains(ID), "{said}");
    assert!(fleet.state().backup_calls.is_empty());
    fleet.cli(&format!("backup delete alice {ID} --force")).run().ok();
    assert_eq!(fleet.state().backup_calls, [format!("delete alice {ID}")]);
}

#[test]
fn nonsense_is_refused_before_anything_is_dialled() {
    let fleet = Coordinator::with([]);
    for line in [
        "backup create",
        "backup create Alice",
        "backup verify",
        "backup verify alice ../x",
        "backup restore alice yesterday",
        "backup restore alice --to -x",
        "backup restore alice --ssh-key HERE/none.pub",
        "backup delete alice",
    ] {
        fleet.cli(line).run().error(2);
    }
    assert!(fleet.state().backup_calls.is_empty() && fleet.state().restores.is_empty());
}

#[test]
fn a_delete_with_a_backup_deletes_only_after_it_was_verified() {
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [written(), written()]);
    let outcome = fleet.cli("delete alice --backup --force").run();
    assert!(outcome.stderr.contains("is whole"), "{outcome:?}");
    outcome.ok();
    let state = fleet.state();
    assert_eq!(state.backup_calls, ["Stop alice".to_owned(), "create alice".to_owned(), format!("verify alice {ID}")]);
    assert_eq!(state.deletes.len(), 1);
    drop(state);

    let damaged = Refusal::new(Reason::BackupDamaged, "backup alice/20261124-145205 is damaged");
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [written(), vec![Step::Fail(damaged.into())]]);
    fleet.cli("delete alice --backup --force").run().error(8);
    assert!(fleet.state().deletes.is_empty());

    let protected = v1::Container { protected: true, ..container("alice", "10.100.1.2") };
    let fleet = Coordinator::scripted(protected, []);
    fleet.cli("delete alice --backup --force").run().error(9);
    assert!(fleet.state().backup_calls.is_empty(), "not even stopped");
}

#[test]
fn a_lost_server_says_what_can_be_restored_and_how() {
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [restored()]);
    fleet.state().lost = vec![
        lost("alice", Some(backup("alice", ID)), 0),
        lost("bob", None, 0),
        lost("carol", Some(backup("carol", ID)), 1_795_514_400_000),
    ];
    let outcome = fleet.cli("node retire jump-1 --lost jump-1").run();
    assert!(outcome.stderr.contains(&format!("containarium backup restore alice {ID}")), "{outcome:?}");
    assert!(outcome.stderr.contains("bob-container is lost, and there is no backup of it"), "{outcome:?}");
    assert!(outcome.stderr.contains("containarium failover carol"), "{outcome:?}");
    assert!(fleet.state().restores.is_empty(), "nothing is done unasked");

    fleet.cli("node retire jump-1 --restore").run().error(2);
    let outcome = fleet.cli("node retire jump-1 --lost jump-1 --restore").run();
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(outcome.stderr.contains("1 of 3 were not brought back"), "{outcome:?}");
    assert!(outcome.stderr.contains("bob: there is neither a replica nor a backup of it"), "{outcome:?}");
    let state = fleet.state();
    let restored: Vec<_> = state.restores.iter().map(|r| (r.user.as_str(), r.id.as_str(), r.replace)).collect();
    assert_eq!(restored, [("alice", ID, false)]);
    assert_eq!(state.replicas.failovers.iter().map(|f| f.user.as_str()).collect::<Vec<_>>(), ["carol"]);
}

fn lost(user: &str, newest_backup: Option<v1::Backup>, replica_as_of_unix_millis: i64) -> v1::LostContainer {
    v1::LostContainer { user: user.to_owned(), newest_backup, replica_as_of_unix_millis }
}
