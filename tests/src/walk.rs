//! The chaos walk: people do random things to a few containers on a fleet of several nodes while agents and
//! coordinators die, pause and are cut off, disks fill and messages are lost. Now and then everything is given time to
//! come to rest; then every invariant must hold, and what there is must be what people were told ([`model`]).
//!
//! What is done, and what goes wrong, depends on the seed alone ([`decisions`]): the same seed does the same again,
//! though it may meet another interleaving. A failure prints the seed and the last decisions.

mod asking;
pub mod decisions;
mod disk;
mod landing;
mod led;
pub mod model;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use containarium_agent::host::{
    Power,
    sim::{SimHost, SimInstance},
};
use containarium_proto::v1;

use self::{
    decisions::{Decisions, Deed, Mishap, Step},
    led::Led,
    model::Model,
};
use crate::{
    fleet::{Background, Fleet, eventually, ha::By},
    invariants::{nothing_went_wrong, settle},
};

/// Things done at the same time.
const AT_ONCE: usize = 4;
/// Steps between two rests.
const REST_EVERY: u32 = 12;
/// A fleet that nothing happens to any more comes to rest within this.
const PATIENCE: Duration = Duration::from_secs(50);
/// Steps until a node that was failed over from is back.
const GONE_FOR: u32 = 4;
/// A key that no order speaks of.
const TAMPERED: &str = "limits.processes";

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinators {
    /// One in this process, on SQLite: it can be made to fail at any commit and call, and all that happens is judged.
    One,
    /// Three processes on a real PostgreSQL; what there is at rest is judged.
    Three {
        /// The coordinator.
        binary: &'static str,
        /// How they elect.
        by: By,
    },
}

/// How it is walked.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Decides everything.
    pub seed: u64,
    /// How many things are done.
    pub steps: u32,
    /// Jump servers.
    pub nodes: u8,
    /// Who leads.
    pub coordinators: Coordinators,
}

/// Something that is being done.
#[derive(Debug)]
struct Flight {
    deed: Deed,
    request: String,
    running: Background,
    /// Whom it was asked of.
    asked: usize,
    /// Nobody knows what became of an earlier try.
    unsure: bool,
}

/// A walk under way.
#[derive(Debug)]
struct Walker {
    fleet: Led,
    model: Model,
    flights: Vec<Flight>,
    /// Whose outcome says nothing about what there must be; but they end.
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
            eprintln!("again: CHAOS_SEED={} CHAOS_STEPS={}: {:?}", self.walk.seed, self.walk.steps, self.walk);
        }
    }
}

/// What a walk came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Faults that really happened.
    pub mishaps: u32,
    /// Things that were done, by what they are.
    pub done: BTreeMap<String, u32>,
    /// Things that were refused, for a reason that holds.
    pub refused: BTreeMap<String, u32>,
    /// Things of which nobody could say.
    pub unsure: u32,
    /// Tries that nobody answered.
    pub unanswered: u32,
}

