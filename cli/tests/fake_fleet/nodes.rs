//! `node set`, `node label` and labels of a create: what the coordinator is asked for, and how verdicts look.

use containarium_proto::v1;
use serde_json::{Value, json};

use crate::support::{ALICE_KEY, Coordinator, Step, container, created, progress};

fn load(resource: &str, reserved: u64, used: u64, allocatable: u64, permille: u32) -> v1::ResourceLoad {
    v1::ResourceLoad { resource: resource.to_owned(), reserved, used, allocatable, permille }
}

fn verdict(node: &str, chosen: bool, reason: &str) -> v1::NodeVerdict {
    v1::NodeVerdict {
        node: node.to_owned(),
        fits: true,
        chosen,
        load_permille: 412,
        score_permille: 31,
        containers: 3,
        max_containers: 250,
        loads: vec![
            load("cpu", 8000, 0, 64_000, 125),
            load("memory", 1 << 30, 3 << 30, 8 << 30, 412),
            load("disk", 0, 0, 475_000_000_000, 0),
        ],
        reason: reason.to_owned(),
    }
}

/// jump-1 is described, jump-2 is bare.
fn fleet() -> Coordinator {
    let fleet = Coordinator::with([]);
    let chosen = verdict("jump-1", true, "chosen: no other node fits");
    fleet.state().nodes[0] = v1::Node {
        name: "jump-1".to_owned(),
        labels: [("gpu".to_owned(), "true".to_owned())].into(),
        settings: Some(v1::NodeSettings { overcommit_cpu_permille: Some(2500), ..Default::default() }),
        effective: Some(v1::NodeSettings {
            overcommit_cpu_permille: Some(2500),
            overcommit_memory_permille: Some(1500),
            overcommit_disk_permille: Some(1000),
            max_containers: Some(250),
            headroom_memory_bytes: Some(1 << 30),
            headroom_disk_bytes: Some(25_000_000_000),
        }),
        loads: chosen.loads.clone(),
        default_create: Some(chosen),
        ..Default::default()
    };
    fleet
}

#[test]
fn set_asks_for_what_was_given_and_nothing_else() {
    let fleet = fleet();
    let line = "node set jump-1 --overcommit-cpu 2.5 --max-containers 9 --headroom-memory 2GiB --headroom-disk 0GB";
    fleet.cli(line).run().ok();
    fleet.cli("node set jump-1 --reset").run().ok();
    let asked = fleet.state().configures.clone();
    let settings = v1::NodeSettings {
        overcommit_cpu_permille: Some(2500),
        max_containers: Some(9),
        headroom_memory_bytes: Some(2 << 30),
        headroom_disk_bytes: Some(0),
        ..Default::default()
    };
    let set = v1::ConfigureNodeRequest { name: "jump-1".into(), settings: Some(settings), ..Default::default() };
    let reset = v1::ConfigureNodeRequest { settings: Some(v1::NodeSettings::default()), reset: true, ..set.clone() };
    assert_eq!(asked, [set, reset]);
}

#[test]
fn labels_are_set_removed_and_listed() {
    let fleet = fleet();
    let set = fleet.cli("node label set jump-1 zone=a gpu=false -o json").run().ok();
    let value: Value = serde_json::from_str(&set).unwrap();
    let expected = json!({ "name": "jump-1", "labels": { "gpu": "false", "zone": "a" } });
    assert_eq!(value, json!({ "nodes": [expected], "total_count": 1 }));
    fleet.cli("node label remove jump-1 gpu").run().ok();
    let rows = |line: &str| -> Vec<Vec<String>> {
        let text = fleet.cli(line).run().ok();
        text.lines().map(|line| line.split_whitespace().map(ToOwned::to_owned).collect()).collect()
    };
    assert_eq!(rows("node label list jump-1"), [["NAME", "LABELS"], ["jump-1", "zone=a"]]);
    assert_eq!(rows("node label list")[1..], [["jump-1", "zone=a"], ["jump-2", "-"]]);
    fleet.cli("node label set jump-9 a=b").run().error(3);
}

