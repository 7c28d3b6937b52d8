//! `node ...`: the servers of the fleet.

use containarium_proto::{
    names::NodeName,
    v1::{self, Policy, fleet_client::FleetClient},
};
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    args::{self, Format},
    client::Client,
    commands::{adopt, configure, lost, progress},
    errors::Failure,
    output::{self, Node},
};

#[derive(Debug, Serialize)]
struct Nodes {
    nodes: Vec<Node>,
    total_count: usize,
}

pub(crate) async fn run(client: &Client, format: Format, command: &args::Node) -> Result<(), Failure> {
    let node = match command {
        args::Node::Adopt(wanted) => return adopt::run(client, format, wanted).await,
        args::Node::List => return list(client, format).await,
        args::Node::Info { name } => get(client, name).await?,
        args::Node::Add { name, address } => {
            // Adding the same twice is adding it once, so it may be repeated like a read.
            let request = v1::AddNodeRequest { name: name.to_string(), address: address.clone() };
            client.read(request, |mut fleet, request| async move { fleet.add_node(request).await }).await?
        }
        args::Node::Cordon { name } => set_policy(client, name.as_str(), Policy::Cordoned).await?,
        args::Node::Drain { name, parallel } => {
            let request = v1::DrainNodeRequest { name: name.to_string(), parallel: *parallel };
            let call = |mut fleet: FleetClient<Channel>, request| async move { fleet.drain_node(request).await };
            progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
            get(client, name).await?
        }
        args::Node::Retire { name, lost, restore } => {
            // Giving up the same twice is giving it up once.
            let lost = lost.as_ref().map(ToString::to_string).unwrap_or_default();
            let request = v1::RetireNodeRequest { name: name.to_string(), lost };
            let node =
                client.read(request, |mut fleet, request| async move { fleet.retire_node(request).await }).await?;
            if *restore {
                lost::bring_back(client, &node.lost).await?;
                get(client, name).await?
            } else {
                lost::note(&node.lost);
                node
            }
        }
        args::Node::Uncordon { name } => set_policy(client, name.as_str(), Policy::Active).await?,
        args::Node::Set(set) => configure::set(client, set).await?,
        args::Node::Label(label) => return configure::label(client, format, label).await,
    };
    let node = Node::from(&node);
    output::print(format, &node, |_| people(&node))
}

async fn get(client: &Client, name: &NodeName) -> Result<v1::Node, Failure> {
    let request = v1::GetNodeRequest { name: name.to_string() };
    client.read(request, |mut fleet, request| async move { fleet.get_node(request).await }).await
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let answer = client
        .read(v1::ListNodesRequest {}, |mut fleet, request| async move { fleet.list_nodes(request).await })
        .await?;
    let nodes: Vec<Node> = answer.nodes.iter().map(Node::from).collect();
    let listed = Nodes { total_count: nodes.len(), nodes };
    output::print(format, &listed, |wide| output::node_table(&listed.nodes, wide))
}

async fn set_policy(client: &Client, name: &str, policy: Policy) -> Result<v1::Node, Failure> {
    let request = v1::SetNodePolicyRequest { name: name.to_owned(), policy: policy.into() };
    client.read(request, |mut fleet, request| async move { fleet.set_node_policy(request).await }).await
}

fn people(node: &Node) -> String {
    let images: Vec<&str> = node.images.iter().map(|image| image.alias.as_str()).collect();
    let mut facts = vec![
        ("Detail", node.detail.clone()),
        ("Labels", output::labels(&node.labels)),
        ("Images", images.join(" ")),
        ("Last seen", node.last_seen_at.clone().unwrap_or_default()),
        ("Accounts at revision", node.access_revision.to_string()),
        ("Not placing because", node.not_placing_because.clone()),
        ("Warnings", node.warnings.join("; ")),
        ("A default create", node.default_create.reason.clone()),
    ];
    facts.extend(output::loads_of(node));
    facts.extend(output::limits(&node.settings, &node.effective));
    format!("{}\n{}", output::node_table(std::slice::from_ref(node), false), output::facts(&facts))
}
