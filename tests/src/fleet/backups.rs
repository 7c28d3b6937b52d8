//! Backups on the simulated fleet.

use containarium_proto::v1;
use tonic::Status;

use super::{Background, Fleet, follow};

impl Fleet {
    /// A backup with an id of its own.
    #[must_use]
    pub fn backup_request(user: &str) -> v1::CreateBackupRequest {
        v1::CreateBackupRequest { user: user.into(), request_id: uuid::Uuid::new_v4().to_string() }
    }

    /// Backs up, from a thread of its own.
    #[must_use]
    pub fn backup_in_background(&self, request: v1::CreateBackupRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.create_backup(request).await?.into_inner()).await }))
    }

    /// Backs up and follows; gives the backup's id.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn backup(&self, user: &str) -> Result<String, Status> {
        let last = self.join(self.backup_in_background(Self::backup_request(user)))?;
        last.backup.map(|backup| backup.id).ok_or_else(|| Status::unknown(format!("no backup: {}", last.message)))
    }

    /// All backups of a user, the newest first.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn backups(&self, user: &str) -> Vec<v1::Backup> {
        let mut client = self.client();
        let request = v1::ListBackupsRequest { user: user.into() };
        self.caller.block_on(client.list_backups(request)).expect("a list").into_inner().backups
    }

    /// Verifies and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn verify_backup(&self, user: &str, id: &str) -> Result<v1::Progress, Status> {
        let mut client = self.client();
        let request = v1::VerifyBackupRequest { user: user.into(), id: id.into() };
        self.caller.block_on(async { follow(client.verify_backup(request).await?.into_inner()).await })
    }

    /// A restore of the newest with an id of its own, which replaces nothing.
    #[must_use]
    pub fn restore_request(user: &str) -> v1::RestoreBackupRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::RestoreBackupRequest { user: user.into(), request_id, ..Default::default() }
    }

    /// Restores, from a thread of its own.
    #[must_use]
    pub fn restore_in_background(&self, request: v1::RestoreBackupRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.restore_backup(request).await?.into_inner()).await }))
    }

    /// Restores and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn restore(&self, request: v1::RestoreBackupRequest) -> Result<v1::Progress, Status> {
        self.join(self.restore_in_background(request))
    }

    /// Deletes a backup, from a thread of its own.
    #[must_use]
    pub fn delete_backup_in_background(&self, user: &str, id: &str) -> Background {
        let mut client = self.client();
        let request = v1::DeleteBackupRequest { user: user.into(), id: id.into() };
        Background(self.caller.spawn(async move { follow(client.delete_backup(request).await?.into_inner()).await }))
    }

    /// Deletes a backup and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn delete_backup(&self, user: &str, id: &str) -> Result<v1::Progress, Status> {
        self.join(self.delete_backup_in_background(user, id))
    }
}
