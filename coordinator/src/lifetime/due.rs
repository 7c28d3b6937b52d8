//! What the passing of time asks for, container by container: a warning, a stop, an end. Pure: it is told the time.
//!
//! ```text
//! runs ── warn_at: Warn ── expires_at: Expire (stopped, marked) ── grace: Destroy, or Keep if it is protected
//! ```
//! A wrong clock may stop a container, which can be started again. It must never destroy one: that takes a mark made
//! earlier, and a whole grace that was lived through by a clock that cannot be set. It must not touch what is moving.

use std::time::Duration;

use containarium_proto::{
    ids::ContainerId,
    spec::{Desired, Observed},
};

use crate::store::{Held, Lifetime, Ttl};

/// The moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) unix_millis: i64,
    /// How long this coordinator has led.
    pub(crate) reign_age: Duration,
}

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Between the end of its time and the deletion.
    pub(crate) grace: Duration,
    /// Nothing is deleted by a reign younger than this: an operator who sees it go wrong can stop it.
    pub(crate) settle: Duration,
}

/// A container with what its node says of its use.
#[derive(Debug, Clone)]
pub(crate) struct Watched<'a> {
    pub(crate) held: &'a Held,
    /// It runs as ordered, its node answers, and says that it was not used since.
    pub(crate) idle_since: Option<i64>,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) container: ContainerId,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Its time ends soon.
    Warn { expires_at: i64 },
    /// Its time is over: marked, and stopped if there is something to stop.
    Expire { expires_at: i64, stop: bool },
    /// It would be destroyed now, if it were not protected.
    Keep { expires_at: i64, expired_at: i64, graced: Duration },
    /// Nobody extended its time.
    Destroy { expires_at: i64 },
    /// Nobody uses it.
    Rest { limit: Duration },
}

/// At most one thing per container; the next look finds the next.
pub(crate) fn due(now: Now, rules: Rules, rows: &[Watched<'_>]) -> Vec<Due> {
    // What is being destroyed has no time left to pass. What moves is left alone until it has one home for good: its time
    // is looked at again then.
    let lives = rows.iter().filter(|watched| watched.held.placement.is_home() && watched.held.moving.is_none());
    let one = |watched: &Watched<'_>| {
        let container = watched.held.container.id;
        what(now, rules, watched).map(|what| Due { container, what })
    };
    lives.filter_map(one).collect()
}

fn what(now: Now, rules: Rules, watched: &Watched<'_>) -> Option<What> {
    let Lifetime { ttl, idle_stop } = watched.held.container.lifetime;
    let of_age = match ttl {
        Ttl::Off => None,
        Ttl::Runs { expires_at, .. } if now.unix_millis >= expires_at => {
            Some(What::Expire { expires_at, stop: can_be_stopped(watched.held) })
        }
        Ttl::Runs { expires_at, warn_at } => {
            warn_at.filter(|at| now.unix_millis >= *at).map(|_| What::Warn { expires_at })
        }
        Ttl::Expired { .. } => after_the_end(now, rules, watched.held),
    };
    of_age.or_else(|| {
        idle_stop.filter(|limit| elapsed(watched.idle_since, now, *limit)).map(|limit| What::Rest { limit })
    })
}

fn after_the_end(now: Now, rules: Rules, held: &Held) -> Option<What> {
    let Ttl::Expired { expires_at, expired_at, graced, kept_noted } = held.container.lifetime.ttl else { return None };
    if now.reign_age < rules.settle || !elapsed(Some(expired_at), now, rules.grace) {
        return None;
    }
    match held.container.protected {
        true => (!kept_noted).then_some(What::Keep { expires_at, expired_at, graced }),
        // The time of day can be set forward; what we lived through cannot.
        false => (graced >= rules.grace).then_some(What::Destroy { expires_at }),
    }
}

/// What is stopped, or gone, gets no order: there is nothing to stop.
fn can_be_stopped(held: &Held) -> bool {
    held.placement.desired == Desired::Running && *held.placement.observed_now() != Observed::Absent
}

fn elapsed(since: Option<i64>, now: Now, limit: Duration) -> bool {
    let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    since.is_some_and(|since| now.unix_millis.saturating_sub(since) >= limit)
}

#[cfg(test)]
mod tests;
