//! Snapshots in the simulated fleet: an hour of a schedule is a fraction of a second here.

use std::time::Duration;

use containarium_proto::v1;
use tonic::Status;

use super::{Background, Fleet, follow};

/// Long enough that a loaded machine makes one between two.
pub(super) const HOUR: Duration = Duration::from_millis(300);

impl Fleet {
    /// A snapshot with an id of its own.
    #[must_use]
    pub fn snapshot_request(user: &str, name: &str) -> v1::CreateSnapshotRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::CreateSnapshotRequest { user: user.into(), request_id, name: name.into() }
    }

    /// Makes one, from a thread of its own.
    #[must_use]
    pub fn snapshot_in_background(&self, request: v1::CreateSnapshotRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.create_snapshot(request).await?.into_inner()).await }))
    }

    /// Makes one and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn snapshot(&self, user: &str, name: &str) -> Result<v1::Progress, Status> {
        self.join(self.snapshot_in_background(Self::snapshot_request(user, name)))
    }

    /// All snapshots of a user's container.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn snapshots(&self, user: &str) -> Result<Vec<v1::ListedSnapshot>, Status> {
        let mut client = self.client();
        let request = v1::ListSnapshotsRequest { user: user.into() };
        self.caller.block_on(async { Ok(client.list_snapshots(request).await?.into_inner().snapshots) })
    }

    /// Their names, the oldest first.
    ///
    /// # Panics
    /// They cannot be listed.
    #[must_use]
    pub fn snapshot_names(&self, user: &str) -> Vec<String> {
        self.snapshots(user).expect("the snapshots are listed").into_iter().map(|one| one.name).collect()
    }

    /// Removes one, from a thread of its own.
    #[must_use]
    pub fn delete_snapshot_in_background(&self, user: &str, name: &str) -> Background {
        let mut client = self.client();
        let request = v1::DeleteSnapshotRequest { user: user.into(), name: name.into() };
        Background(self.caller.spawn(async move { follow(client.delete_snapshot(request).await?.into_inner()).await }))
    }

    /// Removes one and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn delete_snapshot(&self, user: &str, name: &str) -> Result<v1::Progress, Status> {
        self.join(self.delete_snapshot_in_background(user, name))
    }

    /// A restore with an id of its own.
    #[must_use]
    pub fn restore_snapshot_request(user: &str, name: &str) -> v1::RestoreSnapshotRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::RestoreSnapshotRequest { user: user.into(), request_id, name: name.into() }
    }

    /// Restores, from a thread of its own.
    #[must_use]
    pub fn restore_snapshot_in_background(&self, request: v1::RestoreSnapshotRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.restore_snapshot(request).await?.into_inner()).await }))
    }

    /// Restores and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn restore_snapshot(&self, user: &str, name: &str) -> Result<v1::Progress, Status> {
        self.join(self.restore_snapshot_in_background(Self::restore_snapshot_request(user, name)))
    }

    /// Deletes, from a thread of its own.
    #[must_use]
    pub fn delete_in_background(&self, user: &str) -> Background {
        let mut client = self.client();
        let request = v1::DeleteContainerRequest { user: user.into(), request_id: uuid::Uuid::new_v4().to_string() };
        Background(self.caller.spawn(async move { follow(client.delete_container(request).await?.into_inner()).await }))
    }

    /// Gives a container a schedule of snapshots.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn schedule(&self, user: &str, every: v1::Every, keep: u32) -> Result<v1::Progress, Status> {
        let snapshots = Some(v1::SnapshotSchedule { every: every.into(), keep });
        self.set_lifetime(v1::SetLifetimeRequest { snapshots, ..Self::lifetime_request(user) })
    }
}
