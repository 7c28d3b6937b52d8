//! The agent over real gRPC and mTLS, on a simulated host: acceptance, progress, long polls, kill -9, accounts.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use containarium_agent::{
    Config, Timings,
    host::sim::{Fault, SimHost, image_fingerprint},
    run,
};
use containarium_proto::{
    convert,
    ids::{ContainerId, FleetId, Generation, Term},
    node::{Order, Sender, Usage},
    pki::{CertsDir, GenerateOptions, generate},
    sizes::Bytes,
    spec::{Desired, Spec},
    v1::{self, Observed, agent_client::AgentClient},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

const KEY: &str = include_str!("../../proto/src/keys/testdata/ed25519.pub");

/// An agent process: its own runtime, so that ending it ends everything at once, as kill -9 does.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn kill(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

struct Node {
    dir: tempfile::TempDir,
    host: SimHost,
    fleet: FleetId,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = GenerateOptions {
            output_dir: dir.path().join("certs"),
            server_ips: vec!["127.0.0.1".parse().unwrap()],
            server_names: vec![],
            nodes: vec!["jump-1".parse().unwrap()],
            days: 1,
        };
        generate(&options).unwrap();
        std::fs::write(dir.path().join("boot_id"), "boot-1").unwrap();
        Self { dir, host: SimHost::new("10.100.1.0/24".parse().unwrap()), fleet: FleetId::generate() }
    }

    fn start(&self) -> (Process, SocketAddr) {
        let path = |name: &str| self.dir.path().join(name);
        let timings = Timings {
            facts_every: Duration::from_millis(20),
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(50),
            ..Timings::default()
        };
        let config = Config {
            node: "jump-1".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            health: None,
            certs_dir: path("certs"),
            state_dir: path("state"),
            boot_id_file: path("boot_id"),
            metadata_server: None,
            backup_store: None,
            timings,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ready, address) = oneshot::channel();
        let host = Arc::new(self.host.clone());
        runtime.spawn(async move { run(config, host, CancellationToken::new(), Some(ready)).await.unwrap() });
        (Process(Some(runtime)), address.blocking_recv().unwrap())
    }

    async fn dial(&self, address: SocketAddr) -> AgentClient<Channel> {
        AgentClient::new(channel(&self.dir.path().join("certs"), address).await)
    }

    fn sender(&self, term: u64) -> Sender {
        Sender { fleet: self.fleet, term: Term(term) }
    }

    async fn apply(&self, client: &mut AgentClient<Channel>, term: u64, order: &Order) -> Result<(), tonic::Status> {
        client.apply(convert::order_to_wire(self.sender(term), order)).await.map(drop)
    }

    async fn report(&self, client: &mut AgentClient<Channel>, after: Option<&v1::NodeReport>) -> v1::NodeReport {
        let request = v1::ObserveRequest {
            sender: Some(convert::sender_to_wire(self.sender(1))),
            after_revision: after.map_or(0, |report| report.revision),
            incarnation: after.map(|report| report.incarnation.clone()).unwrap_or_default(),
            max_wait_millis: 5000,
        };
        loop {
            match client.observe(request.clone()).await {
                Ok(report) => return report.into_inner(),
                // Until the first look at the host.
                Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(status) => panic!("{status}"),
            }
        }
    }

    /// Follows the reports until the only container is as told; gives the step titles seen on the way.
    async fn until(&self, client: &mut AgentClient<Channel>, wanted: Observed) -> Vec<String> {
        let mut titles = Vec::new();
        let mut last: Option<v1::NodeReport> = None;
        for _ in 0..100 {
            let report = self.report(client, last.as_ref()).await;
            if let Some(container) = report.containers.first() {
                titles.extend(container.step.iter().map(|step| step.title.clone()));
                if container.observed() == wanted {
                    titles.dedup();
                    return titles;
                }
            }
            last = Some(report);
        }
        panic!("never {wanted:?}: {titles:?}");
    }
}

