//! A whole fleet in this process: the real coordinator on a real SQLite file, real agents over real gRPC and mTLS, and
//! simulated hosts below them. Each process has its own runtime, so that ending it ends everything at once, as
//! kill -9 does. Blocking calls, so that scenarios read as sentences.

mod backups;
pub mod ha;
mod identities;
mod images;
mod lifetimes;
mod nodes;
mod policy;
mod replicas;
mod restoring;
mod snapshots;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use containarium_agent::{AgentError, host::sim::SimHost};
use containarium_coordinator::{Config, CoordinatorError, Defaults, FaultPoints, Limits, Overcommit, Timings};
use containarium_proto::{
    error::Refusal,
    pki::{CertsDir, GenerateOptions, generate},
    v1::{self, fleet_client::FleetClient},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::invariants::{
    history::FIRST_ROUND,
    observer::{Observer, Points},
};

pub use images::{announcement, fingerprint};

pub(crate) const KEY: &str = include_str!("../../proto/src/keys/testdata/ed25519.pub");
/// Longer than anything here takes on a loaded machine with two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of one fleet alone: what is killed comes back on the port it had, and no other fleet must have been given it meanwhile.
fn own_address() -> Ipv4Addr {
    static FLEETS: AtomicU32 = AtomicU32::new(0);
    let number = FLEETS.fetch_add(1, Ordering::Relaxed);
    let byte = |of: u32| u8::try_from(of % 250 + 1).expect("at most 250");
    let process = u8::try_from(64 + std::process::id() % 128).expect("at most 191");
    Ipv4Addr::new(127, process, byte(number / 250), byte(number))
}

/// One process: a runtime that dies with it.
#[derive(Debug)]
struct Process(Option<Runtime>);

impl Process {
    fn new() -> Self {
        Self(Some(Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("alive until dropped")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A simulated jump server with its agent.
#[derive(Debug)]
pub struct Node {
    /// jump-1, jump-2, ...
    pub name: String,
    /// What the agent drives; outlives it.
    pub host: SimHost,
    /// Its cloud's metadata server, from the next start of the agent on.
    pub metadata_server: Option<String>,
    address: SocketAddr,
    /// Where its agent answers /healthz.
    pub health: SocketAddr,
    agent: Option<Process>,
    /// Of its agent, asked to stop: how that ended.
    stopping: Option<(CancellationToken, JoinHandle<Result<(), AgentError>>)>,
}

/// Waits until the condition holds.
///
/// # Panics
/// It never does.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    // Most looks ask the coordinator: fleets that run side by side must not spend their time on being asked.
    let (mut pause, longest) = (Duration::from_millis(5), Duration::from_millis(80));
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(longest);
    }
}

/// Tests poll.
pub const UNLIMITED: Limits = Limits { per_second: 1_000_000, burst: 1_000_000, at_once: 10_000 };

/// Waits and deadlines that suit a loopback interface.
#[must_use]
pub fn timings() -> Timings {
    Timings {
        observe_wait: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(500),
        rpc_deadline: Duration::from_secs(2),
        access_deadline: Duration::from_secs(5),
        retry_min: Duration::from_millis(30),
        retry_max: Duration::from_millis(200),
        offline_after: Duration::from_millis(500),
        first_round: FIRST_ROUND,
        pending_after: Duration::from_secs(20),
        stream_limit: Duration::from_secs(120),
        image_patience: Duration::from_millis(100),
        lifetimes_every: Duration::from_millis(100),
        delete_settle: Duration::from_millis(300),
        snapshots_every: Duration::from_millis(50),
        ..Timings::default()
    }
}

pub(crate) fn default_hosts(count: u8) -> Vec<SimHost> {
    (1..=count).map(|i| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap())).collect()
}

/// A simulated fleet.
#[derive(Debug)]
pub struct Fleet {
    /// Its jump servers.
    pub nodes: Vec<Node>,
    /// Whether what happens is judged too, and not only what is there at rest.
    pub watched: bool,
    /// What happens to it, if it is watched.
    pub observer: Arc<Observer>,
    /// Where its coordinator can be made to fail.
    pub points: Arc<Points>,
    dir: tempfile::TempDir,
    address: SocketAddr,
    coordinator: Option<Process>,
    /// To this coordinator, shared by all calls: a TLS handshake costs more than anything else here.
    line: Mutex<Option<(SocketAddr, Channel)>>,
    /// Whether agents that start have a place for backups.
    pub has_store: bool,
    pub(crate) caller: Runtime,
    /// Of a coordinator that starts from now on.
    pub host_certificate_validity: Duration,
}

impl Fleet {
    /// A coordinator and these hosts, all online.
    ///
    /// # Panics
    /// They do not come up.
    #[must_use]
    pub fn of(hosts: Vec<SimHost>) -> Self {
        Self::led(Self::of_agents(hosts))
    }

    /// As [`Self::of`]; every commit, call and change of an instance is judged as it happens.
    #[must_use]
    pub fn watched(hosts: Vec<SimHost>) -> Self {
        Self::led(Self::with_agents(hosts, true))
    }

    fn led(mut fleet: Self) -> Self {
        fleet.start_coordinator();
        for node in &fleet.nodes {
            fleet.add_node(&node.name, node.address);
        }
        fleet
    }

    /// Makes a node known and waits for it.
    fn add_node(&self, name: &str, address: SocketAddr) {
        let request = v1::AddNodeRequest { name: name.to_owned(), address: address.to_string() };
        self.caller.block_on(self.client().add_node(request)).expect("the node is added");
        self.until_node(name, v1::Availability::Online);
    }

    /// These hosts with their agents, and nobody who leads them.
    fn of_agents(hosts: Vec<SimHost>) -> Self {
        Self::with_agents(hosts, false)
    }

    fn with_agents(hosts: Vec<SimHost>, watched: bool) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let own = own_address();
        let names: Vec<String> = (1..=hosts.len()).map(|i| format!("jump-{i}")).collect();
        generate(&GenerateOptions {
            output_dir: dir.path().join("certs"),
            server_ips: vec![Ipv4Addr::LOCALHOST.into(), own.into()],
            server_names: vec![],
            nodes: names.iter().map(|name| name.parse().unwrap()).collect(),
            days: 1,
        })
        .expect("certificates");
        std::fs::write(dir.path().join("boot_id"), "boot-1").unwrap();
        let nowhere = SocketAddr::from((own, 0));
        let node = |(name, host)| Node {
            name,
            host,
            metadata_server: None,
            address: nowhere,
            health: policy::free_port(own),
            agent: None,
            stopping: None,
        };
        let caller = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let nodes: Vec<Node> = names.into_iter().zip(hosts).map(node).collect();
        let observer = Observer::new(dir.path().join("coordinator/fleet.db"));
        if watched {
            for node in &nodes {
                observer.watch(&node.name, &node.host);
            }
        }
        let points = Points::new(observer.clone());
        let mut fleet = Self {
            nodes,
            watched,
            observer,
            points,
            dir,
            address: nowhere,
            coordinator: None,
            line: Mutex::default(),
            has_store: true,
            caller,
            host_certificate_validity: Duration::from_secs(3600),
        };
        for index in 0..fleet.nodes.len() {
            fleet.start_agent(index);
        }
        fleet
    }

    /// As [`Self::of`], with equal default hosts.
    #[must_use]
    pub fn of_nodes(count: u8) -> Self {
        Self::of(default_hosts(count))
    }

    /// As [`Self::watched`], with equal default hosts.
    #[must_use]
    pub fn watched_nodes(count: u8) -> Self {
        Self::watched(default_hosts(count))
    }

    /// The folder that all nodes share for backups.
    #[must_use]
    pub fn backups_dir(&self) -> PathBuf {
        self.path("backups")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the agent of a node, on the port it had before.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_agent(&mut self, index: usize) {
        let node = &self.nodes[index];
        let config = containarium_agent::Config {
            node: node.name.parse().unwrap(),
            listen: node.address,
            health: Some(self.nodes[index].health),
            certs_dir: self.path("certs"),
            state_dir: self.path(&node.name),
            boot_id_file: self.path("boot_id"),
            metadata_server: node.metadata_server.clone(),
            backup_store: self.has_store.then(|| format!("file://{}", self.backups_dir().display())),
            timings: containarium_agent::Timings {
                facts_every: Duration::from_millis(50),
                retry_min: Duration::from_millis(5),
                retry_max: Duration::from_millis(100),
                drift_every: Duration::from_millis(50),
                activity_every: Duration::from_millis(50),
                guard_every: Duration::from_millis(50),
                identity_every: Duration::from_millis(50),
                ..containarium_agent::Timings::default()
            },
        };
        let host = Arc::new(node.host.clone());
        let started = Instant::now();
        loop {
            let process = Process::new();
            let (ready, address) = oneshot::channel();
            let (config, host) = (config.clone(), host.clone());
            let stop = CancellationToken::new();
            let ended = process.runtime().spawn(containarium_agent::run(config, host, stop.clone(), Some(ready)));
            if let Ok(address) = address.blocking_recv() {
                self.nodes[index].address = address;
                self.nodes[index].agent = Some(process);
                self.nodes[index].stopping = Some((stop, ended));
                return;
            }
            // The killed one may hold the port for a moment.
            let error = process.runtime().block_on(ended);
            assert!(started.elapsed() < PATIENCE, "{error:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes a node forget which fleet it obeys, as setting it up anew does; its agent must be down.
    ///
    /// # Panics
    /// Its files cannot be removed.
    pub fn forget_fleet(&self, index: usize) {
        std::fs::remove_dir_all(self.path(&self.nodes[index].name)).expect("the agent's files are removed");
    }

    /// kill -9 of an agent.
    pub fn kill_agent(&mut self, index: usize) {
        self.nodes[index].agent = None;
    }

    fn coordinator_config(&self) -> Config {
        Config {
            closed_networks: Vec::new(),
            listen: self.address,
            socket: None,
            state_dir: self.path("coordinator"),
            database: None,
            certs_dir: self.path("certs"),
            jump_address: Some("jump.example".into()),
            defaults: Defaults::default(),
            overcommit: Overcommit::default(),
            timings: Timings { host_certificate_validity: self.host_certificate_validity, ..timings() },
            snapshot_hour: snapshots::HOUR,
            audit_retention: Duration::from_secs(90 * 86400),
            lifetimes: lifetimes::short(),
            faults: if self.watched { FaultPoints::with(self.points.clone()) } else { FaultPoints::default() },
            ha: Default::default(),
            limits: UNLIMITED,
        }
    }

    /// Starts the coordinator on the port it had before.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_coordinator(&mut self) {
        let config = self.coordinator_config();
        let started = Instant::now();
        loop {
            let process = Process::new();
            let (ready, address) = oneshot::channel();
            let run = containarium_coordinator::run(config.clone(), CancellationToken::new(), Some(ready));
            let ended = process.runtime().spawn(run);
            if let Ok(address) = address.blocking_recv() {
                self.address = address;
                self.coordinator = Some(process);
                return;
            }
            let error = process.runtime().block_on(ended).expect("the coordinator's task");
            // The killed one may hold its lock or port for a moment.
            let passing = matches!(error, Err(CoordinatorError::StateInUse { .. } | CoordinatorError::Serve { .. }));
            assert!(passing && started.elapsed() < PATIENCE, "{error:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Loses the coordinator's database, and starts it anew with none. Its nodes are made known again.
    ///
    /// # Panics
    /// It does not start.
    pub fn lose_database(&mut self) {
        self.kill_coordinator();
        std::fs::remove_dir_all(self.path("coordinator")).expect("the database is removed");
        self.start_coordinator();
        for node in &self.nodes {
            let request = v1::AddNodeRequest { name: node.name.clone(), address: node.address.to_string() };
            self.caller.block_on(self.client().add_node(request)).expect("the node is added");
        }
    }

    /// kill -9 of the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A client of this coordinator.
    ///
    /// # Panics
    /// The certificates were removed.
    #[must_use]
    pub fn client(&self) -> FleetClient<Channel> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, channel) = match line.take() {
            Some(held) if held.0 == self.address => line.insert(held),
            Some(_) | None => line.insert((self.address, self.channel_to(self.address))),
        };
        FleetClient::new(channel.clone())
    }

    fn client_of(&self, address: SocketAddr) -> FleetClient<Channel> {
        FleetClient::new(self.channel_to(address))
    }

    fn channel_to(&self, address: SocketAddr) -> Channel {
        let _inside = self.caller.enter();
        let tls = CertsDir::new(self.path("certs")).client_to_coordinator().expect("certificates");
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        endpoint.connect_lazy()
    }

    /// A create request with an id of its own.
    #[must_use]
    pub fn request(user: &str) -> v1::CreateContainerRequest {
        v1::CreateContainerRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            user: user.into(),
            ssh_keys: vec![KEY.trim_end().into()],
            autostart: true,
            ..Default::default()
        }
    }

    /// Sends a create and follows it to its end: the last message, or the status.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn create(&self, request: v1::CreateContainerRequest) -> Result<v1::Progress, Status> {
        let mut client = self.client();
        self.caller.block_on(async { follow(client.create_container(request).await?.into_inner()).await })
    }

    /// Sends many creates at once.
    #[must_use]
    pub fn create_all(&self, requests: Vec<v1::CreateContainerRequest>) -> Vec<Result<v1::Progress, Status>> {
        let create = |request| {
            let mut client = self.client();
            self.caller.spawn(async move { follow(client.create_container(request).await?.into_inner()).await })
        };
        let running: Vec<_> = requests.into_iter().map(create).collect();
        running.into_iter().map(|create| self.caller.block_on(create).expect("a create's task")).collect()
    }

    /// Sends a create from a thread of its own, so that something can be killed meanwhile.
    #[must_use]
    pub fn create_in_background(&self, request: v1::CreateContainerRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.create_container(request).await?.into_inner()).await }))
    }

    /// Waits for a background create.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn join(&self, background: Background) -> Result<v1::Progress, Status> {
        self.caller.block_on(background.0).expect("a create's task")
    }

    /// Deletes and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn delete(&self, user: &str) -> Result<v1::Progress, Status> {
        self.join(self.delete_in_background(user))
    }

    /// Protects from deletion, or no longer.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn protect(&self, user: &str, protected: bool) -> Result<v1::Container, Status> {
        let mut client = self.client();
        let request = v1::SetProtectionRequest { user: user.into(), protected };
        self.caller.block_on(async { Ok(client.set_protection(request).await?.into_inner()) })
    }

    /// Starts, stops or restarts, and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn power(&self, user: &str, action: v1::PowerAction) -> Result<v1::Progress, Status> {
        let mut client = self.client();
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = v1::SetPowerRequest { user: user.into(), action: action.into(), request_id };
        self.caller.block_on(async { follow(client.set_power(request).await?.into_inner()).await })
    }

    /// A resize with an id of its own, changing nothing yet.
    #[must_use]
    pub fn resize_request(user: &str) -> v1::ResizeContainerRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::ResizeContainerRequest { user: user.into(), request_id, ..Default::default() }
    }

    /// Changes limits, from a thread of its own.
    #[must_use]
    pub fn resize_in_background(&self, request: v1::ResizeContainerRequest) -> Background {
        let mut client = self.client();
        let call = async move { follow(client.resize_container(request).await?.into_inner()).await };
        Background(self.caller.spawn(call))
    }

    /// Changes limits and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn resize(&self, request: v1::ResizeContainerRequest) -> Result<v1::Progress, Status> {
        self.join(self.resize_in_background(request))
    }

    /// A change of keys with an id of its own, changing nothing yet.
    #[must_use]
    pub fn keys_request(user: &str) -> v1::ChangeKeysRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::ChangeKeysRequest { user: user.into(), request_id, ..Default::default() }
    }

    /// Changes keys, from a thread of its own.
    #[must_use]
    pub fn keys_in_background(&self, request: v1::ChangeKeysRequest) -> Background {
        let mut client = self.client();
        let call = async move { follow(client.change_keys(request).await?.into_inner()).await };
        Background(self.caller.spawn(call))
    }

    /// Changes keys and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn change_keys(&self, request: v1::ChangeKeysRequest) -> Result<v1::Progress, Status> {
        self.join(self.keys_in_background(request))
    }

    /// A move with an id of its own, to the best node.
    #[must_use]
    pub fn move_request(user: &str) -> v1::MoveContainerRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::MoveContainerRequest { user: user.into(), request_id, ..Default::default() }
    }

    /// Moves, from a thread of its own.
    #[must_use]
    pub fn move_in_background(&self, request: v1::MoveContainerRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.move_container(request).await?.into_inner()).await }))
    }

    /// Moves and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn move_to(&self, user: &str, to: &str) -> Result<v1::Progress, Status> {
        self.join(self.move_in_background(v1::MoveContainerRequest { to: to.into(), ..Self::move_request(user) }))
    }

    /// Drains, from a thread of its own.
    #[must_use]
    pub fn drain_in_background(&self, name: &str, parallel: u32) -> Background {
        let mut client = self.client();
        let request = v1::DrainNodeRequest { name: name.into(), parallel };
        Background(self.caller.spawn(async move { follow(client.drain_node(request).await?.into_inner()).await }))
    }

    /// The operator's word on a node.
    ///
    /// # Panics
    /// It is refused.
    pub fn set_policy(&self, name: &str, policy: v1::Policy) {
        let mut client = self.client();
        let request = v1::SetNodePolicyRequest { name: name.into(), policy: policy.into() };
        self.caller.block_on(client.set_node_policy(request)).expect("the policy is set");
    }

    /// Takes a node out of the fleet.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn retire(&self, name: &str, lost: &str) -> Result<v1::Node, Status> {
        let mut client = self.client();
        let request = v1::RetireNodeRequest { name: name.into(), lost: lost.into() };
        self.caller.block_on(async { Ok(client.retire_node(request).await?.into_inner()) })
    }

    /// Golden images, or what is refused about choosing another default.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn default_image(&self, image: &str) -> Result<Vec<v1::FleetImage>, Status> {
        let mut client = self.client();
        let request = v1::SetDefaultImageRequest { image: image.into() };
        self.caller.block_on(async { Ok(client.set_default_image(request).await?.into_inner().images) })
    }

    /// Golden images.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn images(&self) -> Vec<v1::FleetImage> {
        let mut client = self.client();
        self.caller.block_on(client.list_images(v1::ListImagesRequest {})).expect("a list").into_inner().images
    }

    /// The newest events of a subject, newest first.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn events(&self, subject: &str) -> Vec<v1::Event> {
        let mut client = self.client();
        let request = v1::ListEventsRequest { subject: subject.into(), limit: 100 };
        self.caller.block_on(client.list_events(request)).expect("events are listed").into_inner().events
    }

    /// One node as the coordinator sees it.
    ///
    /// # Panics
    /// The coordinator does not answer, or does not know it.
    #[must_use]
    pub fn node(&self, name: &str) -> v1::Node {
        let answer = self.caller.block_on(self.client().get_node(v1::GetNodeRequest { name: name.into() }));
        answer.expect("the node is known").into_inner()
    }

    /// All containers.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn list(&self) -> Vec<v1::Container> {
        let mut client = self.client();
        let answer = self.caller.block_on(client.list_containers(v1::ListContainersRequest::default()));
        answer.expect("the list answers").into_inner().containers
    }

    /// One container's phase.
    #[must_use]
    pub fn phase(&self, user: &str) -> Option<v1::Phase> {
        self.list().iter().find(|container| container.user == user).map(v1::Container::phase)
    }

    /// Waits for a node to be as told.
    ///
    /// # Panics
    /// It never is.
    pub fn until_node(&self, name: &str, wanted: v1::Availability) {
        eventually(&format!("{name} is {wanted:?}"), || {
            let answer = self.caller.block_on(self.client().get_node(v1::GetNodeRequest { name: name.into() }));
            answer.is_ok_and(|node| node.into_inner().availability() == wanted)
        });
    }
}

/// A create under way.
#[derive(Debug)]
pub struct Background(pub(crate) tokio::task::JoinHandle<Result<v1::Progress, Status>>);

impl Background {
    /// Whether its outcome is there.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

pub(crate) async fn follow(mut stream: Streaming<v1::Progress>) -> Result<v1::Progress, Status> {
    let mut last = None;
    while let Some(progress) = stream.message().await? {
        last = Some(progress);
    }
    last.ok_or_else(|| Status::unknown("a stream without a word"))
}

/// The reason in a status that must be one of our refusals.
///
/// # Panics
/// It is not.
#[must_use]
pub fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not a refusal of ours: {status:?}"))
}
