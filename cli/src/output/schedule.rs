//! How a schedule of snapshots looks.

use containarium_proto::{convert, snapshots::Schedule, v1};

/// "daily, keep 7"; empty: none.
pub(super) fn schedule(wire: Option<&v1::SnapshotSchedule>) -> String {
    let change = convert::schedule_change_from_wire(wire).unwrap_or_default();
    match (change.every, change.keep) {
        (Some(Some(every)), Some(keep)) => Schedule { every, keep }.to_string(),
        _ => String::new(),
    }
}
