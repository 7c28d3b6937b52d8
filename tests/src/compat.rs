//! This release beside the one before: the contract and the migrations compared, and real processes of both in one
//! fleet. It must never know a version by heart: what a release can do is read from its contract and its programs.

pub mod contract;
mod fleet;
mod release;
mod scenario;

pub use release::Release;
pub use scenario::run;
