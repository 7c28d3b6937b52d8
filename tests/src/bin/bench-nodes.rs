//! A coordinator with a thousand nodes and fifty thousand machines: what it takes at rest, what a look costs, what a create
//! costs. Prints the figures; docs/benchmarks.md keeps them. Fails when the coordinator takes more memory than it may.
//!
//! BENCH_NODES and BENCH_CONTAINERS (of each) say another size, BENCH_MEMORY_MIB another most.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_proto::{
    pki::{CertsDir, GenerateOptions, generate},
    v1::{self, fleet_client::FleetClient},
};
use containarium_tests::crowd::Member;
use procfs::process::Process;
use sqlx::{ConnectOptions, Connection, Executor, any::AnyConnectOptions};
use tonic::transport::{Channel, Endpoint};

const KEY: &str = include_str!("../../../proto/src/keys/testdata/ed25519.pub");
/// Per thousand nodes and fifty thousand machines, with a create under way. A coordinator that keeps something per node
/// and per call that grows with the fleet takes gigabytes.
const MOST_RESIDENT_MIB: u64 = 1024;
/// The commit log of SQLite and its page cache are in this.
const LOOKS: usize = 7;
const AT_REST: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);
const TEMPLATE: &str = "template";
/// As the CLI asks.
const PAGE: u32 = 200;

/// The coordinator's process, with what talks to it.
struct Coordinator {
    child: Child,
    client: FleetClient<Channel>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
    }
}

struct Bench {
    dir: tempfile::TempDir,
    address: SocketAddr,
    nodes: u16,
    each: u8,
}

#[tokio::main]
async fn main() -> Result<()> {
    let bench = Bench::new()?;
    let (nodes, each) = (bench.nodes, bench.each);
    let mut members = Vec::with_capacity(usize::from(nodes));
    for index in 0..nodes {
        members.push(Member::start(index, &bench.certs()).await?);
    }
    let mut coordinator = bench.start().await?;
    let first = v1::AddNodeRequest { name: members[0].name.clone(), address: members[0].address.to_string() };
    coordinator.client.clone().add_node(first).await?;
    coordinator.until_online(1).await?;
    create(&coordinator, TEMPLATE).await?;
    coordinator.stop()?;
    bench.fill(&members).await?;
    let began = Instant::now();
    let mut coordinator = bench.start().await?;
    coordinator.until_online(usize::from(nodes)).await?;
    let machines = u32::from(nodes) * u32::from(each) + 1;
    println!("{nodes} nodes, {machines} machines; from the coordinator's start to all online: {:.1?}", began.elapsed());
    coordinator.figures("after its start")?;
    // What a start has to say to everybody is over.
    tokio::time::sleep(AT_REST).await;
    coordinator.at_rest("at rest").await?;

    median("list, all pages", async || ensure_count(list(&coordinator).await?, machines)).await?;
    median("list, first page", async || page(&coordinator, String::new()).await.map(drop)).await?;
    median("node list", async || node_list(&coordinator).await.map(drop)).await?;
    median("info", async || info(&coordinator).await).await?;
    let mut watch = coordinator.client.clone();
    let request = v1::ListContainersRequest { page_size: PAGE, page_token: String::new() };
    let mut watched = watch.watch_containers(request).await?.into_inner();
    let watcher = tokio::spawn(async move { while let Ok(Some(_)) = watched.message().await {} });
    coordinator.at_rest("with one 'list --watch'").await?;
    watcher.abort();

    let began = Instant::now();
    create(&coordinator, "newcomer").await?;
    println!("a create, to its account on all {nodes} nodes: {:.1?}", began.elapsed());
    let (most, may) = (coordinator.figures("after a create")?, number("BENCH_MEMORY_MIB", MOST_RESIDENT_MIB)?);
    ensure!(most <= may, "the coordinator took {most} MiB, and may take {may}");
    coordinator.stop()
}

fn number<T: std::str::FromStr>(name: &str, otherwise: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text} is no number of that size")),
        Err(_) => Ok(otherwise),
    }
}

fn mib(bytes: Option<u64>) -> u64 {
    // In KiB, as /proc says it.
    bytes.unwrap_or_default() / 1024
}

