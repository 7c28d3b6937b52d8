//! A fake agent behind real gRPC and mTLS: it keeps its containers while it is away, and can be told to hold its work,
//! to fail, or to vanish.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use containarium_proto::{
    convert,
    ids::Term,
    level::LEVEL,
    node::{Account, Order, Sender},
    pki::{CertsDir, Role, require_role},
    policy::NetworkPolicy,
    spec::Desired,
    v1::{self, agent_server::Agent},
};
use tokio::{runtime::Runtime, sync::watch};
use tonic::{Request, Response, Status, transport::Server, transport::server::TcpIncoming};

pub(crate) const FINGERPRINT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Done as soon as it is given.
    Prompt,
    /// Step 1 of 2, for ever.
    Held,
    /// Orders are lost on the way.
    Deaf,
    /// Fails for good; deletions still work.
    Broken,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) mode: Mutex<Mode>,
    pub(crate) foreign: Mutex<Vec<String>>,
    pub(crate) orders: Mutex<BTreeMap<String, Order>>,
    pub(crate) accounts: Mutex<Vec<Account>>,
    /// Every order as it came, repeats included.
    pub(crate) heard: Mutex<Vec<(String, u64, Desired, Term)>>,
    /// CPU time that each container has used; none: asked for it, it says nothing for ever.
    pub(crate) cpu_nanos: Mutex<Option<u64>>,
    pub(crate) policies: Mutex<Vec<NetworkPolicy>>,
    pub(crate) guard: Mutex<v1::GuardReport>,
    /// Which parts of an order it says that it understands.
    pub(crate) level: AtomicU32,
    reports: Mutex<BTreeMap<String, v1::ContainerReport>>,
    access_revision: Mutex<u64>,
    revision: watch::Sender<u64>,
    incarnation: Mutex<u64>,
    capacity: v1::Capacity,
    cidr: u8,
}

/// The process of an agent: gone with `stop`, back with `start`; the node's containers stay.
pub(crate) struct FakeAgent {
    pub(crate) node: Arc<Node>,
    pub(crate) address: SocketAddr,
    certs: PathBuf,
    runtime: Option<Runtime>,
}

impl FakeAgent {
    pub(crate) fn start_new(name: &str, cidr: u8, certs: &Path) -> Self {
        let capacity = v1::Capacity {
            cpus: 8,
            memory_bytes: 32 << 30,
            disk_bytes: 500_000_000_000,
            memory_used_bytes: 1 << 30,
            disk_used_bytes: 1_000_000_000,
        };
        let node = Arc::new(Node {
            name: name.into(),
            mode: Mutex::new(Mode::Prompt),
            foreign: Mutex::default(),
            orders: Mutex::default(),
            accounts: Mutex::default(),
            heard: Mutex::default(),
            cpu_nanos: Mutex::new(Some(0)),
            policies: Mutex::default(),
            guard: Mutex::default(),
            level: AtomicU32::new(LEVEL),
            reports: Mutex::default(),
            access_revision: Mutex::default(),
            revision: watch::Sender::new(1),
            incarnation: Mutex::default(),
            capacity,
            cidr,
        });
        let mut agent = Self { node, address: ([127, 0, 0, 1], 0).into(), certs: certs.to_owned(), runtime: None };
        agent.start();
        agent
    }

    pub(crate) fn start(&mut self) {
        *self.node.incarnation.lock().unwrap() += 1;
        *self.node.access_revision.lock().unwrap() = 0;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let tls = CertsDir::new(&self.certs).agent_server(&self.node.name.parse().unwrap()).unwrap();
        let service = v1::agent_server::AgentServer::with_interceptor(Service(self.node.clone()), |request| {
            require_role(Role::Coordinator, request)
        });
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Server::builder()
                .tls_config(tls)
                .unwrap()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// As a killed process: connections close, memory of the accounts' revision is lost.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Node {
    pub(crate) fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        let orders: Vec<_> = self.orders.lock().unwrap().values().cloned().collect();
        orders.iter().for_each(|order| self.work(order));
    }

    /// Owners of the instances that exist.
    pub(crate) fn owners(&self) -> BTreeSet<String> {
        let orders = self.orders.lock().unwrap();
        orders.values().filter(|o| o.desired != Desired::Absent).map(|o| o.owner.to_string()).collect()
    }

    pub(crate) fn account_names(&self) -> BTreeSet<String> {
        self.accounts.lock().unwrap().iter().map(|a| a.username.to_string()).collect()
    }

