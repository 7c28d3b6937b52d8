//! The agent's port: wire in, valid values to the ledger and the access keeper, reports out. It decides nothing beyond
//! the order of acceptance that `agent.proto` states.

mod backups;

mod sessions;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use containarium_proto::{
    convert,
    ids::{AccessRevision, ContainerId, Generation},
    node::{Account, CopyKind, CopyPass, ImageOffer, Order},
    spec::Fingerprint,
    v1::{self, agent_server::Agent},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    access::Access,
    backup::Backups,
    guard::Guard,
    host::{Host, HostError, Power},
    identity,
    ledger::{Ledger, Refused},
    membership::Membership,
    receiving,
    snapshots::{self, What},
    standing::Standing,
    usage,
};

pub(crate) struct Service<H> {
    pub(crate) host: Arc<H>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) access: Access<H>,
    pub(crate) backups: Arc<Backups<H>>,
    pub(crate) guard: Arc<Guard<H>>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) observe_max: Duration,
    pub(crate) stop: CancellationToken,
}

pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(crate) fn unavailable(error: HostError) -> Status {
    Status::unavailable(error.message)
}

pub(crate) fn not_here(id: ContainerId) -> Status {
    Status::not_found(format!("container {id} is not here"))
}

impl<H> Service<H> {
    pub(crate) fn ordered(&self, id: ContainerId) -> Result<Order, Status> {
        self.ledger.order(id).ok_or_else(|| not_here(id))
    }
}

#[tonic::async_trait]
impl<H: Host> Agent for Service<H> {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        let (sender, order) = convert::order_from_wire(&request).map_err(invalid)?;
        let licence = convert::licence_from_wire(request.licence.as_ref()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        match self.ledger.accept(order, request.must_exist, licence) {
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
        let order = self.ordered(id)?;
        let usage = self.host.usage(&order.name).await.map_err(unavailable)?;
        let usage = usage.ok_or_else(|| not_here(id))?;
        Ok(Response::new(convert::usage_to_wire(&usage)))
    }

    async fn list_usages(
        &self,
        request: Request<v1::ListUsagesRequest>,
    ) -> Result<Response<v1::ListUsagesResponse>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        let wait = Duration::from_millis(request.max_wait_millis.into()).min(self.observe_max);
        let running = self.ledger.running().into_iter().map(|order| (order.id, order.name)).collect();
        let usages = usage::sample(&*self.host, running, wait).await;
        let usages = usages.iter().map(|(id, sample)| convert::usage_of_to_wire(*id, sample)).collect();
        Ok(Response::new(v1::ListUsagesResponse { usages }))
    }

