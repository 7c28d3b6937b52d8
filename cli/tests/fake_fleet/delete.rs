//! `delete`: nothing is destroyed that nobody confirmed.

use crate::support::{Coordinator, container};

#[test]
fn without_a_terminal_it_refuses_and_asks_the_coordinator_for_nothing() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let outcome = fleet.cli("delete alice").run();
    assert!(outcome.error(9).contains("alice"), "{outcome:?}");
    assert!(outcome.stderr.contains("--force"), "{outcome:?}");
    assert!(fleet.state().deletes.is_empty());
}

#[test]
fn an_answer_through_a_pipe_is_not_a_confirmation() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    fleet.cli("delete alice").stdin("alice\n").run().error(9);
    assert!(fleet.state().deletes.is_empty());
}

#[test]
fn forced_it_deletes_that_one_by_user_or_container_name() {
    for name in ["alice", "alice-container"] {
        let fleet = Coordinator::with([container("alice", "10.100.1.2"), container("bob", "10.100.1.3")]);
        fleet.cli(&format!("delete {name} --force")).run().ok();
        let state = fleet.state();
        let deleted: Vec<&str> = state.deletes.iter().map(|request| request.user.as_str()).collect();
        assert_eq!(deleted, ["alice"]);
    }
}
