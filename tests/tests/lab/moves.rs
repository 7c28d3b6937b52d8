//! Moves between real Incus servers, with data, a writer and a person who looks all the time; and with kill -9.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually};

use crate::scenario;

/// A copy of a gigabyte takes ten seconds here, a kill in the middle some more.
const PATIENCE: Duration = Duration::from_secs(300);

/// Random data in alice's home, whose size in MiB can be set; gives its checksum.
fn fill(lab: &Lab, person: &Person, mib: u32) -> Result<String> {
    let write = format!("head -c {mib}M /dev/urandom > data && sync && sha256sum < data");
    Ok(lab.ssh(person, &write)?.ok()?.out)
}

fn number<T: FromStr>(variable: &str, default: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where it is, once it runs and is not on its way.
fn at_rest(lab: &Lab, user: &str) -> Result<String> {
    eventually("it is at rest", PATIENCE, || {
        let container = lab.container(user)?;
        let rests = container["status"] == "Running" && container["moving_to"] == "";
        Ok(rests.then(|| container["node"].as_str().unwrap_or_default().to_owned()))
    })
}

fn copies(lab: &Lab, name: &str) -> Result<usize> {
    let mut found = 0;
    for node in lab.nodes() {
        let there = lab.on(node, "incus list -f csv -c n")?.ok()?.out;
        found += there.lines().filter(|line| *line == name).count();
    }
    Ok(found)
}

/// Asks again and again; gives the longest time without an answer.
fn look_all_the_time(lab: &Lab, person: &Person, stop: &AtomicBool) -> Result<Duration> {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        if lab.ssh(person, "true")?.code == 0 {
            longest = longest.max(asked.elapsed().max(last.elapsed()));
            last = Instant::now();
        }
    }
    Ok(longest)
}

#[test]
fn a_move_keeps_every_byte_and_the_name() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let key = alice.public_key();
        lab.cli(&["create", "alice", "--ssh-key", &key, "--node", "jump-1", "--memory", "1GiB"])?.ok()?;
        let size = number("CONTAINARIUM_TEST_MIB", 1024);
        let sum = fill(lab, &alice, size)?;
        let writer = "nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >> log; sleep 0.05; done' >/dev/null 2>&1 &";
        lab.ssh(&alice, writer)?.ok()?;
        let stop = AtomicBool::new(false);
        let (moved, away) = thread::scope(|scope| -> Result<(Said, Duration)> {
            let looking = scope.spawn(|| look_all_the_time(lab, &alice, &stop));
            let moved = lab.cli(&["move", "alice", "--to", "jump-2"]);
            stop.store(true, Ordering::Relaxed);
            Ok((moved?.ok()?, looking.join().expect("the looking thread")?))
        })?;
        let told = moved.err.lines().last().unwrap_or_default().to_owned();
        println!("{size} MiB: {told}; a person who logs in all the time waited {:.1} s at most", away.as_secs_f32());
        assert_eq!(at_rest(lab, "alice")?, "jump-2");
        assert_eq!(copies(lab, "alice-container")?, 1);
        assert_eq!(lab.ssh(&alice, "sha256sum < data")?.ok()?.out, sum);
        // What the writer had written before it was stopped is all there, in order.
        lab.ssh(&alice, "awk '$1 != NR { exit 1 }' log && test $(wc -l < log) -gt 40")?.ok()?;
        ensure!(away < Duration::from_secs(30), "nobody could log in for {away:?}");
        Ok(())
    });
}

/// What is killed, and where.
const VICTIMS: [(&str, &str); 5] =
    [("agent", "source"), ("agent", "target"), ("incusd", "source"), ("incusd", "target"), ("coordinator", "")];

/// Xorshift: the same seed gives the same kills.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn moves_with_a_kill_each_lose_nothing_and_double_nothing() {
    scenario(|lab| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
        let mut seed = number("CONTAINARIUM_TEST_SEED", u64::from(now) | 1);
        println!("seed {seed}");
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
        let sum = fill(lab, &alice, number("CONTAINARIUM_TEST_MIB", 64))?;
        for round in 0..number("CONTAINARIUM_TEST_ROUNDS", VICTIMS.len()) {
            let source = at_rest(lab, "alice")?;
            let target = if source == "jump-1" { "jump-2" } else { "jump-1" };
            let (victim, side) = VICTIMS[round % VICTIMS.len()];
            let delay = Duration::from_millis(random(&mut seed) % 7000);
            let node = if side == "source" { source.as_str() } else { target };
            let moved = thread::scope(|scope| -> Result<Said> {
                let moving = scope.spawn(|| lab.cli(&["move", "alice", "--to", target]));
                thread::sleep(delay);
                match victim {
                    "coordinator" => lab.lab(&["coordinator", "kill"])?,
                    service => lab.on(node, &format!("kill -9 $(cat /run/lab/{service}.pid)"))?,
                };
                moving.join().expect("the move's thread")
            })?;
            let home = at_rest(lab, "alice")?;
            println!("{round}: {victim} {side} killed after {delay:?}: exit {}, now on {home}", moved.code);
            ensure!(moved.code != 0 || home == target, "told that it moved: {moved:?}");
            let said = eventually("alice can log in", PATIENCE, || {
                let said = lab.ssh(&alice, "sha256sum < data")?;
                Ok((said.code == 0).then_some(said.out))
            })?;
            ensure!(said == sum, "round {round}: other data");
            eventually("one copy is left", PATIENCE, || Ok((copies(lab, "alice-container")? == 1).then_some(())))?;
        }
        Ok(())
    });
}

#[test]
fn a_drain_goes_on_when_its_coordinator_comes_back() {
    scenario(|lab| {
        let mut people = Vec::new();
        for i in 1..=10 {
            let person = lab.person(&format!("user{i}"))?;
            let create = ["create", &person.name, "--ssh-key", &person.public_key(), "--node", "jump-1"];
            let small = ["--cpu", "500m", "--memory", "256MiB", "--disk-quota", "3GB"];
            lab.cli(&[create.as_slice(), small.as_slice()].concat())?.ok()?;
            lab.ssh(&person, "echo $USER > mine && sync")?.ok()?;
            people.push(person);
        }
        let left = || -> Result<usize> { Ok(lab.list()?.iter().filter(|c| c["node"] == "jump-1").count()) };
        let started = Instant::now();
        let drained = thread::scope(|scope| -> Result<Said> {
            let drain = scope.spawn(|| lab.cli(&["node", "drain", "jump-1", "--parallel", "3"]));
            eventually("half of them have left", PATIENCE, || Ok((left()? <= 5).then_some(())))?;
            lab.lab(&["coordinator", "kill"])?.ok()?;
            drain.join().expect("the drain's thread")
        })?;
        drained.ok()?;
        println!(
            "ten machines left a server in {:.0} s, the coordinator killed halfway",
            started.elapsed().as_secs_f32()
        );
        assert_eq!(left()?, 0);
        for person in &people {
            assert_eq!(lab.ssh(person, "cat mine")?.ok()?.out, person.name);
        }
        let refused = lab.cli(&["create", "late", "--ssh-key", &people[0].public_key(), "--node", "jump-1"])?;
        ensure!(refused.code == 5 && refused.err.contains("drained"), "{refused:?}");
        lab.cli(&["node", "uncordon", "jump-1"])?.ok()?;
        let node = lab.cli(&["node", "info", "jump-1", "-o", "json"])?.json()?;
        node["policy"].as_str().filter(|policy| *policy == "Active").context("active again")?;
        Ok(())
    });
}
