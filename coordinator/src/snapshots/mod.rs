//! Snapshots: one task per container of which one is being made or removed, and one look now and then at the schedules.
//! What is to be done is a row, written before any node is told; a task tells the node again and again until it has
//! answered. It must never touch what moves or is not at rest: that waits.
//!
//! The schedules are here and not with the nodes, since a container may change its node, and since what is kept is
//! counted by rows and never by a clock. A restore is an ordinary order with a licence: see the API.

mod due;
mod schedule;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::ContainerId,
    spec::{Desired, Observed},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    availability::Availability,
    clock,
    node::{
        CallError, Drivers,
        live::{self, Sights},
    },
    reign::Reign,
    store::{EventKind, Held, SnapshotRow, SnapshotState, StoreError, WriteTx, under_way},
};

pub(crate) use schedule::{applied, prune};

/// Without any change, everything is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks after all of it. Never ends; its tasks end with it.
pub(crate) async fn run(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    tokio::select! {
        never = work(reign, drivers) => never,
        never = schedule::keep(reign, drivers) => never,
    }
}

async fn work(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    let mut changes = reign.changes();
    let mut tasks: JoinSet<ContainerId> = JoinSet::new();
    let mut attended = BTreeSet::new();
    reign.first_round().await;
    loop {
        changes.mark_unchanged();
        match rows(reign).await {
            Ok(rows) => {
                for row in rows.into_iter().filter(|row| attended.insert(row.container)) {
                    tasks.spawn(follow(reign.clone(), drivers.clone(), row.container));
                }
            }
            Err(error) => tracing::error!(error = &error as &dyn Error, "snapshots could not be listed"),
        }
        tokio::select! {
            // A dropped sender ends the reign, and us with it.
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok(container) => { attended.remove(&container); }
                Err(error) => tracing::error!(%error, "a snapshot's task died; it is taken up again"),
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        // One that died took its id along.
        if tasks.is_empty() {
            attended.clear();
        }
    }
}

async fn rows(reign: &Reign) -> Result<Vec<SnapshotRow>, StoreError> {
    reign.store.reader().await?.snapshots_under_way().await
}

enum Progress {
    Ended,
    Waits,
    /// The node did not do it, or did not say so.
    Failed(String),
}

/// Brings what is under way of one container to its end.
async fn follow(reign: Arc<Reign>, drivers: Arc<Drivers>, container: ContainerId) -> ContainerId {
    let timings = &reign.config.timings;
    let mut changes = reign.changes();
    let (mut failing_since, mut wait) = (None, timings.retry_min);
    loop {
        changes.mark_unchanged();
        match step(&reign, &drivers, container, failing_since).await {
            Ok(Progress::Ended) => return container,
            Ok(Progress::Waits) => {}
            Ok(Progress::Failed(why)) => {
                tracing::warn!(%container, why, "a snapshot failed, will be tried again");
                failing_since.get_or_insert_with(Instant::now);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(timings.retry_max);
                continue;
            }
            Err(error) => {
                tracing::error!(%container, error = &error as &dyn Error, "a snapshot's row could not be used");
                tokio::time::sleep(timings.retry_max).await;
                continue;
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn step(
    reign: &Reign,
    drivers: &Drivers,
    container: ContainerId,
    failing_since: Option<Instant>,
) -> Result<Progress, StoreError> {
    let mut reader = reign.store.reader().await?;
    let rows = reader.snapshots_of(container).await?;
    let Some(row) = under_way(&rows).cloned() else { return Ok(Progress::Ended) };
    let held = reader.of_container(container).await?;
    drop(reader);
    let Some(home) = held.into_iter().find(|held| held.placement.is_home()) else {
        return end(reign, &row, Outcome::Moot).await;
    };
    match readiness(&home, &reign.sights()) {
        Readiness::Ready => {}
        Readiness::Later => return Ok(Progress::Waits),
        Readiness::Never(why) => return end(reign, &row, Outcome::GivenUp(why)).await,
    }
    let node = &home.placement.node;
    let Some(client) = drivers.client(node) else { return Ok(Progress::Failed(format!("{node} has no driver"))) };
    let at = (container, home.placement.generation);
    let done = match row.state {
        SnapshotState::Deleting => client.remove_snapshot(at, &row.name).await,
        SnapshotState::Creating | SnapshotState::Ready => client.make_snapshot(at, &row.name).await,
    };
    match done {
        Ok(()) => end(reign, &row, Outcome::Done(Box::new(home))).await,
        Err(error) if is_final(&error) => end(reign, &row, Outcome::GivenUp(error.to_string())).await,
        // As long as a caller would wait twice.
        Err(error) if failing_since.is_some_and(|at| at.elapsed() > reign.config.timings.pending_after * 2) => {
            end(reign, &row, Outcome::GivenUp(error.to_string())).await
        }
        Err(error) => Ok(Progress::Failed(error.to_string())),
    }
}

enum Readiness {
    Ready,
    Later,
    Never(String),
}

fn readiness(home: &Held, sights: &Sights) -> Readiness {
    let row = &home.placement;
    if home.moving.is_some() || live::availability(&row.node, sights) != Availability::Online {
        return Readiness::Later;
    }
    match (live::observed(home, sights), row.desired) {
        (Observed::Running, Desired::Running) | (Observed::Stopped, Desired::Stopped) => Readiness::Ready,
        (Observed::Absent, _) => Readiness::Never(format!("{} holds nothing of it any more", row.node)),
        (Observed::Failed { error, permanent: true }, _) => Readiness::Never(error),
        _ => Readiness::Later,
    }
}

fn is_final(error: &CallError) -> bool {
    match error {
        CallError::Refused(status) => {
            matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented)
        }
        CallError::Certificates(_) | CallError::Address(_) | CallError::Deadline(_) | CallError::Contract(_) => false,
    }
}

enum Outcome {
    Done(Box<Held>),
    GivenUp(String),
    /// The container is going.
    Moot,
}

/// One transaction, in which the row is read again.
async fn end(reign: &Reign, planned_on: &SnapshotRow, outcome: Outcome) -> Result<Progress, StoreError> {
    let mut tx = reign.write().await?;
    let rows = tx.reader().snapshots_of(planned_on.container).await?;
    let held = tx.reader().of_container(planned_on.container).await?;
    let (true, Some(name)) =
        (rows.contains(planned_on), held.first().map(|held| held.container.owner.container_name()))
    else {
        return Ok(Progress::Ended);
    };
    let row = planned_on;
    match (outcome, row.state) {
        (Outcome::Done(home), state) => done(&mut tx, row, (&name, &home), state).await?,
        (Outcome::GivenUp(why), state) => give_up(&mut tx, row, (&name, &why), state).await?,
        (Outcome::Moot, _) => tx.forget_snapshot(row).await?,
    }
    tx.commit().await?;
    reign.wake_streams();
    Ok(Progress::Ended)
}

/// Those of a schedule come and go without a word: a fleet that makes them every hour would fill the log with them.
async fn done(
    tx: &mut WriteTx,
    row: &SnapshotRow,
    (name, home): (&str, &Held),
    state: SnapshotState,
) -> Result<(), StoreError> {
    let kind = match state {
        SnapshotState::Deleting => {
            tx.forget_snapshot(row).await?;
            EventKind::ContainerSnapshotRemoved
        }
        SnapshotState::Creating | SnapshotState::Ready => {
            let ready = SnapshotRow { state: SnapshotState::Ready, since: clock::now(), ..row.clone() };
            tx.update_snapshot(&ready).await?;
            EventKind::ContainerSnapshot
        }
    };
    if !row.scheduled {
        tx.note(name, kind, &format!("{} on {}", row.name, home.placement.node)).await?;
    }
    prune(tx, home).await
}

/// A node that could not make it has nothing, or what a list shows; one that could not remove it still has it.
async fn give_up(
    tx: &mut WriteTx,
    row: &SnapshotRow,
    (name, why): (&str, &str),
    state: SnapshotState,
) -> Result<(), StoreError> {
    let what = match state {
        SnapshotState::Deleting => {
            tx.update_snapshot(&SnapshotRow { state: SnapshotState::Ready, since: clock::now(), ..row.clone() })
                .await?;
            "removed"
        }
        SnapshotState::Creating | SnapshotState::Ready => {
            tx.forget_snapshot(row).await?;
            "made"
        }
    };
    let message = format!("{} was not {what}: {why}", row.name);
    tx.note(name, EventKind::ContainerSnapshotFailed, &message).await
}
