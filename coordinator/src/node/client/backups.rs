//! The calls about backups.

use std::time::Duration;

use containarium_proto::{
    backup::{BackupData, BackupFacts, BackupKey, BackupWork, Manifest},
    convert, v1,
};
use tonic::Code;

use super::{AgentClient, CallError, within};

/// How long one question waits for news. Shorter, and a person waits longer for the end of a small one.
const WAIT: Duration = Duration::from_secs(2);

fn millis(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
}

impl AgentClient {
    fn sender_wire(&self) -> Option<v1::Sender> {
        Some(convert::sender_to_wire(self.sender))
    }

    /// Has a backup written, or asks how far it is.
    pub(crate) async fn write_backup(&self, facts: &BackupFacts) -> Result<BackupWork, CallError> {
        let facts_json = convert::to_json(facts)?;
        let request = v1::WriteBackupRequest { sender: self.sender_wire(), facts_json, max_wait_millis: millis(WAIT) };
        let mut wire = self.wire()?;
        let answer = within(WAIT + self.timings.rpc_deadline, wire.write_backup(request)).await?;
        Ok(convert::backup_work_from_wire(answer)?)
    }

    /// Has a backup compared with its checksum, or asks how far that is.
    pub(crate) async fn check_backup(&self, key: &BackupKey, data: &BackupData) -> Result<BackupWork, CallError> {
        let request = v1::CheckBackupRequest {
            sender: self.sender_wire(),
            user: key.owner.to_string(),
            id: key.id.to_string(),
            size_bytes: data.size.0,
            sha256: data.sha256.to_string(),
            max_wait_millis: millis(WAIT),
        };
        let mut wire = self.wire()?;
        let answer = within(WAIT + self.timings.rpc_deadline, wire.check_backup(request)).await?;
        Ok(convert::backup_work_from_wire(answer)?)
    }

    /// Has everything of a backup removed.
    pub(crate) async fn remove_backup(&self, key: &BackupKey) -> Result<(), CallError> {
        let (user, id) = (key.owner.to_string(), key.id.to_string());
        let mut wire = self.wire()?;
        let request = v1::RemoveBackupRequest { sender: self.sender_wire(), user, id };
        within(self.timings.access_deadline, wire.remove_backup(request)).await.map(drop)
    }

    /// What is in the store. What is no backup's name is left out: somebody put it there.
    pub(crate) async fn stored(&self) -> Result<Vec<BackupKey>, CallError> {
        let mut wire = self.wire()?;
        let request = v1::ListStoredRequest { sender: self.sender_wire() };
        let answer = within(self.timings.access_deadline, wire.list_stored(request)).await?;
        let keys = answer.backups.iter().filter_map(|b| convert::backup_key_from_wire(&b.user, &b.id).ok());
        Ok(keys.collect())
    }

    /// What lies beside a backup's data; none: it is gone.
    pub(crate) async fn manifest(&self, key: &BackupKey) -> Result<Option<Manifest>, CallError> {
        let (user, id) = (key.owner.to_string(), key.id.to_string());
        let mut wire = self.wire()?;
        let request = v1::ReadManifestRequest { sender: self.sender_wire(), user, id };
        match within(self.timings.access_deadline, wire.read_manifest(request)).await {
            Ok(answer) => Ok(Some(convert::manifest_from_wire(&answer.manifest_json)?)),
            Err(CallError::Refused(status)) if status.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
