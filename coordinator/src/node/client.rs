//! Calls to one agent: messages to valid types and back, a deadline on each, and errors in words. It must never retry
//! or decide; the loops around it do.

mod backups;

use std::{
    collections::BTreeMap,
    error::Error,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use containarium_proto::{
    MAX_MESSAGE_BYTES,
    audit::{AuditBatch, Bans, NodeSession},
    convert::{self, ConvertError},
    identity::{Host, HostCertificate},
    ids::{AccessRevision, ContainerId, Generation, Term},
    image::ImageFiles,
    names::NodeName,
    node::{
        Account, ContainerReport, CopyKind, CopyOffer, CopyPass, Foreign, NodeReport, Order, SEEN_TERM, Sender, Usage,
        UsageSample,
    },
    pki::{CertsDir, PkiError},
    policy::NetworkPolicy,
    spec::{Fingerprint, Image},
    v1::{self, agent_client::AgentClient as Wire, receive_image_request::Part},
};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{line::Line, plan::Lacking};
use crate::{config::Timings, faults::FaultPoints, reign::Reign};

/// A gigabyte over a slow line, and its checksum. The node goes on by itself when we give up.
const IMAGE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The largest image over the slowest line that anybody would wait for; whoever says nothing is given up long before.
const IMPORT_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Certificates(String),
    #[error("'{0}' cannot be dialled as host:port")]
    Address(String),
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{}", in_words(.0))]
    Refused(Box<Status>),
    #[error("it answers what we do not understand: {0}")]
    Contract(#[from] ConvertError),
}

impl CallError {
    /// A later term that the node has seen.
    pub(crate) fn later_term(&self) -> Option<Term> {
        let Self::Refused(status) = self else { return None };
        status.metadata().get(SEEN_TERM)?.to_str().ok()?.parse().ok().map(Term)
    }
}

/// The last cause says most: "tcp connect error" is `transport error`'s, "connection refused" is its own.
fn in_words(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        return "its agent is older than this coordinator and cannot do it: upgrade it".to_owned();
    }
    let mut deepest: Option<&dyn Error> = status.source();
    while let Some(next) = deepest.and_then(Error::source) {
        deepest = Some(next);
    }
    match deepest {
        Some(cause) if !status.message().contains(&cause.to_string()) => format!("{}: {cause}", status.message()),
        Some(_) | None => status.message().to_owned(),
    }
}

fn chain(error: &PkiError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Whether an address can be dialled at all, before a node is added under it.
pub(crate) fn check_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    let good_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    good_port && !host.is_empty() && host.chars().all(plain) && endpoint(address).is_ok()
}

fn endpoint(address: &str) -> Result<Endpoint, CallError> {
    Endpoint::from_shared(format!("https://{address}")).map_err(|_| CallError::Address(address.to_owned()))
}

/// What a node did with a set of accounts: those that failed, with why.
pub(crate) type AccountFailures = BTreeMap<String, String>;

/// One agent, dialled when first needed.
pub(crate) struct AgentClient {
    node: NodeName,
    address: String,
    certs: CertsDir,
    sender: Sender,
    pub(super) timings: Timings,
    faults: FaultPoints,
    channel: Mutex<Option<Channel>>,
}

impl AgentClient {
    pub(crate) fn new(node: NodeName, address: String, reign: &Reign) -> Self {
        let certs = CertsDir::new(&reign.config.certs_dir);
        let (sender, timings, faults) = (reign.sender(), reign.config.timings, reign.config.faults.clone());
        Self { node, address, certs, sender, timings, faults, channel: Mutex::default() }
    }

