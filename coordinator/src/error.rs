//! Why a coordinator did not start, or had to end. What callers of the API are told is `api::refuse`'s business.

use std::path::PathBuf;

use containarium_proto::pki::PkiError;

use crate::store::StoreError;

/// The process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A file or folder.
    #[error("{action} {}", path.display())]
    File {
        /// "making", "opening", ...
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The state folder is in use.
    #[error("another coordinator runs on {}: stop it first, or give this one its own --state-dir", path.display())]
    StateInUse {
        /// The folder.
        path: PathBuf,
    },
    /// A backup that cannot be restored here.
    #[error("{}", path.display())]
    Backup {
        /// Its file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: crate::store::BackupError,
    },
    /// Nothing to back up.
    #[error("{} holds no fleet: give --state-dir or --database", path.display())]
    NoFleet {
        /// The state folder.
        path: PathBuf,
    },
    /// The database.
    #[error("the fleet's database")]
    Store(#[source] StoreError),
    /// Certificates.
    #[error("the coordinator's certificates")]
    Pki(#[from] PkiError),
    /// Serving.
    #[error("{action}")]
    Serve {
        /// "serving on ..."
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another coordinator took over.
    #[error("another coordinator leads this fleet now: this one (term {term}) stops, and has changed nothing since")]
    Deposed {
        /// Of the reign that ended.
        term: u64,
    },
    /// Agents know a later term than our database: it was restored from a backup.
    #[error("a node has seen term {seen}, and ours is {term}: going on above it")]
    Behind {
        /// Of the reign that ended.
        term: u64,
        /// What a node has seen.
        seen: u64,
    },
    /// The database was away for longer than a reign may last without it.
    #[error("the database does not answer")]
    Outage(#[source] StoreError),
    /// Several coordinators must be able to reach each other.
    #[error("under which address do the other coordinators reach this one? give --advertise HOST:PORT")]
    Advertise,
    /// A task that must not end, did.
    #[error("a task that must not end has ended: {name}")]
    TaskEnded {
        /// Which.
        name: String,
    },
}

impl From<StoreError> for CoordinatorError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotLeader { term } => Self::Deposed { term: term.0 },
            other @ (StoreError::Database { .. }
            | StoreError::Open { .. }
            | StoreError::Unknown(_)
            | StoreError::Migrate(_)
            | StoreError::Newer { .. }
            | StoreError::Repeated { .. }
            | StoreError::Corrupt { .. }) => Self::Store(other),
        }
    }
}
