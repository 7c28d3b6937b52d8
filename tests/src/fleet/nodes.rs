//! What scenarios ask of and about nodes.

use containarium_proto::{
    pki::CertsDir,
    v1::{self, agent_client::AgentClient},
};
use tonic::{Status, transport::Endpoint};

use super::{Background, Fleet};

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

    /// Orders an agent something that no coordinator has asked for, with a coordinator's certificate.
    ///
    /// # Panics
    /// It does not obey.
    pub fn order_behind_its_back(&self, index: usize, order: v1::ApplyRequest) {
        let node = &self.nodes[index];
        let name = node.name.parse().expect("a node's name");
        let _inside = self.caller.enter();
        let tls = CertsDir::new(self.path("certs")).coordinator_to_agent(&name).expect("certificates");
        let endpoint = Endpoint::from_shared(format!("https://{}", node.address)).expect("an address");
        let channel = endpoint.tls_config(tls).expect("certificates").connect_lazy();
        self.caller.block_on(AgentClient::new(channel).apply(order)).expect("it obeys");
    }

    /// Whether the coordinator that is asked now answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        let mut client = self.client();
        self.caller.block_on(client.get_fleet(v1::GetFleetRequest {})).is_ok()
    }

    /// Asks an agent to stop, as systemd does, and waits until it has.
    ///
    /// # Panics
    /// It does not run, or does not end well.
    pub fn stop_agent(&mut self, index: usize) {
        let (stop, ended) = self.nodes[index].stopping.take().expect("it runs");
        stop.cancel();
        self.caller.block_on(ended).expect("the agent's task").expect("a good end");
        self.nodes[index].agent = None;
    }

    /// The operator's word on a node. False: nobody heard it.
    pub fn try_policy(&self, name: &str, policy: v1::Policy) -> bool {
        let mut client = self.client();
        let request = v1::SetNodePolicyRequest { name: name.into(), policy: policy.into() };
        self.caller.block_on(client.set_node_policy(request)).is_ok()
    }

    /// The same, from a thread of its own.
    #[must_use]
    pub fn policy_in_background(&self, name: &str, policy: v1::Policy) -> Background {
        let mut client = self.client();
        let request = v1::SetNodePolicyRequest { name: name.into(), policy: policy.into() };
        Background(self.caller.spawn(async move {
            client.set_node_policy(request).await?;
            Ok(v1::Progress::default())
        }))
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
