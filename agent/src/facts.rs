//! Looks at the node every few seconds: size and use, images, network, login names; brings new images in; and measures
//! now and then whether the containers are in use. What cannot be read becomes a warning in the report, and the last
//! known value stays.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    activity::Meter,
    config::Timings,
    error::AgentError,
    host::{Host, HostError},
    ledger::{Facts, Ledger},
    membership::Membership,
};

pub(crate) struct Keeper<H> {
    host: Arc<H>,
    ledger: Arc<Ledger>,
    membership: Arc<Membership>,
    every: Duration,
    activity_every: Duration,
    image_failure: watch::Sender<Option<String>>,
}

impl<H: Host> Keeper<H> {
    pub(crate) fn new(host: Arc<H>, ledger: Arc<Ledger>, membership: Arc<Membership>, timings: &Timings) -> Self {
        let (every, activity_every) = (timings.facts_every, timings.activity_every);
        Self { host, ledger, membership, every, activity_every, image_failure: watch::Sender::new(None) }
    }

    /// Runs until dropped.
    pub(crate) async fn run(&self) -> AgentError {
        tokio::join!(self.keep_facts(), self.keep_images(), self.keep_activity());
        AgentError::TaskEnded("facts")
    }

    async fn keep_facts(&self) {
        let mut image_failure = self.image_failure.subscribe();
        loop {
            let last = self.ledger.facts();
            let facts = self.look(last.clone()).await;
            for warning in facts.warnings.iter().filter(|warning| !last.warnings.contains(warning)) {
                tracing::warn!(%warning, "the node needs attention");
            }
            self.ledger.set_facts(facts);
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                // A round of images is over: they are reported at once.
                _ = image_failure.changed() => {}
            }
        }
    }

    /// Beside everything else: a large image takes minutes, in which the node must go on reporting.
    async fn keep_images(&self) {
        loop {
            let failure = self.host.refresh_images().await.err().map(|error| format!("images: {error}"));
            self.image_failure.send_replace(failure);
            tokio::time::sleep(self.every).await;
        }
    }

    /// Beside everything else: one question per container adds up on a full node.
    async fn keep_activity(&self) {
        let mut meter = Meter::default();
        loop {
            meter.measure(&*self.host, &self.ledger).await;
            tokio::time::sleep(self.activity_every).await;
        }
    }

    async fn look(&self, last: Facts) -> Facts {
        let host = &self.host;
        let mut warnings = BTreeSet::from_iter(self.image_failure.borrow().clone());
        let mut facts = last;
        let (capacity, network, images) = tokio::join!(host.capacity(), host.network(), host.images());
        let mut failed = |error: HostError| {
            warnings.insert(error.message);
        };
        match capacity {
            Ok(capacity) => facts.capacity = Some(capacity),
            Err(error) => failed(error),
        }
        match network {
            Ok(network) => facts.network = Some(network),
            Err(error) => failed(error),
        }
        match images {
            Ok(images) => facts.images = images,
            Err(error) => failed(error),
        }
        if let Some(fleet) = self.membership.fleet().await {
            match host.accounts(fleet).await {
                Ok(accounts) => facts.foreign_users = accounts.foreign.into_iter().collect(),
                Err(error) => failed(error),
            }
        }
        facts.warnings = warnings.into_iter().collect();
        facts
    }
}
