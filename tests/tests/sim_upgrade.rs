//! Every process of a fleet is replaced by the next one while people work: agents first, then coordinators, one after the
//! other, each asked to stop as systemd asks. Nobody is told that something failed, nothing is lost or done twice, and no
//! machine is started anew.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use containarium_agent::host::sim::SimHost;
use containarium_proto::v1::{Availability, Phase};
use containarium_tests::{
    fleet::{
        Fleet, eventually,
        ha::{By, Ha},
    },
    invariants::settle,
};

const COORDINATOR: &str = env!("CARGO_BIN_EXE_sim-coordinator");
const NODES: u8 = 3;
/// See docs/exit-codes.md.
const NOBODY_ANSWERS: u8 = 6;

fn hosts() -> Vec<SimHost> {
    (1..=NODES).map(|i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap())).collect()
}

/// A person at a terminal.
struct Shell {
    servers: String,
    certs: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Shell {
    fn of(ha: &Ha) -> Self {
        Self { servers: ha.servers(), certs: ha.certs(), runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    /// What every command must end with.
    fn must(&self, line: &str) {
        let words = ["containarium", "--server", &self.servers, "--certs-dir", self.certs.to_str().unwrap()];
        let words = words.into_iter().chain(line.split_whitespace()).map(OsString::from).collect::<Vec<_>>();
        let run = || self.runtime.block_on(containarium_cli::run(words.clone()));
        // On a machine that is slow enough, none of them answers in time now and then; then a person asks once more.
        let code = Some(run()).filter(|code| *code != NOBODY_ANSWERS).unwrap_or_else(run);
        assert_eq!(code, 0, "{line}");
    }
}

/// Works until it is told that everything has been replaced. Gives how many machines are there at the end.
fn work(shell: &Shell, me: usize, over: &AtomicBool, commands: &AtomicU32) -> usize {
    let key = shell.certs.join("key.pub").display().to_string();
    let must = |line: String| {
        shell.must(&line);
        commands.fetch_add(1, Ordering::Relaxed);
    };
    let mut round = 0;
    loop {
        let user = format!("user{me}-{round}");
        must(format!("create {user} --ssh-key {key} --memory 256MiB --cpu 100m --disk-quota 2GB"));
        must(format!("resize {user} --memory 300MiB"));
        must(format!("stop {user}"));
        must(format!("start {user}"));
        must("list".to_owned());
        must(format!("info {user}"));
        round += 1;
        if over.load(Ordering::Relaxed) {
            return round;
        }
    }
}

/// How often each machine was started since it was made.
fn all_boots(ha: &Ha) -> BTreeMap<String, u32> {
    let instances = ha.fleet.nodes.iter().flat_map(|node| node.host.instances_now());
    instances.map(|(name, instance)| (name, instance.boots)).collect()
}

#[test]
fn a_fleet_is_replaced_process_by_process_while_people_work_and_nobody_notices() {
    let mut ha = Ha::of(COORDINATOR, hosts(), By::Sql, &["--max-containers-per-node", "200"]);
    std::fs::write(ha.certs().join("key.pub"), include_str!("../../proto/src/keys/testdata/ed25519.pub")).unwrap();
    for index in 0..3 {
        ha.create(&format!("quiet{index}"));
    }
    let (over, commands) = (AtomicBool::new(false), AtomicU32::new(0));
    let shells: Vec<Shell> = (0..2).map(|_| Shell::of(&ha)).collect();
    let made: usize = thread::scope(|scope| {
        let workers: Vec<_> = shells
            .iter()
            .enumerate()
            .map(|(me, shell)| {
                let (over, commands) = (&over, &commands);
                scope.spawn(move || work(shell, me, over, commands))
            })
            .collect();
        replace_all(&mut ha, &commands);
        over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("every command is answered well")).sum()
    });
    println!(
        "{} commands, all done, while 3 agents and 3 coordinators were replaced",
        commands.load(Ordering::Relaxed)
    );
    ha.use_leader();
    settle(&ha.fleet);
    let list = ha.fleet.list();
    assert_eq!(list.len(), made + 3, "nothing is lost");
    assert!(list.iter().all(|container| container.phase() == Phase::Running));
    assert_eq!(ha.fleet.nodes.iter().map(|node| node.host.creates()).sum::<u32>() as usize, made + 3, "nor made twice");
    for (name, boots) in all_boots(&ha) {
        // Those of the workers were stopped and started once by them.
        let wanted = if name.starts_with("quiet") { 1 } else { 2 };
        assert_eq!(boots, wanted, "{name}");
    }
}

/// Each only when people have worked for a while since the one before.
fn replace_all(ha: &mut Ha, commands: &AtomicU32) {
    let work_goes_on = |commands: &AtomicU32| {
        let before = commands.load(Ordering::Relaxed);
        eventually("people work on", || commands.load(Ordering::Relaxed) >= before + 3);
    };
    for index in 0..usize::from(NODES) {
        work_goes_on(commands);
        ha.fleet.stop_agent(index);
        ha.fleet.start_agent(index);
        let name = ha.fleet.nodes[index].name.clone();
        ha.use_leader();
        ha.fleet.until_node(&name, Availability::Online);
    }
    // Those that follow first.
    let (leader, _) = ha.use_leader();
    for index in [(leader + 1) % 3, (leader + 2) % 3, leader] {
        work_goes_on(commands);
        assert!(ha.stop(index), "a good end: {}", ha.log(index));
        ha.start(index);
        eventually("it answers again", || {
            ha.use_coordinator(index);
            ha.fleet.answers()
        });
    }
    work_goes_on(commands);
}

#[test]
fn an_agent_that_is_stopped_ends_soon_whoever_still_talks_to_it() {
    let mut fleet =
        Fleet::of(vec![SimHost::new("10.100.1.0/24".parse().unwrap()).with_latency(Duration::from_secs(20))]);
    let create = fleet.create_in_background(Fleet::request("alice"));
    // Its accounts take longer than anybody waits: the call stands when the agent is asked to stop.
    eventually("the create has begun", || fleet.phase("alice").is_some());
    let began = std::time::Instant::now();
    fleet.stop_agent(0);
    assert!(began.elapsed() < Duration::from_secs(15), "as long as its unit waits: {:?}", began.elapsed());
    drop(create);
}