#[test]
fn what_no_server_can_be_given_is_refused_before_anything_is_asked() {
    let fleet = fleet();
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    for line in [
        "node set jump-1",
        "node set jump-1 --overcommit-cpu 0.1",
        "node set jump-1 --overcommit-memory lots",
        "node set jump-1 --max-containers many",
        "node set jump-1 --headroom-disk 8",
        "node label set jump-1",
        "node label set jump-1 gpu",
        "node label set jump-1 GPU=true",
        "node label set jump-1 gpu=true gpu=false",
        "node label remove jump-1 gpu=true",
        "create alice --ssh-key HERE/alice.pub --label gpu",
        "create alice --ssh-key HERE/alice.pub --label a=b --label a=c",
    ] {
        assert_eq!(fleet.cli(line).run().code, 2, "{line}");
    }
    assert!(fleet.state().configures.is_empty() && fleet.state().creates.is_empty());
}

#[test]
fn info_says_whose_each_value_is_and_wide_shows_every_load() {
    let fleet = fleet();
    let info = fleet.cli("node info jump-1").run().ok();
    let fact = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {info}"));
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(fact("CPU overcommit"), "2.5 (its own)");
    assert_eq!(fact("Memory overcommit"), "1.5 (fleet's)");
    assert_eq!(fact("Most containers"), "250 (fleet's)");
    assert_eq!(fact("Disk headroom"), "25GB (fleet's)");
    assert_eq!(fact("Labels"), "gpu=true");
    assert_eq!(fact("CPU load"), "8/64 12.5%");
    assert_eq!(fact("Memory load"), "3GiB/8GiB 41.2% (used)");
    let wide = fleet.cli("node list -o wide").run().ok();
    for shown in ["8/64 12.5%", "3GiB/8GiB 41.2% (used)", "gpu=true", "3.1%", "chosen: no other node fits"] {
        assert!(wide.contains(shown), "{shown}: {wide}");
    }
    let json: Value = serde_json::from_str(&fleet.cli("node info jump-1 -o json").run().ok()).unwrap();
    assert_eq!(json["labels"], json!({ "gpu": "true" }));
    assert_eq!(json["settings"]["overcommit_cpu_permille"], 2500);
    assert_eq!(json["settings"]["max_containers"], Value::Null);
    assert_eq!(json["effective"]["max_containers"], 250);
    assert_eq!(json["loads"][1]["used"], 3_u64 << 30);
    assert_eq!(json["default_create"]["chosen"], true);
}

#[test]
fn a_dry_run_shows_every_score_and_reason() {
    let fleet = fleet();
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    let verdicts = vec![verdict("jump-1", true, "chosen: why"), verdict("jump-2", false, "not chosen: why not")];
    let answer = v1::Progress { verdicts, ..progress(0, 0, "would be placed on jump-1") };
    let line = "create alice --ssh-key HERE/alice.pub --label gpu=true --label zone=a --dry-run";
    for format in ["table", "json"] {
        fleet.state().scripts.push_back(vec![Step::say(answer.clone())]);
        let text = fleet.cli(&format!("{line} -o {format}")).run().ok();
        if format == "json" {
            let json: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["verdicts"][0]["score_permille"], 31);
            assert_eq!(json["verdicts"][1]["chosen"], false);
            assert_eq!(json["verdicts"][1]["loads"][0]["permille"], 125);
            continue;
        }
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[1].starts_with("jump-1") && rows[1].contains(" chosen ") && rows[1].ends_with("chosen: why"),
            "{text}"
        );
        assert!(
            rows[2].contains("3.1%") && rows[2].contains("3/250") && rows[2].ends_with("not chosen: why not"),
            "{text}"
        );
    }
    let asked = fleet.state().creates[0].labels.clone();
    assert_eq!(asked, [("gpu", "true"), ("zone", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn info_shows_the_labels_of_a_container() {
    let mut alice = container("alice", "10.100.1.2");
    alice.labels = [("gpu".to_owned(), "true".to_owned())].into();
    let fleet = Coordinator::scripted(alice.clone(), [created(&alice)]);
    let info = fleet.cli("info alice").run().ok();
    assert!(info.lines().any(|line| line.starts_with("Labels") && line.ends_with("gpu=true")), "{info}");
}
