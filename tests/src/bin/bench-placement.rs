//! Sixty real machines of mixed sizes on three servers that may be filled differently: how far apart the fullest and the
//! emptiest end, and whether the same burst gives the same placement again. Prints the figures; docs/benchmarks.md keeps
//! them. A burst is in one order: each create begins when the one before has been placed and only few are under way, so
//! that a small machine with all three servers on it goes on answering while dozens of machines boot.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader},
    process::{Child, ChildStderr, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::Lab;

const USERS: usize = 60;
/// Creates under way at a time.
const AT_ONCE: usize = 4;
/// CPUs promised per CPU there is: the servers of the lab are equally large, and so become unequal. Of memory and disk
/// so much is promised that what the machine itself uses of them, which changes by itself, decides nothing.
const SERVERS: [(&str, &str, &str); 3] = [("jump-1", "40", "100"), ("jump-2", "20", "50"), ("jump-3", "10", "25")];
/// The largest is a twentieth of what the smallest server of a machine with two CPUs may promise.
const SIZES: [(&str, &str, &str); 6] = [
    ("250m", "256MiB", "3GB"),
    ("1", "512MiB", "4GB"),
    ("500m", "128MiB", "2GB"),
    ("750m", "1GiB", "5GB"),
    ("300m", "384MiB", "2GB"),
    ("900m", "256MiB", "8GB"),
];

/// A create that has been placed, with what it goes on to say.
type Begun = (Child, BufReader<ChildStderr>);

fn main() -> Result<()> {
    let lab = Lab::get();
    lab.empty()?;
    for (node, cpu, memory) in SERVERS {
        let set = ["node", "set", node, "--overcommit-cpu", cpu, "--overcommit-memory", memory];
        lab.cli(&[set.as_slice(), &["--overcommit-disk", "10"]].concat())?.ok()?;
    }
    let outcome = twice(lab);
    for (node, ..) in SERVERS {
        lab.cli(&["node", "set", node, "--reset"])?.ok()?;
    }
    lab.empty()?;
    outcome
}

fn twice(lab: &Lab) -> Result<()> {
    let first = burst(lab)?;
    // All of them at once: one after the other takes minutes.
    empty_fast(lab)?;
    let second = burst(lab)?;
    ensure!(first == second, "the same burst gave another placement:\n{first:?}\n{second:?}");
    println!("the same burst again: the same placement of all {USERS}");
    empty_fast(lab)
}

/// Creates all, and gives who is where.
fn burst(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let started = Instant::now();
    let mut running = VecDeque::new();
    for index in 0..USERS {
        if running.len() == AT_ONCE {
            running.pop_front().map_or(Ok(()), end)?;
        }
        running.push_back(begin(lab, index)?);
    }
    running.into_iter().try_for_each(end)?;
    println!("{USERS} ready for ssh in {:.1} s", started.elapsed().as_secs_f32());
    let listed = lab.list()?;
    let text = |c: &serde_json::Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    ensure!(listed.iter().all(|c| c["status"] == "Running") && listed.len() == USERS, "all run");
    let apart = loads(lab)?;
    ensure!(apart <= 50, "the fullest and the emptiest are {apart} thousandths apart");
    Ok(listed.iter().map(|c| (text(c, "user"), text(c, "node"))).collect())
}

/// Starts a create and returns when it has been placed.
fn begin(lab: &Lab, index: usize) -> Result<Begun> {
    let user = format!("user{index:02}");
    let key = lab.person(&user)?.public_key();
    let (cpu, memory, disk) = SIZES[index % SIZES.len()];
    let sizes = ["--cpu", cpu, "--memory", memory, "--disk-quota", disk];
    let mut command = lab.command("containarium");
    command.args(["create", &user, "--ssh-key", &key]).args(sizes);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(child.stderr.take().context("its standard error")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.contains("placed on"), "{user}: {line}");
    Ok((child, said))
}

/// Waits for a create.
fn end((mut child, mut said): Begun) -> Result<()> {
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest)?;
    ensure!(child.wait()?.success(), "a create failed: {rest}");
    Ok(())
}

/// Prints how full each server is; gives how far apart they are, in thousandths.
fn loads(lab: &Lab) -> Result<u64> {
    let nodes = lab.cli(&["node", "list", "-o", "json"])?.json()?;
    let mut all = Vec::new();
    for node in nodes["nodes"].as_array().context("nodes")? {
        let load = node["load_permille"].as_u64().with_context(|| format!("load_permille in {node}"))?;
        println!("{}: {} machines, load {:.1}%", node["name"], node["containers"], load as f64 / 10.0);
        all.push(load);
    }
    let apart = all.iter().max().zip(all.iter().min()).map_or(0, |(most, least)| most - least);
    println!("fullest and emptiest are {:.1} percentage points apart", apart as f64 / 10.0);
    Ok(apart)
}

fn empty_fast(lab: &Lab) -> Result<()> {
    let mut running = Vec::new();
    for container in lab.list()? {
        let user = container["user"].as_str().context("user")?;
        let mut command = lab.command("containarium");
        command.args(["delete", user, "--force"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        running.push(command.spawn()?);
    }
    for mut child in running {
        ensure!(child.wait()?.success(), "a delete failed");
    }
    Ok(())
}
