//! Three coordinators on a real PostgreSQL and etcd, as they are shipped: the leader is killed -9 in the middle of a stream
//! of creates. A lab of its own, and so a test process of its own.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::{
    lab::{Lab, Person, eventually, run},
    lab_check,
};

const COORDINATORS: [&str; 3] = ["1", "2", "3"];
/// Creates one after the other, of each of as many people as there are coordinators.
const EACH: usize = 3;
/// A leader is found within the lease of 5 s; a machine that is busy needs a few more.
const PATIENCE: Duration = Duration::from_secs(60);

fn leader(lab: &Lab) -> Result<String> {
    eventually("somebody leads", PATIENCE, || {
        let said = lab.lab(&["coordinator", "leader"])?;
        Ok((said.code == 0).then_some(said.out))
    })
}

/// Through one coordinator, and the others if that does not answer.
fn create(lab: &Lab, first: usize, name: &str) -> Result<Person> {
    let person = lab.person(name)?;
    let mut servers: Vec<&str> = lab.var("CONTAINARIUM_SERVER").split(',').collect();
    ensure!(servers.len() == COORDINATORS.len(), "{servers:?}");
    servers.rotate_left(first);
    let mut command = lab.command("containarium");
    command.env("CONTAINARIUM_SERVER", servers.join(",")).args(["create", name, "--ssh-key", &person.public_key()]);
    run(&mut command)?.ok().with_context(|| format!("creating {name}"))?;
    Ok(person)
}

fn the_leader_dies_under_creates(election: &str) -> Result<()> {
    let lab = Lab::with_three_coordinators();
    lab.empty()?;
    for number in COORDINATORS {
        lab.lab(&["coordinator", "stop", number])?.ok()?;
        lab.lab_with(&[("LAB_ELECTION", election)], &["coordinator", "start", number])?.ok()?;
    }
    leader(lab)?;
    let made = Mutex::new(Vec::new());
    let stream = |first: usize| -> Result<()> {
        for index in 0..EACH {
            let person = create(lab, first, &format!("user-{first}-{index}"))?;
            made.lock().unwrap().push(person);
        }
        Ok(())
    };
    let gap = thread::scope(|scope| {
        let streams: Vec<_> = (0..COORDINATORS.len()).map(|first| scope.spawn(move || stream(first))).collect();
        eventually("creates are acknowledged", PATIENCE, || Ok((made.lock().unwrap().len() >= 3).then_some(())))?;
        lab.lab(&["coordinator", "kill", &leader(lab)?])?.ok()?;
        // Begun when the leader is dead: what it may have acknowledged with its last breath is not what is timed.
        let killed = Instant::now();
        let person = create(lab, 0, "after")?;
        let gap = killed.elapsed();
        made.lock().unwrap().push(person);
        streams.into_iter().try_for_each(|stream| stream.join().expect("a stream's thread"))?;
        anyhow::Ok(gap)
    })?;
    let made = made.into_inner().unwrap();
    println!(
        "by {election}: {:.1} s from kill -9 of the leader to the next acknowledged create; {} creates, none lost",
        gap.as_secs_f32(),
        made.len()
    );
    let listed: BTreeSet<_> = lab.list()?.iter().map(|c| c["user"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, made.iter().map(|person| person.name.clone()).collect());
    for person in &made {
        assert_eq!(lab.ssh(person, "whoami")?.ok()?.out, person.name);
    }
    lab_check::settle(lab)?;
    lab.empty()?;
    lab_check::settle(lab)
}

#[test]
fn a_leader_killed_under_creates_loses_none_by_etcd() {
    the_leader_dies_under_creates("etcd").unwrap();
}

#[test]
fn a_leader_killed_under_creates_loses_none_by_sql() {
    the_leader_dies_under_creates("sql").unwrap();
}
