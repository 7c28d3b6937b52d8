//! Schedules: what is due is written as a row, and the row does the rest. One that is missed (its node is away, it moves, it
//! does not run) is made once, later. None is made of what is stopped: nothing changes in it, and its last ones must stay.

use std::{convert::Infallible, error::Error};

use chrono::Utc;
use containarium_proto::{
    error::Refusal,
    ids::RequestId,
    snapshots::{Keep, Schedule, ScheduleChange, SnapshotName},
    spec::{Desired, Observed},
};

use super::due;
use crate::{
    availability::Availability,
    clock,
    node::{Drivers, live},
    reign::Reign,
    store::{Held, SnapshotRow, SnapshotState, Snapshotting, StoreError, WriteTx, under_way},
};

/// Never ends.
pub(super) async fn keep(reign: &Reign, drivers: &Drivers) -> Infallible {
    loop {
        tokio::time::sleep(reign.config.timings.snapshots_every).await;
        if let Err(error) = look(reign, drivers).await {
            tracing::error!(error = &error as &dyn Error, "schedules could not be looked after, will be repeated");
        }
    }
}

async fn look(reign: &Reign, drivers: &Drivers) -> Result<(), StoreError> {
    let rows = reign.store.reader().await?.with_snapshots().await?;
    for held in rows {
        if asks(reign, &held) {
            make(reign, drivers, &held).await?;
        } else {
            tidy(reign, &held).await?;
        }
    }
    Ok(())
}

/// Due, and its node could make one now.
fn asks(reign: &Reign, held: &Held) -> bool {
    let Snapshotting { schedule, last_at } = held.container.snapshots;
    let row = &held.placement;
    let is_due = |schedule| due::is_due(clock::now(), schedule, last_at, reign.config.snapshot_hour);
    let sights = reign.sights();
    schedule.is_some_and(is_due)
        && row.is_home()
        && held.moving.is_none()
        && row.desired == Desired::Running
        && live::observed(held, &sights) == Observed::Running
        && live::availability(&row.node, &sights) == Availability::Online
}

/// The row, unless something is under way: then at a later look.
async fn make(reign: &Reign, drivers: &Drivers, held: &Held) -> Result<(), StoreError> {
    let (container, node) = (held.container.id, &held.placement.node);
    let before = reign.store.reader().await?.snapshots_of(container).await?;
    // Before the write: no write waits for a node.
    let Some(client) = drivers.client(node).filter(|_| under_way(&before).is_none()) else { return Ok(()) };
    let there = match client.snapshots(container).await {
        Ok(there) => there.all,
        Err(error) => {
            tracing::warn!(%container, error = &error as &dyn Error, "a scheduled snapshot waits");
            return Ok(());
        }
    };
    let mut tx = reign.write().await?;
    let rows = tx.reader().snapshots_of(container).await?;
    let current = tx.reader().of_container(container).await?.into_iter().find(|held| asks(reign, held));
    let Some(current) = current.filter(|_| under_way(&rows).is_none()) else { return Ok(()) };
    // Removed by hand: what is gone is not kept.
    for gone in rows.iter().filter(|row| before.contains(row) && !there.iter().any(|s| s.name == row.name.as_str())) {
        tx.forget_snapshot(gone).await?;
    }
    let Some(schedule) = current.container.snapshots.schedule else { return Ok(()) };
    let seq = rows.last().map_or(1, |row| row.seq + 1);
    let at = Utc::now().format("%Y%m%d-%H%M%S").to_string();
    let mut name = SnapshotName::scheduled(schedule.every, &at);
    // A clock that was set back.
    if there.iter().any(|s| s.name == name.as_str()) || rows.iter().any(|row| row.name == name) {
        name = SnapshotName::scheduled(schedule.every, &format!("{at}-{seq}"));
    }
    let now = clock::now();
    let (state, request) = (SnapshotState::Creating, RequestId::generate());
    tx.insert_snapshot(&SnapshotRow { container, name, state, scheduled: true, seq, request, since: now }).await?;
    tx.set_snapshotting(container, &Snapshotting { last_at: Some(now), ..current.container.snapshots }).await?;
    tx.commit().await?;
    reign.wake_streams();
    Ok(())
}

