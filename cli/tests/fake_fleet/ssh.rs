//! `export`, `ssh-config sync` and `ssh` with a fleet that certifies its hosts: what OpenSSH makes of what is written, and
//! what becomes of a home that is somebody's own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use containarium_proto::v1;

use crate::support::{ALICE_KEY, Cli, Coordinator, FLEET, container};

/// The fleet's key, as another person's key would look.
const AUTHORITY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJqzAQRxEwRv7jLBI5nhfglRGNC5pn5DnhXH6KhJa1Y";

fn fleet() -> Coordinator {
    let fleet = Coordinator::with([container("alice", "10.100.1.2"), container("bob", "10.100.2.7")]);
    assert!(ALICE_KEY.starts_with(AUTHORITY), "a key that parses");
    fleet.state().authorities = vec![AUTHORITY.to_owned()];
    fleet
}

/// A command at home, in the coordinator's folder.
fn at_home(fleet: &Coordinator, line: &str) -> Cli {
    fleet.cli(line).env("HOME", fleet.dir())
}

fn read(fleet: &Coordinator, name: &str) -> String {
    fs::read_to_string(fleet.dir().join(name)).unwrap_or_default()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What ssh would do for `host` with this configuration.
fn ssh_says(config: &Path, host: &str) -> String {
    let said = Command::new("ssh").arg("-G").arg("-F").arg(config).arg(host).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

fn known_hosts_line() -> String {
    format!("@cert-authority *.{FLEET}.containarium {AUTHORITY} containarium-fleet-{FLEET}\n")
}

#[test]
fn an_export_that_is_appended_makes_ssh_strict_and_finds_its_known_hosts() {
    let fleet = fleet();
    let text = at_home(&fleet, "export alice").run().ok();
    let config = fleet.dir().join("config");
    fs::write(&config, &text).unwrap();
    let known_hosts = fleet.dir().join(".ssh/containarium/known_hosts");
    for (host, alias) in [("alice-dev", "alice-container"), ("containarium-jump-alice", "jump")] {
        let said = ssh_says(&config, host);
        for option in [
            format!("hostkeyalias {alias}.{FLEET}.containarium\n"),
            format!("userknownhostsfile {}\n", known_hosts.display()),
            "stricthostkeychecking true\n".to_owned(),
            "updatehostkeys false\n".to_owned(),
        ] {
            assert!(said.contains(&option), "{host}: {option}: {said}");
        }
    }
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), known_hosts_line());
    assert_eq!((mode(&known_hosts), mode(known_hosts.parent().unwrap())), (0o644, 0o700));
    assert!(text.lines().any(|line| line == format!("# {}", known_hosts_line().trim_end())), "for elsewhere: {text}");
}

#[test]
fn known_hosts_keeps_what_others_wrote_and_follows_a_change_of_keys() {
    let fleet = fleet();
    let file = fleet.dir().join("my hosts");
    fs::write(&file, "github.com ssh-ed25519 AAAA mine\n@cert-authority *.old ssh-ed25519 AAAA containarium-fleet-x\n")
        .unwrap();
    let others = fs::read_to_string(&file).unwrap();
    // The test's command line splits at blanks.
    fs::rename(&file, fleet.dir().join("hosts")).unwrap();
    for _ in 0..2 {
        at_home(&fleet, "export alice --known-hosts HERE/hosts").run().ok();
        assert_eq!(read(&fleet, "hosts"), format!("{others}{}", known_hosts_line()));
    }
    let next = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD";
    fleet.state().authorities = vec![next.to_owned(), AUTHORITY.to_owned()];
    at_home(&fleet, "export alice --known-hosts HERE/hosts").run().ok();
    assert_eq!(
        read(&fleet, "hosts"),
        format!("{others}{}{}", known_hosts_line().replace(AUTHORITY, next), known_hosts_line())
    );
}

