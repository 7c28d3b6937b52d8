//! A coordinator's life: lock, database, port, then reign after reign; and its end in the reverse order.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use containarium_proto::{VERSION, ids::Term, v1::fleet_server::FleetServer};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, FleetService, Listeners, Places, Standing, Told},
    backups, clock,
    config::Config,
    database::DatabaseUrl,
    error::CoordinatorError,
    images, leader, lifetime, moving,
    node::Drivers,
    policy,
    reign::Reign,
    replicas,
    shared::Shared,
    snapshots,
    store::{Fence, LeaseClaim, Policy, StateLock, Store, StoreError},
};

/// Calls under way get this long after a stop; streams end at once, so only a stuck caller is cut off.
const GRACE: Duration = Duration::from_secs(5);
/// The event log grows by some events a minute: looking once in this time keeps it within a batch of its bound.
const HOUSEKEEPING: Duration = Duration::from_secs(600);

/// Runs a coordinator until `stop`, or until it must not go on. `ready` is told the address once it leads, or, if it
/// shares its database, once it serves.
///
/// # Errors
/// It could not start, or another coordinator took over a database that is not meant to be shared.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), CoordinatorError> {
    let lock = StateLock::take(&config.state_dir)?;
    let file = || DatabaseUrl::sqlite(&config.state_dir.join("fleet.db"));
    let database = config.database.clone().unwrap_or_else(file);
    let store = Store::open(&database).await?.with_faults(config.faults.clone());
    let (listeners, address) = Listeners::bind(&config).await?;
    let told = Told::new(Arc::new(Standing::Starting));
    let serving = api::serve(&config, told.subscribe(), listeners, stop.clone());
    let ready = Ready(ready, address);
    let life = Life { config: config.clone(), told, stop: stop.clone() };
    let grace_over = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
        tracing::warn!("calls under way were cut off");
        Ok(())
    };
    let end = async {
        tokio::select! {
            served = serving => served,
            cut = grace_over => cut,
        }
    };
    let outcome = if database.is_postgres() {
        Shared::new(life, database, store, address)?.run(ready, end).await
    } else {
        tokio::select! {
            ended = end => ended,
            cause = alone(&life, store, &lock, ready) => Err(cause),
        }
    };
    tracing::info!("stopped");
    outcome
}

/// Who waits for the address, and the address.
pub(crate) struct Ready(Option<oneshot::Sender<SocketAddr>>, SocketAddr);

impl Ready {
    pub(crate) fn tell(&mut self) {
        if let Some(Err(_)) = self.0.take().map(|ready| ready.send(self.1)) {
            tracing::debug!("nobody waits for the address any more");
        }
    }
}

/// What every reign of this process has in common.
pub(crate) struct Life {
    pub(crate) config: Config,
    pub(crate) told: Told,
    pub(crate) stop: CancellationToken,
}

/// One coordinator on a database of its own. Gives why it ended.
async fn alone(life: &Life, store: Store, lock: &StateLock, mut ready: Ready) -> CoordinatorError {
    let mut seen = Term(0);
    loop {
        let claim = LeaseClaim { holder: uuid::Uuid::new_v4().to_string(), address: String::new(), seen };
        let cause = match leader::lead(&store, lock, &claim).await {
            Ok(fence) => life.reign(&store, fence, &mut ready).await,
            Err(error) => error.into(),
        };
        let CoordinatorError::Behind { seen: later, .. } = cause else {
            if tokio::time::timeout(GRACE, store.close()).await.is_err() {
                tracing::warn!("the database did not close in time; nothing that was committed is lost");
            }
            return cause;
        };
        tracing::warn!(error = &cause as &dyn Error, "was the database restored from a backup?");
        seen = Term(later);
    }
}

impl Life {
    /// One reign, to its end. Its tasks, its streams and its place at the gate end with it, dropped or not.
    pub(crate) async fn reign(&self, store: &Store, fence: Fence, ready: &mut Ready) -> CoordinatorError {
        match self.try_reign(store, fence, ready).await {
            Ok(never) => match never {},
            Err(cause) => cause,
        }
    }

    async fn try_reign(
        &self,
        store: &Store,
        fence: Fence,
        ready: &mut Ready,
    ) -> Result<std::convert::Infallible, CoordinatorError> {
        let fleet = store.reader().await?.fleet().await?.id;
        tracing::info!(%fleet, term = %fence.term(), address = %ready.1, version = VERSION, "leading");
        let stopping = self.stop.child_token();
        let reign = Reign::new(store.clone(), fence, fleet, self.config.clone(), stopping.clone());
        let drivers = Arc::new(Drivers::new(reign.clone()));
        let _end = End { told: &self.told, stopping, drivers: drivers.clone() };
        let mut tx = reign.write().await?;
        tx.note_reign(reign.fence.term().0).await?;
        tx.ensure_authority().await?;
        tx.commit().await?;
        for node in reign.store.reader().await?.nodes().await? {
            if node.policy != Policy::Retired {
                drivers.ensure(&node.name, &node.address);
            }
        }
        let service = FleetService { reign: reign.clone(), drivers: drivers.clone(), watches: Places::new() };
        self.told.send_replace(Arc::new(Standing::Leading(FleetServer::new(service))));
        ready.tell();
        tokio::select! {
            cause = reign.ended() => Err(cause),
            never = keep_house(&reign) => match never {},
            never = moving::run(&reign, &drivers) => match never {},
            never = images::run(&reign, &drivers) => match never {},
            never = backups::run(&reign, &drivers) => match never {},
            never = lifetime::keep(&reign) => match never {},
            never = snapshots::run(&reign, &drivers) => match never {},
            never = replicas::run(&reign, &drivers) => match never {},
            never = policy::keep(&reign) => match never {},
        }
    }
}

/// Ends what is left of a reign.
struct End<'a> {
    told: &'a watch::Sender<Arc<Standing>>,
    stopping: CancellationToken,
    drivers: Arc<Drivers>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.told.send_replace(Arc::new(Standing::Starting));
        self.stopping.cancel();
        self.drivers.stop();
    }
}

async fn keep_house(reign: &Reign) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        if let Err(error) = prune(reign).await {
            tracing::error!(
                error = &error as &dyn Error,
                "old events, audit rows and requests could not be removed, will be repeated"
            );
        }
    }
}

async fn prune(reign: &Reign) -> Result<(), StoreError> {
    loop {
        let mut tx = reign.write().await?;
        let oldest = clock::now() - reign.config.audit_retention_millis();
        let gone = tx.prune_events().await? + tx.prune_audit(oldest).await? + tx.prune_requests().await?;
        tx.commit().await?;
        if gone == 0 {
            return Ok(());
        }
    }
}
