//! Leading alone: the kernel's lock on the state folder says that no other coordinator uses this database, so the term
//! is taken at once. Should the database be shared all the same, the older process finds out at its next write.

use uuid::Uuid;

use crate::store::{Fence, StateLock, Store, StoreError};

/// Begins a reign. The lock is borrowed as evidence.
pub(crate) async fn lead(store: &Store, _evidence: &StateLock) -> Result<Fence, StoreError> {
    store.take_lease(&Uuid::new_v4().to_string()).await
}
