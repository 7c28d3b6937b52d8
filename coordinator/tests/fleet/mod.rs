//! A whole fleet in one process: a real coordinator on a real database, fake agents behind real TLS. Each process of
//! it has a runtime of its own, so that stopping it closes its connections as a kill would.

pub(crate) mod agent;
mod views;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containarium_coordinator::{Config, CoordinatorError, Defaults, Lifetimes, Overcommit, Timings, run};
use containarium_proto::{
    error::Refusal,
    pki::{CertsDir, GenerateOptions, generate},
    v1::{self, fleet_client::FleetClient},
};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use self::agent::FakeAgent;

/// From ssh-keygen; belongs to nobody.
pub(crate) const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD test";

pub(crate) struct Fleet {
    pub(crate) agents: Vec<FakeAgent>,
    pub(crate) client: FleetClient<Channel>,
    pub(crate) dir: tempfile::TempDir,
    coordinator: Option<Process>,
}

pub(crate) struct Process {
    runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), CoordinatorError>>,
}

impl Fleet {
    /// Nodes jump-1, jump-2, ... known and online.
    pub(crate) async fn with_nodes(count: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs");
        let nodes = (1..=count).map(|i| format!("jump-{i}").parse().unwrap()).collect();
        generate(&GenerateOptions {
            output_dir: certs.clone(),
            server_ips: vec!["127.0.0.1".parse().unwrap()],
            server_names: vec!["localhost".into()],
            nodes,
            days: 1,
        })
        .unwrap();
        let agents: Vec<_> = (1..=count).map(|i| FakeAgent::start_new(&format!("jump-{i}"), i, &certs)).collect();
        let coordinator = start(config(dir.path())).await;
        let client = client(&certs, coordinator.address);
        let mut fleet = Self { agents, client, dir, coordinator: Some(coordinator) };
        for index in 0..fleet.agents.len() {
            let (name, address) = (fleet.agents[index].node.name.clone(), fleet.agents[index].address.to_string());
            fleet.client.add_node(v1::AddNodeRequest { name: name.clone(), address }).await.unwrap();
            fleet.node_becomes(&name, v1::Availability::Online).await;
        }
        fleet
    }

    pub(crate) fn coordinator(&mut self) -> &mut Process {
        self.coordinator.as_mut().unwrap()
    }

    pub(crate) fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// As a kill: nothing is said to anyone.
    pub(crate) fn crash_coordinator(&mut self) {
        self.coordinator = None;
    }

    pub(crate) async fn start_coordinator(&mut self) {
        let coordinator = start(config(self.dir.path())).await;
        self.client = client(&self.certs(), coordinator.address);
        self.coordinator = Some(coordinator);
    }

    pub(crate) async fn create(&self, user: &str) -> Outcome {
        self.create_with(request(user)).await
    }

    pub(crate) async fn create_with(&self, request: v1::CreateContainerRequest) -> Outcome {
        follow(self.client.clone().create_container(request).await).await
    }

    pub(crate) async fn delete(&self, user: &str) -> Outcome {
        self.delete_with(v1::DeleteContainerRequest { user: user.into(), ..Default::default() }).await
    }

    pub(crate) async fn delete_with(&self, request: v1::DeleteContainerRequest) -> Outcome {
        follow(self.client.clone().delete_container(request).await).await
    }

    pub(crate) async fn power(&self, user: &str, action: v1::PowerAction, request_id: &str) -> Outcome {
        let mut request =
            v1::SetPowerRequest { user: user.into(), request_id: request_id.into(), ..Default::default() };
        request.set_action(action);
        follow(self.client.clone().set_power(request).await).await
    }

    pub(crate) async fn list(&self) -> Vec<v1::Container> {
        let answer = self.client.clone().list_containers(v1::ListContainersRequest::default()).await;
        answer.unwrap().into_inner().containers
    }

    pub(crate) async fn phase(&self, user: &str) -> Option<v1::Phase> {
        self.list().await.iter().find(|c| c.user == user).map(v1::Container::phase)
    }

    pub(crate) async fn node(&self, name: &str) -> v1::Node {
        self.client.clone().get_node(v1::GetNodeRequest { name: name.into() }).await.unwrap().into_inner()
    }

