//! Scenarios on the real lab: real Incus, real sshd, real ssh. Each starts from an empty fleet and ends with the
//! checker. They share one lab and run one after another (`--test-threads=1`).

#![allow(clippy::unwrap_used)]

mod access;
mod accounts;
mod adversary;
mod backups;
mod bad_input;
mod crash;
mod docs;
mod identity;
mod images;
mod leases;
mod life;
mod lifetimes;
mod limits;
mod many;
mod moves;
mod network;
mod nodes;
mod people;
mod replicas;
mod snapshots;
mod spot;
mod upgrade;
mod views;

mod sshd;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use containarium_tests::{lab::Lab, lab_check};

/// Whether the scenario before was cut off, so that a server of it may be down, or without its agent.
static IS_BROKEN: AtomicBool = AtomicBool::new(false);

/// Runs one scenario on an empty fleet, checks the invariants, empties the fleet and checks again.
#[track_caller]
fn scenario(body: impl FnOnce(&Lab) -> anyhow::Result<()>) {
    let (lab, at, started) = (Lab::get(), std::panic::Location::caller(), Instant::now());
    if IS_BROKEN.swap(true, Ordering::Relaxed) {
        lab.lab(&["up"]).unwrap().ok().unwrap();
    }
    lab.empty().unwrap();
    body(lab).unwrap();
    lab_check::settle(lab).unwrap();
    lab.empty().unwrap();
    lab_check::settle(lab).unwrap();
    IS_BROKEN.store(false, Ordering::Relaxed);
    println!("{}:{}: {:.1} s in all", at.file(), at.line(), started.elapsed().as_secs_f32());
}
