//! What guards a node: who may reach whom over the network, and whether what was put in place was still there. Values
//! only.

use std::collections::BTreeSet;

use containarium_proto::policy::Allowance;
use ipnet::Ipv4Net;

use super::Network;

/// What holds for the containers of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRules {
    /// Where they live.
    pub network: Network,
    /// Where containers of the fleet live, this node's included.
    pub containers: BTreeSet<Ipv4Net>,
    /// What they may not reach.
    pub closed: BTreeSet<Ipv4Net>,
    /// What passes between containers nevertheless.
    pub allowances: BTreeSet<Allowance>,
}

/// How something that must be in place was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// As it must be.
    AsItWas,
    /// Put in place: it was not, or another one was wanted.
    Written,
    /// Put back: somebody had changed what we had put there.
    Repaired,
}
