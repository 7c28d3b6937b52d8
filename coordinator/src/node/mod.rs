//! One driver per node: it listens, records, and gives orders. All of a node's work is one task that ends with its
//! owner; a driver that breaks ends the process rather than leave a node unattended.
//!
//! ```text
//!            ┌► observe ── long poll ─► record (durable) ─► live (memory) ─┐
//! node row ──┼► orders ◄── wake-up ──────────────────────────────────────┤
//!            ├► accounts ◄─ wake-up ─────────────────────────────────────┤
//!            ├► policy ◄─── wake-up ─────────────────────────────────────┤
//!            ├► identities ◄─ wake-up ───────────────────────────────────┘
//!            └► audit ──── long poll ─► audit rows, with how far they go
//! ```

mod accounts;
mod audit;
mod client;
mod identities;
mod line;
pub(crate) mod live;
mod observe;
mod orders;
mod pacer;
mod plan;
mod policy;
mod record;
mod replace;
mod restored;
mod snapshots;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use containarium_proto::names::NodeName;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{error::CoordinatorError, reign::Reign};

pub(crate) use client::{AgentClient, CallError, check_address};

/// The drivers of all nodes. Dropping it stops them.
pub(crate) struct Drivers {
    reign: Arc<Reign>,
    running: Mutex<BTreeMap<NodeName, Driver>>,
}

struct Driver {
    client: Arc<AgentClient>,
    _task: AbortOnDropHandle<()>,
}

impl Drivers {
    pub(crate) fn new(reign: Arc<Reign>) -> Self {
        Self { reign, running: Mutex::default() }
    }

    /// Starts a node's driver unless it runs.
    pub(crate) fn ensure(&self, name: &NodeName, address: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains_key(name) {
            return;
        }
        let live = self.reign.live(name);
        let client = Arc::new(AgentClient::new(name.clone(), address.to_owned(), &self.reign));
        let guard = MustNotEnd { reign: self.reign.clone(), name: format!("driver of {name}") };
        let (reign, calls) = (self.reign.clone(), client.clone());
        let work = async move {
            let guard = guard;
            tokio::join!(
                observe::run(&reign, &live, &calls),
                orders::run(&reign, &live, &calls),
                accounts::run(&reign, &live, &calls),
                policy::run(&reign, &live, &calls),
                identities::run(&reign, &live, &calls),
                audit::run(&reign, &live, &calls),
            );
            drop(guard);
        };
        let span = tracing::info_span!("driver", node = %name, term = %self.reign.fence.term());
        let task = AbortOnDropHandle::new(tokio::spawn(work.instrument(span)));
        running.insert(name.clone(), Driver { client, _task: task });
    }

    /// For the questions of the API; orders go through the driver.
    pub(crate) fn client(&self, name: &NodeName) -> Option<Arc<AgentClient>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(name).map(|driver| driver.client.clone())
    }

    /// Stops the driver of a node that is no longer ours.
    pub(crate) fn remove(&self, name: &NodeName) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Stops all drivers.
    pub(crate) fn stop(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Ends the reign if its task panics. Being aborted by the owner is no end of its own.
struct MustNotEnd {
    reign: Arc<Reign>,
    name: String,
}

impl Drop for MustNotEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.reign.end(CoordinatorError::TaskEnded { name: self.name.clone() });
        }
    }
}
