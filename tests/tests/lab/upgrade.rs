//! Every process of the fleet is replaced by the next, server by server, while people are logged in and others log in:
//! what docs/upgrade.md promises. Told to stop by SIGTERM, as systemd does, and started again by the supervisor.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, eventually, run};

use crate::{access::via, scenario};

/// A supervisor's second, an agent's start, and the coordinator's next look at it.
const BACK: Duration = Duration::from_secs(30);

#[test]
fn everything_is_restarted_server_by_server_and_no_session_and_no_login_fails() {
    scenario(|lab| {
        let people = ["alice", "bob", "carol"].map(|name| lab.person(name)).into_iter().collect::<Result<Vec<_>>>()?;
        for (person, node) in people.iter().zip(lab.nodes()) {
            lab.cli(&["create", &person.name, "--ssh-key", &person.public_key(), "--node", node])?.ok()?;
        }
        let [.., carol] = people.as_slice() else { unreachable!("three people") };
        let clients = one_client_per_server(lab, carol)?;
        let before = starts(lab, &people)?;
        let (over, logins) = (AtomicBool::new(false), AtomicUsize::new(0));
        let began = Instant::now();
        let replaced = thread::scope(|scope| -> Result<()> {
            // A session through each server to each machine.
            let sessions: Vec<_> = people[..2]
                .iter()
                .flat_map(|person| clients.iter().map(move |client| (person, *client)))
                .map(|(person, client)| scope.spawn(move || session(lab, person, client)))
                .collect();
            let streams: Vec<_> = clients
                .iter()
                .map(|client| {
                    let (over, logins) = (&over, &logins);
                    scope.spawn(move || log_in_again_and_again(lab, carol, client, over, logins))
                })
                .collect();
            let replaced = replace_all(lab, &logins);
            over.store(true, Ordering::Relaxed);
            for person in &people[..2] {
                lab.ssh(person, "touch over")?.ok()?;
            }
            for stream in streams {
                stream.join().expect("a stream of logins")?;
            }
            let counted: Vec<usize> =
                sessions.into_iter().map(|session| session.join().expect("a session")).collect::<Result<_>>()?;
            println!("sessions counted to {counted:?}");
            replaced
        });
        replaced?;
        println!(
            "{} logins, none failed, while 3 agents, 3 sshds and the coordinator were replaced in {:.1} s",
            logins.load(Ordering::Relaxed),
            began.elapsed().as_secs_f32()
        );
        ensure!(starts(lab, &people)? == before, "no machine was started anew: {before:?}");
        Ok(())
    });
}

/// Client addresses that the balancer sends to different servers, all of them.
fn one_client_per_server<'l>(lab: &'l Lab, person: &Person) -> Result<Vec<&'l str>> {
    let mut found: Vec<(String, &str)> = Vec::new();
    for client in lab.clients() {
        let server = via(lab, person, client)?;
        if found.iter().all(|(known, _)| *known != server) {
            found.push((server, client));
        }
        if found.len() == lab.nodes().len() {
            break;
        }
    }
    ensure!(found.len() == lab.nodes().len(), "clients reach {found:?} only");
    Ok(found.into_iter().map(|(_, client)| client).collect())
}

/// When each machine's first process was started, by the kernel.
fn starts(lab: &Lab, people: &[Person]) -> Result<Vec<String>> {
    let start = |person: &Person| Ok(lab.ssh(person, "stat -c %Y /proc/1; cut -d' ' -f22 /proc/1/stat")?.ok()?.out);
    people.iter().map(start).collect()
}

/// Counts until it is told that all is over; gives how far, if nothing was lost on the way.
fn session(lab: &Lab, person: &Person, client: &str) -> Result<usize> {
    let count = "i=0; until [ -e over ]; do i=$((i+1)); echo $i; sleep 0.2; done";
    let said = lab.ssh_from(client, person, &[&format!("{}-dev", person.name), count])?.ok();
    let said = said.with_context(|| format!("{}'s session from {client}", person.name))?;
    let lines: Vec<&str> = said.out.lines().collect();
    ensure!(lines.len() > 20, "it counted all the while: {}", lines.len());
    ensure!(lines.iter().copied().eq((1..=lines.len()).map(|i| i.to_string())), "the counter broke");
    Ok(lines.len())
}

fn log_in_again_and_again(
    lab: &Lab,
    person: &Person,
    client: &str,
    over: &AtomicBool,
    logins: &AtomicUsize,
) -> Result<()> {
    // As was exported before: a login needs no coordinator.
    let config = format!("{}/people/{}-{client}.conf", lab.var("LAB_DIR"), person.name);
    while !over.load(Ordering::Relaxed) {
        let said = run(lab.command("ssh").args(["-F", &config, &format!("{}-dev", person.name), "true"]))?;
        ensure!(said.code == 0, "a login from {client} failed: {said:?}");
        logins.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn replace_all(lab: &Lab, logins: &AtomicUsize) -> Result<()> {
    for node in lab.nodes() {
        some_log_in(logins)?;
        let restarted = replace(lab, node, "agent").with_context(|| format!("the agent of {node}"))?;
        // As a new version of sshd is taken up, and as the agent does when a certificate is renewed.
        lab.on(node, "kill -HUP $(cat /run/lab/sshd.pid)")?.ok()?;
        println!("{node}: its agent was back after {restarted:.1?}");
    }
    some_log_in(logins)?;
    let pid = || anyhow::Ok(lab.lab(&["coordinator", "pid"])?.ok().ok().map(|said| said.out));
    let old = pid()?.context("a coordinator runs")?;
    run(Command::new("kill").args(["-TERM", &old]))?.ok()?;
    eventually("the next coordinator runs", BACK, || Ok(pid()?.filter(|now| *now != old)))?;
    let list = eventually("it answers", BACK, || Ok(Some(lab.cli(&["list"])?).filter(|said| said.code == 0)))?;
    ensure!(list.out.contains("alice"), "{list:?}");
    some_log_in(logins)
}

/// Replaces a service of a node and waits until the balancer has that node back.
fn replace(lab: &Lab, node: &str, service: &str) -> Result<Duration> {
    let pid = || anyhow::Ok(lab.on(node, &format!("cat /run/lab/{service}.pid"))?.ok().ok().map(|said| said.out));
    let (old, began) = (pid()?.context("it runs")?, Instant::now());
    lab.on(node, &format!("kill -TERM {old}"))?.ok()?;
    eventually("the next one runs", BACK, || Ok(pid()?.filter(|now| *now != old)))?;
    eventually("the node is online and in rotation", BACK, || {
        let nodes = lab.cli(&["node", "list", "-o", "json"])?.json()?;
        let online = nodes["nodes"].as_array().context("nodes")?.iter().all(|n| n["availability"] == "Online");
        let status = lab.lab(&["status", "-o", "json"])?.json()?;
        let balanced = status["balancer"]["healthy"].as_array().is_some_and(|healthy| healthy.len() == 3);
        Ok((online && balanced).then_some(()))
    })?;
    Ok(began.elapsed())
}

fn some_log_in(logins: &AtomicUsize) -> Result<()> {
    let before = logins.load(Ordering::Relaxed);
    eventually("people log in", BACK, || Ok((logins.load(Ordering::Relaxed) >= before + 3).then_some(())))
}