#[test]
fn an_older_coordinator_and_one_that_lies_change_no_file() {
    let fleet = fleet();
    fleet.state().authorities.clear();
    let text = at_home(&fleet, "export alice").run().ok();
    assert!(!text.contains("HostKeyAlias") && !fleet.dir().join(".ssh").exists(), "{text}");
    for lie in ["ssh-ed25519 AAAA\n@cert-authority * ssh-ed25519 AAAA", "ssh-rsa AAAA", ""] {
        fleet.state().authorities = vec![lie.to_owned()];
        for line in ["export alice", "ssh-config sync", "ssh alice"] {
            at_home(&fleet, line).run().error(1);
        }
    }
    assert!(!fleet.dir().join(".ssh").exists());
    // A home that cannot be written to.
    fleet.state().authorities = vec![AUTHORITY.to_owned()];
    let outcome = fleet.cli("export alice").run();
    assert!(outcome.error(2).contains("/nonexistent/.ssh/containarium/known_hosts"), "{outcome:?}");
    assert!(outcome.stderr.contains("hint: --known-hosts"), "{outcome:?}");
}

#[test]
fn sync_writes_one_file_for_all_and_takes_out_who_is_gone() {
    let fleet = fleet();
    let listed = at_home(&fleet, "ssh-config sync --key /keys/me --include").run().ok();
    assert_eq!(listed, "ssh alice-dev\nssh bob-dev\n");
    let file = fleet.dir().join(".ssh/containarium/config");
    let include = format!("Include {}\n\n", file.display());
    assert_eq!(read(&fleet, ".ssh/config"), include);
    assert_eq!((mode(&file), mode(&fleet.dir().join(".ssh/config"))), (0o600, 0o600));
    for user in ["alice", "bob"] {
        let said = ssh_says(&fleet.dir().join(".ssh/config"), &format!("{user}-dev"));
        assert!(
            said.contains(&format!("hostname {user}-container\n")) && said.contains("identityfile /keys/me\n"),
            "{said}"
        );
    }
    let before = fs::metadata(&file).unwrap().ino();
    at_home(&fleet, "ssh-config sync --key /keys/me").run().ok();
    assert_eq!(fs::metadata(&file).unwrap().ino(), before, "what is right is not written again");
    assert_eq!(read(&fleet, ".ssh/config"), include, "once");

    fleet.state().containers[0].set_phase(v1::Phase::Deleting);
    let json: serde_json::Value = serde_json::from_str(&at_home(&fleet, "ssh-config sync -o json").run().ok()).unwrap();
    assert_eq!((&json["hosts"], &json["included"]), (&serde_json::json!(["bob-dev"]), &true.into()));
    assert!(!fs::read_to_string(&file).unwrap().contains("alice"));
    at_home(&fleet, "ssh-config sync --user bob").run().ok();
    at_home(&fleet, "ssh-config sync --user alice").run().error(3);
    let leftovers: Vec<_> =
        fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(leftovers.len(), 2, "{leftovers:?}");
}

#[test]
fn somebodys_own_configuration_gets_one_line_and_only_when_that_was_said() {
    let fleet = fleet();
    let own = "Host work\n    HostName work.example\n";
    let dir = fleet.dir().join("dotfiles");
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(fleet.dir().join(".ssh")).unwrap();
    fs::write(dir.join("config"), own).unwrap();
    fs::set_permissions(dir.join("config"), Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(dir.join("config"), fleet.dir().join(".ssh/config")).unwrap();
    // Nobody to ask.
    for line in ["ssh-config sync", "ssh-config sync --no-include"] {
        let outcome = at_home(&fleet, line).run();
        assert!(outcome.stderr.contains("--include"), "{outcome:?}");
        outcome.ok();
        assert_eq!(read(&fleet, ".ssh/config"), own);
    }
    at_home(&fleet, "ssh-config sync --include").run().ok();
    let after = read(&fleet, ".ssh/config");
    assert!(after.starts_with("Include ") && after.ends_with(own) && after.lines().count() == 4, "{after}");
    assert!(fs::symlink_metadata(fleet.dir().join(".ssh/config")).unwrap().is_symlink(), "a link stays one");
    at_home(&fleet, "ssh-config sync --include --no-include").run().error(2);
}

/// A program `ssh` that says what it was told, and ends with 42.
fn with_a_fake_ssh(fleet: &Coordinator, line: &str) -> Cli {
    let bin = fleet.dir().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("ssh"), "#!/bin/sh\nfor word; do echo \"$word\"; done\nexit 42\n").unwrap();
    fs::set_permissions(bin.join("ssh"), Permissions::from_mode(0o755)).unwrap();
    at_home(fleet, line).env("PATH", bin)
}

