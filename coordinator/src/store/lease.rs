//! The lease row: whose term it is. Only this file makes a [`Fence`], so a write that no term allows does not compile.
//! It must never decide *when* to try: that is `leader`.

use containarium_proto::ids::Term;
use sqlx::any::AnyRow;

use super::{
    Store, StoreError, failed,
    rows::{number, signed, text},
};

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

/// The row as an observer sees it. Only that it changes means something: no two machines' clocks are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    term: Term,
    rev: i64,
    beat: i64,
    holder: String,
    address: String,
}

impl Holding {
    /// Whether somebody leads, or has led until a moment ago.
    pub(crate) fn is_held(&self) -> bool {
        !self.holder.is_empty()
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// Where the leader serves; empty when nobody leads.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Who would lead, and where it would serve.
#[derive(Debug, Clone)]
pub(crate) struct LeaseClaim {
    pub(crate) holder: String,
    pub(crate) address: String,
    /// A term that somebody has seen: ours must be above it.
    pub(crate) seen: Term,
}

impl Store {
    /// Ends whatever reign there was, by a higher term. For a caller that knows nobody else may lead.
    pub(crate) async fn take_lease(&self, claim: &LeaseClaim) -> Result<Fence, StoreError> {
        let sql = "UPDATE lease SET holder = $1, address = $2, rev = rev + 1, \
                   term = CASE WHEN term < $3 THEN $3 ELSE term END + 1 WHERE one = 1 RETURNING term";
        let row = sqlx::query(sql).bind(claim.holder.as_str()).bind(claim.address.as_str());
        let row = row.bind(claim.seen.0.cast_signed()).fetch_one(&self.pool).await;
        fence(&row.map_err(failed("taking the lease"))?, claim)
    }

    /// The same, but only if nothing has happened since `seen` was read.
    pub(crate) async fn try_take_lease(&self, claim: &LeaseClaim, seen: &Holding) -> Result<Option<Fence>, StoreError> {
        let sql = "UPDATE lease SET holder = $1, address = $2, rev = rev + 1, \
                   term = CASE WHEN term < $3 THEN $3 ELSE term END + 1 \
                   WHERE term = $4 AND rev = $5 AND beat = $6 RETURNING term";
        let row = sqlx::query(sql)
            .bind(claim.holder.as_str())
            .bind(claim.address.as_str())
            .bind(claim.seen.0.cast_signed())
            .bind(seen.term.0.cast_signed())
            .bind(seen.rev)
            .bind(seen.beat)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("trying for the lease"))?;
        row.map(|row| fence(&row, claim)).transpose()
    }

    /// What there is to see.
    pub(crate) async fn holding(&self) -> Result<Holding, StoreError> {
        let row = sqlx::query("SELECT term, rev, beat, holder, address FROM lease").fetch_one(&self.pool).await;
        let row = row.map_err(failed("looking at the lease"))?;
        Ok(Holding {
            term: Term(number(&row, "term")?),
            rev: signed(&row, "rev")?,
            beat: signed(&row, "beat")?,
            holder: text(&row, "holder")?,
            address: text(&row, "address")?,
        })
    }

    /// Says that the reign goes on.
    pub(crate) async fn beat(&self, fence: &Fence) -> Result<(), StoreError> {
        let sql = "UPDATE lease SET beat = beat + 1 WHERE holder = $1 AND term = $2";
        let held = sqlx::query(sql).bind(fence.holder()).bind(fence.term.0.cast_signed()).execute(&self.pool).await;
        match held.map_err(failed("keeping the lease"))?.rows_affected() {
            0 => Err(StoreError::NotLeader { term: fence.term }),
            _ => Ok(()),
        }
    }

    /// Ends the reign by itself, so that nobody has to wait for it. What the fence could do, it cannot any more.
    pub(crate) async fn release_lease(&self, fence: &Fence) -> Result<(), StoreError> {
        let sql = "UPDATE lease SET holder = '', address = '', rev = rev + 1 WHERE holder = $1 AND term = $2";
        let done = sqlx::query(sql).bind(fence.holder()).bind(fence.term.0.cast_signed()).execute(&self.pool).await;
        done.map(drop).map_err(failed("giving the lease back"))
    }

    /// The fence of one who only looks: no row was ever held under it, so every write is refused.
    pub(crate) fn nobody() -> Fence {
        Fence { term: Term(0), holder: String::from("nobody") }
    }
}

fn fence(row: &AnyRow, claim: &LeaseClaim) -> Result<Fence, StoreError> {
    Ok(Fence { term: Term(number(row, "term")?), holder: claim.holder.clone() })
}
