//! `list`: the one form programs rely on, and the columns people know.

use containarium_proto::v1;
use serde_json::{Value, json};

use crate::support::{Coordinator, container};

/// JSON without the white space between its parts, its keys in the order printed.
fn compact(json: &str) -> String {
    json.lines().map(|line| line.trim().replacen("\": ", "\":", 1)).collect()
}

#[test]
fn json_is_the_documented_form() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let text = fleet.cli("list -o json").run().ok();
    let starts = r#"{"containers":[{"name":"alice-container","user":"alice","status":"Running","node":"jump-1","ip":"10.100.1.2","#;
    assert!(compact(&text).starts_with(starts), "{text}");
    assert!(compact(&text).ends_with(r#"}],"total_count":1}"#), "{text}");
    let alice = json!({
        "name": "alice-container",
        "user": "alice",
        "status": "Running",
        "node": "jump-1",
        "ip": "10.100.1.2",
        "cpu": "2",
        "memory": "4GiB",
        "disk": "50GB",
        "memory_bytes": 4_294_967_296_u64,
        "moving_to": "",
        "disk_bytes": 50_000_000_000_u64,
        "autostart": true,
        "protected": false,
        "image": "dev",
        "image_fingerprint": "ab".repeat(32),
        "ssh_keys": ["SHA256:AAAA"],
        "shared_with": [],
        "generation": 3,
        "detail": "",
        "id": "0198c0de-0000-7000-8000-000000000001",
        "created_at": "2025-06-15T15:06:40.123Z",
        "drift": [],
        "labels": {},
        "expires_at": null,
        "expired_at": null,
        "idle_stop_seconds": null,
        "idle_since": null,
        "snapshots": "",
        "replication": null,
        "snapshotted_at": null,
        "allow_from": [],
    });
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value, json!({ "containers": [alice], "total_count": 1 }));
}

#[test]
fn yaml_says_what_json_says_also_of_values_that_look_like_others() {
    let mut awkward = container("on", "10.100.1.3");
    awkward.detail = "step 2: pulled\n# not a comment\n- \"x\": 'y'\t\u{1b}[31m".to_owned();
    awkward.image_alias = "1e5".to_owned();
    awkward.spec.as_mut().unwrap().image_fingerprint = "0123456789".repeat(6);
    let fleet = Coordinator::with([container("alice", "10.100.1.2"), awkward]);
    let json: Value = serde_json::from_str(&fleet.cli("list -o json").run().ok()).unwrap();
    let yaml: Value = serde_norway::from_str(&fleet.cli("list -o yaml").run().ok()).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json["total_count"], 2);
}

#[test]
fn the_table_has_its_columns_in_order() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let table = fleet.cli("list").run().ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows[0], ["NAME", "USER", "STATUS", "NODE", "IP", "CPU", "MEMORY", "DISK", "AUTOSTART", "AGE"]);
    assert_eq!(
        rows[1][..9],
        ["alice-container", "alice", "Running", "jump-1", "10.100.1.2", "2", "4GiB", "50GB", "yes"]
    );
}

#[test]
fn every_row_of_a_table_is_one_line_whatever_its_cells_hold() {
    let mut failed = container("alice", "10.100.1.2");
    failed.detail = "incus: no space left\nError: \u{1b}[2Jon device".to_owned();
    let fleet = Coordinator::with([failed]);
    let table = fleet.cli("list -o wide").run().ok();
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(!table.contains('\u{1b}'), "{table:?}");
}

#[test]
fn an_empty_fleet_is_an_empty_list() {
    let fleet = Coordinator::with([]);
    let json: Value = serde_json::from_str(&fleet.cli("list -o json").run().ok()).unwrap();
    assert_eq!(json, json!({ "containers": [], "total_count": 0 }));
    let yaml: Value = serde_norway::from_str(&fleet.cli("list -o yaml").run().ok()).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(fleet.cli("list").run().ok().lines().count(), 1);
}

