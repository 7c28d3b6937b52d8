//! Opening the database: connections that keep what they promise, tables of this version, a fleet. Two coordinators that
//! start at once do it one after the other.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::ids::FleetId;
use sqlx::{
    AnyPool,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::MigrateError,
};
use tokio::sync::watch;

use super::{Store, StoreError, failed, migrator};
use crate::{database::DatabaseUrl, faults::FaultPoints};

/// One writer, a heartbeat and a few readers; SQLite runs each connection on a thread of its own.
const MAX_CONNECTIONS: u32 = 8;
/// A call that waits this long for a connection has found a disk that hangs, or a server that is gone.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pool pauses between tries to connect for up to a fifth of what it is given: so a server that was restarted, which
/// takes a few seconds, is found again within the time of a lease.
const ACQUIRE_ONCE: Duration = Duration::from_secs(2);

// FULL: what was promised to a caller survives a power cut. WAL: readers never wait for the writer. Our own writers
// queue before they get here: the busy timeout is for a foreign process, such as a backup.
const SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                      PRAGMA busy_timeout = 10000";

// As above, whatever the server's own settings are. A leader that is stopped in the middle of a write holds the lease
// row: the server lets go of it after three seconds, so that another can take over. No statement of ours takes long.
const POSTGRES: &str = "SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'; \
                        SET idle_in_transaction_session_timeout = '3s'; SET statement_timeout = '10s'";

// Whoever comes second waits for the tables that the first one makes, on a slow server for longer than a statement may take.
const POSTGRES_MIGRATING: &str = "SET statement_timeout = '2min'; SET idle_in_transaction_session_timeout = '2min'";

impl Store {
    /// Opens the database; makes the tables, and a fleet id for a new fleet.
    pub(crate) async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let pool = connect(url).await?;
        if url.is_postgres() {
            let patient = connect_with(url, POSTGRES_MIGRATING).await?;
            migrate(&patient).await?;
            patient.close().await;
        } else {
            migrate(&pool).await?;
        }
        // Before any lease exists, so it cannot be fenced; harmless twice.
        sqlx::query("INSERT INTO fleet (one, fleet_id, access_revision) VALUES (1, $1, 0) ON CONFLICT DO NOTHING")
            .bind(FleetId::generate().to_string())
            .execute(&pool)
            .await
            .map_err(failed("founding the fleet"))?;
        Ok(Self::of(pool))
    }

    /// Opens what is there, and makes nothing: a coordinator of an older version may be using it.
    pub(crate) async fn attach(url: &DatabaseUrl) -> Result<Self, StoreError> {
        connect(url).await.map(Self::of)
    }

    fn of(pool: AnyPool) -> Self {
        Self { pool, turn: Arc::default(), commits: watch::Sender::new(0), faults: FaultPoints::default() }
    }
}

/// Asks the pool until that has taken too long in all. It says so itself before anything was sent.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let until = Instant::now() + ACQUIRE_TIMEOUT;
    loop {
        match ask().await {
            Err(sqlx::Error::PoolTimedOut) if Instant::now() < until => {}
            answer => return answer,
        }
    }
}

async fn migrate(pool: &AnyPool) -> Result<(), StoreError> {
    migrator().run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(migration) => StoreError::Newer { migration },
        error => StoreError::Migrate(error),
    })
}

async fn connect(url: &DatabaseUrl) -> Result<AnyPool, StoreError> {
    connect_with(url, if url.is_postgres() { POSTGRES } else { SQLITE }).await
}

async fn connect_with(url: &DatabaseUrl, settings: &'static str) -> Result<AnyPool, StoreError> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(url.as_str()).map_err(failed("reading the database address"))?;
    let once = if url.is_postgres() { ACQUIRE_ONCE } else { ACQUIRE_TIMEOUT };
    AnyPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(once)
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        })
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { url: url.to_string(), source })
}
