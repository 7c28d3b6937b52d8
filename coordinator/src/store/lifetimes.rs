//! How long a container may live and idle, as columns and as values. What follows from them is `lifetime`'s to decide.

use std::time::Duration;

use containarium_proto::ids::ContainerId;
use sqlx::any::AnyRow;

use super::{
    StoreError, WriteTx, failed,
    rows::{number, signed},
};

/// A container's time to live: where in it it is. Times are unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ttl {
    /// Lives until it is deleted.
    #[default]
    Off,
    /// Ends at a time.
    Runs {
        expires_at: i64,
        /// None: the warning was given.
        warn_at: Option<i64>,
    },
    /// Has ended, and was stopped for it.
    Expired {
        expires_at: i64,
        /// When that was recorded.
        expired_at: i64,
        /// Of the time since, what a coordinator lived through while nothing protected it.
        graced: Duration,
        /// Whether it was said that it is kept, being protected.
        kept_noted: bool,
    },
}

/// When a container ends or stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lifetime {
    pub(crate) ttl: Ttl,
    /// Stopped after this long without use.
    pub(crate) idle_stop: Option<Duration>,
}

pub(super) fn lifetime(row: &AnyRow) -> Result<Lifetime, StoreError> {
    let expires_at = signed(row, "expires_at")?;
    let ttl = match (expires_at, signed(row, "expired_at")?) {
        (0, _) => Ttl::Off,
        (expires_at, 0) => Ttl::Runs { expires_at, warn_at: Some(signed(row, "warn_at")?).filter(|at| *at != 0) },
        (expires_at, expired_at) => Ttl::Expired {
            expires_at,
            expired_at,
            graced: Duration::from_millis(number(row, "graced")?),
            kept_noted: signed(row, "kept_noted")? != 0,
        },
    };
    let idle_stop = Some(number(row, "idle_stop_seconds")?).filter(|seconds| *seconds > 0);
    Ok(Lifetime { ttl, idle_stop: idle_stop.map(Duration::from_secs) })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl WriteTx {
    pub(crate) async fn set_lifetime(&mut self, container: ContainerId, to: &Lifetime) -> Result<(), StoreError> {
        let (expires_at, warn_at, expired_at, graced, kept_noted) = match to.ttl {
            Ttl::Off => (0, 0, 0, 0, false),
            Ttl::Runs { expires_at, warn_at } => (expires_at, warn_at.unwrap_or_default(), 0, 0, false),
            Ttl::Expired { expires_at, expired_at, graced, kept_noted } => {
                (expires_at, 0, expired_at, millis(graced), kept_noted)
            }
        };
        let sql = "UPDATE container SET expires_at = $2, warn_at = $3, expired_at = $4, graced = $5, kept_noted = $6, \
                   idle_stop_seconds = $7 WHERE id = $1";
        sqlx::query(sql)
            .bind(container.to_string())
            .bind(expires_at)
            .bind(warn_at)
            .bind(expired_at)
            .bind(graced)
            .bind(i64::from(kept_noted))
            .bind(to.idle_stop.map_or(0, |limit| limit.as_secs().cast_signed()))
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("setting a lifetime"))
    }

    /// Counts time that we lived through for every container that has expired and that nothing protects.
    pub(crate) async fn count_grace(&mut self, lived: Duration) -> Result<(), StoreError> {
        let sql = "UPDATE container SET graced = graced + $1 WHERE expired_at > 0 AND protected = 0";
        let done = sqlx::query(sql).bind(millis(lived)).execute(self.connection()).await;
        done.map(drop).map_err(failed("counting the time after an end"))
    }
}
