//! Looks now and then whether somebody changed our instances behind our back, and reports it. It must never repair, nor
//! wake what is at rest, since that would start it: that takes an order. Only what is gone altogether is looked at by its
//! worker, which then says so; it is never made anew.

use std::{sync::Arc, time::Duration};

use containarium_proto::{ids::FleetId, node::Order};

use crate::{
    drift,
    error::AgentError,
    host::{Host, HostError, Instance},
    ledger::Ledger,
    membership::Membership,
};

/// Of the time between two looks. A container that its user is rebooting is stopped for a moment: what seems to be
/// switched off is looked at once more after this (3 s).
const CONFIRM_DIVISOR: u32 = 20;

pub(crate) struct Watch<H> {
    host: Arc<H>,
    ledger: Arc<Ledger>,
    membership: Arc<Membership>,
    every: Duration,
}

impl<H: Host> Watch<H> {
    pub(crate) fn new(host: Arc<H>, ledger: Arc<Ledger>, membership: Arc<Membership>, every: Duration) -> Self {
        Self { host, ledger, membership, every }
    }

    /// Runs until dropped.
    pub(crate) async fn run(&self) -> AgentError {
        loop {
            tokio::time::sleep(self.every).await;
            if self.ledger.is_preempting() {
                // What is switched off now was so by us.
                return std::future::pending().await;
            }
            if let Some(fleet) = self.membership.fleet().await
                && let Err(error) = self.look(fleet).await
            {
                tracing::warn!(%error, "the instances cannot be compared with their orders");
            }
        }
    }

    async fn look(&self, fleet: FleetId) -> Result<(), HostError> {
        let mut again = Vec::new();
        let resting = self.ledger.resting();
        let instances = self.host.instances().await?;
        let gone = |order: &&Order| instances.iter().all(|instance| instance.name != order.name);
        for order in resting.iter().filter(gone) {
            if self.host.instance(&order.name).await?.is_none() {
                self.ledger.wake(order);
            }
        }
        for instance in instances {
            let Some(stamp) = instance.stamp.as_ref().filter(|stamp| stamp.fleet == fleet) else { continue };
            let rests = self.ledger.rest_of(&stamp.order);
            match drift::power(rests.as_ref().unwrap_or(&stamp.order), &instance) {
                Some(_) if self.ledger.rests_at(&stamp.order) => again.push(instance.name.clone()),
                Some(_) | None => self.compare(fleet, &instance),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.every / CONFIRM_DIVISOR).await;
        for name in again {
            if let Some(instance) = self.host.instance(&name).await? {
                self.compare(fleet, &instance);
            }
        }
        Ok(())
    }

    /// What is being worked on differs for a reason: only an order that is at rest is compared.
    fn compare(&self, fleet: FleetId, instance: &Instance) {
        let Some(stamp) = instance.stamp.as_ref().filter(|stamp| stamp.fleet == fleet) else { return };
        let Some(rests) = self.ledger.rest_of(&stamp.order) else { return };
        self.ledger.set_drift(&stamp.order, drift::drift(&rests, &self.host.place(), instance));
    }
}
