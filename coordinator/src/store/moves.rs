//! The journal of moves: one row for each container that is on its way from a node to another, until both are clean.

use std::str::FromStr;

use containarium_proto::{
    ids::{ContainerId, RequestId},
    names::NodeName,
    spec::Desired,
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    Reader, Role, StoreError, WriteTx, failed,
    rows::{desired_from_text, desired_text, parsed, signed, text},
};

/// How far a move has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MovePhase {
    /// The container runs on the source while the target copies.
    Copying,
    /// It is told to stop.
    Stopping,
    /// It is stopped; the target copies what changed last.
    Finishing,
    /// The target is its home and starts it.
    Starting,
    /// It answers; the source destroys its copy.
    Cleaning,
    /// It stays; the target destroys its copy.
    Cancelling,
}

impl MovePhase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Stopping => "stopping",
            Self::Finishing => "finishing",
            Self::Starting => "starting",
            Self::Cleaning => "cleaning",
            Self::Cancelling => "cancelling",
        }
    }
}

impl FromStr for MovePhase {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Copying, Self::Stopping, Self::Finishing, Self::Starting, Self::Cleaning, Self::Cancelling];
        all.into_iter().find(|p| p.as_str() == text).ok_or_else(|| format!("'{text}', which is no phase of a move"))
    }
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MoveRow {
    pub(crate) container: ContainerId,
    pub(crate) source: NodeName,
    pub(crate) target: NodeName,
    pub(crate) phase: MovePhase,
    /// What it was before, and is to be after.
    pub(crate) resume: Desired,
    pub(crate) request: RequestId,
    pub(crate) started_at: i64,
    /// When it was told to stop.
    pub(crate) stopped_at: Option<i64>,
    /// When it answered again.
    pub(crate) answered_at: Option<i64>,
    /// Of a cancellation.
    pub(crate) reason: String,
}

fn from_row(row: &AnyRow) -> Result<MoveRow, StoreError> {
    let at = |column| signed(row, column).map(|at| Some(at).filter(|at| *at != 0));
    Ok(MoveRow {
        container: parsed(row, "container_id")?,
        source: parsed(row, "source")?,
        target: parsed(row, "target")?,
        phase: parsed(row, "phase")?,
        resume: desired_from_text(&text(row, "resume")?)?,
        request: parsed(row, "request_id")?,
        started_at: signed(row, "started_at")?,
        stopped_at: at("stopped_at")?,
        answered_at: at("answered_at")?,
        reason: text(row, "reason")?,
    })
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// All moves, oldest first.
    pub(crate) async fn moves(&mut self) -> Result<Vec<MoveRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM move ORDER BY started_at, container_id");
        let found = found.fetch_all(self.connection()).await.map_err(failed("listing moves"))?;
        found.iter().map(from_row).collect()
    }

    pub(crate) async fn move_of(&mut self, container: ContainerId) -> Result<Option<MoveRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM move WHERE container_id = $1").bind(container.to_string());
        let found = found.fetch_optional(self.connection()).await.map_err(failed("reading a move"))?;
        found.as_ref().map(from_row).transpose()
    }
}

impl WriteTx {
    pub(crate) async fn insert_move(&mut self, row: &MoveRow) -> Result<(), StoreError> {
        self.claim(row.container, row.request).await?;
        let sql = "INSERT INTO move (container_id, source, target, phase, resume, request_id, started_at, stopped_at, \
                   answered_at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        sqlx::query(sql)
            .bind(row.container.to_string())
            .bind(row.source.as_str())
            .bind(row.target.as_str())
            .bind(row.phase.as_str())
            .bind(desired_text(row.resume))
            .bind(row.request.to_string())
            .bind(row.started_at)
            .bind(row.stopped_at.unwrap_or_default())
            .bind(row.answered_at.unwrap_or_default())
            .bind(row.reason.as_str())
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("beginning a move"))
    }

    /// Writes how far a move is.
    pub(crate) async fn update_move(&mut self, row: &MoveRow) -> Result<(), StoreError> {
        let sql = "UPDATE move SET phase = $2, stopped_at = $3, answered_at = $4, reason = $5 WHERE container_id = $1";
        sqlx::query(sql)
            .bind(row.container.to_string())
            .bind(row.phase.as_str())
            .bind(row.stopped_at.unwrap_or_default())
            .bind(row.answered_at.unwrap_or_default())
            .bind(row.reason.as_str())
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("noting how far a move is"))
    }

    /// Both nodes are clean, or will be by the orders they have. No error if there is none.
    pub(crate) async fn end_move(&mut self, container: ContainerId) -> Result<(), StoreError> {
        let gone = sqlx::query("DELETE FROM move WHERE container_id = $1").bind(container.to_string());
        gone.execute(self.connection()).await.map(drop).map_err(failed("ending a move"))
    }

    /// Makes a placement another thing to its container, under the same order (I4: no content changes).
    pub(crate) async fn set_role(
        &mut self,
        container: ContainerId,
        node: &NodeName,
        role: Role,
    ) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE placement SET role = $3, copy_pass = 0 WHERE container_id = $1 AND node = $2");
        let update = update.bind(container.to_string()).bind(node.as_str()).bind(role.as_str());
        update.execute(self.connection()).await.map(drop).map_err(failed("changing a placement's role"))
    }
}
