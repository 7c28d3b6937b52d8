//! `move`, `node drain` and `node retire`, as typed.

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::Value;

use crate::support::{Coordinator, Step, container, progress};

fn moved() -> v1::Progress {
    let container = v1::Container { node: "jump-2".to_owned(), ..container("alice", "10.100.2.2") };
    v1::Progress { container: Some(container), ..progress(0, 0, "alice-container has moved") }
}

#[test]
fn a_move_shows_its_steps_and_where_it_ended() {
    let steps = vec![Step::say(progress(1, 4, "copying to jump-2 while it runs")), Step::say(moved())];
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), [steps]);
    let outcome = fleet.cli("move alice --to jump-2").run();
    assert!(outcome.stderr.contains("[1/4] copying to jump-2 while it runs"), "{outcome:?}");
    assert_eq!(outcome.ok(), "alice-container is Running on jump-2\n");
    let state = fleet.state();
    assert_eq!((state.moves[0].user.as_str(), state.moves[0].to.as_str()), ("alice", "jump-2"));
    assert!(!state.moves[0].dry_run && !state.moves[0].cancel);
}

#[test]
fn a_lost_coordinator_is_asked_the_same_again() {
    let lost = Refusal::new(Reason::NotReady, "the coordinator is stopping");
    let scripts = [vec![Step::Fail(lost.into())], vec![Step::say(moved())]];
    let fleet = Coordinator::scripted(container("alice", "10.100.1.2"), scripts);
    let json: Value = serde_json::from_str(&fleet.cli("move alice -o json").run().ok()).unwrap();
    assert_eq!(json["node"], "jump-2");
    let state = fleet.state();
    assert_eq!(state.moves.len(), 2);
    assert_eq!(state.moves[0], state.moves[1], "with the same request id");
}

#[test]
fn contradictions_are_refused_before_anything_is_dialled() {
    let fleet = Coordinator::with([]);
    for line in [
        "move",
        "move alice --cancel --to jump-2",
        "move alice --cancel --dry-run",
        "move alice --to -x",
        "node drain",
        "node drain jump-1 --parallel 0",
        "node drain jump-1 --parallel 17",
        "node retire",
        "node retire jump-1 --lost",
    ] {
        fleet.cli(line).run().error(2);
    }
    assert!(fleet.state().moves.is_empty() && fleet.state().retired.is_empty());
}

#[test]
fn a_node_is_given_up_only_by_its_name() {
    let fleet = Coordinator::with([]);
    fleet.cli("node retire jump-1").run().ok();
    let table = fleet.cli("node retire jump-1 --lost jump-1").run().ok();
    assert!(table.contains("jump-1") && table.contains("Retired"), "{table}");
    let pair = |lost: &str| ("jump-1".to_owned(), lost.to_owned());
    assert_eq!(fleet.state().retired, [pair(""), pair("jump-1")]);
}
