//! Snapshots on real Incus: what was written comes back, what was revoked does not, and kill -9 in the middle of it leaves
//! one machine that works.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually, run};
use serde_json::Value;

use crate::scenario;

const PATIENCE: Duration = Duration::from_secs(120);
const SMALL: [&str; 6] = ["--cpu", "1", "--memory", "512MiB", "--disk-quota", "4GB"];

fn create(lab: &Lab, person: &Person, node: &str) -> Result<()> {
    let create = ["create", &person.name, "--ssh-key", &person.public_key(), "--node", node];
    lab.cli(&[create.as_slice(), SMALL.as_slice()].concat())?.ok().map(drop)
}

fn snapshots(lab: &Lab, user: &str) -> Result<Vec<Value>> {
    let found = lab.cli(&["snapshot", "list", user, "-o", "json"])?.json()?;
    Ok(found["snapshots"].as_array().context("snapshots")?.clone())
}

fn names(lab: &Lab, user: &str) -> Result<Vec<String>> {
    let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
    Ok(snapshots(lab, user)?.iter().map(name).collect())
}

fn read(lab: &Lab, person: &Person, file: &str) -> Result<String> {
    Ok(lab.ssh(person, &format!("cat {file}"))?.ok()?.out)
}

/// The same user with another key.
fn with_key_of(user: &str, other: Person) -> Person {
    Person { name: user.to_owned(), key: other.key }
}

#[test]
fn a_restore_brings_back_files_and_no_revoked_key_here_and_after_a_move() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        create(lab, &alice, "jump-1")?;
        lab.ssh(&alice, "echo then > file && sync")?.ok()?;
        let made = lab.cli(&["snapshot", "create", "alice", "before"])?.ok()?;
        assert_eq!(made.out, "before");
        lab.ssh(&alice, "echo since > file && echo new > other && sync")?.ok()?;
        lab.cli(&["resize", "alice", "--memory", "768MiB"])?.ok()?;
        let laptop = with_key_of("alice", lab.person("laptop")?);
        lab.cli(&["key", "replace", "alice", "--ssh-key", &laptop.public_key()])?.ok()?;
        assert_eq!(read(lab, &laptop, "file")?, "since");
        // By hand, with incus: listed, and no drift.
        lab.on("jump-1", "incus snapshot create alice-container by-hand")?.ok()?;
        assert_eq!(names(lab, "alice")?, ["before", "by-hand"]);

        let refused = lab.cli(&["snapshot", "restore", "alice", "before"])?;
        assert_eq!(refused.code, 9, "{refused:?}");
        let began = Instant::now();
        lab.cli(&["snapshot", "restore", "alice", "before", "--force"])?.ok()?;
        println!("restored in {:.1} s", began.elapsed().as_secs_f32());
        restored(lab, &alice, &laptop)?;
        let container = lab.container("alice")?;
        assert_eq!((container["status"].as_str(), container["memory"].as_str()), (Some("Running"), Some("768MiB")));

        // Users' snapshots travel with it; those of the move do not show.
        lab.ssh(&laptop, "echo since > file && sync")?.ok()?;
        lab.cli(&["move", "alice", "--to", "jump-2"])?.ok()?;
        assert_eq!(names(lab, "alice")?, ["before", "by-hand"]);
        lab.cli(&["snapshot", "restore", "alice", "before", "--force"])?.ok()?;
        restored(lab, &alice, &laptop)?;
        ensure!(lab.container("alice")?["status"] == "Running", "not drifted: {:?}", lab.container("alice")?);
        lab.cli(&["snapshot", "delete", "alice", "before"])?.ok()?;
        assert_eq!(names(lab, "alice")?, ["by-hand"]);
        Ok(())
    });
}

/// As then, but for whom it lets in: not with the old key on the way, nor past the servers.
fn restored(lab: &Lab, revoked: &Person, present: &Person) -> Result<()> {
    assert_eq!(read(lab, present, "file")?, "then");
    ensure!(lab.ssh(present, "test ! -e other")?.code == 0, "what was made since is gone");
    ensure!(lab.ssh(revoked, "true")?.code == 255, "the revoked key");
    let node = lab.container("alice")?["node"].as_str().context("node")?.to_owned();
    let inside = lab.on(&node, "incus exec alice-container -- cat /home/alice/.ssh/authorized_keys")?.ok()?.out;
    let key = |person: &Person| -> Result<String> {
        let line = std::fs::read_to_string(person.public_key())?;
        Ok(line.split_whitespace().nth(1).context("a key")?.to_owned())
    };
    ensure!(inside.contains(&key(present)?) && !inside.contains(&key(revoked)?), "inside: {inside}");
    Ok(())
}

/// Waits until Incus has begun to restore, or the machine has been stopped for it.
fn in_the_middle(lab: &Lab) -> Result<()> {
    eventually("the restore has begun", PATIENCE, || {
        let told = lab.cli(&["info", "alice", "-o", "json"])?.json()?;
        Ok((told["container"]["status"] != "Running").then_some(()))
    })
}

