//! `node set` and `node label ...`: what an operator says of one server.

use std::collections::BTreeMap;

use containarium_proto::{factor::Factor, v1};
use serde::Serialize;

use crate::{
    args::{Format, NodeLabel, NodeSet},
    client::Client,
    commands::create,
    errors::Failure,
    output,
};

#[derive(Debug, Serialize)]
struct Labelled {
    name: String,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct AllLabelled {
    nodes: Vec<Labelled>,
    total_count: usize,
}

/// Gives the server as it is then.
pub(crate) async fn set(client: &Client, set: &NodeSet) -> Result<v1::Node, Failure> {
    let values = &set.values;
    let settings = v1::NodeSettings {
        overcommit_cpu_permille: values.overcommit_cpu.map(Factor::permille),
        overcommit_memory_permille: values.overcommit_memory.map(Factor::permille),
        overcommit_disk_permille: values.overcommit_disk.map(Factor::permille),
        max_containers: values.max_containers,
        headroom_memory_bytes: values.headroom_memory.map(|size| size.0),
        headroom_disk_bytes: values.headroom_disk.map(|size| size.0),
    };
    let name = set.name.to_string();
    let request =
        v1::ConfigureNodeRequest { name, settings: Some(settings), reset: values.reset, ..Default::default() };
    configure(client, request).await
}

/// Prints the labels as they are then.
pub(crate) async fn label(client: &Client, format: Format, command: &NodeLabel) -> Result<(), Failure> {
    let nodes = match command {
        NodeLabel::Set { name, label } => {
            let set_labels = create::labels(label)?.to_wire();
            let request = v1::ConfigureNodeRequest { name: name.to_string(), set_labels, ..Default::default() };
            vec![configure(client, request).await?]
        }
        NodeLabel::Remove { name, key } => {
            let remove_labels = key.iter().map(ToString::to_string).collect();
            let request = v1::ConfigureNodeRequest { name: name.to_string(), remove_labels, ..Default::default() };
            vec![configure(client, request).await?]
        }
        NodeLabel::List { name: Some(name) } => {
            let request = v1::GetNodeRequest { name: name.to_string() };
            vec![client.read(request, |mut fleet, request| async move { fleet.get_node(request).await }).await?]
        }
        NodeLabel::List { name: None } => {
            let request = v1::ListNodesRequest {};
            client.read(request, |mut fleet, request| async move { fleet.list_nodes(request).await }).await?.nodes
        }
    };
    let one = |node: v1::Node| Labelled { name: node.name, labels: node.labels };
    let listed = AllLabelled { total_count: nodes.len(), nodes: nodes.into_iter().map(one).collect() };
    output::print(format, &listed, |_| {
        let row = |node: &Labelled| vec![node.name.clone(), output::labels(&node.labels)];
        output::table(&["NAME", "LABELS"], listed.nodes.iter().map(row).collect())
    })
}

async fn configure(client: &Client, request: v1::ConfigureNodeRequest) -> Result<v1::Node, Failure> {
    // Saying it twice is saying it once, so a lost answer is asked for again.
    client.read(request, |mut fleet, request| async move { fleet.configure_node(request).await }).await
}
