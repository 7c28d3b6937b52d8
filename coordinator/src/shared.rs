//! A coordinator beside others on one database: it follows, leads when its election says so, and follows again when the
//! lease row says so. It ends only when it is told to, or when a part of it breaks. Whatever it believes, the row decides
//! at every write, and the agents decide by the term.
//!
//! ```text
//!            ┌────────── the row has another's term, or does not answer ──────────┐
//!            ▼                                                                    │
//! start ─► follow: calls go to the leader ──── our turn ────► lead: beat in the row, drivers, service
//!                                                               └─ stop ─► the lease is given back
//! ```

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::{FleetId, Term},
    v1::fleet_server::FleetServer,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    api::{FleetService, Places, Standing},
    config::ElectionKind,
    database::DatabaseUrl,
    error::CoordinatorError,
    leader::{Campaign, Elected, Election, follow},
    node::Drivers,
    reign::Reign,
    run::{Life, Ready},
    store::{Fence, Holding, LeaseClaim, Store, StoreError},
};

/// Beats in the time of a lease: four may be lost.
const BEATS: u32 = 5;
/// Between tries to reach a database that is away.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// A stop waits no longer than this for the database; the lease then runs out by itself.
const GIVE_BACK: Duration = Duration::from_secs(2);

pub(crate) struct Shared {
    life: Life,
    database: DatabaseUrl,
    store: Mutex<Store>,
    /// Where others reach us.
    address: String,
    election: Election,
    /// The reign that is to be given back at a stop.
    leading: Mutex<Option<Elected>>,
    /// A reign that ended as the database was away: the row may still say that it goes on.
    outlived: Mutex<Option<Fence>>,
}

impl Shared {
    pub(crate) fn new(
        life: Life,
        database: DatabaseUrl,
        store: Store,
        address: SocketAddr,
    ) -> Result<Self, CoordinatorError> {
        let ha = &life.config.ha;
        let address = match &ha.advertise {
            Some(advertise) => advertise.clone(),
            None if address.ip().is_unspecified() => return Err(CoordinatorError::Advertise),
            None => address.to_string(),
        };
        let election = match &ha.election {
            ElectionKind::Sql => Election::Sql,
            ElectionKind::Etcd(etcd) => Election::Etcd(Campaign::new(etcd, &address, ha.lease)),
        };
        Ok(Self {
            life,
            database,
            store: Mutex::new(store),
            address,
            election,
            leading: Mutex::default(),
            outlived: Mutex::default(),
        })
    }

    /// Until `end`, or until a part of it breaks.
    pub(crate) async fn run(
        &self,
        mut ready: Ready,
        end: impl Future<Output = Result<(), CoordinatorError>>,
    ) -> Result<(), CoordinatorError> {
        let outcome = tokio::select! {
            ended = end => ended,
            broken = self.go_on(&mut ready) => match broken {
                Ok(never) => match never {},
                Err(cause) => Err(cause),
            },
        };
        self.give_back().await;
        outcome
    }

    async fn go_on(&self, ready: &mut Ready) -> Result<Infallible, CoordinatorError> {
        let mut seen = Term(0);
        loop {
            let cause = match self.turn(ready, seen).await {
                Ok(never) => match never {},
                Err(cause) => cause,
            };
            match &cause {
                CoordinatorError::Behind { seen: later, .. } => {
                    tracing::warn!(error = &cause as &dyn Error, "was the database restored from a backup?");
                    seen = Term(*later);
                }
                CoordinatorError::Deposed { term } => tracing::warn!(term, "another coordinator leads now: following"),
                CoordinatorError::Outage(_) => self.reopen(&cause).await,
                CoordinatorError::Store(error) if error.is_outage() => self.reopen(&cause).await,
                _ => return Err(cause),
            }
        }
    }

