//! Lifetimes: containers that end at a time, or stop when nobody uses them. One look every so often at those that have
//! such a wish; what is due is judged again inside the transaction that carries it out, with its event and its mark, so
//! that it happens once whoever dies in between. It must never tell a node anything: the drivers do.

mod due;

use std::{
    convert::Infallible,
    error::Error,
    time::{Duration, Instant},
};

use containarium_proto::{ids::ContainerId, lifetime::short};

use self::due::{Now, Rules, Watched, What};
use crate::{
    clock,
    config::Lifetimes,
    ending,
    node::live::Sights,
    reign::Reign,
    store::{EventKind, Held, Lifetime, StoreError, Ttl, WriteTx},
};

/// A time to live that begins now. The warning comes an hour before the end, or later in a short life.
pub(crate) fn starting(now: i64, ttl: Duration, lifetimes: &Lifetimes) -> Ttl {
    let after = |duration: Duration| now.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    let lead = lifetimes.warning.min(ttl / lifetimes.warning_share);
    Ttl::Runs { expires_at: after(ttl), warn_at: Some(after(ttl.saturating_sub(lead))) }
}

/// Never ends.
pub(crate) async fn keep(reign: &Reign) -> Infallible {
    let mut keeper = Keeper { began: Instant::now(), counted: Instant::now() };
    loop {
        tokio::time::sleep(reign.config.timings.lifetimes_every).await;
        if let Err(error) = keeper.look(reign).await {
            tracing::error!(error = &error as &dyn Error, "lifetimes could not be looked after, will be repeated");
        }
    }
}

struct Keeper {
    began: Instant,
    /// Up to when the grace of those that have expired is counted.
    counted: Instant,
}

impl Keeper {
    async fn look(&mut self, reign: &Reign) -> Result<(), StoreError> {
        let lived = self.counted.elapsed();
        self.counted = Instant::now();
        let mut rows = reign.store.reader().await?.with_lifetime().await?;
        if rows.iter().any(has_expired) {
            let mut tx = reign.write().await?;
            tx.count_grace(lived).await?;
            tx.commit().await?;
            rows = reign.store.reader().await?.with_lifetime().await?;
        }
        for due in self.due(reign, &rows) {
            self.carry_out(reign, due.container).await?;
        }
        Ok(())
    }

    fn due(&self, reign: &Reign, rows: &[Held]) -> Vec<due::Due> {
        let now = Now { unix_millis: clock::now(), reign_age: self.began.elapsed() };
        let rules = Rules { grace: reign.config.lifetimes.grace, settle: reign.config.timings.delete_settle };
        let sights = reign.sights();
        let watched: Vec<_> = rows.iter().map(|held| watched(held, &sights)).collect();
        due::due(now, rules, &watched)
    }

    /// One transaction, in which the truth is read again: its user may have extended, started or deleted it since.
    async fn carry_out(&self, reign: &Reign, container: ContainerId) -> Result<(), StoreError> {
        let mut tx = reign.write().await?;
        let rows = tx.reader().of_container(container).await?;
        let Some(due) = self.due(reign, &rows).pop() else { return Ok(()) };
        let Some(held) = rows.iter().find(|held| held.placement.is_home()) else { return Ok(()) };
        let words = Words { held, grace: short(reign.config.lifetimes.grace) };
        match due.what {
            What::Warn { expires_at } => {
                mark(&mut tx, held, Ttl::Runs { expires_at, warn_at: None }).await?;
                words.note(&mut tx, EventKind::ContainerExpiring, words.expiring(expires_at)).await?;
            }
            What::Expire { expires_at, stop } => {
                let (expired_at, graced, kept_noted) = (clock::now(), Duration::ZERO, false);
                mark(&mut tx, held, Ttl::Expired { expires_at, expired_at, graced, kept_noted }).await?;
                words.note(&mut tx, EventKind::ContainerExpired, words.expired()).await?;
                if stop {
                    ending::stop(&mut tx, &held.placement).await?;
                }
            }
            What::Keep { expires_at, expired_at, graced } => {
                let kept_noted = true;
                mark(&mut tx, held, Ttl::Expired { expires_at, expired_at, graced, kept_noted }).await?;
                words.note(&mut tx, EventKind::ContainerKept, words.kept()).await?;
            }
            What::Destroy { expires_at } => {
                ending::destroy(&mut tx, &rows, &words.over(expires_at)).await?;
            }
            What::Rest { limit } => {
                words.note(&mut tx, EventKind::ContainerIdle, words.idle(limit)).await?;
                ending::stop(&mut tx, &held.placement).await?;
            }
        }
        tx.commit().await?;
        reign.wake_all();
        Ok(())
    }
}

fn has_expired(held: &Held) -> bool {
    matches!(held.container.lifetime.ttl, Ttl::Expired { .. })
}

fn watched<'a>(held: &'a Held, sights: &Sights) -> Watched<'a> {
    let row = &held.placement;
    let sight = sights.get(&row.node).filter(|sight| sight.is_online());
    Watched { held, idle_since: sight.and_then(|sight| sight.idle_since(row.container, row.generation)) }
}

async fn mark(tx: &mut WriteTx, held: &Held, ttl: Ttl) -> Result<(), StoreError> {
    let idle_stop = held.container.lifetime.idle_stop;
    tx.set_lifetime(held.container.id, &Lifetime { ttl, idle_stop }).await
}

/// What people are told, with what they can do.
struct Words<'a> {
    held: &'a Held,
    grace: String,
}

impl Words<'_> {
    async fn note(&self, tx: &mut WriteTx, kind: EventKind, message: String) -> Result<(), StoreError> {
        tx.note(&self.held.container.owner.container_name(), kind, &message).await
    }

    fn fate(&self) -> String {
        match self.held.container.protected {
            true => "kept, being protected".to_owned(),
            false => format!("deleted after {}", self.grace),
        }
    }

    fn extend(&self) -> String {
        format!("'containarium set {} --ttl 8h' extends it", self.held.container.owner)
    }

    fn expiring(&self, expires_at: i64) -> String {
        let at = clock::shown(expires_at);
        format!("its time ends at {at}: it is stopped then, and {}; {}", self.fate(), self.extend())
    }

    fn expired(&self) -> String {
        format!("its time is over: stopped, and {}; {}", self.fate(), self.extend())
    }

    fn kept(&self) -> String {
        let user = &self.held.container.owner;
        format!("it is protected: it stays, stopped; 'containarium unprotect {user}' lets it be deleted")
    }

    fn over(&self, expires_at: i64) -> String {
        format!("its time ended at {}, and the {} after it are over: ", clock::shown(expires_at), self.grace)
    }

    fn idle(&self, limit: Duration) -> String {
        let (limit, user) = (short(limit), &self.held.container.owner);
        format!("no ssh session and no CPU use for {limit}: stopped; 'containarium start {user}' wakes it")
    }
}