    /// The next call dials anew, with certificates read anew: they may have been renewed meanwhile.
    pub(crate) fn hang_up(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn sender(&self) -> v1::Sender {
        convert::sender_to_wire(self.sender)
    }

    pub(super) fn wire(&self) -> Result<Wire<Line>, CallError> {
        let mut held = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match held.as_ref() {
            Some(channel) => channel.clone(),
            None => held.insert(self.dial()?).clone(),
        };
        let line = Line::new(channel, &self.node, &self.faults);
        let wire = Wire::new(line).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(wire.max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn dial(&self) -> Result<Channel, CallError> {
        let tls = self.certs.coordinator_to_agent(&self.node).map_err(|e| CallError::Certificates(chain(&e)))?;
        let endpoint = endpoint(&self.address)?
            .tls_config(tls)
            .map_err(|e| CallError::Certificates(e.to_string()))?
            .connect_timeout(self.timings.connect_timeout)
            // A machine that lost its power says nothing: the link's own heartbeat finds out between calls.
            .http2_keep_alive_interval(self.timings.observe_wait)
            .keep_alive_timeout(self.timings.rpc_deadline)
            .tcp_nodelay(true);
        Ok(endpoint.connect_lazy())
    }

    pub(crate) async fn apply(&self, lacking: &Lacking) -> Result<ContainerReport, CallError> {
        let Lacking { order, must_exist, licence } = lacking;
        let licence = licence.as_ref().map(convert::licence_to_wire);
        let request =
            v1::ApplyRequest { must_exist: *must_exist, licence, ..convert::order_to_wire(self.sender, order) };
        let mut wire = self.wire()?;
        let answer = within(self.timings.rpc_deadline, wire.apply(request)).await?;
        let report = answer.container.unwrap_or_default();
        Ok(convert::container_report_from_wire(&report)?)
    }

    /// Long poll: `after` is the incarnation and revision last seen.
    pub(crate) async fn observe(&self, after: &(String, u64), wait: Duration) -> Result<NodeReport, CallError> {
        let request = v1::ObserveRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            after_revision: after.1,
            incarnation: after.0.clone(),
            max_wait_millis: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let mut wire = self.wire()?;
        let report = within(wait + self.timings.rpc_deadline, wire.observe(request)).await?;
        Ok(convert::node_report_from_wire(&report)?)
    }

    /// What a container uses at this moment; `None`: the node does not have it.
    pub(crate) async fn usage(&self, container: ContainerId) -> Result<Option<Usage>, CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::GetUsageRequest { sender, container_id: container.to_string() };
        let mut wire = self.wire()?;
        match within(self.timings.rpc_deadline, wire.get_usage(request)).await {
            Ok(usage) => Ok(Some(convert::usage_from_wire(&usage))),
            Err(CallError::Refused(status)) if status.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has a container opened for one copy. `host`: under which the other node reaches this one.
    pub(crate) async fn offer_copy(
        &self,
        (container, generation): (ContainerId, Generation),
        (kind, pass, must_be_stopped): (CopyKind, CopyPass, bool),
        host: &str,
    ) -> Result<CopyOffer, CallError> {
        let request = v1::OfferCopyRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            container_id: container.to_string(),
            generation: generation.0,
            pass: pass.0.get(),
            must_be_stopped,
            host: host.to_owned(),
            replica: kind == CopyKind::Replica,
        };
        let mut wire = self.wire()?;
        // It makes a snapshot.
        let offer = within(self.timings.access_deadline, wire.offer_copy(request)).await?;
        Ok(convert::offer_from_wire(Some(offer))?)
    }

    pub(crate) async fn receive_copy(
        &self,
        (container, generation): (ContainerId, Generation),
        offer: CopyOffer,
    ) -> Result<(), CallError> {
        let request = v1::ReceiveCopyRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            container_id: container.to_string(),
            generation: generation.0,
            offer: Some(convert::offer_to_wire(offer)),
        };
        let mut wire = self.wire()?;
        within(self.timings.rpc_deadline, wire.receive_copy(request)).await.map(drop)
    }

    /// Removes what offers have left.
    pub(crate) async fn withdraw_copy(&self, container: ContainerId, kind: CopyKind) -> Result<(), CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let replica = kind == CopyKind::Replica;
        let request = v1::WithdrawCopyRequest { sender, container_id: container.to_string(), replica };
        let mut wire = self.wire()?;
        // An agent that has just started does not know yet what is there: not found is no answer.
        within(self.timings.access_deadline, wire.withdraw_copy(request)).await.map(drop)
    }

    /// Has an image opened to another node.
    pub(crate) async fn offer_image(&self, fingerprint: &Fingerprint, host: &str) -> Result<v1::ImageOffer, CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::OfferImageRequest { sender, fingerprint: fingerprint.to_string(), host: host.to_owned() };
        let mut wire = self.wire()?;
        within(self.timings.rpc_deadline, wire.offer_image(request)).await
    }

