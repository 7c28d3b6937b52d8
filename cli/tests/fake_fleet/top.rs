//! `top`: shares of two answers, in the order asked for, and servers that did not answer.

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::{Value, json};

use crate::support::{Coordinator, container, until};

/// A machine with 4 GiB and 50 GB, and what it has used by second `at` of its server.
fn usage(user: &str, node: &str, sample: Option<(u64, u64, u64)>) -> v1::ContainerUsage {
    let sample = sample.map(|(at, cpu_millis, memory_mib)| v1::UsageSample {
        at_nanos: at * 1_000_000_000,
        usage: Some(v1::Usage {
            memory_bytes: memory_mib << 20,
            disk_bytes: (user != "bob").then_some(5_000_000_000),
            cpu_nanos: Some(cpu_millis * 1_000_000),
        }),
    });
    v1::ContainerUsage {
        name: format!("{user}-container"),
        user: user.into(),
        node: node.into(),
        phase: v1::Phase::Running.into(),
        spec: container(user, "10.100.1.2").spec,
        sample,
    }
}

/// In two seconds alice takes half a CPU, bob one and a half; carol's server is away.
fn three() -> Coordinator {
    let answer = |alice, bob| v1::ListUsageResponse {
        containers: vec![
            usage("alice", "jump-1", Some(alice)),
            usage("bob", "jump-2", Some(bob)),
            v1::ContainerUsage { phase: v1::Phase::Unreachable.into(), ..usage("carol", "jump-3", None) },
        ],
        notes: vec![v1::NodeNote { node: "jump-3".into(), note: "is offline,\nlast heard at noon".into() }],
    };
    let fleet = Coordinator::with([]);
    fleet.state().usages =
        [answer((10, 7_000, 3072), (500, 0, 1024)), answer((12, 8_000, 3072), (502, 3_000, 1024))].into();
    fleet
}

#[test]
fn the_table_has_shares_of_what_there_is_the_busiest_first() {
    let fleet = three();
    let outcome = fleet.cli("top").run();
    assert_eq!(outcome.stderr, "jump-3 is offline, last heard at noon\n");
    let table = outcome.ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["USER", "NODE", "STATUS", "CPU%", "CPU", "MEMORY", "MEMORY%", "DISK", "DISK%"]);
    assert_eq!(rows[1], ["bob", "jump-2", "Running", "150.0%", "2", "1.00GiB/4GiB", "25.0%", "-/50GB", "-"]);
    assert_eq!(rows[2], ["alice", "jump-1", "Running", "50.0%", "2", "3.00GiB/4GiB", "75.0%", "4.66GiB/50GB", "10.0%"]);
    assert_eq!(rows[3], ["carol", "jump-3", "Unreachable", "-", "2", "-/4GiB", "-", "-/50GB", "-"]);
    assert_eq!(rows.len(), 4);
}

#[test]
fn for_programs_what_is_not_known_is_null() {
    let fleet = three();
    let json: Value = serde_json::from_str(&fleet.cli("top --sort user -o json").run().ok()).unwrap();
    assert_eq!(
        json["containers"][1],
        json!({
            "name": "bob-container", "user": "bob", "node": "jump-2", "status": "Running",
            "cpu_percent": 150.0, "cpu": "2",
            "memory_bytes": 1_u64 << 30, "memory_limit_bytes": 4_u64 << 30, "memory_percent": 25.0,
            "disk_bytes": null, "disk_quota_bytes": 50_000_000_000_u64, "disk_percent": null,
        })
    );
    assert_eq!(json["containers"][2]["memory_bytes"], Value::Null);
    assert_eq!(json["notes"], json!([{ "node": "jump-3", "note": "is offline,\nlast heard at noon" }]));
    assert_eq!(json["total_count"], 3);
}

#[test]
fn orders_are_what_they_say_and_the_unknown_comes_last() {
    let cases = [
        ("cpu", "bob alice carol"),
        ("memory", "alice bob carol"),
        ("disk", "alice bob carol"),
        ("user", "alice bob carol"),
    ];
    for (sort, users) in cases {
        let fleet = three();
        let line = format!("top --sort {sort} --node jump-1 --node jump-2 -o json");
        let json: Value = serde_json::from_str(&fleet.cli(&line).run().ok()).unwrap();
        let listed: Vec<&str> =
            json["containers"].as_array().unwrap().iter().map(|c| c["user"].as_str().unwrap()).collect();
        assert_eq!(listed.join(" "), users, "{sort}");
        assert_eq!(fleet.state().usage_of[0].nodes, ["jump-1", "jump-2"]);
    }
}

#[test]
fn watched_it_prints_line_after_line_also_after_a_restart_until_ctrl_c() {
    let mut fleet = three();
    let running = fleet.cli("top --watch").start();
    let lines = |count| until("lines", || Some(running.stdout()).filter(|text| text.lines().count() >= count));
    let first: Value = serde_json::from_str(lines(1).lines().next().unwrap()).unwrap();
    assert_eq!(first["containers"][0]["cpu_percent"], 150.0);
    fleet.stop();
    until("the loss is noticed", || running.stderr().contains("lost the coordinator").then_some(()));
    fleet.restart();
    lines(2);
    running.interrupt();
    assert_eq!(running.wait().code, 0);
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let fleet = three();
    for line in ["top --sort colour", "top --node -", "top alice"] {
        assert_eq!(fleet.cli(line).run().code, 2, "{line}");
    }
    let refusing = Coordinator::refusing(Refusal::new(Reason::NotFound, "there is no node 'jump-9'"));
    assert_eq!(refusing.cli("top --node jump-9").run().error(3), "there is no node 'jump-9'");
}