async fn channel(certs: &Path, address: SocketAddr) -> Channel {
    let tls = CertsDir::new(certs).coordinator_to_agent(&"jump-1".parse().unwrap()).unwrap();
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

fn order(id: ContainerId, desired: Desired, generation: u64) -> Order {
    Order {
        id,
        name: "alice-container".into(),
        owner: "alice".parse().unwrap(),
        generation: Generation(generation),
        desired,
        spec: Spec {
            cpu: "2".parse().unwrap(),
            memory: Bytes(2 << 30),
            disk: Bytes(20_000_000_000),
            image: image_fingerprint(),
            autostart: true,
            restarts: 0,
            fenced: false,
        },
        address: "10.100.1.2".parse().unwrap(),
        keys: [KEY.trim_end().to_owned()].to_vec().try_into().unwrap(),
        copy_pass: None,
        origin: None,
        guests: Vec::new(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_create_reports_each_step_and_ends_running() {
    let node = Node { host: Node::new().host.with_latency(Duration::from_millis(30)), ..Node::new() };
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await;
        node.apply(&mut client, 1, &order(ContainerId::generate(), Desired::Running, 1)).await.unwrap();
        let titles = node.until(&mut client, Observed::Running).await;
        let last = &titles[titles.len().saturating_sub(3)..];
        assert_eq!(last, ["starting", "adding the user and keys", "waiting for ssh"], "{titles:?}");
    });
    let made = &node.host.instances_now()["alice-container"];
    assert_eq!((node.host.creates(), made.boots), (1, 1));
    assert_eq!(made.logins["alice"], [KEY.trim_end()]);
    process.kill();
}

#[test]
fn orders_are_accepted_in_the_stated_order() {
    let node = Node::new();
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await;
        let id = ContainerId::generate();
        node.apply(&mut client, 5, &order(id, Desired::Running, 3)).await.unwrap();
        let code = |result: Result<(), tonic::Status>| result.unwrap_err().code();

        let stranger = Node { fleet: FleetId::generate(), ..Node::new() };
        let foreign = stranger.apply(&mut client, 9, &order(id, Desired::Absent, 9)).await.unwrap_err();
        assert_eq!(foreign.code(), Code::FailedPrecondition);
        assert!(foreign.message().contains(&node.fleet.to_string()), "{foreign}");

        assert_eq!(code(node.apply(&mut client, 4, &order(id, Desired::Absent, 9)).await), Code::Aborted);
        assert_eq!(code(node.apply(&mut client, 5, &order(id, Desired::Absent, 2)).await), Code::Aborted);
        assert_eq!(code(node.apply(&mut client, 5, &order(id, Desired::Absent, 3)).await), Code::Internal);
        node.apply(&mut client, 5, &order(id, Desired::Running, 3)).await.unwrap();
        node.apply(&mut client, 6, &order(id, Desired::Running, 3)).await.unwrap();
        assert_eq!(code(node.apply(&mut client, 5, &order(id, Desired::Absent, 9)).await), Code::Aborted);
    });
    process.kill();
    // The highest term outlives the process.
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await;
        let old = node.apply(&mut client, 5, &order(ContainerId::generate(), Desired::Running, 1)).await.unwrap_err();
        assert_eq!(old.code(), Code::Aborted);
    });
    process.kill();
    assert_eq!(node.host.creates(), 1);
}

#[test]
fn a_caller_with_another_role_is_refused() {
    let node = Node::new();
    let (process, address) = node.start();
    let certs = node.dir.path().join("certs");
    let wrong = node.dir.path().join("wrong");
    std::fs::create_dir(&wrong).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "server.crt"), ("client.key", "server.key")] {
        std::fs::copy(certs.join(from), wrong.join(to)).unwrap();
    }
    block_on(async {
        let mut client = AgentClient::new(channel(&wrong, address).await);
        let refused =
            node.apply(&mut client, 1, &order(ContainerId::generate(), Desired::Running, 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("'coordinator'") && refused.message().contains("'client'"), "{refused}");
    });
    process.kill();
}

