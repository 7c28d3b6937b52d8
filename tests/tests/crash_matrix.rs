//! Every operation under every fault at every point: see `containarium_tests::matrix`. `CRASH_MATRIX=move` runs one.

use containarium_tests::matrix::{self, Operation, operations::OPERATIONS};

#[test]
fn nothing_is_lost_or_doubled_whatever_dies_wherever() {
    let only = std::env::var("CRASH_MATRIX").unwrap_or_default();
    let chosen: Vec<Operation> = OPERATIONS.iter().filter(|o| only.is_empty() || o.name == only).copied().collect();
    // Once per process.
    assert!(matrix::run(chosen.leak()) > 0);
}
