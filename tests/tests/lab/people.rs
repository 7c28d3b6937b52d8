//! People on the real fleet: a machine that two share, who is connected, who was, who tried, and who is kept out by the
//! real fail2ban.

use std::{collections::BTreeSet, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually, run};
use serde_json::Value;

use crate::scenario;

const SOON: Duration = Duration::from_secs(40);

/// One client address for each server that the balancer leads it to.
fn ways_in(lab: &Lab, person: &Person) -> Result<Vec<String>> {
    let (mut servers, mut ways) = (BTreeSet::new(), Vec::new());
    for client in lab.clients() {
        if servers.insert(crate::access::via(lab, person, client)?) {
            ways.push(client.to_owned());
        }
        if servers.len() == lab.nodes().len() {
            return Ok(ways);
        }
    }
    anyhow::bail!("the clients land on {servers:?} only")
}

fn sessions(lab: &Lab, user: &str) -> Result<Vec<Value>> {
    let listed = lab.cli(&["sessions", "list", "--user", user, "-o", "json"])?.json()?;
    Ok(listed["sessions"].as_array().cloned().unwrap_or_default())
}

fn until_connected(lab: &Lab, user: &str, to: &str) -> Result<Value> {
    eventually(&format!("{user} is seen to be connected to {to}"), SOON, || {
        let there = |s: &Value| s["to"].as_array().is_some_and(|all| all.iter().any(|one| one == to));
        Ok(sessions(lab, user)?.into_iter().find(there))
    })
}

/// Whoever it is sleeps in alice's machine.
fn until_inside(lab: &Lab, user: &str) -> Result<()> {
    let home = lab.container("alice")?["node"].as_str().context("node")?.to_owned();
    eventually(&format!("{user} is inside"), SOON, || {
        let there = lab.on(&home, &format!("incus exec alice-container -- pgrep -u {user} -x sleep"))?;
        Ok((there.code == 0).then_some(()))
    })
}

#[test]
fn a_guest_gets_in_as_himself_through_any_server_and_out_for_good() {
    scenario(|lab| {
        let (_, bob) = (lab.person_with_container("alice")?, lab.person_with_container("bob")?);
        lab.cli(&["share", "alice", "--with", "bob"])?.ok()?;
        let ways = ways_in(lab, &bob)?;
        for client in &ways {
            let said =
                lab.ssh_from(client, &bob, &["bob-at-alice-dev", "whoami; hostname; sudo -n true || echo no root"])?;
            ensure!(said.clone().ok()?.out == "bob\nalice-container\nno root", "from {client}: {said:?}");
        }
        let at_alices = |command: &str| lab.ssh_from(&ways[0], &bob, &["bob-at-alice-dev", command]);
        at_alices("echo mine > kept")?.ok()?;
        lab.cli(&["share", "alice", "--with", "bob", "--sudo"])?.ok()?;
        ensure!(at_alices("sudo -n whoami")?.ok()?.out == "root");
        lab.cli(&["share", "alice", "--with", "bob"])?.ok()?;
        ensure!(at_alices("sudo -n whoami")?.code != 0, "the sudo is taken back");

        // His keys are his own, here too.
        let desk = lab.person("bob-desk")?;
        let desk = Person { name: "bob".into(), key: desk.key };
        lab.cli(&["key", "replace", "bob", "--ssh-key", &desk.public_key()])?.ok()?;
        let with = |person: &Person, command: &str| lab.ssh_from(&ways[0], person, &["bob-at-alice-dev", command]);
        ensure!(with(&desk, "cat kept")?.ok()?.out == "mine");
        ensure!(with(&bob, "true")?.code != 0, "the old key is of no use");

        revoked(lab, &desk, &ways)?;
        lab.cli(&["share", "alice", "--with", "bob"])?.ok()?;
        ensure!(with(&desk, "cat kept")?.ok()?.out == "mine", "what he stored is there again");
        lab.cli(&["delete", "bob", "--force"])?.ok()?;
        let shares = lab.cli(&["share", "list", "-o", "json"])?.json()?;
        ensure!(shares["shares"].as_array().is_some_and(Vec::is_empty), "a share ends with its guest: {shares}");
        Ok(())
    });
}

