//! Flags and their environment variables, as a [`Config`]. Nothing is opened or checked beyond its form here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use containarium_proto::{cpu::Cpu, factor::Factor, sizes::Bytes, telemetry::LogFormat};

use crate::{
    config::{Config, Defaults, Lifetimes, MOST_CONTAINERS, Overcommit, Timings},
    faults::FaultPoints,
};

/// Coordinator of a containarium fleet: places containers on jump servers and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "containarium-coordinator", version = containarium_proto::VERSION)]
pub struct Args {
    /// Address and port for operators' machines (mTLS).
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_LISTEN", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// Folder for the database; made private to this user.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_STATE_DIR", default_value = "/var/lib/containarium/coordinator")]
    state_dir: PathBuf,
    /// Folder with ca.crt, server.crt and server.key.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_CERTS_DIR", default_value = "/etc/containarium/certs")]
    certs_dir: PathBuf,
    /// Unix socket for root on this machine.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_SOCKET")]
    socket: Option<PathBuf>,
    /// What users put after ssh -J: the load balancer's name or address.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_JUMP_ADDRESS")]
    jump_address: Option<String>,
    /// Another database than the one in the state folder: sqlite://PATH?mode=rwc.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DATABASE")]
    database: Option<String>,
    /// CPU of a container whose create does not say.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DEFAULT_CPU", default_value = "2")]
    default_cpu: Cpu,
    /// Memory of a container whose create does not say.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DEFAULT_MEMORY", default_value = "2GiB", value_parser = memory)]
    default_memory: Bytes,
    /// Disk of a container whose create does not say.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DEFAULT_DISK", default_value = "20GB", value_parser = disk)]
    default_disk: Bytes,
    /// Image alias of a container whose create does not say.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DEFAULT_IMAGE", default_value = "containarium")]
    default_image: String,
    /// CPUs promised per CPU there is. This and the next five hold for every node that has no value of its own.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_OVERCOMMIT_CPU", default_value = "4", value_name = "FACTOR")]
    overcommit_cpu: Factor,
    /// Memory promised per memory there is.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_OVERCOMMIT_MEMORY", default_value = "1.5", value_name = "FACTOR")]
    overcommit_memory: Factor,
    /// Disk promised per disk there is.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_OVERCOMMIT_DISK", default_value = "1", value_name = "FACTOR")]
    overcommit_disk: Factor,
    /// Most containers on one node.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_MAX_CONTAINERS_PER_NODE", default_value_t = 250, value_parser = most)]
    max_containers_per_node: u32,
    /// Memory that a node keeps for itself; without it, an eighth of its own, at most 1GiB.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_HEADROOM_MEMORY", value_name = "SIZE", value_parser = headroom)]
    headroom_memory: Option<Bytes>,
    /// Disk that a node keeps for itself; without it, a twentieth of its own.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_HEADROOM_DISK", value_name = "SIZE", value_parser = headroom)]
    headroom_disk: Option<Bytes>,
    /// How long a container is kept, stopped, after its time to live.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_TTL_GRACE", default_value = "24h", value_parser = grace)]
    ttl_grace: Duration,
    /// text or json
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Args {
    /// The configuration they mean.
    #[must_use]
    pub fn into_config(self) -> Config {
        Config {
            listen: self.listen,
            socket: self.socket,
            state_dir: self.state_dir,
            database: self.database,
            certs_dir: self.certs_dir,
            jump_address: self.jump_address,
            defaults: Defaults {
                cpu: self.default_cpu,
                memory: self.default_memory,
                disk: self.default_disk,
                image: self.default_image,
            },
            overcommit: Overcommit {
                cpu_permille: self.overcommit_cpu.permille().into(),
                memory_permille: self.overcommit_memory.permille().into(),
                disk_permille: self.overcommit_disk.permille().into(),
                max_containers_per_node: self.max_containers_per_node,
                headroom_memory: self.headroom_memory,
                headroom_disk: self.headroom_disk,
            },
            timings: Timings::default(),
            lifetimes: Lifetimes { grace: self.ttl_grace, ..Lifetimes::default() },
            faults: FaultPoints::default(),
        }
    }
}

/// At least a minute: a container that stops and goes at once cannot be saved by anybody.
fn grace(text: &str) -> Result<Duration, String> {
    let refuse = || format!("'{text}' is not a duration of a minute or more, such as 24h");
    humantime::parse_duration(text).ok().filter(|grace| grace.as_secs() >= 60).ok_or_else(refuse)
}

fn memory(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: containarium_proto::sizes::SizeError| e.to_string())?;
    bytes.as_memory().map_err(|e| e.to_string())
}

fn disk(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: containarium_proto::sizes::SizeError| e.to_string())?;
    bytes.as_disk().map_err(|e| e.to_string())
}

fn headroom(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: containarium_proto::sizes::SizeError| e.to_string())?;
    bytes.as_headroom().map_err(|e| e.to_string())
}

fn most(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST_CONTAINERS).contains(count));
    count.ok_or_else(|| format!("not a number from 1 to {MOST_CONTAINERS}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Config, String> {
        let words = ["containarium-coordinator"].into_iter().chain(line.split_whitespace());
        Args::try_parse_from(words).map(Args::into_config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_may_be_promised_of_a_node_is_set_for_the_fleet() {
        let line = "--overcommit-cpu 2.5 --overcommit-memory 1 --overcommit-disk 1.25 --max-containers-per-node 9 \
                    --headroom-memory 2GiB --headroom-disk 0GB";
        let expected = Overcommit {
            cpu_permille: 2500,
            memory_permille: 1000,
            disk_permille: 1250,
            max_containers_per_node: 9,
            headroom_memory: Some(Bytes(2 << 30)),
            headroom_disk: Some(Bytes(0)),
        };
        assert_eq!(parse(line).unwrap().overcommit, expected);
    }

    #[test]
    fn what_no_node_bears_is_refused_by_name() {
        for bad in [
            "--overcommit-cpu 0.1",
            "--overcommit-memory much",
            "--overcommit-disk 101",
            "--max-containers-per-node 0",
            "--max-containers-per-node 65534",
            "--headroom-memory 8",
            "--headroom-disk 2000TiB",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(bad.split(' ').next().unwrap()), "{bad}: {error}");
        }
    }

    #[test]
    fn graces() {
        assert_eq!(grace("7days"), Ok(Duration::from_secs(7 * 86400)));
        for bad in ["", "24", "0s", "59s", "-1h", "soon"] {
            assert!(grace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_are_well_formed_and_default_to_the_defaults() {
        Args::command().debug_assert();
        let config = Args::parse_from(["containarium-coordinator"]).into_config();
        let defaults = Defaults::default();
        assert_eq!((config.defaults.cpu, config.defaults.memory), (defaults.cpu, defaults.memory));
        assert_eq!((config.defaults.disk, config.defaults.image), (defaults.disk, defaults.image));
        assert_eq!(config.overcommit, Overcommit::default());
        assert_eq!(config.lifetimes, Lifetimes::default());
    }
}
