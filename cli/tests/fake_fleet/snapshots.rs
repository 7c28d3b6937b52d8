//! `snapshot ...`, and what `create`, `set`, `info` and `list` know of schedules.

use containarium_proto::v1;
use serde_json::Value;

use crate::support::{ALICE_KEY, Coordinator, Step, container, created, progress};

fn listed(name: &str, kind: v1::SnapshotKind, state: v1::SnapshotState) -> v1::ListedSnapshot {
    let made = state != v1::SnapshotState::Creating;
    let created_at_unix_millis = if made { 1_750_000_000_123 } else { 0 };
    v1::ListedSnapshot { name: name.into(), created_at_unix_millis, kind: kind.into(), state: state.into() }
}

fn scheduled() -> v1::Container {
    let snapshots = Some(v1::SnapshotSchedule { every: v1::Every::Day.into(), keep: 3 });
    v1::Container { snapshots, snapshotted_at_unix_millis: 1_750_000_000_123, ..container("alice", "10.100.1.2") }
}

fn restorable() -> Coordinator {
    let alice = container("alice", "10.100.1.2");
    let last = v1::Progress { container: Some(alice.clone()), ..progress(0, 0, "restored") };
    Coordinator::scripted(alice, [vec![Step::say(progress(1, 3, "stopping for the restore")), Step::say(last)]])
}

#[test]
fn snapshots_are_listed_for_people_and_programs() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let (manual, auto) = (v1::SnapshotKind::Manual, v1::SnapshotKind::Scheduled);
    fleet.state().snapshots = vec![
        listed("before", manual, v1::SnapshotState::Ready),
        listed("auto-daily-20250615-150640", auto, v1::SnapshotState::Creating),
    ];
    let table = fleet.cli("snapshot list alice-container").run().ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].contains("2025-06-15T15:06:40.123Z   manual"), "{table}");
    assert!(lines[2].contains("-   ") && lines[2].ends_with("scheduled   Creating"), "{table}");
    let json: Value = serde_json::from_str(&fleet.cli("snapshot list alice -o json").run().ok()).unwrap();
    assert_eq!(json["total_count"], 2);
    assert_eq!(json["snapshots"][1]["created_at"], Value::Null);
    assert_eq!(json["snapshots"][1]["scheduled"], true);
}

#[test]
fn one_is_made_and_removed_by_name_or_without() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    assert_eq!(fleet.cli("snapshot create alice before").run().ok(), "before\n");
    assert_eq!(fleet.cli("snapshot create alice").run().ok(), "snap-1\n");
    let json: Value = serde_json::from_str(&fleet.cli("snapshot create alice -o json").run().ok()).unwrap();
    assert_eq!((json["name"].as_str(), json["pending"].as_bool()), (Some("snap-1"), Some(false)));
    assert_eq!(fleet.cli("snapshot delete alice-container before").run().ok(), "");
    let state = fleet.state();
    let names: Vec<_> = state.snapshot_creates.iter().map(|request| request.name.as_str()).collect();
    assert_eq!(names, ["before", "", ""]);
    assert!(state.snapshot_creates.iter().all(|request| request.user == "alice" && !request.request_id.is_empty()));
    assert_eq!((state.snapshot_deletes.len(), state.snapshot_deletes[0].name.as_str()), (1, "before"));
}

#[test]
fn a_restore_asks_first_and_may_keep_how_it_is_now() {
    let fleet = restorable();
    let refused = fleet.cli("snapshot restore alice before").run();
    refused.error(9);
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    assert!(fleet.state().restores.is_empty() && fleet.state().snapshot_creates.is_empty());
    let outcome = fleet.cli("snapshot restore alice before --force --snapshot-first").run();
    assert!(outcome.stderr.contains("kept as snap-1"), "{outcome:?}");
    assert_eq!(outcome.ok(), "alice-container is Running\n");
    let state = fleet.state();
    assert_eq!((state.snapshot_creates.len(), state.snapshot_restores.len()), (1, 1));
    assert_eq!(state.snapshot_restores[0].name, "before");
}

#[test]
fn bad_input_is_refused_in_words_before_anything_is_asked() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    let cases = [
        ("snapshot create Alice", "Alice"),
        ("snapshot create alice a/b", "a/b"),
        ("snapshot create alice auto-x", "reserved"),
        ("snapshot create alice containarium-move-1", "reserved"),
        ("snapshot restore alice", "<NAME>"),
        ("snapshot delete alice", "<NAME>"),
        ("set alice --snapshots monthly", "monthly"),
        ("set alice --snapshots daily --keep 0", "at least 1, at most 100"),
        ("set alice --keep many", "many"),
        ("create alice --ssh-key HERE/alice.pub --keep 3", "--snapshots"),
    ];
    for (line, why) in cases {
        let outcome = fleet.cli(line).run();
        outcome.error(2);
        assert!(outcome.stderr.contains(why), "{line}: {outcome:?}");
    }
    let state = fleet.state();
    assert!(state.snapshot_creates.is_empty() && state.lifetimes.is_empty() && state.creates.is_empty());
}

#[test]
fn schedules_are_asked_for_and_shown() {
    let fleet = Coordinator::scripted(scheduled(), [created(&scheduled())]);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    let said = fleet.cli("set alice --snapshots daily --keep 3").run().ok();
    assert!(said.ends_with("snapshots daily, keep 3\n"), "{said}");
    fleet.cli("set alice --keep 9").run().ok();
    fleet.cli("set alice --snapshots off").run().ok();
    fleet.cli("create alice --ssh-key HERE/alice.pub --snapshots hourly").run().ok();
    let asked: Vec<_> = fleet.state().lifetimes.iter().map(|r| r.snapshots.map(|s| (s.every(), s.keep))).collect();
    assert_eq!(asked, [Some((v1::Every::Day, 3)), Some((v1::Every::Unspecified, 9)), Some((v1::Every::Off, 0))]);
    let create = fleet.state().creates[0].snapshots.unwrap();
    assert_eq!((create.every(), create.keep), (v1::Every::Hour, 0));
    assert!(fleet.cli("info alice").run().ok().contains("daily, keep 3"));
    let wide = fleet.cli("list -o wide").run().ok();
    assert!(wide.contains("SNAPSHOTS") && wide.contains("daily, keep 3"), "{wide}");
    let json: Value = serde_json::from_str(&fleet.cli("list -o json").run().ok()).unwrap();
    assert_eq!(json["containers"][0]["snapshotted_at"], "2025-06-15T15:06:40.123Z");
}
