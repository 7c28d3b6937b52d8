//! What a container reaches over the network, from inside, and what it does not.

use std::{net::TcpListener, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, eventually};

use crate::scenario;

/// Any port: what is out there is not ours to choose.
const OUT_THERE: u16 = 8099;

/// Tries from inside whether a port can be reached: "open", or why not in the kernel's words. The container's own root, as
/// a hostile user would.
fn reach(lab: &Lab, user: &str, target: &str) -> Result<String> {
    let node = home(lab, user)?;
    let (host, port) = target.rsplit_once(':').context("host:port")?;
    let inside = format!("timeout 4 bash -c '</dev/tcp/{host}/{port}' 2>&1 && echo open");
    let said = lab.lab(&["exec", &node, "incus", "exec", &format!("{user}-container"), "--", "bash", "-c", &inside])?;
    Ok(said.out.lines().last().map_or_else(|| "silence".to_owned(), ToOwned::to_owned))
}

fn home(lab: &Lab, user: &str) -> Result<String> {
    Ok(lab.container(user)?["node"].as_str().context("node")?.to_owned())
}

fn ip(lab: &Lab, user: &str) -> Result<String> {
    Ok(lab.container(user)?["ip"].as_str().context("ip")?.to_owned())
}

fn closed(lab: &Lab, user: &str, target: &str) -> Result<()> {
    let said = reach(lab, user, target)?;
    println!("from {user}: {target}: {said}");
    ensure!(said != "open", "{user} reached {target}");
    Ok(())
}

fn until_open(lab: &Lab, user: &str, target: &str) -> Result<()> {
    eventually(&format!("{user} reaches {target}"), Duration::from_secs(15), || {
        Ok((reach(lab, user, target)? == "open").then_some(()))
    })?;
    println!("from {user}: {target}: open");
    Ok(())
}

fn until_closed(lab: &Lab, user: &str, target: &str) -> Result<()> {
    eventually(&format!("{user} no longer reaches {target}"), Duration::from_secs(15), || {
        Ok((reach(lab, user, target)? != "open").then_some(()))
    })?;
    println!("from {user}: {target}: closed");
    Ok(())
}

/// alice and bob on jump-1, carol on jump-2.
fn three(lab: &Lab) -> Result<()> {
    for (user, node) in [("alice", "jump-1"), ("bob", "jump-1"), ("carol", "jump-2")] {
        let person = lab.person(user)?;
        lab.cli(&["create", user, "--ssh-key", &person.public_key(), "--node", node])?.ok()?;
    }
    Ok(())
}

/// Answers whoever connects to the address that stands in for the internet.
fn serve_the_internet(lab: &Lab) -> Result<()> {
    let listener = TcpListener::bind((lab.var("LAB_INTERNET"), OUT_THERE))?;
    // Ends with the process.
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

#[test]
fn a_container_reaches_the_internet_and_nothing_of_the_fleet() {
    scenario(|lab| {
        three(lab)?;
        serve_the_internet(lab)?;
        let internet = format!("{}:{OUT_THERE}", lab.var("LAB_INTERNET"));
        until_open(lab, "alice", &internet)?;
        until_open(lab, "alice", "10.100.1.1:53")?;
        let (bob, carol) = (ip(lab, "bob")?, ip(lab, "carol")?);
        // The nodes themselves do: it is the containers that are closed, not the ports.
        for target in [format!("{bob} 22"), format!("{carol} 22"), "10.99.0.12 7444".into(), "10.99.0.5 7443".into()] {
            lab.on("jump-1", &format!("bash -c '</dev/tcp/{}'", target.replace(' ', "/")))?.ok()?;
        }
        let targets = [
            format!("{bob}:22"),
            format!("{carol}:22"),
            "10.100.1.1:22".into(),
            "10.99.0.11:22".into(),
            "10.99.0.11:7444".into(),
            "10.99.0.11:7445".into(),
            "10.99.0.11:8443".into(),
            "10.100.2.1:22".into(),
            "10.99.0.12:22".into(),
            "10.99.0.12:7444".into(),
            "10.99.0.12:8443".into(),
            "10.99.0.5:7443".into(),
            "10.99.100.1:22".into(),
            "169.254.169.254:80".into(),
        ];
        for target in &targets {
            closed(lab, "alice", target)?;
        }
        closed(lab, "carol", &format!("{bob}:22"))?;
        // Under an address that is not its own it reaches nothing at all.
        let inside = "incus exec alice-container -- sh -c";
        let borrow = format!(
            "ip addr add 10.100.1.77/32 dev eth0; ip route replace {}/32 via 10.100.1.1 src 10.100.1.77",
            lab.var("LAB_INTERNET")
        );
        lab.on("jump-1", &format!("{inside} '{borrow}'"))?.ok()?;
        closed(lab, "alice", &internet)?;
        lab.on(
            "jump-1",
            &format!("{inside} 'ip route del {}/32; ip addr del 10.100.1.77/32 dev eth0'", lab.var("LAB_INTERNET")),
        )?
        .ok()?;
        until_open(lab, "alice", &internet)
    });
}

#[test]
fn people_who_work_together_reach_each_other_wherever_they_live() {
    scenario(|lab| {
        three(lab)?;
        let (alice, bob, carol) = (ip(lab, "alice")?, ip(lab, "bob")?, ip(lab, "carol")?);
        lab.cli(&["set", "bob", "--allow-from", "alice"])?.ok()?;
        lab.cli(&["set", "carol", "--allow-from", "alice,bob"])?.ok()?;
        until_open(lab, "alice", &format!("{bob}:22"))?;
        until_open(lab, "alice", &format!("{carol}:22"))?;
        until_open(lab, "bob", &format!("{carol}:22"))?;
        closed(lab, "bob", &format!("{alice}:22"))?;
        closed(lab, "carol", &format!("{alice}:22"))?;

        lab.cli(&["move", "carol", "--to", "jump-3"])?.ok()?;
        let moved = ip(lab, "carol")?;
        ensure!(moved != carol, "{carol} moved with her");
        until_open(lab, "alice", &format!("{moved}:22"))?;
        lab.cli(&["set", "carol", "--allow-from", "none"])?.ok()?;
        until_closed(lab, "alice", &format!("{moved}:22"))?;
        until_closed(lab, "bob", &format!("{moved}:22"))
    });
}

#[test]
fn a_policy_that_somebody_removed_is_back_within_seconds() {
    scenario(|lab| {
        three(lab)?;
        let bob = format!("{}:22", ip(lab, "bob")?);
        for damage in ["delete table inet containarium", "flush chain inet containarium forward"] {
            lab.on("jump-1", &format!("nft {damage}"))?.ok()?;
            eventually("the table is whole again", Duration::from_secs(15), || {
                let there = lab.on("jump-1", "nft list chain inet containarium forward")?;
                Ok(there.out.contains("goto leaving").then_some(()))
            })?;
            closed(lab, "alice", &bob)?;
        }
        let events = lab.cli(&["events", "--limit", "200", "-o", "json"])?.ok()?.out;
        ensure!(events.contains("node.repaired"), "{events}");
        Ok(())
    });
}
