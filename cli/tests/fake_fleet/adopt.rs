//! `node adopt`: nothing is taken over that nobody confirmed.

use containarium_proto::v1;

use crate::support::{ALICE_KEY, Coordinator, Step, container, progress};

const WOULD: &str = "old on jump-1 would become alice's machine: rename it to alice-container; cpu 2 (by default)";
const LINE: &str = "node adopt jump-1 --instance old --user alice --ssh-key HERE/alice.pub";

/// Answers a dry run, then an adoption that goes well.
fn fleet() -> Coordinator {
    let last = v1::Progress { container: Some(container("alice", "10.100.1.2")), ..progress(0, 0, "done") };
    let scripts = [vec![Step::say(progress(0, 0, WOULD))], vec![Step::say(last)]];
    let fleet = Coordinator::scripted(container("bob", "10.100.1.3"), scripts);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    fleet
}

#[test]
fn without_an_instance_it_lists_what_could_be_adopted_and_why_not() {
    let fleet = Coordinator::with([]);
    fleet.state().foreign = vec![
        v1::Adoptable {
            name: "alice-container".into(),
            running: true,
            user: "alice".into(),
            steps: vec!["memory 1GiB (its own)".into()],
            obstacles: vec![],
        },
        v1::Adoptable { name: "old".into(), obstacles: vec!["it is privileged".into()], ..Default::default() },
    ];
    let shown = fleet.cli("node adopt jump-1").run().ok();
    assert!(shown.contains("memory 1GiB (its own)") && shown.contains("it is privileged"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&fleet.cli("node adopt jump-1 -o json").run().ok()).unwrap();
    assert_eq!((&json["total_count"], &json["instances"][1]["adoptable"]), (&2.into(), &false.into()));
    assert!(fleet.state().adoptions.is_empty());
}

#[test]
fn without_a_terminal_it_says_what_it_would_do_and_refuses() {
    let fleet = fleet();
    let outcome = fleet.cli(LINE).stdin("alice\n").run();
    assert!(outcome.error(9).contains("old"), "{outcome:?}");
    assert!(outcome.stderr.contains(WOULD) && outcome.stderr.contains("--force"), "{outcome:?}");
    assert!(fleet.state().adoptions.iter().all(|request| request.dry_run));
}

#[test]
fn a_dry_run_prints_what_it_would_do_and_no_more() {
    let fleet = fleet();
    assert_eq!(fleet.cli(&format!("{LINE} --dry-run")).run().ok(), format!("{WOULD}\n"));
    assert_eq!(fleet.state().adoptions.iter().map(|request| request.dry_run).collect::<Vec<_>>(), [true]);
}

#[test]
fn forced_it_shows_what_it_does_and_does_it_to_that_one() {
    let fleet = fleet();
    let outcome = fleet.cli(&format!("{LINE} --force")).run();
    assert!(outcome.stderr.contains(WOULD), "{outcome:?}");
    assert_eq!(outcome.ok(), "alice-container is Running on jump-1\n");
    let state = fleet.state();
    let last = state.adoptions.last().unwrap();
    assert_eq!((last.node.as_str(), last.instance.as_str(), last.user.as_str()), ("jump-1", "old", "alice"));
    assert!(!last.dry_run && last.ssh_keys == [ALICE_KEY]);
}

#[test]
fn half_an_adoption_is_wrong_usage() {
    let fleet = fleet();
    for line in [
        "node adopt jump-1 --instance old --ssh-key HERE/alice.pub",
        "node adopt jump-1 --user alice",
        "node adopt jump-1 --instance old --user alice",
        "node adopt jump-1 --force",
        "node adopt jump-1 --instance old --user root --ssh-key HERE/alice.pub --force",
    ] {
        fleet.cli(line).run().error(2);
    }
    assert!(fleet.state().adoptions.is_empty());
}
