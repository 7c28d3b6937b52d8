//! Moves: one task per container that is on its way between two nodes. Each reads the rows and the nodes' words, does
//! one step, and looks again; everything it must remember is in the rows. It must never copy data itself: the two Incus
//! servers do, and the orders to the nodes go through their drivers.

mod act;
mod drain;
mod plan;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::{ContainerId, Generation},
    names::NodeName,
    node::{CopyKind, CopyPass},
    spec::Observed,
};
use tokio::task::JoinSet;
use tracing::Instrument;

use self::plan::Step;
use crate::{
    availability::Availability,
    node::{Drivers, live},
    reign::Reign,
    store::{Held, MoveRow, StoreError},
};

pub(crate) use plan::Side;

pub(crate) use act::{Begin, begin, cancel, judge, may_cancel, without};

/// Without any change, everything is looked at again after this: a step that was refused is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// From a hand-over to the report that says so: a node reports a change at once.
const TAKEN_UP: Duration = Duration::from_secs(5);

/// Looks after all moves. Never ends; its tasks end with it.
pub(crate) async fn run(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    let mut changes = reign.changes();
    let mut tasks: JoinSet<ContainerId> = JoinSet::new();
    let mut attended = BTreeSet::new();
    let mut drains = drain::Drains::default();
    reign.first_round().await;
    loop {
        changes.mark_unchanged();
        match moves(reign).await {
            Ok(moves) => {
                for row in moves {
                    if !attended.insert(row.container) {
                        continue;
                    }
                    let span = tracing::info_span!("move", container = %row.container, target = %row.target);
                    tasks.spawn(follow(reign.clone(), drivers.clone(), row.container).instrument(span));
                }
            }
            Err(error) => tracing::error!(error = &error as &dyn Error, "moves could not be listed"),
        }
        drain::pass(reign, &mut drains).await;
        tokio::select! {
            // A dropped sender ends the reign, and us with it.
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok(container) => { attended.remove(&container); }
                Err(error) => tracing::error!(%error, "a move's task died; it is taken up again"),
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        // One that died took its id along.
        if tasks.is_empty() {
            attended.clear();
        }
    }
}

async fn moves(reign: &Reign) -> Result<Vec<MoveRow>, StoreError> {
    reign.store.reader().await?.moves().await
}

/// Offers made for the pass that a node awaits now.
#[derive(Debug, Default)]
struct Offers {
    generation: Generation,
    made: u32,
    /// The last one was taken; the node has not said so yet.
    taken_at: Option<Instant>,
}

/// Brings one move to its end.
async fn follow(reign: Arc<Reign>, drivers: Arc<Drivers>, container: ContainerId) -> ContainerId {
    let mut changes = reign.changes();
    let mut offers = Offers::default();
    loop {
        changes.mark_unchanged();
        match step(&reign, &drivers, container, &mut offers).await {
            Ok(Progress::Ended) => return container,
            Ok(Progress::Did) => continue,
            Ok(Progress::Waits) => {}
            Err(error) => {
                tracing::warn!(error = &*error as &dyn Error, "a step of a move failed, will be repeated");
                tokio::time::sleep(reign.config.timings.retry_min).await;
                continue;
            }
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

enum Progress {
    Ended,
    Did,
    Waits,
}

type Failure = Box<dyn Error + Send + Sync>;

async fn step(
    reign: &Reign,
    drivers: &Drivers,
    container: ContainerId,
    offers: &mut Offers,
) -> Result<Progress, Failure> {
    let mut reader = reign.store.reader().await?;
    let Some(row) = reader.move_of(container).await? else { return Ok(Progress::Ended) };
    let rows = reader.of_container(container).await?;
    drop(reader);
    let sights = reign.sights();
    let seen: Vec<(Observed, Availability)> = rows
        .iter()
        .map(|held| (live::observed(held, &sights), live::availability(&held.placement.node, &sights)))
        .collect();
    let side = |node: &NodeName| {
        let at = rows.iter().position(|held| held.placement.node == *node)?;
        Some(Side { held: &rows[at], observed: &seen[at].0, availability: seen[at].1 })
    };
    let (source, target) = (side(&row.source), side(&row.target));
    offers.renew(target);
    match plan::next(&row, source, target, offers.made) {
        Step::Wait => Ok(Progress::Waits),
        Step::Offer { pass, last } => {
            let (Some(source), Some(target)) = (source, target) else { return Ok(Progress::Waits) };
            if offers.taken_at.is_some_and(|at| at.elapsed() < TAKEN_UP) {
                return Ok(Progress::Waits);
            }
            offer(reign, drivers, (source.held, target.held), (pass, last)).await?;
            offers.made += 1;
            offers.taken_at = Some(Instant::now());
            Ok(Progress::Waits)
        }
        Step::Withdraw => {
            // One that is lost has nothing left on it.
            if let Some(source) = source.filter(|source| *source.observed != Observed::Absent) {
                if source.availability != Availability::Online {
                    return Ok(Progress::Waits);
                }
                let client = drivers.client(&row.source).ok_or("the source has no driver")?;
                client.withdraw_copy(container, CopyKind::Move).await?;
            }
            act::end(reign, &row).await?;
            Ok(Progress::Did)
        }
        step => {
            act::change(reign, &row, step).await?;
            Ok(Progress::Did)
        }
    }
}

impl Offers {
    /// Counts anew for each pass, and notices that the last offer was taken up.
    fn renew(&mut self, target: Option<Side<'_>>) {
        let Some(target) = target else { return };
        if self.generation != target.held.placement.generation {
            *self = Self { generation: target.held.placement.generation, ..Self::default() };
        }
        if *target.observed != Observed::AwaitingCopy {
            self.taken_at = None;
        }
    }
}

async fn offer(
    reign: &Reign,
    drivers: &Drivers,
    (source, target): (&Held, &Held),
    (pass, last): (CopyPass, bool),
) -> Result<(), Failure> {
    let (from, to) = (&source.placement, &target.placement);
    let node = reign.store.reader().await?.node(&from.node).await?.ok_or("the source is not known any more")?;
    let giving = drivers.client(&from.node).ok_or("the source has no driver")?;
    let taking = drivers.client(&to.node).ok_or("the target has no driver")?;
    let offer = giving.offer_copy((from.container, from.generation), (CopyKind::Move, pass, last), node.host()).await?;
    taking.receive_copy((to.container, to.generation), offer).await?;
    tracing::info!(%pass, last, source = %from.node, "a pass of the copy was handed over");
    Ok(())
}