/// Kills the agent around each effect in turn until none is reached, first of a create, then of a delete.
#[test]
fn killed_at_any_effect_it_finishes_once_after_a_restart() {
    let mut cases = 0;
    for make_fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull] {
        for k in 1.. {
            let node = Node::new();
            let id = ContainerId::generate();
            let reached_create = with_fault(&node, make_fault(k), &order(id, Desired::Running, 1), Observed::Running);
            assert_eq!(node.host.creates(), 1, "{:?}", make_fault(k));
            assert_eq!(node.host.instances_now()["alice-container"].logins.len(), 1);
            let reached_delete = with_fault(&node, make_fault(k), &order(id, Desired::Absent, 2), Observed::Absent);
            assert!(node.host.instances_now().is_empty(), "{:?}", make_fault(k));
            cases += usize::from(reached_create) + usize::from(reached_delete);
            if !reached_create && !reached_delete {
                break;
            }
        }
    }
    println!("{cases} faults");
    assert!(cases >= 3 * 6, "{cases}");
}

/// Brings about one order with a fault on the way; the agent is restarted after a crash. True if the fault happened.
fn with_fault(node: &Node, fault: Fault, order: &Order, wanted: Observed) -> bool {
    node.host.plan_fault(fault);
    let (process, address) = node.start();
    let crashed = block_on(async {
        let mut client = node.dial(address).await;
        node.apply(&mut client, 1, order).await.unwrap();
        tokio::select! {
            () = node.host.crashed() => true,
            _ = node.until(&mut client, wanted) => false,
        }
    });
    process.kill();
    let happened = node.host.revive();
    if crashed {
        let (process, address) = node.start();
        block_on(async {
            let mut client = node.dial(address).await;
            // As the coordinator would: it has not been told that it is done.
            node.apply(&mut client, 1, order).await.unwrap();
            node.until(&mut client, wanted).await;
        });
        process.kill();
    }
    happened
}

#[test]
fn a_restarted_agent_goes_on_from_the_stamps_alone() {
    let node = Node::new();
    let id = ContainerId::generate();
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await;
        node.apply(&mut client, 1, &order(id, Desired::Running, 1)).await.unwrap();
        node.until(&mut client, Observed::Running).await;
    });
    process.kill();
    // A new boot disk: no state of the agent, the instance still there.
    std::fs::remove_dir_all(node.dir.path().join("state")).unwrap();
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await;
        node.until(&mut client, Observed::Running).await;
    });
    process.kill();
    assert_eq!(node.host.creates(), 1);
}

