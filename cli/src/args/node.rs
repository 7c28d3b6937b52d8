//! What an operator says of one server, as data.

use clap::{Args as ClapArgs, Subcommand};
use containarium_proto::{
    factor::Factor,
    labels::{Label, LabelKey},
    names::NodeName,
    sizes::Bytes,
};

/// How far a server may be filled; what is not given stays.
#[derive(Debug, ClapArgs)]
pub struct NodeSet {
    /// Its name.
    pub name: NodeName,
    /// At least one of them.
    #[command(flatten)]
    pub values: Values,
}

/// A server's own values. A struct of their own: the name is none of the group.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = true)]
pub struct Values {
    /// CPUs promised per CPU there is, such as 4 or 2.5.
    #[arg(long, value_name = "FACTOR")]
    pub overcommit_cpu: Option<Factor>,
    /// Memory promised per memory there is.
    #[arg(long, value_name = "FACTOR")]
    pub overcommit_memory: Option<Factor>,
    /// Disk promised per disk there is. Above 1, a pool that fills up stops every machine on it.
    #[arg(long, value_name = "FACTOR")]
    pub overcommit_disk: Option<Factor>,
    /// Most machines on it.
    #[arg(long, value_name = "COUNT")]
    pub max_containers: Option<u32>,
    /// Memory that it keeps for itself, such as 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = headroom)]
    pub headroom_memory: Option<Bytes>,
    /// Disk that it keeps for itself, such as 50GB.
    #[arg(long, value_name = "SIZE", value_parser = headroom)]
    pub headroom_disk: Option<Bytes>,
    /// Forget what was set for it: as the fleet's others, but for what is given beside this.
    #[arg(long)]
    pub reset: bool,
}

fn headroom(text: &str) -> Result<Bytes, String> {
    let size: Bytes = text.parse().map_err(|error| format!("{error}"))?;
    size.as_headroom().map_err(|error| error.to_string())
}

/// Labels of servers.
#[derive(Debug, Subcommand)]
pub enum NodeLabel {
    /// Give it labels; another value of a key takes the place of the old one.
    Set {
        /// Its name.
        name: NodeName,
        /// Such as gpu=true.
        #[arg(required = true, value_name = "KEY=VALUE")]
        label: Vec<Label>,
    },
    /// Take labels away; what runs there stays.
    Remove {
        /// Its name.
        name: NodeName,
        /// Such as gpu.
        #[arg(required = true, value_name = "KEY")]
        key: Vec<LabelKey>,
    },
    /// The labels of one server, or of all.
    List {
        /// Its name.
        name: Option<NodeName>,
    },
}
