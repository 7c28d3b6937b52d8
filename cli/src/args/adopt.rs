//! `node adopt`, as data.

use clap::Args as ClapArgs;
use containarium_proto::names::{NodeName, Username};

/// Take over what lives on a server and is not the fleet's.
#[derive(Debug, ClapArgs)]
pub struct Adopt {
    /// The server's name.
    pub name: NodeName,
    /// This instance; without it, show what is there and what adopting it would do.
    /// One that the fleet has forgotten needs neither user nor keys: it has its own.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Whose machine it becomes.
    #[arg(long, value_name = "USER", requires_all = ["instance", "ssh_key"])]
    pub user: Option<Username>,
    /// File with public keys, one a line; - is standard input. May be given several times.
    #[arg(long, value_name = "FILE", requires_all = ["instance", "user"])]
    pub ssh_key: Vec<String>,
    /// Show what it would do; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long, requires = "instance", conflicts_with = "dry_run")]
    pub force: bool,
}
