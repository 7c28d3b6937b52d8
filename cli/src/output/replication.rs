//! The second copy of a machine, in one cell, in one line, and as programs see it.

use std::time::Duration;

use chrono::Utc;
use containarium_proto::{lifetime, v1};
use serde::Serialize;

use super::{seconds_short, time};

/// A second copy of a machine, as programs see it.
#[derive(Debug, Serialize)]
pub(crate) struct Replication {
    /// 0: it is to go.
    pub(crate) every_seconds: u64,
    pub(crate) node: String,
    /// A failover brings back what there was at this moment; none: nothing yet.
    pub(crate) as_of: Option<String>,
    pub(crate) lag_seconds: Option<i64>,
    pub(crate) problem: String,
    pub(crate) old_copies: Vec<String>,
}

impl From<&v1::Replication> for Replication {
    fn from(wire: &v1::Replication) -> Self {
        let at = Some(wire.as_of_unix_millis).filter(|at| *at > 0);
        Self {
            every_seconds: wire.every_seconds,
            node: wire.node.clone(),
            as_of: at.map(time),
            lag_seconds: at.map(|at| (Utc::now().timestamp_millis() - at).max(0) / 1000),
            problem: wire.problem.clone(),
            old_copies: wire.old_copies.clone(),
        }
    }
}

impl Replication {
    /// "jump-2, 5m old", in one cell.
    pub(super) fn short(&self) -> String {
        let lag = self.lag_seconds.map(|seconds| format!(", {} old", seconds_short(seconds)));
        match (self.node.as_str(), &lag) {
            ("", _) if self.every_seconds > 0 => "none yet".to_owned(),
            ("", _) => String::new(),
            (node, Some(lag)) => format!("{node}{lag}"),
            (node, None) => format!("{node}, not whole yet"),
        }
    }

    /// The same with how often, and what is wrong.
    pub(crate) fn long(&self) -> String {
        let every = match self.every_seconds {
            0 => "off".to_owned(),
            seconds => format!("every {}", lifetime::short(Duration::from_secs(seconds))),
        };
        let as_of = self.as_of.as_ref().map(|at| format!("as it was at {at}")).unwrap_or_default();
        let parts = [every, self.short(), as_of, self.problem.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}
