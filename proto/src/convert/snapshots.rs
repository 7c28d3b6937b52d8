//! The edge, for snapshots: one function each way.

use super::{ConvertError, bad, parse};
use crate::{
    snapshots::{Every, Keep, Schedule, ScheduleChange, Snapshot, SnapshotName, Snapshots},
    v1,
};

/// Reads the name of a snapshot that an order is about.
///
/// # Errors
/// No name.
pub fn snapshot_name_from_wire(name: &str) -> Result<SnapshotName, ConvertError> {
    parse("snapshot", name)
}

/// Reads what a node has.
#[must_use]
pub fn snapshots_from_wire(wire: v1::SnapshotsOf) -> Snapshots {
    let one = |snapshot: v1::Snapshot| Snapshot { name: snapshot.name, created_at: snapshot.created_at_unix_millis };
    Snapshots { all: wire.snapshots.into_iter().map(one).collect(), newest_only: wire.newest_only }
}

/// Writes what a node has.
#[must_use]
pub fn snapshots_to_wire(snapshots: Snapshots) -> v1::SnapshotsOf {
    let one = |Snapshot { name, created_at }| v1::Snapshot { name, created_at_unix_millis: created_at };
    v1::SnapshotsOf { snapshots: snapshots.all.into_iter().map(one).collect(), newest_only: snapshots.newest_only }
}

/// Reads a change of a schedule; none: nothing is asked.
///
/// # Errors
/// Keeping what cannot be kept.
pub fn schedule_change_from_wire(wire: Option<&v1::SnapshotSchedule>) -> Result<ScheduleChange, ConvertError> {
    let Some(wire) = wire else { return Ok(ScheduleChange::default()) };
    let every = match wire.every() {
        v1::Every::Unspecified => None,
        v1::Every::Off => Some(None),
        v1::Every::Hour => Some(Some(Every::Hour)),
        v1::Every::Day => Some(Some(Every::Day)),
        v1::Every::Week => Some(Some(Every::Week)),
    };
    let keep = Some(wire.keep).filter(|keep| *keep > 0).map(Keep::try_from).transpose();
    Ok(ScheduleChange { every, keep: keep.map_err(|error| bad("snapshots.keep", error))? })
}

/// Writes a change of a schedule; none: nothing is asked.
#[must_use]
pub fn schedule_change_to_wire(change: &ScheduleChange) -> Option<v1::SnapshotSchedule> {
    if *change == ScheduleChange::default() {
        return None;
    }
    let every = match change.every {
        None => v1::Every::Unspecified,
        Some(every) => every_to_wire(every),
    };
    Some(v1::SnapshotSchedule { every: every.into(), keep: change.keep.map_or(0, Keep::get) })
}

fn every_to_wire(every: Option<Every>) -> v1::Every {
    match every {
        None => v1::Every::Off,
        Some(Every::Hour) => v1::Every::Hour,
        Some(Every::Day) => v1::Every::Day,
        Some(Every::Week) => v1::Every::Week,
    }
}

/// Writes a schedule.
#[must_use]
pub fn schedule_to_wire(schedule: &Schedule) -> v1::SnapshotSchedule {
    v1::SnapshotSchedule { every: every_to_wire(Some(schedule.every)).into(), keep: schedule.keep.get() }
}