impl Bench {
    fn new() -> Result<Self> {
        let (nodes, each): (u16, u8) = (number("BENCH_NODES", 1000)?, number("BENCH_CONTAINERS", 50)?);
        ensure!(each <= 200 && nodes > 0, "at most 200 machines of each node");
        // In memory: it is the coordinator that is measured, not this machine's disk.
        let dir = tempfile::tempdir_in("/dev/shm")?;
        let names = (0..nodes).map(|index| Member::name_of(index).parse()).collect::<Result<_, _>>()?;
        generate(&GenerateOptions {
            output_dir: dir.path().join("certs"),
            server_ips: vec![Ipv4Addr::LOCALHOST.into()],
            server_names: vec![],
            nodes: names,
            days: 1,
        })?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { dir, address, nodes, each })
    }

    fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    async fn start(&self) -> Result<Coordinator> {
        let program = std::env::current_exe()?.with_file_name("containarium-coordinator");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        // It ends with us, however we end.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&program)
            .args(["--listen", &self.address.to_string(), "--state-dir"])
            .arg(self.dir.path().join("state"))
            .arg("--certs-dir")
            .arg(self.certs())
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let tls = CertsDir::new(self.certs()).client_to_coordinator()?;
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address))?.tls_config(tls)?;
        let client = FleetClient::new(endpoint.connect_lazy()).max_decoding_message_size(64 << 20);
        let coordinator = Coordinator { child, client };
        let started = Instant::now();
        while coordinator.client.clone().get_fleet(v1::GetFleetRequest {}).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "the coordinator does not answer: {}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(coordinator)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Rows like those of the one node and the one container that there are, by copying them: whatever columns they have.
    async fn fill(&self, members: &[Arc<Member>]) -> Result<()> {
        sqlx::any::install_default_drivers();
        let file = Path::new("state").join("fleet.db");
        let url = format!("sqlite://{}", self.dir.path().join(file).display());
        let mut database = url.parse::<AnyConnectOptions>()?.connect().await?;
        let mut tx = database.begin().await?;
        for table in ["node", "container", "placement"] {
            let copy = format!("CREATE TEMP TABLE one_{table} AS SELECT * FROM {table}");
            tx.execute(sqlx::AssertSqlSafe(copy)).await?;
        }
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                member.has_accounts_of(&members[0]);
                let sql = "UPDATE one_node SET name = $1, address = $2, cidr = $3, gateway = $4";
                let network = format!("{}/24", member.address_in(0));
                let node = sqlx::query(sql).bind(&member.name).bind(member.address.to_string()).bind(network);
                node.bind(member.address_in(1).to_string()).execute(&mut *tx).await?;
                tx.execute("INSERT INTO node SELECT * FROM one_node").await?;
            }
            for number in 0..self.each {
                let id = uuid::Uuid::now_v7().to_string();
                let user = format!("u{index:04}-{number:03}");
                // The template has one of the first node.
                let address = member.address_in(number + 10);
                let sql = "UPDATE one_container SET id = $1, owner = $2, name = $2 || '-container', request_id = $3";
                let request = uuid::Uuid::new_v4().to_string();
                sqlx::query(sql).bind(&id).bind(&user).bind(request).execute(&mut *tx).await?;
                let sql = "UPDATE one_placement SET container_id = $1, node = $2, address = $3";
                sqlx::query(sql).bind(&id).bind(&member.name).bind(address.to_string()).execute(&mut *tx).await?;
                tx.execute("INSERT INTO container SELECT * FROM one_container").await?;
                tx.execute("INSERT INTO placement SELECT * FROM one_placement").await?;
                member.hold(&id, &user, address);
            }
        }
        tx.commit().await?;
        Ok(database.close().await?)
    }
}

impl Coordinator {
    fn stop(&mut self) -> Result<()> {
        let term = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status()?;
        ensure!(term.success() && self.child.wait()?.success(), "the coordinator ends well");
        Ok(())
    }

    async fn until_online(&self, count: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let nodes = node_list(self).await?;
            let online = nodes.iter().filter(|node| node.availability() == v1::Availability::Online).count();
            if online == count {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "only {online} of {count} come online");
            // A look at all of them is not free.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Prints its memory; gives the most it ever had, in MiB.
    fn figures(&self, when: &str) -> Result<u64> {
        let status = Process::new(self.child.id().try_into()?)?.status()?;
        let (now, most) = (mib(status.vmrss), mib(status.vmhwm));
        println!("memory {when}: {now} MiB, at most {most} MiB so far");
        Ok(most)
    }

    async fn at_rest(&self, what: &str) -> Result<()> {
        let ticks = || -> Result<u64> {
            let stat = Process::new(self.child.id().try_into()?)?.stat()?;
            Ok(stat.utime + stat.stime)
        };
        let (before, began) = (ticks()?, Instant::now());
        tokio::time::sleep(AT_REST).await;
        let seconds = (ticks()? - before) as f64 / procfs::ticks_per_second() as f64;
        println!("cpu {what}: {:.2} s in a second", seconds / began.elapsed().as_secs_f64());
        self.figures(what).map(drop)
    }
}

async fn node_list(coordinator: &Coordinator) -> Result<Vec<v1::Node>> {
    Ok(coordinator.client.clone().list_nodes(v1::ListNodesRequest {}).await?.into_inner().nodes)
}

async fn page(coordinator: &Coordinator, token: String) -> Result<v1::ListContainersResponse> {
    let request = v1::ListContainersRequest { page_size: PAGE, page_token: token };
    Ok(coordinator.client.clone().list_containers(request).await?.into_inner())
}

async fn list(coordinator: &Coordinator) -> Result<u32> {
    let (mut token, mut count) = (String::new(), 0);
    loop {
        let page = page(coordinator, token).await?;
        count += u32::try_from(page.containers.len())?;
        if page.next_page_token.is_empty() {
            return Ok(count);
        }
        token = page.next_page_token;
    }
}

fn ensure_count(listed: u32, wanted: u32) -> Result<()> {
    ensure!(listed == wanted, "{listed} are listed of {wanted}");
    Ok(())
}

async fn info(coordinator: &Coordinator) -> Result<()> {
    let request = v1::GetContainerRequest { user: TEMPLATE.to_owned() };
    coordinator.client.clone().get_container(request).await?;
    Ok(())
}

async fn create(coordinator: &Coordinator, user: &str) -> Result<()> {
    let request = v1::CreateContainerRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        user: user.to_owned(),
        ssh_keys: vec![KEY.trim_end().to_owned()],
        autostart: true,
        node: Member::name_of(0),
        ..Default::default()
    };
    let mut progress = coordinator.client.clone().create_container(request).await?.into_inner();
    let mut last = None;
    while let Some(said) = progress.message().await? {
        last = Some(said);
    }
    let last = last.context("a create says something")?;
    if last.pending {
        println!("the create did not wait to its end: {}", last.message);
    }
    Ok(())
}

async fn median(what: &str, look: impl AsyncFn() -> Result<()>) -> Result<()> {
    let mut took = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let began = Instant::now();
        look().await?;
        took.push(began.elapsed());
    }
    took.sort();
    println!("{what}: {:.1?} (median of {LOOKS}; {:.1?} to {:.1?})", took[LOOKS / 2], took[0], took[LOOKS - 1]);
    Ok(())
}
