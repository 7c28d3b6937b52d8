//! Flags and their environment variables, as a [`Config`]. Nothing is opened or checked beyond its form here.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use containarium_proto::{cpu::Cpu, sizes::Bytes, telemetry::LogFormat};

use crate::config::{Config, Defaults, Overcommit, Timings};

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
    /// CPUs promised per CPU there is.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_CPU_OVERCOMMIT", default_value = "4", value_parser = permille)]
    cpu_overcommit: u64,
    /// Memory promised per memory there is.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_MEMORY_OVERCOMMIT", default_value = "1.5", value_parser = permille)]
    memory_overcommit: u64,
    /// Disk promised per disk there is.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DISK_OVERCOMMIT", default_value = "1", value_parser = permille)]
    disk_overcommit: u64,
    /// Most containers on one node.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_MAX_CONTAINERS_PER_NODE", default_value_t = 250)]
    max_containers_per_node: u32,
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
                cpu_permille: self.cpu_overcommit,
                memory_permille: self.memory_overcommit,
                disk_permille: self.disk_overcommit,
                max_containers_per_node: self.max_containers_per_node,
            },
            timings: Timings::default(),
        }
    }
}

fn memory(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: containarium_proto::sizes::SizeError| e.to_string())?;
    bytes.as_memory().map_err(|e| e.to_string())
}

fn disk(text: &str) -> Result<Bytes, String> {
    let bytes: Bytes = text.parse().map_err(|e: containarium_proto::sizes::SizeError| e.to_string())?;
    bytes.as_disk().map_err(|e| e.to_string())
}

/// `1.5` as 1500. At least what there is half of, at most a hundred times.
fn permille(text: &str) -> Result<u64, String> {
    let refuse = || format!("'{text}' is not a factor from 0.5 to 100, such as 1.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(refuse());
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u64>().map_err(|_| refuse())?;
    if (500..=100_000).contains(&thousandths) { Ok(thousandths) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn factors() {
        assert_eq!(permille("4"), Ok(4000));
        assert_eq!(permille("1.5"), Ok(1500));
        for bad in ["", "0", "0.4", "101", "1.", ".5", "-1", "1e3", "1.2345"] {
            assert!(permille(bad).is_err(), "{bad}");
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
    }
}