/// Walks.
///
/// # Panics
/// Something was lost, doubled, orphaned, or is not as people were told.
#[must_use]
pub fn walk(walk: Walk) -> Tally {
    println!("CHAOS_SEED={} CHAOS_STEPS={}", walk.seed, walk.steps);
    let mut walker = Walker {
        fleet: Led::of(walk),
        model: Model::default(),
        flights: Vec::new(),
        strays: Vec::new(),
        away: Vec::new(),
        told: Told { walk, lines: Vec::new() },
    };
    let mut tally = Tally::default();
    for (number, step) in (1..=walk.steps).zip(Decisions::of(walk)) {
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
        self.fleet.recover(number);
        nothing_went_wrong(&self.fleet);
        // People wait for what they have asked for before they ask for the next.
        while let Some(at) = self.flights.iter().position(|flight| flight.deed.meets(&step.deed)) {
            self.land(at, tally);
        }
        if self.flights.len() >= AT_ONCE {
            self.land(0, tally);
        }
        self.mishap(number, step.mishap, tally);
        self.begin(number, step);
    }

    fn mishap(&mut self, number: u32, mishap: Mishap, tally: &mut Tally) {
        match mishap {
            Mishap::None => {}
            Mishap::Fault { fault, node, k } => fault.plan(&self.fleet, node, k),
            Mishap::Away { node, steps } => {
                tally.mishaps += u32::from(self.fleet.revive());
                if !self.is_away(node) {
                    self.fleet.kill_agent(node);
                    self.away.push((node, number + steps));
                    tally.mishaps += 1;
                }
            }
            Mishap::CoordinatorDies | Mishap::Coordinator { .. } | Mishap::DatabaseHangsUp => {
                tally.mishaps += self.fleet.strike(mishap, number);
            }
        }
    }

    fn begin(&mut self, number: u32, step: Step) {
        let Step { deed, request, .. } = step;
        match &deed {
            Deed::Write { user, data } => self.write(user, data),
            Deed::Tamper { user } => {
                let name = format!("{user}-container");
                for node in &self.fleet.nodes {
                    if node.host.instances_now().get(&name).is_some_and(is_whole) {
                        node.host.tamper_with_ours(&name, |instance| {
                            instance.shape.config.insert(TAMPERED.to_owned(), "7".to_owned());
                        });
                    }
                }
            }
            Deed::CancelMove { .. } | Deed::Drain { .. } | Deed::Uncordon { .. } => {
                self.strays.push(deed.ask(&self.fleet, &request).expect("a request"));
            }
            Deed::Create { .. }
            | Deed::Resize { .. }
            | Deed::Power { .. }
            | Deed::Keys { .. }
            | Deed::Protect { .. }
            | Deed::Autostart { .. }
            | Deed::Delete { .. }
            | Deed::Move { .. }
            | Deed::Repair { .. }
            | Deed::Snapshot { .. }
            | Deed::DeleteSnapshot { .. }
            | Deed::RestoreSnapshot { .. }
            | Deed::Share { .. }
            | Deed::Unshare { .. }
            | Deed::Replicate { .. }
            | Deed::Failover { .. }
            | Deed::DiscardOldCopy { .. } => {
                if let Deed::Failover { user } = &deed {
                    self.lose_home(user, number);
                }
                let running = deed.ask(&self.fleet, &request).expect("a request");
                let asked = self.fleet.asked();
                self.flights.push(Flight { deed, request, running, asked, unsure: false });
            }
        }
    }

    /// Into what runs, if that is one; not while its disk is made, kept, brought back or destroyed: then nobody could say
    /// what came first.
    fn write(&mut self, user: &str, data: &str) {
        let name = format!("{user}-container");
        let is_running = |instance: &SimInstance| instance.seen.power == Power::Running;
        let hosts = self.fleet.nodes.iter().map(|node| &node.host);
        let running: Vec<_> = hosts.filter(|host| host.instances_now().get(&name).is_some_and(is_running)).collect();
        let busy = self.flights.iter().any(|flight| flight.deed.user() == Some(user) && flight.deed.is_about_disk());
        if let ([host], false) = (&running[..], busy)
            && host.write(&name, data)
        {
            self.model.wrote(user, data);
        }
    }

    /// The node that has it, if nobody else has.
    fn home_of(&self, user: &str) -> Option<usize> {
        let name = format!("{user}-container");
        let is_here = |host: &SimHost| host.instances_now().get(&name).is_some_and(is_whole);
        let mut homes = (0..self.fleet.nodes.len()).filter(|node| is_here(&self.fleet.nodes[*node].host));
        homes.next().filter(|_| homes.next().is_none())
    }

    /// Nobody fails over but from a node that is gone. One without a replica may stay.
    fn lose_home(&mut self, user: &str, number: u32) {
        let name = format!("{user}-container");
        let copies = self.fleet.nodes.iter().filter(|node| node.host.instances_now().contains_key(&name)).count();
        let Some(home) = self.home_of(user).filter(|home| copies > 1 && !self.is_away(*home)) else { return };
        self.fleet.kill_agent(home);
        self.away.push((home, number + GONE_FOR));
    }

    fn is_away(&self, node: usize) -> bool {
        self.away.iter().any(|(away, _)| *away == node)
    }

    fn return_all(&mut self) {
        for (node, _) in std::mem::take(&mut self.away) {
            self.fleet.start_agent(node);
        }
        self.fleet.recover(u32::MAX);
    }

    /// Everything is back, nothing goes wrong any more, and everything that was asked for comes to its end.
    fn rest(&mut self, tally: &mut Tally) {
        self.return_all();
        while !self.flights.is_empty() {
            self.land(0, tally);
        }
        tally.mishaps += u32::from(self.fleet.disarm());
        eventually("somebody leads, and nothing is asked for any more", || {
            self.strays.retain(|stray| !stray.is_finished());
            let active = |node: &crate::fleet::Node| self.fleet.try_policy(&node.name, v1::Policy::Active);
            let heard = self.fleet.nodes.iter().all(active);
            if !heard {
                self.fleet.ask_next();
            }
            heard && self.strays.is_empty()
        });
        self.undo_drift();
        settle(&self.fleet);
        let hosts: Vec<_> = self.fleet.nodes.iter().map(|node| (node.name.clone(), node.host.clone())).collect();
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

/// No copy that may be refreshed.
fn is_whole(instance: &SimInstance) -> bool {
    instance.seen.stamp.as_ref().is_some_and(|stamp| stamp.copied.is_none())
}

/// Drift that its agent may not have seen yet. What a failover has left stays as it is.
fn is_tampered(fleet: &Fleet) -> bool {
    let changed = |i: &SimInstance| i.seen.shape.config.contains_key(TAMPERED);
    let host = |name: &String| fleet.nodes.iter().find(|node| node.name == *name).map(|node| &node.host);
    fleet.list().iter().any(|container| {
        let home = host(&container.node).and_then(|host| host.instances_now().remove(&container.name));
        home.as_ref().is_some_and(changed)
    })
}
