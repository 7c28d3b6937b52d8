//! Bad input: one clear line, the documented exit code, nothing changed.

use std::{fs, time::Duration};

use anyhow::Result;
use containarium_tests::lab::{Lab, eventually};
use serde_json::Value;

use crate::scenario;

/// Runs a command that must be refused with `code` and a single error line that holds `needle`.
fn refused(lab: &Lab, args: &[&str], code: i32, needle: &str) -> Result<()> {
    let said = lab.cli(args)?;
    assert_eq!(said.code, code, "{args:?}: {said:?}");
    let errors: Vec<&str> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?}: {said:?}");
    assert!(said.err.contains(needle), "{args:?} does not say '{needle}': {said:?}");
    Ok(())
}

#[test]
fn every_refusal_names_the_problem_and_changes_nothing() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let key = alice.public_key();
        let before = lab.list()?;

        refused(lab, &["info", "nosuch"], 3, "nosuch")?;
        refused(lab, &["delete", "nosuch", "--force"], 3, "nosuch")?;
        refused(lab, &["delete", "alice"], 9, "--force")?;
        refused(lab, &["create", "alice", "--ssh-key", &key], 4, "alice")?;
        for name in ["root", "admin", "ubuntu", "sshd", "incus", "nobody"] {
            refused(lab, &["create", name, "--ssh-key", &key], 2, "reserved")?;
        }
        refused(lab, &["create", "../x", "--ssh-key", &key], 2, "a-z")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--memory", "lots"], 2, "lots")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--memory", "1MB"], 2, "memory")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--cpu", "0"], 2, "cpu")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--node", "jump-9"], 3, "jump-9")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--image", "nosuch"], 3, "nosuch")?;
        refused(lab, &["create", "bob", "--ssh-key", &key, "--memory", "900TB"], 5, "jump-1")?;
        refused(lab, &["create", "bob", "--ssh-key", "/nonexistent"], 2, "/nonexistent")?;
        refused(lab, &["create", "bob", "--ssh-key", &alice.key.display().to_string()], 2, "private key")?;
        refused(lab, &["node", "info", "jump-9"], 3, "jump-9")?;

        assert_eq!(lab.list()?.len(), before.len());
        Ok(())
    });
}

#[test]
fn a_name_in_a_nodes_own_passwd_is_refused() {
    scenario(|lab| {
        lab.on("jump-2", "useradd --system --no-create-home localservice")?.ok()?;
        let person = lab.person("localservice")?;
        let result = containarium_tests::lab::eventually(
            "the name is refused fleet-wide",
            std::time::Duration::from_secs(40),
            || {
                let said = lab.cli(&["create", "localservice", "--ssh-key", &person.public_key(), "--dry-run"])?;
                Ok((said.code == 4 && said.err.contains("jump-2")).then_some(()))
            },
        );
        lab.on("jump-2", "userdel localservice")?.ok()?;
        result
    });
}

#[test]
fn callers_without_the_right_certificate_are_told_so() {
    scenario(|lab| {
        let certs = lab.var("CONTAINARIUM_CERTS_DIR").to_owned();
        let server_ip =
            lab.var("CONTAINARIUM_SERVER").trim_start_matches("https://").split(':').next().unwrap_or_default();
        let dir = tempfile::tempdir()?;
        let made = |name: &str, days: &str| -> Result<String> {
            let path = dir.path().join(name).display().to_string();
            let args = ["cert", "generate", "--server-ip", server_ip, "--days", days, "--output-dir", &path];
            lab.cli(&args)?.ok()?;
            Ok(path)
        };
        refused(lab, &["--certs-dir", &made("foreign", "30")?, "list"], 7, "certificate")?;
        refused(lab, &["--certs-dir", &made("expired", "-1")?, "list"], 7, "valid only from")?;
        refused(lab, &["--certs-dir", "/nonexistent", "list"], 7, "/nonexistent")?;
        // The fleet's own CA, but the coordinator's certificate in the client's place.
        let wrong = dir.path().join("wrong");
        fs::create_dir(&wrong)?;
        for (from, to) in [("ca.crt", "ca.crt"), ("server.crt", "client.crt"), ("server.key", "client.key")] {
            fs::copy(format!("{certs}/{from}"), wrong.join(to))?;
        }
        refused(lab, &["--certs-dir", &wrong.display().to_string(), "list"], 7, "role")?;
        refused(lab, &["--server", "https://127.0.0.1:1", "list"], 6, "127.0.0.1:1")
    });
}

