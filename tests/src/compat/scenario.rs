//! What is run with both releases: everyday commands by either CLI through either coordinator on machines of either
//! agent, then every process replaced in the order of docs/upgrade.md, and back. A command that one of those involved is
//! too old for must be refused in words that say so, soon, and change nothing.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, ensure};

use super::{
    Release, contract,
    fleet::{Fleet, PATIENCE},
};
use crate::{
    lab::{Said, eventually},
    postgres::Postgres,
};

const NODES: [&str; 2] = ["jump-1", "jump-2"];

/// Both releases.
#[derive(Clone, Copy)]
struct Pair<'r> {
    old: &'r Release,
    new: &'r Release,
}

/// Who takes part in a command.
#[derive(Clone, Copy)]
struct Parts<'r> {
    cli: &'r Release,
    coordinator: &'r Release,
    /// By node.
    agents: [&'r Release; 2],
}

/// What a command needs beyond what was there from the beginning: words of the CLI, a call of the coordinator, calls of
/// the agents.
#[derive(Clone, Copy)]
struct Needs {
    command: &'static [&'static str],
    fleet: &'static str,
    agents: &'static [&'static str],
    /// Of the orders that come of it.
    level: u32,
}

const SNAPSHOT: Needs =
    Needs { command: &["snapshot", "create"], fleet: "CreateSnapshot", agents: &["MakeSnapshot"], level: 0 };
const MOVE: Needs =
    Needs { command: &["move"], fleet: "MoveContainer", agents: &["OfferCopy", "ReceiveCopy"], level: 1 };
const RESIZE: Needs = Needs { command: &["resize"], fleet: "ResizeContainer", agents: &[], level: 0 };
const KEYS: Needs = Needs { command: &["key", "add"], fleet: "ChangeKeys", agents: &[], level: 0 };

/// What can be said of a command beforehand.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Done,
    /// The CLI does not know the word.
    Usage,
    /// Somebody is too old for it.
    TooOld,
}

impl Parts<'_> {
    fn expected(&self, needs: Needs, on: &[usize]) -> Result<Expected> {
        if !self.cli.cli_knows(needs.command)? {
            return Ok(Expected::Usage);
        }
        // A coordinator of before there were levels asks for none.
        let level = needs.level.min(self.coordinator.level);
        let lacks =
            |agent: &Release| agent.level < level || needs.agents.iter().any(|call| !agent.contract.has("Agent", call));
        let too_old =
            !self.coordinator.contract.has("Fleet", needs.fleet) || on.iter().any(|node| lacks(self.agents[*node]));
        Ok(if too_old { Expected::TooOld } else { Expected::Done })
    }
}

fn migrations(release: &Release) -> PathBuf {
    release.source.join("coordinator/migrations")
}

/// Compares the contracts and runs everything.
///
/// # Errors
/// The first thing that does not work between the two.
pub fn run(old: &Release, new: &Release) -> Result<()> {
    let mut problems = new.contract.breaks_with(&old.contract);
    problems.extend(contract::migrations_break(&migrations(new), &migrations(old))?);
    ensure!(problems.is_empty(), "{} breaks with {}:\n{}", new.name, old.name, problems.join("\n"));
    println!("contract and migrations: nothing that {} promised is gone", old.name);
    let pair = Pair { old, new };
    let mut fleet = Fleet::new(old, &NODES)?;
    pair.all(&mut fleet).with_context(|| fleet.logs())?;
    if old.coordinator_takes("--advertise") {
        let mut fleet = Fleet::new(old, &NODES)?;
        pair.beside_each_other(&mut fleet).with_context(|| fleet.logs())?;
    } else {
        println!("{} shares no database: nothing to run beside each other", old.name);
    }
    Ok(())
}