#[test]
fn ssh_is_become_with_everything_that_was_typed_and_its_exit_code() {
    let fleet = fleet();
    let own = fleet.dir().join(".ssh/containarium/ssh-alice.conf").display().to_string();
    let outcome =
        with_a_fake_ssh(&fleet, "ssh --key /keys/me alice -o LogLevel=ERROR -L 8080:localhost:80 -- uname -a").run();
    let words = ["-F", &own, "alice-dev", "-o", "LogLevel=ERROR", "-L", "8080:localhost:80", "--", "uname", "-a"];
    assert_eq!((outcome.code, outcome.stderr.as_str()), (42, ""), "{outcome:?}");
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), words);
    assert!(ssh_says(Path::new(&own), "alice-dev").contains("identityfile /keys/me\n"));
    // Without --, as with ssh itself; by the container's name too.
    let outcome = with_a_fake_ssh(&fleet, "ssh alice-container hostname").run();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["-F", &own, "alice-dev", "hostname"]);
    assert!(ssh_says(Path::new(&own), "alice-dev").contains("identityfile ~/.ssh/id_ed25519\n"));
    // What sync has written is used as it is, also when nobody can be asked.
    at_home(&fleet, "ssh-config sync --key /keys/synced").run().ok();
    fleet.state().refusal =
        Some(containarium_proto::error::Refusal::new(containarium_proto::error::Reason::NotReady, "no"));
    let outcome = with_a_fake_ssh(&fleet, "ssh bob").run();
    let synced = fleet.dir().join(".ssh/containarium/config").display().to_string();
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["-F", &synced, "bob-dev"], "{outcome:?}");
    with_a_fake_ssh(&fleet, "ssh carol").run().error(6);
}

#[test]
fn ssh_refuses_what_can_never_work_and_says_when_there_is_no_ssh() {
    let fleet = fleet();
    for line in ["ssh", "ssh Alice", "ssh -v", "ssh --key", "ssh ../alice"] {
        at_home(&fleet, line).run().error(2);
    }
    with_a_fake_ssh(&fleet, "ssh carol").run().error(3);
    let outcome = at_home(&fleet, "ssh alice").env("PATH", "/nonexistent").run();
    assert!(outcome.error(127).contains("no 'ssh'") && outcome.stderr.contains("openssh-client"), "{outcome:?}");
}

#[test]
fn the_authorities_are_listed_and_each_step_of_a_change_is_asked_for_by_name() {
    use v1::change_ssh_authority_request::Change;
    let fleet = fleet();
    let json: serde_json::Value = serde_json::from_str(&fleet.cli("ssh-ca list -o json").run().ok()).unwrap();
    let expected = serde_json::json!([{"state": "active", "fingerprint": "SHA256:abc", "public_key": AUTHORITY}]);
    assert_eq!(json["authorities"], expected);
    for line in ["ssh-ca prepare", "ssh-ca use SHA256:x", "ssh-ca forget SHA256:y --force"] {
        assert!(fleet.cli(line).run().ok().starts_with("active  SHA256:abc  ssh-ed25519 "), "{line}");
    }
    let asked: Vec<_> = fleet.state().authority_changes.iter().map(|c| (c.change.clone().unwrap(), c.force)).collect();
    let steps = [
        (Change::Prepare(v1::PrepareAuthority {}), false),
        (Change::Use("SHA256:x".into()), false),
        (Change::Forget("SHA256:y".into()), true),
    ];
    assert_eq!(asked, steps);
    for line in ["ssh-ca use", "ssh-ca forget"] {
        fleet.cli(line).run().error(2);
    }
}
