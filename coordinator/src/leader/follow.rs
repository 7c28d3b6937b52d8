//! Following: looks at the lease row a few times a second, tells where the leader serves, and tries for the term when its
//! election says so. No clocks of two machines are compared: what counts is how long the row has rested before our eyes.

use std::time::{Duration, Instant};

use super::etcd::{Campaign, Mandate};
use crate::store::{Fence, Holding, LeaseClaim, Store, StoreError};

/// Looks in the time of a lease: a reign that was given back is taken up within a twentieth of it.
const LOOKS: u32 = 20;

/// How it is known that it is our turn.
pub(crate) enum Election {
    Sql,
    Etcd(Campaign),
}

/// A reign that begins.
pub(crate) struct Elected {
    pub(crate) fence: Fence,
    /// etcd's word, to be given back with the reign.
    pub(crate) mandate: Option<Mandate>,
}

/// Returns with a term of our own. `told` hears at every look who leads.
///
/// # Errors
/// The database did not answer within the time of a lease.
pub(crate) async fn follow(
    store: &Store,
    election: &Election,
    claim: &LeaseClaim,
    lease: Duration,
    mut told: impl FnMut(&Holding),
) -> Result<Elected, StoreError> {
    let mut rest = Rest::default();
    let won = async {
        match election {
            Election::Sql => std::future::pending().await,
            Election::Etcd(campaign) => campaign.won().await,
        }
    };
    tokio::pin!(won);
    let mut heard_at = Instant::now();
    loop {
        let seen = match within(lease.saturating_sub(heard_at.elapsed()), store.holding()).await {
            Ok(seen) => seen,
            Err(error) if heard_at.elapsed() >= lease => return Err(error),
            // A server that restarts.
            Err(_) => {
                tokio::time::sleep(lease / LOOKS).await;
                continue;
            }
        };
        heard_at = Instant::now();
        told(&seen);
        let rested = rest.look(&seen, Instant::now());
        let ours = matches!(election, Election::Sql) && (!seen.is_held() || rested >= lease);
        if ours && let Some(fence) = within(lease, store.try_take_lease(claim, &seen)).await? {
            return Ok(Elected { fence, mandate: None });
        }
        tokio::select! {
            mandate = &mut won => {
                // Whoever leads by the row has lost etcd, or is gone: the campaign would not be ours otherwise. Should
                // the row be out of our reach, the mandate is dropped, and another coordinator wins.
                let fence = within(lease, store.take_lease(claim)).await?;
                return Ok(Elected { fence, mandate: Some(mandate) });
            }
            () = tokio::time::sleep(lease / LOOKS) => {}
        }
    }
}

/// For how long the row has rested.
#[derive(Default)]
struct Rest(Option<(Holding, Instant)>);

impl Rest {
    fn look(&mut self, seen: &Holding, now: Instant) -> Duration {
        match &self.0 {
            Some((last, since)) if last == seen => now.duration_since(*since),
            Some(_) | None => {
                self.0 = Some((seen.clone(), now));
                Duration::ZERO
            }
        }
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Database {
        action: "asking about the lease",
        source: sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
    };
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}
