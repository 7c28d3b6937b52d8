//! The only way to change the database: a transaction that has proved its term first. It must never exist without a
//! [`Fence`], and never commit after a newer term began.

use std::time::{Duration, Instant};

use containarium_proto::ids::RequestId;
use sqlx::{AnyConnection, Transaction};
use tokio::sync::{OwnedMutexGuard, watch};
use uuid::Uuid;

use super::{Fence, Reader, Store, StoreError, failed, open, rows::text};
use crate::faults::Moment;

/// A commit is one sync of a disk. One that takes longer has probably no other end any more.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a database that was lost during a commit is asked whether it happened: a standby takes over in this time.
/// The caller's own deadline is longer.
const ASK_FOR: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A fenced transaction. Dropped without [`WriteTx::commit`], it changes nothing.
pub(crate) struct WriteTx {
    tx: Transaction<'static, sqlx::Any>,
    // After `tx`: the next writer's turn comes when ours is rolled back.
    _turn: OwnedMutexGuard<()>,
    commits: watch::Sender<u64>,
    store: Store,
    fence: Fence,
    /// Stands in the lease row if this was committed.
    mark: String,
    /// The request whose change this makes.
    pub(super) claimed: Option<RequestId>,
}

impl Store {
    /// Begins to write. The lease row's lock makes writers of all processes wait for each other, so what is read
    /// inside stays true until the commit.
    pub(crate) async fn write(&self, fence: &Fence) -> Result<WriteTx, StoreError> {
        let turn = self.turn.clone().lock_owned().await;
        let mut tx = open::patiently(|| self.pool.begin()).await.map_err(failed("beginning a write"))?;
        let mark = Uuid::new_v4().to_string();
        let held = sqlx::query("UPDATE lease SET rev = rev + 1, last_write = $3 WHERE holder = $1 AND term = $2")
            .bind(fence.holder())
            .bind(fence.term().0.cast_signed())
            .bind(mark.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed("showing the term"))?;
        if held.rows_affected() == 0 {
            tx.rollback().await.map_err(failed("leaving a write"))?;
            return Err(StoreError::NotLeader { term: fence.term() });
        }
        let (commits, store, fence) = (self.commits.clone(), self.clone(), fence.clone());
        Ok(WriteTx { tx, _turn: turn, commits, store, fence, mark, claimed: None })
    }

    /// After a commit that was not answered: whether it happened. Asks by locking the lease row, so a server that still
    /// works on it is waited for. Our turn is held: nobody of this process has written since.
    /// None: nobody can tell.
    pub(super) async fn was_committed(&self, fence: &Fence, mark: &str) -> Option<bool> {
        let until = Instant::now() + ASK_FOR;
        loop {
            match self.latest_write().await {
                Ok((_, latest)) if latest == mark => return Some(true),
                Ok((holder, _)) if holder == fence.holder() => return Some(false),
                // Somebody else leads and may have written over it.
                Ok(_) => return None,
                Err(error) if Instant::now() >= until => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the database stays away");
                    return None;
                }
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    /// Who leads, and the mark of the latest write.
    async fn latest_write(&self) -> Result<(String, String), StoreError> {
        let mut tx = self.pool.begin().await.map_err(failed("asking for a commit"))?;
        let row = sqlx::query("UPDATE lease SET rev = rev + 1 WHERE one = 1 RETURNING holder, last_write");
        let row = row.fetch_one(&mut *tx).await.map_err(failed("asking for a commit"))?;
        tx.rollback().await.map_err(failed("asking for a commit"))?;
        Ok((text(&row, "holder")?, text(&row, "last_write")?))
    }
}

impl WriteTx {
    /// All of it, durably; or, with an error other than [`StoreError::Unknown`], nothing of it.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let Self { tx, _turn, commits, store, fence, mark, claimed: _ } = self;
        store.faults.pass(Moment::Committing).await;
        let committed = tokio::time::timeout(COMMIT_PATIENCE, tx.commit()).await;
        if let Err(lost) = committed.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
            tracing::warn!(error = &lost as &dyn std::error::Error, "a commit was not answered, asking about it");
            match store.was_committed(&fence, &mark).await {
                Some(true) => {}
                Some(false) => return Err(failed("committing")(lost)),
                None => return Err(StoreError::Unknown(lost)),
            }
        }
        store.faults.pass(Moment::Committed).await;
        commits.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// What is true inside this transaction.
    pub(crate) fn reader(&mut self) -> Reader<&mut AnyConnection> {
        Reader::new(&mut *self.tx)
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }
}