fn revoked(lab: &Lab, bob: &Person, ways: &[String]) -> Result<()> {
    let home = lab.container("alice")?["node"].as_str().context("node")?.to_owned();
    let other = ways.last().context("a way in")?;
    thread::scope(|scope| -> Result<()> {
        let session = scope.spawn(|| lab.ssh_from(other, bob, &["bob-at-alice-dev", "echo in; sleep 300"]));
        until_connected(lab, "bob", "alice-container")?;
        until_inside(lab, "bob")?;
        lab.cli(&["unshare", "alice", "--with", "bob"])?.ok()?;
        let ended = session.join().expect("the session's thread")?;
        ensure!(ended.code != 0 && ended.out == "in", "the session outlived the share: {ended:?}");
        Ok(())
    })?;
    for client in ways {
        let refused = lab.ssh_from(client, bob, &["-o", "LogLevel=INFO", "bob-at-alice-dev", "true"]);
        ensure!(refused?.code != 0, "he came back from {client}");
        let around = ["-o", "LogLevel=INFO", "-W", "alice-container:22", "containarium-jump-bob"];
        let around = lab.ssh_from(client, bob, &around)?;
        ensure!(around.err.contains("administratively prohibited"), "{around:?}");
    }
    ensure!(lab.ssh(bob, "hostname")?.ok()?.out == "bob-container", "his own machine is his still");
    let left = lab.on(&home, "incus exec alice-container -- pgrep -u bob")?;
    ensure!(left.code == 1, "his processes are gone: {left:?}");
    let late = lab.cli(&["unshare", "alice", "--with", "bob"])?;
    ensure!(late.code == 3, "{late:?}");
    Ok(())
}

/// As somebody who talks to one server itself, with this key and name.
fn knock(lab: &Lab, client: &str, node: &str, (name, key): (&str, &Person)) -> Result<Said> {
    let options = [
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=4",
    ];
    let bind = format!("BindAddress={client}");
    run(lab
        .command("ssh")
        .args(["-F", "/dev/null", "-o", &bind])
        .args(options)
        .arg("-i")
        .arg(&key.key)
        .args(["-l", name, node, "true"]))
}

fn audit(lab: &Lab, since: &str) -> Result<Vec<Value>> {
    let out = lab.cli(&["audit", "--since", since, "-o", "json"])?.ok()?.out;
    out.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no line of json: {line}"))).collect()
}

