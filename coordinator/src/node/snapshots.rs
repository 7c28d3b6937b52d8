//! Calls to one agent about snapshots. As in `client`: no retries, no decisions.

use containarium_proto::{
    convert,
    ids::{ContainerId, Generation},
    snapshots::{SnapshotName, Snapshots},
    v1,
};

use super::client::{AgentClient, CallError, within};

impl AgentClient {
    /// What the node has of one container.
    pub(crate) async fn snapshots(&self, container: ContainerId) -> Result<Snapshots, CallError> {
        let request = v1::SnapshotsOfRequest { sender: Some(self.sender()), container_id: container.to_string() };
        let mut wire = self.wire()?;
        let answer = within(self.timings.rpc_deadline, wire.list_snapshots(request)).await?;
        Ok(convert::snapshots_from_wire(answer))
    }

    /// Has one made, or made anew.
    pub(crate) async fn make_snapshot(
        &self,
        at: (ContainerId, Generation),
        name: &SnapshotName,
    ) -> Result<(), CallError> {
        let request = self.order(at, name);
        let mut wire = self.wire()?;
        within(self.timings.access_deadline, wire.make_snapshot(request)).await.map(drop)
    }

    /// Has one removed. No error if there is none.
    pub(crate) async fn remove_snapshot(
        &self,
        at: (ContainerId, Generation),
        name: &SnapshotName,
    ) -> Result<(), CallError> {
        let request = self.order(at, name);
        let mut wire = self.wire()?;
        within(self.timings.access_deadline, wire.remove_snapshot(request)).await.map(drop)
    }

    fn order(&self, (container, generation): (ContainerId, Generation), name: &SnapshotName) -> v1::SnapshotOrder {
        let (sender, container_id) = (Some(self.sender()), container.to_string());
        v1::SnapshotOrder { sender, container_id, generation: generation.0, name: name.to_string() }
    }
}
