//! The calls about backups: wire in, a job of `backup` asked, wire out.

use std::time::Duration;

use containarium_proto::{convert, v1};
use tonic::{Response, Status};

use super::{Service, invalid, unavailable};
use crate::{
    backup::Store,
    host::{Host, HostError},
};

/// Of a list: what one answer may hold, and a store of a large fleet has.
const MOST: usize = 200_000;

fn refused(error: HostError) -> Status {
    if error.permanent { Status::failed_precondition(error.message) } else { unavailable(error) }
}

impl<H: Host> Service<H> {
    async fn open(&self, sender: Option<&v1::Sender>) -> Result<&Store, Status> {
        let sender = convert::sender_from_wire(sender).map_err(invalid)?;
        self.membership.admit(sender).await?;
        self.backups.store().ok_or_else(|| Status::failed_precondition("this node has no --backup-store"))
    }

    fn wait(&self, max_wait_millis: u32) -> Duration {
        Duration::from_millis(max_wait_millis.into()).min(self.observe_max)
    }

    pub(super) async fn have_written(
        &self,
        request: v1::WriteBackupRequest,
    ) -> Result<Response<v1::BackupProgress>, Status> {
        let facts = convert::backup_facts_from_wire(&request.facts_json).map_err(invalid)?;
        let store = self.open(request.sender.as_ref()).await?;
        let work = self.backups.write(store, facts, self.wait(request.max_wait_millis)).await;
        Ok(Response::new(convert::backup_work_to_wire(work)))
    }

    pub(super) async fn have_checked(
        &self,
        request: v1::CheckBackupRequest,
    ) -> Result<Response<v1::BackupProgress>, Status> {
        let key = convert::backup_key_from_wire(&request.user, &request.id).map_err(invalid)?;
        let data = convert::origin_data_from_wire(request.size_bytes, &request.sha256).map_err(invalid)?;
        let store = self.open(request.sender.as_ref()).await?;
        let work = self.backups.check(store, key, data, self.wait(request.max_wait_millis)).await;
        Ok(Response::new(convert::backup_work_to_wire(work)))
    }

    pub(super) async fn have_removed(
        &self,
        request: v1::RemoveBackupRequest,
    ) -> Result<Response<v1::RemoveBackupResponse>, Status> {
        let key = convert::backup_key_from_wire(&request.user, &request.id).map_err(invalid)?;
        let store = self.open(request.sender.as_ref()).await?;
        self.backups.remove(store, &key).await.map_err(refused)?;
        tracing::info!(backup = %key, "a backup was removed");
        Ok(Response::new(v1::RemoveBackupResponse {}))
    }

    pub(super) async fn stored(
        &self,
        request: v1::ListStoredRequest,
    ) -> Result<Response<v1::ListStoredResponse>, Status> {
        let store = self.open(request.sender.as_ref()).await?;
        let keys = store.list().await.map_err(refused)?;
        let one = |key: containarium_proto::backup::BackupKey| v1::StoredBackup {
            user: key.owner.to_string(),
            id: key.id.to_string(),
        };
        Ok(Response::new(v1::ListStoredResponse { backups: keys.into_iter().take(MOST).map(one).collect() }))
    }

    pub(super) async fn manifest(
        &self,
        request: v1::ReadManifestRequest,
    ) -> Result<Response<v1::ReadManifestResponse>, Status> {
        let key = convert::backup_key_from_wire(&request.user, &request.id).map_err(invalid)?;
        let store = self.open(request.sender.as_ref()).await?;
        let manifest = store.manifest(&key).await.map_err(refused)?;
        let manifest = manifest.ok_or_else(|| Status::not_found(format!("there is no backup {key}")))?;
        let manifest_json = convert::to_json(&manifest).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::ReadManifestResponse { manifest_json }))
    }
}
