//! kill -9 in the middle, on the real thing.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use containarium_tests::lab::{Lab, eventually};

use crate::scenario;

/// Instances of this name over all nodes: must never be more than one.
fn copies(lab: &Lab, name: &str) -> Result<usize> {
    let mut found = 0;
    for node in lab.nodes() {
        let instances = lab.on(node, "incus query /1.0/instances")?.json()?;
        found += instances.as_array().context("instances")?.iter().filter(|i| i.to_string().contains(name)).count();
    }
    Ok(found)
}

/// Waits until the instance exists but its create has not been answered: the middle.
fn half_made(lab: &Lab, name: &str) -> Result<()> {
    eventually("the instance appears", Duration::from_secs(30), || Ok((copies(lab, name)? > 0).then_some(())))
}

#[test]
fn an_agent_killed_in_the_middle_of_a_create_finishes_it_once() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let said = thread::scope(|scope| {
            let create =
                scope.spawn(|| lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"]));
            half_made(lab, "alice-container")?;
            lab.on("jump-1", "kill -9 $(cat /run/lab/agent.pid)")?.ok()?;
            create.join().expect("the create's thread")
        })?;
        said.ok()?;
        assert_eq!(copies(lab, "alice-container")?, 1);
        assert_eq!(lab.ssh(&alice, "sudo whoami")?.ok()?.out, "root");
        Ok(())
    });
}

#[test]
fn a_coordinator_killed_in_the_middle_of_a_create_gives_the_same_container() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let said = thread::scope(|scope| {
            let create = scope.spawn(|| lab.cli(&["create", "alice", "--ssh-key", &alice.public_key()]));
            half_made(lab, "alice-container")?;
            lab.lab(&["coordinator", "kill"])?.ok()?;
            create.join().expect("the create's thread")
        })?;
        // The CLI repeated its request id to the coordinator that came back.
        said.ok()?;
        assert_eq!(copies(lab, "alice-container")?, 1);
        assert_eq!(lab.list()?.len(), 1);
        assert_eq!(lab.ssh(&alice, "whoami")?.ok()?.out, "alice");
        Ok(())
    });
}

#[test]
fn incusd_killed_in_the_middle_of_a_create_finishes_it_once() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let said = thread::scope(|scope| {
            let create =
                scope.spawn(|| lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-2"]));
            half_made(lab, "alice-container")?;
            lab.on("jump-2", "kill -9 $(cat /run/lab/incusd.pid)")?.ok()?;
            create.join().expect("the create's thread")
        })?;
        said.ok()?;
        assert_eq!(copies(lab, "alice-container")?, 1);
        assert_eq!(lab.ssh(&alice, "whoami")?.ok()?.out, "alice");
        Ok(())
    });
}

#[test]
fn a_node_that_lost_power_comes_back_with_its_users() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-3"])?.ok()?;
        lab.ssh(&alice, "echo precious > ~/data && sync")?.ok()?;
        lab.lab(&["crash", "jump-3"])?.ok()?;
        eventually("the list says Unreachable", Duration::from_secs(60), || {
            Ok((lab.container("alice")?["status"] == "Unreachable").then_some(()))
        })?;
        // Everyone else goes on: the fleet places on what is left.
        let bob = lab.person_with_container("bob")?;
        assert_eq!(lab.ssh(&bob, "whoami")?.ok()?.out, "bob");
        // A delete is recorded, and carried out when the node is back.
        let carol = lab.person("carol")?;
        let refused = lab.cli(&["create", "carol", "--ssh-key", &carol.public_key(), "--node", "jump-3"])?;
        assert_eq!(refused.code, 5, "{refused:?}");

        lab.lab(&["start", "jump-3"])?.ok()?;
        eventually("alice is running again", Duration::from_secs(120), || {
            Ok((lab.container("alice")?["status"] == "Running").then_some(()))
        })?;
        let data = eventually("alice can log in", Duration::from_secs(60), || {
            let said = lab.ssh(&alice, "cat ~/data")?;
            Ok((said.code == 0).then_some(said.out))
        })?;
        assert_eq!(data, "precious");
        Ok(())
    });
}

#[test]
fn a_delete_while_the_node_is_cut_off_is_done_when_it_returns() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-2"])?.ok()?;
        lab.lab(&["partition", "jump-2"])?.ok()?;
        eventually("the node is seen to be away", Duration::from_secs(60), || {
            Ok((lab.container("alice")?["status"] == "Unreachable").then_some(()))
        })?;
        let deleted = lab.cli(&["delete", "alice", "--force"])?.ok()?;
        assert!(format!("{}{}", deleted.out, deleted.err).contains("jump-2"), "{deleted:?}");
        assert_eq!(lab.container("alice")?["status"], "Deleting");
        let taken = lab.cli(&["create", "alice", "--ssh-key", &alice.public_key()])?;
        assert_eq!(taken.code, 4, "the name is taken while it is being deleted: {taken:?}");
        lab.lab(&["heal", "jump-2"])?.ok()?;
        eventually("alice is gone", Duration::from_secs(60), || Ok(lab.list()?.is_empty().then_some(())))
    });
}
