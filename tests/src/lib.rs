//! Harnesses that the scenarios in `tests/tests` stand on: a simulated fleet in this process, and the real lab.
//! Scenarios live there, mechanisms here.

#![allow(clippy::expect_used)]

pub mod lab;
pub mod lab_check;