impl Pair<'_> {
    fn all(&self, fleet: &mut Fleet) -> Result<()> {
        let Self { old, new } = *self;
        let agents = [old, new];
        let began = Instant::now();
        fleet.coordinator(old)?;
        self.join(fleet, old, agents)?;
        for cli in [old, new] {
            everyday(fleet, Parts { cli, coordinator: old, agents })?;
        }
        for (node, user) in NODES.iter().zip(["kept1", "kept2"]) {
            create(fleet, old, user, node)?;
        }
        let before = kept(fleet, old)?;

        fleet.stop_coordinator()?;
        fleet.coordinator(new)?;
        for node in NODES {
            fleet.until_node(new, node, "Online")?;
        }
        ensure!(kept(fleet, new)? == before, "the machines are the same after the coordinator's upgrade");
        println!("coordinator {} -> {}: the same machines, on the same servers", old.name, new.name);
        for cli in [old, new] {
            everyday(fleet, Parts { cli, coordinator: new, agents })?;
        }
        for user in ["kept1", "kept2"] {
            fleet.cli(new, &["delete", user, "--force"])?.ok()?;
        }
        self.back(fleet)?;

        // Whoever was old is new, and the other way round, each on what the other left.
        for (node, release) in NODES.into_iter().zip([new, old]) {
            fleet.agent(node, release)?;
        }
        for node in NODES {
            fleet.until_node(new, node, "Online")?;
        }
        everyday(fleet, Parts { cli: new, coordinator: new, agents: [new, old] })?;
        println!("agents replaced on their state, up and down; all of it took {:.0} s", began.elapsed().as_secs_f32());
        Ok(())
    }

    /// Agents first, then a coordinator that knows them.
    fn join(&self, fleet: &mut Fleet, cli: &Release, agents: [&Release; 2]) -> Result<()> {
        for (node, release) in NODES.into_iter().zip(agents) {
            fleet.agent(node, release)?;
            let address = fleet.address_of(node)?.to_string();
            fleet.cli(cli, &["node", "add", node, "--address", &address])?.ok()?;
            fleet.until_node(cli, node, "Online")?;
        }
        Ok(())
    }

    /// The coordinator of before on the database of now: refused if the tables are other ones, and nothing is lost by it.
    fn back(&self, fleet: &mut Fleet) -> Result<()> {
        let Self { old, new } = *self;
        create(fleet, new, "kept3", NODES[1])?;
        let before = fleet.container(new, "kept3")?;
        fleet.stop_coordinator()?;
        if contract::migrations_break(&migrations(old), &migrations(new))?.is_empty() {
            fleet.coordinator(old)?;
            println!("{} works on the database of {}: no migration between them", old.name, new.name);
            ensure!(fleet.container(old, "kept3")?.is_some(), "the list is whole");
            fleet.stop_coordinator()?;
        } else {
            let mut refused = fleet.launch(old, fleet.server, "coordinator")?;
            ensure!(!refused.ended()?.success(), "{} must not start on newer tables", old.name);
            let said = refused.said();
            let said = said.lines().last().unwrap_or_default();
            ensure!(said.contains("migration") || said.contains("newer"), "it says why: {said}");
            println!("{} is refused on the database of {}: {said}", old.name, new.name);
        }
        fleet.coordinator(new)?;
        fleet.until_node(new, NODES[1], "Online")?;
        let kept = fleet.container(new, "kept3")?.context("it is still there")?;
        ensure!(Some(&kept["id"]) == before.as_ref().map(|c| &c["id"]), "it is the same machine");
        fleet.cli(new, &["delete", "kept3", "--force"])?.ok()?;
        Ok(())
    }

    /// Two coordinators on one Postgres: the new one changes the tables under the old one, which goes on leading until it
    /// is stopped.
    fn beside_each_other(&self, fleet: &mut Fleet) -> Result<()> {
        let Self { old, new } = *self;
        fleet.database = Some(Postgres::get().url(&Postgres::get().create(), None));
        fleet.coordinator(old)?;
        self.join(fleet, old, [old, new])?;
        create(fleet, old, "early", NODES[0])?;
        let second = fleet.free_address()?;
        let follower = fleet.launch(new, second, "coordinator-2")?;
        let first = std::mem::replace(&mut fleet.server, second);
        eventually("the new one follows", PATIENCE, || Ok((fleet.cli(new, &["list"])?.code == 0).then_some(())))?;
        // Through the new one, which passes it on; then to the old one, which leads on tables that are not its own.
        create(fleet, new, "passed-on", NODES[1])?;
        fleet.server = first;
        create(fleet, old, "direct", NODES[0])?;
        for (cli, line) in [(old, ["stop", "direct"]), (new, ["start", "direct"])] {
            fleet.cli(cli, &line)?.ok()?;
        }
        fleet.adopt(follower, second).context("the old one runs")?.stop()?;
        create(fleet, new, "late", NODES[0])?;
        let list = fleet.cli(old, &["list", "-o", "json"])?.json()?;
        ensure!(list["total_count"] == 4, "nothing is lost: {list}");
        println!("side by side on one database: {} led on the tables of {}, then made way", old.name, new.name);
        Ok(())
    }
}

/// Id, server, address and status of what must stay as it is.
fn kept(fleet: &Fleet, cli: &Release) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for user in ["kept1", "kept2"] {
        let container = fleet.container(cli, user)?.with_context(|| format!("{user} is there"))?;
        let value = |key: &str| container[key].to_string();
        found.push(["id", "node", "ip", "status"].map(value).join(" "));
    }
    Ok(found)
}

