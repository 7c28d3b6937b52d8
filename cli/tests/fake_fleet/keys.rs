//! Key files of `create`: which keys the coordinator is asked for.

use crate::support::{ALICE_KEY, BOB_KEY, Coordinator, container, created};

fn fleet() -> Coordinator {
    let alice = container("alice", "10.100.1.2");
    let script = created(&alice);
    let fleet = Coordinator::scripted(alice, [script]);
    let write = |name: &str, text: String| std::fs::write(fleet.dir().join(name), text).unwrap();
    write("alice.pub", format!("{ALICE_KEY}\n"));
    write("bob.pub", format!("{BOB_KEY}\n"));
    let renamed = ALICE_KEY.replace("alice@laptop", "alice@old");
    write("many.pub", format!("# ours\n{ALICE_KEY}\n\n{BOB_KEY}\n{ALICE_KEY}\n{renamed}\n"));
    fleet
}

/// The keys that the one create asked for.
fn asked(fleet: &Coordinator) -> Vec<String> {
    let state = fleet.state();
    assert_eq!(state.creates.len(), 1);
    state.creates[0].ssh_keys.clone()
}

#[test]
fn a_key_that_is_in_the_file_twice_is_sent_once() {
    let fleet = fleet();
    fleet.cli("create alice --ssh-key HERE/many.pub").run().ok();
    assert_eq!(asked(&fleet), [ALICE_KEY, BOB_KEY]);
}

#[test]
fn keys_of_several_files_are_all_sent_each_once() {
    let fleet = fleet();
    fleet.cli("create alice --ssh-key HERE/bob.pub --ssh-key HERE/alice.pub --ssh-key HERE/many.pub").run().ok();
    assert_eq!(asked(&fleet), [BOB_KEY, ALICE_KEY]);
}

#[test]
fn a_dash_is_standard_input() {
    let fleet = fleet();
    fleet.cli("create alice --ssh-key -").stdin(&format!("{ALICE_KEY}\n")).run().ok();
    assert_eq!(asked(&fleet), [ALICE_KEY]);
}

#[test]
fn a_file_that_is_no_key_file_is_refused_before_anything_is_asked() {
    let fleet = fleet();
    let bad = [
        ("nothing", String::new()),
        (
            "a private key",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----\n".to_owned(),
        ),
        ("options", format!("command=\"/bin/sh\" {ALICE_KEY}\n")),
        ("windows line ends", format!("{ALICE_KEY}\r\n")),
        ("one bad line", format!("{ALICE_KEY}\nnonsense\n")),
    ];
    for (what, text) in bad {
        std::fs::write(fleet.dir().join("bad.pub"), text).unwrap();
        let outcome = fleet.cli("create alice --ssh-key HERE/bad.pub").run();
        assert!(outcome.error(2).contains("bad.pub"), "{what}: {outcome:?}");
        assert!(!outcome.stderr.contains("secret"), "{what}: {outcome:?}");
    }
    let outcome = fleet.cli("create alice --ssh-key HERE/missing.pub").run();
    assert!(outcome.error(2).contains("missing.pub"), "{outcome:?}");
    assert!(fleet.state().creates.is_empty());
}
