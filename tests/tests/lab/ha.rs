//! Three coordinators on a real PostgreSQL and etcd, as they are shipped: the leader is killed -9 in the middle of a stream
//! of creates, or the database loses its server. A lab of its own, and so a test process of its own.

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

fn elected_by<'a>(lab: &'a Lab, election: &str) -> Result<&'a Lab> {
    lab.empty()?;
    for number in COORDINATORS {
        lab.lab(&["coordinator", "stop", number])?.ok()?;
        lab.lab_with(&[("LAB_ELECTION", election)], &["coordinator", "start", number])?.ok()?;
    }
    leader(lab)?;
    Ok(lab)
}

/// Gives the time from the blow to the next create that was begun after it and acknowledged, and how many there were.
fn creates_through(lab: &Lab, blow: impl Fn() -> Result<()>) -> Result<(Duration, usize)> {
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
        blow()?;
        // Begun after it: what was acknowledged with the last breath is not what is timed.
        let struck = Instant::now();
        let person = create(lab, 0, "after")?;
        let gap = struck.elapsed();
        made.lock().unwrap().push(person);
        streams.into_iter().try_for_each(|stream| stream.join().expect("a stream's thread"))?;
        anyhow::Ok(gap)
    })?;
    let made = made.into_inner().unwrap();
    let listed: BTreeSet<_> = lab.list()?.iter().map(|c| c["user"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, made.iter().map(|person| person.name.clone()).collect());
    for person in &made {
        assert_eq!(lab.ssh(person, "whoami")?.ok()?.out, person.name);
    }
    lab_check::settle(lab)?;
    lab.empty()?;
    lab_check::settle(lab)?;
    Ok((gap, made.len()))
}

fn the_leader_dies_under_creates(election: &str) -> Result<()> {
    let lab = elected_by(Lab::with_three_coordinators(), election)?;
    let (gap, count) = creates_through(lab, || lab.lab(&["coordinator", "kill", &leader(lab)?])?.ok().map(drop))?;
    println!(
        "by {election}: {:.1} s from kill -9 of the leader to the next acknowledged create; {count} creates, none lost",
        gap.as_secs_f32(),
    );
    Ok(())
}

#[test]
fn a_leader_killed_under_creates_loses_none_by_etcd() {
    the_leader_dies_under_creates("etcd").unwrap();
}

#[test]
fn a_leader_killed_under_creates_loses_none_by_sql() {
    the_leader_dies_under_creates("sql").unwrap();
}

/// The last: the lab has no primary of that name any more.
#[test]
fn the_database_fails_over_to_its_standby_under_creates_and_none_is_lost() {
    let lab = elected_by(Lab::with_three_coordinators(), "sql").unwrap();
    lab.lab(&["store", "standby"]).unwrap().ok().unwrap();
    let (gap, count) = creates_through(lab, || lab.lab(&["store", "failover"])?.ok().map(drop)).unwrap();
    println!(
        "{:.1} s from the standby's first write to the next acknowledged create; {count} creates, none lost",
        gap.as_secs_f32(),
    );
}
