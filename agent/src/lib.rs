//! The node agent: makes this jump server be what the coordinator ordered, and says what it is. It owns the instances
//! and the proxy accounts that carry its fleet's stamp, and nothing else. It must never call anyone.
//!
//! ```text
//! coordinator ── Apply ──► service ─► ledger ◄─ worker (one task per container) ─► Host ─► Incus
//!             ── SyncAccess ► access ───────────────────────────────────────────► Host ─► accounts, sshd
//!                              ledger ◄─ watch (what was changed behind our back) ◄────── Host
//!             ◄─ Observe ──── ledger ◄─ facts (capacity, images, network) ◄────── Host
//! ```

mod access;
mod activity;
pub mod args;
mod config;
pub mod drift;
mod error;
mod facts;
pub mod host;
mod ledger;
mod membership;
pub mod plan;
mod preemption;
mod run;
mod service;
mod usage;
mod watch;
mod worker;

pub use config::{Config, Timings};
pub use error::AgentError;
pub use run::run;