#[test]
fn kill_9_in_the_middle_of_a_restore_ends_in_one_machine_as_it_was() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        create(lab, &alice, "jump-1")?;
        lab.ssh(&alice, "echo then > file && sync")?.ok()?;
        lab.cli(&["snapshot", "create", "alice", "before"])?.ok()?;
        let laptop = with_key_of("alice", lab.person("laptop")?);
        lab.cli(&["key", "replace", "alice", "--ssh-key", &laptop.public_key()])?.ok()?;
        for (round, victim) in ["agent", "incusd", "agent", "incusd"].into_iter().enumerate() {
            lab.ssh(&laptop, "echo since > file && echo new > other && sync")?.ok()?;
            let told = thread::scope(|scope| -> Result<Said> {
                let restore = scope.spawn(|| lab.cli(&["snapshot", "restore", "alice", "before", "--force"]));
                in_the_middle(lab)?;
                // The machine takes about a second to stop.
                thread::sleep(Duration::from_millis(400 * round as u64));
                lab.on("jump-1", &format!("kill -9 $(cat /run/lab/{victim}.pid)"))?.ok()?;
                restore.join().expect("the restore's thread")
            })?;
            told.ok()?;
            eventually("it works", PATIENCE, || Ok((lab.ssh(&laptop, "true")?.code == 0).then_some(())))?;
            restored(lab, &alice, &laptop).with_context(|| format!("round {round}: {victim}"))?;
        }
        // What Incus leaves when it is killed at the worst moment: the disk lies aside, and another one, or none, is in
        // its place.
        let disks = "/var/lib/incus/storage-pools/default/containers";
        for torn in ["mv $D $D.incustmp", "btrfs subvolume snapshot $D $D.incustmp"] {
            lab.cli(&["stop", "alice"])?.ok()?;
            lab.on("jump-1", &format!("D={disks}/alice-container; {torn}"))?.ok()?;
            lab.cli(&["snapshot", "restore", "alice", "before", "--force"])?.ok()?;
            lab.on("jump-1", &format!("test ! -e {disks}/alice-container.incustmp"))?.ok()?;
            lab.cli(&["start", "alice"])?.ok()?;
            restored(lab, &alice, &laptop).context(torn)?;
        }
        Ok(())
    });
}

/// Starts the coordinator anew with hours of a schedule that last so long.
fn with_hours_of(lab: &Lab, hour: &str) -> Result<()> {
    lab.lab(&["coordinator", "stop"])?.ok()?;
    let start = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/lab/lab");
    let mut start = lab.command(start);
    run(start.args(["coordinator", "start"]).env("CONTAINARIUM_COORDINATOR_SNAPSHOT_HOUR", hour))?.ok()?;
    eventually("the coordinator is back", PATIENCE, || Ok(lab.list().is_ok().then_some(())))
}

#[test]
fn a_schedule_keeps_its_newest_through_kills() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        create(lab, &alice, "jump-3")?;
        lab.cli(&["snapshot", "create", "alice", "mine"])?.ok()?;
        with_hours_of(lab, "2s")?;
        let scheduled = || -> Result<Vec<String>> {
            let all = snapshots(lab, "alice")?;
            let made = all.iter().filter(|one| one["scheduled"] == true && one["state"] == "Ready");
            Ok(made.map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect())
        };
        // Every one that was ever seen; polled more often than one is made.
        let seen = std::cell::RefCell::new(BTreeSet::new());
        let later = |count: usize| {
            eventually("more are made", PATIENCE, || {
                seen.borrow_mut().extend(scheduled().unwrap_or_default());
                Ok((seen.borrow().len() >= count).then_some(()))
            })
        };
        lab.cli(&["set", "alice", "--snapshots", "hourly", "--keep", "2"])?.ok()?;
        later(2)?;
        lab.lab(&["coordinator", "kill"])?.ok()?;
        lab.on("jump-3", "kill -9 $(cat /run/lab/agent.pid)")?.ok()?;
        later(4)?;
        lab.on("jump-3", "kill -9 $(cat /run/lab/incusd.pid)")?.ok()?;
        later(6)?;
        // No more are made from here on, and those that are too many go.
        with_hours_of(lab, "1h")?;
        let kept = eventually("two are kept", PATIENCE, || {
            let all = snapshots(lab, "alice")?;
            let rests = all.iter().all(|one| one["state"] == "Ready");
            Ok(Some(scheduled()?).filter(|kept| rests && kept.len() == 2))
        })?;
        ensure!(kept.iter().all(|name| name.starts_with("auto-hourly-")), "{kept:?}");
        let there = lab.on("jump-3", "incus query /1.0/instances/alice-container/snapshots")?.json()?;
        assert_eq!(there.as_array().map(Vec::len), Some(3), "two and mine: {there}");
        ensure!(names(lab, "alice")?.contains(&"mine".to_owned()), "mine stays");
        println!("{} made, kept {kept:?}", seen.borrow().len());
        Ok(())
    });
}
