//! What every node is told of the network: made of the database alone, again after every change of it. It must never ask
//! a node, nor decide who may reach whom: the rows say so.

use std::{error::Error, sync::Arc, time::Duration};

use containarium_proto::policy::{Allowance, NetworkPolicy};
use ipnet::Ipv4Net;

use crate::{
    reign::Reign,
    store::{NodeRow, Policy, StoreError},
};

/// At most so often: a burst of creates is one change.
const PACE: Duration = Duration::from_millis(100);
/// After a database that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Never ends.
pub(crate) async fn keep(reign: &Reign) -> std::convert::Infallible {
    let mut commits = reign.store.commits();
    loop {
        commits.mark_unchanged();
        match read(reign).await {
            Ok(policy) => {
                reign.policy.send_if_modified(|held| {
                    let news = held.as_ref().is_none_or(|held| held.in_rotation.policy != policy);
                    if news {
                        *held = Some(Arc::new(FleetPolicy::of(policy)));
                    }
                    news
                });
                tokio::time::sleep(PACE).await;
                // Only a closed store fails it, and then the reign ends.
                if commits.changed().await.is_err() {
                    tokio::time::sleep(RETRY).await;
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "the network policy could not be read");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn read(reign: &Reign) -> Result<NetworkPolicy, StoreError> {
    let mut reader = reign.store.reader().await?;
    let (nodes, allowances) = (reader.nodes().await?, reader.allowances().await?);
    Ok(fleet_wide(&nodes, allowances, &reign.config.closed_networks))
}

/// Retired nodes are no longer ours, and neither are their networks.
fn fleet_wide(nodes: &[NodeRow], allowances: Vec<Allowance>, closed: &[Ipv4Net]) -> NetworkPolicy {
    let nodes = || nodes.iter().filter(|node| node.policy != Policy::Retired);
    let dialled = nodes().filter_map(|node| node.host().parse().ok());
    let addresses = nodes().flat_map(|node| node.addresses.iter().copied()).chain(dialled);
    NetworkPolicy {
        container_networks: nodes().filter_map(|node| node.network.map(|(cidr, _)| cidr)).collect(),
        closed_networks: addresses.map(Ipv4Net::from).chain(closed.iter().copied()).collect(),
        allowances: allowances.into_iter().collect(),
        out_of_rotation: false,
    }
}

/// What a node is told, with its digest.
#[derive(Debug)]
pub(crate) struct NodePolicy {
    pub(crate) policy: NetworkPolicy,
    pub(crate) digest: String,
}

/// Both that there are: made once, and compared with what every node reports.
#[derive(Debug)]
pub(crate) struct FleetPolicy {
    in_rotation: NodePolicy,
    out_of_rotation: NodePolicy,
}

impl FleetPolicy {
    fn of(fleet_wide: NetworkPolicy) -> Self {
        let told = |policy: NetworkPolicy| NodePolicy { digest: policy.digest(), policy };
        let out_of_rotation = told(NetworkPolicy { out_of_rotation: true, ..fleet_wide.clone() });
        Self { in_rotation: told(fleet_wide), out_of_rotation }
    }

    /// What one node is told: a node that is being emptied gets no new sessions.
    pub(crate) fn of_node(&self, policy: Policy) -> &NodePolicy {
        match policy {
            Policy::Active | Policy::Cordoned => &self.in_rotation,
            Policy::Draining | Policy::Retired => &self.out_of_rotation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::node;

    #[test]
    fn nodes_are_closed_by_all_their_addresses_and_retired_ones_are_not() {
        let mut one = node("jump-1", "10.99.0.11:7444", "10.100.1.0/24");
        one.addresses = vec!["192.0.2.1".parse().unwrap()];
        let two = node("jump-2", "jump-2.example:7444", "10.100.2.0/24");
        let gone = NodeRow { policy: Policy::Retired, ..node("jump-3", "10.99.0.13:7444", "10.100.3.0/24") };
        let office: Ipv4Net = "10.0.0.0/16".parse().unwrap();
        let policy = fleet_wide(&[one, two, gone], Vec::new(), &[office]);
        let texts =
            |nets: &std::collections::BTreeSet<Ipv4Net>| nets.iter().map(Ipv4Net::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&policy.closed_networks), ["10.0.0.0/16", "10.99.0.11/32", "192.0.2.1/32"]);
        assert_eq!(texts(&policy.container_networks), ["10.100.1.0/24", "10.100.2.0/24"]);
        let told = FleetPolicy::of(policy.clone());
        let NodePolicy { policy: draining, digest } = told.of_node(Policy::Draining);
        assert!(draining.out_of_rotation && *digest == draining.digest());
        assert_eq!(told.of_node(Policy::Cordoned).policy, policy);
    }
}
