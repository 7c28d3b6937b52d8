//! Scenarios on the real lab: real Incus, real sshd, real ssh. Each starts from an empty fleet and ends with the
//! checker. They share one lab and run one after another (`--test-threads=1`).

#![allow(clippy::unwrap_used)]

mod access;
mod bad_input;
mod crash;
mod docs;
mod life;
mod limits;
mod many;
mod moves;
mod spot;

use containarium_tests::{lab::Lab, lab_check};

/// Runs one scenario on an empty fleet, checks the invariants, empties the fleet and checks again.
fn scenario(body: impl FnOnce(&Lab) -> anyhow::Result<()>) {
    let lab = Lab::get();
    lab.empty().unwrap();
    body(lab).unwrap();
    lab_check::settle(lab).unwrap();
    lab.empty().unwrap();
    lab_check::settle(lab).unwrap();
}
