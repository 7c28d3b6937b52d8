//! The command line, as data. Values are checked here, before anything is dialled.

mod adopt;
mod backup;
mod image;
mod lifetime;
mod node;
mod people;
mod replica;
mod snapshot;
mod ssh;
mod views;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use containarium_proto::{
    cpu::Cpu,
    labels::Label,
    names::{NodeName, Username},
    sizes::Bytes,
    snapshots::Keep,
};

pub use self::{
    adopt::Adopt,
    backup::{Backup, BackupDelete, One, Restore, Which},
    image::{Base, ImageBake, ImageImport},
    lifetime::{Allowed, Limit, Set, Switch},
    node::{NodeLabel, NodeSet},
    people::{Audit, Last, Security, Sessions, Share, ShareList, Unshare},
    replica::{Failover, Replicate},
    snapshot::{Snapshot, SnapshotEvery, SnapshotRestore, schedule_change},
    ssh::{Ssh, SshCa, SshConfig, Sync},
    views::{Top, TopSort},
};

/// A real Linux machine for every developer, on a few shared servers.
#[derive(Debug, Parser)]
#[command(name = "containarium", version, propagate_version = true)]
pub struct Args {
    /// What to talk to and how to print.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// The coordinator: https://HOST:PORT, or unix:///PATH for root on its own machine. Several, separated by commas: any
    /// of them that answers.
    #[arg(long, env = "CONTAINARIUM_SERVER", global = true)]
    pub server: Option<String>,
    /// Folder with ca.crt, client.crt and client.key.
    #[arg(long, env = "CONTAINARIUM_CERTS_DIR", global = true, value_name = "DIR")]
    pub certs_dir: Option<PathBuf>,
    /// How to print.
    #[arg(short = 'o', long, value_enum, default_value = "table", global = true)]
    pub format: Format,
    /// Give up after this long, such as 30s or 5m. What was begun goes on without us.
    #[arg(long, value_parser = humantime::parse_duration, global = true)]
    pub timeout: Option<Duration>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide terminals.
    Wide,
    /// For programs.
    Json,
    /// For programs.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a user's machine on the least-loaded server.
    Create(Create),
    /// All machines, or those that match.
    #[command(visible_alias = "ls")]
    List(List),
    /// One machine, with its latest events.
    Info(User),
    /// Destroy a machine with all its data.
    Delete(Delete),
    /// Refuse to delete a machine from now on.
    Protect(User),
    /// Let a machine be deleted again.
    Unprotect(User),
    /// Start a machine.
    Start(User),
    /// Stop a machine; its data stays.
    Stop(User),
    /// Stop and start a machine.
    Restart(User),
    /// Change a machine's limits while it runs.
    Resize(Resize),
    /// Write back what was changed on a machine behind the fleet's back.
    Repair(User),
    /// Move a machine to another server; it goes on running until the last moment.
    Move(Move),
    /// Keep a second copy of a machine on another server, or none.
    #[command(subcommand)]
    Replicate(Replicate),
    /// Have a machine's replica take over, when its server is gone.
    Failover(Failover),
    /// Change when a machine starts and stops by itself.
    Set(Set),
    /// A machine's disk as it was.
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Backups of machines.
    #[command(subcommand)]
    Backup(Backup),
    /// A user's ssh keys.
    #[command(subcommand)]
    Key(Key),
    /// Print what belongs into ~/.ssh/config.
    Export(Export),
    /// Log in to a machine with OpenSSH's own client.
    Ssh(Ssh),
    /// Keep ssh's configuration in step with the machines.
    #[command(subcommand)]
    SshConfig(SshConfig),
    /// The keys that ssh knows the fleet's servers and machines by.
    #[command(subcommand)]
    SshCa(SshCa),
    /// The servers of the fleet.
    #[command(subcommand)]
    Node(Node),
    /// Golden images, which machines are cloned from.
    #[command(subcommand)]
    Image(Image),
    /// Let another user into a machine, as themselves, or see who is let in.
    Share(Share),
    /// Let another user into a machine no more.
    Unshare(Unshare),
    /// Who is connected now.
    #[command(subcommand)]
    Sessions(Sessions),
    /// A user's latest logins.
    Last(Last),
    /// Who connected, who tried, who was banned: a line each, by time.
    Audit(Audit),
    /// Sessions, failures and bans at a glance.
    #[command(subcommand)]
    Security(Security),
    /// What happened lately.
    Events(Events),
    /// What machines use at this moment.
    Top(Top),
    /// Certificates of the fleet.
    #[command(subcommand)]
    Cert(Cert),
    /// Versions of this program and of the coordinator.
    Version,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// A user, by their name or their container's.
#[derive(Debug, ClapArgs)]
pub struct User {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
}

fn user(text: &str) -> Result<Username, String> {
    text.strip_suffix("-container").unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

/// Make a machine.
#[derive(Debug, ClapArgs)]
pub struct Create {
    /// User name: starts with a-z, then a-z, 0-9, '_' and '-', at most 32 characters.
    pub user: Username,
    /// File with public keys, one a line; - is standard input. May be given several times; all keys are kept.
    #[arg(long, required = true, value_name = "FILE")]
    pub ssh_key: Vec<String>,
    /// 4 (a count), 2-4 or 0,2-4 (these CPU ids), 1.5 or 250m (an amount of time).
    #[arg(long)]
    pub cpu: Option<Cpu>,
    /// Such as 4GiB or 4GB.
    #[arg(long, value_parser = memory)]
    pub memory: Option<Bytes>,
    /// Size of the root disk, such as 50GB.
    #[arg(long, value_parser = disk)]
    pub disk_quota: Option<Bytes>,
    /// Alias or fingerprint of a golden image.
    #[arg(long)]
    pub image: Option<String>,
    /// Do not start the machine when its server starts.
    #[arg(long)]
    pub no_autostart: bool,
    /// On this server, or not at all.
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Only on servers that carry this label. May be given several times; all must be carried.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<Label>,
    /// Show where it would go, and why; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Whether the machine starts when its server starts; on without it.
    #[arg(long, value_enum, conflicts_with = "no_autostart")]
    pub autostart: Option<Switch>,
    /// Stop the machine after this long, such as 8h or 30days, and delete it a grace later.
    #[arg(long, value_parser = lifetime::ttl, value_name = "DURATION")]
    pub ttl: Option<Duration>,
    /// Stop the machine after this long without an ssh session or use of CPU, such as 12h.
    #[arg(long, value_parser = lifetime::idle_stop, value_name = "DURATION")]
    pub idle_stop: Option<Duration>,
    /// Make a snapshot of the machine so often, while it runs.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub snapshots: Option<SnapshotEvery>,
    /// Keep so many of these, the newest; 7 without it.
    #[arg(long, requires = "snapshots", value_name = "N")]
    pub keep: Option<Keep>,
    /// Users whose machines may open connections to this one, such as bob,carol; wherever they live.
    #[arg(long, value_parser = user, value_delimiter = ',', value_name = "USER")]
    pub allow_from: Vec<Username>,
    /// Keep a copy of the machine on another server, refreshed so often; 15m without a value.
    #[arg(long, value_parser = replica::every, value_name = "DURATION", num_args = 0..=1, default_missing_value = "15m")]
    pub replicate: Option<Duration>,
}

fn memory(text: &str) -> Result<Bytes, String> {
    let size: Bytes = text.parse().map_err(|error| format!("{error}"))?;
    size.as_memory().map_err(|error| error.to_string())
}

fn disk(text: &str) -> Result<Bytes, String> {
    let size: Bytes = text.parse().map_err(|error| format!("{error}"))?;
    size.as_disk().map_err(|error| error.to_string())
}

/// Which machines, in which order.
#[derive(Debug, Default, ClapArgs)]
pub struct List {
    /// Only on this server. May be given several times.
    #[arg(long, value_name = "NAME")]
    pub node: Vec<NodeName>,
    /// Only in this state. May be given several times.
    #[arg(long, value_enum, ignore_case = true)]
    pub status: Vec<Status>,
    /// Only users whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub user: Option<String>,
    /// Only those that were made with this label. May be given several times; all must match.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<Label>,
    /// What comes first: the largest, the newest, or the first of the alphabet.
    #[arg(long, value_enum, default_value = "user")]
    pub sort: Sort,
    /// Show no more than the first N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Go on, showing every change, until Ctrl-C or --timeout.
    #[arg(short, long)]
    pub watch: bool,
}

/// A machine's state, as `list` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Not yet ready for the first time.
    Creating,
    /// Ssh works.
    Running,
    /// Not started.
    Stopped,
    /// A change is under way.
    Updating,
    /// Being destroyed.
    Deleting,
    /// Its server tried and failed.
    Failed,
    /// Its server does not answer.
    Unreachable,
    /// Its server holds nothing of it any more.
    Lost,
    /// Running or stopped, and changed behind the fleet's back.
    Drifted,
}

/// An order of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Sort {
    /// By name.
    #[default]
    User,
    /// By server, then by name.
    Node,
    /// By state, then by name.
    Status,
    /// The newest first.
    Age,
    /// The largest memory first.
    Memory,
    /// The largest disk first.
    Disk,
}

