//! The agent's port: wire in, valid values to the ledger and the access keeper, reports out. It decides nothing beyond
//! the order of acceptance that `agent.proto` states.

use std::{sync::Arc, time::Duration};

use containarium_proto::{
    convert,
    ids::{AccessRevision, ContainerId},
    node::Account,
    v1::{self, agent_server::Agent},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    access::Access,
    host::Host,
    ledger::{Ledger, Refused},
    membership::Membership,
};

pub(crate) struct Service<H> {
    pub(crate) host: Arc<H>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) access: Access<H>,
    pub(crate) observe_max: Duration,
    pub(crate) stop: CancellationToken,
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

#[tonic::async_trait]
impl<H: Host> Agent for Service<H> {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let (sender, order) = convert::order_from_wire(&request.into_inner()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        match self.ledger.accept(order) {
            Ok(report) => {
                let container = Some(convert::container_report_to_wire(&report));
                Ok(Response::new(v1::ApplyResponse { container }))
            }
            Err(Refused::Older(why)) => Err(Status::aborted(why)),
            Err(Refused::Contradiction(why)) => {
                tracing::error!(why, "two orders under one generation");
                Err(Status::internal(why))
            }
        }
    }

    async fn observe(&self, request: Request<v1::ObserveRequest>) -> Result<Response<v1::NodeReport>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        let wait = Duration::from_millis(request.max_wait_millis.into()).min(self.observe_max);
        let mut revision = self.ledger.subscribe();
        if request.incarnation == self.ledger.incarnation() {
            let news = revision.wait_for(|now| *now > request.after_revision);
            tokio::select! {
                // Only a dropped ledger fails it, and we hold one.
                _ = tokio::time::timeout(wait, news) => {}
                () = self.stop.cancelled() => return Err(Status::unavailable("the agent is stopping")),
            }
        }
        let report = self.ledger.report().ok_or_else(|| {
            let why = self.ledger.facts().warnings.join("; ");
            Status::unavailable(format!("the node is not ready: {}", if why.is_empty() { "starting" } else { &why }))
        })?;
        Ok(Response::new(convert::node_report_to_wire(&report)))
    }

    async fn get_usage(&self, request: Request<v1::GetUsageRequest>) -> Result<Response<v1::Usage>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let id: ContainerId = request.container_id.parse().map_err(invalid)?;
        self.membership.admit(sender).await?;
        let gone = || Status::not_found(format!("container {id} is not here"));
        let order = self.ledger.order(id).ok_or_else(gone)?;
        let usage = self.host.usage(&order.name).await.map_err(|error| Status::unavailable(error.message))?;
        let usage = usage.ok_or_else(gone)?;
        Ok(Response::new(v1::Usage { memory_bytes: usage.memory.0, disk_bytes: usage.disk.map(|disk| disk.0) }))
    }

    async fn sync_access(&self, request: Request<v1::SyncAccessRequest>) -> Result<Response<v1::AccessReport>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let accounts: Vec<Account> =
            request.accounts.iter().map(convert::account_from_wire).collect::<Result<_, _>>().map_err(invalid)?;
        self.membership.admit(sender).await?;
        let failures = self.access.sync(sender.fleet, AccessRevision(request.revision), &accounts).await?;
        let failures = failures.into_iter().map(|(username, error)| v1::AccountFailure { username, error }).collect();
        Ok(Response::new(v1::AccessReport { revision: request.revision, failures }))
    }
}
