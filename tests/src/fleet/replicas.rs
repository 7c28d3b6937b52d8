//! Replicas in the simulated fleet: refreshed every second.

use containarium_proto::v1;
use tonic::Status;

use super::{Background, Fleet, follow};

impl Fleet {
    /// Has a container replicated, or not (0), and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn replicate(&self, user: &str, every_seconds: u64, node: &str) -> Result<v1::Progress, Status> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = v1::SetReplicationRequest { user: user.into(), request_id, every_seconds, node: node.into() };
        self.join(self.replicate_in_background(request))
    }

    /// The same, from a thread of its own.
    #[must_use]
    pub fn replicate_in_background(&self, request: v1::SetReplicationRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.set_replication(request).await?.into_inner()).await }))
    }

    /// A failover with an id of its own.
    #[must_use]
    pub fn failover_request(user: &str) -> v1::FailoverRequest {
        v1::FailoverRequest { user: user.into(), request_id: uuid::Uuid::new_v4().to_string() }
    }

    /// Fails over, from a thread of its own.
    #[must_use]
    pub fn failover_in_background(&self, request: v1::FailoverRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.failover(request).await?.into_inner()).await }))
    }

    /// Fails over and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn failover(&self, user: &str) -> Result<v1::Progress, Status> {
        self.join(self.failover_in_background(Self::failover_request(user)))
    }

    /// Has what a failover has left destroyed, and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn discard_old_copy(&self, user: &str) -> Result<v1::Progress, Status> {
        self.join(self.discard_in_background(user))
    }

    /// The same, from a thread of its own.
    #[must_use]
    pub fn discard_in_background(&self, user: &str) -> Background {
        let mut client = self.client();
        let request = v1::DiscardOldCopyRequest { user: user.into() };
        Background(self.caller.spawn(async move { follow(client.discard_old_copy(request).await?.into_inner()).await }))
    }

    /// How a container is replicated, as it is listed.
    #[must_use]
    pub fn replication(&self, user: &str) -> v1::Replication {
        let found = self.list().into_iter().find(|container| container.user == user);
        found.and_then(|container| container.replication).unwrap_or_default()
    }
}
