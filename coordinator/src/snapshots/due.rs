//! Whether a schedule asks for a snapshot, and which of those it made are one too many. Pure: it is told the time. A clock
//! that is wrong may make one too early or once more; it must never decide what is removed.

use std::time::Duration;

use containarium_proto::snapshots::{Keep, Schedule};

use crate::store::{SnapshotRow, SnapshotState};

/// However many times were missed, one is due. A last one in the future was made by a clock that has been set back.
pub(super) fn is_due(now: i64, schedule: Schedule, last_at: Option<i64>, hour: Duration) -> bool {
    let period = i64::try_from(schedule.every.period(hour).as_millis()).unwrap_or(i64::MAX);
    last_at.is_none_or(|last| last > now || now - last >= period)
}

/// The oldest that a schedule made, if it made more than are kept. Those that somebody asked for do not count, and are
/// never given.
pub(super) fn surplus(rows: &[SnapshotRow], keep: Keep) -> Option<&SnapshotRow> {
    let made = || rows.iter().filter(|row| row.scheduled && row.state == SnapshotState::Ready);
    let kept = usize::try_from(keep.get()).unwrap_or(usize::MAX);
    (made().count() > kept).then(|| made().min_by_key(|row| row.seq)).flatten()
}

#[cfg(test)]
mod tests {
    use containarium_proto::{
        ids::{ContainerId, RequestId},
        snapshots::Every,
    };

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn one_is_due_however_many_were_missed_and_whatever_the_clock_did() {
        let schedule = Schedule { every: Every::Hour, keep: Keep::USUAL };
        let hours = |hours: i64| hours * 3_600_000;
        for (now, last, expected) in [
            (hours(10), None, true),
            (hours(10), Some(hours(9)), true),
            (hours(10), Some(hours(9) + 1), false),
            (hours(10), Some(hours(10)), false),
            // Away for a day; after it was made, the next is an hour away.
            (hours(34), Some(hours(10)), true),
            // Set back: at once, and from then on as ever.
            (hours(1), Some(hours(10)), true),
        ] {
            assert_eq!(is_due(now, schedule, last, HOUR), expected, "{now} {last:?}");
        }
        let weekly = Schedule { every: Every::Week, ..schedule };
        assert!(!is_due(hours(167), weekly, Some(0), HOUR) && is_due(hours(168), weekly, Some(0), HOUR));
    }

    #[test]
    fn the_oldest_of_a_schedule_goes_and_never_one_that_was_asked_for() {
        let container = ContainerId::generate();
        let row = |seq, scheduled, state| SnapshotRow {
            container,
            name: format!("s{seq}").parse().unwrap(),
            state,
            scheduled,
            seq,
            request: RequestId::generate(),
            // Their times say the opposite of their order.
            since: -seq,
        };
        let keep = |keep: u32| Keep::try_from(keep).unwrap();
        let rows = [
            row(1, false, SnapshotState::Ready),
            row(2, true, SnapshotState::Ready),
            row(3, true, SnapshotState::Ready),
            row(4, true, SnapshotState::Creating),
        ];
        assert_eq!(surplus(&rows, keep(2)), None);
        assert_eq!(surplus(&rows, keep(1)).map(|row| row.seq), Some(2));
        assert_eq!(surplus(&rows[..1], keep(1)), None);
    }
}
