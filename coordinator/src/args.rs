//! Flags and their environment variables, as a [`Config`]. Nothing is opened but the file with the database's address,
//! and nothing checked beyond its form.

mod ha;

use std::{ffi::OsStr, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use clap::{
    Arg, CommandFactory, FromArgMatches, Parser, Subcommand, builder::TypedValueParser, error::ErrorKind,
    parser::ValueSource,
};
use containarium_proto::{
    cpu::Cpu,
    factor::Factor,
    lifetime::{Bounds, IDLE_STOP, REPLICATION, TTL},
    sizes::Bytes,
    telemetry::LogFormat,
};

use ipnet::Ipv4Net;

use crate::{
    config::{Config, Defaults, Lifetimes, Limits, MOST_CONTAINERS, Overcommit, Timings},
    database::{DatabaseUrl, DatabaseUrlError},
    faults::FaultPoints,
};

/// Coordinator of a containarium fleet: places containers on jump servers and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "containarium-coordinator", version = containarium_proto::VERSION)]
pub struct Args {
    /// Without it: run.
    #[command(subcommand)]
    pub command: Option<Command>,
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
    /// Another database than the one in the state folder: postgres://USER@HOST/DATABASE?sslmode=verify-full or
    /// sqlite://PATH?mode=rwc. A password belongs into --database-file, the variable or ~/.pgpass.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DATABASE", hide_env_values = true, value_parser = DatabaseParser)]
    database: Option<DatabaseUrl>,
    /// File that holds such an address, with its password, readable by nobody else.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_DATABASE_FILE", conflicts_with = "database", value_name = "FILE",
          value_parser = database_file)]
    database_file: Option<DatabaseUrl>,
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
    #[command(flatten)]
    ha: ha::HaArgs,
    /// How long an hour of a schedule of snapshots lasts: to see one work without waiting for it.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_SNAPSHOT_HOUR", default_value = "1h", hide = true,
          value_parser = humantime::parse_duration)]
    snapshot_hour: Duration,
    /// The shortest time to live that a container may get.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_SHORTEST_TTL", default_value = "5m", value_parser = shortest)]
    shortest_ttl: Duration,
    /// The shortest idle stop that a container may get. Use is looked at once a minute, by default.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_SHORTEST_IDLE_STOP", default_value = "30m", value_parser = shortest)]
    shortest_idle_stop: Duration,
    /// The shortest time between two passes of a replica.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_SHORTEST_REPLICATION", default_value = "1m", value_parser = shortest)]
    shortest_replication: Duration,
    /// Between looks at containers that end or stop by themselves.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_LIFETIMES_EVERY", default_value = "30s", value_parser = shortest)]
    lifetimes_every: Duration,
    /// Networks that no container may reach, besides the nodes, whoever leads the fleet and 169.254.0.0/16: other
    /// coordinators, their database.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_CLOSED_NETWORK", value_delimiter = ',', value_name = "CIDR")]
    closed_network: Vec<Ipv4Net>,
    /// How long it is kept who logged in, who tried and who was banned.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_AUDIT_RETENTION", default_value = "90days", value_parser = retention)]
    audit_retention: Duration,
    /// text or json
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// What to do beside running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the fleet's state to a file, also while a coordinator runs.
    Backup {
        /// Replaced if it exists.
        file: PathBuf,
    },
    /// Replace the database's content by a backup. Stop the coordinator first; on a shared database another may go on.
    Restore {
        /// As `backup` writes it.
        file: PathBuf,
        /// Also over a fleet that is there.
        #[arg(long)]
        force: bool,
    },
}

impl Args {
    /// This process' own. A password on the command line can be read by everybody on the machine: it is refused.
    ///
    /// # Errors
    /// As clap says it; also what `--help` prints.
    pub fn from_command_line() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let given = matches.value_source("database") == Some(ValueSource::CommandLine);
        let args = Self::from_arg_matches(&matches)?;
        if given && args.database.as_ref().is_some_and(DatabaseUrl::has_password) {
            let why = "--database shows its password to everybody on this machine: put the address into a file for \
                       --database-file, or the password into ~/.pgpass";
            return Err(Self::command().error(ErrorKind::InvalidValue, why));
        }
        Ok(args)
    }

    /// The configuration they mean.
    #[must_use]
    pub fn into_config(self) -> Config {
        Config {
            listen: self.listen,
            socket: self.socket,
            state_dir: self.state_dir,
            database: self.database.or(self.database_file),
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
            faults: FaultPoints::default(),
            ha: self.ha.into_config(),
            limits: Limits::default(),
            timings: Timings { lifetimes_every: self.lifetimes_every, ..Timings::default() },
            closed_networks: self.closed_network,
            lifetimes: Lifetimes {
                ttl: Bounds { least: self.shortest_ttl, ..TTL },
                idle_stop: Bounds { least: self.shortest_idle_stop, ..IDLE_STOP },
                replication: Bounds { least: self.shortest_replication, ..REPLICATION },
                grace: self.ttl_grace,
                ..Lifetimes::default()
            },
            snapshot_hour: self.snapshot_hour,
            audit_retention: self.audit_retention,
        }
    }
}

