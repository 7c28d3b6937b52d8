//! Chaos on the real lab: random operations on a few containers while a random one of the daemons is killed -9 at a random
//! moment, for so many rounds. In the end the checker must find nothing lost, doubled or orphaned, everybody's data must be
//! there, and everybody must be able to log in. `make lab-chaos`, with `CHAOS_SEED` and `CHAOS_ROUNDS`.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use containarium_tests::{
    lab::{Lab, Person, Said, eventually},
    lab_check,
};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

const USERS: u32 = 12;
/// From the start of an operation to the kill: a create takes about a second.
const LATEST_KILL_MILLIS: u64 = 1500;
/// A command that was cut off is repeated, as a person does, until it is answered.
const ANSWER: Duration = Duration::from_secs(180);

/// What is killed, and where.
#[derive(Debug, Clone)]
enum Victim {
    Coordinator,
    /// "agent", "incusd" or "sshd" on a node.
    Daemon(&'static str, String),
}

impl Victim {
    fn kill(&self, lab: &Lab) -> Result<()> {
        match self {
            Self::Coordinator => lab.lab(&["coordinator", "kill"])?.ok().map(drop),
            // One that is down at this moment, because it was killed a moment ago, is down.
            Self::Daemon(name, node) => {
                let line = format!("kill -9 $(cat /run/lab/{name}.pid) || true");
                lab.on(node, &line)?.ok().map(drop)
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Create,
    Delete,
    Stop,
    Start,
    Restart,
    Resize(u64),
    Move,
    Keys,
}

/// Codes that say that nothing was changed, or that it could not be: see docs/exit-codes.md.
const REFUSED: [i32; 4] = [3, 4, 5, 9];
/// Nobody answered, or it may be done: asked again.
const AGAIN: [i32; 2] = [6, 8];

struct Chaos<'l> {
    lab: &'l Lab,
    rng: ChaCha8Rng,
    people: BTreeMap<String, Person>,
    /// What each has stored; nobody that is not here has a machine.
    data: BTreeMap<String, String>,
}

fn main() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose();
    let seed = number("CHAOS_SEED").context("CHAOS_SEED")?.unwrap_or_else(clock);
    let rounds = number("CHAOS_ROUNDS").context("CHAOS_ROUNDS")?.unwrap_or(100);
    println!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}");
    let lab = Lab::get();
    lab.empty()?;
    let people = (1..=USERS).map(|i| format!("chaos-{i}")).map(|name| Ok((name.clone(), lab.person(&name)?)));
    let people = people.collect::<Result<_>>()?;
    let mut chaos = Chaos { lab, rng: ChaCha8Rng::seed_from_u64(seed), people, data: BTreeMap::new() };
    let started = Instant::now();
    for round in 1..=rounds {
        chaos.round(round).with_context(|| format!("round {round} of CHAOS_SEED={seed}"))?;
    }
    chaos.check().with_context(|| format!("after {rounds} rounds of CHAOS_SEED={seed}"))?;
    println!("{rounds} rounds in {:.0} s, CHAOS_SEED={seed}: nothing wrong", started.elapsed().as_secs_f32());
    lab.empty()?;
    lab_check::settle(lab)
}

/// Any number that is not the last one.
fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

impl Chaos<'_> {
    /// Everything that is decided comes from the seed alone, in the same order each time.
    fn round(&mut self, round: u64) -> Result<()> {
        let user = format!("chaos-{}", self.rng.random_range(1..=USERS));
        let operation = self.operation();
        let victim = self.victim();
        let after = Duration::from_millis(self.rng.random_range(0..LATEST_KILL_MILLIS));
        println!("{round}: {operation:?} {user}, kill {victim:?} after {} ms", after.as_millis());
        let (lab, person) = (self.lab, &self.people[&user]);
        let had = self.data.contains_key(&user);
        let said = thread::scope(|scope| {
            let doing = scope.spawn(|| perform(lab, person, &operation));
            // The moment is what is random here; it is no wait for something.
            thread::sleep(after);
            victim.kill(lab)?;
            doing.join().expect("the operation's thread")
        })?;
        println!("   exit {} {}", said.code, said.err.lines().next().unwrap_or_default());
        match (operation, said.code) {
            (Operation::Create, 0 | 4) if !had => self.store_in_new(&user, round)?,
            (Operation::Create, 4) => {}
            (Operation::Create, _) => bail!("{said:?}"),
            (Operation::Delete, 0 | 3) => drop(self.data.remove(&user)),
            (_, 3) => ensure!(!had, "{user}'s machine is lost"),
            _ => {}
        }
        Ok(())
    }

