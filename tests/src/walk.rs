//! The chaos walk: people do random things to a few containers on a fleet of several nodes while agents and the
//! coordinator die, disks fill and messages are lost. Now and then everything is given time to come to rest; then every
//! invariant must hold, and what there is must be what people were told ([`model`]).
//!
//! What is done, and what goes wrong, depends on the seed alone ([`decisions`]): the same seed does the same again,
//! though it may meet another interleaving. A failure prints the seed and the last decisions.

pub mod decisions;
pub mod model;

use std::time::{Duration, Instant};

use containarium_agent::host::sim::SimInstance;
use containarium_proto::{error::Reason, error::Refusal, v1};
use tonic::Status;

use self::{
    decisions::{Decisions, Deed, Mishap, Step},
    model::{Model, Outcome},
};
use crate::{
    fleet::{Background, Fleet, eventually},
    invariants::{nothing_went_wrong, settle},
    matrix::is_worth_repeating,
};

/// Things done at the same time.
const AT_ONCE: usize = 4;
/// Steps between two rests.
const REST_EVERY: u32 = 12;
/// What hangs for so long hangs because a node is away: the nodes are brought back.
const HANGS: Duration = Duration::from_secs(3);

/// A fleet that nothing happens to any more comes to rest within this.
const PATIENCE: Duration = Duration::from_secs(50);
/// A key that no order speaks of.
const TAMPERED: &str = "limits.processes";

/// How it is walked.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Decides everything.
    pub seed: u64,
    /// How many things are done.
    pub steps: u32,
    /// Jump servers.
    pub nodes: u8,
    /// Coordinators that may lead. The simulated fleet has one so far.
    pub coordinators: u8,
}

/// Something that is being done.
#[derive(Debug)]
struct Flight {
    deed: Deed,
    request: String,
    running: Background,
    /// Nobody knows what became of an earlier try.
    unsure: bool,
}

/// A walk under way.
#[derive(Debug)]
struct Walker {
    fleet: Fleet,
    model: Model,
    flights: Vec<Flight>,
    /// Whose outcome says nothing about what there must be.
    strays: Vec<Background>,
    /// Nodes without an agent, until this step.
    away: Vec<(usize, u32)>,
    told: Told,
}

/// What was decided last; printed if something panics.
#[derive(Debug)]
struct Told {
    walk: Walk,
    lines: Vec<String>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.lines.len().saturating_sub(40);
            eprintln!("{}", self.lines[from..].join("\n"));
            eprintln!("again: CHAOS_SEED={} CHAOS_STEPS={}", self.walk.seed, self.walk.steps);
        }
    }
}

/// What a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Faults that really happened.
    pub mishaps: u32,
    /// Things that were done.
    pub done: u32,
    /// Things that were refused, for a reason that holds.
    pub refused: u32,
    /// Things of which nobody could say.
    pub unsure: u32,
}

/// Walks.
///
/// # Panics
/// Something was lost, doubled, orphaned, or is not as people were told.
#[must_use]
pub fn walk(walk: Walk) -> Tally {
    assert_eq!(walk.coordinators, 1, "the simulated fleet has one coordinator");
    println!("CHAOS_SEED={} CHAOS_STEPS={}", walk.seed, walk.steps);
    let mut walker = Walker {
        fleet: Fleet::watched_nodes(walk.nodes),
        model: Model::default(),
        flights: Vec::new(),
        strays: Vec::new(),
        away: Vec::new(),
        told: Told { walk, lines: Vec::new() },
    };
    let mut tally = Tally::default();
    for (number, step) in (1..=walk.steps).zip(Decisions::new(walk.seed, walk.nodes)) {
        walker.told.lines.push(format!("{number}: {step:?}"));
        walker.step(number, step, &mut tally);
        if number % REST_EVERY == 0 || number == walk.steps {
            walker.rest(&mut tally);
        }
    }
    tally
}

impl Walker {
    fn step(&mut self, number: u32, step: Step, tally: &mut Tally) {
        while let Some(at) = self.away.iter().position(|(_, until)| *until <= number) {
            let (node, _) = self.away.remove(at);
            self.fleet.start_agent(node);
        }
        nothing_went_wrong(&self.fleet);
        // People wait for what they have asked for before they ask for the next.
        let user = step.deed.user().map(str::to_owned);
        while let Some(at) = self.flights.iter().position(|f| f.deed.user() == user.as_deref() && user.is_some()) {
            self.land(at, tally);
        }
        if self.flights.len() >= AT_ONCE {
            self.land(0, tally);
        }
        self.mishap(number, step.mishap, tally);
        self.begin(step, tally);
    }

    fn mishap(&mut self, number: u32, mishap: Mishap, tally: &mut Tally) {
        match mishap {
            Mishap::None => {}
            Mishap::Fault { fault, node, k } => fault.plan(&self.fleet, node, k),
            Mishap::Away { node, steps } => {
                tally.mishaps += u32::from(self.fleet.revive());
                if self.away.iter().all(|(away, _)| *away != node) {
                    self.fleet.kill_agent(node);
                    self.away.push((node, number + steps));
                    tally.mishaps += 1;
                }
            }
            Mishap::CoordinatorDies => {
                self.fleet.kill_coordinator();
                tally.mishaps += 1 + u32::from(self.fleet.points.revive());
                self.fleet.start_coordinator();
            }
        }
    }