    /// Has an image fetched; answers when it is there.
    pub(crate) async fn fetch_image(&self, image: &Image, offer: v1::ImageOffer) -> Result<(), CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let image = Some(convert::image_to_wire(image));
        let mut wire = self.wire()?;
        let request = v1::FetchImageRequest { sender, image, offer: Some(offer) };
        within(IMAGE_DEADLINE, wire.fetch_image(request)).await.map(drop)
    }

    /// The order it holds for a container.
    pub(crate) async fn held_order(&self, container: ContainerId) -> Result<Order, CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::GetOrderRequest { sender, container_id: container.to_string() };
        let mut wire = self.wire()?;
        let answer = within(self.timings.rpc_deadline, wire.get_order(request)).await?;
        Ok(convert::order_from_wire(&answer)?.1)
    }

    /// Sends an image's bytes as they come; answers when it is there. Dropping it breaks it off.
    pub(crate) async fn receive_image(
        &self,
        files: &ImageFiles,
        bytes: mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), CallError> {
        let v1::Sender { fleet_id, term } = convert::sender_to_wire(self.sender);
        let header = v1::ImageForNode {
            fleet_id,
            term,
            image: Some(convert::image_to_wire(&files.image)),
            metadata_bytes: files.metadata_bytes,
            rootfs_bytes: files.rootfs_bytes,
        };
        let first = stream::once(std::future::ready(Part::Image(header)));
        let parts = first.chain(ReceiverStream::new(bytes).map(Part::Bytes));
        let mut wire = self.wire()?;
        let call = wire.receive_image(parts.map(|part| v1::ReceiveImageRequest { part: Some(part) }));
        within(IMPORT_DEADLINE, call).await.map(drop)
    }

    /// Has an sshd show a certificate; answers when it does.
    pub(crate) async fn install_certificate(&self, host: Host, certificate: &HostCertificate) -> Result<(), CallError> {
        let request = v1::InstallHostCertificateRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            container_id: convert::host_to_wire(host),
            certificate: certificate.to_string(),
        };
        let mut wire = self.wire()?;
        within(self.timings.access_deadline, wire.install_host_certificate(request)).await.map(drop)
    }

    /// What lives there and carries no stamp.
    pub(crate) async fn foreign(&self) -> Result<Vec<Foreign>, CallError> {
        let request = v1::ListForeignRequest { sender: Some(convert::sender_to_wire(self.sender)) };
        let mut wire = self.wire()?;
        // Incus looks into every instance for what it uses.
        let answer = within(self.timings.access_deadline, wire.list_foreign(request)).await?;
        Ok(answer.instances.iter().map(convert::foreign_from_wire).collect::<Result<_, _>>()?)
    }

    /// What its running containers use at this moment, as far as it is known when the deadline of a call comes near.
    pub(crate) async fn usages(&self) -> Result<BTreeMap<ContainerId, UsageSample>, CallError> {
        let deadline = self.timings.rpc_deadline;
        let wait = deadline * 2 / 3;
        let request = v1::ListUsagesRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            max_wait_millis: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let mut wire = self.wire()?;
        let answer = within(deadline, wire.list_usages(request)).await?;
        Ok(answer.usages.iter().map(convert::usage_of_from_wire).collect::<Result<_, _>>()?)
    }

    /// What its containers may reach; answers when that is in force.
    pub(crate) async fn sync_policy(&self, policy: &NetworkPolicy) -> Result<(), CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::SyncPolicyRequest { sender, policy: Some(convert::policy_to_wire(policy)) };
        let mut wire = self.wire()?;
        within(self.timings.access_deadline, wire.sync_policy(request)).await.map(drop)
    }

    /// Long poll: what its logs tell after a place.
    pub(crate) async fn read_audit(&self, cursor: &str, wait: Duration) -> Result<AuditBatch, CallError> {
        let request = v1::ReadAuditRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            cursor: cursor.to_owned(),
            max_wait_millis: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let mut wire = self.wire()?;
        // A part of a large log on a busy disk takes longer than an answer from memory.
        let batch = within(wait + self.timings.access_deadline, wire.read_audit(request)).await?;
        Ok(convert::audit_batch_from_wire(batch)?)
    }

    /// Who is connected.
    pub(crate) async fn sessions(&self) -> Result<Vec<NodeSession>, CallError> {
        let request = v1::ListNodeSessionsRequest { sender: Some(convert::sender_to_wire(self.sender)) };
        let mut wire = self.wire()?;
        let answer = within(self.timings.rpc_deadline, wire.list_sessions(request)).await?;
        Ok(answer.sessions.iter().map(convert::node_session_from_wire).collect::<Result<_, _>>()?)
    }

    /// Ends sessions; gives those that were there.
    pub(crate) async fn end_sessions(
        &self,
        which: v1::end_sessions_request::Which,
    ) -> Result<Vec<NodeSession>, CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::EndSessionsRequest { sender, which: Some(which) };
        let mut wire = self.wire()?;
        let answer = within(self.timings.rpc_deadline, wire.end_sessions(request)).await?;
        Ok(answer.ended.iter().map(convert::node_session_from_wire).collect::<Result<_, _>>()?)
    }

    /// Who is kept out.
    pub(crate) async fn bans(&self) -> Result<Bans, CallError> {
        let request = v1::ListBansRequest { sender: Some(convert::sender_to_wire(self.sender)) };
        let mut wire = self.wire()?;
        // It starts a program there.
        Ok(convert::bans_from_wire(&within(self.timings.access_deadline, wire.list_bans(request)).await?)?)
    }

    /// Lets an address in again; gives whether it was kept out.
    pub(crate) async fn unban(&self, address: IpAddr) -> Result<bool, CallError> {
        let sender = Some(convert::sender_to_wire(self.sender));
        let request = v1::UnbanRequest { sender, address: address.to_string() };
        let mut wire = self.wire()?;
        Ok(within(self.timings.access_deadline, wire.unban(request)).await?.was_banned)
    }

    pub(crate) async fn sync_access(
        &self,
        revision: AccessRevision,
        (accounts, keep): (&[Account], Vec<String>),
    ) -> Result<AccountFailures, CallError> {
        let request = v1::SyncAccessRequest {
            sender: Some(convert::sender_to_wire(self.sender)),
            revision: revision.0,
            accounts: accounts.iter().map(convert::account_to_wire).collect(),
            keep,
        };
        let mut wire = self.wire()?;
        let report = within(self.timings.access_deadline, wire.sync_access(request)).await?;
        Ok(report.failures.into_iter().map(|f| (f.username, f.error)).collect())
    }
}

pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::Refused(Box::new(status))),
        Err(_) => Err(CallError::Deadline(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::check_address;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["10.0.0.5:7443", "jump-1.example:7443", "[::1]:7443", "localhost:1"] {
            assert!(check_address(good), "{good}");
        }
        for bad in ["", "10.0.0.5", "10.0.0.5:", ":7443", "a b:1", "a/b:1", "u@h:1", "h:0", "h:70000", "h:1/x"] {
            assert!(!check_address(bad), "{bad}");
        }
    }
}