/// alice 4 GiB on jump-1, bob 8 GiB and stopped on jump-2, carol 2 GiB on jump-2 and the newest.
fn three() -> Coordinator {
    let of = |user: &str, node: &str, memory: u64, created: i64| {
        let mut container = container(user, "10.100.1.2");
        node.clone_into(&mut container.node);
        container.spec.as_mut().unwrap().memory_bytes = memory << 30;
        container.created_at_unix_millis = created;
        container
    };
    let mut bob = of("bob", "jump-2", 8, 2_000);
    bob.phase = v1::Phase::Stopped.into();
    bob.labels = [("gpu", "true"), ("zone", "a")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let mut carol = of("carol", "jump-2", 2, 3_000);
    carol.labels = [("zone".to_owned(), "a".to_owned())].into();
    Coordinator::with([of("alice", "jump-1", 4, 1_000), bob, carol])
}

#[test]
fn filters_and_orders_are_what_they_say() {
    let fleet = three();
    let cases = [
        ("list", "alice bob carol"),
        ("list --node jump-2", "bob carol"),
        ("list --node jump-1 --node jump-2 --status stopped", "bob"),
        ("list --status running --status Stopped", "alice bob carol"),
        ("list --user a", "alice carol"),
        ("list --status lost", ""),
        ("list --label zone=a", "bob carol"),
        ("list --label zone=a --label gpu=true", "bob"),
        ("list --label gpu=false", ""),
        ("list --sort memory", "bob alice carol"),
        ("list --sort age", "carol bob alice"),
        ("list --sort status", "alice carol bob"),
        ("list --sort node", "alice bob carol"),
    ];
    for (line, users) in cases {
        let json: Value = serde_json::from_str(&fleet.cli(&format!("{line} -o json")).run().ok()).unwrap();
        let listed: Vec<&str> =
            json["containers"].as_array().unwrap().iter().map(|c| c["user"].as_str().unwrap()).collect();
        assert_eq!(listed.join(" "), users, "{line}");
        assert_eq!(json["total_count"], listed.len(), "{line}");
    }
}

#[test]
fn a_limit_shows_the_first_of_all_that_match_and_says_how_many_there_are() {
    let fleet = three();
    let json: Value = serde_json::from_str(&fleet.cli("list --sort memory --limit 2 -o json").run().ok()).unwrap();
    let listed: Vec<&str> =
        json["containers"].as_array().unwrap().iter().map(|c| c["user"].as_str().unwrap()).collect();
    assert_eq!((listed, &json["total_count"]), (vec!["bob", "alice"], &json!(3)));
    let table = fleet.cli("list --limit 1").run();
    assert_eq!((table.stderr.as_str(), table.stdout.lines().count()), ("the first 1 of 3\n", 2));
    let all = fleet.cli("list --limit 3").run();
    assert_eq!((all.stderr.as_str(), all.stdout.lines().count()), ("", 4));
}

#[test]
fn a_long_list_is_fetched_in_pages_and_shown_as_one() {
    let fleet = Coordinator::with((0..450).map(|index| container(&format!("user{index:03}"), "10.100.1.2")));
    let json: Value = serde_json::from_str(&fleet.cli("list -o json").run().ok()).unwrap();
    assert_eq!((json["containers"].as_array().unwrap().len(), &json["total_count"]), (450, &json!(450)));
    let asked: Vec<_> = fleet.state().lists.iter().map(|r| (r.page_size, r.page_token.clone())).collect();
    assert_eq!(asked, [(200, String::new()), (200, "user199".into()), (200, "user399".into())]);
}

#[test]
fn a_filter_that_names_nothing_is_refused() {
    let fleet = three();
    let unknown = fleet.cli("list --node jump-9").run();
    assert!(unknown.error(3).contains("jump-9"), "{unknown:?}");
    let bad = [
        "list --status sleepy",
        "list --sort colour",
        "list --label gpu",
        "list --label a=b --label a=c",
        "list --watch --label a=b --label a=c",
        "list --limit 0",
        "list --limit -1",
        "list --limit many",
    ];
    for line in bad {
        assert_eq!(fleet.cli(line).run().code, 2, "{line}");
    }
}
