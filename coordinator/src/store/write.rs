//! The only way to change the database: a transaction that has proved its term first. It must never exist without a
//! [`Fence`], and never commit after a newer term began.

use sqlx::{AnyConnection, Transaction};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::faults::{FaultPoints, Moment};

use super::{Fence, Reader, Store, StoreError, failed};

/// A fenced transaction. Dropped without [`WriteTx::commit`], it changes nothing.
pub(crate) struct WriteTx {
    tx: Transaction<'static, sqlx::Any>,
    // After `tx`: the next writer's turn comes when ours is rolled back.
    _turn: OwnedMutexGuard<()>,
    commits: watch::Sender<u64>,
    faults: FaultPoints,
}

impl Store {
    /// Begins to write. The lease row's lock makes writers of all processes wait for each other, so what is read
    /// inside stays true until the commit.
    pub(crate) async fn write(&self, fence: &Fence) -> Result<WriteTx, StoreError> {
        let turn = self.turn.clone().lock_owned().await;
        let mut tx = self.pool.begin().await.map_err(failed("beginning a write"))?;
        let held = sqlx::query("UPDATE lease SET rev = rev + 1 WHERE holder = $1 AND term = $2")
            .bind(fence.holder())
            .bind(fence.term().0.cast_signed())
            .execute(&mut *tx)
            .await
            .map_err(failed("showing the term"))?;
        if held.rows_affected() == 0 {
            tx.rollback().await.map_err(failed("leaving a write"))?;
            return Err(StoreError::NotLeader { term: fence.term() });
        }
        Ok(WriteTx { tx, _turn: turn, commits: self.commits.clone(), faults: self.faults.clone() })
    }
}

impl WriteTx {
    /// All of it, durably.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.faults.pass(Moment::Committing).await;
        self.tx.commit().await.map_err(failed("committing"))?;
        self.faults.pass(Moment::Committed).await;
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// What is true inside this transaction.
    pub(crate) fn reader(&mut self) -> Reader<&mut AnyConnection> {
        Reader::new(&mut *self.tx)
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }
}
