//! What guards a simulated host: its network rules, its accounts one at a time, its sshd.

use std::{collections::BTreeSet, net::Ipv4Addr};

use containarium_proto::{ids::FleetId, node::Account};

use super::SimHost;
use crate::host::{HostError, Kept, PolicyRules};

#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    pub(super) sshd_is_down: bool,
    pub(super) access_problems: Vec<String>,
    /// In force.
    rules: Option<PolicyRules>,
    /// What was put in place last, whatever became of it.
    put: Option<PolicyRules>,
}

impl Guard {
    pub(super) fn put(&mut self, rules: &PolicyRules) -> Kept {
        let kept = match (self.rules.as_ref() == Some(rules), self.put.as_ref() == Some(rules)) {
            (true, _) => Kept::AsItWas,
            (false, true) => Kept::Repaired,
            (false, false) => Kept::Written,
        };
        self.rules = Some(rules.clone());
        self.put = Some(rules.clone());
        kept
    }
}

impl SimHost {
    pub(super) async fn ensure_account(&self, fleet: FleetId, account: &Account) -> Result<(), HostError> {
        let name = account.username.as_str();
        let same = self.look(|memory| memory.accounts.get(name) == Some(&(fleet, account.clone()))).await?;
        if same {
            return Ok(());
        }
        self.effect(|memory| {
            let others = memory.accounts.get(name).is_some_and(|(owner, _)| *owner != fleet);
            if others || memory.foreign.contains(name) {
                return Err(HostError::permanent(format!("account {name} exists on this node and is not ours")));
            }
            let before = memory.accounts.insert(name.to_owned(), (fleet, account.clone()));
            memory.people.account_changed(before.as_ref().map(|(_, before)| before), account);
            Ok(())
        })
        .await
    }

    pub(super) async fn remove_account(&self, fleet: FleetId, username: &str) -> Result<(), HostError> {
        self.effect(|memory| {
            if memory.accounts.get(username).is_some_and(|(owner, _)| *owner == fleet) {
                memory.accounts.remove(username);
                memory.people.end_of(username);
            }
            Ok(())
        })
        .await
    }

    /// The network rules in force; none: there are none.
    #[must_use]
    pub fn policy_now(&self) -> Option<PolicyRules> {
        self.memory().guard.rules.clone()
    }

    /// Somebody removes the network rules behind the agent's back.
    pub fn lose_policy(&self) {
        self.memory().guard.rules = None;
    }

    /// The host's own addresses.
    pub fn set_addresses(&self, addresses: BTreeSet<Ipv4Addr>) {
        self.memory().guard.addresses = addresses;
    }

    /// Whether the host's own sshd is dead.
    pub fn set_sshd_is_down(&self, down: bool) {
        self.memory().guard.sshd_is_down = down;
    }

    /// What is wrong with the configuration of the host's sshd.
    pub fn set_access_problems(&self, problems: Vec<String>) {
        self.memory().guard.access_problems = problems;
    }
}