/// What an earlier look left: fewer are to be kept now, or a removal failed.
async fn tidy(reign: &Reign, held: &Held) -> Result<(), StoreError> {
    let Some(schedule) = held.container.snapshots.schedule else { return Ok(()) };
    let rows = reign.store.reader().await?.snapshots_of(held.container.id).await?;
    if under_way(&rows).is_some() || due::surplus(&rows, schedule.keep).is_none() {
        return Ok(());
    }
    let mut tx = reign.write().await?;
    let current = tx.reader().of_container(held.container.id).await?.into_iter().find(|held| held.placement.is_home());
    if let Some(current) = current {
        prune(&mut tx, &current).await?;
        tx.commit().await?;
        reign.wake_streams();
    }
    Ok(())
}

/// Has the oldest removed that is one too many, if nothing else is under way; the end of that asks again.
pub(crate) async fn prune(tx: &mut WriteTx, held: &Held) -> Result<(), StoreError> {
    let Some(Schedule { keep, .. }) = held.container.snapshots.schedule else { return Ok(()) };
    let rows = tx.reader().snapshots_of(held.container.id).await?;
    match due::surplus(&rows, keep).filter(|_| under_way(&rows).is_none()) {
        Some(row) => {
            let next = SnapshotRow { state: SnapshotState::Deleting, since: clock::now(), ..row.clone() };
            tx.update_snapshot(&next).await
        }
        None => Ok(()),
    }
}

/// The schedule after a change; or why it contradicts itself.
pub(crate) fn applied(before: Option<Schedule>, change: &ScheduleChange) -> Result<Option<Schedule>, Refusal> {
    let refuse = |message: &str, hint: &str| {
        Refusal::new(containarium_proto::error::Reason::InvalidArgument, message).hint(hint)
    };
    match (change.every, change.keep) {
        (None, None) => Ok(before),
        (Some(None), None) => Ok(None),
        (Some(None), Some(_)) => Err(refuse("no schedule keeps nothing", "give --snapshots off alone")),
        (Some(Some(every)), keep) => {
            let keep = keep.or(before.map(|before| before.keep)).unwrap_or(Keep::USUAL);
            Ok(Some(Schedule { every, keep }))
        }
        (None, Some(keep)) => match before {
            Some(before) => Ok(Some(Schedule { keep, ..before })),
            None => Err(refuse("there is no schedule that keeps snapshots", "give --snapshots daily with --keep")),
        },
    }
}

#[cfg(test)]
mod tests {
    use containarium_proto::snapshots::Every;

    use super::*;

    #[test]
    fn what_is_not_given_stays_and_what_contradicts_itself_is_refused() {
        let keep = |keep: u32| Keep::try_from(keep).unwrap();
        let daily = Schedule { every: Every::Day, keep: keep(3) };
        let change = |every, keep| ScheduleChange { every, keep };
        assert_eq!(applied(None, &change(Some(Some(Every::Day)), Some(keep(3)))), Ok(Some(daily)));
        assert_eq!(applied(Some(daily), &change(None, None)), Ok(Some(daily)));
        assert_eq!(
            applied(Some(daily), &change(Some(Some(Every::Hour)), None)),
            Ok(Some(Schedule { every: Every::Hour, ..daily }))
        );
        assert_eq!(applied(Some(daily), &change(None, Some(keep(9)))), Ok(Some(Schedule { keep: keep(9), ..daily })));
        assert_eq!(applied(Some(daily), &change(Some(None), None)), Ok(None));
        assert_eq!(applied(None, &change(Some(Some(Every::Day)), None)).unwrap().unwrap().keep, Keep::USUAL);
        assert!(applied(Some(daily), &change(Some(None), Some(keep(1)))).is_err());
        assert!(applied(None, &change(None, Some(keep(1)))).is_err());
    }
}
