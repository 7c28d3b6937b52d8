//! Snapshots that we were told to make or remove, and the schedules. A row that is not ready is the intent, written before
//! any node is told. It must never say what a node has: only the node can.

use std::str::FromStr;

use containarium_proto::{
    ids::{ContainerId, RequestId},
    snapshots::{Every, Keep, Schedule, SnapshotName},
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    PlacementRow, Reader, StoreError, WriteTx, failed,
    rows::{corrupt, number, parsed, signed, text},
};

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SnapshotState {
    /// Its node may not have it yet, or half of it.
    Creating,
    /// Its node said that it is made.
    Ready,
    /// Its node may still have it.
    Deleting,
}

impl SnapshotState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Deleting => "deleting",
        }
    }
}

impl FromStr for SnapshotState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Creating, Self::Ready, Self::Deleting];
        all.into_iter().find(|s| s.as_str() == text).ok_or_else(|| format!("'{text}', which is no state"))
    }
}

/// One snapshot of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    pub(crate) container: ContainerId,
    pub(crate) name: SnapshotName,
    pub(crate) state: SnapshotState,
    pub(crate) scheduled: bool,
    pub(crate) seq: i64,
    pub(crate) request: RequestId,
    pub(crate) since: i64,
}

/// What a container's own row says of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshotting {
    pub(crate) schedule: Option<Schedule>,
    /// When the last one was begun by a schedule; unix milliseconds.
    pub(crate) last_at: Option<i64>,
}

pub(super) fn snapshotting(row: &AnyRow) -> Result<Snapshotting, StoreError> {
    let schedule = match text(row, "snapshot_every")?.as_str() {
        "" => None,
        every => {
            let every: Every = every.parse().map_err(|error: String| corrupt("snapshot_every", error))?;
            let keep = u32::try_from(number(row, "snapshot_keep")?).map_err(|error| error.to_string());
            let keep = keep.and_then(Keep::try_from).map_err(|error| corrupt("snapshot_keep", error))?;
            Some(Schedule { every, keep })
        }
    };
    Ok(Snapshotting { schedule, last_at: Some(signed(row, "snapshotted_at")?).filter(|at| *at != 0) })
}

fn from_row(row: &AnyRow) -> Result<SnapshotRow, StoreError> {
    Ok(SnapshotRow {
        container: parsed(row, "container_id")?,
        name: parsed(row, "name")?,
        state: parsed(row, "state")?,
        scheduled: signed(row, "scheduled")? != 0,
        seq: signed(row, "seq")?,
        request: parsed(row, "request_id")?,
        since: signed(row, "since")?,
    })
}

/// The one of a container that is being made or removed.
pub(crate) fn under_way(rows: &[SnapshotRow]) -> Option<&SnapshotRow> {
    rows.iter().find(|row| row.state != SnapshotState::Ready)
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// Those of one container, the oldest first.
    pub(crate) async fn snapshots_of(&mut self, container: ContainerId) -> Result<Vec<SnapshotRow>, StoreError> {
        let found =
            sqlx::query("SELECT * FROM snapshot WHERE container_id = $1 ORDER BY seq").bind(container.to_string());
        let found = found.fetch_all(self.connection()).await.map_err(failed("listing snapshots"))?;
        found.iter().map(from_row).collect()
    }

    /// Whatever is being made or removed.
    pub(crate) async fn snapshots_under_way(&mut self) -> Result<Vec<SnapshotRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM snapshot WHERE state <> 'ready' ORDER BY since, container_id");
        let found = found.fetch_all(self.connection()).await.map_err(failed("listing snapshots under way"))?;
        found.iter().map(from_row).collect()
    }
}

impl WriteTx {
    pub(crate) async fn insert_snapshot(&mut self, row: &SnapshotRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO snapshot (container_id, name, state, scheduled, seq, request_id, since) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        sqlx::query(sql)
            .bind(row.container.to_string())
            .bind(row.name.as_str())
            .bind(row.state.as_str())
            .bind(i64::from(row.scheduled))
            .bind(row.seq)
            .bind(row.request.to_string())
            .bind(row.since)
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("inserting a snapshot"))
    }

    /// Writes how far one is.
    pub(crate) async fn update_snapshot(&mut self, row: &SnapshotRow) -> Result<(), StoreError> {
        let sql = "UPDATE snapshot SET state = $3, since = $4 WHERE container_id = $1 AND name = $2";
        let update = sqlx::query(sql).bind(row.container.to_string()).bind(row.name.as_str());
        let update = update.bind(row.state.as_str()).bind(row.since).execute(self.connection());
        update.await.map(drop).map_err(failed("noting how far a snapshot is"))
    }

    /// It is gone, or never was.
    pub(crate) async fn forget_snapshot(&mut self, row: &SnapshotRow) -> Result<(), StoreError> {
        let gone = sqlx::query("DELETE FROM snapshot WHERE container_id = $1 AND name = $2");
        let gone = gone.bind(row.container.to_string()).bind(row.name.as_str()).execute(self.connection());
        gone.await.map(drop).map_err(failed("forgetting a snapshot"))
    }

    pub(crate) async fn set_snapshotting(
        &mut self,
        container: ContainerId,
        to: &Snapshotting,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE container SET snapshot_every = $2, snapshot_keep = $3, snapshotted_at = $4 WHERE id = $1";
        let keep = to.schedule.map_or(Keep::USUAL, |schedule| schedule.keep);
        let update = sqlx::query(sql)
            .bind(container.to_string())
            .bind(to.schedule.map(|schedule| schedule.every.to_string()).unwrap_or_default())
            .bind(i64::from(keep.get()))
            .bind(to.last_at.unwrap_or_default());
        update.execute(self.connection()).await.map(drop).map_err(failed("setting a schedule of snapshots"))
    }

    /// What an order was allowed cannot be done at all: it is not tried again by the next order.
    pub(crate) async fn drop_licence(&mut self, row: &PlacementRow) -> Result<(), StoreError> {
        let sql = "UPDATE placement SET licence = '' WHERE container_id = $1 AND node = $2 AND generation = $3";
        let update = sqlx::query(sql).bind(row.container.to_string()).bind(row.node.as_str());
        let update = update.bind(row.generation.0.cast_signed()).execute(self.connection());
        update.await.map(drop).map_err(failed("dropping a licence"))
    }
}
