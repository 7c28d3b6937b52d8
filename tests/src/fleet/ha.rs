//! Several coordinators of one simulated fleet, each a process of its own, on a real PostgreSQL and, if wanted, a real
//! etcd; every wire between them and the world can be cut.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use containarium_agent::host::sim::SimHost;
use containarium_proto::v1;
use tonic::Status;

use super::{Fleet, eventually};
use crate::{
    postgres::Postgres,
    proxy::{Cut, Proxy},
};

/// A leader that is silent for so long may be replaced.
pub const LEASE: Duration = Duration::from_secs(3);

/// Which election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The lease row.
    Sql,
    /// A real etcd.
    Etcd,
}

/// One coordinator process with its wires.
#[derive(Debug)]
pub struct Coordinator {
    child: Option<Child>,
    address: SocketAddr,
    to_postgres: Proxy,
    to_etcd: Option<Proxy>,
    /// By a signal: it would never answer.
    stopped: bool,
}

/// A fleet with three coordinators.
#[derive(Debug)]
pub struct Ha {
    /// Its nodes and its callers; its client talks to the coordinator that was chosen last.
    pub fleet: Fleet,
    coordinators: Vec<Coordinator>,
    wires: Vec<Proxy>,
    binary: String,
    options: Vec<String>,
    database: String,
    etcd: Option<Etcd>,
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Ha {
    /// Three coordinators of `binary` with these options beside their own, all following one of them, and `hosts`.
    ///
    /// # Panics
    /// They do not come up.
    #[must_use]
    pub fn of(binary: &str, hosts: Vec<SimHost>, by: By, options: &[&str]) -> Self {
        let fleet = Fleet::of_agents(hosts);
        let database = Postgres::get().create();
        let etcd = (by == By::Etcd).then(|| Etcd::start(&fleet.path("etcd"), &fleet.path("certs")));
        let runtime = fleet.caller.handle().clone();
        let coordinator = |_| Coordinator {
            child: None,
            address: loopback(free_port()),
            to_postgres: Proxy::to(&runtime, loopback(Postgres::get().port())),
            to_etcd: etcd.as_ref().map(|etcd| Proxy::to(&runtime, etcd.address)),
            stopped: false,
        };
        let coordinators = (0..3).map(coordinator).collect();
        let wires = fleet.nodes.iter().map(|node| Proxy::to(&runtime, node.address)).collect();
        let options = options.iter().map(ToString::to_string).collect();
        let mut ha = Self { fleet, coordinators, wires, binary: binary.to_owned(), options, database, etcd };
        for index in 0..3 {
            ha.start(index);
        }
        ha.use_leader();
        for (node, wire) in ha.fleet.nodes.iter().zip(&ha.wires) {
            ha.fleet.add_node(&node.name, wire.address);
        }
        ha
    }

    /// Starts a coordinator on the port it had before.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(&mut self, index: usize) {
        let coordinator = &mut self.coordinators[index];
        let state = self.fleet.path(&format!("coordinator-{index}"));
        let log = File::options().create(true).append(true).open(state.with_extension("log")).expect("a log");
        let postgres = Postgres::get().url(&self.database, Some(coordinator.to_postgres.address.port()));
        let mut command = Command::new(&self.binary);
        command
            .args(["--listen", &coordinator.address.to_string(), "--database", &postgres])
            .arg("--state-dir")
            .arg(&state)
            .arg("--certs-dir")
            .arg(self.fleet.path("certs"))
            .args(&self.options)
            // As the environment, so that an option may say otherwise.
            .env("CONTAINARIUM_COORDINATOR_LEASE", "3s")
            .env("RUST_LOG", "info");
        if let Some(etcd) = &coordinator.to_etcd {
            command.args(["--election", "etcd", "--etcd", &format!("https://{}", etcd.address)]);
            command.arg("--etcd-certs-dir").arg(self.fleet.path("certs"));
        }
        let log_too = log.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn().expect("the coordinator's binary");
        coordinator.child = Some(child);
    }

    /// The process of a coordinator.
    ///
    /// # Panics
    /// It was killed.
    #[must_use]
    pub fn pid(&self, index: usize) -> u32 {
        self.coordinators[index].child.as_ref().expect("it runs").id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// There is nobody to send it to.
    pub fn signal(&mut self, index: usize, signal: &str) {
        self.coordinators[index].stopped = signal == "STOP";
        let pid = self.pid(index).to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().expect("kill").success());
    }

