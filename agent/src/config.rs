//! What an agent is told at its start. Plain values; must never read a file, the environment or the network.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use containarium_proto::names::NodeName;

/// Everything that `run` needs besides its host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its own name, as in its certificate.
    pub node: NodeName,
    /// Where the coordinator dials. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where load balancers ask for `/healthz`; none: nowhere.
    pub health: Option<SocketAddr>,
    /// As `containarium cert generate` writes it; only `ca.crt` and this node's pair are read.
    pub certs_dir: PathBuf,
    /// Fleet id and highest term; made with mode 0700.
    pub state_dir: PathBuf,
    /// Holds a text that is new at every start of the machine.
    pub boot_id_file: PathBuf,
    /// The cloud's metadata server, which tells when this machine is about to be taken away: "http://169.254.169.254".
    pub metadata_server: Option<String>,
    /// Where backups are kept, as a URL; none: nowhere.
    pub backup_store: Option<String>,
    /// Waits and bounds.
    pub timings: Timings,
}

/// Waits and bounds. The defaults suit a real server; tests make them shorter.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Between looks at capacity, images and accounts.
    pub facts_every: Duration,
    /// First wait before a failed step is tried again; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest wait before a failed step is tried again.
    pub retry_max: Duration,
    /// Longest Observe, whatever the caller asks for: an idle connection must show that it lives.
    pub observe_max: Duration,
    /// Containers worked on at the same time. More would make each slower: cloning and booting are disk and CPU bound.
    pub parallel: usize,
    /// Between looks at what was changed behind our back. Each reads every instance: a second of work for Incus on a full
    /// node.
    pub drift_every: Duration,
    /// Between looks at what guards the node: a broken drop-in of sshd must not be there when sshd is started anew.
    pub guard_every: Duration,
    /// Between looks at whether the containers are in use: one question to Incus for each of them.
    pub activity_every: Duration,
    /// Between looks at who an sshd shows itself to be: a short connection to each.
    pub identity_every: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            facts_every: Duration::from_secs(5),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            observe_max: Duration::from_secs(30),
            parallel: 8,
            drift_every: Duration::from_secs(60),
            guard_every: Duration::from_secs(2),
            activity_every: Duration::from_secs(60),
            identity_every: Duration::from_secs(300),
        }
    }
}
