//! `replicate` and `failover`: a second copy of a machine on another server.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use containarium_proto::{
    lifetime::{Bounds, REPLICATION},
    names::{NodeName, Username},
};

use super::user;

/// How short it may be is for the fleet to say: its operator may have set it.
const ANY: Bounds = Bounds { least: Duration::from_secs(1), ..REPLICATION };

pub(super) fn every(text: &str) -> Result<Duration, String> {
    ANY.parse(text).map_err(|error| error.to_string())
}

/// Whether a second copy of a machine is kept.
#[derive(Debug, Subcommand)]
pub enum Replicate {
    /// Keep a copy on another server from now on, refreshed again and again.
    On {
        /// User name; alice-container is understood too.
        #[arg(value_parser = user)]
        user: Username,
        /// Refresh it so often: what is younger is lost in a failover.
        #[arg(long, value_parser = every, value_name = "DURATION", default_value = "15m")]
        every: Duration,
        /// Keep it on this server, and no other.
        #[arg(long, value_name = "SERVER")]
        to: Option<NodeName>,
    },
    /// Keep no copy any more; the one that there is is destroyed.
    Off {
        /// User name; alice-container is understood too.
        #[arg(value_parser = user)]
        user: Username,
    },
}

/// Have a machine's replica take over, when its server is gone.
#[derive(Debug, ClapArgs)]
pub struct Failover {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
    /// Destroy what an earlier failover has left on the machine's old server.
    #[arg(long)]
    pub discard_old: bool,
}