/// As the type parses, but what is wrong is not repeated: it may hold a password, and errors end in logs.
#[derive(Clone)]
struct DatabaseParser;

impl TypedValueParser for DatabaseParser {
    type Value = DatabaseUrl;

    fn parse_ref(&self, command: &clap::Command, _: Option<&Arg>, value: &OsStr) -> Result<DatabaseUrl, clap::Error> {
        let parsed = value.to_str().ok_or(DatabaseUrlError::Form).and_then(str::parse);
        let refuse = |error| command.clone().error(ErrorKind::InvalidValue, format!("--database: {error}"));
        parsed.map_err(refuse)
    }
}

fn database_file(path: &str) -> Result<DatabaseUrl, String> {
    let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let url: DatabaseUrl = text.parse().map_err(|error: DatabaseUrlError| error.to_string())?;
    if url.has_password() && mode & 0o077 != 0 {
        return Err(format!("others can read the password in it: chmod 600 {path}"));
    }
    Ok(url)
}

/// At least a minute: a container that stops and goes at once cannot be saved by anybody.
fn grace(text: &str) -> Result<Duration, String> {
    let refuse = || format!("'{text}' is not a duration of a minute or more, such as 24h");
    humantime::parse_duration(text).ok().filter(|grace| grace.as_secs() >= 60).ok_or_else(refuse)
}

/// A second to a day.
fn shortest(text: &str) -> Result<Duration, String> {
    let refuse = || format!("'{text}' is not a duration from 1s to 1d, such as 5m");
    humantime::parse_duration(text).ok().filter(|d| (1..=86_400).contains(&d.as_secs())).ok_or_else(refuse)
}

/// Less than a day answers no question; ten years stay within what a time can be.
fn retention(text: &str) -> Result<Duration, String> {
    let day = Duration::from_secs(86400);
    let refuse = || format!("'{text}' is not a duration from a day to ten years, such as 90days");
    humantime::parse_duration(text).ok().filter(|kept| (day..=day * 3660).contains(kept)).ok_or_else(refuse)
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
    fn a_database_comes_from_a_file_that_only_we_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        std::fs::write(&path, "postgres://fleet:hush@localhost/fleet\n").unwrap();
        let line = format!("--database-file {}", path.display());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(parse(&line).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(parse(&line).unwrap().database.unwrap().is_postgres());
        assert!(parse(&format!("{line} --database sqlite:///x")).is_err());
        let error = parse("--database postgres://fleet:hush@db.example/fleet").unwrap_err();
        assert!(error.contains("sslmode") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn graces() {
        assert_eq!(grace("7days"), Ok(Duration::from_secs(7 * 86400)));
        for bad in ["", "24", "0s", "59s", "-1h", "soon"] {
            assert!(grace(bad).is_err(), "{bad}");
        }
        assert_eq!(shortest("1s"), Ok(Duration::from_secs(1)));
        for bad in ["", "0s", "999ms", "25h", "soon"] {
            assert!(shortest(bad).is_err(), "{bad}");
        }
        let config = parse("--shortest-ttl 10s --shortest-idle-stop 1m --lifetimes-every 2s").unwrap();
        let Lifetimes { ttl, idle_stop, .. } = config.lifetimes;
        assert_eq!((ttl.least.as_secs(), idle_stop.least.as_secs()), (10, 60));
        assert_eq!(config.timings.lifetimes_every.as_secs(), 2);
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
        assert_eq!(config.audit_retention, Duration::from_secs(90 * 86400));
        for bad in ["1h", "soon", "11years", ""] {
            assert!(retention(bad).is_err(), "{bad}");
        }
    }
}
