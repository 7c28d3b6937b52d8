//! The contract between the coordinator, the agents and the CLI: the wire, the validated types behind it, errors,
//! TLS roles and logging. It must never know how a container is made, placed or stored.
//!
//! Generated types (`v1`) are for the edges only: `convert` turns them into the types of this crate, where a value
//! that exists is valid.

pub mod audit;
pub mod backup;
pub mod convert;
pub mod cpu;
pub mod error;
pub mod factor;
pub mod identity;
pub mod ids;
pub mod image;
pub mod keys;
pub mod labels;
pub mod level;
pub mod lifetime;
pub mod names;
pub mod node;
pub mod pki;
pub mod policy;
pub mod sizes;
pub mod snapshots;
pub mod spec;
pub mod telemetry;

/// Types and services generated from `proto/containarium/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("containarium.v1");
}

/// The version that every binary of this workspace reports.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest message between a coordinator and an agent: the accounts of a whole fleet. 750 users with 64 long keys each
/// are under 50 MB; tonic's own 4 MB are not enough.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
