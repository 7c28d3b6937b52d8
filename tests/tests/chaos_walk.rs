//! A short walk in every run, a long one by `make chaos`; see `containarium_tests::walk`. `CHAOS_SEED=7 CHAOS_STEPS=240`
//! walks that one.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use containarium_tests::walk::{Walk, decisions::Decisions, walk};

/// Some 40 s on two cores.
const SHORT: u32 = 240;

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn people_find_what_they_were_told_whatever_goes_wrong() {
    let steps = told("CHAOS_STEPS").map_or(SHORT, |steps| u32::try_from(steps).unwrap());
    let started = Instant::now();
    let tally = walk(Walk { seed: told("CHAOS_SEED").unwrap_or(1), steps, nodes: 5, coordinators: 1 });
    println!("{tally:?} in {:.1} s", started.elapsed().as_secs_f32());
    assert!(tally.mishaps > 0 && tally.done > 0);
}

#[test]
fn the_same_seed_decides_the_same_and_another_does_not() {
    let decisions = |seed| Decisions::new(seed, 5).take(500).collect::<Vec<_>>();
    assert_eq!(decisions(7), decisions(7));
    assert_ne!(decisions(7), decisions(8));
}
