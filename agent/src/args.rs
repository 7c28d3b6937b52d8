//! The command line of `containarium-agent`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};
use containarium_proto::{names::NodeName, telemetry::LogFormat};
use ipnet::Ipv4Net;

use crate::{Config, Timings, host::linux::LinuxConfig};

/// Which host the agent drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// This machine: Incus, its accounts, its sshd.
    Linux,
    /// A memory of one, to try a fleet on a laptop. Nothing is real.
    Sim,
}

/// Owns this jump server's containers and proxy accounts on behalf of a coordinator.
#[derive(Debug, Parser)]
#[command(name = "containarium-agent", version)]
pub struct Args {
    /// This node's name, as in its certificate agent-NAME.crt.
    #[arg(long, env = "CONTAINARIUM_AGENT_NODE")]
    pub node: NodeName,
    /// Address and port that the coordinator dials.
    #[arg(long, env = "CONTAINARIUM_AGENT_LISTEN", default_value = "0.0.0.0:7444")]
    pub listen: SocketAddr,
    /// Folder with ca.crt and this node's certificate and key.
    #[arg(long, env = "CONTAINARIUM_AGENT_CERTS_DIR", default_value = "/etc/containarium/certs")]
    pub certs_dir: PathBuf,
    /// Folder for the one small file that the agent keeps.
    #[arg(long, env = "CONTAINARIUM_AGENT_STATE_DIR", default_value = "/var/lib/containarium/agent")]
    pub state_dir: PathBuf,
    /// What to drive.
    #[arg(long, env = "CONTAINARIUM_AGENT_HOST", value_enum, default_value = "linux")]
    pub host: HostKind,
    /// Incus' unix socket.
    #[arg(long, env = "CONTAINARIUM_AGENT_INCUS_SOCKET", default_value = "/var/lib/incus/unix.socket")]
    pub incus_socket: PathBuf,
    /// Incus storage pool for the containers.
    #[arg(long, env = "CONTAINARIUM_AGENT_STORAGE_POOL", default_value = "default")]
    pub storage_pool: String,
    /// Incus bridge for the containers; its ipv4.address is this node's container network.
    #[arg(long, env = "CONTAINARIUM_AGENT_NETWORK", default_value = "incusbr0")]
    pub network: String,
    /// Folder with golden images, as deploy/image/bake writes it; each is imported once.
    #[arg(long, env = "CONTAINARIUM_AGENT_IMAGE_DIR")]
    pub image_dir: Option<PathBuf>,
    /// Where Incus listens for other nodes when containers are moved, as its core.https_address; kept if it has one.
    /// Without it: port 8443 of the address in --listen.
    #[arg(long, env = "CONTAINARIUM_AGENT_COPY_LISTEN")]
    pub copy_listen: Option<SocketAddr>,
    /// File whose text is new at every start of the machine.
    #[arg(long, env = "CONTAINARIUM_AGENT_BOOT_ID_FILE", default_value = "/proc/sys/kernel/random/boot_id")]
    pub boot_id_file: PathBuf,
    /// On a spot machine: its cloud's metadata server (http://169.254.169.254 on Google Compute Engine). When that says
    /// that the machine is about to be taken away, the containers are stopped cleanly.
    #[arg(long, env = "CONTAINARIUM_AGENT_METADATA_SERVER")]
    pub metadata_server: Option<String>,
    /// With --host sim: the container network to pretend.
    #[arg(long, env = "CONTAINARIUM_AGENT_SIM_CIDR", default_value = "10.100.1.0/24")]
    pub sim_cidr: Ipv4Net,
    /// text or json.
    #[arg(long, env = "CONTAINARIUM_AGENT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl Args {
    /// As the values that `run` takes.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            node: self.node.clone(),
            listen: self.listen,
            certs_dir: self.certs_dir.clone(),
            state_dir: self.state_dir.clone(),
            boot_id_file: self.boot_id_file.clone(),
            metadata_server: self.metadata_server.clone(),
            timings: Timings::default(),
        }
    }

    /// As the values that the real host takes.
    #[must_use]
    pub fn linux(&self) -> LinuxConfig {
        LinuxConfig {
            incus_socket: self.incus_socket.clone(),
            storage_pool: self.storage_pool.clone(),
            network: self.network.clone(),
            image_dir: self.image_dir.clone(),
            copy_listen: self.copy_listen.unwrap_or(SocketAddr::new(self.listen.ip(), 8443)).to_string(),
        }
    }
}
