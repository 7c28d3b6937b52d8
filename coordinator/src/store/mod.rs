//! The fleet's memory: who leads, which nodes there are, what each user has, what each node was told to hold, and what
//! happened. All SQL of the coordinator is in this folder, one text for SQLite and Postgres.
//!
//! ```text
//! lease ── one row, locked first by every write: fence and queue in one
//! fleet ── id, access revision       node ── address, policy, last facts
//! container ── one per user ──1:n── placement ── (desired, generation) per node     event ── what changed
//!     └─0:1─ move ── from where to where, and how far
//! ```
//! Reading needs nothing ([`Reader`]); changing needs a [`WriteTx`], and that needs a [`Fence`] (I9). It must never
//! decide anything: which node, which phase, whether to delete is for the pure modules.

mod containers;
mod events;
mod lease;
mod lifetimes;
mod lock;
mod moves;
mod nodes;
mod read;
mod rows;
mod write;

use std::{str::FromStr, sync::Arc, time::Duration};

use containarium_proto::ids::{FleetId, Term};
use sqlx::{
    AnyPool,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::sync::{Mutex, watch};

use crate::faults::FaultPoints;

pub(crate) use events::{Event, EventKind};
pub(crate) use lease::Fence;
pub(crate) use lifetimes::{Lifetime, Ttl};
pub(crate) use lock::StateLock;
pub(crate) use moves::{MovePhase, MoveRow};
pub(crate) use nodes::NodeFacts;
pub(crate) use read::{Claim, Reader};
pub(crate) use rows::{ContainerRow, Held, Moving, NodeRow, PlacementRow, Policy, Role, next_generation};
pub(crate) use write::WriteTx;

/// One writer and a few readers; SQLite runs each connection on a thread of its own.
const MAX_CONNECTIONS: u32 = 6;
/// A call that waits this long for a connection has found a disk that hangs.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The tables could not be made or updated.
    #[error("preparing the tables")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A newer term exists: nothing was changed.
    #[error("term {term} no longer leads")]
    NotLeader {
        /// Ours.
        term: Term,
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
    /// Opens `url`, a `sqlite:` address; makes the tables, and a fleet id for a new fleet.
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(url).map_err(failed("reading the database address"))?;
        let pool = AnyPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .connect_with(options)
            .await
            .map_err(failed("opening the database"))?;
        migrator().run(&pool).await.map_err(StoreError::Migrate)?;
        // Before any lease exists, so it cannot be fenced; harmless twice.
        sqlx::query("INSERT INTO fleet (one, fleet_id, access_revision) VALUES (1, $1, 0) ON CONFLICT DO NOTHING")
            .bind(FleetId::generate().to_string())
            .execute(&pool)
            .await
            .map_err(failed("founding the fleet"))?;
        Ok(Self { pool, turn: Arc::default(), commits: watch::Sender::new(0), faults: FaultPoints::default() })
    }

    /// The same, watched by a test.
    pub(crate) fn with_faults(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    /// For reading outside any transaction.
    pub(crate) async fn reader(&self) -> Result<Reader<sqlx::pool::PoolConnection<sqlx::Any>>, StoreError> {
        self.pool.acquire().await.map(Reader::new).map_err(failed("getting a connection"))
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

async fn set_up(connection: &mut sqlx::AnyConnection) -> Result<(), sqlx::Error> {
    // FULL: what was promised to a caller survives a power cut. WAL: readers never wait for the writer. Our own
    // writers queue before they get here: the busy timeout is for a foreign process, such as a backup.
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                   PRAGMA busy_timeout = 10000";
    sqlx::raw_sql(pragmas).execute(connection).await.map(drop)
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
    ])
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
