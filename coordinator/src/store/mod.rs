//! The fleet's memory: who leads, which nodes there are, what each user has, what each node was told to hold, and what
//! happened. All SQL of the coordinator is in this folder, one text for SQLite and Postgres.
//!
//! ```text
//! lease ── one row, locked first by every write: fence and queue in one
//! fleet ── id, access revision       node ── address, policy, last facts
//! container ── one per user ──1:n── placement ── (desired, generation) per node     event ── what changed
//!     ├─n:n─ allowance ── whose container may reach whose
//!     ├─0:1─ move ── from where to where, and how far           ssh_authority ── signs host certificates
//!     └─0:n─ snapshot ── those we were told to make, and how far
//! backup ── of whom, how far; outlives container and node        done_request ── changes are made once
//! ```
//! Reading needs nothing ([`Reader`]); changing needs a [`WriteTx`], and that needs a [`Fence`] (I9). It must never
//! decide anything: which node, which phase, whether to delete is for the pure modules.

mod allowances;
mod audit;
mod authorities;
mod backup;
mod backups;
mod containers;
mod events;
mod lease;
mod lifetimes;
mod lock;
mod moves;
mod nodes;
mod open;
mod read;
mod replicas;
mod requests;
mod rows;
mod shares;
mod snapshots;
mod write;

use std::sync::Arc;

use containarium_proto::ids::{RequestId, Term};
use sqlx::{
    AnyPool,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::sync::{Mutex, watch};

use crate::faults::FaultPoints;

pub(crate) use audit::{AuditQuery, AuditRow};
pub(crate) use authorities::{AuthorityRow, AuthorityState};
pub use backup::BackupError;
pub(crate) use backup::{Backup, RestoreError};
pub(crate) use backups::{BackupPhase, BackupRow};
pub(crate) use events::{Event, EventKind};
pub(crate) use lease::{Fence, Holding, LeaseClaim};
pub(crate) use lifetimes::{Lifetime, Ttl};
pub(crate) use lock::StateLock;
pub(crate) use moves::{MovePhase, MoveRow};
pub(crate) use nodes::NodeFacts;
pub(crate) use read::{Claim, Holdings, Reader};
pub(crate) use replicas::Replication;
pub(crate) use rows::{ContainerRow, Held, Moving, NodeRow, PlacementRow, Policy, Role, Undo, next_generation};
pub(crate) use snapshots::{SnapshotRow, SnapshotState, Snapshotting, under_way};
pub(crate) use write::WriteTx;

/// Why the store did not do it. Internal: callers of the API are told less.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("{action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// Not even a connection.
    #[error("opening {url}")]
    Open {
        /// Without its password.
        url: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be made or updated.
    #[error("preparing the tables")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A later version has been here. Nothing was changed.
    #[error(
        "a newer containarium-coordinator has used this database (migration {migration}): start that version, or \
         restore a backup from before its upgrade"
    )]
    Newer {
        /// The first that we do not know.
        migration: i64,
    },
    /// The connection broke while a write was being committed, and nobody can be asked whether it was.
    #[error("the database was lost during a commit: whether it happened is not known")]
    Unknown(#[source] sqlx::Error),
    /// A newer term exists: nothing was changed.
    #[error("term {term} no longer leads")]
    NotLeader {
        /// Ours.
        term: Term,
    },
    /// A request made its change before, and something else was asked for since: nothing was changed.
    #[error("request {request} was carried out before")]
    Repeated {
        /// Which.
        request: RequestId,
    },
    /// A value that we did not write.
    #[error("column {column} holds {problem}")]
    Corrupt {
        /// Which.
        column: &'static str,
        /// What is in it.
        problem: String,
    },
}

impl StoreError {
    /// Whether the database was not there, so that a later try may succeed.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Database { source, .. } | Self::Open { source, .. } | Self::Unknown(source) => is_outage(source),
            Self::Migrate(_)
            | Self::Newer { .. }
            | Self::NotLeader { .. }
            | Self::Repeated { .. }
            | Self::Corrupt { .. } => false,
        }
    }
}

/// No answer, or one that the server is going, coming, full or read-only, as a standby is.
fn is_outage(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    if let E::Database(said) = error {
        let code = said.code().unwrap_or_default();
        return ["08", "57P", "53", "25006", "25P03", "57014"].iter().any(|class| code.starts_with(class));
    }
    matches!(error, E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed)
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

/// An open database with its tables.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: AnyPool,
    /// Writers wait here in order: SQLite's own waiting is polling with sleeps of up to 100 ms.
    turn: Arc<Mutex<()>>,
    commits: watch::Sender<u64>,
    faults: FaultPoints,
}

impl Store {
    /// The same, watched by a test.
    pub(crate) fn with_faults(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }
    /// For reading outside any transaction.
    pub(crate) async fn reader(&self) -> Result<Reader<sqlx::pool::PoolConnection<sqlx::Any>>, StoreError> {
        let line = open::patiently(|| self.pool.acquire()).await;
        line.map(Reader::new).map_err(failed("getting a connection"))
    }

    /// Changes after every commit of this process.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Waits for running statements and closes the files.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Embedded by hand: `sqlx::migrate!` would build sqlx's offline query checker, which nothing here uses.
fn migrator() -> Migrator {
    let one = |version, name: &'static str, sql: &'static str| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(vec![
        one(1, "fleet", include_str!("../../migrations/0001_fleet.sql")),
        one(2, "protected", include_str!("../../migrations/0002_protected.sql")),
        one(3, "move", include_str!("../../migrations/0003_move.sql")),
        one(4, "node_settings_labels", include_str!("../../migrations/0004_node_settings_labels.sql")),
        one(5, "lifetime", include_str!("../../migrations/0005_lifetime.sql")),
        one(7, "drift", include_str!("../../migrations/0007_drift.sql")),
        one(8, "default_image", include_str!("../../migrations/0008_default_image.sql")),
        one(9, "snapshot", include_str!("../../migrations/0009_snapshot.sql")),
        one(10, "backup", include_str!("../../migrations/0010_backup.sql")),
        one(11, "policy", include_str!("../../migrations/0011_policy.sql")),
        one(12, "host_ca", include_str!("../../migrations/0012_host_ca.sql")),
        one(13, "share_audit", include_str!("../../migrations/0013_share_audit.sql")),
        one(14, "lease", include_str!("../../migrations/0014_lease.sql")),
        one(15, "replica", include_str!("../../migrations/0015_replica.sql")),
        one(16, "done_request", include_str!("../../migrations/0016_done_request.sql")),
    ])
}

#[cfg(test)]
mod people_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
