//! Sharing, sessions, the audit and bans: what is asked for, and what is printed.

use containarium_proto::v1;
use serde_json::Value;

use crate::support::{Coordinator, container};

fn session(id: &str, user: &str) -> v1::Session {
    v1::Session {
        id: id.into(),
        node: "jump-1".into(),
        user: user.into(),
        client_address: "192.0.2.1".into(),
        client_port: 4242,
        containers: vec!["alice-container".into()],
        since_unix_millis: 1_795_514_400_000,
    }
}

fn event(at: i64, kind: &str, user: &str) -> v1::AuditEvent {
    v1::AuditEvent {
        id: format!("jump-1/{at}"),
        at_unix_millis: at,
        node: "jump-1".into(),
        kind: kind.into(),
        user: user.into(),
        client_address: "192.0.2.1".into(),
        client_port: 4242,
        ..Default::default()
    }
}

#[test]
fn a_share_says_who_and_whether_root_and_ends_with_unshare() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let shared = fleet.cli("share alice-container --with bob --sudo").run().ok();
    assert!(shared.contains("alice") && shared.contains("bob") && shared.contains("yes"), "{shared}");
    fleet.cli("share alice --with bob").run().ok();
    fleet.cli("unshare alice --with bob").run().ok();
    let state = fleet.state();
    let asked: Vec<_> =
        state.people.shares.iter().map(|s| (s.user.as_str(), s.with.as_str(), s.sudo, s.revoke)).collect();
    assert_eq!(asked, [("alice", "bob", true, false), ("alice", "bob", false, false), ("alice", "bob", false, true)]);
    assert!(state.people.shares.iter().all(|share| !share.request_id.is_empty()));
}

#[test]
fn wrong_use_of_share_sends_nothing() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for line in [
        "share",
        "share alice",
        "share --with bob",
        "share alice --with root",
        "share alice --with ../x",
        "unshare alice",
        "share list --with bob",
        "sessions kill",
        "sessions kill a;b",
        "security unban not-an-address",
        "security unban 192.0.2.1;reboot",
        "audit --since yesterday",
        "audit --kind hacked",
        "last",
        "last alice --limit 0",
    ] {
        let outcome = fleet.cli(line).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{line}: {outcome:?}");
    }
    let people = &fleet.state().people;
    assert!(
        people.shares.is_empty() && people.kills.is_empty() && people.unbans.is_empty() && people.audits.is_empty()
    );
}

#[test]
fn shares_are_listed_from_both_sides_and_exported() {
    let share = |owner: &str, with: &str| v1::Share {
        owner: owner.into(),
        container: format!("{owner}-container"),
        with: with.into(),
        sudo: false,
    };
    let alice = v1::Container { shares: vec![share("alice", "bob")], ..container("alice", "10.100.1.2") };
    let fleet = Coordinator::with([alice, container("bob", "10.100.1.3")]);
    for line in ["share list -o json", "share list alice -o json", "share list bob -o json"] {
        let listed: Value = serde_json::from_str(&fleet.cli(line).run().ok()).unwrap();
        assert_eq!(listed["shares"].as_array().unwrap().len(), 1, "{line}: {listed}");
        assert_eq!((&listed["shares"][0]["owner"], &listed["shares"][0]["with"]), (&"alice".into(), &"bob".into()));
    }
    let exported = fleet.cli("export bob").run().ok();
    assert!(exported.contains("Host bob-dev\n"), "{exported}");
    let expected = "Host bob-at-alice-dev\n    HostName alice-container\n    User bob\n";
    assert!(exported.contains(expected), "{exported}");
    assert!(!fleet.cli("export alice").run().ok().contains("-at-"));
    assert!(fleet.cli("info alice").run().ok().contains("Shared with"));
}

