//! Spot machines: taken away with half a minute's notice, and back with their data, on their old boot disk or a new one.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, eventually};

use crate::{access::via, scenario};

/// A node boots, starts its containers and is found by the balancer again in a quarter of this, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between notice and power cut. A real one gives 30 s; containers stop in a few.
const NOTICE_SECS: &str = "15";
/// Stores at its stop what the power cut would take: nobody flushes this to the disk.
const WITNESS: &str = "sudo tee /etc/systemd/system/witness.service >/dev/null <<UNIT
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'date > /home/alice/stopped-cleanly'
UNIT
sudo systemctl start witness";

fn person_on(lab: &Lab, name: &str, node: &str) -> Result<Person> {
    let person = lab.person(name)?;
    lab.cli(&["create", name, "--ssh-key", &person.public_key(), "--node", node])?.ok()?;
    Ok(person)
}

fn client_through(lab: &Lab, person: &Person, node: &str) -> Result<String> {
    for client in lab.clients() {
        if via(lab, person, client)? == node {
            return Ok(client.to_owned());
        }
    }
    anyhow::bail!("no client address leads through {node}")
}

fn until(what: &str, probe: impl Fn() -> Result<bool>) -> Result<()> {
    eventually(what, PATIENCE, || Ok(probe()?.then_some(())))
}

#[test]
fn a_server_that_is_taken_away_stops_its_containers_cleanly_and_comes_back_with_them() {
    scenario(|lab| {
        let alice = person_on(lab, "alice", "jump-1")?;
        lab.ssh(&alice, WITNESS)?.ok()?;
        thread::scope(|scope| -> Result<()> {
            let cloud = scope.spawn(|| lab.lab(&["preempt", "jump-1", "--seconds", NOTICE_SECS]));
            until("the fleet knows", || {
                let info = lab.cli(&["node", "info", "jump-1", "-o", "json"])?.json()?;
                Ok(info["availability"] == "Preempting")
            })?;
            let refused = lab.cli(&["create", "late", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?;
            ensure!(refused.code == 5 && refused.err.contains("about to be taken away"), "{refused:?}");
            until("it is stopped while there is time", || {
                Ok(lab.on("jump-1", "incus query /1.0/instances/alice-container")?.json()?["status"] == "Stopped")
            })?;
            cloud.join().expect("the cloud's thread")?.ok()?;
            Ok(())
        })?;
        lab.lab(&["start", "jump-1"])?.ok()?;
        until("alice is back", || Ok(lab.ssh(&alice, "true")?.code == 0))?;
        ensure!(lab.ssh(&alice, "date -f stopped-cleanly +%s")?.ok()?.out.parse::<u64>().is_ok());
        let events = lab.cli(&["events", "--subject", "jump-1", "--limit", "20"])?.ok()?.out;
        ensure!(events.contains("node.preempting"), "{events}");
        Ok(())
    });
}

#[test]
fn a_server_with_a_new_boot_disk_is_whole_again_by_itself() {
    scenario(|lab| {
        let (alice, bob) = (person_on(lab, "alice", "jump-1")?, person_on(lab, "bob", "jump-2")?);
        lab.ssh(&alice, "echo precious > mine && sync")?.ok()?;
        let client = client_through(lab, &alice, "jump-1")?;
        lab.lab(&["crash", "jump-1"])?.ok()?;
        let started = Instant::now();
        lab.lab(&["start", "jump-1", "--new-boot-disk"])?.ok()?;
        let booted = started.elapsed();
        for person in [&alice, &bob] {
            until("they are in, through that very server", || {
                let in_it = lab.ssh_from(&client, person, &[&format!("{}-dev", person.name), "hostname"])?;
                Ok(in_it.code == 0 && via(lab, person, &client).is_ok_and(|node| node == "jump-1"))
            })?;
        }
        println!(
            "a new boot disk under the old data: all its users in through it {:.1} s after power-on, of which the machine \
             took {:.1} s to boot; no admin did anything",
            started.elapsed().as_secs_f32(),
            booted.as_secs_f32()
        );
        assert_eq!(lab.ssh(&alice, "cat mine")?.ok()?.out, "precious");
        let node = lab.cli(&["node", "info", "jump-1", "-o", "json"])?.json()?;
        let warnings = node["warnings"].as_array().context("warnings")?;
        ensure!(warnings.is_empty(), "{warnings:?}");
        Ok(())
    });
}