/// Destroy a machine.
#[derive(Debug, ClapArgs)]
pub struct Delete {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
    /// Stop it, write a backup and verify that first; delete it only then.
    #[arg(long)]
    pub backup: bool,
}

/// Change limits; what is not given stays.
#[derive(Debug, ClapArgs)]
#[group(id = "limits", required = true, multiple = true, args = ["cpu", "memory", "disk"])]
pub struct Resize {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// 4 (a count), 2-4 or 0,2-4 (these CPU ids), 1.5 or 250m (an amount of time).
    #[arg(long)]
    pub cpu: Option<Cpu>,
    /// Such as 4GiB or 4GB.
    #[arg(long, value_parser = memory)]
    pub memory: Option<Bytes>,
    /// Size of the root disk, such as 50GB; never below what is used.
    #[arg(long, alias = "disk-quota", value_parser = disk)]
    pub disk: Option<Bytes>,
    /// Lower memory also below what is in use: processes inside may be killed.
    #[arg(long)]
    pub force: bool,
    /// Show each step and the limits before and after.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Move a machine.
#[derive(Debug, ClapArgs)]
pub struct Move {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// To this server; without it, to the best one.
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeName>,
    /// Show where it would go, and why; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave it where it is after all.
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    pub cancel: bool,
}

/// Keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Let these keys in too.
    Add(KeyFiles),
    /// The keys that are let in.
    List(User),
    /// Let a key in no more; its open sessions are ended.
    Remove(KeyRemove),
    /// Let in these keys and no others.
    Replace(KeyFiles),
}

