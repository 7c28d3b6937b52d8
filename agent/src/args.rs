//! The command line of `containarium-agent`.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use containarium_proto::{names::NodeName, telemetry::LogFormat};
use ipnet::Ipv4Net;

use crate::{
    Config, Timings,
    host::linux::{LinuxConfig, SshLog},
};

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
    /// Where backups are kept: file:///FOLDER, which every node must share, or gs://BUCKET/PREFIX, with the credentials of
    /// this machine's service account or of the file that GOOGLE_APPLICATION_CREDENTIALS names.
    #[arg(long, env = "CONTAINARIUM_AGENT_BACKUP_STORE", value_name = "URL")]
    pub backup_store: Option<String>,
    /// Where load balancers ask for /healthz: 200 when new sessions should come this way; off: nowhere.
    #[arg(long, env = "CONTAINARIUM_AGENT_HEALTH_LISTEN", default_value = "0.0.0.0:7445", value_parser = or_off)]
    pub health_listen: Listen,
    /// User ids for the proxy accounts; nothing else on this node may use them.
    #[arg(long, env = "CONTAINARIUM_AGENT_UID_RANGE", default_value = "20000-59999", value_parser = uid_range)]
    pub uid_range: UidRange,
    /// Where this node's own sshd answers.
    #[arg(long, env = "CONTAINARIUM_AGENT_SSHD", default_value = "127.0.0.1:22")]
    pub sshd: SocketAddr,
    /// Where sshd writes: journal, or the file of a syslog daemon such as /var/log/auth.log.
    #[arg(long, env = "CONTAINARIUM_AGENT_SSH_LOG", value_name = "journal|FILE", value_parser = ssh_log,
          default_value = "journal")]
    pub ssh_log: SshLog,
    /// Where fail2ban writes what it did.
    #[arg(long, env = "CONTAINARIUM_AGENT_FAIL2BAN_LOG", default_value = "/var/log/fail2ban.log")]
    pub fail2ban_log: PathBuf,
    /// Where fail2ban is asked.
    #[arg(long, env = "CONTAINARIUM_AGENT_FAIL2BAN_SOCKET", default_value = "/run/fail2ban/fail2ban.sock")]
    pub fail2ban_socket: PathBuf,
    /// File whose text is new at every start of the machine.
    #[arg(long, env = "CONTAINARIUM_AGENT_BOOT_ID_FILE", default_value = "/proc/sys/kernel/random/boot_id")]
    pub boot_id_file: PathBuf,
    /// Between looks at whether the containers are in use, for those that stop when they are not.
    #[arg(long, env = "CONTAINARIUM_AGENT_ACTIVITY_EVERY", default_value = "60s", value_parser = seconds)]
    pub activity_every: Duration,
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

fn ssh_log(text: &str) -> Result<SshLog, String> {
    match text {
        "journal" => Ok(SshLog::Journal),
        path if path.starts_with('/') => Ok(SshLog::File(path.into())),
        _ => Err("neither 'journal' nor the full path of a file".to_owned()),
    }
}

impl Args {
    /// As the values that `run` takes.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            node: self.node.clone(),
            listen: self.listen,
            health: self.health_listen.0,
            certs_dir: self.certs_dir.clone(),
            state_dir: self.state_dir.clone(),
            boot_id_file: self.boot_id_file.clone(),
            metadata_server: self.metadata_server.clone(),
            backup_store: self.backup_store.clone(),
            timings: Timings { activity_every: self.activity_every, ..Timings::default() },
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
            uids: self.uid_range.0.clone(),
            sshd: self.sshd,
            ssh_log: self.ssh_log.clone(),
            fail2ban_log: self.fail2ban_log.clone(),
            fail2ban_socket: self.fail2ban_socket.clone(),
        }
    }
}

/// Whole seconds, such as 60s: at least one, at most an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let good = number.filter(|seconds| (1..=3600).contains(seconds)).map(Duration::from_secs);
    good.ok_or_else(|| format!("'{text}' is not a number of seconds from 1s to 3600s"))
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(Option<SocketAddr>);

fn or_off(text: &str) -> Result<Listen, String> {
    match text {
        "off" => Ok(Listen(None)),
        text => {
            text.parse().map(|address| Listen(Some(address))).map_err(|e| format!("{e}: give ADDRESS:PORT, or off"))
        }
    }
}

/// First and last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UidRange(RangeInclusive<u32>);

/// Below 1000 are the system's own, from 65534 on nobody's, and what is no number at all.
fn uid_range(text: &str) -> Result<UidRange, String> {
    let refuse = || format!("'{text}' is no range of user ids from 1000 to 65533, such as 20000-59999");
    let (first, last) = text.split_once('-').ok_or_else(refuse)?;
    let (first, last): (u32, u32) = first.parse().ok().zip(last.parse().ok()).ok_or_else(refuse)?;
    if first < 1000 || last > 65_533 || first > last {
        return Err(refuse());
    }
    Ok(UidRange(first..=last))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn ranges_and_ports_are_read_or_refused_with_an_example() {
        Args::command().debug_assert();
        assert_eq!(uid_range("30000-30010"), Ok(UidRange(30_000..=30_010)));
        for bad in ["", "20000", "0-100", "20000-70000", "3000-2000", "a-b"] {
            assert!(uid_range(bad).unwrap_err().contains("20000-59999"), "{bad}");
        }
        assert_eq!(or_off("off"), Ok(Listen(None)));
        assert!(or_off("7445").unwrap_err().contains("off"));
    }

    #[test]
    fn whole_seconds() {
        assert_eq!(seconds("60s"), Ok(Duration::from_secs(60)));
        for bad in ["", "60", "0s", "3601s", "1m", "-1s", "1.5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
