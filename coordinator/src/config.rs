//! What a coordinator is told at its start. Plain values; must never read a file, the environment or the network.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use containarium_proto::{
    cpu::Cpu,
    lifetime::{Bounds, IDLE_STOP, REPLICATION, TTL},
    sizes::Bytes,
};
use ipnet::Ipv4Net;

use crate::database::DatabaseUrl;

use crate::faults::FaultPoints;

/// Everything that `run` needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the CLI dials, over TLS. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// A unix socket for root on this machine.
    pub socket: Option<PathBuf>,
    /// Database and lock; made with mode 0700.
    pub state_dir: PathBuf,
    /// Another database than the SQLite file in `state_dir`. One on Postgres may be shared by several coordinators.
    pub database: Option<DatabaseUrl>,
    /// As `containarium cert generate` writes it.
    pub certs_dir: PathBuf,
    /// What users put after `ssh -J`.
    pub jump_address: Option<String>,
    /// For creates that leave it out.
    pub defaults: Defaults,
    /// How much more may be promised than there is.
    pub overcommit: Overcommit,
    /// Waits and deadlines.
    pub timings: Timings,
    /// How long containers may live and idle.
    pub lifetimes: Lifetimes,
    /// Where a test looks in; empty otherwise.
    pub faults: FaultPoints,
    /// How several coordinators on one Postgres get along.
    pub ha: Ha,
    /// What one caller may do at once, and in a second.
    pub limits: Limits,
    /// How long an hour of a schedule of snapshots lasts: an hour, but in tests.
    pub snapshot_hour: Duration,
    /// What no container may reach, besides the nodes, this coordinator and 169.254.0.0/16.
    pub closed_networks: Vec<Ipv4Net>,
    /// How long it is kept who logged in and who tried.
    pub audit_retention: Duration,
}

impl Config {
    pub(crate) fn audit_retention_millis(&self) -> i64 {
        i64::try_from(self.audit_retention.as_millis()).unwrap_or(i64::MAX)
    }
}

/// How several coordinators get along that share a database. Of no meaning on SQLite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ha {
    /// host:port under which the others reach this one; none: the address it listens on.
    pub advertise: Option<String>,
    /// When to try for the next term.
    pub election: ElectionKind,
    /// A leader that was silent for this long may be replaced. Longer than a pause of the database server; every
    /// second of it is one that users wait for when a leader dies.
    pub lease: Duration,
}

impl Default for Ha {
    fn default() -> Self {
        Self { advertise: None, election: ElectionKind::Sql, lease: Duration::from_secs(5) }
    }
}

/// Who says that it is one's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElectionKind {
    /// The lease row itself: it has rested.
    Sql,
    /// A campaign in etcd, which notices the end of a leader by itself.
    Etcd(Etcd),
}

/// Where etcd is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// https://HOST:PORT of its members.
    pub endpoints: Vec<String>,
    /// Folder with its ca.crt, and a client.crt and client.key that it accepts. None: without TLS.
    pub certs_dir: Option<PathBuf>,
}

/// What one caller may do, by its certificate. Far above what people and their scripts do; below what hurts others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in a second, for long.
    pub per_second: u32,
    /// Calls at one moment, after a rest.
    pub burst: u32,
    /// Calls that are being answered.
    pub at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_second: 200, burst: 1000, at_once: 224 }
    }
}

/// What a container gets when its create does not say.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// CPU limit.
    pub cpu: Cpu,
    /// Memory limit.
    pub memory: Bytes,
    /// Root disk.
    pub disk: Bytes,
    /// Image alias.
    pub image: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            cpu: Cpu::Count(2),
            memory: Bytes(2 << 30),
            disk: Bytes(20_000_000_000),
            image: "containarium".to_owned(),
        }
    }
}

/// As many addresses as a /16 has for containers.
pub(crate) const MOST_CONTAINERS: u32 = 65_533;

