//! Leading alone: the kernel's lock on the state folder says that no other coordinator uses this database, so the term
//! is taken at once. Should the database be shared all the same, the older process finds out at its next write.

use crate::store::{Fence, LeaseClaim, StateLock, Store, StoreError};

/// Begins a reign. The lock is borrowed as evidence.
pub(crate) async fn lead(store: &Store, _evidence: &StateLock, claim: &LeaseClaim) -> Result<Fence, StoreError> {
    store.take_lease(claim).await
}