    fn work(&self, order: &Order) {
        use v1::Observed;
        let mode = self.mode.lock().unwrap().clone();
        let mut report = v1::ContainerReport {
            container_id: order.id.to_string(),
            name: order.name.clone(),
            generation: order.generation.0,
            ..Default::default()
        };
        match (mode, order.desired) {
            (Mode::Held | Mode::Deaf, _) => {
                report.step = Some(v1::Step { index: 1, total: 2, title: "cloning the image".into() });
                report.set_observed(Observed::Converging);
            }
            (_, Desired::Absent) => report.set_observed(Observed::Absent),
            (Mode::Broken, _) => {
                (report.error, report.permanent) = ("the pool is broken".into(), true);
                report.set_observed(Observed::Failed);
            }
            (Mode::Prompt, Desired::Running) => report.set_observed(Observed::Running),
            (Mode::Prompt, Desired::Stopped) => report.set_observed(Observed::Stopped),
        }
        self.reports.lock().unwrap().insert(order.id.to_string(), report);
        self.revision.send_modify(|r| *r += 1);
    }

    fn accept(&self, sender: Sender, order: &Order) -> Result<v1::ContainerReport, Status> {
        if *self.mode.lock().unwrap() == Mode::Deaf {
            return Err(Status::unavailable("lost on the way"));
        }
        let id = order.id.to_string();
        let news = (id.clone(), order.generation.0, order.desired, sender.term);
        self.heard.lock().unwrap().push(news);
        let mut orders = self.orders.lock().unwrap();
        match orders.get(&id) {
            Some(known) if known.generation > order.generation => return Err(Status::aborted("older generation")),
            Some(known) if known.generation == order.generation && known != order => {
                return Err(Status::internal("same generation, other content"));
            }
            Some(known) if known.generation == order.generation => {}
            Some(_) | None => {
                orders.insert(id.clone(), order.clone());
                self.work(order);
            }
        }
        Ok(self.reports.lock().unwrap()[&id].clone())
    }

    fn report(&self) -> v1::NodeReport {
        let net = self.cidr;
        v1::NodeReport {
            node: self.name.clone(),
            agent_version: "fake".into(),
            boot_id: "boot".into(),
            incarnation: self.incarnation.lock().unwrap().to_string(),
            revision: *self.revision.borrow(),
            containers: self.reports.lock().unwrap().values().cloned().collect(),
            capacity: Some(self.capacity),
            container_cidr: format!("10.100.{net}.0/24"),
            container_gateway: format!("10.100.{net}.1"),
            images: vec![v1::Image { alias: "containarium".into(), fingerprint: FINGERPRINT.into() }],
            access_revision: *self.access_revision.lock().unwrap(),
            foreign_users: self.foreign.lock().unwrap().clone(),
            warnings: Vec::new(),
            guard: Some(self.guard.lock().unwrap().clone()),
            // An agent of before there were certificates.
            identities: None,
            preempting: false,
            backup_store: String::new(),
            level: self.level.load(Ordering::Relaxed),
        }
    }
}

struct Service(Arc<Node>);

#[tonic::async_trait]
impl Agent for Service {
    async fn get_order(&self, request: Request<v1::GetOrderRequest>) -> Result<Response<v1::ApplyRequest>, Status> {
        Err(Status::not_found(request.into_inner().container_id))
    }

    async fn sync_policy(
        &self,
        request: Request<v1::SyncPolicyRequest>,
    ) -> Result<Response<v1::SyncPolicyResponse>, Status> {
        let policy = convert::policy_from_wire(request.into_inner().policy.as_ref()).unwrap();
        self.0.guard.lock().unwrap().policy_digest = policy.digest();
        self.0.policies.lock().unwrap().push(policy);
        self.0.revision.send_modify(|revision| *revision += 1);
        Ok(Response::new(v1::SyncPolicyResponse {}))
    }