    /// Follows, then leads.
    async fn turn(&self, ready: &mut Ready, seen: Term) -> Result<Infallible, CoordinatorError> {
        let store = self.store();
        let lease = self.life.config.ha.lease;
        let fleet = within(lease, async { store.reader().await?.fleet().await }).await?.id;
        let outlived = self.outlived.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(fence) = outlived {
            // Nobody has to wait for it to run out.
            within(lease, store.release_lease(&fence)).await?;
        }
        let claim = LeaseClaim { holder: Uuid::new_v4().to_string(), address: self.address.clone(), seen };
        let mut onlooking = Onlooking { life: &self.life, store: &store, fleet, leader: None, _looks: None };
        onlooking.tell(String::new());
        ready.tell();
        let elected = follow(&store, &self.election, &claim, lease, |holding| onlooking.heard(holding)).await;
        let elected = elected.map_err(CoordinatorError::Outage)?;
        drop(onlooking);
        let fence = elected.fence.clone();
        *self.leading.lock().unwrap_or_else(PoisonError::into_inner) = Some(elected);
        let cause = tokio::select! {
            cause = self.life.reign(&store, fence.clone(), ready) => cause,
            cause = beat(&store, &fence, lease) => cause,
        };
        tracing::info!(term = %fence.term(), cause = &cause as &dyn Error, "the reign is over");
        match cause {
            // The row is another's, or out of reach.
            CoordinatorError::Deposed { .. } | CoordinatorError::Outage(_) => {
                if matches!(cause, CoordinatorError::Outage(_)) {
                    self.outlive(fence);
                }
                if let Some(mandate) = self.take_leading().and_then(|elected| elected.mandate) {
                    mandate.give_back().await;
                }
            }
            _ => self.give_back().await,
        }
        Err(cause)
    }

    fn store(&self) -> Store {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_leading(&self) -> Option<Elected> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The row may go on saying that we lead: told to it as soon as it answers.
    fn outlive(&self, fence: Fence) {
        *self.outlived.lock().unwrap_or_else(PoisonError::into_inner) = Some(fence);
    }

    /// Ends our reign so that the next one begins at once.
    async fn give_back(&self) {
        let Some(Elected { fence, mandate }) = self.take_leading() else { return };
        match within(GIVE_BACK, self.store().release_lease(&fence)).await {
            Ok(()) => tracing::info!(term = %fence.term(), "gave the lease back"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the lease was not given back");
                self.outlive(fence);
            }
        }
        if let Some(mandate) = mandate {
            mandate.give_back().await;
        }
    }

    /// New connections: old ones may wait for ever for a machine that is gone.
    async fn reopen(&self, cause: &CoordinatorError) {
        tracing::error!(error = cause as &dyn Error, "the database is away");
        loop {
            tokio::time::sleep(OPEN_AGAIN).await;
            match Store::open(&self.database).await {
                Ok(store) => {
                    tracing::info!("the database answers again");
                    *self.store.lock().unwrap_or_else(PoisonError::into_inner) = store;
                    return;
                }
                Err(error) => tracing::debug!(error = &error as &dyn Error, "still away"),
            }
        }
    }
}

/// Keeps the lease until that fails. A reign is not longer without the row than others wait for it, so that two
/// coordinators seldom believe to lead, and never both can.
async fn beat(store: &Store, fence: &Fence, lease: Duration) -> CoordinatorError {
    let mut kept_at = Instant::now();
    loop {
        tokio::time::sleep(lease / BEATS).await;
        let asked_at = Instant::now();
        match within(lease.saturating_sub(kept_at.elapsed()), store.beat(fence)).await {
            Ok(()) => kept_at = asked_at,
            Err(StoreError::NotLeader { term }) => return CoordinatorError::Deposed { term: term.0 },
            Err(error) if kept_at.elapsed() >= lease => return CoordinatorError::Outage(error),
            Err(error) => tracing::warn!(error = &error as &dyn Error, "a beat was lost"),
        }
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Database {
        action: "waiting for the database",
        source: sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
    };
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

/// What the gate is told while we follow.
struct Onlooking<'a> {
    life: &'a Life,
    store: &'a Store,
    fleet: FleetId,
    leader: Option<String>,
    /// Ends the streams of those who looked without a leader.
    _looks: Option<DropGuard>,
}

impl Onlooking<'_> {
    fn heard(&mut self, holding: &Holding) {
        if self.leader.as_deref() != Some(holding.address()) {
            tracing::info!(leader = holding.address(), term = %holding.term(), "following");
            self.tell(holding.address().to_owned());
        }
    }

    fn tell(&mut self, leader: String) {
        let looks: CancellationToken = self.life.stop.child_token();
        let fence = Store::nobody();
        let reign = Reign::new(self.store.clone(), fence, self.fleet, self.life.config.clone(), looks.clone());
        let drivers = Arc::new(Drivers::new(reign.clone()));
        let service = FleetService { reign, drivers, watches: Places::new() };
        let onlooker = FleetServer::new(service);
        self.life.told.send_replace(Arc::new(Standing::Following { leader: leader.clone(), onlooker }));
        self.leader = Some(leader);
        self._looks = Some(looks.drop_guard());
    }
}
