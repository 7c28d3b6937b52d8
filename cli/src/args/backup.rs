//! `backup ...`

use std::str::FromStr;

use clap::{Args as ClapArgs, Subcommand};
use containarium_proto::{
    backup::BackupId,
    names::{NodeName, Username},
};

use super::{User, user};

/// Backups.
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Write a machine, as it is at this moment, to the fleet's place for backups. It goes on running.
    Create(User),
    /// Backups that are whole, also of users who have no machine any more.
    #[command(visible_alias = "ls")]
    List {
        /// Only this user's.
        #[arg(value_parser = user)]
        user: Option<Username>,
    },
    /// Read a backup to its end and compare it with its checksum.
    Verify {
        /// User name; alice-container is understood too.
        #[arg(value_parser = user)]
        user: Username,
        /// As 'backup list' prints it, or newest.
        #[arg(default_value = "newest")]
        id: Which,
    },
    /// Make a machine what it was; for a user who has none, make it anew.
    Restore(Restore),
    /// Remove a backup for good.
    Delete(BackupDelete),
}

/// One backup.
#[derive(Debug, ClapArgs)]
pub struct One {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// As 'backup list' prints it, such as 20261124-145205.
    pub id: BackupId,
}

/// Remove a backup.
#[derive(Debug, ClapArgs)]
pub struct BackupDelete {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
}

/// Restore a backup.
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// As 'backup list' prints it, or newest.
    #[arg(default_value = "newest")]
    pub id: Which,
    /// On this server; without it, where the machine is, or, if it is nowhere, on the best one.
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeName>,
    /// Do not ask before what is in the machine now is replaced.
    #[arg(long)]
    pub force: bool,
    /// For a user who has no machine: let in these keys, in place of those of the backup. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Vec<String>,
}

impl Which {
    /// As the coordinator is told.
    #[must_use]
    pub fn wire(&self) -> String {
        match self {
            Self::Newest => String::new(),
            Self::Id(id) => id.to_string(),
        }
    }
}

/// Which of a user's backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The last one that is whole.
    Newest,
    /// This one.
    Id(BackupId),
}

impl FromStr for Which {
    type Err = containarium_proto::backup::BackupIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "newest" { Ok(Self::Newest) } else { text.parse().map(Self::Id) }
    }
}
