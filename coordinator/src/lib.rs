//! The coordinator: what users want, which node holds it, and that it comes to be. It must never run a container, hold
//! an account or touch a disk; agents do, and it believes only what they read back.
//!
//! ```text
//! api ─► store ◄─ node drivers ─► agents
//!         ▲ fenced by term
//! placement · settings · availability · phase · image · lifetime::due (pure)
//! ```

mod adoption;
mod api;
pub mod args;
mod availability;
mod backup;
mod backups;
mod clock;
mod config;
mod database;
mod ending;
mod error;
mod faults;
mod identity;
mod image;
mod image_notes;
mod images;
mod leader;
mod lifetime;
mod moving;
mod node;
mod phase;
mod placement;
mod placing;
mod policy;
mod reign;
mod replicas;
mod roster;
mod run;
mod settings;
mod shared;
mod sharing;
mod snapshots;
mod store;
mod version;

pub use backup::{backup, restore};
pub use config::{Config, Defaults, ElectionKind, Etcd, Ha, Lifetimes, Limits, Overcommit, Timings};
pub use database::{DatabaseUrl, DatabaseUrlError};
pub use error::CoordinatorError;
pub use faults::{Call, FaultPoints, Moment, Spoiler};
pub use run::run;
pub use store::{BackupError, StoreError};
