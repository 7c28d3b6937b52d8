//! The invariant checker of the simulated fleet (docs/invariants.md). One function, [`settle`], after every scenario:
//! what happened must have been right at every moment ([`history`]: I1-I10), and what is there at rest must agree
//! ([`rest`]: I1, I6, I11). Both are pure; `tests/sim_invariants.rs` shows each of them a defect for each invariant.
//!
//! The history, and with it the rows of the database, is judged only of fleets that ask for it ([`Fleet::watched`]): in
//! the crash matrix, the walk over one coordinator, `sim`, `sim_move`, `sim_replica` and `sim_invariants`. Elsewhere
//! [`settle`] judges what is there at rest and nothing else; so also in the walk over three coordinators, whose calls and
//! commits are those of other processes. The history does not know yet every licence to make or remake an instance: not
//! restoring from a backup, rebuilding what was lost with a node or the database, nor a database that another
//! coordinator or a restore replaced. Those scenarios are therefore judged at rest only.

pub mod history;
pub mod observer;
pub mod rest;
pub mod rows;
pub mod wire;

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::fleet::{Fleet, eventually};
use rest::Seen;

/// A fleet that has not come to rest by then never does, on whatever machine.
pub const REST: Duration = Duration::from_secs(25);

/// As docs/invariants.md numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
}

/// What contradicts an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

/// Waits until nothing is under way and nothing is wrong.
///
/// # Panics
/// Something was wrong on the way, or stays wrong; says what.
pub fn settle(fleet: &Fleet) {
    let started = Instant::now();
    eventually("the fleet agrees with itself", || {
        nothing_went_wrong(fleet);
        let stays = violations(fleet);
        assert!(started.elapsed() < REST, "{}\n{}", listed(&stays), found(fleet));
        stays.is_empty()
    });
}

/// Whatever is under way.
///
/// # Panics
/// Something contradicted an invariant; says what.
pub fn nothing_went_wrong(fleet: &Fleet) {
    let happened = fleet.observer.violations();
    assert!(happened.is_empty(), "{}", listed(&happened));
}

/// Everything that contradicts the invariants now, and what ever did.
#[must_use]
pub fn violations(fleet: &Fleet) -> Vec<Violation> {
    let mut wrong = fleet.observer.violations();
    wrong.extend(rest::judge(&Seen::of(fleet)));
    wrong
}

/// For whoever must find out why.
fn found(fleet: &Fleet) -> String {
    let rows = if fleet.watched { fleet.observer.rows().placements } else { Default::default() };
    format!("listed: {:#?}\nrows: {rows:#?}", fleet.list())
}

fn listed(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("\n{violation}")).collect()
}
