//! What one caller may do at once and in a second, so that a script that runs wild does not keep others out. Nobody is
//! queued: who is over the limit is told so, and comes again.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use containarium_proto::error::{Reason, Refusal};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::Caller;
use crate::config::Limits;

/// Callers that are remembered; more than a fleet has operators. Beyond it, those at rest are forgotten.
const REMEMBERED: usize = 1_000;

#[derive(Clone)]
pub(super) struct Turnstile {
    limits: Limits,
    rates: Arc<DefaultKeyedRateLimiter<String>>,
    places: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Turnstile {
    pub(super) fn new(limits: Limits) -> Self {
        let of = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(of(limits.per_second)).allow_burst(of(limits.burst));
        Self { limits, rates: Arc::new(RateLimiter::keyed(quota)), places: Arc::default() }
    }

    /// A place until it is dropped.
    pub(super) fn enter(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Refusal> {
        let name = caller.as_str().to_owned();
        if self.rates.len() > REMEMBERED {
            self.rates.retain_recent();
        }
        if self.rates.check_key(&name).is_err() {
            let most = self.limits.per_second;
            return Err(Refusal::new(Reason::Busy, format!("more than {most} calls a second with one certificate"))
                .hint(
                    "call less often; 'containarium list --watch' and 'events --follow' tell changes as they happen",
                ));
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() > REMEMBERED {
            places.retain(|_, of| of.available_permits() < self.limits.at_once);
        }
        let own = places.entry(name).or_insert_with(|| Arc::new(Semaphore::new(self.limits.at_once)));
        own.clone().try_acquire_owned().map_err(|_| {
            let most = self.limits.at_once;
            Refusal::new(Reason::Busy, format!("{most} calls of one certificate are being answered already"))
                .hint("wait for some of them to end")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_has_limits_and_does_not_use_up_anothers() {
        let stile = Turnstile::new(Limits { per_second: 1, burst: 4, at_once: 2 });
        let caller = Caller::default();
        let (one, _two) = (stile.enter(&caller).unwrap(), stile.enter(&caller).unwrap());
        assert!(stile.enter(&caller).unwrap_err().message.contains("2 calls of one"));
        drop(one);
        let _three = stile.enter(&caller).unwrap();
        let refused = stile.enter(&caller).unwrap_err();
        assert_eq!(refused.reason, Reason::Busy);
        assert!(refused.message.contains("a second"), "{refused}");
        assert!(stile.enter(&Caller::named("other")).is_ok());
    }
}
