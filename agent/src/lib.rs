//! The node agent: makes this jump server be what the coordinator ordered, and says what it is. It owns the instances
//! and the proxy accounts that carry its fleet's stamp, and nothing else. It must never call anyone.
//!
//! ```text
//! coordinator ── Apply ──► service ─► ledger ◄─ worker (one task per container) ─► Host ─► Incus
//!             ── SyncAccess ► access ───────────────────────────────────────────► Host ─► accounts, sshd
//!             ── SyncPolicy ► standing ─► guard ─────────────────────────────────► Host ─► nftables, sshd
//!                              ledger ◄─ watch (what was changed behind our back) ◄────── Host
//!             ◄─ ReadAudit ── audit (what the logs of sshd tell) ◄────────────── Host
//!             ◄─ Observe ──── ledger ◄─ facts (capacity, images, network) ◄────── Host
//!             ── InstallHostCertificate ► identity (who each sshd is) ◄─────────► Host ─► sshd
//! ```

mod access;
mod activity;
pub mod args;
mod audit;
pub mod backup;
mod config;
pub mod drift;
mod error;
mod facts;
mod guard;
mod health;
pub mod host;
mod identity;
mod journal;
mod ledger;
mod membership;
pub mod plan;
mod preemption;
mod receiving;
mod restore;
mod run;
mod service;
mod snapshots;
mod standing;
mod usage;
mod watch;
mod worker;

pub use config::{Config, Timings};
pub use error::AgentError;
pub use run::run;
