//! `ssh` and `ssh-config`, as data.

use std::ffi::OsString;

use clap::{Args as ClapArgs, Subcommand};
use containarium_proto::names::Username;

use super::user;

/// The configuration of OpenSSH's client.
#[derive(Debug, Subcommand)]
pub enum SshConfig {
    /// Write ~/.ssh/containarium/config for all machines, and have ~/.ssh/config include it.
    Sync(Sync),
}

/// Write one file for all machines.
#[derive(Debug, ClapArgs)]
pub struct Sync {
    /// Only of this user. May be given several times.
    #[arg(long, value_parser = user)]
    pub user: Vec<Username>,
    /// The private key.
    #[arg(long, default_value = "~/.ssh/id_ed25519", value_name = "FILE")]
    pub key: String,
    /// Address of the balancer or a server; without it, the fleet's own.
    #[arg(long, value_name = "HOST")]
    pub jump_ip: Option<String>,
    /// Add the Include line to ~/.ssh/config without asking.
    #[arg(long)]
    pub include: bool,
    /// Leave ~/.ssh/config alone.
    #[arg(long, conflicts_with = "include")]
    pub no_include: bool,
}

/// Log in to a machine.
#[derive(Debug, ClapArgs)]
pub struct Ssh {
    /// The private key; without it, that of the last 'ssh-config sync', else ~/.ssh/id_ed25519.
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// Address of the balancer or a server; without it, the fleet's own.
    #[arg(long, value_name = "HOST")]
    pub jump_ip: Option<String>,
    /// User name, then whatever ssh takes: options, --, a command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["USER", "SSH_ARGS"])]
    pub target: Vec<OsString>,
}

impl Ssh {
    /// Who, and what ssh is told beside.
    ///
    /// # Errors
    /// Not a user name.
    pub fn split(&self) -> Result<(Username, &[OsString]), String> {
        let (first, rest) = self.target.split_first().ok_or("whose machine? give a user name")?;
        let name = first.to_str().ok_or("the user name is not text")?;
        Ok((user(name)?, rest))
    }
}

impl Sync {
    /// Whether to ask, if nothing was said.
    #[must_use]
    pub fn is_decided(&self) -> Option<bool> {
        if self.include { Some(true) } else { self.no_include.then_some(false) }
    }
}

/// The keys that sign host certificates.
#[derive(Debug, Subcommand)]
pub enum SshCa {
    /// The key that signs, the one that will, and the one that did: ssh trusts all three.
    List,
    /// Make the next key. Nothing is signed with it before 'use'.
    Prepare,
    /// Sign with the next key from now on, when everybody trusts it: after an export or 'ssh-config sync'.
    Use {
        /// SHA256:..., as 'list' prints it.
        fingerprint: String,
    },
    /// Trust the last key no more, or give up the next one.
    Forget {
        /// SHA256:..., as 'list' prints it.
        fingerprint: String,
        /// Also while servers show certificates of it, or do not answer: ssh refuses those until they have another.
        #[arg(long)]
        force: bool,
    },
}