#[test]
fn sessions_are_listed_and_ended_by_user_or_by_id() {
    let fleet = Coordinator::with([]);
    fleet.state().people.connected = vec![session("jump-1/7-1", "alice"), session("jump-1/8-1", "bob")];
    let listed: Value = serde_json::from_str(&fleet.cli("sessions list --user bob -o json").run().ok()).unwrap();
    assert_eq!((&listed["total_count"], &listed["sessions"][0]["id"]), (&1.into(), &"jump-1/8-1".into()));
    assert_eq!(listed["sessions"][0]["to"][0], "alice-container");
    let killed = fleet.cli("sessions kill jump-1/7-1").run().ok();
    assert!(killed.contains("alice") && !killed.contains("bob"), "{killed}");
    fleet.cli("sessions kill bob").run().ok();
    let kills: Vec<_> = fleet.state().people.kills.iter().map(|k| (k.user.clone(), k.id.clone())).collect();
    assert_eq!(kills, [(String::new(), "jump-1/7-1".into()), ("bob".into(), String::new())]);
}

#[test]
fn a_server_that_was_not_asked_makes_a_kill_or_an_unban_fail() {
    let fleet = Coordinator::with([]);
    fleet.state().people.unasked = vec![v1::Unasked { node: "jump-2".into(), note: "is offline".into() }];
    let listed = fleet.cli("sessions list").run();
    assert!(listed.stderr.contains("jump-2 is offline"), "{listed:?}");
    listed.ok();
    for line in ["sessions kill alice", "security unban 192.0.2.1"] {
        let outcome = fleet.cli(line).run();
        assert_eq!(outcome.code, 6, "{outcome:?}");
        assert!(outcome.stderr.contains("jump-2 is offline"), "{outcome:?}");
    }
}

#[test]
fn the_audit_is_lines_of_json_in_order_page_after_page() {
    let fleet = Coordinator::with([]);
    let nasty = "x\" from 6.6.6.6 port 22\u{1b}[31m";
    let kinds = ["accepted", "failed", "banned", "ended", "failed"];
    fleet.state().people.events = (1..).zip(kinds).map(|(at, kind)| event(at, kind, nasty)).collect();
    let out = fleet.cli("audit --since 2026-11-24T10:00:00Z --until 2026-11-25 --node jump-1 -o json").run().ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(seen, kinds);
    assert_eq!((&lines[0]["user"], &lines[0]["from"]), (&nasty.into(), &"192.0.2.1".into()));
    let asked = &fleet.state().people.audits;
    assert_eq!(asked.len(), 3, "two in one answer");
    let range = (asked[0].since_unix_millis, asked[0].until_unix_millis);
    assert_eq!((range, asked[0].node.as_str()), ((1_795_514_400_000, 1_795_564_800_000), "jump-1"));
}

#[test]
fn on_a_terminal_no_name_can_play_with_it() {
    let fleet = Coordinator::with([]);
    fleet.state().people.events = vec![event(1, "failed", "x\u{1b}[31m\nfake line")];
    let out = fleet.cli("audit --kind failed").run().ok();
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
}

#[test]
fn last_shows_each_login_with_its_end() {
    let fleet = Coordinator::with([]);
    fleet.state().people.events =
        vec![event(1_795_514_400_000, "accepted", "alice"), event(1_795_514_460_000, "ended", "alice")];
    let out: Value = serde_json::from_str(&fleet.cli("last alice -o json").run().ok()).unwrap();
    assert_eq!(out["logins"][0]["at"], "2026-11-24T10:00:00.000Z");
    assert_eq!(out["logins"][0]["until"], "2026-11-24T10:01:00.000Z");
}

#[test]
fn security_is_a_glance_and_unban_says_where() {
    let fleet = Coordinator::with([]);
    fleet.state().people.banned = vec!["192.0.2.66".into()];
    let out = fleet.cli("security status").run().ok();
    for word in ["192.0.2.66", "alice, bob", "jump-2", "is offline"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let json: Value = serde_json::from_str(&fleet.cli("security status -o json").run().ok()).unwrap();
    assert_eq!((&json["accepted_24h"], &json["nodes"][0]["banned"][0]), (&7.into(), &"192.0.2.66".into()));
    assert!(fleet.cli("security unban 192.0.2.66").run().ok().contains("jump-1"));
    assert_eq!(fleet.state().people.unbans[0].address, "192.0.2.66");
}
