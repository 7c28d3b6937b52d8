//! The lease row: whose term it is. Only this file makes a [`Fence`], so a write that no term allows does not compile.
//! It must never decide *when* to try: that is `leader`.

use containarium_proto::ids::Term;
use sqlx::Row;

use super::{Store, StoreError, failed};

/// One reign: proof that this process took the lease under this term. Every write shows it.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    term: Term,
    holder: String,
}

impl Fence {
    /// What agents are shown (I9).
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn holder(&self) -> &str {
        &self.holder
    }
}

impl Store {
    /// Ends whatever reign there was, by a higher term. For a caller that knows nobody else may lead.
    pub(crate) async fn take_lease(&self, holder: &str) -> Result<Fence, StoreError> {
        let row =
            sqlx::query("UPDATE lease SET holder = $1, term = term + 1, rev = rev + 1 WHERE one = 1 RETURNING term")
                .bind(holder)
                .fetch_one(&self.pool)
                .await
                .map_err(failed("taking the lease"))?;
        let term: i64 = row.try_get("term").map_err(failed("reading the term"))?;
        Ok(Fence { term: Term(term.cast_unsigned()), holder: holder.to_owned() })
    }
}
