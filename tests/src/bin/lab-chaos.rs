//! Chaos on the real lab: random operations on a few containers while a random one of all daemons is killed -9 at a random
//! moment, for so many rounds. In the end the checker must find nothing lost, doubled or orphaned, everybody's data must be
//! there, and everybody must be able to log in. `make lab-chaos`, with `CHAOS_SEED` and `CHAOS_ROUNDS`.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use containarium_tests::{
    lab::{Lab, Person, Said, eventually},
    lab_check,
};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

const USERS: u32 = 12;
/// From the start of an operation to the kill: a create takes about a second.
const LATEST_KILL_MILLIS: u64 = 1500;
/// A command that was cut off is repeated, as a person does, until it is answered.
const ANSWER: Duration = Duration::from_secs(180);
/// So often everybody is looked at in between, so that what went wrong is found near its cause.
const LOOK_EVERY: u64 = 20;

/// What is killed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Victim {
    /// One of the three, the leader or not.
    Coordinator(u32),
    /// "agent", "incusd" or "sshd" on a node.
    Daemon(&'static str, String),
    /// "postgres" or "etcd".
    Store(&'static str),
}

/// `lab`: it is not running. One that was killed a moment ago is down: fine.
const DOWN: i32 = 4;

impl Victim {
    fn kill(&self, lab: &Lab) -> Result<()> {
        let said = match self {
            Self::Coordinator(number) => lab.lab(&["coordinator", "kill", &number.to_string()])?,
            Self::Store(name) => lab.lab(&["store", "kill", name])?,
            Self::Daemon(name, node) => lab.on(node, &format!("kill -9 $(cat /run/lab/{name}.pid) || true"))?,
        };
        if said.code == DOWN { Ok(()) } else { said.ok().map(drop) }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Coordinator(_) => "coordinator",
            Self::Daemon(name, _) | Self::Store(name) => name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// One round.
#[derive(Debug)]
struct Plan {
    user: String,
    operation: Operation,
    victim: Victim,
    after: Duration,
}

/// What is done and what is killed, from the seed alone: it never looks at the fleet.
struct Decisions {
    rng: ChaCha8Rng,
    nodes: Vec<String>,
    /// Who has a machine, if all that was decided is done.
    owners: BTreeSet<String>,
    /// Every kind is killed equally often.
    deck: Vec<&'static str>,
}

impl Decisions {
    fn next(&mut self) -> Plan {
        let user = name(self.rng.random_range(1..=USERS));
        let operation = self.operation(&user);
        let after = Duration::from_millis(self.rng.random_range(0..LATEST_KILL_MILLIS));
        Plan { user, operation, victim: self.victim(), after }
    }

    fn operation(&mut self, user: &str) -> Operation {
        let number = self.rng.random_range(0..12);
        if self.owners.insert(user.to_owned()) {
            return Operation::Create;
        }
        match number {
            0..3 => {
                self.owners.remove(user);
                Operation::Delete
            }
            3 => Operation::Stop,
            4..6 => Operation::Start,
            6 => Operation::Restart,
            7..9 => Operation::Resize(self.rng.random_range(1..=3)),
            9..11 => Operation::Move,
            _ => Operation::Keys,
        }
    }

    fn victim(&mut self) -> Victim {
        if self.deck.is_empty() {
            self.deck = vec!["agent", "coordinator", "incusd", "sshd", "postgres", "etcd"];
            self.deck.shuffle(&mut self.rng);
        }
        let node = self.nodes[self.rng.random_range(0..self.nodes.len())].clone();
        match self.deck.pop().expect("it was filled") {
            "coordinator" => Victim::Coordinator(self.rng.random_range(1..=3)),
            name @ ("postgres" | "etcd") => Victim::Store(name),
            name => Victim::Daemon(name, node),
        }
    }
}

fn name(number: u32) -> String {
    format!("chaos-{number}")
}

struct Chaos<'l> {
    lab: &'l Lab,
    people: BTreeMap<String, Person>,
    /// What each has stored; nobody that is not here has a machine.
    data: BTreeMap<String, String>,
    killed: BTreeMap<&'static str, u32>,
    slowest: Duration,
}

fn main() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose();
    let seed = number("CHAOS_SEED").context("CHAOS_SEED")?.unwrap_or_else(clock);
    let rounds = number("CHAOS_ROUNDS").context("CHAOS_ROUNDS")?.unwrap_or(100);
    println!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}");
    let lab = Lab::with_three_coordinators();
    lab.empty()?;
    lab_check::settle(lab)?;
    let (rng, nodes) = (ChaCha8Rng::seed_from_u64(seed), lab.nodes().into_iter().map(ToOwned::to_owned).collect());
    let mut decisions = Decisions { rng, nodes, owners: BTreeSet::new(), deck: Vec::new() };
    let mut chaos = Chaos::of(lab)?;
    for user in (1..=USERS).map(name) {
        create(lab, &user, &chaos.people[&user].public_key())?.ok()?;
        chaos.store(&user, 0)?;
        decisions.owners.insert(user);
    }
    let started = Instant::now();
    for round in 1..=rounds {
        let plan = decisions.next();
        chaos.round(round, &plan).with_context(|| format!("round {round} of CHAOS_SEED={seed}"))?;
        if round % LOOK_EVERY == 0 {
            chaos.check().with_context(|| format!("after round {round} of CHAOS_SEED={seed}"))?;
        }
    }
    let took = started.elapsed();
    chaos.start_all()?;
    chaos.check().with_context(|| format!("after {rounds} rounds of CHAOS_SEED={seed}"))?;
    let (killed, slowest, people) = (&chaos.killed, chaos.slowest, chaos.data.len());
    println!("killed {killed:?}; the slowest answer took {slowest:.1?}; {people} people are in, with their data");
    println!("{rounds} rounds in {:.0} s, CHAOS_SEED={seed}: nothing wrong", took.as_secs_f32());
    lab.empty()?;
    lab_check::settle(lab)
}