    async fn offer_copy(&self, request: Request<v1::OfferCopyRequest>) -> Result<Response<v1::CopyOffer>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let id: ContainerId = request.container_id.parse().map_err(invalid)?;
        let pass = NonZeroU32::new(request.pass).map(CopyPass).ok_or_else(|| invalid("pass 0"))?;
        self.membership.admit(sender).await?;
        let order = self.ordered(id)?;
        if order.generation.0 != request.generation {
            let why = format!("{} is at generation {}, not {}", order.name, order.generation, request.generation);
            return Err(Status::failed_precondition(why));
        }
        let seen = self.host.instance(&order.name).await.map_err(unavailable)?;
        let Some(instance) = seen.filter(|i| i.stamp.as_ref().is_some_and(|stamp| stamp.order.id == id)) else {
            return Err(Status::failed_precondition(format!("{} is not on this node", order.name)));
        };
        if request.must_be_stopped && instance.power != Power::Stopped {
            return Err(Status::failed_precondition(format!("{} is not stopped", order.name)));
        }
        let kind = CopyKind::of_replica(request.replica);
        let offer = self.host.offer_copy(&order.name, (kind, pass), &request.host).await.map_err(unavailable)?;
        tracing::info!(container = %order.name, %pass, operation = offer.operation, "offered for a copy");
        Ok(Response::new(convert::offer_to_wire(offer)))
    }

    async fn receive_copy(
        &self,
        request: Request<v1::ReceiveCopyRequest>,
    ) -> Result<Response<v1::ReceiveCopyResponse>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let id: ContainerId = request.container_id.parse().map_err(invalid)?;
        let offer = convert::offer_from_wire(request.offer).map_err(invalid)?;
        self.membership.admit(sender).await?;
        if !self.ledger.lay_ready(id, Generation(request.generation), offer) {
            return Err(Status::failed_precondition(format!("container {id} awaits no copy here")));
        }
        Ok(Response::new(v1::ReceiveCopyResponse {}))
    }

    async fn withdraw_copy(
        &self,
        request: Request<v1::WithdrawCopyRequest>,
    ) -> Result<Response<v1::WithdrawCopyResponse>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let id: ContainerId = request.container_id.parse().map_err(invalid)?;
        self.membership.admit(sender).await?;
        let order = self.ordered(id)?;
        let kind = CopyKind::of_replica(request.replica);
        self.host.clear_copy(&order.name, kind).await.map_err(unavailable)?;
        Ok(Response::new(v1::WithdrawCopyResponse {}))
    }

    async fn offer_image(&self, request: Request<v1::OfferImageRequest>) -> Result<Response<v1::ImageOffer>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let fingerprint: Fingerprint = request.fingerprint.parse().map_err(invalid)?;
        self.membership.admit(sender).await?;
        let offer = self.host.offer_image(&fingerprint, &request.host).await.map_err(unavailable)?;
        let ImageOffer { server, secret, certificate } =
            offer.ok_or_else(|| Status::not_found(format!("image {fingerprint} is not here")))?;
        Ok(Response::new(v1::ImageOffer { server, secret, certificate }))
    }

    async fn fetch_image(
        &self,
        request: Request<v1::FetchImageRequest>,
    ) -> Result<Response<v1::FetchImageResponse>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let (Some(image), Some(offer)) = (request.image, request.offer) else {
            return Err(invalid("image or offer is missing"));
        };
        let image = convert::image_from_wire(&image).map_err(invalid)?;
        self.membership.admit(sender).await?;
        let v1::ImageOffer { server, secret, certificate } = offer;
        let offer = ImageOffer { server, secret, certificate };
        self.host.fetch_image(&image, &offer).await.map_err(unavailable)?;
        Ok(Response::new(v1::FetchImageResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::SnapshotsOfRequest>,
    ) -> Result<Response<v1::SnapshotsOf>, Status> {
        Ok(Response::new(snapshots::list(self, request.get_ref()).await?))
    }

    async fn make_snapshot(&self, request: Request<v1::SnapshotOrder>) -> Result<Response<v1::SnapshotDone>, Status> {
        Ok(Response::new(snapshots::carry_out(self, request.get_ref(), What::Make).await?))
    }

    async fn remove_snapshot(&self, request: Request<v1::SnapshotOrder>) -> Result<Response<v1::SnapshotDone>, Status> {
        Ok(Response::new(snapshots::carry_out(self, request.get_ref(), What::Remove).await?))
    }

    async fn receive_image(
        &self,
        request: Request<Streaming<v1::ReceiveImageRequest>>,
    ) -> Result<Response<v1::ReceiveImageResponse>, Status> {
        let mut requests = request.into_inner();
        let (sender, files) = receiving::header(&mut requests).await?;
        self.membership.admit(sender).await?;
        let outcome = self.host.import_image(&files, receiving::pieces(requests)).await;
        outcome.map_err(|error| if error.permanent { invalid(error) } else { unavailable(error) })?;
        Ok(Response::new(v1::ReceiveImageResponse {}))
    }

    async fn sync_access(&self, request: Request<v1::SyncAccessRequest>) -> Result<Response<v1::AccessReport>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let accounts: Vec<Account> =
            request.accounts.iter().map(convert::account_from_wire).collect::<Result<_, _>>().map_err(invalid)?;
        self.membership.admit(sender).await?;
        let failures =
            self.access.sync(sender.fleet, AccessRevision(request.revision), (&accounts, &request.keep)).await?;
        let failures = failures.into_iter().map(|(username, error)| v1::AccountFailure { username, error }).collect();
        Ok(Response::new(v1::AccessReport { revision: request.revision, failures }))
    }

    async fn get_order(&self, request: Request<v1::GetOrderRequest>) -> Result<Response<v1::ApplyRequest>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let id: ContainerId = request.container_id.parse().map_err(invalid)?;
        self.membership.admit(sender).await?;
        Ok(Response::new(convert::order_to_wire(sender, &self.ordered(id)?)))
    }

    async fn write_backup(
        &self,
        request: Request<v1::WriteBackupRequest>,
    ) -> Result<Response<v1::BackupProgress>, Status> {
        self.have_written(request.into_inner()).await
    }

    async fn check_backup(
        &self,
        request: Request<v1::CheckBackupRequest>,
    ) -> Result<Response<v1::BackupProgress>, Status> {
        self.have_checked(request.into_inner()).await
    }

    async fn remove_backup(
        &self,
        request: Request<v1::RemoveBackupRequest>,
    ) -> Result<Response<v1::RemoveBackupResponse>, Status> {
        self.have_removed(request.into_inner()).await
    }

    async fn list_stored(
        &self,
        request: Request<v1::ListStoredRequest>,
    ) -> Result<Response<v1::ListStoredResponse>, Status> {
        self.stored(request.into_inner()).await
    }

    async fn read_manifest(
        &self,
        request: Request<v1::ReadManifestRequest>,
    ) -> Result<Response<v1::ReadManifestResponse>, Status> {
        self.manifest(request.into_inner()).await
    }

    async fn sync_policy(
        &self,
        request: Request<v1::SyncPolicyRequest>,
    ) -> Result<Response<v1::SyncPolicyResponse>, Status> {
        let caller = request.remote_addr().map(|address| address.ip().to_canonical());
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let policy = convert::policy_from_wire(request.policy.as_ref()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        self.standing.tell(policy, caller).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the policy could not be recorded");
            Status::unavailable("this node cannot write its state file: see its log")
        })?;
        self.guard.enforce().await.map_err(unavailable)?;
        Ok(Response::new(v1::SyncPolicyResponse {}))
    }

    async fn install_host_certificate(
        &self,
        request: Request<v1::InstallHostCertificateRequest>,
    ) -> Result<Response<v1::InstallHostCertificateResponse>, Status> {
        let request = request.into_inner();
        let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
        let of = convert::host_from_wire(&request.container_id).map_err(invalid)?;
        let certificate = request.certificate.parse().map_err(invalid)?;
        self.membership.admit(sender).await?;
        identity::install(&*self.host, &self.ledger, of, &certificate).await?;
        Ok(Response::new(v1::InstallHostCertificateResponse {}))
    }

    async fn list_foreign(
        &self,
        request: Request<v1::ListForeignRequest>,
    ) -> Result<Response<v1::ListForeignResponse>, Status> {
        let sender = convert::sender_from_wire(request.get_ref().sender.as_ref()).map_err(invalid)?;
        self.membership.admit(sender).await?;
        let foreign = self.host.foreign().await.map_err(unavailable)?;
        Ok(Response::new(v1::ListForeignResponse { instances: foreign.iter().map(convert::foreign_to_wire).collect() }))
    }

    async fn read_audit(&self, request: Request<v1::ReadAuditRequest>) -> Result<Response<v1::AuditBatch>, Status> {
        Ok(Response::new(sessions::read_audit(self, request.into_inner()).await?))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListNodeSessionsRequest>,
    ) -> Result<Response<v1::ListNodeSessionsResponse>, Status> {
        Ok(Response::new(sessions::list(self, request.get_ref()).await?))
    }

    async fn end_sessions(
        &self,
        request: Request<v1::EndSessionsRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Status> {
        Ok(Response::new(sessions::end(self, request.into_inner()).await?))
    }

    async fn list_bans(&self, request: Request<v1::ListBansRequest>) -> Result<Response<v1::Bans>, Status> {
        Ok(Response::new(sessions::bans(self, request.get_ref()).await?))
    }

    async fn unban(&self, request: Request<v1::UnbanRequest>) -> Result<Response<v1::UnbanResponse>, Status> {
        Ok(Response::new(sessions::unban(self, request.get_ref()).await?))
    }
}