/// Keys from files.
#[derive(Debug, ClapArgs)]
pub struct KeyFiles {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// File with public keys, one a line; - is standard input. May be given several times.
    #[arg(long, required = true, value_name = "FILE")]
    pub ssh_key: Vec<String>,
}

/// Keys by fingerprint.
#[derive(Debug, ClapArgs)]
pub struct KeyRemove {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// SHA256:..., as 'key list' prints it.
    #[arg(required = true)]
    pub fingerprint: Vec<String>,
    /// Also the last key: nobody can log in then.
    #[arg(long)]
    pub force: bool,
}

/// Print an ssh configuration.
#[derive(Debug, ClapArgs)]
pub struct Export {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// Address of the balancer or a server; without it, the fleet's own.
    #[arg(long, value_name = "HOST")]
    pub jump_ip: Option<String>,
    /// The user's private key.
    #[arg(long, default_value = "~/.ssh/id_ed25519", value_name = "FILE")]
    pub key: String,
    /// Write to this file, mode 0600, in place of standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the fleet's key for host certificates is written, for ssh to know its hosts by; without it,
    /// ~/.ssh/containarium/known_hosts.
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
}

/// Servers.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// All servers.
    List,
    /// One server.
    Info {
        /// Its name.
        name: NodeName,
    },
    /// Make a server known; its agent must run there.
    Add {
        /// Its name, as in its certificate.
        name: NodeName,
        /// HOST:PORT of its agent.
        #[arg(long)]
        address: String,
    },
    /// Place nothing new on it.
    Cordon {
        /// Its name.
        name: NodeName,
    },
    /// Place on it again; ends a drain.
    Uncordon {
        /// Its name.
        name: NodeName,
    },
    /// Move every machine off it, and place nothing new on it. Goes on if this command is interrupted.
    Drain {
        /// Its name.
        name: NodeName,
        /// How many machines leave at a time.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
        parallel: u32,
    },
    /// Take it out of the fleet for good, once nothing lives there.
    Retire {
        /// Its name.
        name: NodeName,
        /// It will never come back: give up what lives there. Repeat its name to confirm.
        #[arg(long, value_name = "NAME")]
        lost: Option<NodeName>,
        /// Bring back what lived there: from its replica, or else from its newest backup.
        #[arg(long, requires = "lost")]
        restore: bool,
    },
    /// Take over what lives on a server and is not the fleet's, or show what could be.
    Adopt(Adopt),
    /// Let a server be filled otherwise than the fleet's others.
    Set(NodeSet),
    /// What can be asked for with 'create --label'.
    #[command(subcommand)]
    Label(NodeLabel),
}

/// Golden images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// All images, and which servers have each.
    List,
    /// Bring an image from its two files to a server; the others fetch it from there.
    Import(ImageImport),
    /// Make an image on this machine, from a distribution's packages. Needs root, Debian and one to two minutes.
    Bake(ImageBake),
    /// Give this image to creates that name none.
    Default {
        /// Alias or fingerprint.
        #[arg(required_unless_present = "reset")]
        image: Option<String>,
        /// Back to what the coordinator was started with.
        #[arg(long, conflicts_with = "image")]
        reset: bool,
    },
}

/// Events.
#[derive(Debug, ClapArgs)]
pub struct Events {
    /// Only of this container (alice-container) or server (jump-1).
    #[arg(long)]
    pub subject: Option<String>,
    /// At most so many, newest first.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
    /// Show these, the oldest first, and go on with each as it happens, until Ctrl-C or --timeout.
    #[arg(short, long)]
    pub follow: bool,
}

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Make a CA and certificates for the coordinator, the CLI and the servers; keep what is there.
    Generate(Generate),
}

/// Make certificates.
#[derive(Debug, ClapArgs)]
pub struct Generate {
    /// Address at which the CLI dials the coordinator. May be given several times.
    #[arg(long, required = true, value_name = "IP")]
    pub server_ip: Vec<IpAddr>,
    /// Host name at which the CLI dials the coordinator. May be given several times.
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// A server that gets a certificate. May be given several times.
    #[arg(long, value_name = "NAME")]
    pub node: Vec<NodeName>,
    /// Days of validity of all but the CA.
    #[arg(long, default_value_t = 365, allow_negative_numbers = true)]
    pub days: i64,
    /// Where they are written; made if missing.
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
}