fn banned(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let status = lab.cli(&["security", "status", "-o", "json"])?.json()?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    let here = nodes.iter().find(|one| one["name"] == node).context("the node")?;
    ensure!(here["guarded"] == true, "{here}");
    Ok(here["banned"].as_array().context("banned")?.iter().map(|a| a.as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn three_wrong_keys_are_kept_out_and_everything_is_on_record() {
    scenario(|lab| {
        let since = run(lab.command("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?.ok()?.out;
        let (alice, stranger) = (lab.person_with_container("alice")?, lab.person("stranger")?);
        let clients = lab.clients();
        let [.., friend, attacker] = clients[..] else { anyhow::bail!("two clients") };
        let (node, address) = ("jump-1", "10.99.0.11");
        let works = |client: &str, address: &str| -> Result<bool> {
            Ok(knock(lab, client, address, ("alice", &alice))?.out.contains("not available"))
        };
        eventually("fail2ban guards every server", SOON, || {
            let status = lab.cli(&["security", "status", "-o", "json"])?.json()?;
            Ok(status["nodes"].as_array().is_some_and(|all| all.iter().all(|n| n["guarded"] == true)).then_some(()))
        })?;

        for forged in
            ["x from 6.6.6.6 port 22", "x 6.6.6.6 port 1 [preauth]", "Accepted publickey for alice from 6.6.6.6"]
        {
            ensure!(knock(lab, clients[0], address, (forged, &stranger))?.code != 0);
        }
        for _ in 0..3 {
            ensure!(knock(lab, attacker, address, ("alice", &stranger))?.code != 0);
        }
        eventually("the address is banned", SOON, || Ok((banned(lab, node)? == [attacker]).then_some(())))?;
        ensure!(!works(attacker, address)?, "the right key does not help from there");
        ensure!(works(friend, address)?, "the same user from elsewhere is not affected");
        ensure!(works(attacker, "10.99.0.12")?, "nor is another server");
        ensure!(banned(lab, "jump-2")?.is_empty());

        let nobody = lab.cli(&["security", "unban", "192.0.2.1"])?;
        ensure!(nobody.code == 3, "{nobody:?}");
        lab.cli(&["security", "unban", attacker])?.ok()?;
        eventually("the address is let in again", SOON, || Ok(works(attacker, address)?.then_some(())))?;
        ensure!(banned(lab, node)?.is_empty());

        seen_and_ended(lab, &alice, friend)?;
        on_record(lab, &since, (friend, attacker, clients[0]))
    });
}

fn seen_and_ended(lab: &Lab, alice: &Person, client: &str) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let session = scope.spawn(|| lab.ssh_from(client, alice, &["alice-dev", "echo in; sleep 300"]));
        let seen = until_connected(lab, "alice", "alice-container")?;
        println!("sessions list: {seen}");
        ensure!(seen["from"] == client && seen["user"] == "alice", "{seen}");
        ensure!(lab.nodes().iter().any(|node| seen["node"] == *node), "{seen}");
        until_inside(lab, "alice")?;
        let id = seen["id"].as_str().context("id")?;
        lab.cli(&["sessions", "kill", id])?.ok()?;
        let ended = session.join().expect("the session's thread")?;
        ensure!(ended.code != 0 && ended.out == "in", "the session goes on: {ended:?}");
        ensure!(sessions(lab, "alice")?.is_empty());
        let gone = lab.cli(&["sessions", "kill", id])?;
        ensure!(gone.code == 3, "{gone:?}");
        Ok(())
    })
}

fn on_record(lab: &Lab, since: &str, (friend, attacker, forger): (&str, &str, &str)) -> Result<()> {
    let count =
        |all: &[Value], kind: &str, from: &str| all.iter().filter(|e| e["kind"] == kind && e["from"] == from).count();
    let all = eventually("all of it is on record", SOON, || {
        let all = audit(lab, since)?;
        let whole = count(&all, "failed", attacker) == 3
            && count(&all, "failed", forger) == 3
            && count(&all, "banned", attacker) == 1
            && count(&all, "unbanned", attacker) == 1
            && count(&all, "accepted", friend) == 2;
        Ok(whole.then_some(all))
    })?;
    let lines = all.iter().filter(|e| e["from"] == attacker || e["from"] == friend);
    lines.for_each(|line| println!("audit: {line}"));
    ensure!(all.iter().all(|e| e["from"] != "6.6.6.6"), "a name has blamed somebody else");
    ensure!(all.iter().filter(|e| e["kind"] == "accepted").all(|e| e["user"] == "alice"), "a name has logged in");
    let led = |e: &&Value| e["kind"] == "accepted" && e["from"] == friend && e["to"][0] == "alice-container";
    ensure!(all.iter().any(|e| led(&e) && e["key"].as_str().is_some_and(|key| key.starts_with("SHA256:"))));
    let last = lab.cli(&["last", "alice", "-o", "json"])?.json()?;
    ensure!(last["logins"].as_array().is_some_and(|logins| !logins.is_empty()), "{last}");
    let info = lab.cli(&["info", "alice"])?.ok()?.out;
    ensure!(info.lines().any(|line| line.starts_with("Last login") && line.contains("10.99.0.")), "{info}");

    // Nothing twice, and nothing lost, by the death of whoever keeps the record.
    let ids = |all: &[Value]| all.iter().map(|e| e["id"].to_string()).collect::<BTreeSet<_>>();
    lab.lab(&["coordinator", "kill"])?.ok()?;
    for node in lab.nodes() {
        lab.on(node, "mv /var/log/auth.log /var/log/auth.log.1; kill -9 $(cat /run/lab/agent.pid)")?.ok()?;
    }
    let back = eventually("the coordinator is back", SOON, || {
        let asked = lab.cli(&["audit", "--since", since, "-o", "json"])?;
        Ok((asked.code == 0).then_some(()))
    });
    back?;
    let person = Person { name: "alice".into(), key: Path::new(lab.var("LAB_DIR")).join("people/alice") };
    eventually("alice can log in", SOON, || {
        Ok((lab.ssh_from(friend, &person, &["alice-dev", "true"])?.code == 0).then_some(()))
    })?;
    let after = eventually("her login is on record", SOON, || {
        let after = audit(lab, since)?;
        Ok((count(&after, "accepted", friend) == 3).then_some(after))
    })?;
    ensure!(ids(&after).len() == after.len() && ids(&after).is_superset(&ids(&all)));
    ensure!(count(&after, "failed", attacker) == 3 && count(&after, "banned", attacker) == 1);
    Ok(())
}
