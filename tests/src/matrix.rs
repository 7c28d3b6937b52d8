//! The crash matrix: every operation of the table in [`operations`] x every fault of [`FAULTS`] x every k until the
//! fault is not reached any more. One driver runs them all: arrange, plan the fault, let a person do the operation and
//! repeat it as the CLI does, restart what died, settle, check every invariant and the operation's own outcome.
//!
//! An operation is a few lines in `operations.rs`: what it starts from, the request, what must be true in the end, and
//! how many effects it has on each node. Add those and it meets every fault. Cells run in parallel, each on a fleet of
//! its own that it keeps for all k.

pub mod operations;

use std::{
    collections::BTreeMap,
    fmt,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use containarium_agent::host::sim;
use containarium_proto::{error::Reason, error::Refusal, v1};
use tonic::Status;

use crate::{
    fleet::{Background, Fleet, eventually},
    invariants::{REST, observer::CoordinatorFault, settle, violations},
};

/// No operation here has as many effects, transactions or calls: more is one that never comes to an end.
const MOST: u32 = 250;
/// Cells at the same time; each waits for its fleet most of the time.
const PARALLEL: usize = 6;

/// An operation, as a person asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// "create"
    pub name: &'static str,
    /// Effects on each node's host; 0: none, so that no agent can be killed around one.
    pub effects: &'static [u32],
    /// False: no node hears of it.
    pub calls: bool,
    /// Brings an empty fleet to where it starts.
    pub arrange: fn(&Fleet),
    /// Asks for it, under this request id.
    pub start: fn(&Fleet, &str) -> Background,
    /// Asserts that it was done, once.
    pub check: fn(&Fleet),
}

/// What goes wrong, at the k-th of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Fault {
    AgentDiesBefore,
    AgentDiesAfter,
    DiskFull,
    CoordinatorDiesBefore,
    CoordinatorDiesAfter,
    RequestLost,
    ReplyLost,
}

/// All of them.
pub const FAULTS: [Fault; 7] = [
    Fault::AgentDiesBefore,
    Fault::AgentDiesAfter,
    Fault::DiskFull,
    Fault::CoordinatorDiesBefore,
    Fault::CoordinatorDiesAfter,
    Fault::RequestLost,
    Fault::ReplyLost,
];

impl Fault {
    pub(crate) fn is_on_a_host(self) -> bool {
        match self {
            Self::AgentDiesBefore | Self::AgentDiesAfter | Self::DiskFull => true,
            Self::CoordinatorDiesBefore | Self::CoordinatorDiesAfter | Self::RequestLost | Self::ReplyLost => false,
        }
    }

    /// Plans it for the k-th of its kind from now on.
    pub fn plan(self, fleet: &Fleet, node: usize, k: u32) {
        let (host, points) = (&fleet.nodes[node].host, &fleet.points);
        match self {
            Self::AgentDiesBefore => host.plan_fault(sim::Fault::CrashBefore(k)),
            Self::AgentDiesAfter => host.plan_fault(sim::Fault::CrashAfter(k)),
            Self::DiskFull => host.plan_fault(sim::Fault::DiskFull(k)),
            Self::CoordinatorDiesBefore => points.plan_fault(CoordinatorFault::BeforeCommit(k)),
            Self::CoordinatorDiesAfter => points.plan_fault(CoordinatorFault::AfterCommit(k)),
            Self::RequestLost => points.plan_fault(CoordinatorFault::RequestLost(k)),
            Self::ReplyLost => points.plan_fault(CoordinatorFault::ReplyLost(k)),
        }
    }
}

/// One operation with one fault, on one node if the fault is on a host.
#[derive(Debug, Clone, Copy)]
struct Cell {
    operation: &'static Operation,
    fault: Fault,
    node: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}", self.operation.name, self.fault)?;
        if self.fault.is_on_a_host() { write!(f, " on {}", self.node + 1) } else { Ok(()) }
    }
}

impl Cell {
    fn all(operations: &'static [Operation]) -> Vec<Self> {
        let mut cells = Vec::new();
        for operation in operations {
            for fault in FAULTS {
                let nodes = if fault.is_on_a_host() { operation.effects.len() } else { 1 };
                cells.extend((0..nodes).map(|node| Self { operation, fault, node }));
            }
        }
        cells
    }

    /// Whether so many cases are what the operation's line in the table says.
    fn is_as_told(&self, cases: u32) -> bool {
        match self.fault {
            _ if self.fault.is_on_a_host() => cases == self.operation.effects[self.node],
            Fault::RequestLost | Fault::ReplyLost => cases > 0 || !self.operation.calls,
            _ => cases > 0,
        }
    }

    /// Every k until it is not reached; gives how many were.
    fn run(&self) -> u32 {
        let count = u8::try_from(self.operation.effects.len()).expect("a few nodes");
        let mut fleet = Fleet::watched_nodes(count);
        for k in 1..MOST {
            let told = Told(format!("{self}, k = {k}"));
            (self.operation.arrange)(&fleet);
            self.fault.plan(&fleet, self.node, k);
            let happened = self.perform(&mut fleet);
            (self.operation.check)(&fleet);
            fleet.clear();
            drop(told);
            if !happened {
                return k - 1;
            }
        }
        panic!("{self}: still reached after {MOST}");
    }