    async fn get_usage(&self, _: Request<v1::GetUsageRequest>) -> Result<Response<v1::Usage>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn offer_copy(&self, _: Request<v1::OfferCopyRequest>) -> Result<Response<v1::CopyOffer>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn receive_copy(
        &self,
        _: Request<v1::ReceiveCopyRequest>,
    ) -> Result<Response<v1::ReceiveCopyResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn offer_image(&self, _: Request<v1::OfferImageRequest>) -> Result<Response<v1::ImageOffer>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn fetch_image(&self, _: Request<v1::FetchImageRequest>) -> Result<Response<v1::FetchImageResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn receive_image(
        &self,
        _: Request<tonic::Streaming<v1::ReceiveImageRequest>>,
    ) -> Result<Response<v1::ReceiveImageResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn withdraw_copy(
        &self,
        _: Request<v1::WithdrawCopyRequest>,
    ) -> Result<Response<v1::WithdrawCopyResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn list_snapshots(&self, _: Request<v1::SnapshotsOfRequest>) -> Result<Response<v1::SnapshotsOf>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn make_snapshot(&self, _: Request<v1::SnapshotOrder>) -> Result<Response<v1::SnapshotDone>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn remove_snapshot(&self, _: Request<v1::SnapshotOrder>) -> Result<Response<v1::SnapshotDone>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn install_host_certificate(
        &self,
        _: Request<v1::InstallHostCertificateRequest>,
    ) -> Result<Response<v1::InstallHostCertificateResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn list_foreign(
        &self,
        _: Request<v1::ListForeignRequest>,
    ) -> Result<Response<v1::ListForeignResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn write_backup(&self, _: Request<v1::WriteBackupRequest>) -> Result<Response<v1::BackupProgress>, Status> {
        Err(Status::failed_precondition("no store"))
    }

    async fn check_backup(&self, _: Request<v1::CheckBackupRequest>) -> Result<Response<v1::BackupProgress>, Status> {
        Err(Status::failed_precondition("no store"))
    }

    async fn remove_backup(
        &self,
        _: Request<v1::RemoveBackupRequest>,
    ) -> Result<Response<v1::RemoveBackupResponse>, Status> {
        Err(Status::failed_precondition("no store"))
    }

    async fn list_stored(&self, _: Request<v1::ListStoredRequest>) -> Result<Response<v1::ListStoredResponse>, Status> {
        Err(Status::failed_precondition("no store"))
    }

    async fn read_manifest(
        &self,
        _: Request<v1::ReadManifestRequest>,
    ) -> Result<Response<v1::ReadManifestResponse>, Status> {
        Err(Status::failed_precondition("no store"))
    }

    async fn list_usages(&self, _: Request<v1::ListUsagesRequest>) -> Result<Response<v1::ListUsagesResponse>, Status> {
        let Some(nanos) = *self.0.cpu_nanos.lock().unwrap() else { return std::future::pending().await };
        let usage = v1::Usage { memory_bytes: 1 << 30, disk_bytes: None, cpu_nanos: Some(nanos) };
        let sample = v1::UsageSample { usage: Some(usage), at_nanos: 5 };
        let reports = self.0.reports.lock().unwrap();
        let running = reports.values().filter(|report| report.observed() == v1::Observed::Running);
        let of = |report: &v1::ContainerReport| v1::UsageOf {
            container_id: report.container_id.clone(),
            sample: Some(sample),
        };
        Ok(Response::new(v1::ListUsagesResponse { usages: running.map(of).collect() }))
    }

    async fn read_audit(&self, _: Request<v1::ReadAuditRequest>) -> Result<Response<v1::AuditBatch>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListNodeSessionsRequest>,
    ) -> Result<Response<v1::ListNodeSessionsResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn end_sessions(
        &self,
        _: Request<v1::EndSessionsRequest>,
    ) -> Result<Response<v1::EndSessionsResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn list_bans(&self, _: Request<v1::ListBansRequest>) -> Result<Response<v1::Bans>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn unban(&self, _: Request<v1::UnbanRequest>) -> Result<Response<v1::UnbanResponse>, Status> {
        Err(Status::unimplemented("no test here asks for it"))
    }

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let (sender, order) =
            convert::order_from_wire(request.get_ref()).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(v1::ApplyResponse { container: Some(self.0.accept(sender, &order)?) }))
    }

    async fn observe(&self, request: Request<v1::ObserveRequest>) -> Result<Response<v1::NodeReport>, Status> {
        let request = request.into_inner();
        let same = request.incarnation == self.0.incarnation.lock().unwrap().to_string();
        if same {
            let mut revision = self.0.revision.subscribe();
            let news = revision.wait_for(|r| *r > request.after_revision);
            // A timeout is an answer too: the heartbeat.
            drop(tokio::time::timeout(Duration::from_millis(request.max_wait_millis.into()), news).await);
        }
        Ok(Response::new(self.0.report()))
    }

    async fn sync_access(&self, request: Request<v1::SyncAccessRequest>) -> Result<Response<v1::AccessReport>, Status> {
        let request = request.into_inner();
        let accounts = request.accounts.iter().map(|a| convert::account_from_wire(a).unwrap()).collect();
        *self.0.accounts.lock().unwrap() = accounts;
        *self.0.access_revision.lock().unwrap() = request.revision;
        Ok(Response::new(v1::AccessReport { revision: request.revision, failures: Vec::new() }))
    }
}