    fn begin(&mut self, step: Step, tally: &mut Tally) {
        let Step { deed, request, .. } = step;
        match &deed {
            Deed::Write { user, data } => {
                let name = format!("{user}-container");
                if self.fleet.nodes.iter().any(|node| node.host.write(&name, data)) {
                    self.model.wrote(user, data);
                }
            }
            Deed::Tamper { user } => {
                let name = format!("{user}-container");
                for node in &self.fleet.nodes {
                    node.host.tamper_with_ours(&name, |instance| {
                        instance.shape.config.insert(TAMPERED.to_owned(), "7".to_owned());
                    });
                }
            }
            Deed::CancelMove { .. } | Deed::Drain { .. } => {
                self.strays.push(deed.ask(&self.fleet, &request).expect("a request"));
            }
            Deed::Uncordon { node } => {
                // Whoever asks must not wait for a dead one.
                tally.mishaps += u32::from(self.fleet.disarm());
                let node = self.fleet.nodes[*node].name.clone();
                // Whoever is dying may not hear it; a rest says it again.
                self.fleet.try_policy(&node, v1::Policy::Active);
            }
            Deed::Create { .. }
            | Deed::Resize { .. }
            | Deed::Power { .. }
            | Deed::Keys { .. }
            | Deed::Protect { .. }
            | Deed::Autostart { .. }
            | Deed::Delete { .. }
            | Deed::Move { .. }
            | Deed::Repair { .. } => {
                let running = deed.ask(&self.fleet, &request).expect("a request");
                self.flights.push(Flight { deed, request, running, unsure: false });
            }
        }
    }

    /// Sees one thing to its end, as the CLI does: it repeats what nobody answered.
    fn land(&mut self, at: usize, tally: &mut Tally) {
        let Flight { deed, request, mut running, mut unsure } = self.flights.remove(at);
        loop {
            let started = Instant::now();
            eventually(&format!("it ends: {deed:?}"), || {
                tally.mishaps += u32::from(self.fleet.revive());
                if started.elapsed() > HANGS {
                    self.return_all();
                }
                running.is_finished()
            });
            let status = match self.fleet.join(running) {
                Ok(_) => {
                    tally.done += 1;
                    return self.model.note(&deed, Outcome::Done, unsure);
                }
                Err(status) => status,
            };
            if nobody_answered(&status) {
                unsure = true;
                running = deed.ask(&self.fleet, &request).expect("a request");
                continue;
            }
            let outcome = outcome(&status);
            match outcome {
                Outcome::Unknown => tally.unsure += 1,
                Outcome::Refused(_) | Outcome::Done => tally.refused += 1,
            }
            return self.model.note(&deed, outcome, unsure);
        }
    }

    fn return_all(&mut self) {
        for (node, _) in std::mem::take(&mut self.away) {
            self.fleet.start_agent(node);
        }
    }

    /// Everything is back, nothing goes wrong any more, and everything that was asked for comes to its end.
    fn rest(&mut self, tally: &mut Tally) {
        self.return_all();
        while !self.flights.is_empty() {
            self.land(0, tally);
        }
        tally.mishaps += u32::from(self.fleet.disarm());
        for node in &self.fleet.nodes {
            self.fleet.set_policy(&node.name, v1::Policy::Active);
        }
        for stray in std::mem::take(&mut self.strays) {
            drop(stray);
        }
        self.undo_drift();
        settle(&self.fleet);
        let hosts: Vec<_> = self.fleet.nodes.iter().map(|node| node.host.clone()).collect();
        self.model.compare(&self.fleet.list(), &hosts);
    }

    fn undo_drift(&mut self) {
        let phases = |fleet: &Fleet| -> Vec<_> {
            fleet.list().iter().map(|c| (c.user.clone(), c.phase(), c.moving_to.clone(), c.detail.clone())).collect()
        };
        let started = Instant::now();
        eventually("nothing differs any more", || {
            nothing_went_wrong(&self.fleet);
            let there = phases(&self.fleet);
            assert!(started.elapsed() < PATIENCE, "never comes to rest: {there:#?}");
            for (user, ..) in there.iter().filter(|(_, phase, ..)| *phase == v1::Phase::Drifted) {
                drop(self.fleet.repair(user));
            }
            let rests = |(_, phase, to, _): &(String, v1::Phase, String, String)| {
                matches!(phase, v1::Phase::Running | v1::Phase::Stopped) && to.is_empty()
            };
            there.iter().all(rests) && !is_tampered(&self.fleet)
        });
    }
}

/// Drift that its agent may not have seen yet.
fn is_tampered(fleet: &Fleet) -> bool {
    let changed = |i: &SimInstance| i.seen.stamp.is_some() && i.seen.shape.config.contains_key(TAMPERED);
    fleet.nodes.iter().any(|node| node.host.instances_now().values().any(changed))
}

fn nobody_answered(status: &Status) -> bool {
    let refusal = Refusal::from_status(status);
    is_worth_repeating(status) && refusal.is_none_or(|refusal| refusal.reason != Reason::NodeUnavailable)
}

/// What a refusal says about what there is now.
fn outcome(status: &Status) -> Outcome {
    let refusal = Refusal::from_status(status).unwrap_or_else(|| panic!("not a refusal of ours: {status:?}"));
    match refusal.reason {
        // Said before, or while it was waited for: the order may stand.
        Reason::Busy | Reason::ContainerFailed => Outcome::Unknown,
        Reason::NotFound | Reason::AlreadyExists | Reason::NoCapacity | Reason::NodeUnavailable | Reason::Refused => {
            Outcome::Refused(refusal.reason)
        }
        // A walk makes and takes no backups.
        Reason::InvalidArgument | Reason::Internal | Reason::NotReady | Reason::WrongRole | Reason::BackupDamaged => {
            panic!("refused: {refusal}")
        }
    }
}
