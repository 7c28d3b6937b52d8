//! Backups as rows: those being written, those that are kept, those being removed. The store that holds their data says the
//! same of the kept ones, so a database that was lost is filled again from there.

use std::str::FromStr;

use containarium_proto::{
    backup::{BackupData, BackupFacts, BackupKey},
    ids::{ContainerId, RequestId},
    names::{NodeName, Username},
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    Reader, StoreError, WriteTx, failed,
    rows::{corrupt, json, text, to_json},
};

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BackupPhase {
    Writing,
    Kept,
    Removing,
}

impl BackupPhase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Kept => "kept",
            Self::Removing => "removing",
        }
    }
}

impl FromStr for BackupPhase {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Writing, Self::Kept, Self::Removing];
        all.into_iter().find(|p| p.as_str() == text).ok_or_else(|| format!("'{text}', which is no phase of a backup"))
    }
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupRow {
    pub(crate) facts: BackupFacts,
    /// None until it is kept.
    pub(crate) data: Option<BackupData>,
    /// None: it was found in the store.
    pub(crate) node: Option<NodeName>,
    pub(crate) phase: BackupPhase,
    pub(crate) request: Option<RequestId>,
    /// Removing: why; empty: it was asked for.
    pub(crate) reason: String,
}

impl BackupRow {
    pub(crate) fn key(&self) -> BackupKey {
        self.facts.key()
    }

    /// What it is, if it is there.
    pub(crate) fn kept(&self) -> Option<&BackupData> {
        self.data.as_ref().filter(|_| self.phase == BackupPhase::Kept)
    }
}

fn from_row(row: &AnyRow) -> Result<BackupRow, StoreError> {
    fn some<T: FromStr<Err: std::fmt::Display>>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreError> {
        match text(row, column)?.as_str() {
            "" => Ok(None),
            given => given.parse().map(Some).map_err(|error: T::Err| corrupt(column, error)),
        }
    }
    Ok(BackupRow {
        facts: json(row, "facts")?,
        data: match text(row, "data")?.as_str() {
            "" => None,
            _ => Some(json(row, "data")?),
        },
        node: some(row, "node")?,
        phase: super::rows::parsed(row, "phase")?,
        request: some(row, "request_id")?,
        reason: text(row, "reason")?,
    })
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// All of one user, or everybody's, by user, the newest first.
    pub(crate) async fn backups(&mut self, owner: Option<&Username>) -> Result<Vec<BackupRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM backup WHERE ($1 = '' OR owner = $1) ORDER BY owner, id DESC");
        let found = found.bind(owner.map_or("", Username::as_str)).fetch_all(self.connection()).await;
        found.map_err(failed("listing backups"))?.iter().map(from_row).collect()
    }

    /// Those that somebody must do something about.
    pub(crate) async fn unfinished_backups(&mut self) -> Result<Vec<BackupRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM backup WHERE phase <> 'kept' ORDER BY id, owner");
        let found = found.fetch_all(self.connection()).await.map_err(failed("listing unfinished backups"))?;
        found.iter().map(from_row).collect()
    }

    pub(crate) async fn backup(&mut self, key: &BackupKey) -> Result<Option<BackupRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM backup WHERE owner = $1 AND id = $2").bind(key.owner.as_str());
        let found = found.bind(key.id.as_str()).fetch_optional(self.connection()).await;
        found.map_err(failed("reading a backup"))?.as_ref().map(from_row).transpose()
    }

    /// The one of a container that is being written.
    pub(crate) async fn backing_up(&mut self, container: ContainerId) -> Result<Option<BackupRow>, StoreError> {
        let rows = self.unfinished_backups().await?;
        let mut rows = rows.into_iter().filter(|row| row.phase == BackupPhase::Writing);
        Ok(rows.find(|row| row.facts.container == container))
    }
}

impl WriteTx {
    pub(crate) async fn insert_backup(&mut self, row: &BackupRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO backup (owner, id, node, phase, facts, data, request_id, reason) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        sqlx::query(sql)
            .bind(row.facts.owner.as_str())
            .bind(row.facts.id.as_str())
            .bind(row.node.as_ref().map_or("", NodeName::as_str))
            .bind(row.phase.as_str())
            .bind(to_json("facts", &row.facts)?)
            .bind(row.data.as_ref().map_or(Ok(String::new()), |data| to_json("data", data))?)
            .bind(row.request.map(|request| request.to_string()).unwrap_or_default())
            .bind(row.reason.as_str())
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("beginning a backup"))
    }

    /// All of it is in the store. False if that is no longer what is wanted.
    pub(crate) async fn keep_backup(&mut self, key: &BackupKey, data: &BackupData) -> Result<bool, StoreError> {
        let sql = "UPDATE backup SET phase = 'kept', data = $3 WHERE owner = $1 AND id = $2 AND phase = 'writing'";
        let update = sqlx::query(sql).bind(key.owner.as_str()).bind(key.id.as_str()).bind(to_json("data", data)?);
        let done = update.execute(self.connection()).await.map_err(failed("keeping a backup"))?;
        Ok(done.rows_affected() == 1)
    }

    /// It is to go, whole or not. False if it is going already, or gone.
    pub(crate) async fn drop_backup(&mut self, key: &BackupKey, reason: &str) -> Result<bool, StoreError> {
        let sql =
            "UPDATE backup SET phase = 'removing', reason = $3 WHERE owner = $1 AND id = $2 AND phase <> 'removing'";
        let update = sqlx::query(sql).bind(key.owner.as_str()).bind(key.id.as_str()).bind(reason);
        let done = update.execute(self.connection()).await.map_err(failed("giving a backup up"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Nothing is left of it in the store.
    pub(crate) async fn forget_backup(&mut self, key: &BackupKey) -> Result<bool, StoreError> {
        let sql = "DELETE FROM backup WHERE owner = $1 AND id = $2 AND phase = 'removing'";
        let gone = sqlx::query(sql).bind(key.owner.as_str()).bind(key.id.as_str());
        let gone = gone.execute(self.connection()).await.map_err(failed("forgetting a backup"))?;
        Ok(gone.rows_affected() == 1)
    }
}
