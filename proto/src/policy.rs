//! What containers may reach over the network: the valid form of the messages of `policy.proto`. It must never hold
//! what one node alone knows: its bridge, its own address there.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One container may open connections to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Allowance {
    /// Whose connections.
    pub from: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
}

/// What holds between the containers of a fleet, and between them and its machines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Where containers live, on all nodes.
    pub container_networks: BTreeSet<Ipv4Net>,
    /// What no container may reach.
    pub closed_networks: BTreeSet<Ipv4Net>,
    /// What passes between containers.
    pub allowances: BTreeSet<Allowance>,
    /// No new session is to come through the node that is told.
    pub out_of_rotation: bool,
}

impl NetworkPolicy {
    /// The same for the same content, and for no other.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut line = |text: String| {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        };
        self.container_networks.iter().for_each(|net| line(format!("containers {net}")));
        self.closed_networks.iter().for_each(|net| line(format!("closed {net}")));
        self.allowances.iter().for_each(|pair| line(format!("allow {} {}", pair.from, pair.to)));
        line(format!("out of rotation {}", self.out_of_rotation));
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a node says of that which guards it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuardReport {
    /// Of the policy that is in force; empty: none was told.
    pub policy_digest: String,
    /// How often something was changed behind the agent's back and put back, since it started.
    pub repairs: u64,
    /// What, the last time.
    pub last_repair: String,
    /// The node's own addresses.
    pub addresses: BTreeSet<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_every_difference() {
        let mut policy = NetworkPolicy::default();
        let mut seen = BTreeSet::from([policy.digest()]);
        policy.container_networks.insert("10.100.1.0/24".parse().unwrap());
        assert!(seen.insert(policy.digest()));
        policy.closed_networks.insert("10.100.1.0/24".parse().unwrap());
        assert!(seen.insert(policy.digest()));
        policy.allowances.insert(Allowance { from: [10, 0, 0, 1].into(), to: [10, 0, 0, 2].into() });
        assert!(seen.insert(policy.digest()));
        policy.out_of_rotation = true;
        assert!(seen.insert(policy.digest()));
        assert_eq!(policy.digest(), policy.clone().digest());
    }
}