    /// kill -9.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.coordinators[index].child.take() {
            child.kill().and_then(|()| child.wait()).map(drop).expect("a child of ours");
        }
    }

    /// Asks it to stop, and waits; gives whether it ended well.
    ///
    /// # Panics
    /// It does not end.
    pub fn stop(&mut self, index: usize) -> bool {
        self.signal(index, "TERM");
        let child = self.coordinators[index].child.as_mut().expect("it runs");
        let mut ended = None;
        eventually("the coordinator ends", || {
            ended = child.try_wait().expect("a child of ours");
            ended.is_some()
        });
        self.coordinators[index].child = None;
        ended.is_some_and(|status| status.success())
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// It cannot be asked.
    pub fn runs(&mut self, index: usize) -> bool {
        self.coordinators[index].child.as_mut().is_some_and(|child| child.try_wait().expect("ours").is_none())
    }

    /// Who leads by the lease row, with its term.
    #[must_use]
    pub fn leader(&self) -> Option<(usize, u64)> {
        // The first of them may not have made the table yet.
        let row = Postgres::get().ask(&self.database, "SELECT address || ' ' || term FROM lease")?;
        let (address, term) = row.trim().split_once(' ')?;
        let index = self.coordinators.iter().position(|one| one.address.to_string() == address)?;
        Some((index, term.parse().ok()?))
    }

    /// Waits for a leader of a later term than this one.
    ///
    /// # Panics
    /// There never is one.
    pub fn until_leader_after(&self, term: u64) -> (usize, u64) {
        let mut found = None;
        eventually("somebody leads", || {
            found = self.leader().filter(|(_, now)| *now > term);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Later calls go to this coordinator.
    pub fn use_coordinator(&mut self, index: usize) {
        self.fleet.address = self.coordinators[index].address;
    }

    /// Later calls go to the leader.
    pub fn use_leader(&mut self) -> (usize, u64) {
        let leader = self.until_leader_after(0);
        self.use_coordinator(leader.0);
        leader
    }

    /// One after another, as the CLI does, until one answers. Gives up after a minute.
    ///
    /// # Panics
    /// Nobody answers for a minute.
    pub fn create(&mut self, user: &str) -> v1::Container {
        self.create_persistently(&Fleet::request(user))
    }

    /// The same, of a request that may be made again.
    ///
    /// # Panics
    /// Nobody answers for a minute.
    pub fn create_persistently(&mut self, request: &v1::CreateContainerRequest) -> v1::Container {
        let started = Instant::now();
        for index in (0..3).cycle() {
            if self.coordinators[index].stopped {
                continue;
            }
            self.use_coordinator(index);
            match self.fleet.create(request.clone()) {
                Ok(done) => return done.container.expect("a container"),
                Err(status) => assert!(passing(&status) && started.elapsed() < Duration::from_secs(60), "{status:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unreachable!("an endless cycle")
    }

    /// As many at once as there are requests, each with its own coordinator first; gives what became of each.
    ///
    /// # Panics
    /// Nobody answers for a minute.
    #[must_use]
    pub fn create_all_persistently(
        &self,
        requests: Vec<v1::CreateContainerRequest>,
    ) -> Vec<Result<v1::Progress, Status>> {
        let ask = |(first, request): (usize, v1::CreateContainerRequest)| {
            let clients: Vec<_> = self.coordinators.iter().map(|one| self.fleet.client_of(one.address)).collect();
            self.fleet.caller.spawn(async move {
                let started = Instant::now();
                for mut client in clients.iter().cycle().skip(first).cloned() {
                    let asked =
                        async { super::follow(client.create_container(request.clone()).await?.into_inner()).await };
                    match asked.await {
                        Err(status) if passing(&status) && started.elapsed() < Duration::from_secs(60) => {}
                        outcome => return outcome,
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                unreachable!("an endless cycle")
            })
        };
        let running: Vec<_> =
            requests.into_iter().enumerate().map(|(index, request)| ask((index % 3, request))).collect();
        running.into_iter().map(|create| self.fleet.caller.block_on(create).expect("a create's task")).collect()
    }

    /// Every connection to the database ends, as when its server restarts.
    pub fn end_sessions(&self) {
        Postgres::get().disconnect_all(&self.database);
    }

    /// The wire from a coordinator to its database.
    #[must_use]
    pub fn to_postgres(&self, index: usize) -> &Proxy {
        &self.coordinators[index].to_postgres
    }

    /// The wire from a coordinator to etcd.
    ///
    /// # Panics
    /// There is no etcd.
    #[must_use]
    pub fn to_etcd(&self, index: usize) -> &Proxy {
        self.coordinators[index].to_etcd.as_ref().expect("an election by etcd")
    }

    /// kill -9 of etcd, which is started again at once.
    ///
    /// # Panics
    /// There is no etcd, or it does not come back.
    pub fn restart_etcd(&mut self) {
        self.etcd.as_mut().expect("an election by etcd").restart();
    }

    /// Cuts a coordinator off these nodes and no others.
    pub fn cut_off_nodes(&self, index: usize, nodes: impl Fn(usize) -> bool) {
        for (node, wire) in self.wires.iter().enumerate() {
            let cut = if nodes(node) { Cut::Pids(BTreeSet::from([self.pid(index)])) } else { Cut::None };
            wire.cut(cut);
        }
    }

    /// As `--server` takes them.
    #[must_use]
    pub fn servers(&self) -> String {
        self.coordinators.iter().map(|one| format!("https://{}", one.address)).collect::<Vec<_>>().join(",")
    }

    /// The folder that holds client certificates.
    #[must_use]
    pub fn certs(&self) -> std::path::PathBuf {
        self.fleet.path("certs")
    }

    /// What a coordinator has said.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.fleet.path(&format!("coordinator-{index}.log"))).unwrap_or_default()
    }
}

/// What a caller tries again after.
fn passing(status: &Status) -> bool {
    use tonic::Code as C;
    matches!(status.code(), C::Unavailable | C::Unknown | C::Cancelled | C::DeadlineExceeded)
}

impl Drop for Ha {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for index in 0..self.coordinators.len() {
                let log = self.log(index);
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                eprintln!("--- coordinator {index}");
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        for coordinator in &mut self.coordinators {
            if let Some(mut child) = coordinator.child.take() {
                child.kill().and_then(|()| child.wait()).map(drop).unwrap_or_default();
            }
        }
    }
}

/// A real etcd with TLS, gone with this process.
#[derive(Debug)]
struct Etcd {
    address: SocketAddr,
    keeper: ChildStdin,
}

/// Until its standard input ends; each line of it kills etcd and starts it anew. $1: folder, the rest: etcd's own.
const KEEPER: &str = r#"
dir=$1; shift
trap '' INT HUP TERM
exec >"$dir/log" 2>&1
while :; do
  etcd "$@" </dev/null &
  pid=$!
  read -r line
  ended=$?
  kill -KILL $pid
  wait $pid
  if [ $ended != 0 ]; then exit; fi
done
"#;

impl Etcd {
    fn start(dir: &Path, certs: &Path) -> Self {
        std::fs::create_dir(dir).expect("a folder");
        let (client, peer) = (free_port(), format!("http://127.0.0.1:{}", free_port()));
        let url = format!("https://127.0.0.1:{client}");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(dir)
            .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--client-cert-auth"])
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .arg(format!("--cert-file={}", certs.join("server.crt").display()))
            .arg(format!("--key-file={}", certs.join("server.key").display()))
            .arg(format!("--trusted-ca-file={}", certs.join("ca.crt").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let stdin = keeper.stdin.take().expect("piped");
        std::thread::spawn(move || drop(keeper.wait()));
        let address = loopback(client);
        let etcd = Self { address, keeper: stdin };
        etcd.until_it_listens();
        etcd
    }

    fn until_it_listens(&self) {
        let listens = || TcpStream::connect(self.address).is_ok();
        eventually("etcd listens: is etcd-server there, as deploy/packages/install puts it?", listens);
    }

    fn restart(&mut self) {
        // Broken off when the old one is dead.
        let mut line = TcpStream::connect(self.address).expect("etcd");
        self.keeper.write_all(b"again\n").expect("its keeper");
        line.read(&mut [0]).map(drop).unwrap_or_default();
        self.until_it_listens();
    }
}
