//! What scenarios ask of and about nodes.

use containarium_proto::v1;
use tonic::Status;

use super::Fleet;

impl Fleet {
    /// All nodes as the coordinator sees them, by name.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn list_nodes(&self) -> Vec<v1::Node> {
        let mut client = self.client();
        let answer = self.caller.block_on(client.list_nodes(v1::ListNodesRequest {}));
        answer.expect("the nodes are listed").into_inner().nodes
    }

    /// Changes a node's own settings and labels.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn configure_node(&self, request: v1::ConfigureNodeRequest) -> Result<v1::Node, Status> {
        let mut client = self.client();
        self.caller.block_on(async { Ok(client.configure_node(request).await?.into_inner()) })
    }

    /// Gives a node labels, such as `gpu=true`.
    ///
    /// # Panics
    /// They are refused.
    pub fn label_node(&self, name: &str, labels: &[(&str, &str)]) {
        let set_labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = v1::ConfigureNodeRequest { name: name.to_owned(), set_labels, ..Default::default() };
        self.configure_node(request).expect("the node is labelled");
    }
}