/// Any number that is not the last one.
fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

impl<'l> Chaos<'l> {
    fn of(lab: &'l Lab) -> Result<Self> {
        let people = (1..=USERS).map(name).map(|name| Ok((name.clone(), lab.person(&name)?))).collect::<Result<_>>()?;
        Ok(Self { lab, people, data: BTreeMap::new(), killed: BTreeMap::new(), slowest: Duration::ZERO })
    }

    fn round(&mut self, round: u64, plan: &Plan) -> Result<()> {
        let Plan { user, operation, victim, after } = plan;
        println!("{round}: {operation:?} {user}, kill {victim:?} after {} ms", after.as_millis());
        let (lab, person, began) = (self.lab, &self.people[user], Instant::now());
        let had = self.data.contains_key(user);
        let said = thread::scope(|scope| {
            let doing = scope.spawn(|| perform(lab, person, *operation));
            // The moment is what is random here; it is no wait for something.
            thread::sleep(*after);
            victim.kill(lab)?;
            doing.join().expect("the operation's thread")
        })?;
        let took = began.elapsed();
        self.slowest = self.slowest.max(took);
        *self.killed.entry(victim.name()).or_default() += 1;
        println!("   exit {} after {took:.1?} {}", said.code, said.err.lines().next().unwrap_or_default());
        match (operation, said.code) {
            // 4: an earlier try was not answered and did it.
            (Operation::Create, 0 | 4) => self.store(user, round)?,
            (Operation::Create, _) => bail!("{said:?}"),
            (Operation::Delete, 0 | 3) => drop(self.data.remove(user)),
            (Operation::Delete, _) => bail!("{said:?}"),
            (_, 3) => ensure!(!had, "{user}'s machine is lost"),
            _ => {}
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

    fn start_all(&self) -> Result<()> {
        self.data.keys().try_for_each(|user| asked(self.lab, &["start", user])?.ok().map(drop))
    }

    /// Nothing lost, doubled or orphaned; everybody whose machine runs is in, with what they had.
    fn check(&self) -> Result<()> {
        lab_check::settle(self.lab)?;
        let status: BTreeMap<String, String> =
            self.lab.list()?.iter().map(|c| (text(c, "user"), text(c, "status"))).collect();
        let (listed, owners): (BTreeSet<_>, BTreeSet<_>) = (status.keys().collect(), self.data.keys().collect());
        ensure!(listed == owners, "machines of {listed:?}, but of {owners:?} people think so");
        for (user, data) in self.data.iter().filter(|(user, _)| status[*user] != "Stopped") {
            let said = logged_in(self.lab, &self.people[user], "cat ~/data")?;
            ensure!(said == *data, "{user} finds {said:?}, not {data:?}");
        }
        Ok(())
    }
}

fn text(container: &serde_json::Value, field: &str) -> String {
    container[field].as_str().unwrap_or_default().to_owned()
}

fn perform(lab: &Lab, person: &Person, operation: Operation) -> Result<Said> {
    let (user, key) = (person.name.as_str(), person.public_key());
    match operation {
        Operation::Create => create(lab, user, &key),
        Operation::Delete => asked(lab, &["delete", user, "--force"]),
        Operation::Stop => asked(lab, &["stop", user]),
        Operation::Start => asked(lab, &["start", user]),
        Operation::Restart => asked(lab, &["restart", user]),
        Operation::Resize(gib) => asked(lab, &["resize", user, "--memory", &format!("{gib}GiB"), "--force"]),
        Operation::Move => asked(lab, &["move", user]),
        Operation::Keys => asked(lab, &["key", "replace", user, "--ssh-key", &key]),
    }
}

/// The name may still be that of a machine which is being deleted.
fn create(lab: &Lab, user: &str, key: &str) -> Result<Said> {
    eventually("the old machine is gone", ANSWER, || {
        // Small, so that a move finds room on a server of two CPUs too.
        let said = asked(lab, &["create", user, "--ssh-key", key, "--cpu", "1"])?;
        let listed = asked(lab, &["list", "-o", "json"])?.json()?;
        let mut listed = listed["containers"].as_array().context("containers")?.iter();
        Ok((!listed.any(|c| c["user"] == user && c["status"] == "Deleting")).then_some(said))
    })
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

/// An sshd that was killed is back in a second, and so are those that `export` asks.
fn logged_in(lab: &Lab, person: &Person, line: &str) -> Result<String> {
    let mut last = String::new();
    let said = eventually("ssh", ANSWER, || match lab.ssh(person, line) {
        Ok(said) if said.code == 0 => Ok(Some(said.out)),
        said => {
            last = format!("{said:?}");
            Ok(None)
        }
    });
    said.with_context(|| format!("{} cannot log in: {last}", person.name))
}
