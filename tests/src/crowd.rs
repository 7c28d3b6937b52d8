//! Many nodes in one process: what a coordinator sees of a node, and nothing behind it. Each has its own port, its own
//! certificate and its own containers, which all run. For measuring a coordinator; what an agent does is tested elsewhere.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Result;
use containarium_proto::{VERSION, convert, level::LEVEL, pki::CertsDir, v1};
use futures::future::BoxFuture;
use prost::Message;
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use containarium_agent::host::sim::{IMAGE_ALIAS, image_fingerprint};

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, v1::ContainerReport>,
    access_revision: u64,
    policy_digest: String,
}

/// One node.
#[derive(Debug)]
pub struct Member {
    /// As in its certificate.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    network: [u8; 2],
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

impl Member {
    /// Starts the `index`th node, from 0, on a port of its own. It lives as long as the runtime.
    ///
    /// # Errors
    /// Its certificate is not there, or it gets no port.
    pub async fn start(index: u16, certs: &Path) -> Result<Arc<Self>> {
        let name = Self::name_of(index);
        let tls = CertsDir::new(certs).agent_server(&name.parse()?)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let [high, low] = index.to_be_bytes();
        let member = Arc::new(Self {
            name,
            address: listener.local_addr()?,
            network: [64 + high, low],
            state: Mutex::default(),
            revision: watch::Sender::new(1),
        });
        let mut server = Server::builder().tls_config(tls)?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = server.add_service(Calls(member.clone())).serve_with_incoming(incoming);
        tokio::spawn(async move { serving.await.expect("it serves") });
        Ok(member)
    }

    /// Of the `index`th.
    #[must_use]
    pub fn name_of(index: u16) -> String {
        format!("node-{index:04}")
    }

    /// An address in its container network, from 2.
    #[must_use]
    pub fn address_in(&self, last: u8) -> Ipv4Addr {
        let [second, third] = self.network;
        Ipv4Addr::new(10, second, third, last)
    }

    /// A container of this id has been running there at its first order.
    pub fn hold(&self, id: &str, user: &str, address: Ipv4Addr) {
        let mut report = v1::ContainerReport {
            container_id: id.to_owned(),
            name: format!("{user}-container"),
            generation: 1,
            owner: user.to_owned(),
            address: address.to_string(),
            ..Default::default()
        };
        report.set_observed(v1::Observed::Running);
        self.state().containers.insert(id.to_owned(), report);
    }

    /// It has the accounts that another one has.
    pub fn has_accounts_of(&self, other: &Self) {
        let revision = other.state().access_revision;
        self.state().access_revision = revision;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn apply(&self, order: v1::ApplyRequest) -> v1::ApplyResponse {
        let mut report = v1::ContainerReport {
            container_id: order.container_id.clone(),
            name: order.name.clone(),
            generation: order.generation,
            owner: order.owner.clone(),
            address: order.address.clone(),
            ..Default::default()
        };
        report.set_observed(match order.desired() {
            v1::Desired::Absent => v1::Observed::Absent,
            v1::Desired::Stopped => v1::Observed::Stopped,
            v1::Desired::Running | v1::Desired::Unspecified => v1::Observed::Running,
        });
        self.state().containers.insert(order.container_id, report.clone());
        self.changed();
        v1::ApplyResponse { container: Some(report) }
    }

    async fn observe(&self, request: v1::ObserveRequest) -> v1::NodeReport {
        let mut revision = self.revision.subscribe();
        if request.incarnation == self.name {
            let news = revision.wait_for(|now| *now > request.after_revision);
            let wait = Duration::from_millis(request.max_wait_millis.into());
            tokio::select! { _ = news => {} () = tokio::time::sleep(wait) => {} }
        }
        let [second, third] = self.network;
        let state = self.state();
        v1::NodeReport {
            node: self.name.clone(),
            agent_version: VERSION.to_owned(),
            boot_id: "boot".to_owned(),
            incarnation: self.name.clone(),
            revision: *self.revision.borrow(),
            containers: state.containers.values().cloned().collect(),
            capacity: Some(v1::Capacity {
                cpus: 64,
                memory_bytes: 512 << 30,
                memory_used_bytes: 1 << 30,
                disk_bytes: 8_000_000_000_000,
                disk_used_bytes: 1_000_000_000,
            }),
            container_cidr: format!("10.{second}.{third}.0/24"),
            container_gateway: format!("10.{second}.{third}.1"),
            images: vec![v1::Image { alias: IMAGE_ALIAS.to_owned(), fingerprint: image_fingerprint().to_string() }],
            access_revision: state.access_revision,
            guard: Some(v1::GuardReport { policy_digest: state.policy_digest.clone(), ..Default::default() }),
            level: LEVEL,
            ..Default::default()
        }
    }

    fn sync_access(&self, request: &v1::SyncAccessRequest) -> v1::AccessReport {
        self.state().access_revision = request.revision;
        self.changed();
        v1::AccessReport { revision: request.revision, failures: Vec::new() }
    }

    fn sync_policy(&self, request: &v1::SyncPolicyRequest) -> Result<v1::SyncPolicyResponse, Status> {
        let policy = convert::policy_from_wire(request.policy.as_ref());
        let policy = policy.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.state().policy_digest = policy.digest();
        self.changed();
        Ok(v1::SyncPolicyResponse {})
    }
}

/// The calls that a coordinator at rest makes; all others are unknown here.
#[derive(Debug, Clone)]
struct Calls(Arc<Member>);

impl NamedService for Calls {
    const NAME: &'static str = "containarium.v1.Agent";
}

impl tower::Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let member = self.0.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.rsplit('/').next().unwrap_or_default() {
                "Observe" => answer(request, member, |m, asked| async move { Ok(m.observe(asked).await) }).await,
                "Apply" => answer(request, member, |m, order| async move { Ok(m.apply(order)) }).await,
                "SyncAccess" => answer(request, member, |m, asked| async move { Ok(m.sync_access(&asked)) }).await,
                "SyncPolicy" => answer(request, member, |m, asked| async move { m.sync_policy(&asked) }).await,
                "ReadAudit" => answer(request, member, |_, asked| read_audit(asked)).await,
                _ => Status::unimplemented("a node of a crowd").into_http(),
            })
        })
    }
}

/// Nobody ever logs in.
async fn read_audit(request: v1::ReadAuditRequest) -> Result<v1::AuditBatch, Status> {
    tokio::time::sleep(Duration::from_millis(request.max_wait_millis.into())).await;
    Ok(v1::AuditBatch { cursor: request.cursor, ..Default::default() })
}

async fn answer<M, R, F, A>(request: http::Request<Body>, member: Arc<Member>, call: F) -> http::Response<Body>
where
    M: Message + Default + Send + 'static,
    R: Message + Default + Send + 'static,
    F: Fn(Arc<Member>, M) -> A + Send + Sync + 'static,
    A: Future<Output = Result<R, Status>> + Send + 'static,
{
    let service = tower::service_fn(move |request: Request<M>| {
        let answer = call(member.clone(), request.into_inner());
        async move { answer.await.map(Response::new) }
    });
    let codec = ProstCodec::<R, M>::default();
    Grpc::new(codec).max_decoding_message_size(containarium_proto::MAX_MESSAGE_BYTES).unary(service, request).await
}
