//! A short walk of each kind in every run, long ones by `make chaos`; see `containarium_tests::walk`. `CHAOS_SEED=7
//! CHAOS_STEPS=240` walks that one.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use containarium_tests::{
    fleet::ha::By,
    walk::{Coordinators, Walk, decisions::Decisions, walk},
};

const COORDINATOR: &str = env!("CARGO_BIN_EXE_sim-coordinator");
const NODES: u8 = 5;

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn seed() -> u64 {
    told("CHAOS_SEED").unwrap_or(1)
}

fn people_walk(short: u32, coordinators: Coordinators) {
    let steps = told("CHAOS_STEPS").map_or(short, |steps| u32::try_from(steps).unwrap());
    let started = Instant::now();
    let tally = walk(Walk { seed: seed(), steps, nodes: NODES, coordinators });
    println!("{tally:?} in {:.1} s", started.elapsed().as_secs_f32());
    assert!(tally.mishaps > 0 && !tally.done.is_empty());
}

#[test]
fn people_find_what_they_were_told_whatever_goes_wrong() {
    people_walk(180, Coordinators::One);
}

/// Odd seeds elect by etcd.
#[test]
fn people_find_what_they_were_told_whichever_of_three_coordinators_leads() {
    let by = if seed().is_multiple_of(2) { By::Sql } else { By::Etcd };
    people_walk(48, Coordinators::Three { binary: COORDINATOR, by });
}

#[test]
fn the_same_seed_decides_the_same_and_another_does_not() {
    for coordinators in [Coordinators::One, Coordinators::Three { binary: COORDINATOR, by: By::Sql }] {
        let walk = |seed| Walk { seed, steps: 0, nodes: NODES, coordinators };
        let decisions = |seed| Decisions::of(walk(seed)).take(500).collect::<Vec<_>>();
        assert_eq!(decisions(7), decisions(7));
        assert_ne!(decisions(7), decisions(8));
    }
}
