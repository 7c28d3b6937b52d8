//! `snapshot ...`, and the schedules that `create` and `set` take.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use containarium_proto::{
    names::Username,
    snapshots::{Every, Keep, ScheduleChange, SnapshotName},
};

use super::{User, user};

/// Snapshots.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Keep a machine's disk as it is now.
    Create {
        /// User name; alice-container is understood too.
        #[arg(value_parser = user)]
        user: Username,
        /// Its name; without it, one is made up.
        #[arg(value_parser = given)]
        name: Option<SnapshotName>,
    },
    /// All snapshots of a machine, the oldest first.
    #[command(visible_alias = "ls")]
    List(User),
    /// Bring a machine's disk back to a snapshot: what came since is lost.
    Restore(SnapshotRestore),
    /// Remove a snapshot; the machine stays as it is.
    Delete {
        /// User name; alice-container is understood too.
        #[arg(value_parser = user)]
        user: Username,
        /// As `snapshot list` prints it.
        name: SnapshotName,
    },
}

/// Bring a machine's disk back.
#[derive(Debug, ClapArgs)]
pub struct SnapshotRestore {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// As `snapshot list` prints it.
    pub name: SnapshotName,
    /// Make a snapshot of how it is now before.
    #[arg(long)]
    pub snapshot_first: bool,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
}

fn given(text: &str) -> Result<SnapshotName, String> {
    SnapshotName::given(text).map_err(|error| error.to_string())
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotEvery {
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Never; those that there are stay.
    Off,
}

/// What `--snapshots` and `--keep` mean together.
#[must_use]
pub fn schedule_change(every: Option<SnapshotEvery>, keep: Option<Keep>) -> ScheduleChange {
    let every = every.map(|every| match every {
        SnapshotEvery::Hourly => Some(Every::Hour),
        SnapshotEvery::Daily => Some(Every::Day),
        SnapshotEvery::Weekly => Some(Every::Week),
        SnapshotEvery::Off => None,
    });
    ScheduleChange { every, keep }
}