    pub(crate) async fn node_becomes(&self, name: &str, availability: v1::Availability) {
        eventually(async || self.node(name).await.availability() == availability, name).await;
    }

    pub(crate) async fn events(&self, subject: &str) -> Vec<String> {
        let request = v1::ListEventsRequest { subject: subject.into(), limit: 1000 };
        let events = self.client.clone().list_events(request).await.unwrap().into_inner().events;
        events.into_iter().rev().map(|e| e.kind).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How a stream went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) said: Vec<v1::Progress>,
    pub(crate) refused: Option<Refusal>,
}

impl Outcome {
    pub(crate) fn last(&self) -> &v1::Progress {
        assert_eq!(self.refused, None, "{:?}", self.said);
        self.said.last().unwrap()
    }

    pub(crate) fn refusal(&self) -> &Refusal {
        self.refused.as_ref().unwrap_or_else(|| panic!("not refused: {:?}", self.said))
    }

    pub(crate) fn container(&self) -> &v1::Container {
        self.last().container.as_ref().unwrap()
    }
}

type Started = Result<tonic::Response<tonic::Streaming<v1::Progress>>, tonic::Status>;

pub(crate) async fn follow(started: Started) -> Outcome {
    let mut outcome = Outcome { said: Vec::new(), refused: None };
    let refusal = |status: tonic::Status| {
        Some(Refusal::from_status(&status).unwrap_or_else(|| panic!("not one of our refusals: {status:?}")))
    };
    let mut stream = match started {
        Ok(response) => response.into_inner(),
        Err(status) => {
            outcome.refused = refusal(status);
            return outcome;
        }
    };
    loop {
        match stream.message().await {
            Ok(Some(progress)) => outcome.said.push(progress),
            Ok(None) => return outcome,
            Err(status) => {
                outcome.refused = refusal(status);
                return outcome;
            }
        }
    }
}

pub(crate) fn request(user: &str) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        user: user.into(),
        ssh_keys: vec![KEY.into()],
        autostart: true,
        ..Default::default()
    }
}

pub(crate) async fn eventually(condition: impl AsyncFn() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < until, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn config(dir: &Path) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        socket: Some(dir.join("socket")),
        state_dir: dir.join("state"),
        database: None,
        certs_dir: dir.join("certs"),
        jump_address: Some("jump.example".into()),
        defaults: Defaults::default(),
        overcommit: Overcommit::default(),
        timings: Timings {
            snapshots_every: Duration::from_millis(50),
            observe_wait: Duration::from_millis(300),
            connect_timeout: Duration::from_millis(500),
            rpc_deadline: Duration::from_secs(2),
            access_deadline: Duration::from_secs(2),
            retry_min: Duration::from_millis(30),
            retry_max: Duration::from_millis(200),
            offline_after: Duration::from_millis(300),
            first_round: Duration::from_secs(5),
            pending_after: Duration::from_secs(5),
            stream_limit: Duration::from_secs(30),
            image_patience: Duration::from_secs(3600),
            lifetimes_every: Duration::from_millis(100),
            delete_settle: Duration::from_millis(300),
            host_certificate_validity: Duration::from_secs(3600),
        },
        lifetimes: Lifetimes::default(),
        faults: containarium_coordinator::FaultPoints::default(),
        ha: Default::default(),
        limits: containarium_coordinator::Limits { per_second: 100_000, burst: 100_000, at_once: 10_000 },
        snapshot_hour: Duration::from_secs(3600),
        closed_networks: Vec::new(),
        audit_retention: Duration::from_secs(90 * 86400),
    }
}

pub(crate) async fn start(config: Config) -> Process {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (ready, address) = oneshot::channel();
        let stop = CancellationToken::new();
        let ended = runtime.spawn(run(config.clone(), stop.clone(), Some(ready)));
        if let Ok(address) = address.await {
            return Process { runtime: Some(runtime), address, stop, ended };
        }
        let error = ended.await.unwrap().unwrap_err();
        runtime.shutdown_background();
        // The one that was crashed may still hold the lock for a moment.
        assert!(matches!(error, CoordinatorError::StateInUse { .. }) && Instant::now() < until, "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn client(certs: &Path, address: SocketAddr) -> FleetClient<Channel> {
    let tls = CertsDir::new(certs).client_to_coordinator().unwrap();
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    FleetClient::new(endpoint.connect_lazy())
}
