//! What the coordinator refuses, and what is said when it is not there: one line, and an exit code for programs.

use std::time::{Duration, Instant};

use containarium_proto::error::{Reason, Refusal};

use crate::support::{ALICE_KEY, Cli, Coordinator};

/// The page that programs are written from.
const DOCUMENTED: &str = include_str!("../../../docs/exit-codes.md");

/// The exit code that the page gives for a reason.
fn documented(reason: Reason) -> u8 {
    let cell = format!("`{}`", reason.as_str());
    let row = DOCUMENTED.lines().find(|line| line.contains(&cell)).unwrap();
    row.split('|').nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn every_reason_gives_its_documented_exit_code_and_one_error_line() {
    for &reason in Reason::ALL {
        let fleet = Coordinator::refusing(Refusal::new(reason, "no room on jump-1").hint("add a server"));
        let outcome = fleet.cli("list -o json").run();
        assert_eq!(outcome.error(documented(reason)), "no room on jump-1", "{reason:?}");
        assert_eq!(outcome.stderr, "error: no room on jump-1\nhint: add a server\n", "{reason:?}");
    }
}

#[test]
fn a_hostile_message_stays_one_line_without_control_characters() {
    let message = "no\nerror: made up\r\u{1b}[2J\u{9b}31m\0\u{7}\u{8}end";
    let fleet = Coordinator::refusing(Refusal::new(Reason::NotFound, message).hint("try\nhint: made\u{1b}]0;up\u{7}"));
    let outcome = fleet.cli("info alice").run();
    assert!(outcome.error(3).ends_with("end"), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 2, "{outcome:?}");
    assert!(!outcome.stderr.chars().any(|c| c.is_control() && c != '\n'), "{outcome:?}");
}

#[test]
fn a_socket_that_is_not_there_is_named_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("alice.pub");
    std::fs::write(&key, ALICE_KEY).unwrap();
    let server = format!("unix://{}/nobody.sock", dir.path().display());
    let create = format!("create alice --ssh-key {}", key.display());
    for line in ["list", "info alice", "delete alice --force", "stop alice", "export alice", &create] {
        let began = Instant::now();
        let outcome = Cli::new(["--server", &server].into_iter().chain(line.split(' '))).run();
        assert!(outcome.error(6).contains(&server), "{line}: {outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{line}: {:?}", began.elapsed());
    }
}

#[test]
fn a_coordinator_that_says_nothing_is_given_up_on_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("silent.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = format!("unix://{}", socket.display());
    let began = Instant::now();
    let outcome = Cli::new(["--server", &server, "--timeout", "1s", "list"]).run();
    assert!(outcome.error(6).contains(&server), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