    /// The operation to its end, and the fleet to rest. True if the fault happened on the way.
    fn perform(&self, fleet: &mut Fleet) -> bool {
        let mut happened = false;
        let request = uuid::Uuid::new_v4().to_string();
        let started = Instant::now();
        loop {
            let running = (self.operation.start)(fleet, &request);
            eventually("the operation ends", || {
                happened |= fleet.revive();
                running.is_finished()
            });
            match fleet.join(running) {
                Ok(_) => break,
                Err(status) if is_done(&status) => break,
                // The other node seems to be away for a moment: nothing was changed.
                Err(status) => assert!(
                    (is_worth_repeating(&status) || has(&status, Reason::NoCapacity)) && started.elapsed() < 3 * REST,
                    "{status:?}"
                ),
            }
        }
        happened | fleet.come_to_rest()
    }
}

/// A repeated delete finds nothing any more.
fn is_done(status: &Status) -> bool {
    has(status, Reason::NotFound)
}

fn has(status: &Status, reason: Reason) -> bool {
    Refusal::from_status(status).is_some_and(|refusal| refusal.reason == reason)
}

/// As the CLI sees it: nobody answered, or somebody who may answer otherwise in a moment.
#[must_use]
pub fn is_worth_repeating(status: &Status) -> bool {
    Refusal::from_status(status)
        .is_none_or(|refusal| matches!(refusal.reason, Reason::NodeUnavailable | Reason::NotReady | Reason::Internal))
}

/// Says where it was when something panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the case: {}", self.0);
        }
    }
}

impl Fleet {
    /// Restarts whatever a planned fault has killed. True if one had happened.
    pub fn revive(&mut self) -> bool {
        let mut happened = false;
        for index in 0..self.nodes.len() {
            if self.nodes[index].host.is_down() {
                self.kill_agent(index);
                happened |= self.nodes[index].host.revive();
                self.start_agent(index);
            }
        }
        if self.points.is_dead() {
            self.kill_coordinator();
            happened |= self.points.revive();
            self.start_coordinator();
        }
        happened
    }

    /// Until everything agrees, whatever must be restarted on the way; no fault is planned any more then. True if one
    /// had happened.
    pub fn come_to_rest(&mut self) -> bool {
        let mut happened = false;
        loop {
            let started = Instant::now();
            eventually("the fleet comes to rest", || {
                happened |= self.revive();
                // Says what stays wrong.
                if started.elapsed() > REST {
                    settle(self);
                }
                violations(self).is_empty() || !self.observer.violations().is_empty()
            });
            let died = self.points.is_dead() || self.nodes.iter().any(|node| node.host.is_down());
            happened |= self.revive();
            if !died {
                break;
            }
        }
        happened |= self.disarm();
        settle(self);
        happened
    }

    /// Restarts what died; nothing goes wrong any more. True if something had.
    pub fn disarm(&mut self) -> bool {
        let mut happened = self.revive();
        for node in &self.nodes {
            happened |= node.host.revive();
        }
        // It may have died since.
        happened |= self.revive();
        happened | self.points.revive()
    }

    /// Deletes everything, and what is not ours too.
    ///
    /// # Panics
    /// A delete is refused.
    pub fn clear(&self) {
        for container in self.list() {
            if container.protected {
                self.protect(&container.user, false).expect("it is unprotected");
            }
            self.delete(&container.user).expect("it is deleted");
        }
        for node in &self.nodes {
            self.set_policy(&node.name, v1::Policy::Active);
            for name in node.host.instances_now().into_keys() {
                node.host.lose(&name);
            }
        }
        settle(self);
    }
}

/// Runs all cells of these operations and prints the number of cases of each; gives all in all.
///
/// # Panics
/// Something is wrong in one of them, or a cell has not as many cases as its line in the table says.
#[must_use]
pub fn run(operations: &'static [Operation]) -> u32 {
    let started = Instant::now();
    let queue = Mutex::new(Cell::all(operations));
    let cases = Mutex::new(Vec::<(Cell, u32)>::new());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(cell) = { queue.lock().unwrap_or_else(PoisonError::into_inner).pop() } {
                let began = Instant::now();
                let count = cell.run();
                if std::env::var_os("CRASH_MATRIX_TIMES").is_some() {
                    println!("{cell}: {count} in {:.1}", began.elapsed().as_secs_f32());
                }
                cases.lock().unwrap_or_else(PoisonError::into_inner).push((cell, count));
            }
        };
        let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("every case holds");
        }
    });
    let cases = cases.into_inner().unwrap_or_else(PoisonError::into_inner);
    let total = cases.iter().map(|(_, count)| count).sum();
    let told = format!("\n{}{total} cases in {:.1} s\n", table(operations, &cases), started.elapsed().as_secs_f32());
    // Not by print!, which a test that succeeds keeps to itself: how much ran is told by every run.
    std::io::stdout().write_all(told.as_bytes()).expect("an open standard output");
    let surprising: Vec<_> = cases.iter().filter(|(cell, count)| !cell.is_as_told(*count)).collect();
    let said: Vec<_> = surprising.iter().map(|(cell, count)| format!("{cell}: {count} cases")).collect();
    assert!(said.is_empty(), "not as the table says: {said:#?}");
    total
}

fn table(operations: &[Operation], cases: &[(Cell, u32)]) -> String {
    let line = |name: &str, of: &dyn Fn(&Fault) -> String| {
        let columns: String = FAULTS.iter().map(|fault| format!("{:>22}", of(fault))).collect();
        format!("{name:<16}{columns}\n")
    };
    let mut counts = BTreeMap::<(&str, Fault), u32>::new();
    for (cell, count) in cases {
        *counts.entry((cell.operation.name, cell.fault)).or_default() += count;
    }
    let rows = operations.iter().map(|o| line(o.name, &|fault| counts[&(o.name, *fault)].to_string()));
    std::iter::once(line("", &|fault| format!("{fault:?}"))).chain(rows).collect()
}
