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
    /// Only SQLite has an election so far.
    #[error("--database '{url}' is not a sqlite:// address: this version keeps its state in SQLite only")]
    Database {
        /// As given, without what follows the scheme: it may hold a password.
        url: String,
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
            other @ (StoreError::Database { .. } | StoreError::Migrate(_) | StoreError::Corrupt { .. }) => {
                Self::Store(other)
            }
        }
    }
}