/// How much of a node may be promised: promises per thing there is, in thousandths, beyond what it keeps for itself,
/// and a bound on the number of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overcommit {
    /// Idle shells share CPUs well.
    pub cpu_permille: u64,
    /// Memory is shared less well: the kernel kills somebody when it runs out.
    pub memory_permille: u64,
    /// A full pool stops every container on it at once, so nothing beyond what there is.
    pub disk_permille: u64,
    /// One /24 per node has 253 addresses for containers.
    pub max_containers_per_node: u32,
    /// Memory that a node keeps for itself; none: what placement finds right for its size.
    pub headroom_memory: Option<Bytes>,
    /// The same of disk.
    pub headroom_disk: Option<Bytes>,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self {
            cpu_permille: 4000,
            memory_permille: 1500,
            disk_permille: 1000,
            max_containers_per_node: 250,
            headroom_memory: None,
            headroom_disk: None,
        }
    }
}

/// How long containers may live and idle, and how old a replica may be. The defaults suit people; tests make them shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// What a time to live may be.
    pub ttl: Bounds,
    /// What an idle stop may be.
    pub idle_stop: Bounds,
    /// How often a replica may be refreshed.
    pub replication: Bounds,
    /// So long before the end its user is warned.
    pub warning: Duration,
    /// In a short life, the warning comes when only this part of it is left.
    pub warning_share: u32,
    /// Between the end and the deletion: long enough that somebody who was away for a day notices.
    pub grace: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let (warning, grace) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        Self { ttl: TTL, idle_stop: IDLE_STOP, replication: REPLICATION, warning, warning_share: 10, grace }
    }
}

/// Waits and deadlines. The defaults suit a real network; tests make them shorter.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// How long a node may hold an unchanged Observe: the heartbeat.
    pub observe_wait: Duration,
    /// Opening a connection to a node.
    pub connect_timeout: Duration,
    /// Answering an RPC, beyond the wait that an Observe was granted.
    pub rpc_deadline: Duration,
    /// SyncAccess answers when all of it is done; `useradd` takes a tenth of a second each on a slow disk.
    pub access_deadline: Duration,
    /// Between tries at a node that does not answer, and the first step of growing waits.
    pub retry_min: Duration,
    /// The last step of growing waits.
    pub retry_max: Duration,
    /// A node that was silent for this long, and missed three calls, is offline.
    pub offline_after: Duration,
    /// How long placing waits for every node's first word (I10).
    pub first_round: Duration,
    /// How long a delete, or accounts on the last server, are waited for before the caller is told `pending`.
    pub pending_after: Duration,
    /// Longest life of a progress stream.
    pub stream_limit: Duration,
    /// How long a node may lack a golden image that others have before it is told to fetch it.
    pub image_patience: Duration,
    /// Between looks at containers that end or stop by themselves.
    pub lifetimes_every: Duration,
    /// A reign deletes nothing for its age before this: an operator who starts a coordinator with a wrong clock, or on
    /// an old database, has time to see it.
    pub delete_settle: Duration,
    /// Between looks at schedules of snapshots.
    pub snapshots_every: Duration,
    /// Life of a host certificate. Short enough that a stolen host key ends with the month, long enough that a node may
    /// be away for a third of it.
    pub host_certificate_validity: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            observe_wait: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            rpc_deadline: Duration::from_secs(3),
            access_deadline: Duration::from_secs(60),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(10),
            offline_after: Duration::from_secs(15),
            first_round: Duration::from_secs(10),
            pending_after: Duration::from_secs(60),
            stream_limit: Duration::from_secs(15 * 60),
            image_patience: Duration::from_secs(30),
            lifetimes_every: Duration::from_secs(30),
            delete_settle: Duration::from_secs(60),
            snapshots_every: Duration::from_secs(5),
            host_certificate_validity: Duration::from_secs(30 * 24 * 3600),
        }
    }
}
