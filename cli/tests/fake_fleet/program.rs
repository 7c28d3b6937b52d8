//! The program itself: usage, completions, and readers that leave early.

use std::{fs::File, io::pipe};

use containarium_proto::v1;

use crate::support::{Cli, Coordinator, container};

#[test]
fn wrong_usage_ends_with_2_and_says_why() {
    let lines = [
        ("create alice", "--ssh-key"),
        ("frobnicate", "frobnicate"),
        ("list -o xml", "xml"),
        ("list --timeout soon", "--timeout"),
        ("delete Alice --force", "Alice"),
    ];
    for (line, why) in lines {
        let outcome = Cli::new(line.split(' ')).run();
        outcome.error(2);
        assert!(outcome.stderr.contains(why), "{line}: {outcome:?}");
    }
}

#[test]
fn an_address_of_no_known_kind_is_wrong_usage_also_without_certificates() {
    for server in ["jump-1:7443", "http://jump-1:7443"] {
        let outcome = Cli::new(["--server", server, "list"]).run();
        assert!(outcome.error(2).contains(server), "{outcome:?}");
    }
}

#[test]
fn help_and_version_are_output() {
    for line in ["--help", "help create", "--version", "create --version"] {
        let outcome = Cli::new(line.split(' ')).run();
        assert_eq!(outcome.stderr, "", "{line}");
        assert!(outcome.ok().contains("containarium"), "{line}");
    }
}

#[test]
fn completions_are_printed_without_any_coordinator() {
    for shell in ["bash", "zsh", "fish"] {
        let text = Cli::new(["completions", shell]).run().ok();
        assert!(text.contains("containarium"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_left_is_no_error() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    for line in ["completions bash", "list", "list -o json", "version"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let outcome = fleet.cli(line).start_into(writer).wait();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
    }
}

#[test]
fn output_that_could_not_be_written_is_not_a_success() {
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let outcome = fleet.cli("list -o json").start_into(full).wait();
    assert!(outcome.error(1).starts_with("writing the output"), "{outcome:?}");
}

#[test]
fn images_are_listed_and_one_is_the_default() {
    let fleet = Coordinator::with([]);
    let image = |alias: &str| v1::FleetImage {
        alias: alias.to_owned(),
        fingerprint: "ab".repeat(32),
        nodes: vec!["jump-1".to_owned()],
        missing_on: vec!["jump-2".to_owned()],
        is_default: false,
    };
    fleet.state().images = vec![image("containarium"), image("containarium-new")];
    let table = fleet.cli("image default containarium-new").run().ok();
    let line = table.lines().find(|line| line.contains("containarium-new")).unwrap();
    assert!(line.contains("abababababab ") && line.contains("yes") && line.contains("jump-2"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&fleet.cli("image list -o json").run().ok()).unwrap();
    assert_eq!((json["total_count"].as_u64(), &json["images"][1]["is_default"]), (Some(2), &true.into()));
    for line in ["image default", "image default a --reset"] {
        fleet.cli(line).run().error(2);
    }
}
