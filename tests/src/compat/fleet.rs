//! A small fleet of real processes, each of one release or the other: a coordinator on SQLite or Postgres, and agents on
//! simulated hosts. Stopped as systemd does it, by SIGTERM; what does not end in time is a failure.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Release;
use crate::lab::{Said, eventually, run};

/// As the units of deploy/systemd give: after it systemd kills.
const STOP: Duration = Duration::from_secs(15);
/// Much longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, what: String, log: &Path) -> Result<Self> {
        let said = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn();
        Ok(Self { child: child.with_context(|| format!("starting {what}"))?, what, log: log.to_owned() })
    }

    /// How it ended, once it has.
    pub(super) fn ended(&mut self) -> Result<ExitStatus> {
        eventually(&format!("{} ends", self.what), STOP, || Ok(self.child.try_wait()?))
    }

    pub(super) fn stop(mut self) -> Result<()> {
        run(Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]))?.ok()?;
        let ended = self.ended()?;
        ensure!(ended.success(), "{} ended with {ended} when asked to stop:\n{}", self.what, self.said());
        Ok(())
    }

    /// The end of its log.
    pub(super) fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().and_then(|()| self.child.wait()).map(drop).unwrap_or_default();
        }
    }
}

/// The fleet. Dropping it ends it.
pub(super) struct Fleet {
    dir: tempfile::TempDir,
    pub(super) server: SocketAddr,
    coordinator: Option<Process>,
    agents: BTreeMap<String, (SocketAddr, Option<Process>)>,
    /// Beside SQLite.
    pub(super) database: Option<String>,
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Fleet {
    /// Certificates by this release, and nothing that runs.
    pub(super) fn new(certified_by: &Release, nodes: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut generate = certified_by.command("containarium");
        generate.args(["cert", "generate", "--server-ip", "127.0.0.1"]);
        for node in nodes {
            generate.args(["--node", node]);
        }
        run(generate.arg("--output-dir").arg(dir.path().join("certs")))?.ok()?;
        for user in ["first", "second"] {
            let key = dir.path().join(user);
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", user, "-f"]).arg(&key))?
                .ok()?;
        }
        let address = |node: &&str| Ok((node.to_string(), (free_address()?, None)));
        let agents = nodes.iter().map(address).collect::<Result<_>>()?;
        Ok(Self { dir, server: free_address()?, coordinator: None, agents, database: None })
    }

    pub(super) fn key(&self, which: &str) -> String {
        self.dir.path().join(which).with_extension("pub").display().to_string()
    }

    /// Starts a coordinator and waits until it answers, or until it has ended.
    pub(super) fn coordinator(&mut self, release: &Release) -> Result<()> {
        let mut process = self.launch(release, self.server, "coordinator")?;
        let answers = || match process.child.try_wait()? {
            Some(ended) => bail!("the coordinator of {} ended with {ended}:\n{}", release.name, process.said()),
            None => Ok((self.cli(release, &["list"])?.code == 0).then_some(())),
        };
        let up = eventually("the coordinator answers", PATIENCE, answers);
        up.with_context(|| format!("the coordinator of {}", release.name))?;
        self.coordinator = Some(process);
        Ok(())
    }

    /// Starts one beside whatever runs. `state`: its folder.
    pub(super) fn launch(&self, release: &Release, listen: SocketAddr, state: &str) -> Result<Process> {
        let mut command = release.command("containarium-coordinator");
        command.args(["--listen", &listen.to_string(), "--state-dir"]).arg(self.dir.path().join(state));
        command.arg("--certs-dir").arg(self.dir.path().join("certs"));
        if let Some(database) = &self.database {
            command.env("CONTAINARIUM_COORDINATOR_DATABASE", database);
        }
        let log = self.dir.path().join(format!("{state}.log"));
        Process::start(command, format!("the coordinator of {}", release.name), &log)
    }

    pub(super) fn free_address(&self) -> Result<SocketAddr> {
        free_address()
    }

    pub(super) fn adopt(&mut self, coordinator: Process, server: SocketAddr) -> Option<Process> {
        self.server = server;
        self.coordinator.replace(coordinator)
    }

    pub(super) fn stop_coordinator(&mut self) -> Result<()> {
        self.coordinator.take().context("a coordinator runs")?.stop()
    }

    /// Starts an agent on the state of the one before it, stopped here if it runs.
    pub(super) fn agent(&mut self, node: &str, release: &Release) -> Result<()> {
        let certs = self.dir.path().join("certs");
        let state = self.dir.path().join(node);
        let log = self.dir.path().join(format!("{node}.log"));
        let (address, running) = self.agents.get_mut(node).context("a node of ours")?;
        if let Some(before) = running.take() {
            before.stop()?;
        }
        let number = node.trim_start_matches("jump-");
        let mut command = release.command("containarium-agent");
        command.args(["--node", node, "--listen", &address.to_string(), "--host", "sim"]);
        command.args(["--sim-cidr", &format!("10.100.{number}.0/24")]);
        command.arg("--certs-dir").arg(certs).arg("--state-dir").arg(state);
        if release.agent_takes("--health-listen") {
            command.args(["--health-listen", "off"]);
        }
        *running = Some(Process::start(command, format!("the agent of {node}"), &log)?);
        Ok(())
    }

    pub(super) fn address_of(&self, node: &str) -> Result<SocketAddr> {
        Ok(self.agents.get(node).context("a node of ours")?.0)
    }

    /// `containarium ARGS` of a release, which answers within its patience or fails.
    pub(super) fn cli(&self, release: &Release, args: &[&str]) -> Result<Said> {
        let mut command = release.command("containarium");
        command.args(["--server", &format!("https://{}", self.server), "--certs-dir"]);
        command.arg(self.dir.path().join("certs")).args(["--timeout", "60s"]);
        run(command.args(args).env("HOME", self.dir.path()))
    }

    /// One container of the list.
    pub(super) fn container(&self, release: &Release, user: &str) -> Result<Option<Value>> {
        let list = self.cli(release, &["list", "-o", "json"])?.json()?;
        let found = list["containers"].as_array().context("containers")?.iter().find(|c| c["user"] == user);
        Ok(found.cloned())
    }

    /// Waits until a node is as told.
    pub(super) fn until_node(&self, release: &Release, node: &str, availability: &str) -> Result<()> {
        eventually(&format!("{node} is {availability}"), PATIENCE, || {
            let nodes = self.cli(release, &["node", "list", "-o", "json"])?.json()?;
            let found = nodes["nodes"].as_array().context("nodes")?.iter().find(|n| n["name"] == node);
            Ok(found.is_some_and(|n| n["availability"] == availability).then_some(()))
        })
    }

    /// What everybody said last, for a failure.
    pub(super) fn logs(&self) -> String {
        let all = self.coordinator.iter().chain(self.agents.values().filter_map(|(_, agent)| agent.as_ref()));
        all.map(|process| format!("--- {}\n{}\n", process.what, process.said())).collect()
    }
}
