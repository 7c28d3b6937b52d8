//! Bad input: one clear line, the documented exit code, nothing changed.

use std::fs;

use anyhow::Result;
use containarium_tests::lab::Lab;

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
