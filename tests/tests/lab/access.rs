//! One user's way in, and nothing beyond it.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::{Context, Result};
use containarium_tests::lab::{Lab, Person, eventually};

use crate::scenario;

/// The jump server that a person's connection from `client` goes through, as the container sees it.
pub(crate) fn via(lab: &Lab, person: &Person, client: &str) -> Result<String> {
    let dev = format!("{}-dev", person.name);
    let answer = lab.ssh_from(client, person, &[&dev, "echo ${SSH_CONNECTION%% *} $(hostname)"])?.ok()?.out;
    let (from, host) = answer.split_once(' ').context("two words")?;
    assert_eq!(host, format!("{}-container", person.name));
    Ok(lab.lab(&["whois", from])?.ok()?.out)
}

#[test]
fn ssh_works_through_whichever_server_the_balancer_picks() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let mut servers = BTreeSet::new();
        for client in lab.clients() {
            servers.insert(via(lab, &alice, client)?);
        }
        assert_eq!(servers.len(), 3, "connections from {:?} landed on {servers:?} only", lab.clients());
        assert_eq!(lab.ssh(&alice, "sudo whoami")?.ok()?.out, "root");
        assert_eq!(lab.ssh(&alice, "whoami; pwd")?.ok()?.out, "alice\n/home/alice");
        Ok(())
    });
}

#[test]
fn a_client_stays_with_one_server() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let client = lab.clients()[0];
        let first = via(lab, &alice, client)?;
        for _ in 0..3 {
            assert_eq!(via(lab, &alice, client)?, first);
        }
        Ok(())
    });
}

#[test]
fn delete_ends_open_sessions_and_frees_the_address_only_afterwards() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let first = lab.container("alice")?;
        let (ip, node) =
            (first["ip"].as_str().context("ip")?.to_owned(), first["node"].as_str().context("node")?.to_owned());
        thread::scope(|scope| -> Result<()> {
            let session = scope.spawn(|| lab.ssh(&alice, "echo in; sleep 300"));
            eventually("alice is logged in", Duration::from_secs(20), || {
                let there = lab.on(&node, "incus exec alice-container -- pgrep -x sleep")?;
                Ok((there.code == 0).then_some(()))
            })?;
            lab.cli(&["delete", "alice", "--force"])?.ok()?;
            let ended = session.join().expect("the session's thread")?;
            assert_ne!(ended.code, 0, "the session outlived the delete: {ended:?}");
            Ok(())
        })?;
        let refused = lab.cli(&["info", "alice"])?;
        assert_eq!(refused.code, 3, "{refused:?}");
        containarium_tests::lab_check::settle(lab)?;
        lab.person("bob")?;
        let bob = lab.person("bob")?;
        lab.cli(&["create", "bob", "--ssh-key", &bob.public_key(), "--node", &node])?.ok()?;
        assert_eq!(lab.container("bob")?["ip"], ip.as_str(), "the lowest free address is used again");
        Ok(())
    });
}

#[test]
fn keys_of_one_file_all_open_the_door() {
    scenario(|lab| {
        let (laptop, desktop) = (lab.person("carol")?, lab.person("carol2")?);
        lab.cli(&["create", "carol", "--ssh-key", &laptop.public_key(), "--ssh-key", &desktop.public_key()])?.ok()?;
        let second = Person { name: "carol".into(), key: desktop.key };
        for person in [&laptop, &second] {
            assert_eq!(lab.ssh(person, "whoami")?.ok()?.out, "carol");
        }
        Ok(())
    });
}
