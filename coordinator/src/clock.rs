//! The time of day: for what must be remembered across starts, and for people. Waits and deadlines never use it.

use chrono::{DateTime, Utc};

/// Unix milliseconds.
pub(crate) fn now() -> i64 {
    Utc::now().timestamp_millis()
}

/// "2026-11-23 10:00:00 UTC"
pub(crate) fn shown(unix_millis: i64) -> String {
    let at = DateTime::<Utc>::from_timestamp_millis(unix_millis);
    at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}
