//! The options of `top`, and which commands go on: views of a fleet, not changes of it.

use clap::ValueEnum;
use containarium_proto::names::NodeName;

use super::{Args, Command, Events, List};

impl Args {
    /// Whether the command goes on until it is interrupted; `--timeout` is then how long, not how long at most.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        matches!(
            &self.command,
            Command::List(List { watch: true, .. })
                | Command::Events(Events { follow: true, .. })
                | Command::Top(Top { watch: true, .. })
        )
    }
}

/// What machines use.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Only on this server. May be given several times.
    #[arg(long, value_name = "NAME")]
    pub node: Vec<NodeName>,
    /// What comes first: the largest, or the first of the alphabet.
    #[arg(long, value_enum, default_value = "cpu")]
    pub sort: TopSort,
    /// Go on, every two seconds, until Ctrl-C or --timeout.
    #[arg(short, long)]
    pub watch: bool,
}

/// An order of what machines use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TopSort {
    /// The largest share of CPU time first.
    #[default]
    Cpu,
    /// The largest use of memory first.
    Memory,
    /// The largest use of disk first.
    Disk,
    /// By name.
    User,
}
