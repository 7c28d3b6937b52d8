//! Which requests have made their change. A copy of one may lie in a socket of a process that stood still, and be read
//! when its caller has long asked elsewhere, been answered, and asked for something else.

use std::ops::DerefMut;

use containarium_proto::ids::{ContainerId, RequestId};
use sqlx::AnyConnection;

use super::{Reader, StoreError, WriteTx, failed, rows::parsed};
use crate::clock;

/// Longer than any process stands still and is let go on.
const KEPT_MILLIS: i64 = 7 * 24 * 3600 * 1000;

impl<C: DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// Of which container a request has made its change; none: it is new.
    pub(crate) async fn done(&mut self, request: RequestId) -> Result<Option<ContainerId>, StoreError> {
        let found =
            sqlx::query("SELECT container_id FROM done_request WHERE request_id = $1").bind(request.to_string());
        let found = found.fetch_optional(self.connection()).await.map_err(failed("looking for a done request"))?;
        found.as_ref().map(|row| parsed(row, "container_id")).transpose()
    }

    /// Whether what a request asked for is still the latest that was asked for of this container, or is being done.
    async fn is_latest(&mut self, container: ContainerId, request: RequestId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM placement WHERE container_id = $1 AND request_id = $2 \
                   UNION ALL SELECT 1 FROM move WHERE container_id = $1 AND request_id = $2";
        let found = sqlx::query(sql).bind(container.to_string()).bind(request.to_string());
        let found = found.fetch_optional(self.connection()).await;
        Ok(found.map_err(failed("looking for the latest request"))?.is_some())
    }
}

impl WriteTx {
    /// Takes note that `request` makes its change in this transaction. Fails if it has made it before, and something else
    /// was asked for since.
    pub(crate) async fn claim(&mut self, container: ContainerId, request: RequestId) -> Result<(), StoreError> {
        // One request may change several rows.
        if self.claimed == Some(request) {
            return Ok(());
        }
        let sql = "INSERT INTO done_request (request_id, container_id, done_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (request_id) DO NOTHING";
        let insert = sqlx::query(sql).bind(request.to_string()).bind(container.to_string()).bind(clock::now());
        let inserted = insert.execute(self.connection()).await.map_err(failed("noting a request"))?;
        if inserted.rows_affected() == 0 && !self.reader().is_latest(container, request).await? {
            return Err(StoreError::Repeated { request });
        }
        self.claimed = Some(request);
        Ok(())
    }

    /// Forgets those that no copy can come of any more; gives how many.
    pub(crate) async fn prune_requests(&mut self) -> Result<u64, StoreError> {
        self.prune_requests_before(clock::now() - KEPT_MILLIS).await
    }

    pub(super) async fn prune_requests_before(&mut self, oldest: i64) -> Result<u64, StoreError> {
        let prune = sqlx::query("DELETE FROM done_request WHERE done_at < $1").bind(oldest);
        let done = prune.execute(self.connection()).await.map_err(failed("pruning done requests"))?;
        Ok(done.rows_affected())
    }
}
