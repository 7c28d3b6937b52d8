//! `export`: what ssh itself makes of it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use containarium_proto::v1;

use crate::support::{Coordinator, container};

fn fleet() -> Coordinator {
    Coordinator::with([container("alice", "10.100.1.2"), container("bob", "10.100.2.7")])
}

/// The options we write; any other, such as `ProxyCommand`, would be somebody else's.
const OPTIONS: [&str; 5] = ["HostName", "User", "IdentityFile", "IdentitiesOnly", "ProxyJump"];

fn check_lines(text: &str) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words.len(), 2, "{line:?}");
        assert!(words[0] == "Host" && line.starts_with("Host ") || line.starts_with("    "), "{line:?}");
        assert!(words[0] == "Host" || OPTIONS.contains(&words[0]), "{line:?}");
    }
}

/// What ssh would do for `host` with this configuration.
fn ssh_says(config: &Path, host: &str) -> Vec<String> {
    let said = Command::new("ssh").arg("-G").arg("-F").arg(config).arg(host).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn the_file_is_private_whatever_stood_there() {
    let fleet = fleet();
    let file = fleet.dir().join("alice.conf");
    for before in [None, Some(0o644)] {
        if let Some(mode) = before {
            fs::write(&file, "an old one").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        let outcome = fleet.cli("export alice --output HERE/alice.conf").run();
        assert_eq!(outcome.ok(), "", "the file is the output");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("\nHost containarium-jump-alice\n") && text.contains("\nHost alice-dev\n"), "{text}");
        assert!(!text.contains("an old one"), "{text}");
        check_lines(&text);
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(fs::read_dir(fleet.dir()).unwrap().count(), 1, "nothing but the socket is left behind");
}

#[test]
fn a_file_that_cannot_be_written_is_wrong_usage_and_named() {
    let outcome = fleet().cli("export alice --output HERE/missing/alice.conf").run();
    assert!(outcome.error(2).contains("missing/alice.conf"), "{outcome:?}");
}

#[test]
fn ssh_understands_what_was_appended_for_several_users_and_twice() {
    let fleet = fleet();
    let mut all = String::new();
    for user in ["alice", "bob", "alice"] {
        all += &fleet.cli(&format!("export {user} --key /keys/{user}")).run().ok();
    }
    check_lines(&all);
    let config = fleet.dir().join("config");
    fs::write(&config, all).unwrap();
    for user in ["alice", "bob"] {
        let machine = ssh_says(&config, &format!("{user}-dev"));
        for said in [
            format!("user {user}"),
            format!("hostname {user}-container"),
            format!("proxyjump containarium-jump-{user}"),
            format!("identityfile /keys/{user}"),
            "identitiesonly yes".to_owned(),
        ] {
            assert!(machine.contains(&said), "{said}: {machine:?}");
        }
        let jump = ssh_says(&config, &format!("containarium-jump-{user}"));
        for said in [format!("user {user}"), "hostname 203.0.113.9".to_owned()] {
            assert!(jump.contains(&said), "{said}: {jump:?}");
        }
    }
    assert!(ssh_says(&config, "elsewhere").contains(&"hostname elsewhere".to_owned()));
}

#[test]
fn no_answer_of_the_coordinator_starts_a_line_of_its_own() {
    let hostile = "10.100.1.2\n    ProxyCommand evil";
    let as_name = v1::Container { name: hostile.to_owned(), ..container("alice", "10.100.1.2") };
    let as_user = v1::Container { user: "alice\n    ProxyCommand evil".to_owned(), ..container("alice", "10.100.1.2") };
    let as_jump = container("alice", "10.100.1.2");
    for (what, answer, jump) in
        [("name", as_name, "203.0.113.9"), ("user", as_user, "203.0.113.9"), ("jump", as_jump, hostile)]
    {
        let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
        {
            let mut state = fleet.state();
            state.jump_address = jump.to_owned();
            state.info = Some(answer);
        }
        let outcome = fleet.cli("export alice").run();
        assert!(!outcome.stdout.contains("ProxyCommand"), "{what}: {outcome:?}");
    }
}

#[test]
fn without_a_jump_address_it_says_how_to_give_one() {
    let fleet = fleet();
    fleet.state().jump_address.clear();
    let outcome = fleet.cli("export alice").run();
    outcome.error(2);
    assert!(outcome.stderr.contains("--jump-ip"), "{outcome:?}");
    let given = fleet.cli("export alice --jump-ip jump.example.com").run().ok();
    assert!(given.contains("    HostName jump.example.com\n"), "{given}");
}
