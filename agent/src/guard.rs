//! Keeps what guards this node in place: the rules for what containers may reach, and sshd's for proxy accounts. Looks every
//! few seconds, puts back what somebody changed, and says so. It must never remove them: an agent that ends leaves them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use containarium_proto::policy::{GuardReport, NetworkPolicy};
use ipnet::Ipv4Net;
use tokio::sync::Mutex;

use crate::{
    config::Timings,
    error::AgentError,
    host::{Host, HostError, Kept, Network, PolicyRules},
    ledger::Ledger,
    standing::{Standing, Told},
};

/// The metadata server of every cloud lives there, and hands out the node's own credentials.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
/// Each connection is a process and a line in sshd's log: one of so many looks.
const SSH_EVERY: u32 = 2;
/// To have sshd look at the whole of its configuration is a process too.
const PROBLEMS_EVERY: u32 = 8;

pub(crate) struct Guard<H> {
    host: Arc<H>,
    ledger: Arc<Ledger>,
    standing: Arc<Standing>,
    every: Duration,
    report: Mutex<GuardReport>,
}

impl<H: Host> Guard<H> {
    pub(crate) fn new(host: Arc<H>, ledger: Arc<Ledger>, standing: Arc<Standing>, timings: &Timings) -> Self {
        Self { host, ledger, standing, every: timings.guard_every, report: Mutex::default() }
    }

    /// Runs until dropped.
    pub(crate) async fn run(&self) -> AgentError {
        let mut looks = 0u32;
        let mut ssh_answers = false;
        let mut problems = Vec::new();
        loop {
            // What did not answer is asked again at once: it may only have been starting.
            if !ssh_answers || looks.is_multiple_of(SSH_EVERY) {
                ssh_answers = self.host.ssh_answers().await;
                self.standing.set_ssh_answers(ssh_answers);
            }
            let looked = self.look().await;
            if looks.is_multiple_of(PROBLEMS_EVERY) {
                problems = self.host.access_problems().await.unwrap_or_else(|error| vec![error.message]);
            }
            let failure = looked.err().map(|error| error.message);
            let warnings: BTreeSet<String> = problems.iter().cloned().chain(failure).collect();
            self.ledger.set_guard_warnings(warnings.into_iter().collect());
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = self.standing.changed.notified() => {}
            }
        }
    }

    async fn look(&self) -> Result<(), HostError> {
        // Neither must wait for the other.
        let (rules, policy) = (self.keep_rules().await, self.enforce().await);
        rules.and(policy)
    }

    async fn keep_rules(&self) -> Result<(), HostError> {
        if self.host.ensure_access_rules().await? == Kept::Repaired {
            self.repaired("the sshd rules for proxy accounts").await;
        }
        Ok(())
    }

    /// Puts what was told last in force; answers when it is. At once when it was.
    pub(crate) async fn enforce(&self) -> Result<(), HostError> {
        // A node without a container network has nobody to keep apart yet.
        let Some(network) = self.network().await? else { return Ok(()) };
        let addresses: BTreeSet<_> = self.host.addresses().await?;
        let addresses: BTreeSet<_> = addresses.into_iter().filter(|ip| !network.cidr.contains(ip)).collect();
        let told = self.standing.told();
        let kept = self.host.ensure_policy(&rules(network, &told)).await?;
        if kept == Kept::Repaired {
            self.repaired("the network policy").await;
        }
        let mut report = self.report.lock().await;
        report.policy_digest = told.policy.as_ref().map(NetworkPolicy::digest).unwrap_or_default();
        report.addresses = addresses;
        self.ledger.set_guard(&report);
        Ok(())
    }

    async fn network(&self) -> Result<Option<Network>, HostError> {
        match self.ledger.facts().network {
            Some(network) => Ok(Some(network)),
            None => self.host.network().await.map(Some),
        }
    }

    async fn repaired(&self, what: &str) {
        tracing::warn!(what, "changed behind our back, put back");
        let mut report = self.report.lock().await;
        report.repairs += 1;
        what.clone_into(&mut report.last_repair);
        self.ledger.set_guard(&report);
    }
}

/// What was told, as it concerns this node's containers. With nothing told: nobody reaches anybody of the fleet.
fn rules(network: Network, told: &Told) -> PolicyRules {
    let policy = told.policy.clone().unwrap_or_default();
    let coordinator = match told.coordinator {
        Some(IpAddr::V4(ip)) if !ip.is_loopback() => Some(Ipv4Net::from(ip)),
        Some(IpAddr::V4(_) | IpAddr::V6(_)) | None => None,
    };
    let closed = policy.closed_networks.into_iter().chain(coordinator).chain([LINK_LOCAL]);
    let containers = policy.container_networks.into_iter().chain([network.cidr]);
    PolicyRules { network, containers: containers.collect(), closed: closed.collect(), allowances: policy.allowances }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_told_the_metadata_server_and_every_container_here_are_closed() {
        let network = Network { cidr: "10.100.1.0/24".parse().unwrap(), gateway: "10.100.1.1".parse().unwrap() };
        let none = rules(network, &Told::default());
        assert_eq!((none.containers, none.closed), ([network.cidr].into(), [LINK_LOCAL].into()));
        let told = Told { coordinator: Some("10.99.0.5".parse().unwrap()), ..Told::default() };
        assert!(rules(network, &told).closed.contains(&"10.99.0.5/32".parse().unwrap()));
        let beside = Told { coordinator: Some("127.0.0.1".parse().unwrap()), ..Told::default() };
        assert_eq!(rules(network, &beside).closed, [LINK_LOCAL].into());
    }
}
