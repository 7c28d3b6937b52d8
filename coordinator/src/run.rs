//! A coordinator's life: lock, database, term, drivers, service; and its end in the reverse order.

use std::{error::Error, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use containarium_proto::VERSION;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Listeners},
    config::Config,
    error::CoordinatorError,
    images, leader, lifetime, moving,
    node::Drivers,
    reign::Reign,
    store::{Policy, StateLock, Store, StoreError},
};

/// Calls under way get this long after a stop; streams end at once, so only a stuck caller is cut off.
const GRACE: Duration = Duration::from_secs(5);
/// The event log grows by some events a minute: looking once in this time keeps it within a batch of its bound.
const HOUSEKEEPING: Duration = Duration::from_secs(600);

/// Runs a coordinator until `stop`, or until it must not go on. `ready` is told the address once it serves.
///
/// # Errors
/// It could not start, or another coordinator took over.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), CoordinatorError> {
    let lock = StateLock::take(&config.state_dir)?;
    let store = Store::open(&database_url(&config)?).await?.with_faults(config.faults.clone());
    let (listeners, address) = Listeners::bind(&config).await?;
    let fence = leader::lead(&store, &lock).await?;
    let fleet = store.reader().await?.fleet().await?.id;
    tracing::info!(%fleet, term = %fence.term(), %address, version = VERSION, "leading");

    let reign = Reign::new(store.clone(), fence, fleet, config, stop);
    let drivers = Arc::new(Drivers::new(reign.clone()));
    let outcome = govern(&reign, &drivers, listeners, address, ready).await;
    drivers.stop();
    if tokio::time::timeout(GRACE, store.close()).await.is_err() {
        tracing::warn!("the database did not close in time; nothing that was committed is lost");
    }
    tracing::info!(term = %reign.fence.term(), "stopped");
    outcome
}

async fn govern(
    reign: &Arc<Reign>,
    drivers: &Arc<Drivers>,
    listeners: Listeners,
    address: SocketAddr,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), CoordinatorError> {
    let mut tx = reign.write().await?;
    tx.note_reign(reign.fence.term().0).await?;
    tx.commit().await?;
    for node in reign.store.reader().await?.nodes().await? {
        if node.policy != Policy::Retired {
            drivers.ensure(&node.name, &node.address);
        }
    }
    let stop = reign.stopping.clone();
    let serving = api::serve(reign.clone(), drivers.clone(), listeners, stop.clone());
    if let Some(Err(_)) = ready.map(|ready| ready.send(address)) {
        tracing::debug!("nobody waits for the address any more");
    }
    let grace_over = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        cause = reign.ended() => Err(cause),
        never = keep_house(reign) => match never {},
        never = moving::run(reign, drivers) => match never {},
        never = images::run(reign, drivers) => match never {},
        never = lifetime::keep(reign) => match never {},
        () = grace_over => {
            tracing::warn!("calls under way were cut off");
            Ok(())
        }
    }
}

async fn keep_house(reign: &Reign) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        if let Err(error) = prune(reign).await {
            tracing::error!(error = &error as &dyn Error, "old events could not be removed, will be repeated");
        }
    }
}

async fn prune(reign: &Reign) -> Result<(), StoreError> {
    loop {
        let mut tx = reign.write().await?;
        let gone = tx.prune_events().await?;
        tx.commit().await?;
        if gone == 0 {
            return Ok(());
        }
    }
}

fn database_url(config: &Config) -> Result<String, CoordinatorError> {
    match &config.database {
        None => Ok(sqlite_url(&config.state_dir.join("fleet.db"))),
        Some(url) if url.starts_with("sqlite:") => Ok(url.clone()),
        Some(url) => {
            let scheme = url.split_once("://").map_or("...", |(scheme, _)| scheme);
            Err(CoordinatorError::Database { url: format!("{scheme}://...") })
        }
    }
}

fn sqlite_url(path: &Path) -> String {
    // The path stands in a URL, where these would mean something else.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}?mode=rwc")
}
