//! What scenarios ask of and about the network policy and the nodes' health.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use containarium_agent::host::PolicyRules;
use containarium_proto::{policy::Allowance, v1};
use tonic::Status;

use super::Fleet;

/// Nobody else is given one of this address.
pub(super) fn free_port(of: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((of, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

impl Fleet {
    /// Whose containers may reach a user's.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn allow_from(&self, user: &str, from: &[&str]) -> Result<Vec<String>, Status> {
        let allow_from = from.iter().map(|name| (*name).to_owned()).collect();
        let request = v1::SetAllowFromRequest { user: user.to_owned(), allow_from };
        let mut client = self.client();
        self.caller.block_on(async { Ok(client.set_allow_from(request).await?.into_inner().allow_from) })
    }

    /// The rules in force on every node that runs.
    ///
    /// # Panics
    /// A node has none.
    #[must_use]
    pub fn rules(&self) -> Vec<PolicyRules> {
        self.nodes.iter().map(|node| node.host.policy_now().expect("rules are in force")).collect()
    }

    /// What all nodes let pass between containers, if they agree.
    #[must_use]
    pub fn allowances(&self) -> Option<BTreeSet<Allowance>> {
        let mut rules = self.rules().into_iter();
        let first = rules.next()?.allowances;
        rules.all(|other| other.allowances == first).then_some(first)
    }

    /// What a load balancer is told: the status line and the reasons; none: nobody answers.
    #[must_use]
    pub fn health(&self, index: usize) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.nodes[index].health, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said)
    }

    /// Whether new sessions should go there.
    #[must_use]
    pub fn is_healthy(&self, index: usize) -> bool {
        self.health(index).is_some_and(|said| said.starts_with("HTTP/1.1 200 "))
    }
}
