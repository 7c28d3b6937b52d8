//! `create`: what it shows, and that it asks for one container however often it has to ask.

use std::time::{Duration, Instant};

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use tonic::Status;

use crate::support::{ALICE_KEY, Cli, Coordinator, Step, container, created, progress, until};

const LINE: &str = "create alice --ssh-key HERE/alice.pub";
const SSH: &str = "ssh -J alice@203.0.113.9 alice@alice-container\n";

fn alice() -> v1::Container {
    container("alice", "10.100.1.2")
}

fn scripted(scripts: impl IntoIterator<Item = Vec<Step>>) -> Coordinator {
    let fleet = Coordinator::scripted(alice(), scripts);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    fleet
}

fn create(fleet: &Coordinator) -> Cli {
    fleet.cli(LINE)
}

/// Some steps, then nothing more.
fn stuck() -> Vec<Step> {
    vec![Step::say(progress(1, 3, "placed on jump-1")), Step::Hang]
}

/// The container was asked for this often, each time as the same request.
fn asked(fleet: &Coordinator, times: usize) {
    let creates = fleet.state().creates.clone();
    assert_eq!(creates.len(), times);
    assert!(!creates[0].request_id.is_empty());
    assert!(creates.iter().all(|request| *request == creates[0]), "{creates:?}");
}

#[test]
fn without_a_terminal_progress_is_plain_lines_and_only_the_ssh_line_is_output() {
    let fleet = scripted([created(&alice())]);
    let outcome = create(&fleet).run();
    assert!(!outcome.stderr.contains(['\u{1b}', '\r']), "{outcome:?}");
    let steps: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(steps, ["[1/3] placed on jump-1", "[2/3] created", "[3/3] ssh works"]);
    assert_eq!(outcome.ok(), SSH);
    asked(&fleet, 1);
}

#[test]
fn json_is_all_there_is_on_standard_output() {
    let fleet = scripted([created(&alice())]);
    let outcome = fleet.cli(&format!("{LINE} -o json")).run();
    let made: serde_json::Value = serde_json::from_str(&outcome.ok()).unwrap();
    assert_eq!(made["name"], "alice-container");
    assert_eq!(made["ip"], "10.100.1.2");
}

#[test]
fn a_stream_that_breaks_is_asked_for_again_as_the_same_request() {
    let broken =
        vec![Step::say(progress(1, 3, "placed on jump-1")), Step::Fail(Status::unavailable("connection reset"))];
    let fleet = scripted([broken, created(&alice())]);
    let outcome = create(&fleet).run();
    assert!(outcome.stderr.contains("asking again"), "{outcome:?}");
    assert_eq!(outcome.ok(), SSH);
    asked(&fleet, 2);
}

#[test]
fn a_coordinator_that_is_stopping_is_asked_again() {
    let stopping = Refusal::new(Reason::NotReady, "the coordinator is stopping");
    let fleet = scripted([vec![Step::Fail(stopping.into())], created(&alice())]);
    assert_eq!(create(&fleet).run().ok(), SSH);
    asked(&fleet, 2);
}

#[test]
fn a_coordinator_killed_in_the_middle_finds_the_create_waiting_when_it_is_back() {
    let mut fleet = scripted([stuck(), created(&alice())]);
    let running = create(&fleet).start();
    until("the first step", || running.stderr().contains("[1/3]").then_some(()));
    fleet.stop();
    // Twice, so that it was also asked for while there was no socket at all.
    until("it asks again", || (running.stderr().matches("asking again").count() > 1).then_some(()));
    fleet.restart();
    assert_eq!(running.wait().ok(), SSH);
    asked(&fleet, 2);
}

#[test]
fn a_create_that_failed_for_good_is_not_asked_for_again() {
    for &reason in Reason::ALL.iter().filter(|reason| reason.exit_code() != 6) {
        let refusal = Refusal::new(reason, "the container did not start").hint("look at it");
        let fleet = scripted([vec![Step::say(progress(1, 3, "placed on jump-1")), Step::Fail(refusal.into())]]);
        let outcome = create(&fleet).run();
        assert_eq!(outcome.error(reason.exit_code()), "the container did not start");
        assert!(outcome.stderr.ends_with("hint: look at it\n"), "{outcome:?}");
        asked(&fleet, 1);
    }
}

#[test]
fn a_stream_that_ends_without_the_container_is_a_defect_not_a_success() {
    let fleet = scripted([vec![], vec![Step::say(progress(1, 3, "placed on jump-1"))]]);
    for _ in 0..2 {
        create(&fleet).run().error(1);
    }
}

#[test]
fn a_message_of_the_server_moves_no_cursor() {
    let mut script = vec![Step::say(progress(1, 4, "pulling\r\u{1b}[2Kerror: all is lost\nmade up"))];
    script.extend(created(&alice()));
    let fleet = scripted([script]);
    let outcome = create(&fleet).run();
    assert!(!outcome.stderr.contains(['\u{1b}', '\r']), "{outcome:?}");
    assert!(!outcome.stderr.contains("\nmade up"), "{outcome:?}");
}

/// `create` with a limit of one second; the limit leaves room for a slow machine and none for a retry of a minute.
fn ends_in_time(fleet: &Coordinator) {
    let began = Instant::now();
    fleet.cli(&format!("{LINE} --timeout 1s")).run().error(6);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn timeout_bounds_a_create_whose_stream_goes_silent() {
    ends_in_time(&scripted([stuck()]));
}

#[test]
fn timeout_bounds_a_create_that_is_never_answered() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("silent.sock");
    // Takes connections as far as the kernel does, and says nothing.
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let key = dir.path().join("alice.pub");
    std::fs::write(&key, ALICE_KEY).unwrap();
    let began = Instant::now();
    let line = format!("--server unix://{} --timeout 1s create alice --ssh-key {}", socket.display(), key.display());
    Cli::new(line.split(' ')).run().error(6);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