#[test]
fn accounts_become_exactly_the_set_and_strangers_stay() {
    let node = Node::new();
    node.host.add_foreign_user("mallory");
    let (process, address) = node.start();
    let account = |name: &str, permit: &str| v1::Account {
        username: name.into(),
        ssh_keys: vec![KEY.trim_end().into()],
        permit_address: permit.into(),
        ..Default::default()
    };
    block_on(async {
        let mut client = node.dial(address).await;
        let sync = |revision, accounts: Vec<v1::Account>| v1::SyncAccessRequest {
            sender: Some(convert::sender_to_wire(node.sender(1))),
            revision,
            accounts,
            keep: Vec::new(),
        };
        let two = vec![account("alice", "10.100.1.2"), account("bob", "10.100.2.2")];
        assert!(client.sync_access(sync(1, two)).await.unwrap().into_inner().failures.is_empty());
        assert_eq!(node.host.accounts_now().into_keys().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(node.report(&mut client, None).await.access_revision, 1);

        let taken = vec![account("bob", "10.100.2.3"), account("mallory", "10.100.1.3")];
        let failures = client.sync_access(sync(2, taken)).await.unwrap().into_inner().failures;
        assert_eq!(failures.iter().map(|f| f.username.as_str()).collect::<Vec<_>>(), ["mallory"]);
        assert_eq!(node.host.accounts_now().into_keys().collect::<Vec<_>>(), ["bob"]);
        // Not all of revision 2 could be done, so the node still says 1.
        let mut report = node.report(&mut client, None).await;
        assert_eq!(report.access_revision, 1);
        while !report.foreign_users.contains(&"mallory".to_owned()) {
            report = node.report(&mut client, Some(&report)).await;
        }

        let stale = client.sync_access(sync(1, vec![])).await.unwrap_err();
        assert_eq!(stale.code(), Code::Aborted);
        assert_eq!(node.host.accounts_now().len(), 1);
    });
    process.kill();
}

#[test]
fn the_use_of_all_that_runs_is_told_in_one_answer_with_when_it_was_read() {
    let node = Node::new();
    node.host.add_foreign_instance("stranger");
    let (process, address) = node.start();
    let (alice, bob) = (ContainerId::generate(), ContainerId::generate());
    block_on(async {
        let mut client = node.dial(address).await;
        let ask =
            v1::ListUsagesRequest { sender: Some(convert::sender_to_wire(node.sender(1))), max_wait_millis: 5000 };
        node.apply(&mut client, 1, &order(alice, Desired::Running, 1)).await.unwrap();
        node.until(&mut client, Observed::Running).await;
        let stopped = Order {
            name: "bob-container".into(),
            owner: "bob".parse().unwrap(),
            address: "10.100.1.3".parse().unwrap(),
            ..order(bob, Desired::Stopped, 1)
        };
        node.apply(&mut client, 1, &stopped).await.unwrap();
        let mut last = Duration::ZERO;
        for seconds in [1, 2] {
            let cpu = Some(Duration::from_secs(seconds));
            let used = Usage { memory: Bytes(3 << 20), disk: None, cpu };
            node.host.set_usage(used);
            let answer = client.list_usages(ask.clone()).await.unwrap().into_inner();
            let usages: Vec<_> = answer.usages.iter().map(|u| convert::usage_of_from_wire(u).unwrap()).collect();
            let (id, sample) = usages[0];
            assert_eq!((usages.len(), id, sample.usage), (1, alice, used));
            assert!(sample.at > last, "the node's clock goes on");
            last = sample.at;
        }
        let stranger = Sender { fleet: FleetId::generate(), term: Term(9) };
        let foreign = v1::ListUsagesRequest { sender: Some(convert::sender_to_wire(stranger)), ..ask };
        assert_eq!(client.list_usages(foreign).await.unwrap_err().code(), Code::FailedPrecondition);
    });
    process.kill();
}

#[test]
fn a_set_of_accounts_may_be_larger_than_4_mb() {
    let node = Node::new();
    let (process, address) = node.start();
    block_on(async {
        let mut client = node.dial(address).await.max_encoding_message_size(64 << 20);
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJqzAQRxEwRv7jLBI5nhfglRGNC5pn5DnhXH6KhJa1Y";
        let account = |index: u32| v1::Account {
            username: format!("user{index}"),
            ssh_keys: (0..64).map(|number| format!("{key} {number}-{}", "x".repeat(60))).collect(),
            ..Default::default()
        };
        let request = v1::SyncAccessRequest {
            sender: Some(convert::sender_to_wire(node.sender(1))),
            revision: 7,
            accounts: (0..600).map(account).collect(),
            keep: Vec::new(),
        };
        let report = client.sync_access(request).await.unwrap().into_inner();
        assert_eq!((report.revision, report.failures), (7, Vec::new()));
    });
    assert_eq!(node.host.accounts_now().len(), 600);
    process.kill();
}

#[test]
fn a_delete_does_not_wait_for_an_ssh_that_never_answers() {
    let node = Node::new();
    node.host.set_ssh_answers(false);
    let (process, address) = node.start();
    let id = ContainerId::generate();
    block_on(async {
        let mut client = node.dial(address).await;
        node.apply(&mut client, 1, &order(id, Desired::Running, 1)).await.unwrap();
        while node.host.instances_now().get("alice-container").is_none_or(|i| i.logins.is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.apply(&mut client, 1, &order(id, Desired::Absent, 2)).await.unwrap();
        node.until(&mut client, Observed::Absent).await;
    });
    assert!(node.host.instances_now().is_empty());
    process.kill();
}
