//! The program itself: usage, completions, and readers that leave early.

use std::{fs::File, io::pipe};

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
