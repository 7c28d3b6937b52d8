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
mod clock;
mod config;
mod ending;
mod error;
mod faults;
mod image;
mod images;
mod leader;
mod lifetime;
mod moving;
mod node;
mod phase;
mod placement;
mod placing;
mod reign;
mod run;
mod settings;
mod store;

pub use config::{Config, Defaults, Lifetimes, Overcommit, Timings};
pub use error::CoordinatorError;
pub use faults::{Call, FaultPoints, Moment, Spoiler};
pub use run::run;
pub use store::StoreError;
