//! One release: its sources, its programs, and what they say that they can.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::contract::Contract;
use crate::lab::run;

/// One release.
#[derive(Debug)]
pub struct Release {
    /// For people.
    pub name: String,
    /// Its checkout.
    pub source: PathBuf,
    pub(super) contract: Contract,
    /// Which parts of an order its agent understands; 0: none of those that are counted.
    pub(super) level: u32,
    programs: PathBuf,
    agent_help: String,
    coordinator_help: String,
}

/// As its own source says: an agent does not tell before it runs.
fn level(source: &Path) -> Result<u32> {
    let file = source.join("proto/src/level.rs");
    if !file.exists() {
        return Ok(0);
    }
    let text = fs::read_to_string(file)?;
    let constant = text.lines().find_map(|line| line.strip_prefix("pub const LEVEL: u32 = ")?.strip_suffix(';'));
    Ok(constant.context("level.rs says which")?.parse()?)
}

impl Release {
    /// Of a checkout and the folder that its programs are in.
    ///
    /// # Errors
    /// The contract cannot be read, or a program does not start.
    pub fn new(name: &str, source: &Path, programs: &Path) -> Result<Self> {
        let contract = Contract::read(&source.join("proto/proto"))?;
        let mut release = Self {
            name: name.to_owned(),
            source: source.to_owned(),
            contract,
            level: level(source)?,
            programs: programs.to_owned(),
            agent_help: String::new(),
            coordinator_help: String::new(),
        };
        release.agent_help = release.help_of("containarium-agent")?;
        release.coordinator_help = release.help_of("containarium-coordinator")?;
        Ok(release)
    }

    fn help_of(&self, program: &str) -> Result<String> {
        let said = run(self.command(program).arg("--help"))?.ok().with_context(|| format!("{program} --help"))?;
        Ok(said.out)
    }

    pub(super) fn command(&self, program: &str) -> Command {
        Command::new(self.programs.join(program))
    }

    /// Whether its agent, or its coordinator, takes an option.
    pub(super) fn agent_takes(&self, option: &str) -> bool {
        self.agent_help.contains(option)
    }

    pub(super) fn coordinator_takes(&self, option: &str) -> bool {
        self.coordinator_help.contains(option)
    }

    /// Whether its CLI knows a command such as `snapshot create`.
    pub(super) fn cli_knows(&self, words: &[&str]) -> Result<bool> {
        Ok(run(self.command("containarium").arg("help").args(words))?.code == 0)
    }
}