fn create(fleet: &Fleet, cli: &Release, user: &str, node: &str) -> Result<()> {
    let key = fleet.key("first");
    let line = ["create", user, "--ssh-key", &key, "--node", node, "--memory", "512MiB"];
    fleet.cli(cli, &line)?.ok().with_context(|| line.join(" "))?;
    is(fleet, cli, user, &[("status", "Running"), ("node", node), ("memory", "512MiB")])
}

/// What the list says of a user's machine.
fn is(fleet: &Fleet, cli: &Release, user: &str, facts: &[(&str, &str)]) -> Result<()> {
    let container = fleet.container(cli, user)?.with_context(|| format!("{user} is in the list"))?;
    for (key, value) in facts {
        ensure!(container[*key] == *value, "{user}: {key} is {}, not {value}", container[*key]);
    }
    Ok(())
}

/// A machine's whole life on each server.
fn everyday(fleet: &Fleet, parts: Parts<'_>) -> Result<()> {
    let Parts { cli, coordinator, .. } = parts;
    for (index, node) in NODES.into_iter().enumerate() {
        let agent = parts.agents[index];
        let began = Instant::now();
        let user = format!("user{index}");
        let what = format!("CLI {}, coordinator {}, agent {}", cli.name, coordinator.name, agent.name);
        let refused = one_life(fleet, parts, &user, index).with_context(|| what.clone())?;
        let refused = if refused.is_empty() { String::new() } else { format!("; refused as too old: {refused}") };
        println!("{what} ({node}): {:.1} s{refused}", began.elapsed().as_secs_f32());
    }
    Ok(())
}

/// Gives what was refused, as it had to be.
fn one_life(fleet: &Fleet, parts: Parts<'_>, user: &str, index: usize) -> Result<String> {
    let Parts { cli, .. } = parts;
    let (node, other) = (NODES[index], NODES[1 - index]);
    let mut refused = Vec::new();
    create(fleet, cli, user, node)?;
    let info = fleet.cli(cli, &["info", user, "-o", "json"])?.json()?;
    ensure!(info.to_string().contains(node), "info names the server: {info}");

    let mut try_it = |needs: Needs, on: &[usize], args: &[&str]| -> Result<bool> {
        let (expected, began) = (parts.expected(needs, on)?, Instant::now());
        let said = fleet.cli(cli, args)?;
        as_expected(&said, &expected).with_context(|| format!("{} must be {expected:?}", args.join(" ")))?;
        ensure!(began.elapsed() < PATIENCE, "{} took {:?}", args.join(" "), began.elapsed());
        if expected != Expected::Done {
            refused.push(format!("{} ({})", needs.command.join(" "), said.code));
        }
        Ok(expected == Expected::Done)
    };
    if try_it(RESIZE, &[index], &["resize", user, "--memory", "768MiB"])? {
        is(fleet, cli, user, &[("memory", "768MiB")])?;
    }
    let key = fleet.key("second");
    if try_it(KEYS, &[index], &["key", "add", user, "--ssh-key", &key])? {
        let keys = fleet.cli(cli, &["key", "list", user, "-o", "json"])?.json()?;
        ensure!(keys["keys"].as_array().is_some_and(|keys| keys.len() == 2), "two keys: {keys}");
    }
    fleet.cli(cli, &["stop", user])?.ok()?;
    is(fleet, cli, user, &[("status", "Stopped")])?;
    fleet.cli(cli, &["start", user])?.ok()?;
    is(fleet, cli, user, &[("status", "Running")])?;
    if try_it(SNAPSHOT, &[index], &["snapshot", "create", user, "one"])? {
        let list = fleet.cli(cli, &["snapshot", "list", user, "-o", "json"])?.json()?;
        ensure!(list.to_string().contains("\"one\""), "it is listed: {list}");
    }
    if try_it(MOVE, &[0, 1], &["move", user, "--to", other])? {
        is(fleet, cli, user, &[("status", "Running"), ("node", other)])?;
    } else {
        is(fleet, cli, user, &[("status", "Running"), ("node", node)])?;
    }
    fleet.cli(cli, &["delete", user, "--force"])?.ok()?;
    ensure!(fleet.container(cli, user)?.is_none(), "{user} is gone");
    Ok(refused.join(", "))
}

fn as_expected(said: &Said, expected: &Expected) -> Result<()> {
    match expected {
        Expected::Done => said.clone().ok().map(drop),
        Expected::Usage => {
            ensure!(said.code == 2, "it is wrong usage: {said:?}");
            Ok(())
        }
        Expected::TooOld => {
            ensure!(said.code != 0 && said.err.contains("older"), "it says who is too old: {said:?}");
            Ok(())
        }
    }
}
