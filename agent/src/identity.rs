//! Looks who the sshd of this node and of its running containers show themselves to be, and reports it; the coordinator
//! answers with certificates. It must never make, change or send a key.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{
    identity::{Host as Of, HostCertificate, HostIdentity},
    ids::{ContainerId, Generation},
    node::Order,
};
use futures::{StreamExt, stream};
use tonic::Status;

use crate::{
    config::Timings,
    error::AgentError,
    host::{Host, HostError},
    ledger::Ledger,
};

/// Containers looked at at the same time: each is two short questions.
const AT_ONCE: usize = 4;

pub(crate) struct Keeper<H> {
    host: Arc<H>,
    ledger: Arc<Ledger>,
    /// Between looks at the same one: its owner is root in it and may make new keys.
    every: Duration,
    /// After a look that failed.
    again: Duration,
    looked: BTreeMap<Of, (Generation, Instant)>,
}

impl<H: Host> Keeper<H> {
    pub(crate) fn new(host: Arc<H>, ledger: Arc<Ledger>, timings: &Timings) -> Self {
        let (every, again) = (timings.identity_every, timings.facts_every);
        Self { host, ledger, every, again, looked: BTreeMap::new() }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) -> AgentError {
        loop {
            self.round().await;
            tokio::select! {
                () = self.ledger.unidentified.notified() => {}
                () = tokio::time::sleep(self.again) => {}
            }
        }
    }

    async fn round(&mut self) {
        if self.is_due(Of::Node, Generation(0)) {
            let seen = self.host.identity(None).await;
            self.take((Of::Node, Generation(0)), "this node", seen);
        }
        let running = self.ledger.running();
        self.looked.retain(|of, _| match of {
            Of::Node => true,
            Of::Container(id) => running.iter().any(|order| order.id == *id),
        });
        let due: Vec<Order> =
            running.into_iter().filter(|order| self.is_due(Of::Container(order.id), order.generation)).collect();
        let looks = due.into_iter().map(|order| {
            let host = self.host.clone();
            async move { (host.identity(Some(&order)).await, order) }
        });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((seen, order)) = looks.next().await {
            self.take((Of::Container(order.id), order.generation), &order.name, seen);
        }
    }

    fn is_due(&self, of: Of, generation: Generation) -> bool {
        self.looked.get(&of).is_none_or(|(looked, at)| *looked != generation || at.elapsed() >= self.every)
    }

    fn take(&mut self, (of, generation): (Of, Generation), name: &str, seen: Result<HostIdentity, HostError>) {
        let seen = match seen {
            Ok(identity) => Ok(identity),
            Err(error) if error.permanent => Err(error.message),
            Err(error) => {
                tracing::debug!(name, %error, "who its sshd is cannot be seen yet");
                // The node is always spoken of: silence would be an agent that knows no certificates.
                if of == Of::Node && !self.ledger.knows_itself() {
                    self.ledger.set_identity(of, Err(error.message));
                }
                return;
            }
        };
        self.looked.insert(of, (generation, Instant::now()));
        self.ledger.set_identity(of, seen);
    }
}

/// Has an sshd show a certificate, and notes that it does.
pub(crate) async fn install<H: Host>(
    host: &H,
    ledger: &Ledger,
    of: Of,
    certificate: &HostCertificate,
) -> Result<(), Status> {
    let order = match of {
        Of::Node => None,
        Of::Container(id) => Some(order(ledger, id)?),
    };
    let unavailable = |error: HostError| Status::unavailable(error.message);
    let seen = host.identity(order.as_ref()).await.map_err(unavailable)?;
    if !certificate.is_of(&seen.key) {
        ledger.set_identity(of, Ok(seen));
        return Err(Status::failed_precondition("the certificate is of another host key than the one that is there"));
    }
    match host.install_certificate(order.as_ref(), certificate).await {
        Ok(shown) => {
            ledger.set_identity(of, Ok(shown));
            Ok(())
        }
        Err(error) => {
            // Told as what it is until the next look, so that it is not tried again at once.
            if error.permanent {
                ledger.set_identity(of, Err(error.message.clone()));
            }
            Err(unavailable(error))
        }
    }
}

fn order(ledger: &Ledger, id: ContainerId) -> Result<Order, Status> {
    let running = ledger.running().into_iter().find(|order| order.id == id);
    running.ok_or_else(|| Status::not_found(format!("container {id} does not run here")))
}