    fn operation(&mut self) -> Operation {
        match self.rng.random_range(0..20) {
            0..8 => Operation::Create,
            8..10 => Operation::Delete,
            10 => Operation::Stop,
            11..13 => Operation::Start,
            13 => Operation::Restart,
            14..16 => Operation::Resize(self.rng.random_range(1..=3)),
            16..18 => Operation::Move,
            _ => Operation::Keys,
        }
    }

    fn victim(&mut self) -> Victim {
        let nodes = self.lab.nodes();
        let node = (*nodes.choose(&mut self.rng).expect("some nodes")).to_owned();
        match self.rng.random_range(0..4) {
            0 => Victim::Coordinator,
            1 => Victim::Daemon("agent", node),
            2 => Victim::Daemon("incusd", node),
            _ => Victim::Daemon("sshd", node),
        }
    }

    /// After a create. 4: an earlier try of it was not answered and did it, or what was deleted is not gone yet.
    fn store_in_new(&mut self, user: &str, round: u64) -> Result<()> {
        let mut listed = self.lab.list()?.into_iter();
        if listed.any(|c| c["user"] == user && c["status"] != "Deleting") {
            return self.store(user, round);
        }
        Ok(())
    }

    fn store(&mut self, user: &str, round: u64) -> Result<()> {
        let data = format!("{user} in round {round}");
        let line = format!("echo {data} > ~/data && sync");
        logged_in(self.lab, &self.people[user], &line)?;
        self.data.insert(user.to_owned(), data);
        Ok(())
    }

    /// Nothing lost, doubled or orphaned; everybody in, with what they had.
    fn check(&self) -> Result<()> {
        for user in self.data.keys() {
            asked(self.lab, &["start", user])?.ok()?;
        }
        lab_check::settle(self.lab)?;
        let listed = self.lab.list()?.len();
        ensure!(listed == self.data.len(), "{listed} machines of {} people", self.data.len());
        for (user, data) in &self.data {
            let said = logged_in(self.lab, &self.people[user], "cat ~/data")?;
            ensure!(said == *data, "{user} finds {said:?}, not {data:?}");
        }
        Ok(())
    }
}

fn perform(lab: &Lab, person: &Person, operation: &Operation) -> Result<Said> {
    let (user, key) = (person.name.as_str(), person.public_key());
    match operation {
        Operation::Create => asked(lab, &["create", user, "--ssh-key", &key]),
        Operation::Delete => asked(lab, &["delete", user, "--force"]),
        Operation::Stop => asked(lab, &["stop", user]),
        Operation::Start => asked(lab, &["start", user]),
        Operation::Restart => asked(lab, &["restart", user]),
        Operation::Resize(gib) => asked(lab, &["resize", user, "--memory", &format!("{gib}GiB"), "--force"]),
        Operation::Move => asked(lab, &["move", user]),
        Operation::Keys => asked(lab, &["key", "replace", user, "--ssh-key", &key]),
    }
}

/// A command until it is answered.
fn asked(lab: &Lab, args: &[&str]) -> Result<Said> {
    let mut last = None;
    let answered = eventually("an answer", ANSWER, || {
        let said = lab.cli(args)?;
        let answer = said.code == 0 || REFUSED.contains(&said.code);
        ensure!(answer || AGAIN.contains(&said.code), "{args:?}: {said:?}");
        last = Some(said.clone());
        Ok(answer.then_some(said))
    });
    answered.with_context(|| format!("{args:?}: {last:?}"))
}

/// An sshd that was killed is back in a second.
fn logged_in(lab: &Lab, person: &Person, line: &str) -> Result<String> {
    eventually("ssh", ANSWER, || {
        let said = lab.ssh(person, line)?;
        Ok((said.code == 0).then_some(said.out))
    })
    .with_context(|| format!("{} cannot log in", person.name))
}
