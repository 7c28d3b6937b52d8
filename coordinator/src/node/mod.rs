//! One driver per node: it listens, records, and gives orders. All of a node's work is one task that ends with its
//! owner; a driver that breaks ends the process rather than leave a node unattended.
//!
//! ```text
//!            ┌► observe ── long poll ─► record (durable) ─► live (memory) ─┐
//! node row ──┼► orders ◄── wake-up ──────────────────────────────────────┤
//!            └► accounts ◄─ wake-up ─────────────────────────────────────┘
//! ```

mod accounts;
mod client;
pub(crate) mod live;
mod observe;
mod orders;
mod pacer;
mod plan;
mod record;
mod replace;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use containarium_proto::names::NodeName;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use self::client::AgentClient;
use crate::{error::CoordinatorError, reign::Reign};

pub(crate) use client::check_address;

/// The drivers of all nodes. Dropping it stops them.
pub(crate) struct Drivers {
    reign: Arc<Reign>,
    tasks: Mutex<BTreeMap<NodeName, AbortOnDropHandle<()>>>,
}

impl Drivers {
    pub(crate) fn new(reign: Arc<Reign>) -> Self {
        Self { reign, tasks: Mutex::default() }
    }

    /// Starts a node's driver unless it runs.
    pub(crate) fn ensure(&self, name: &NodeName, address: &str) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.contains_key(name) {
            return;
        }
        let live = self.reign.live(name);
        let client = AgentClient::new(name.clone(), address.to_owned(), &self.reign);
        let guard = MustNotEnd { reign: self.reign.clone(), name: format!("driver of {name}") };
        let reign = self.reign.clone();
        let work = async move {
            let guard = guard;
            tokio::join!(
                observe::run(&reign, &live, &client),
                orders::run(&reign, &live, &client),
                accounts::run(&reign, &live, &client),
            );
            drop(guard);
        };
        let span = tracing::info_span!("driver", node = %name, term = %self.reign.fence.term());
        tasks.insert(name.clone(), AbortOnDropHandle::new(tokio::spawn(work.instrument(span))));
    }

    /// Stops all drivers.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
