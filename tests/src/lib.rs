//! Harnesses that the scenarios in `tests/tests` stand on: a simulated fleet in this process, and the real lab.
//! Scenarios live there, mechanisms here.

// A harness that cannot go on must stop the test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod compat;
pub mod crowd;
mod drifting;
pub mod fleet;
pub mod invariants;
pub mod lab;
pub mod lab_check;
pub mod matrix;
pub mod metadata;
mod people;
pub mod postgres;
pub mod proxy;
mod views;
pub mod walk;