/// What must not change: machines with their orders, and the operator's word on servers.
fn state(lab: &Lab) -> Result<Vec<Value>> {
    let fields = |value: &Value, names: &[&str]| names.iter().map(|name| value[*name].clone()).collect::<Value>();
    let nodes = lab.cli(&["node", "list", "-o", "json"])?.json()?;
    let of_node = |node| fields(node, &["name", "policy", "labels", "settings", "containers"]);
    let of_container =
        |c| fields(c, &["name", "node", "generation", "cpu", "memory", "disk", "protected", "expires_at"]);
    let containers = lab.list()?;
    Ok(containers
        .iter()
        .map(of_container)
        .chain(nodes["nodes"].as_array().into_iter().flatten().map(of_node))
        .collect())
}

/// Every command with what does not exist, contradicts itself or overflows: exit code, and a word of the line.
const NONSENSE: &[(&str, i32, &str)] = &[
    ("start nosuch", 3, "nosuch"),
    ("stop nosuch", 3, "nosuch"),
    ("restart nosuch", 3, "nosuch"),
    ("repair nosuch", 3, "nosuch"),
    ("protect nosuch", 3, "nosuch"),
    ("unprotect nosuch", 3, "nosuch"),
    ("resize nosuch --cpu 1", 3, "nosuch"),
    ("set nosuch --ttl 8h", 3, "nosuch"),
    ("move nosuch", 3, "nosuch"),
    ("export nosuch", 3, "nosuch"),
    ("key list nosuch", 3, "nosuch"),
    ("key add nosuch --ssh-key KEY", 3, "nosuch"),
    ("move alice --to jump-9", 3, "jump-9"),
    ("node cordon jump-9", 3, "jump-9"),
    ("node uncordon jump-9", 3, "jump-9"),
    ("node drain jump-9", 3, "jump-9"),
    ("node retire jump-9", 3, "jump-9"),
    ("node set jump-9 --max-containers 5", 3, "jump-9"),
    ("node label set jump-9 a=b", 3, "jump-9"),
    ("node label remove jump-1 nosuch", 3, "nosuch"),
    ("node adopt jump-9", 3, "jump-9"),
    ("image default nosuch", 3, "nosuch"),
    ("key remove alice SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 3, "SHA256"),
    ("key remove alice no-fingerprint", 2, "no-fingerprint"),
    ("resize alice", 2, "--cpu"),
    ("resize alice --cpu 0", 2, "cpu"),
    ("resize alice --cpu 4-2", 2, "4-2"),
    ("resize alice --cpu 1.5.5", 2, "1.5.5"),
    ("resize alice --memory 99999999999999999999GB", 2, "99999999999999999999GB"),
    ("resize alice --memory -1GB", 2, "-1"),
    ("resize alice --disk 18446744073709551616", 2, "18446744073709551616"),
    ("resize alice --memory 1000TiB", 5, "jump-1"),
    ("set alice", 2, "--ttl"),
    ("set alice --ttl 1s", 2, "at least 5m"),
    ("set alice --ttl 99999999999999999999d", 2, "such as 8h"),
    ("set alice --idle-stop 1m", 2, "at least 30m"),
    ("move alice --to jump-2 --cancel", 2, "--cancel"),
    ("move alice --cancel", 9, "alice"),
    ("create bob --ssh-key KEY --autostart on --no-autostart", 2, "--no-autostart"),
    ("create bob --ssh-key KEY --label nonsense", 2, "nonsense"),
    ("create bob --ssh-key KEY --label a=b --label a=c", 2, "a"),
    ("create bob --ssh-key KEY --disk-quota 1GB", 2, "disk"),
    ("node retire jump-1", 9, "jump-1"),
    ("node retire jump-1 --lost jump-2", 2, "--lost"),
    ("node set jump-1", 2, "--"),
    ("node set jump-1 --overcommit-cpu 1000", 2, "1000"),
    ("node set jump-1 --max-containers 0", 2, "0"),
    ("node drain jump-1 --parallel 0", 2, "0"),
    ("node label set jump-1 =x", 2, "=x"),
    ("node add jump-1 --address nonsense", 2, "nonsense"),
    ("image import noble --metadata KEY --rootfs KEY", 2, "containarium-"),
    ("image import containarium-x --metadata KEY --rootfs KEY", 2, "tar file"),
    ("image default", 2, "<IMAGE>"),
    ("list --status nonsense", 2, "nonsense"),
    ("list --sort nonsense", 2, "nonsense"),
    ("list --node jump-9 --limit nonsense", 2, "nonsense"),
    ("events --limit -1", 2, "-1"),
    ("top --node jump-9", 3, "jump-9"),
];

#[test]
fn every_command_refuses_nonsense_and_changes_nothing() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let key = alice.public_key();
        lab.cli(&["create", "alice", "--ssh-key", &key, "--node", "jump-1"])?.ok()?;
        let before = state(lab)?;
        let mut wrong = Vec::new();
        for (line, code, needle) in NONSENSE {
            let line = line.replace("KEY", &key);
            let said = lab.cli(&line.split(' ').collect::<Vec<_>>())?;
            let errors = said.err.lines().filter(|line| line.starts_with("error: ")).count();
            if said.code != *code || errors != 1 || !said.err.contains(needle) {
                wrong.push(format!("{line}: wanted {code} and '{needle}': {said:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(state(lab)?, before);
        Ok(())
    });
}

#[test]
fn what_is_busy_and_what_is_away_is_refused_with_since_when() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let key = alice.public_key();
        lab.cli(&["create", "alice", "--ssh-key", &key, "--node", "jump-1"])?.ok()?;
        lab.cli(&["create", "bob", "--ssh-key", &key, "--node", "jump-2"])?.ok()?;
        lab.ssh(&alice, "head -c 100M /dev/urandom > data")?.ok()?;
        std::thread::scope(|scope| -> Result<()> {
            let moving = scope.spawn(|| lab.cli(&["move", "alice", "--to", "jump-3"]));
            eventually("it moves", Duration::from_secs(30), || {
                Ok((lab.container("alice")?["moving_to"] == "jump-3").then_some(()))
            })?;
            for line in
                ["resize alice --cpu 1", "stop alice", "restart alice", "repair alice", "move alice --to jump-2"]
            {
                let busy = "alice-container is busy: moving from jump-1 to jump-3, since 20";
                refused(lab, &line.split(' ').collect::<Vec<_>>(), 4, busy)?;
            }
            moving.join().expect("the move's thread")?.ok().map(drop)
        })?;
        lab.lab(&["partition", "jump-2"])?.ok()?;
        let outcome = away(lab);
        lab.lab(&["heal", "jump-2"])?.ok()?;
        outcome?;
        eventually("bob is deleted", Duration::from_secs(60), || Ok((lab.list()?.len() == 1).then_some(())))
    });
}

fn away(lab: &Lab) -> Result<()> {
    eventually("jump-2 is seen to be away", Duration::from_secs(60), || {
        Ok((lab.container("bob")?["status"] == "Unreachable").then_some(()))
    })?;
    let before = state(lab)?;
    let lines = [
        "stop bob",
        "restart bob",
        "resize bob --cpu 1",
        "repair bob",
        "set bob --autostart off",
        "move bob",
        "node adopt jump-2",
    ];
    for line in lines {
        refused(lab, &line.split(' ').collect::<Vec<_>>(), 6, "jump-2")?;
    }
    refused(lab, &["move", "alice", "--to", "jump-2"], 5, "jump-2")?;
    assert_eq!(state(lab)?, before);
    lab.cli(&["delete", "bob", "--force"])?.ok()?;
    for line in ["start bob", "protect bob", "set bob --ttl 8h", "move bob"] {
        refused(lab, &line.split(' ').collect::<Vec<_>>(), 4, "bob-container is busy: it is being deleted, since 20")?;
    }
    Ok(())
}
